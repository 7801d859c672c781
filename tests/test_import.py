"""Import of cell models: files of the repositories, small files made here, and what is refused."""

import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.ionic import pace, rush_larsen, single_cell
from cardiotwin.ionic.imported import (
    cell_model_class,
    describe_cell_model,
    importer,
    read_cell_model,
)
from cardiotwin.ionic.imported.checking import random_points, rates_in_file, without_stimulus
from cardiotwin.ionic.imported.nodes import from_rows, make, name, number, to_rows
from cardiotwin.ionic.imported.reading import read

FILES = [
    "cellml/beeler_reuter_model_1977.cellml",
    "cellml/bueno_2007_endo.cellml",
    "cellml/bueno_2007_epi.cellml",
    "cellml/courtemanche_ramirez_nattel_1998.cellml",
    "cellml/luo_rudy_1991.cellml",
    "cellml/ohara_rudy_cipa_v1_2017.cellml",
    "cellml/stewart_zhang_model_2008_ss.cellml",
    "cellml/ten_tusscher_model_2006_M.cellml",
    "cellml/ten_tusscher_model_2006_endo.cellml",
    "cellml/ten_tusscher_model_2006_epi.cellml",
    "cellml/ToRORd_dynCl_endo.cellml",
    "cellml/ToRORd_dynCl_epi.cellml",
    "gotran-ode/ToRORd_dynCl_endo.ode",
    "gotran-ode/tentusscher_panfilov_2006_epi_cell.ode",
]
# one of each kind; the others of a kind differ in numbers only
CHECKED = [FILES[k] for k in (0, 2, 3, 4, 6, 13)]

pytest.importorskip("myokit")
pytest.importorskip("gotranx")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "cache"  # of this process
    monkeypatch.setenv("CARDIOTWIN_CACHE", str(folder))
    return folder


# --- files of the repositories ----------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize("file", FILES)
def test_rates_agree_with_myokit(data, file, tabulate):
    cell = read_cell_model(data / file, check=False)
    path = data / file
    source = without_stimulus(read(path, path.read_bytes())[0], cell.description)
    worst = 0.0
    for v, values in random_points(cell, 8, seed=11):
        i_ion, rates = cell(jnp.asarray(v), cell.State(**values))
        ours = np.array([-i_ion, *rates])
        theirs = np.array(rates_in_file(source, cell.description, v, values))
        size = np.abs(theirs) + 1e-9 * np.abs(theirs).max()
        worst = max(worst, float(np.max(np.abs(ours - theirs) / size)))
    assert worst < 1e-6
    tabulate(
        "imported rates against Myokit's", file=file, worst=worst, states=len(cell.State._fields)
    )


@pytest.mark.realdata
@pytest.mark.parametrize("file", CHECKED)
def test_files_pass_their_check(data, file, tabulate):
    figures = read_cell_model(data / file).report.check
    assert figures["relative L2 error of V"] <= 0.01
    assert figures["its error (ms)"] <= 1.0
    assert figures["peak (mV)"] > 0.0
    tabulate("imported models, one beat", file=file, **figures)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("file", [file for file in FILES if file not in CHECKED])
def test_other_files_pass_their_check(data, file, tabulate):
    test_files_pass_their_check(data, file, tabulate)


@pytest.mark.realdata
@pytest.mark.parametrize("file", FILES)
def test_claims_hold(data, file):
    cell = read_cell_model(data / file, check=False)
    report = cell.report.found
    paced = "none" not in report["stimulus"]
    assert paced == ("stewart" not in file)
    assert cell.calcium is None or cell.calcium in ("Ca_i", "cai", "Cai")
    for v, values in random_points(cell, 3):
        state = cell.State(**values)
        i_ion, _ = cell(v, state)
        parts = cell.currents(v, state)
        total = float(sum(parts.values()))
        assert total == pytest.approx(float(i_ion), rel=1e-9, abs=1e-9)
        for current, parameter in list(cell.channels.items())[:3]:
            doubled = read_cell_model(
                data / file, check=False, **{parameter: 2 * getattr(cell, parameter)}
            )
            twice = float(doubled.currents(v, state)[current])
            assert twice == pytest.approx(2 * float(parts[current]), rel=1e-9, abs=1e-12)


EXPECTED = {
    "ten_tusscher_model_2006_epi": (
        "Xr1 Xr2 Xs m h j d f f2 fCass s r R_prime", "", "15", "Ca_SR Na_i K_i", "K_i"
    ),
    "beeler_reuter_model_1977": ("m h j d f x1", "", "-23 -47", "", ""),
    "courtemanche_ramirez_nattel_1998": (
        "m h j oa oi ua ui xr xs d f f_Ca w", "", "-47.13 -14.1 3.3328 19.9 -10 7.9",
        "Na_i K_i Ca_rel Ca_up", "",
    ),
    "ToRORd_dynCl_endo": (
        "m h j hp jp mL hL hLp a iF iS ap iFp iSp d ff fs fcaf fcas jca ffp fcafp xs1 xs2",
        "nca_ss nca_i C2 C3 I O Jrel_np Jrel_p", "0",
        "nai nass ki kss cansr cajsr cli clss", "ki",
    ),
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("file", EXPECTED)
def test_structure_of_known_models(data, file):
    cell = read_cell_model(data / f"cellml/{file}.cellml", check=False)
    gates, linearised, zeros, slow, carried = EXPECTED[file]
    assert set(cell.gates) == set(gates.split())
    assert set(cell.linearised) == set(linearised.split())
    assert set(cell.slow) == set(slow.split())
    found = cell.report.found["singularities"].split(" (the file's")[0].removeprefix("V = ")
    assert set(found.split(", ")) == set(zeros.split())
    assert set(cell.stimulus_rates(1.0)) == set(carried.split())


@pytest.mark.realdata
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("file", ["ToRORd_dynCl_endo", "courtemanche_ramirez_nattel_1998"])
def test_values_and_gradients_are_finite_everywhere(data, file, dtype):
    cell = read_cell_model(data / f"cellml/{file}.cellml", check=False)
    v = jnp.asarray([-150.0, -47.13, -40.0, -14.1, -10.0, 0.0, 7.9, 19.9, 3.3328, 100.0], dtype)
    _, state = cell.initial_arrays(v.shape, dtype=dtype)

    @jax.jit
    def total(v, state):
        i_ion, rates = cell.astype(dtype)(v, state)
        return sum(jnp.sum(x) for x in (i_ion, *rates))

    found = jax.tree.leaves(jax.jit(jax.grad(total, argnums=(0, 1)))(v, state))
    assert all(x.dtype == dtype for x in found)
    assert np.isfinite(total(v, state))
    assert all(np.all(np.isfinite(x)) for x in found)


# --- small files ------------------------------------------------------------------------------

MMT = """[[model]]
name: small
membrane.V = {start}
ina.m = 0.1
ca.Ca_i = {calcium}

[engine]
time = 0 in [{time}] bind time
pace = 0 bind pace

[membrane]
C = 2 [uF/cm^2]
    in [uF/cm^2]
dot(V) = -(ina.i_Na + leak.i_leak + i_stim) / C
    in [{volt}]
i_stim = engine.pace * amplitude
    in [uA/cm^2]
amplitude = -80 [uA/cm^2]
    in [uA/cm^2]

[ina]
desc: sodium
g_Na = 12 {per}
    in [{conductance}]
    desc: conductance of I_Na
i_Na = g_Na * m^3 * (membrane.V - 50 [mV] * {scale})
    in [uA/cm^2]
alpha = 0.1 * (membrane.V / {scale} + 40) / (1 - exp(-(membrane.V / {scale} + 40) / 10))
beta = 4 * exp(-(membrane.V / {scale} + 65) / 18)
dot(m) = (alpha * (1 - m) - beta * m) * {rate}

[leak]
g_L = 0.3 {per}
    in [{conductance}]
i_leak = g_L * (membrane.V - -70 [mV] * {scale})
    in [uA/cm^2]

[ca]
dot(Ca_i) = (-1e-5 * ina.i_Na - 0.07 * (Ca_i / {unit} - 1e-4)) * {unit} * {rate}
    in [{concentration}]
"""
PLAIN = {
    "start": "-70", "calcium": "1e-4", "time": "ms", "volt": "mV", "per": "", "scale": "1",
    "conductance": "mS/cm^2", "rate": "1", "unit": "1", "concentration": "mM",
}  # fmt: skip
SI = PLAIN | {
    "start": "-0.07", "calcium": "0.1", "time": "s", "volt": "V", "scale": "1e-3", "rate": "1000",
    "unit": "1000", "concentration": "uM",
}  # fmt: skip


def write(folder, text, file="cell.mmt"):
    path = folder / file
    path.write_text(text)
    return path


def small(folder, file="cell.mmt", **changes):
    return write(folder, MMT.format(**(PLAIN | changes)), file)


def test_small_model_is_understood(tmp_path):
    cell = read_cell_model(small(tmp_path), check=False)
    assert type(cell).__name__.startswith("small_")
    assert cell.gates == ("m",)
    assert cell.calcium == "Ca_i"
    assert dict(cell.channels) == {"I_Na": "g_Na", "I_leak": "g_L"}
    assert [row.name for row in cell.parameters()] == ["C", "g_Na", "g_L"]
    row = cell.parameters()[1]
    assert (row.default, row.unit, row.meaning) == (12.0, "mS/cm^2", "conductance of I_Na")
    currents = cell.currents(-20.0, cell.State(m=0.5, Ca_i=1e-4))
    assert float(currents["I_Na"]) == pytest.approx(12 * 0.125 * -70 / 2)
    assert set(currents) == {"I_Na", "I_leak"}
    report = str(cell.report)
    for text in ("membrane.V, -70 mV", "membrane.i_stim taken out", "V = -40", "skipped"):
        assert text in report


CHAIN = """[[model]]
membrane.V = -80
chain.C = 0.25
chain.O = 0.05
chain.I = 0.69
gate.a = 0.1
gate.b = 0.2

[engine]
time = 0 in [ms] bind time

[membrane]
dot(V) = -(0.1 * (V + 80) + 0.2 * chain.O * (V - 50))
    in [mV]

[chain]
opens = exp(membrane.V / 20)
closes = 0.2 * exp(-membrane.V / 40)
dot(C) = closes * O - opens * C
dot(O) = opens * C + 0.01 * I - (closes + 0.3) * O
dot(I) = 0.3 * O - 0.01 * I

[gate]
dot(a) = 0.1 * (b - a)
dot(b) = 0.2 * (a - b) - 0.1 * b
"""


def test_state_of_a_markov_chain_is_what_the_others_leave(tmp_path):
    cell = read_cell_model(write(tmp_path, CHAIN))
    assert cell.State._fields == ("C", "O", "a", "b")  # a and b drive one another, but leak
    assert cell.linearised == ("C", "O", "a", "b")
    (rest,) = cell.description.remainders
    assert rest.state == "chain.I"
    assert rest.total == pytest.approx(0.99)
    assert rest.others == ("C", "O")
    assert "chain.I" in str(cell.report)
    _, rates = cell(-20.0, cell.State(C=0.5, O=0.2, a=0.1, b=0.2))
    expected = np.exp(-1) * 0.5 + 0.01 * 0.29 - (0.2 * np.exp(0.5) + 0.3) * 0.2
    assert float(rates.O) == pytest.approx(expected, rel=1e-12)


def test_volts_seconds_and_micromolar_are_converted(tmp_path):
    plain = read_cell_model(small(tmp_path), check=False)
    # currents in uA/cm2 over uF/cm2 are V/s, so conductances of mS/cm2 times volts are scaled here
    text = MMT.format(**SI).replace("12 ", "12e3 ").replace("0.3 ", "0.3e3 ")
    other = read_cell_model(write(tmp_path, text, "si.mmt"), check=False)
    assert other.initial()[0] == pytest.approx(-70.0)
    assert other.initial()[1].Ca_i == pytest.approx(1e-4)
    said = other.report.found["units"]
    assert "[V] converted to mV" in said
    assert "[s] converted to ms" in said
    assert "converted to mM" in said
    v, state = -30.0, plain.State(m=0.4, Ca_i=2e-4)
    (a, rates), (b, others) = plain(v, state), other(v, other.State(*state))
    assert float(a) == pytest.approx(float(b), rel=1e-9)
    assert float(rates.m) == pytest.approx(float(others.m), rel=1e-9)
    assert float(others.Ca_i) == pytest.approx(
        -1e-5 * 2 * float(other.currents(v, state)["I_Na"]) - 0.07 * 1e-4, rel=1e-9
    )


def test_singular_point_is_regular_with_its_derivative(tmp_path):
    cell = read_cell_model(small(tmp_path), check=False)
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.float64, 1e-12)):
        rate = jax.jit(lambda v, d=dtype: cell.astype(d)(v, cell.State(d(0.0), d(1e-4)))[1].m)
        assert float(rate(dtype(-40.0))) == pytest.approx(1.0, rel=tolerance)
        assert float(jax.grad(rate)(dtype(-40.0))) == pytest.approx(0.05, rel=tolerance)


SINGULAR = """[[model]]
name: singular
membrane.V = -80
membrane.x = 0.1
membrane.E = 3

[engine]
time = 0 in [ms] bind time

[membrane]
k = 0.1
dot(V) = -(0.05 * (V + 80) + i_x)
    in [mV]
i_x = 0.01 * x * {formula}
dot(x) = (0.5 - x) / 10
dot(E) = -E / 1000
"""


@pytest.mark.parametrize(
    ("formula", "at", "expected"),
    [
        ("(V + 20) / (exp((V + 20) / 5) - 1)", -20.0, 5.0),
        ("(V + 20) / (1 - exp(-0.2 * V - 4))", -20.0, 5.0),
        ("(exp(k * (V + 77)) - 1) / ((V + 77) * exp(0.04 * (V + 35)))", -77.0, 0.1 * np.exp(1.68)),
        ("V * (2 * exp(2 * V / 25) - 3) / (exp(2 * V / 25) - 1)", 0.0, -12.5),
        ("(exp(V / 25) - 2) * (4 * V) / (7 * (1 - exp(V / 25)))", 0.0, 100 / 7),
        ("(V - E) / (exp(k * (V - E)) - 1)", 3.0, 10.0),
        ("if(V == -20, 5, (V + 20) / (exp((V + 20) / 5) - 1))", -20.0, 5.0),
        ("if(abs(V + 20) < 1e-6, 5, (V + 20) / (exp((V + 20) / 5) - 1))", -20.0, 5.0),
        ("if(abs(V + 20) > 1e-6, (V + 20) / (exp((V + 20) / 5) - 1), 5)", -20.0, 5.0),
        ("(exp((V + 20) / 5) - 3) / (exp((V + 20) / 5) / 3 - 1)", -14.50693855665945, 3.0),
        ("(exp((V + 20) / 10) - exp(-(V + 20) / 10)) / (V + 20)", -20.0, 0.2),
    ],
)
def test_removable_singularities(tmp_path, formula, at, expected):
    path = write(tmp_path, SINGULAR.format(formula=formula))
    cell = read_cell_model(path, check=False)
    assert cell.report.found["singularities"] != "none"
    for dtype, tolerance in ((jnp.float32, 3e-4), (jnp.float64, 1e-6)):
        state = cell.State(dtype(0.1), dtype(3.0))
        current = jax.jit(lambda v, s=state, d=dtype: 1000 * cell.astype(d).currents(v, s)["I_x"])
        slope = jax.jit(jax.grad(current))
        for v in (at, at + 1e-4, at - 1e-4, at + 1.0, -150.0, 100.0):
            assert np.isfinite(current(dtype(v)))
            assert np.isfinite(slope(dtype(v)))
        assert float(current(dtype(at))) == pytest.approx(expected, rel=tolerance)
        close = (float(current(dtype(at + 1.0))) - float(current(dtype(at - 1.0)))) / 2
        assert float(slope(dtype(at))) == pytest.approx(close, rel=0.02, abs=1e-3)


def test_branches_that_are_not_taken_stay_finite(tmp_path):
    formula = "if(V < -50, 1 / (V - 20), if(V > 0, sqrt(V), exp(-3 * V)))"
    cell = read_cell_model(write(tmp_path, SINGULAR.format(formula=formula)), check=False)
    state = cell.State(jnp.float32(0.1), jnp.float32(3.0))
    slope = jax.jit(jax.grad(lambda v: cell.astype(jnp.float32)(v, state)[0]))
    assert all(np.isfinite(slope(jnp.float32(v))) for v in (-60.0, 20.0, 60.0, -10.0))


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "x", r"suffix '.txt' is none of a cell model; expected .cellml"),
        ("a.cellml", "  \n", "the file is empty"),
        ("a.cellml", "hello", "not XML"),
        ("a.cellml", "<html><body/></html>", "namespace of CellML"),
        ("a.cellml", "<model", "cannot be read as a cell model"),
        ("a.cellml", '<!DOCTYPE m [<!ENTITY x "y">]><model/>', "declares entities"),
        ("a.mmt", "nothing", "cannot be read as a cell model"),
        ("a.ode", "parameters(a=", "cannot be read as a cell model"),
    ],
)
def test_files_that_are_no_models(tmp_path, file, text, message):
    with pytest.raises(ValueError, match=message):
        read_cell_model(write(tmp_path, text, file))


CELLML = """<?xml version="1.0"?>
<model name="tiny" xmlns="http://www.cellml.org/cellml/{version}#"
    xmlns:cellml="http://www.cellml.org/cellml/{version}#">
  <units name="ms"><unit units="second" prefix="milli"/></units>
  <units name="mV"><unit units="volt" prefix="milli"/></units>
  <component name="membrane">
    <variable name="time" units="{time}"/>
    <variable name="V" units="{unit}" initial_value="-80"/>
    <variable name="k" units="dimensionless" initial_value="0.1"/>
    <math xmlns="http://www.w3.org/1998/Math/MathML">
      <apply><eq/><apply><diff/><bvar><ci>time</ci></bvar><ci>V</ci></apply>
        {right}
      </apply>
    </math>
  </component>
</model>
"""
RIGHT = "<apply><times/><ci>k</ci><apply><minus/><ci>V</ci></apply></apply>"


def tiny(folder, **changes):
    text = {"version": "1.0", "time": "ms", "unit": "mV", "right": RIGHT, **changes}
    return write(folder, CELLML.format(**text), "tiny.cellml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "metre"}, r"the potential membrane.V is in \[m\]; expected .* converts to mV"),
        ({"time": "mV"}, r"time membrane.time is in \[mV\]; expected .* converts to ms"),
        ({"unit": "furlong"}, "units that the file defines"),
        ({"right": "<apply><csymbol definitionURL='delay'/><ci>V</ci></apply>"}, "delay equations"),
        (
            {"right": "<apply><times/><ci>k</ci><ci>time</ci></apply>"},
            r"rate of membrane.V comes out in \[ms\]",
        ),
    ],
)
def test_cellml_files_that_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read_cell_model(tiny(tmp_path, **changes))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_versions_of_cellml_and_no_stimulus(tmp_path, version):
    cell = read_cell_model(tiny(tmp_path, version=version), check=False)
    assert cell.report.found["stimulus"] == "none in the file"
    assert float(cell(-60.0, cell.State())[0]) == pytest.approx(-6.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dot(Ca_i) = (-1e-5 * ina.i_Na", "dot(Ca_i) = (-1e-5 * ina.i_Na * sin(engine.time)",
         "rate of ca.Ca_i depends on time"),
        ("i_stim = engine.pace", "i_stim = engine.pace * (1 + ina.m)", "depends on time through"),
        ("leak.i_leak +", "leak.i_leak + ca.Ca_i +", "unit error in the rate of membrane.V"),
        ("/ C\n    in [mV]", "* C\n    in [mV]", "unit error: the rate of membrane.V"),
        ("(1 - exp(-(membrane.V / 1 + 40) / 10))", "(1 - exp(-(membrane.V / 1 + 43) / 10))",
         "divides by zero and is infinite"),
    ],
)  # fmt: skip
def test_models_that_are_refused(tmp_path, old, new, message):
    text = MMT.format(**PLAIN)
    assert old in text
    with pytest.raises(ValueError, match=message):
        read_cell_model(write(tmp_path, text.replace(old, new)), check=False)


def test_no_potential_and_two_of_them(tmp_path):
    text = MMT.format(**PLAIN)
    none = text.replace("membrane.V", "membrane.p").replace("dot(V)", "dot(p)")
    none = none.replace("in [mV]", "in [mM]").replace("50 [mV]", "50").replace("70 [mV]", "70")
    with pytest.raises(ValueError, match=r"no membrane potential.*\(path, potential"):
        read_cell_model(write(tmp_path, none), check=False)
    two = text.replace("membrane.V = -70", "membrane.V = -70\nmembrane.Vm = -70")
    two = two.replace("i_stim = engine", "dot(Vm) = -i_stim / C\n    in [mV]\ni_stim = engine")
    with pytest.raises(ValueError, match="2 candidates for the membrane potential"):
        read_cell_model(write(tmp_path, two), check=False)
    cell = read_cell_model(write(tmp_path, two), potential="membrane.V", check=False)
    assert cell.State._fields == ("Vm", "m", "Ca_i")
    with pytest.raises(ValueError, match="names 0 of the state variables"):
        read_cell_model(write(tmp_path, two), potential="membrane.U", check=False)


def test_stimulus_that_cannot_be_told_apart(tmp_path):
    text = MMT.format(**PLAIN)
    text = text.replace("i_stim", "i_one").replace("+ i_one)", "+ i_one + i_two)")
    text = text.replace("amplitude = ", "i_two = 2 * engine.pace * amplitude\namplitude = ")
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"the stimulus cannot be found: membrane\.i_one, "):
        read_cell_model(path, check=False)


def test_failed_check_gives_the_figures(tmp_path, monkeypatch):
    from cardiotwin.ionic.imported import checking

    monkeypatch.setattr(checking, "L2", 0.0)
    with pytest.raises(ValueError, match=r"failed its check.*L2 error of V .* \(at most 0"):
        read_cell_model(small(tmp_path), cache=False)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "myokit", None)
    with pytest.raises(ImportError, match=r"needs myokit.*pip install 'cardiotwin\[cellml\]'"):
        read_cell_model(small(tmp_path), cache=False, check=False)


# --- using one --------------------------------------------------------------------------------


def test_checked_model_runs_and_takes_parameters(tmp_path):
    path = small(tmp_path)
    cell = read_cell_model(path, g_L=0.2)
    assert cell.g_L == 0.2
    assert cell.report.check["relative L2 error of V"] < 0.01
    t, v = single_cell(cell, cycle_length=20.0, every=0.1)
    assert t.shape == v.shape
    assert v.max() > 0.0
    ready = cell.astype(jnp.float32)
    v32, state = cell.initial_arrays(7, dtype=jnp.float32)
    v32, state = jax.jit(rush_larsen)(ready, v32, state, 0.05)
    assert v32.shape == state.m.shape == (7,)
    assert v32.dtype == jnp.float32
    assert np.all(np.isfinite(pace(cell, beats=1, cycle_length=20.0)[0]))
    with pytest.raises(ValueError, match="no parameter 'g_K'; it has C, g_Na, g_L"):
        read_cell_model(path, g_K=1.0)
    text = describe_cell_model(path)
    assert "conductance of I_Na" in text
    assert "its error (ms)" in text or "relative L2" in text


def test_example_of_the_documentation(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parent.parent / "docs/models/import.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```ini\n(.*?)```", page, re.S)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    write(tmp_path, text, "small.mmt")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code, found)
    printed = capsys.readouterr().out
    for expected in re.findall(r"# ([({].*)", code):
        assert expected in printed
    assert found["half"].g_Na == 2.0
    assert found["potentials"].shape == found["times"].shape


def test_normalised_potential_takes_a_scale(tmp_path):
    text = """[[model]]
main.u = 0
main.w = 0

[engine]
time = 0 in [ms] bind time

[main]
dot(u) = 2 * u * (u - 0.1) * (1 - u) - w
dot(w) = 0.01 * (u - w)
"""
    path = write(tmp_path, text)
    cell = read_cell_model(path, check=False)
    assert cell.initial()[0] == -84.0
    other = read_cell_model(path, scale=(100.0, -80.0), check=False)
    assert other.initial()[0] == -80.0
    assert float(other(-30.0, other.State(w=0.0))[0]) == pytest.approx(-100 * 2 * 0.5 * 0.4 * 0.5)


def test_cells_of_a_heart_may_come_from_a_file(tmp_path):
    from cardiotwin.twin import Cells

    path = small(tmp_path)
    cells = Cells(model=path, parameters={"g_Na": 10.0})
    assert cells.reference().g_Na == 10.0
    assert type(cells.reference()) is cell_model_class(path)
    with pytest.raises(ValueError, match="has no parameter 'g_K'"):
        Cells(model=path, parameters={"g_K": 10.0})
    with pytest.raises(ValueError, match=r"did you mean 'bueno_orovio'\?"):
        Cells(model="bueno_orovoi")


def test_cache_serves_and_survives_corruption(tmp_path, own_cache, monkeypatch):
    path = small(tmp_path, "cached.mmt", calcium="2.5e-4")  # of no other test
    first = read_cell_model(path, check=False)
    (kept,) = [
        p for p in (own_cache / "cells").glob("*.json")
        if any(row[2] == 2.5e-4 for row in json.loads(p.read_text())["states"])
    ]  # fmt: skip
    monkeypatch.setattr(importer, "_classes", {})
    monkeypatch.setattr(importer, "read", None)  # not needed any more
    again = read_cell_model(path, check=False)
    assert type(again).__name__ == type(first).__name__
    assert again.report == first.report
    state = first.State(m=0.3, Ca_i=1e-4)
    assert float(again(-33.0, again.State(*state))[0]) == float(first(-33.0, state)[0])
    monkeypatch.undo()
    monkeypatch.setenv("CARDIOTWIN_CACHE", str(own_cache))
    for broken in (
        "{",
        '{"states": 3}',
        json.dumps(json.loads(kept.read_text()) | {"formulas": {}}),
    ):
        kept.write_text(broken)
        monkeypatch.setattr(importer, "_classes", {})
        with pytest.warns(UserWarning, match="cannot be understood"):
            read_cell_model(path, check=False)
        assert json.loads(kept.read_text())["states"]  # written anew
    assert not list((own_cache / "cells").glob("*.part"))


def test_formulas_survive_being_written():
    node = make("if", make("lt", name("V"), number(-0.0)), number(0.1), make("exp", name("V")))
    assert from_rows(json.loads(json.dumps(to_rows({"a": node, "b": number(2)}))))["a"] is node
