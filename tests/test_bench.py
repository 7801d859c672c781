"""The single-cell bench: biomarkers, limit cycle, restitution, drugs, populations, the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from cardiotwin.cli import main
from cardiotwin.ionic import (
    BuenoOrovio,
    MitchellSchaeffer,
    OHaraRudyCiPA,
    TenTusscherPanfilov2006,
    TenTusscherRestitution,
)
from cardiotwin.ionic.biomarkers import MEASURES, biomarkers
from cardiotwin.ionic.drugs import (
    DRUGS,
    Binding,
    Drug,
    PoreBlock,
    net_charge,
    remaining,
    replaced,
    with_drug,
)
from cardiotwin.ionic.pacing import Recording, pace, record, steady_state
from cardiotwin.ionic.population import measured_ranges, population, screen
from cardiotwin.ionic.protocols import (
    diastolic_threshold,
    refractory_period,
    s1s1_restitution,
    s1s2_restitution,
    steepest_slope,
)
from cardiotwin.propagation.restitution import velocity_restitution
from cardiotwin.run.cell import CellStudy, read_ranges
from cardiotwin.twin import Cells

EPI = BuenoOrovio.epi()
COARSE = {"dt": 0.05}


def recorded(t, v, calcium=None):
    """A recording of given traces [times, cells]."""
    rise = np.max(np.diff(v, axis=0) / np.diff(t)[:, None], axis=0)
    return Recording(t, v, calcium, {}, rise, (v[-1], ()))


# --- biomarkers -------------------------------------------------------------------------------


def test_biomarkers_of_known_shapes():
    t = np.arange(0.0, 500.0, 0.25)
    plain = np.interp(t, [0, 10, 11, 211, 311, 500], [-80, -80, 20, 20, -80, -80])
    # 60 mV down, 10 mV up again during repolarisation
    ead = np.interp(t, [0, 10, 11, 150, 200, 220, 300, 500], [-80, -80, 20, 10, -40, -30, -80, -80])
    failed = np.interp(t, [0, 10, 11, 500], [-80, -80, 20, -20])
    silent = np.interp(t, [0, 10, 11, 500], [-80, -80, -60, -80])
    calcium = np.interp(t, [0, 20, 50, 250, 500], [1e-4, 1e-4, 6e-4, 1e-4, 1e-4])
    v = np.stack([plain, ead, failed, silent], axis=1)
    found = biomarkers(recorded(t, v, np.repeat(calcium[:, None], 4, axis=1)))
    assert set(found) == set(MEASURES)
    np.testing.assert_allclose(found["apd90"][:2], [301 - 10.5, 284 - 10.5], atol=0.5)
    np.testing.assert_allclose(found["apd50"][0], 261 - 10.5, atol=0.5)
    np.testing.assert_allclose(found["triangulation"][0], 60.0, atol=0.5)
    assert np.isnan(found["apd90"][2])
    assert found["apd30"][2] == pytest.approx(11 + 30 / 40 * 489 - 10.5, abs=1)
    np.testing.assert_allclose(found["ead"][:3], [0, 10, 0], atol=0.2)
    assert np.isnan([found[name][3] for name in ("apd90", "amplitude", "upstroke", "ead")]).all()
    np.testing.assert_allclose(found["peak"], [20, 20, 20, -60], atol=0.1)
    np.testing.assert_allclose(found["upstroke"][0], 100, rtol=1e-6)
    np.testing.assert_allclose(found["calcium_amplitude"][0], 500.0)
    np.testing.assert_allclose(found["calcium_time_to_peak"][0], 39.5, atol=0.5)
    np.testing.assert_allclose(found["ctd50"][0], 150 - 10.5, atol=0.5)
    np.testing.assert_allclose(found["ctd80"][0], 210 - 10.5, atol=0.5)
    with pytest.raises(ValueError, match="2 samples"):
        biomarkers(recorded(t[:2], v[:2]))


def test_biomarkers_do_not_depend_on_the_sampling():
    fine, coarse = (
        biomarkers(record(EPI, cycle_length=480.0, every=every)) for every in (0.02, 0.5)
    )
    for name in fine:
        assert float(coarse[name]) == pytest.approx(float(fine[name]), abs=0.6), name


# --- pacing -----------------------------------------------------------------------------------


def test_cells_have_cycle_lengths_of_their_own():
    cycles = np.array([300.0, 450.0, 700.0])
    v, state = pace(EPI, cycle_length=cycles, beats=2, **COARSE)
    for k, cycle in enumerate(cycles):
        one, alone = pace(EPI, cycle_length=float(cycle), beats=2, **COARSE)
        np.testing.assert_allclose(v[k], one, rtol=1e-10)
        np.testing.assert_allclose([x[k] for x in state], alone, rtol=1e-10)


@pytest.mark.parametrize("threads", [1, 4])
def test_number_of_cells_need_not_divide(monkeypatch, threads):
    monkeypatch.setattr("cardiotwin.numerics.target.threads", lambda: threads)
    tau = np.linspace(1.5, 2.2, 5)
    found = record(BuenoOrovio.epi(tau_si=tau), cycle_length=300.0, every=1.0, currents=True)
    assert found.v.shape == found.currents["I_fi"].shape == (301, 5)
    assert found.upstroke.shape == found.final[0].shape == (5,)
    alone = record(BuenoOrovio.epi(tau_si=float(tau[4])), cycle_length=300.0, every=1.0)
    np.testing.assert_allclose(found.v[:, 4], alone.v, rtol=1e-9)


def test_steady_state_is_one_and_says_so():
    told = []
    cell = BuenoOrovio.epi(tau_w1_minus=200.0)
    found = steady_state(
        cell, cycle_length=400.0, tolerance=1e-4, chunk=4,
        on_beats=lambda *x: told.append(x), **COARSE,
    )  # fmt: skip
    assert found.converged
    assert found.change <= 1e-4
    assert told[-1] == (found.beats, found.change)
    v, state = pace(cell, cycle_length=400.0, initial=found.state, **COARSE)
    assert abs(float(v - found.state[0])) <= 1e-2  # of 100 mV
    np.testing.assert_allclose(state, found.state[1], atol=1e-4)
    given_up = steady_state(cell, cycle_length=400.0, tolerance=1e-30, most_beats=2, **COARSE)
    assert not given_up.converged
    assert given_up.beats == 2
    with pytest.raises(ValueError, match="tolerance is 0"):
        steady_state(cell, tolerance=0)


def test_pacing_refuses_what_is_no_train():
    with pytest.raises(ValueError, match="ends within the cycle"):
        pace(EPI, cycle_length=1.0, duration=1.0)
    with pytest.raises(ValueError, match="beats is 0"):
        pace(EPI, beats=0)


# --- restitution ------------------------------------------------------------------------------


def test_dynamic_restitution_is_pacing_at_each_cycle_length():
    found = s1s1_restitution(EPI, [600, 400, 260], beats=6, **COARSE)
    np.testing.assert_array_equal(found.cycle_length, [260, 400, 600])
    np.testing.assert_array_equal(found.follows, [False, True, True])
    at = pace(EPI, cycle_length=400.0, beats=5, **COARSE)
    beat = record(EPI, cycle_length=400.0, every=0.2, initial=at, **COARSE)
    assert found.apd90[1, 1] == pytest.approx(float(biomarkers(beat)["apd90"]), abs=1e-6)
    assert found.diastolic_interval[1] == pytest.approx(400 - found.apd90[0, 1])
    assert found.shortest_followed == 400
    assert np.isnan(found.alternans_onset)
    assert 0 < found.steepest < 1
    with pytest.raises(ValueError, match="two beats or more"):
        s1s1_restitution(EPI, [600], beats=1)
    with pytest.raises(ValueError, match="tau_si have one value"):
        s1s1_restitution(BuenoOrovio.epi(tau_si=np.ones(3)))


def test_standard_restitution_and_refractory_period_agree():
    threshold = diastolic_threshold(EPI, **COARSE)
    assert 15 < threshold < 40
    weak, strong = (
        record(EPI, cycle_length=60.0, amplitude=threshold * f, **COARSE).v.max()
        for f in (0.97, 1.01)
    )
    assert weak < -20 < 0 < strong
    period = refractory_period(EPI, amplitude=2 * threshold, beats=2, **COARSE)
    found = s1s2_restitution(
        EPI, [period, period + 1, 500], amplitude=2 * threshold, beats=2, **COARSE
    )
    np.testing.assert_array_equal(found.captured, [False, True, True])
    assert found.apd90[1] < found.apd90[2]
    assert found.steepest > 0
    with pytest.raises(ValueError, match="at most S1"):
        s1s2_restitution(EPI, [1200], s1=1000.0)
    with pytest.raises(ValueError, match="no stimulus"):
        diastolic_threshold(EPI, most=5.0, **COARSE)


@pytest.mark.slow
def test_restitution_sets_of_ten_tusscher_have_their_slopes():
    slopes = [
        s1s2_restitution(
            TenTusscherRestitution.with_slope(slope), np.arange(240.0, 500.0, 10.0), beats=4,
            amplitude=60.0, **COARSE,
        ).steepest
        for slope in (0.7, 1.1, 1.4, 1.8)
    ]  # fmt: skip
    # of a single cell and its last beat; the published ones are of a cable
    np.testing.assert_allclose(slopes, [0.7, 1.1, 1.4, 1.8], atol=0.2)
    assert np.all(np.diff(slopes) > 0.2)


def test_steepest_slope_passes_over_gaps():
    x, y = np.array([1.0, 2, np.nan, 4, 5]), np.array([1.0, 2, 0, 6, 6.5])
    assert steepest_slope(x, y) == 2.0
    assert np.isnan(steepest_slope(x[:1], y[:1]))


def test_velocity_falls_with_the_interval_until_it_fails():
    cell = MitchellSchaeffer()
    found = velocity_restitution(
        cell, [250, 330, 600], s1=600.0, beats=2, length=8.0, edge=0.4, diffusivity=0.3, dt=0.1
    )
    assert found.velocity[0] == 0
    assert 0.1 < found.velocity[1] < found.velocity[2] < 1.0
    np.testing.assert_array_equal(found.conducted, [False, True, True])
    with pytest.raises(ValueError, match="20 edges"):
        velocity_restitution(cell, [300], length=2.0)


# --- drugs ------------------------------------------------------------------------------------


def test_pore_block_is_the_hill_equation():
    assert remaining(PoreBlock(100.0, 1.0), 100.0) == 0.5
    assert remaining(PoreBlock(100.0, 2.0), 300.0) == pytest.approx(0.1)
    assert remaining(PoreBlock(100.0, 0.7), 0.0) == 1.0


def test_drug_scales_the_conductances_of_its_channels():
    cell = TenTusscherPanfilov2006.epi()
    drug = Drug("x", 10.0, {"I_Kr": PoreBlock(20.0, 1.0), "I_CaL": PoreBlock(10.0, 2.0)})
    under = with_drug(cell, drug, 2.0)
    assert under.g_Kr == pytest.approx(0.5 * cell.g_Kr)
    assert under.g_CaL == pytest.approx(0.2 * cell.g_CaL)
    assert under.g_Na == cell.g_Na
    assert with_drug(cell, drug, concentration=0.0).g_Kr == cell.g_Kr
    batch = with_drug(cell, drug, np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(batch.g_Kr / cell.g_Kr, [1, 2 / 3, 0.5])
    twice = with_drug(under, drug, 2.0)
    assert twice.g_Kr == pytest.approx(0.25 * cell.g_Kr)


def test_drugs_that_a_model_cannot_take_are_refused():
    cell = TenTusscherPanfilov2006.epi()
    with pytest.raises(ValueError, match=r"no drug 'aspirin'.*bepridil"):
        with_drug(cell, "aspirin")
    with pytest.raises(ValueError, match=r"blocks I_NaL, which Ten.*ignore=\('I_NaL',\)"):
        with_drug(cell, "verapamil")
    under = with_drug(cell, "Verapamil", ignore=("I_NaL",))
    assert under.g_CaL < 0.8 * cell.g_CaL
    with pytest.raises(ValueError, match="0 or more"):
        with_drug(cell, "verapamil", -1.0)
    with pytest.raises(ValueError, match="must be positive"):
        with_drug(cell, Drug("x", 1.0, {"I_Kr": PoreBlock(-1.0)}))
    with pytest.raises(ValueError, match="drug-bound states"):
        with_drug(cell, "dofetilide", dynamic=True, ignore=("I_NaL",))
    with pytest.raises(ValueError, match="no parameter g_X"):
        replaced(cell, {"g_X": 1.0})


def test_dynamic_binding_takes_the_place_of_the_pore_block():
    cell = OHaraRudyCiPA.endo()
    under = with_drug(cell, "dofetilide", 2.0)
    assert (under.D, under.K_max, under.V_half) == (4.0, 35.1, -1.0)
    assert under.G_Kr == cell.G_Kr
    assert under.P_Ca == pytest.approx(cell.P_Ca / (1 + (4.0 / 260.3) ** 1.163))
    static = with_drug(cell, "dofetilide", 2.0, dynamic=False)
    assert static.D == 0.0
    assert static.G_Kr == pytest.approx(cell.G_Kr / (1 + (4.0 / 6.125) ** 1.079))


def test_the_table_of_drugs_is_that_of_the_training_set():
    assert len(DRUGS) == 12
    assert sum(drug.risk == "high" for drug in DRUGS.values()) == 4
    assert sum(drug.risk == "low" for drug in DRUGS.values()) == 4
    for drug in DRUGS.values():
        assert "I_Kr" in drug.blocks
        assert isinstance(drug.binding, Binding)
        assert all(b.ic50 > 0 and b.hill > 0 for b in drug.blocks.values())
    assert DRUGS["dofetilide"].therapeutic == 2.0
    assert DRUGS["quinidine"].blocks["I_NaL"] == PoreBlock(9417.0, 1.337)


def test_net_charge_is_the_integral_of_six_currents():
    t = np.linspace(0.0, 100.0, 101)
    one = np.ones((101, 2))
    currents = dict.fromkeys(("I_NaL", "I_CaL", "I_Kr", "I_Ks", "I_K1", "I_to"), one)
    beat = Recording(t, one, None, currents | {"I_Na": 9 * one}, one[0], (one[-1], ()))
    np.testing.assert_allclose(net_charge(beat), 0.6)
    with pytest.raises(ValueError, match="lacks I_NaL"):
        net_charge(beat._replace(currents={k: v for k, v in currents.items() if k != "I_NaL"}))


# --- populations ------------------------------------------------------------------------------


def test_population_is_a_latin_hypercube_of_the_conductances():
    cell = TenTusscherPanfilov2006.epi()
    cells = population(cell, 40, channels={"I_Kr": (0.5, 1.5), "I_Ks": (0.0, 2.0)}, seed=3)
    assert len(cells) == 40
    for name, (low, high) in {"I_Kr": (0.5, 1.5), "I_Ks": (0.0, 2.0)}.items():
        strata = np.floor((cells.factors[name] - low) / (high - low) * 40)
        np.testing.assert_array_equal(np.sort(strata), np.arange(40))  # one in each
    np.testing.assert_allclose(cells.model.g_Kr, cell.g_Kr * cells.factors["I_Kr"])
    again = population(cell, 40, channels={"I_Kr": (0.5, 1.5), "I_Ks": (0.0, 2.0)}, seed=3)
    np.testing.assert_array_equal(cells.model.g_Ks, again.model.g_Ks)
    part = cells.subset(np.arange(40) < 7)
    assert len(part) == 7
    np.testing.assert_array_equal(part.model.g_Kr, cells.model.g_Kr[:7])
    assert part.model.g_Na == cell.g_Na
    with pytest.raises(ValueError, match=r"does not name the channels \['I_f'\]"):
        population(cell, 5, channels=["I_f"])
    with pytest.raises(ValueError, match=r"from -0\.5 to 0\.5"):
        population(cell, 5, channels={"I_Kr": (-0.5, 0.5)})
    with pytest.raises(ValueError, match="it names none"):
        population(MitchellSchaeffer(), 5)


def test_screening_keeps_the_cells_within_the_ranges():
    cells = population(TenTusscherPanfilov2006.epi(), 12, channels=["I_Kr", "I_CaL"], spread=0.9)
    found = screen(cells, {"apd90": (280.0, 320.0)}, beats=1, every=0.5, **COARSE)
    inside = (found.measures["apd90"] >= 280) & (found.measures["apd90"] <= 320)
    np.testing.assert_array_equal(found.kept, inside)
    assert 0 < len(found.accepted) < 12
    assert found.reasons["apd90"] == int((~inside).sum())
    # the accepted cells give the same beats again, alone
    beat = record(found.accepted.model, every=0.5, **COARSE)
    np.testing.assert_allclose(
        biomarkers(beat)["apd90"], found.measures["apd90"][inside], rtol=1e-6
    )
    with pytest.raises(ValueError, match="no biomarker 'apd95'"):
        screen(cells, {"apd95": (1, 2)})
    with pytest.raises(ValueError, match="ascending"):
        screen(cells, {"apd90": (2, 1)})


@pytest.mark.realdata
def test_ranges_of_measured_traces(data):
    ranges = read_ranges(data / "human-ap-traces" / "oliTraces.mat")
    low, high = ranges["apd90"]
    assert 180 < low < 300 < high < 450
    traces = loadmat(data / "human-ap-traces" / "oliTraces.mat")["tracesRealigned"]
    assert ranges["rest"] == (traces[0].min(), traces[0].max())
    assert set(ranges) <= set(MEASURES)


def test_measured_ranges_cover_the_middle_of_the_traces():
    t = np.arange(0.0, 400.0, 1.0)
    lengths = np.linspace(200, 300, 11)
    v = np.stack([np.interp(t, [5, 6, x, x + 1], [-80, 20, 20, -80]) for x in lengths], axis=1)
    low, high = measured_ranges(t, v, names=["apd50"])["apd50"]
    assert (low, high) == pytest.approx((195, 295), abs=1)
    low, high = measured_ranges(t, v, names=["apd50"], share=0.5)["apd50"]
    assert (low, high) == pytest.approx((220, 270), abs=1)
    with pytest.raises(ValueError, match="no calcium_peak"):
        measured_ranges(t, v, names=["calcium_peak"])
    with pytest.raises(ValueError, match="expected"):
        measured_ranges(t, v[:-1])


# --- the command ------------------------------------------------------------------------------


def test_command_writes_tables_and_pictures(tmp_path, capsys):
    folder = tmp_path / "out"
    words = [
        "cell",
        "bueno_orovio",
        "--type",
        "endo",
        "tau_si=2.5",
        "--pace",
        "--tolerance",
        "1e-3",
    ]
    words += ["--s1s1", "400,500", "--s1s2", "400,600", "--refractory", "--dt", "0.05"]
    assert main([*words, "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "apd90" in out
    assert "refractory period" in out
    for name in ("cell.json", "beat.csv", "beat.png", "state.json", "s1s1.csv", "restitution.png"):
        assert (folder / name).stat().st_size > 100, name
    found = json.loads((folder / "cell.json").read_text())
    assert found["parameters"] == {"tau_si": 2.5}
    assert found["pacing"]["converged"]
    assert found["s1s1"]["cycle_length"] == [400.0, 500.0]
    table = np.genfromtxt(folder / "beat.csv", delimiter=",", skip_header=1, names=True)
    assert table["time_ms"][-1] == 1000.0
    assert table["V_mV"].max() == pytest.approx(found["biomarkers"]["peak"], abs=1e-6)


def test_command_for_drugs_and_populations(tmp_path, capsys):
    folder = tmp_path / "out"
    words = ["cell", "ten_tusscher_2006", "--drug", "dofetilide", "--multiples", "0,4"]
    words += ["--ignore", "I_NaL", "--population", "6", "--spread", "0.2", "--dt", "0.05"]
    assert main([*words, "--output", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    apd = found["drug"]["apd90"]
    assert apd[1] > apd[0] + 5
    assert found["population"]["size"] == 6
    for name in ("drug.png", "drug.csv", "population.png", "population.csv"):
        assert (folder / name).stat().st_size > 100, name


def test_command_says_why_there_is_no_beat(tmp_path, capsys):
    words = ["cell", "bueno_orovio", "--dt", "0.05", "--output", str(tmp_path / "out")]
    assert main([*words, "--cycle-length", "150", "--beats", "2"]) == 0
    assert "shorter than the refractory period" in capsys.readouterr().out
    assert main([*words, "--cycle-length", "220"]) == 0
    assert "does not repolarise by 90 % within 220 ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ten_tusscher_2006", "g_Kr=-1"], "g_Kr is negative"),
        (["no_such_model"], "there is no model"),
        (["bueno_orovio", "g_Q=1"], "has no parameter 'g_Q'"),
        (["bueno_orovio", "tau_si"], "without a value"),
        (["bueno_orovio", "tau_si=fast"], "name=number"),
        (["bueno_orovio", "--s1s1", "400;500"], "give numbers such as"),
        (["bueno_orovio", "--drug", "dofetilide"], "which BuenoOrovio does not name"),
        (["bueno_orovio", "--beats", "0"], "give one beat or more"),
        (["bueno_orovio", "--cycle-length", "0.5"], "cycle"),
        (["bueno_orovio", "--population", "5", "--ranges", "none.txt"], "expected ranges as .json"),
    ],
)
def test_command_refuses_bad_input_before_any_work(words, message, tmp_path, capsys):
    assert main(["cell", *words, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_ranges_are_read_from_json_and_csv(tmp_path):
    file = tmp_path / "ranges.json"
    file.write_text('{"apd90": [200, 300]}')
    assert read_ranges(file) == {"apd90": (200.0, 300.0)}
    file.write_text('{"apd90": 200}')
    with pytest.raises(ValueError, match="two ends each"):
        read_ranges(file)
    t = np.arange(0.0, 400.0, 1.0)
    v = np.interp(t, [5, 6, 200, 300], [-80, 20, 20, -80])
    np.savetxt(tmp_path / "traces.csv", np.stack([t, v, v - 1], axis=1), delimiter=",")
    low, high = read_ranges(tmp_path / "traces.csv")["peak"]
    assert (low, high) == (19, 20)


def test_study_refuses_an_unknown_precision():
    with pytest.raises(ValueError, match="float16"):
        CellStudy(Cells("bueno_orovio"), precision="float16")


def test_documentation_shows_the_table_of_drugs():
    text = (Path(__file__).parents[1] / "docs" / "cell.md").read_text(encoding="utf-8")
    for drug in DRUGS.values():
        blocks = ", ".join(f"{k} {b.ic50:g} ({b.hill:g})" for k, b in drug.blocks.items())
        assert f"| {drug.name} | {drug.therapeutic:g} | {drug.risk} | {blocks} |" in text
