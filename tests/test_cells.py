"""Every ionic model against stiff integration, CellML, another program's beat, and itself.

The cases are the rows of `cells.CASES`. What is measured is the table of
docs/models/verification.md: `pytest tests/test_cells.py --write-tables` writes the rows of the
cases that ran.
"""

from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells import (
    CASES,
    EVERY,
    CellML,
    Imported,
    model_of,
    packed_jacobian,
    packed_rate,
    random_point,
    record,
    stiff_reference,
)

from cardiotwin.ionic import (
    TenTusscherPanfilov2006,
    TenTusscherRestitution,
    action_potential_duration,
    pace,
    single_cell,
)
from cardiotwin.ionic._base import replaced
from cardiotwin.ionic.stepping import stepper

POINTS = 20


def each_case(keep=lambda case: True):
    return pytest.mark.parametrize("name", [name for name, case in CASES.items() if keep(case)])


@jax.jit
def looked_at(model, v, state):
    """Currents, the ionic current and the rates."""
    return model.currents(v, state), *model(v, state)


def own_slopes(model, v, state):
    """Jacobians of (V, state)' at every point; no node's rate contains another node."""
    packed = np.stack([v, *state], axis=1)
    return np.stack([packed_jacobian(y, model, 0.0) for y in packed])


# --- against others ---------------------------------------------------------------------------


@pytest.mark.realdata
@each_case(lambda case: case.cellml)
def test_rates_match_the_cellml_file(data, name, measured):
    """As Myokit evaluates the file, and as it is imported."""
    pytest.importorskip("myokit")
    case, file = CASES[name], data / "cellml" / CASES[name].cellml
    model = replaced(model_of(name), case.ours).astype(float)
    v, state = random_point(model, POINTS, seed=1, case=case)
    currents, i_ion, rates = looked_at(model, v, state)
    slopes = np.diagonal(own_slopes(model, v, state), axis1=1, axis2=2)[:, 1:].T
    terms = dict(zip(model.State._fields, np.abs(slopes * np.array(state)), strict=True))
    terms["V"] = np.max(np.abs(list(currents.values())), axis=0)
    worst = []
    for reference in (CellML(file, case), Imported(file, case)):
        off = 0.0
        for key, expected in reference.rates(v, state).items():
            rate = np.asarray(-i_ion if key == "V" else getattr(rates, key))
            scale = np.maximum(np.maximum(np.abs(expected), terms[key]), 1e-12)
            compared = ~case.exceptions[key](v) if key in case.exceptions else slice(None)
            off = max(off, np.max((np.abs(rate - expected) / scale)[compared]))
            assert off < 1e-6, (key, reference)
        worst.append(off)
    measured(name, "rates", f"{worst[0]:.0e}")
    measured(name, "imported", f"{worst[1]:.0e}")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "name", "theirs"),
    [
        ("ToRORd_dynCl_endo.ode", "ToR-ORd dynCl endo", {}),
        (
            "tentusscher_panfilov_2006_epi_cell.ode", "ten Tusscher-Panfilov 2006 epi",
            {"R": 8.314, "F": 96.485},  # rounded in the file
        ),
    ],
)  # fmt: skip
def test_rates_match_the_gotran_file(data, file, name, theirs):
    pytest.importorskip("gotranx")
    model = replaced(model_of(name), theirs).astype(float)
    v, state = random_point(model, POINTS, seed=2, case=CASES[name])
    _, i_ion, rates = looked_at(model, v, state)
    for key, expected in Imported(data / "gotran-ode" / file, CASES[name]).rates(v, state).items():
        rate = -i_ion if key == "V" else getattr(rates, key)
        np.testing.assert_allclose(rate, expected, rtol=1e-6, atol=1e-12, err_msg=key)


@each_case()
def test_one_beat_agrees_with_stiff_integration(name, measured):
    case, model = CASES[name], model_of(name)
    count = round(case.beat / EVERY) + 1
    found = {dt: record(model, dt, kind=case.ionic_step)[:2] for dt in (0.02, 0.05)}
    t = found[0.02][0][:count]
    exact = stiff_reference(model, t)
    expected = action_potential_duration(t, exact)
    for dt, limit in ((0.02, 0.01), (0.05, case.coarse)):
        v = found[dt][1][:count]
        error = np.linalg.norm(v - exact) / np.linalg.norm(exact)
        duration = action_potential_duration(t, v) - expected
        peak = v.max() - exact.max()
        text = f"{100 * error:.2f} %, {duration:+.2f} ms, {peak:+.2f} mV"
        measured(name, f"beat at {dt} ms", text)
        assert error <= limit
        assert abs(duration) <= 1.0 or dt > 0.02
        assert abs(peak) <= 2.0 or dt > 0.02


@pytest.mark.realdata
@each_case(lambda case: case.trace)
def test_beat_matches_chaste(data, name, measured):
    trace = CASES[name].trace
    table = np.loadtxt(data / "chaste-ap-references" / trace.file, skiprows=1)
    after = table[(table[:, 0] >= trace.begin) & (table[:, 0] <= trace.end)]
    row = dict(zip(trace.columns, after[0, 1:], strict=True))
    model = trace.model() if trace.model else model_of(name)
    start = (row["V"], model.State(*(row[key] for key in model.State._fields)))
    t, v, _ = record(model, 0.02, initial=start, stimulus=False, kind=CASES[name].ionic_step)
    ours = np.interp(after[:, 0] - after[0, 0], t, v)
    worst = np.max(np.abs(ours - after[:, 1 + trace.columns.index("V")]))
    measured(name, "Chaste", f"{worst:.3f} mV")
    assert worst <= trace.tolerance


@each_case(lambda case: case.apd90)
def test_action_potential_lasts_as_published(name, measured):
    expected, tolerance = CASES[name].apd90
    model = model_of(name)
    start = pace(model, beats=6) if CASES[name].limit_cycle is None else None
    t, v, _ = record(model, 0.02, initial=start, kind=CASES[name].ionic_step)
    duration = action_potential_duration(t, v)
    measured(name, "APD90", f"{duration:.1f} ({expected:g}) ms")
    assert duration == pytest.approx(expected, rel=tolerance)


@each_case(lambda case: case.limit_cycle)
def test_shipped_state_is_near_the_limit_cycle(name, measured):
    model = model_of(name)
    v0, start = model.initial()
    _, _, (v1, end) = record(model, 0.02, ions=True, kind=CASES[name].ionic_step)
    assert abs(float(v1) - v0) < 0.01
    worst = 0.0
    for key, before in start._asdict().items():
        # a gate that inactivates within the beat returns to within a per mille
        change = abs(float(getattr(end, key)) - before)
        relative = change / max(abs(before), 1e-9)
        assert change < 1e-6 or relative < CASES[name].limit_cycle, key
        worst = max(worst, relative if change >= 1e-6 else 0.0)
    measured(name, "beat to beat", f"{worst:.0e}")


@pytest.mark.parametrize(
    ("name", "cycle_length", "expected"),
    [
        ("Bueno-Orovio epi", 400.0, 249.0), ("Bueno-Orovio endo", 400.0, 227.0),
        ("Bueno-Orovio mid", 400.0, 281.0),
        ("Mitchell-Schaeffer", 500.0, 263.0), ("Mitchell-Schaeffer", 350.0, 227.0),
    ],
)  # fmt: skip
def test_action_potential_durations_at_short_cycles(name, cycle_length, expected):
    before = pace(model_of(name), cycle_length=cycle_length, beats=7)
    t, v = single_cell(model_of(name), cycle_length=cycle_length, every=0.1, initial=before)
    assert action_potential_duration(t, v) == pytest.approx(expected, rel=0.02)


# --- what a model says of itself --------------------------------------------------------------


@each_case()
def test_gate_rates_are_diagonal_and_affine(name):
    model = model_of(name).astype(float)
    v, state = random_point(model, POINTS, case=CASES[name])
    rng = np.random.default_rng(5)
    others = state._replace(**{gate: rng.uniform(0, 1, POINTS) for gate in model.gates})
    places = [1 + model.State._fields.index(gate) for gate in model.gates]
    if not places:
        pytest.skip("no gates")
    jacobian, again = (own_slopes(model, v, s)[:, places][:, :, places] for s in (state, others))
    diagonal = np.diagonal(jacobian, axis1=1, axis2=2)
    assert np.all(diagonal <= 0)
    assert np.all(jacobian == np.stack([np.diag(row) for row in diagonal]))
    np.testing.assert_allclose(again, jacobian, rtol=1e-12)


@each_case()
def test_currents_sum_to_the_ionic_current(name, measured):
    model = model_of(name).astype(float)
    v, state = random_point(model, POINTS, seed=3, case=CASES[name])
    currents, i_ion, _ = looked_at(model, v, state)
    largest = np.max(np.abs(list(currents.values())), axis=0)
    worst = np.max(np.abs(sum(currents.values()) - i_ion) / largest)
    measured(name, "currents", f"{worst:.0e}")
    assert worst < 1e-11


@each_case(lambda case: case.make().channels)
def test_channels_scale_their_currents(name):
    model = model_of(name).astype(float)
    v, state = random_point(model, POINTS, seed=4, case=CASES[name])
    before = looked_at(model, v, state)[0]
    for current, parameter in model.channels.items():
        changed = eqx.tree_at(
            lambda m, p=parameter: getattr(m, p), model, replace_fn=lambda g: 2 * g
        )
        after = looked_at(changed, v, state)[0]
        np.testing.assert_allclose(after[current], 2 * before[current], rtol=1e-12)


def test_restitution_sets_scale_the_inactivation_of_f_alone():
    own = TenTusscherPanfilov2006.epi()
    v, state = random_point(own, POINTS)
    for slope, factor in ((0.7, 0.6), (1.1, 1.0), (1.4, 1.5), (1.8, 2.0)):
        rates = looked_at(TenTusscherRestitution.with_slope(slope), v, state)[2]
        expected = looked_at(own, v, state)[2]
        np.testing.assert_allclose(rates.f, expected.f / np.where(v > 0, factor, 1.0), rtol=1e-12)
        np.testing.assert_allclose(rates.f2, expected.f2, rtol=1e-12)
    with pytest.raises(ValueError, match=r"slope is 2\.0; the published sets are for \[0\.7"):
        TenTusscherRestitution.with_slope(2.0)


@each_case(lambda case: case.balance or case.simplexes)
def test_what_the_model_conserves(name, measured):
    case, model = CASES[name], model_of(name).astype(float)
    v, state = random_point(model, POINTS, seed=3, case=case)
    if case.balance:
        left, right = case.balance(model, v, state)
        worst = float(np.max(np.abs(left - right)) / np.max(np.abs(right)))
        measured(name, "balance", f"{worst:.0e}")
        assert worst < 1e-9
    rates = looked_at(model, v, state)[2]._asdict()
    for group in case.simplexes:
        flows = np.stack([rates[key] for key in group])
        worst = float(np.max(np.abs(flows.sum(axis=0)) / np.abs(flows).max(axis=0)))
        measured(name, "shares", f"{worst:.0e}")
        assert worst < 1e-9


# --- numbers ----------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="kind")
def hundred_steps(model, v, state, dt, kind):
    return jax.lax.fori_loop(0, 100, lambda _, c: stepper(kind)(model, *c, dt), (v, state))


@each_case()
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_no_potential_breaks_the_step(name, dtype, measured):
    case, model = CASES[name], model_of(name)
    for dt in (0.01, case.largest_dt):
        v, state = model.initial_arrays(501, dtype=dtype)
        v = v * 0 + jnp.linspace(-150, 100, 501, dtype=dtype)
        v, state = hundred_steps(model.astype(dtype), v, state, dt, case.ionic_step)
        for key, x in {"V": v, **state._asdict()}.items():
            assert jnp.all(jnp.isfinite(x)), key
            if (key in model.gates or key in case.fraction) and key not in case.unbounded:
                assert jnp.all((x >= 0) & (x <= 1)), key
        assert jnp.all((v > case.bounds[0]) & (v < case.bounds[1]))
    measured(name, "dt up to", f"{case.largest_dt:g} ms")


@each_case()
def test_singular_potentials_and_switches_are_ordinary_points(name, measured):
    """Also in derivatives, in both precisions; a removable singularity is smooth besides."""
    case, model = CASES[name], model_of(name)
    _, state = model.initial()

    def at(v, dtype):
        y = jnp.asarray([v, *state], dtype)
        cell = model.astype(dtype)
        zero = jnp.zeros((), dtype)
        rate, slope = packed_rate(y, cell, zero), packed_jacobian(y, cell, zero)
        assert rate.dtype == slope.dtype == dtype
        return np.asarray(rate, float), np.asarray(slope, float)

    for v in (*case.singular, *case.switches, -150.0, 100.0):
        rate, slope = at(v, jnp.float64)
        single, single_slope = at(v, jnp.float32)
        for array in (rate, slope, single, single_slope):
            assert np.all(np.isfinite(array)), v
        if v not in case.singular:
            continue
        before, after = at(v - 0.01, jnp.float64), at(v + 0.01, jnp.float64)
        size = np.abs(slope[:, 0]) + np.abs(rate) / 10.0  # per mV
        central = (after[0] - before[0]) / 0.02
        # the difference of two rates is as good as their last digit
        rounding = 4.0 * np.finfo(float).eps * np.abs(rate) / 0.02 + 1e-15
        np.testing.assert_array_less(np.abs(central - slope[:, 0]), 1e-4 * size + rounding)
        curved = 0.5 * (before[1] + after[1])[:, 0]
        np.testing.assert_array_less(np.abs(curved - slope[:, 0]), 1e-4 * size + 1e-15)
        terms = np.abs(rate) + np.abs(np.diagonal(slope) * np.array([v, *state]))
        np.testing.assert_array_less(np.abs(single - rate), 1e-4 * terms + 1e-12)
    measured(name, "points", f"{len(case.singular)} + {len(case.switches)}")


# --- documents --------------------------------------------------------------------------------


DOCS = Path(__file__).parents[1] / "docs" / "models"


@each_case()
def test_documentation_lists_every_parameter(name):
    model = model_of(name)
    page = DOCS / f"{type(model).__module__.rsplit('.', 1)[1]}.md"
    text = page.read_text(encoding="utf-8")
    for parameter, default, unit, meaning in model.parameters():
        assert meaning, parameter
        assert f"| `{parameter}` | {default:g} | {unit} |" in text, f"{page.name}: {parameter}"


def test_table_of_verification_has_a_row_for_every_case():
    text = (DOCS / "verification.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    for name in CASES:
        assert rows.count(name) == 1, f"{name}: pytest tests/test_cells.py --write-tables"
