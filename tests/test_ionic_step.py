"""Generalised Rush-Larsen: its order, what it solves exactly, and the choice of it everywhere."""

import re
from functools import partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tissues import NEVER, uniform_tissue
from verification import slope

from cardiotwin._types import param
from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import (
    AbstractIonicModel,
    BuenoOrovio,
    MitchellSchaeffer,
    TenTusscherPanfilov2006,
    action_potential_duration,
    generalised_rush_larsen,
    pace,
    single_cell,
)
from cardiotwin.ionic.stepping import stepper
from cardiotwin.numerics.target import written_for
from cardiotwin.propagation import windows
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion, Strang
from cardiotwin.propagation.solve import solve

MODELS = {
    "MS": MitchellSchaeffer(smoothing=0.05),
    "BO": BuenoOrovio.epi(smoothing=0.05),
    "TTP06": TenTusscherPanfilov2006.epi(),
}
ORDERS = {"grl1": 1, "grl2": 2}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
each_kind = pytest.mark.parametrize("kind", ORDERS)

CELLS = 64  # everywhere, so that one program of a model and step serves


def advanced(kind, model, v, state, dt, steps, stimulus=0.0):
    """Several steps; compiled once for a kind, a model and the float types."""
    return _advanced(kind, model, v, state, dt, int(steps), stimulus)


@partial(jax.jit, static_argnames="kind")
def _advanced(kind, model, v, state, dt, steps, stimulus):
    step = stepper(kind)
    return jax.lax.fori_loop(0, steps, lambda _, c: step(model, *c, dt, stimulus), (v, state))


def above_threshold(model):
    """Cells that depolarise by themselves, one after the other."""
    v, state = model.initial_arrays(CELLS)
    return v + jnp.linspace(20.0, 60.0, CELLS), state


# --- the step ---------------------------------------------------------------------------------


@each_model
@each_kind
def test_order_in_time(model, kind):
    counts = np.array([400, 800, 1600])
    v, state = above_threshold(model)

    def after(kind, count):
        end, state_end = advanced(kind, model, v, state, 4.0 / count, count)
        return np.stack([end, *state_end])

    exact = after("grl2", 12800)
    assert exact[0].max() > 15.0  # an upstroke is in it
    size = np.abs(exact - np.stack([v, *state])).max(axis=1, keepdims=True)
    errors = [np.abs((after(kind, n) - exact) / size).max() for n in counts]
    assert slope(1.0 / counts, errors) == pytest.approx(ORDERS[kind], abs=0.1)


rates_at = jax.jit(lambda model, y: model(y[0], model.State(*y[1:])))


def linearised(model, y, stimulus):
    """Rates, and their slopes by central differences, one variable after the other."""

    def rates_of(y):
        i_ion, rates = rates_at(model, jnp.asarray(y))
        return np.stack([stimulus - i_ion, *rates])

    slopes = np.zeros_like(y)
    for k, values in enumerate(y):
        h = 1e-5 * (np.abs(values) + 1e-3 * np.abs(y[k]).max() + 1e-6)
        ahead, back = y.copy(), y.copy()
        ahead[k] += h
        back[k] -= h
        slopes[k] = (rates_of(ahead) - rates_of(back))[k] / (ahead[k] - back[k])
    return rates_of(y), slopes


def by_definition(model, y, dt, stimulus, order):
    """The formulas of both orders in NumPy."""

    def advance(rates, slopes, dt):
        slopes = np.where(slopes == 0.0, 1e-300, slopes)
        return y + rates * np.expm1(slopes * dt) / slopes

    rates, slopes = linearised(model, y, stimulus)
    if order == 1:
        return advance(rates, slopes, dt)
    middle = advance(rates, slopes, dt / 2)
    rates, slopes = linearised(model, middle, stimulus)
    return advance(rates + slopes * (y - middle), slopes, dt)


@each_model
@each_kind
def test_step_is_the_formula_of_its_order(model, kind):
    # at points of a whole beat, in the same program as above
    for before in (0, 10, 50, 500, 12000):
        v, state = advanced("grl2", model, *above_threshold(model), 0.02, before)
        y = np.stack([v, *state])
        v_new, new = advanced(kind, model, v, state, 0.05, 1, 3.0)
        expected = by_definition(model, y, 0.05, 3.0, ORDERS[kind])
        change = np.abs(expected - y).max(axis=1, keepdims=True)
        error = np.abs(np.stack([v_new, *new]) - expected)
        assert np.all(error <= 1e-6 * change + 1e-13 * np.abs(y)), before


@each_model
def test_gates_are_those_of_rush_larsen(model):
    # which are exact at the old potential, as those of the first order
    v, state = advanced("grl2", model, *above_threshold(model), 0.02, 50)
    _, exact = advanced("rush_larsen", model, v, state, 0.05, 1, 3.0)
    _, found = advanced("grl1", model, v, state, 0.05, 1, 3.0)
    for name in model.gates:
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-14)


@each_model
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_no_potential_breaks_the_step(model, dtype):
    v, state = model.initial_arrays(CELLS, dtype=dtype, slow_dtype=jnp.float64)
    v = v * 0 + jnp.linspace(-150, 100, CELLS, dtype=dtype)
    for dt in (0.01, 0.2):
        new, state_new = advanced("grl2", model, v, state, dt, 100)
        assert jnp.all((new > -160) & (new < 110))
        for name, x in state_new._asdict().items():
            assert jnp.all(jnp.isfinite(x)), name
            if name in model.gates and (name, type(model)) != ("w", BuenoOrovio):  # w_inf > 1
                assert jnp.all((x >= 0) & (x <= 1)), name
            elif name not in model.gates:  # concentrations, R_prime and Bueno-Orovio's s
                assert jnp.all(x >= 0), name


class RelaxationState(NamedTuple):
    """A variable that is no gate."""

    s: Any


class Relaxation(AbstractIonicModel):
    """v' = -k (v - 20) and s' = -k s: nothing depends on anything else."""

    State: ClassVar[type[Any]] = RelaxationState
    gates: ClassVar[tuple[str, ...]] = ()
    activation_threshold: ClassVar[float] = 0.0
    repolarisation_threshold: ClassVar[float] = 0.0

    k: Any = param(1.0, "1/ms", meaning="rate of decay")

    def initial(self):
        return -80.0, RelaxationState(1.0)

    def __call__(self, v, state):
        return self.k * (v - 20.0), RelaxationState(-self.k * state.s)


@each_kind
def test_what_depends_on_itself_alone_is_solved_exactly(kind):
    # down to no slope at all, and up to one that any other explicit step would blow up at
    k = np.array([0.0, 1e-14, 1e-6, 1.0, 30.0, 1e5])
    v, state = Relaxation().initial_arrays(len(k))

    def after(k):
        return jnp.stack(jax.tree.leaves(advanced(kind, Relaxation(k=k), v, state, 0.1, 7)))

    decay = np.exp(-0.7 * k)
    np.testing.assert_allclose(after(k), [20.0 - 100.0 * decay, decay], rtol=1e-12, atol=1e-15)
    _, slopes = jax.jvp(after, (jnp.asarray(k),), (jnp.ones(len(k)),))
    np.testing.assert_allclose(slopes, [70.0 * decay, -0.7 * decay], rtol=1e-12, atol=1e-14)


def test_float_types_are_kept():
    model = MODELS["TTP06"]
    v, state = model.initial_arrays(5, dtype=jnp.float32)
    program = jax.make_jaxpr(partial(generalised_rush_larsen, model, order=2))(v, state, 0.02)
    assert not re.findall(r":f64\[5\] =", str(program))
    v, state = model.initial_arrays(5, dtype=jnp.float32, slow_dtype=jnp.float64)
    v, state = jax.eval_shape(partial(generalised_rush_larsen, order=2), model, v, state, 0.02)
    wide = {name for name, x in state._asdict().items() if x.dtype == jnp.float64}
    assert wide == set(model.slow)
    assert v.dtype == jnp.float32


def test_slow_concentrations_keep_their_drift():
    # of a few parts in 1e9 a step, which float32 cannot see
    model = MODELS["TTP06"]
    exact = advanced("grl2", model, *model.initial_arrays(CELLS), 0.02, 200)[1]
    mixed = model.initial_arrays(CELLS, dtype=jnp.float32, slow_dtype=jnp.float64)
    found = advanced("grl2", model, *mixed, 0.02, 200)[1]
    for name in model.slow:
        start = getattr(model.initial()[1], name)
        drift = float(getattr(exact, name)[0]) - start
        assert drift != 0.0
        assert float(getattr(found, name)[0]) - start == pytest.approx(drift, rel=0.02)


def test_both_devices_get_the_same_numbers_and_derivatives():
    model = MODELS["MS"]
    v, state = above_threshold(model)

    def value_and_slopes(v, state):
        step = partial(generalised_rush_larsen, model, order=2)
        out, pull = jax.vjp(lambda v: step(v, state, 0.1)[0], v)
        _, pushed = jax.jvp(lambda v: step(v, state, 0.1)[0], (v,), (jnp.ones_like(v),))
        each = jax.vmap(lambda v, h: step(v, state._replace(h=h), 0.1)[0])(v, state.h)
        return out, pull(jnp.ones_like(v))[0], pushed, each

    here = jax.jit(value_and_slopes)(v, state)
    with written_for("gpu"):
        assert "optimization_barrier" in str(
            jax.make_jaxpr(lambda *at: value_and_slopes(*at))(v, state)
        )
        there = jax.jit(lambda *at: value_and_slopes(*at))(v, state)
    np.testing.assert_allclose(there, here, rtol=1e-13)
    np.testing.assert_allclose(here[1], here[2], rtol=1e-13)
    np.testing.assert_allclose(here[0], here[3], rtol=1e-13)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (MODELS["BO"], "tau_fi"),
        pytest.param(MODELS["TTP06"], "g_Na", marks=pytest.mark.slow),  # to compile
    ],
    ids=["BO", "TTP06"],
)
def test_gradients_are_central_differences(model, name):
    v, state = above_threshold(model)

    def after(value):
        changed = eqx.tree_at(lambda m: getattr(m, name), model, value)
        carry = jax.lax.scan(
            lambda c, _: (generalised_rush_larsen(changed, *c, 0.02, order=2), None),
            (v, state), length=60,
        )[0]  # fmt: skip
        return jnp.sum(carry[0]) + sum(jnp.sum(x) for x in carry[1])

    value = jnp.asarray(getattr(model, name))
    h = 1e-5 * value
    backward = jax.jit(jax.grad(after))(value)
    both = jax.jit(lambda x: jax.jvp(after, (x,), (jnp.ones(()),)))
    forward = both(value)[1]
    difference = (both(value + h)[0] - both(value - h)[0]) / (2 * h)
    assert float(backward) == pytest.approx(float(forward), rel=1e-10)
    assert float(backward) == pytest.approx(float(difference), rel=1e-6)


# --- single cells -----------------------------------------------------------------------------


def test_pacing_by_second_order_allows_longer_steps():
    model = MODELS["MS"]
    options = {"cycle_length": 400.0, "every": 0.5, "conserve_charge": False}
    t, exact = single_cell(model, dt=0.01, ionic_step="grl2", **options)
    errors = {
        kind: np.abs(single_cell(model, dt=0.1, ionic_step=kind, **options)[1] - exact).max()
        for kind in ("rush_larsen", "grl1", "grl2")
    }
    assert errors["grl1"] < 0.1 * errors["rush_larsen"]
    assert errors["grl2"] < 0.2 * errors["grl1"]
    assert 250 < action_potential_duration(t, exact) < 310
    end, _ = pace(model, cycle_length=400.0, dt=0.01, ionic_step="grl2", conserve_charge=False)
    assert float(end) == pytest.approx(exact[-1], rel=1e-12)


# --- tissue -----------------------------------------------------------------------------------

MESH = slab((3.0, 0.5, 0.5), 0.5)


class Started(MitchellSchaeffer):
    """Mitchell-Schaeffer from any potential."""

    v0: Any = param(-85.0, "mV", meaning="potential at the start")

    def initial(self):
        return self.v0, self.State(h=1.0)


def wave(t1, dt, scheme, *, mesh=MESH, precision="float64", **options):
    """A wave that starts smoothly at one end."""
    v0 = -85.0 + 80.0 * np.exp(-(mesh.points[:, 0] ** 2))
    cell = Started(v0=v0, smoothing=0.05)
    problem = Monodomain(mesh, uniform_tissue(mesh, (0.2, 0.05, 0.05)), cell, NEVER)
    return solve(problem, t1, dt=dt, scheme=scheme, precision=precision, **options)


@pytest.mark.parametrize(
    ("splitting", "kind", "order"),
    [(Strang, "rush_larsen", 1), (Strang, "grl2", 2), (Godunov, "grl2", 1)],
)
def test_order_in_tissue(splitting, kind, order):
    # only Strang splitting with a step of second order is of second order
    scheme = splitting(ImplicitDiffusion(tolerance=1e-12), ionic_step=kind)
    best = Strang(ImplicitDiffusion(tolerance=1e-12), ionic_step="grl2")

    def after(dt, scheme):
        return np.asarray(wave(4.0, dt, scheme, every=4.0).final.leaves[0])

    exact = after(0.0025, best)
    steps = np.array([0.08, 0.04, 0.02])
    errors = [np.abs(after(dt, scheme) - exact).max() for dt in steps]
    assert errors[-1] < 0.02 * np.ptp(exact)
    assert slope(steps, errors) == pytest.approx(order, abs=0.15)


def test_short_steps_where_a_wave_is(monkeypatch):
    monkeypatch.setattr(windows, "FEWEST_NODES", 100)
    mesh = slab((24.0, 2.0, 2.0), 0.5)
    scheme = Godunov(ExplicitDiffusion(), ionic_step="grl2")
    options = {"mesh": mesh, "observe": {"activation": ActivationTime()}, "precision": "float32"}
    options |= {"every": 1.0, "quiet_dt": 0.2}
    whole = wave(20.0, 0.05, scheme, **options)
    divided = wave(20.0, 0.05, scheme, multirate=True, **options)
    expected, found = (np.asarray(s.observed["activation"]) for s in (whole, divided))
    reached = np.isfinite(expected)
    assert 0.2 < reached.mean() < 0.9
    assert divided.stats["busy_share"] < 0.5
    np.testing.assert_array_equal(np.isfinite(found), reached)
    assert np.abs(found[reached] - expected[reached]).max() < 5e-3
    plain = wave(20.0, 0.05, Godunov(ExplicitDiffusion()), **options)
    other = np.asarray(plain.observed["activation"])
    assert np.abs(other[reached] - expected[reached]).max() > 0.02


# --- bad input --------------------------------------------------------------------------------


def test_unknown_steps_are_refused_before_any_work():
    choice = "ionic_step is 'grl3'; give one of 'rush_larsen', 'grl1', 'grl2'"
    for scheme in (Godunov, Strang):
        with pytest.raises(ValueError, match=choice):
            scheme(ionic_step="grl3")  # pyright: ignore[reportArgumentType]
    for run in (single_cell, pace):
        with pytest.raises(ValueError, match=choice):
            run(MODELS["MS"], ionic_step="grl3")  # pyright: ignore[reportArgumentType]
    v, state = MODELS["MS"].initial_arrays(1)
    with pytest.raises(ValueError, match="order is 3; give 1 or 2"):
        generalised_rush_larsen(MODELS["MS"], v, state, 0.1, order=3)
