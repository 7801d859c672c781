"""Stepping, blending and pacing of ionic models; `test_cells.py` verifies the models themselves."""

import re
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from cells import random_point

from cardiotwin.ionic import (
    AbstractIonicModel,
    BuenoOrovio,
    MitchellSchaeffer,
    TenTusscherPanfilov2006,
    action_potential_duration,
    blend,
    pace,
    rush_larsen,
    single_cell,
)
from cardiotwin.ionic.stepping import _gate_rates
from cardiotwin.numerics.elementary import phi1

MODELS = {
    "MS": MitchellSchaeffer(),
    "BO endo": BuenoOrovio.endo(),
    "BO mid": BuenoOrovio.mid(),
    "BO epi": BuenoOrovio.epi(),
    "TTP06 endo": TenTusscherPanfilov2006.endo(),
    "TTP06 mid": TenTusscherPanfilov2006.mid(),
    "TTP06 epi": TenTusscherPanfilov2006.epi(),
}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
each_class = pytest.mark.parametrize(
    "model", [MODELS["MS"], MODELS["BO epi"], MODELS["TTP06 epi"]], ids=["MS", "BO", "TTP06"]
)


step = jax.jit(rush_larsen)
rates_at = jax.jit(lambda model, v, state: model(v, state))


def scalable(model):
    """The name of a parameter that is not zero."""
    return next(row.name for row in model.parameters() if row.default)


# --- accuracy ---------------------------------------------------------------------------------


def test_float32_and_mixed_precision_distance_from_float64():
    model = MODELS["TTP06 epi"]
    exact, single = (
        single_cell(model, cycle_length=480.0, every=0.1, conserve_charge=False, dtype=dtype)[1]
        for dtype in (jnp.float64, jnp.float32)
    )
    assert single.dtype == np.float32
    assert np.max(np.abs(single - exact)) < 0.1

    @partial(jax.jit, static_argnames="slow_dtype")
    def drift(slow_dtype):
        start = model.initial_arrays((), dtype=jnp.float32, slow_dtype=slow_dtype)
        _, end = jax.lax.fori_loop(
            0, 10_000, lambda _, c: rush_larsen(model, *c, jnp.float32(0.02)), start
        )
        return end.K_i - start[1].K_i

    _, end = pace(model, cycle_length=200.0, amplitude=0.0)
    expected = float(end.K_i) - model.start[1].K_i
    assert float(drift(jnp.float64)) == pytest.approx(expected, rel=1e-3)


# --- the step ---------------------------------------------------------------------------------


@each_class
def test_step_solves_gates_exactly_and_the_rest_by_euler(model):
    v, state = random_point(model)
    dt, stimulus = 0.5, 3.0
    v_new, new = step(model, v, state, dt, stimulus)
    _, half = step(model, v, state, dt / 2, stimulus)
    half = state._replace(**{name: getattr(half, name) for name in model.gates})
    _, twice = step(model, v, half, dt / 2, stimulus)
    middle = state._replace(
        **{name: 0.5 * (getattr(state, name) + getattr(new, name)) for name in model.gates}
    )
    i_ion, rates = rates_at(model, v, middle)
    np.testing.assert_allclose(v_new, v + dt * (stimulus - i_ion), rtol=1e-12)
    for name in model.State._fields:
        if name in model.gates:  # two half steps are one whole step: the flow is exact
            np.testing.assert_allclose(getattr(new, name), getattr(twice, name), rtol=1e-11)
        else:
            euler = getattr(state, name) + dt * getattr(rates, name)
            np.testing.assert_allclose(getattr(new, name), euler, rtol=1e-12)


class RelaxingState(NamedTuple):
    gate: object
    fast: object


class Relaxing(AbstractIonicModel):
    """A gate, and a fast variable that follows it; the current is the fast variable."""

    State: ClassVar[type] = RelaxingState
    gates: ClassVar[tuple[str, ...]] = ("gate",)
    linearised: ClassVar[tuple[str, ...]] = ("fast",)
    activation_threshold: ClassVar[float] = 0.0
    repolarisation_threshold: ClassVar[float] = 0.0

    def initial(self):
        return 0.0, RelaxingState(gate=0.2, fast=1.0)

    def __call__(self, v, state):
        rates = RelaxingState(gate=0.5 * (1.0 - state.gate), fast=40.0 * (state.gate - state.fast))
        return state.fast + 0.0 * v, rates


def test_fast_variables_relax_to_what_the_gates_at_the_middle_say():
    """Exactly, where the rate is affine; forward Euler would be off by 19 times the distance."""
    model, dt = Relaxing(), 0.5
    v, state = model.initial_arrays(1)
    v_new, new = step(model, v, state, dt)
    gate = 1.0 - 0.8 * np.exp(-0.5 * dt)
    middle = 0.5 * (0.2 + gate)
    np.testing.assert_allclose(new.gate, gate, rtol=1e-14)
    np.testing.assert_allclose(new.fast, middle + (1.0 - middle) * np.exp(-40.0 * dt), rtol=1e-13)
    np.testing.assert_allclose(v_new, -dt * 1.0, rtol=1e-14)  # the potential sees the old value
    mixed = state._replace(gate=state.gate.astype(jnp.float32))
    single = step(model, v.astype(jnp.float32), mixed, dt)
    assert single[1].fast.dtype == jnp.float64
    np.testing.assert_allclose(single[1].fast, new.fast, rtol=1e-6)


def test_models_without_fast_variables_pay_nothing_for_them():
    """The program is the one that names none of them: gates, then forward Euler."""

    def plain(model, v, state, dt):
        rates, slopes = _gate_rates(model, v, state)
        new = {
            name: getattr(state, name) + dt * rates[name] * phi1(dt * slopes[name])
            for name in model.gates
        }
        mean = {name: 0.5 * (getattr(state, name) + new[name]) for name in model.gates}
        i_ion, rates = model(v, state._replace(**mean))
        for name in state._fields[len(model.gates) :]:
            new[name] = getattr(state, name) + dt * getattr(rates, name)
        return v + dt * (0.0 - i_ion), type(state)(**new)

    model = MODELS["TTP06 epi"].astype(float)
    at = (model, *model.initial_arrays(4), jnp.asarray(0.02))
    ours, theirs = (
        re.findall(r"= (\w+)", str(jax.make_jaxpr(f)(*at))) for f in (rush_larsen, plain)
    )
    count = {name: ours.count(name) for name in ("exp", "div", "mul", "add", "sub", "pow", "log")}
    assert count == {name: theirs.count(name) for name in count}
    assert count["mul"] > 100


def test_uncentred_step_uses_the_old_gates():
    model = MODELS["BO epi"]
    v, state = random_point(model)
    i_ion, _ = rates_at(model, v, state)
    v_new, new = jax.jit(partial(rush_larsen, centred=False))(model, v, state, 0.5, 3.0)
    _, centred = step(model, v, state, 0.5, 3.0)
    np.testing.assert_allclose(v_new, v + 0.5 * (3.0 - i_ion), rtol=1e-12)
    np.testing.assert_allclose(jnp.stack(new), jnp.stack(centred), rtol=1e-12)


@partial(jax.jit, static_argnames="centred")
def cable_activation(propagator, stimulus, dt, steps, centred):
    model = MODELS["TTP06 epi"]

    def advance(i, carry):
        v, state, times = carry
        on = (i * dt < 1.0 - 1e-9) * stimulus
        new, state = rush_larsen(model, propagator @ v, state, dt, on, centred=centred)
        crosses = jnp.isnan(times) & (new >= -20)
        return new, state, jnp.where(crosses, dt * (i + (-20 - v) / (new - v)), times)

    start = (*model.initial_arrays(len(stimulus)), jnp.full(len(stimulus), jnp.nan))
    return jax.lax.fori_loop(0, steps, advance, start)[2]


def cable_velocity(dt, centred, *, h=0.1, diffusion=0.0953, length=7.0):
    """Velocity (mm/ms) of TTP06 on a cable whose diffusion is exact in time."""
    nodes = round(length / h) + 1
    laplacian = np.diag(np.full(nodes, -2.0))
    laplacian += np.diag(np.ones(nodes - 1), 1) + np.diag(np.ones(nodes - 1), -1)
    laplacian[0, 1] = laplacian[-1, -2] = 2.0
    propagator = scipy.linalg.expm(dt * diffusion / h**2 * laplacian)
    stimulus = np.where(np.arange(nodes) * h < 1.0, 60.0, 0.0)
    times = np.asarray(cable_activation(propagator, stimulus, dt, round(15 / dt), centred))
    near, far = round(0.4 * length / h), round(0.8 * length / h)
    return (far - near) * h / (times[far] - times[near])


def test_centred_gates_keep_the_velocity_when_the_time_step_grows():
    fine = cable_velocity(0.01, centred=True)
    assert cable_velocity(0.05, centred=True) == pytest.approx(fine, rel=0.01)
    assert cable_velocity(0.05, centred=False) < 0.96 * fine


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-5), (jnp.float64, 1e-9)])
def test_calcium_current_at_its_removable_singularity(dtype, tolerance):
    model = MODELS["TTP06 epi"].astype(dtype)
    off = eqx.tree_at(lambda m: m.g_CaL, model, jnp.zeros((), dtype))
    _, state = model.initial()
    state = model.State(*(jnp.asarray(x, dtype) for x in state))._replace(d=jnp.asarray(0.5, dtype))

    def i_cal(v):
        return model(v, state)[0] - off(v, state)[0]

    # with z = 2 (V-15) F/(RT): (0.25 Ca_ss e^z - Ca_o) z/(e^z-1) -> 0.25 Ca_ss - Ca_o, and its
    # derivative in z -> (0.25 Ca_ss + Ca_o)/2
    scale = 2 * model.F * model.g_CaL * state.d * state.f * state.f2 * state.fCass
    slope = scale * 0.5 * (0.25 * state.Ca_ss + model.Ca_o) * 2 * model.F / (model.R * model.T)
    v = 15 + jnp.linspace(-1e-3, 1e-3, 21, dtype=dtype)
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(i_cal)))(v)
    assert v[10] == 15
    assert value.dtype == gradient.dtype == dtype
    assert jnp.all(jnp.isfinite(value) & jnp.isfinite(gradient))
    expected = scale * (0.25 * state.Ca_ss - model.Ca_o)
    np.testing.assert_allclose(value[10], expected, rtol=tolerance)
    np.testing.assert_allclose(gradient[10], slope, rtol=50 * tolerance)


@each_class
def test_gradients_at_every_switch_are_finite_and_right(model):
    v = jnp.asarray([-150.0, -85.0, -40.0, 15.0, 20.0, 50.0, 100.0])
    _, state = model.initial_arrays(len(v))

    name = scalable(model)
    value = jnp.asarray(float(getattr(model, name)))

    def after(v, value):
        changed = eqx.tree_at(lambda m: getattr(m, name), model, value)
        new, state_new = rush_larsen(changed, v, state, 0.02)
        return jnp.sum(new) + sum(jnp.sum(x) for x in state_new)

    per_node, gradient = jax.jit(jax.grad(after, argnums=(0, 1)))(v, value)
    assert jnp.all(jnp.isfinite(per_node))
    after = jax.jit(after)
    slope = (after(v, value * (1 + 1e-5)) - after(v, value * (1 - 1e-5))) / (2e-5 * value)
    assert float(gradient) == pytest.approx(float(slope), rel=1e-4)


@each_class
def test_float32_stays_float32_with_x64_on(model):
    weights = np.stack([np.linspace(0, 1, 5), np.linspace(1, 0, 5)])
    name = scalable(model)
    other = type(model)(**{name: np.float64(1.1 * getattr(model, name))})
    for candidate in (model, other, blend([model, other], weights)):
        v, state = candidate.initial_arrays(5, dtype=jnp.float32)
        program = jax.make_jaxpr(lambda v, s, m=candidate: rush_larsen(m, v, s, 0.02, 1.0))
        assert not re.findall(r":f64\[5\] =", str(program(v, state)))
        v, state = jax.eval_shape(step, candidate, v, state, 0.02, 1.0)
        assert {x.dtype for x in (v, *state)} == {jnp.dtype(jnp.float32)}


def test_slow_variables_may_be_wider_than_the_rest():
    model = MODELS["TTP06 epi"]
    v, state = model.initial_arrays(3, dtype=jnp.float32, slow_dtype=jnp.float64)
    v, state = jax.eval_shape(step, model, v, state, 0.02)
    wide = {name for name, x in state._asdict().items() if x.dtype == jnp.float64}
    assert wide == set(model.slow)
    assert v.dtype == jnp.float32


def test_step_takes_plain_numbers():
    v, state = rush_larsen(MODELS["MS"], -85, MODELS["MS"].State(h=1.0), 0.1, 10)
    assert v.dtype == state.h.dtype == jnp.float64
    assert float(v) == pytest.approx(-84.0)


# --- transformations --------------------------------------------------------------------------


@each_class
def test_step_under_vmap_is_the_step_with_parameters_per_node(model):
    v, state = random_point(model)
    name = scalable(model)
    values = getattr(model, name) * jnp.where(jnp.arange(len(v)) % 2, 1.0, 0.8)

    def advance(value, v, state):
        changed = eqx.tree_at(lambda m: getattr(m, name), model, value)
        return rush_larsen(changed, v, state, 0.02, 0.0)[0]

    mapped = jax.jit(jax.vmap(advance))(values, v, state)
    unchanged, _ = step(model, v, state, 0.02, 0.0)
    np.testing.assert_allclose(mapped[1::2], unchanged[1::2], rtol=1e-12)
    assert not np.allclose(mapped[::2], unchanged[::2], rtol=1e-9)


def test_smoothing_makes_thresholds_differentiable_and_keeps_the_duration():
    hard, smooth = BuenoOrovio.epi(), BuenoOrovio.epi(smoothing=0.005)
    durations = [
        action_potential_duration(*single_cell(m, cycle_length=500.0, every=0.1))
        for m in (hard, smooth)
    ]
    assert durations[1] == pytest.approx(durations[0], rel=0.01)

    def current(theta, model):
        v, state = model.initial_arrays(())
        return eqx.tree_at(lambda m: m.theta_v, model, theta)(v + 25.8, state)[0]

    assert jax.grad(current)(0.3, smooth) != jax.grad(current)(0.3, hard)
    durations = [
        action_potential_duration(
            *single_cell(MitchellSchaeffer(smoothing=w), cycle_length=500.0, every=0.1)
        )
        for w in (0.0, 0.005)
    ]
    assert durations[1] == pytest.approx(durations[0], rel=0.01)


# --- blending, parameters, errors -------------------------------------------------------------


def test_blend_mixes_cell_types_per_node():
    types = [getattr(TenTusscherPanfilov2006, name)() for name in ("endo", "mid", "epi")]
    weights = np.array([[1.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.25], [0.0, 0.0, 1.0, 0.25]])
    mixed = blend(types, weights)
    np.testing.assert_allclose(mixed.g_to, [0.073, 0.294, 0.294, 0.1835])
    np.testing.assert_allclose(mixed.g_Ks, [0.392, 0.098, 0.392, 0.3185])
    assert mixed.g_Na == 14.838  # the same everywhere: still one number
    for k, single in enumerate(types):
        picked = jax.tree.map(lambda x, k=k: x[k] if np.ndim(x) else x, mixed)
        np.testing.assert_allclose(jax.tree.leaves(picked), jax.tree.leaves(single), rtol=1e-12)
    halved = blend(types[:2], [0.5, 0.5])
    assert float(halved.g_to) == pytest.approx(0.1835)
    gradient = jax.grad(lambda w: blend(types, w).g_to[0])(jnp.asarray(weights))
    np.testing.assert_allclose(gradient[:, 0], [0.073, 0.294, 0.294])
    assert blend([blend(types, weights)], [1.0]).g_to.shape == (4,)


def test_blend_takes_float64_weights_where_x64_is_off():
    with jax.enable_x64(False):
        mixed = blend([BuenoOrovio.endo(), BuenoOrovio.epi()], np.array([[0.5], [0.5]]))
    assert mixed.tau_so1.dtype == np.float32
    assert float(mixed.tau_so1[0]) == pytest.approx(35.00905)


def test_blend_refuses_what_it_cannot_mix():
    endo, epi = BuenoOrovio.endo(), BuenoOrovio.epi()
    with pytest.raises(ValueError, match=r"weights of shape \(3,\) for 2 models"):
        blend([endo, epi], [0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match=r"off 1 by up to 0\.2"):
        blend([endo, epi], [0.5, 0.7])
    with pytest.raises(ValueError, match="differ in class"):
        blend([endo, MitchellSchaeffer()], [0.5, 0.5])
    with pytest.raises(ValueError, match="static option"):
        blend([endo, BuenoOrovio.epi(smoothing=0.01)], [0.5, 0.5])
    with pytest.raises(ValueError, match="no model"):
        blend([], [])
    mixed = blend([endo, epi], np.full((2, 3), 0.5))
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(4,\)"):
        blend([MODELS["TTP06 endo"], MODELS["TTP06 epi"]], np.full((2, 3), 0.5)).initial_arrays(4)
    assert mixed.initial_arrays(4)[0].shape == (4,)  # Bueno-Orovio starts from one rest


def test_construction_refuses_impossible_parameters():
    with pytest.raises(ValueError, match="tau_in is not finite"):
        MitchellSchaeffer(tau_in=float("nan"))
    with pytest.raises(ValueError, match="conductance g_Kr is negative"):
        TenTusscherPanfilov2006.epi(g_Kr=-0.1)
    with pytest.raises(ValueError, match="conductance g_Kr is negative"):
        TenTusscherPanfilov2006.epi(g_Kr=np.array([0.1, -0.1]))
    with pytest.raises(ValueError, match=r"tau_in is '0.3'; expected a number"):
        MitchellSchaeffer(tau_in="0.3")
    with pytest.raises(ValueError, match="differ in shape"):
        MitchellSchaeffer(tau_in=np.full(3, 0.3), tau_out=np.full(4, 6.0))


def test_construction_refuses_unknown_gates():
    class Misnamed(MitchellSchaeffer):
        gates = ("h", "k")

    with pytest.raises(ValueError, match=r"gates names \['k'\].*fields of the State are \['h'\]"):
        Misnamed()

    class Nameless(AbstractIonicModel):
        def initial(self):
            return -85.0, ()

        def __call__(self, v, state):
            return v, state

    with pytest.raises(ValueError, match="does not define State"):
        Nameless()


# --- pacing -----------------------------------------------------------------------------------


def test_pacing_in_parts_is_pacing_at_once():
    model = MODELS["BO epi"]
    at_once = pace(model, cycle_length=300.0, beats=2)
    in_parts = pace(model, cycle_length=300.0, initial=pace(model, cycle_length=300.0))
    np.testing.assert_array_equal(jax.tree.leaves(at_once), jax.tree.leaves(in_parts))
    t, v = single_cell(model, cycle_length=300.0, beats=2, every=1.0)
    assert len(t) == len(v) == 601
    assert t[-1] == 600.0
    assert v[0] == -84.0
    assert v[-1] == at_once[0]


def test_pacing_many_cells_at_once():
    model = blend([BuenoOrovio.endo(), BuenoOrovio.mid()], np.eye(2))
    t, v = single_cell(model, cycle_length=600.0, every=0.5)
    assert v.shape == (1201, 2)
    durations = action_potential_duration(t, v)
    assert durations.shape == (2,)
    assert durations[1] > durations[0] + 50


def test_action_potential_duration_of_a_known_shape():
    t = np.arange(0.0, 500.0, 0.5)
    v = np.interp(t, [0, 10, 11, 211, 311, 500], [-80, -80, 20, 20, -80, -80])
    assert action_potential_duration(t, v) == pytest.approx(301 - 10.5, abs=0.5)
    assert action_potential_duration(t, v, 0.5) == pytest.approx(261 - 10.5, abs=0.5)
    assert np.isnan(action_potential_duration(t[:300], v[:300]))
    with pytest.raises(ValueError, match="expected"):
        action_potential_duration(t, v[:-1])


def test_pacing_refuses_times_off_the_grid():
    with pytest.raises(ValueError, match=r"duration is 0\.03 ms and dt 0\.02 ms"):
        single_cell(MODELS["MS"], duration=0.03)
    with pytest.raises(ValueError, match=r"cycle_length is 1000 ms and every 0\.3 ms"):
        single_cell(MODELS["MS"], dt=0.1, every=0.3)
    with pytest.raises(ValueError, match=r"such as 999"):
        pace(MODELS["MS"], dt=0.3, duration=0.3, cycle_length=999.1)


def test_a_model_under_way_keeps_all_but_its_start():
    model = TenTusscherPanfilov2006.endo()
    v, state = model.initial_arrays((3,))
    bare = model.under_way()
    assert bare.start is None
    for one, other in zip(
        jax.tree.leaves(rush_larsen(bare, v, state, 0.05)),
        jax.tree.leaves(rush_larsen(model, v, state, 0.05)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
