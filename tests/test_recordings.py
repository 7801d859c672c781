"""Recordings: their files, their flaws, their filters, and the command that studies them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ecgs import recording as make

from cardiotwin.cli import main
from cardiotwin.ecg import (
    BANDS,
    LEAD_NAMES,
    ECGFilter,
    Recording,
    check_recording,
    measurements,
    median_beat,
    read_recording,
    require_sound,
    vectorcardiogram,
)
from cardiotwin.ecg.recordings import FRANK_LEADS
from cardiotwin.results.tables import write_ecg_csv

RATE = 500.0  # of the recordings made here, samples a second


@pytest.fixture(scope="module")
def sound() -> Recording:
    t_ms, ecg = make(beats=8, rr=800.0)
    one, two = ecg[:, 0], ecg[:, 1]
    limbs = [two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    ecg[:, 2:6] = np.stack(limbs, axis=1)
    return Recording(t_ms, ecg, LEAD_NAMES)


def kinds(recording: Recording) -> set[str]:
    return {flaw.kind for flaw in check_recording(recording)}


def column(name: str) -> int:
    return LEAD_NAMES.index(name)


# --- filters -----------------------------------------------------------------------------------


def tone(frequency: float, seconds: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    t_ms = np.arange(0.0, 1000.0 * seconds, 2.0)
    return t_ms, np.sin(2 * np.pi * frequency * t_ms / 1000.0)[:, None]


@pytest.mark.parametrize(
    ("frequency", "filter_", "gain"),
    [
        (0.1, ECGFilter(), 0.2**4 / (1 + 0.2**4)),
        (0.5, ECGFilter(), 0.5),
        (10.0, ECGFilter(), 1.0),
        (40.0, ECGFilter(low_pass=40.0), 0.5),
        (150.0, ECGFilter(), 0.5),
        (50.0, ECGFilter(mains=50.0), 0.0),
        (60.0, ECGFilter(mains=60.0), 0.0),
        (10.0, ECGFilter(mains=50.0), 1.0),
    ],
)
def test_gain_and_phase_of_a_tone(frequency, filter_, gain):
    t_ms, signal = tone(frequency, 40.0)
    middle = slice(len(t_ms) // 4, -len(t_ms) // 4)
    passed = filter_(t_ms, signal)[middle, 0]
    # least squares for the part in phase and the part out of phase
    phase = 2 * np.pi * frequency * t_ms[middle] / 1000.0
    basis = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    in_phase, out_of_phase = np.linalg.lstsq(basis, passed, rcond=None)[0]
    assert in_phase == pytest.approx(gain, abs=5e-3)
    assert abs(out_of_phase) < 5e-3


def test_filter_agrees_with_butterworth_forward_and_backward(sound):
    from scipy.signal import butter, sosfiltfilt

    band = 0.5, 40.0  # well below half the sampling rate, where the digital filter is bent
    expected = sosfiltfilt(butter(2, band, "bandpass", fs=RATE, output="sos"), sound.ecg, axis=0)
    found = ECGFilter(*band)(sound.t_ms, sound.ecg)
    inside = slice(1000, -1000)
    assert np.abs(found - expected)[inside].max() < 0.01 * np.ptp(expected)


def test_filter_of_lines_and_bands(sound):
    t_ms = np.arange(0.0, 3000.0, 2.0)
    line = (0.2 + 1e-4 * t_ms)[:, None]
    assert np.abs(ECGFilter()(t_ms, line)).max() < 1e-12
    np.testing.assert_allclose(ECGFilter(None, 40.0)(t_ms, line), line, atol=1e-12)
    for band in BANDS.values():
        beat = median_beat(sound.t_ms, ECGFilter(*band)(sound.t_ms, sound.ecg))
        duration = measurements(beat.t_ms, beat.ecg)["qrs_duration_ms"]
        assert duration == pytest.approx(90.0, abs=16.0)


def test_a_single_beat_is_filtered_as_a_train_of_beats(sound):
    t_ms = np.arange(0.0, 700.0, 2.0)
    from ecgs import beat

    single = beat(t_ms, onset=150.0)
    filter_ = ECGFilter(0.5, 100.0)
    once = filter_(t_ms, single, period_ms=800.0)
    # the same beat, twenty times, and the filter of recordings
    pause = np.zeros((50, 12))
    train = np.concatenate([np.concatenate([single, pause])] * 20)
    many = filter_(np.arange(len(train)) * 2.0, train)
    np.testing.assert_allclose(once, many[4000 : 4000 + len(t_ms)], atol=2e-4)


def test_filter_in_jax_is_the_same_and_differentiable(sound):
    filter_ = ECGFilter(mains=50.0)
    short = sound.t_ms[:1000], sound.ecg[:1000]
    found = jax.jit(lambda ecg: filter_(short[0], ecg))(jnp.asarray(short[1]))
    np.testing.assert_allclose(found, filter_(*short), atol=1e-9)

    def energy(high):
        return jnp.sum(ECGFilter(high, 100.0)(short[0], jnp.asarray(short[1])) ** 2)

    slope, h = jax.grad(energy)(0.5), 1e-4
    difference = float(energy(0.5 + h) - energy(0.5 - h)) / (2 * h)
    assert float(slope) == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda t, x: ECGFilter(high_pass=-1.0), "high_pass is -1"),
        (lambda t, x: ECGFilter(50.0, 40.0), "below the low_pass"),
        (lambda t, x: ECGFilter()(t[:-1], x), "times of shape"),
        (lambda t, x: ECGFilter()(np.delete(t, 5), x[1:]), "equal steps"),
        (lambda t, x: ECGFilter()(t, np.where(x > 0.9, np.nan, x)), "not a number"),
        (lambda t, x: ECGFilter(mains=300.0)(t, x), "more than 600"),
        (lambda t, x: ECGFilter()(t, x, period_ms=100.0), "does not fit"),
    ],
)
def test_bad_filters_and_signals(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it(*tone(5.0, 2.0))


# --- flaws -------------------------------------------------------------------------------------


def test_a_sound_recording_has_no_flaw(sound):
    assert check_recording(sound) == []
    assert require_sound(sound) == []


def spoilt(recording: Recording, how: str) -> Recording:
    t_ms, ecg = recording.t_ms.copy(), recording.ecg.copy()
    if how == "missing leads":
        return Recording(t_ms, ecg[:, :9], LEAD_NAMES[:9])
    if how == "gap":
        ecg[300:340, column("V2")] = np.nan
    elif how == "gap in time":
        keep = (t_ms < 1000.0) | (t_ms > 1500.0)
        return Recording(t_ms[keep], ecg[keep], LEAD_NAMES)
    elif how == "held":
        ecg[1000:1100] = ecg[1000]
    elif how == "sampling rate":
        t_ms = t_ms / 1000.0  # seconds
    elif how == "too slow":
        t_ms = t_ms * 6.0
    elif how == "flat lead":
        ecg[:, column("V5")] = 0.005 * np.sin(t_ms)
    elif how == "saturation":
        ecg[:, column("V3")] = np.clip(ecg[:, column("V3")], -0.4, 0.3)
    elif how == "unit":
        ecg = ecg * 1000.0
    elif how == "limb leads":
        ecg[:, column("III")] *= -1.0
    elif how == "arm leads swapped":
        i, ii, iii, r, left, _ = ecg[:, :6].T
        ecg[:, :5] = np.stack([-i, iii, ii, left, r], axis=1)
    elif how == "mains":
        ecg[:, column("V1")] += 0.1 * np.sin(2 * np.pi * 0.05 * t_ms)
    return Recording(t_ms, ecg, LEAD_NAMES)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("missing leads", "missing leads", "lacks V4, V5, V6"),
        ("gap", "gap", "V2 lacks 40 of"),
        ("gap in time", "gap", "first of 504 ms at 998 ms"),
        ("held", "gap", "no lead changes from 2000 ms for 200 ms"),
        ("sampling rate", "sampling rate", "500000 samples a second"),
        ("too slow", "sampling rate", "83.3333 samples"),
        ("flat lead", "flat lead", "V5 varies by less"),
        ("saturation", "saturation", "V3 stays at its extreme value"),
        ("unit", "unit", "unit='uV'"),
        ("limb leads", "limb leads", "zero by definition"),
        ("arm leads swapped", "arm leads swapped", "and aVR upright"),
        ("mains", "mains", "50 Hz with up to 0.10 mV in V1"),
    ],
)
def test_each_flaw_is_named(sound, how, kind, message):
    flaws = check_recording(spoilt(sound, how))
    assert {flaw.kind for flaw in flaws} == {kind}
    assert any(message in flaw.message for flaw in flaws)
    if any(flaw.fatal for flaw in flaws):
        with pytest.raises(ValueError, match=kind):
            require_sound(spoilt(sound, how))


def test_a_rate_that_no_heart_has(sound):
    # the header says 4000 samples a second for 500
    fast = Recording(sound.t_ms / 8.0, sound.ecg, LEAD_NAMES)
    t_ms = np.arange(0.0, 8 * fast.t_ms[-1], fast.t_ms[1])[: 4 * len(fast.ecg)]
    long = Recording(t_ms, np.tile(fast.ecg, (4, 1))[: len(t_ms)], LEAD_NAMES)
    assert "sampling rate" in kinds(long)


@pytest.mark.parametrize(("factor", "way"), [(0.5, "short"), (2.0, "long")])
def test_a_rate_that_is_wrong_by_two(sound, factor, way):
    wrong = Recording(sound.t_ms * factor, sound.ecg, LEAD_NAMES)
    (flaw,) = [f for f in check_recording(wrong) if f.kind == "sampling rate"]
    assert not flaw.fatal  # a heart may have it
    assert f"very {way}" in flaw.message
    assert "sampling rate" not in kinds(sound)


# --- files -------------------------------------------------------------------------------------


def test_limb_leads_follow_from_two(tmp_path, sound):
    path = tmp_path / "two.csv"
    write_ecg_csv(path, sound.t_ms, sound.ecg[:, [0, 1, 6]], ["I", "II", "V1"])
    read = read_recording(path)
    assert read.names == (*LEAD_NAMES[:6], "V1")
    expected = np.stack([sound.ecg[:, k] for k in range(7)], axis=1)
    np.testing.assert_allclose(read.ecg, expected, atol=1e-6)
    np.testing.assert_allclose(read.ecg[:, 0] + read.ecg[:, 2], read.ecg[:, 1], atol=1e-12)


def test_units_empty_cells_and_unknown_files(tmp_path, sound):
    path = tmp_path / "ecg.csv"
    path.write_text("t,I,II\n0,1000,\n2,2000,500\n4,0,0\n")
    read = read_recording(path, unit="uV")
    np.testing.assert_allclose(read.ecg[:, 0], [1.0, 2.0, 0.0])
    assert np.isnan(read.ecg[0, 1])
    with pytest.raises(ValueError, match="unknown units furlong"):
        read_recording(path, unit="furlong")
    with pytest.raises(ValueError, match=r"there is no such recording \(none.hea"):
        read_recording(tmp_path / "none")
    with pytest.raises(ValueError, match="muse2wfdb"):
        read_recording(tmp_path / "muse.xml")


def test_dicom(tmp_path):
    pytest.importorskip("pydicom")
    (tmp_path / "bad.dcm").write_text("no DICOM")
    with pytest.raises(ValueError, match="no DICOM file"):
        read_recording(tmp_path / "bad.dcm")
    from pydicom.data import get_testdata_file

    read = read_recording(str(get_testdata_file("waveform_ecg.dcm")))
    assert read.names == LEAD_NAMES
    assert read.ecg.shape == (10000, 12)
    assert read.t_ms[1] == 1.0
    assert 0.5 < np.ptp(read.ecg[:, 1]) < 3.0  # mV, of a file in uV
    assert check_recording(read) == []


# --- the command -------------------------------------------------------------------------------


def test_the_command_studies_and_compares(tmp_path, sound, capsys):
    recorded, simulated = tmp_path / "recorded.csv", tmp_path / "simulated.csv"
    write_ecg_csv(recorded, sound.t_ms, sound.ecg, LEAD_NAMES)
    from ecgs import beat

    t_ms = np.arange(0.0, 500.0)
    write_ecg_csv(simulated, t_ms, beat(t_ms), LEAD_NAMES)
    out = tmp_path / "out"
    words = ["ecg", str(simulated), "--rr", "800", "--compare", str(recorded), "-o", str(out)]
    assert main(words) == 0
    assert "criteria of bundle branch block met: none" in capsys.readouterr().out
    found = json.loads((out / "measurements.json").read_text())
    assert found["qrs_duration_ms"] == pytest.approx(90.0, abs=8.0)
    assert found["heart_rate_bpm"] == 75.0
    assert min(found["correlation"].values()) > 0.9
    written = {path.name for path in out.iterdir()}
    assert written == {"measurements.json", "beat.csv", "sheet.png", "compared.png", "vcg.png"}


def test_the_command_refuses_what_is_wrong(tmp_path, sound, capsys):
    path = tmp_path / "bad.csv"
    spoiled = spoilt(sound, "saturation")
    write_ecg_csv(path, spoiled.t_ms, spoiled.ecg, LEAD_NAMES)
    assert main(["ecg", str(path), "-o", str(tmp_path / "out")]) == 2
    assert "saturation: V3 stays" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    words = ["ecg", str(path), "-o", str(tmp_path / "out"), "--without", "V3", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [flaw["kind"] for flaw in found["flaws"]] == ["missing leads"]
    assert "V3" in found["not_measured"]["qrs_area_uvs"]
    assert main(["ecg", str(path), "--without", "V9"]) == 2
    chest = tmp_path / "chest.csv"
    write_ecg_csv(chest, sound.t_ms, sound.ecg[:, 6:], LEAD_NAMES[6:])
    limbs = tmp_path / "limbs.csv"
    write_ecg_csv(limbs, sound.t_ms, sound.ecg[:, :6], LEAD_NAMES[:6])
    words = ["ecg", str(chest), "--compare", str(limbs), "-o", str(tmp_path / "two")]
    assert main(words) == 2
    assert "no lead in common" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


# --- real recordings ---------------------------------------------------------------------------


@pytest.mark.realdata
def test_flaws_of_real_recordings(data):
    paths = sorted(data.glob("ecg-*/*.hea"))
    assert len(paths) > 10
    for path in paths:
        recorded = read_recording(path)
        flaws = require_sound(recorded)
        # recordings of PTB-XL end with a held value
        assert {flaw.kind for flaw in flaws} <= {"gap"}, path.name
        if path.name == "s0010_re.hea":  # a large lateral infarct: I and V5 differ anyway
            continue
        swapped = spoilt(recorded, "arm leads swapped")
        assert "arm leads swapped" in kinds(swapped), path.name


@pytest.mark.realdata
def test_vectorcardiogram_against_frank_leads(data):
    path = data / "ecg-ptb-s0010" / "s0010_re"
    twelve, frank = read_recording(path), read_recording(path, leads=FRANK_LEADS)
    filter_ = ECGFilter()
    loop = vectorcardiogram(filter_(twelve.t_ms, twelve.ecg), LEAD_NAMES)
    measured = filter_(frank.t_ms, frank.ecg)
    alike = [np.corrcoef(loop[:, k], measured[:, k])[0, 1] for k in range(3)]
    assert alike[0] > 0.95
    assert alike[1] > 0.95
    assert alike[2] > 0.7
