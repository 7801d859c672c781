"""Ionic models against stiff integration, published equations and tables, and themselves."""

import math
import re
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp

from cardiotwin.ionic import (
    NIEDERER_STATE,
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


def random_point(model, count=40, seed=0):
    """Potentials from -120 to 60 mV, gates from 0 to 1, concentrations within 50 % of initial."""
    rng = np.random.default_rng(seed)
    _, start = model.initial()
    values = {
        name: jnp.asarray(
            rng.uniform(0, 1, count)
            if name in model.gates or name == "R_prime"
            else value * rng.uniform(0.5, 1.5, count)
        )
        for name, value in start._asdict().items()
    }
    return jnp.asarray(rng.uniform(-120, 60, count)), model.State(**values)


# --- accuracy ---------------------------------------------------------------------------------


@jax.jit
def packed_rate(y, model, stimulus):
    i_ion, rates = model(y[0], model.State(*y[1:]))
    return jnp.stack([stimulus - i_ion, *rates])


packed_jacobian = jax.jit(jax.jacfwd(packed_rate))


def stiff_reference(model, times, amplitude, duration):
    """SciPy's BDF at rtol 1e-8 with the model's exact Jacobian, on both sides of the edge."""
    v0, state0 = model.initial()
    model = model.astype(float)
    y, values = np.array([v0, *state0]), [np.array([v0])]
    for begin, end, stimulus in ((0.0, duration, amplitude), (duration, times[-1], 0.0)):
        inside = times[(times > begin) & (times <= end)]
        result = solve_ivp(
            lambda t, y, s=stimulus: np.asarray(packed_rate(y, model, s)),
            (begin, end), y, method="BDF", t_eval=inside, rtol=1e-8, atol=1e-10,
            jac=lambda t, y, s=stimulus: np.asarray(packed_jacobian(y, model, s)),
        )  # fmt: skip
        assert result.success
        y = result.y[:, -1]
        values.append(result.y[0])
    return np.concatenate(values)


@each_model
def test_one_beat_agrees_with_stiff_integration(model):
    t, v = single_cell(model, cycle_length=480.0, dt=0.02, every=0.1, conserve_charge=False)
    exact = stiff_reference(model, t, 52.0, 1.0)
    assert np.linalg.norm(v - exact) <= 0.01 * np.linalg.norm(exact)
    duration, expected = (action_potential_duration(t, x) for x in (v, exact))
    assert abs(duration - expected) <= 1.0
    assert abs(v.max() - exact.max()) <= 2.0


@pytest.mark.parametrize(
    ("name", "cycle_length", "expected"),
    [
        ("BO epi", 1000.0, 268.0), ("BO endo", 1000.0, 262.0), ("BO mid", 1000.0, 409.0),
        ("BO epi", 400.0, 249.0), ("BO endo", 400.0, 227.0), ("BO mid", 400.0, 281.0),
        ("MS", 1000.0, 282.0), ("MS", 500.0, 263.0), ("MS", 350.0, 227.0),
        ("TTP06 epi", 1000.0, 305.0),
    ],
)  # fmt: skip
def test_paced_action_potential_durations(name, cycle_length, expected):
    beats = 1 if name.startswith("TTP06") else 7
    before = pace(MODELS[name], cycle_length=cycle_length, beats=beats)
    length = min(cycle_length, 480.0)
    t, v = single_cell(
        MODELS[name], cycle_length=length, every=0.1, initial=before, conserve_charge=False
    )
    assert action_potential_duration(t, v) == pytest.approx(expected, rel=0.02)


def test_shipped_initial_state_is_near_the_limit_cycle():
    for cell in ("epi", "mid", "endo"):
        model = MODELS[f"TTP06 {cell}"]
        v0, start = model.initial()
        v1, end = pace(model)
        assert abs(float(v1) - v0) < 0.01
        for name, before in start._asdict().items():
            # a gate that inactivates within the beat returns to within a per mille
            assert float(getattr(end, name)) == pytest.approx(before, rel=2e-3, abs=1e-6), name


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


# --- equations against an independent route ---------------------------------------------------


MATHML = "{http://www.w3.org/1998/Math/MathML}"
OPERATORS = {
    "plus": lambda *a: sum(a), "minus": lambda *a: -a[0] if len(a) == 1 else a[0] - a[1],
    "times": lambda *a: math.prod(a), "divide": lambda a, b: a / b, "power": lambda a, b: a**b,
    "root": math.sqrt, "exp": math.exp, "ln": math.log, "tanh": math.tanh, "floor": math.floor,
    "lt": lambda a, b: a < b, "gt": lambda a, b: a > b, "leq": lambda a, b: a <= b,
    "geq": lambda a, b: a >= b, "and": lambda *a: all(a), "or": lambda *a: any(a),
}  # fmt: skip


class CellML:
    """Evaluates the equations of a CellML 1.0 file, one flat name space, by recursion."""

    def __init__(self, path: Path):
        root = ET.parse(path).getroot()
        space = root.tag.split("}")[0] + "}"
        self.values, self.equations, self.rates = {}, {}, {}
        for variable in root.iter(space + "variable"):
            if "initial_value" in variable.attrib:
                self.values[variable.get("name")] = float(variable.get("initial_value"))
        for math_node in root.iter(MATHML + "math"):
            for _, left, right in math_node:
                if left.tag == MATHML + "ci":
                    self.equations[left.text.strip()] = right
                else:
                    self.rates[left[2].text.strip()] = right

    def evaluate(self, **given):
        """Rates of all state variables, with values replaced by those given."""
        known = {**self.values, "time": 0.0, **given}
        return {name: self._value(node, known) for name, node in self.rates.items()}

    def _value(self, node, known):
        kind = node.tag.removeprefix(MATHML)
        if kind == "cn":
            exponent = node.find(MATHML + "sep")
            power = "" if exponent is None else "e" + exponent.tail.strip()
            return float(node.text.strip() + power)
        if kind == "ci":
            name = node.text.strip()
            if name not in known:
                known[name] = self._value(self.equations[name], known)
            return known[name]
        if kind == "piecewise":
            for part in node:
                if part.tag == MATHML + "otherwise" or self._value(part[1], known):
                    return self._value(part[0], known)
        return OPERATORS[node[0].tag.removeprefix(MATHML)](
            *(self._value(child, known) for child in node[1:])
        )


def relative_difference(ours, theirs):
    return abs(ours - theirs) / max(abs(theirs), 1e-9)


@pytest.mark.realdata
@pytest.mark.parametrize(("cell", "suffix"), [("epi", "epi"), ("endo", "endo"), ("mid", "M")])
def test_ten_tusscher_rates_match_the_cellml_file(data, cell, suffix):
    reference = CellML(data / "cellml" / f"ten_tusscher_model_2006_{suffix}.cellml")
    model = MODELS[f"TTP06 {cell}"]
    v, state = random_point(model, seed=1)
    i_ion, rates = rates_at(model, v, state)
    assert set(reference.rates) == {"V", *model.State._fields}
    for k in range(len(v)):
        point = {name: float(x[k]) for name, x in state._asdict().items()}
        expected = reference.evaluate(V=float(v[k]), **point)
        assert relative_difference(-float(i_ion[k]), expected["V"]) < 1e-6
        for name, rate in rates._asdict().items():
            assert relative_difference(float(rate[k]), expected[name]) < 1e-6, name


@pytest.mark.realdata
def test_bueno_orovio_rates_match_the_cellml_file(data):
    """The file is the 2007 thesis; gate w switches at u = 0.006 there, at theta_w in the paper."""
    reference = CellML(data / "cellml" / "bueno_2007_epi.cellml")
    model = MODELS["BO epi"]
    v, state = random_point(model, seed=2)
    u = (v - model.V_0) / model.V_amplitude
    i_ion, rates = rates_at(model, v, state)
    for k in range(len(v)):
        point = {name: float(x[k]) for name, x in state._asdict().items()}
        expected = reference.evaluate(V=float(u[k]), **point)
        ours = {"V": -i_ion / model.V_amplitude, **rates._asdict()}
        names = ["V", "v", "s"] + (["w"] if not 0.006 <= u[k] < 0.13 else [])
        for name in names:
            assert relative_difference(float(ours[name][k]), expected[name]) < 1e-9, name


@pytest.mark.realdata
def test_ten_tusscher_beat_matches_chaste(data):
    """Another program's beat at 61 times; its stimulus is not on record and was fitted (39.6)."""
    table = np.loadtxt(
        data / "chaste-ap-references" / "cellml" / "ten_tusscher_model_2006_epi.dat", skiprows=1
    )
    model = TenTusscherPanfilov2006.epi(start=NIEDERER_STATE)
    rest = pace(model, cycle_length=50.0, amplitude=0.0, dt=0.01)
    t, v = single_cell(
        model, cycle_length=650.0, dt=0.01, every=10.0, amplitude=39.6, duration=2.0, initial=rest
    )
    np.testing.assert_allclose(table[5:, 0], 50.0 + t)
    assert np.max(np.abs(v - table[5:, 1])) < 0.1


def test_ten_tusscher_conserves_charge():
    """Ions that leave the cell are the ionic current: no other source is in the balances."""
    model = MODELS["TTP06 epi"]
    v, y = random_point(model, seed=3)
    i_ion, rate = rates_at(model, v, y)

    def total(rate_free, ca, buffer, half):
        return rate_free * (1 + buffer * half / (ca + half) ** 2)

    calcium = (
        model.V_c * total(rate.Ca_i, y.Ca_i, model.Buf_c, model.K_buf_c)
        + model.V_sr * total(rate.Ca_SR, y.Ca_SR, model.Buf_sr, model.K_buf_sr)
        + model.V_ss * total(rate.Ca_ss, y.Ca_ss, model.Buf_ss, model.K_buf_ss)
    )
    charge = model.F * (model.V_c * (rate.Na_i + rate.K_i) + 2 * calcium)
    np.testing.assert_allclose(charge, -model.C * i_ion, rtol=1e-9, atol=1e-6)
    stimulus = model.stimulus_rates(1.0)["K_i"]
    assert float(stimulus * model.F * model.V_c) == pytest.approx(model.C)


# --- the step ---------------------------------------------------------------------------------


@each_class
def test_gate_rates_are_diagonal_and_affine(model):
    v, state = random_point(model)

    def rates_of(gates, v, state):
        fixed = state._replace(**dict(zip(model.gates, gates, strict=True)))
        _, rates = model(v, fixed)
        return jnp.stack([getattr(rates, name) for name in model.gates])

    gates = jnp.stack([getattr(state, name) for name in model.gates], axis=1)
    derivative = jax.jacfwd(rates_of)
    jacobian, curvature = jax.jit(
        jax.vmap(lambda *at: (derivative(*at), jax.jacfwd(derivative)(*at)))
    )(gates, v, state)
    diagonal = jnp.diagonal(jacobian, axis1=1, axis2=2)
    assert jnp.all(diagonal <= 0)
    assert jnp.all(jacobian == jax.vmap(jnp.diag)(diagonal))
    assert jnp.all(curvature == 0)


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


@jax.jit
def hundred_steps(model, v, state, dt):
    return jax.lax.fori_loop(0, 100, lambda _, c: rush_larsen(model, *c, dt), (v, state))


@each_model
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("dt", [0.01, 0.1])
def test_no_potential_breaks_the_step(model, dtype, dt):
    v, state = model.initial_arrays(501, dtype=dtype)
    v = v * 0 + jnp.linspace(-150, 100, 501, dtype=dtype)

    v, state = hundred_steps(model.astype(dtype), v, state, dt)
    for name, x in {"V": v, **state._asdict()}.items():
        assert jnp.all(jnp.isfinite(x)), name
        if name in model.gates and (name, type(model)) != ("w", BuenoOrovio):  # w_inf > 1 for u < 0
            assert jnp.all((x >= 0) & (x <= 1)), name
    assert jnp.all((v > -160) & (v < 110))


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


def test_documentation_lists_every_parameter():
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    for model in (MitchellSchaeffer, BuenoOrovio, TenTusscherPanfilov2006):
        for name, default, unit, meaning in model.parameters():
            assert meaning, name
            assert f"| `{name}` | {default:g} | {unit} |" in text, f"{model.__name__}.{name}"


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
