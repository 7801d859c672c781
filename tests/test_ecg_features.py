"""Bundle branch block, vectorcardiogram, and the measurements in their differentiable form."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ecgs import beat, bump

from cardiotwin.ecg import (
    LEAD_NAMES,
    ECGFilter,
    measurements,
    median_beat,
    read_recording,
    soft_measurements,
    vectorcardiogram,
)
from cardiotwin.ecg.bundle_branch import has_notch
from cardiotwin.ecg.delineation import on_grid
from cardiotwin.ecg.signals import r_peaks
from cardiotwin.ecg.vcg import VCG_MATRICES, VCG_SOURCES, loop_area
from cardiotwin.results.vcg_figures import vcg_loops

T = np.arange(0.0, 700.0)


def column(name: str) -> int:
    return LEAD_NAMES.index(name)


# --- bundle branch block -----------------------------------------------------------------------


def left_block(duration: float, notched: bool = True) -> np.ndarray:
    """QS in V1 and V2, a broad R in I, aVL, V5 and V6, with two peaks or one."""
    ecg = np.zeros((len(T), 12))
    if notched:
        wave = bump(T, 100, 100 + 0.62 * duration) + bump(T, 100 + 0.38 * duration, 100 + duration)
    else:
        wave = bump(T, 100, 100 + duration)
    for name, size in {"I": 1.0, "aVL": 0.8, "V5": 1.2, "V6": 1.0, "II": 0.4}.items():
        ecg[:, column(name)] = size * wave
    for name in ("V1", "V2", "V3", "aVR"):
        ecg[:, column(name)] = -wave
    return ecg + 0.2 * bump(T, 350, 560)[:, None]


def right_block(duration: float) -> np.ndarray:
    """The pattern rSR' in V1, a wide S in I and V6."""
    ecg = np.zeros((len(T), 12))
    third = duration / 3.0
    first = bump(T, 100, 100 + third)
    second = bump(T, 100 + 0.7 * third, 100 + 1.8 * third)
    last = bump(T, 100 + 1.6 * third, 100 + duration)
    ecg[:, column("V1")] = ecg[:, column("V2")] = 0.3 * first - 0.5 * second + 0.9 * last
    for name in ("I", "V5", "V6", "II", "aVL"):
        ecg[:, column(name)] = first - 0.4 * last
    return ecg + 0.2 * bump(T, 350, 560)[:, None]


@pytest.mark.parametrize(
    ("ecg", "sex", "left", "right"),
    [
        (left_block(160.0), "male", True, False),
        (left_block(160.0, notched=False), "male", False, False),
        (left_block(136.0), "male", False, False),
        (left_block(136.0), "female", True, False),
        (left_block(136.0), None, False, False),
        (right_block(150.0), None, False, True),
        (right_block(100.0), None, False, False),
    ],
)
def test_bundle_branch_block(ecg, sex, left, right):
    found = measurements(T, ecg, sex=sex)["bundle_branch_block"]
    assert found["lbbb"]["met"] is left
    assert found["rbbb"]["met"] is right


def test_bundle_branch_block_needs_its_leads_and_a_sex():
    found = measurements(T, left_block(160.0)[:, :8], LEAD_NAMES[:8])
    assert "V5, V6" in found["not_measured"]["bundle_branch_block"]
    with pytest.raises(ValueError, match="male, female or None"):
        measurements(T, left_block(160.0), sex="m")


def test_notch_slur_and_noise():
    times = np.arange(0.0, 151.0)
    plain = bump(times, 0, 150)
    assert not has_notch(times, plain)
    assert has_notch(times, plain - 0.5 * bump(times, 50, 100))
    assert has_notch(times, -plain + 0.5 * bump(times, 50, 100))
    assert not has_notch(times, plain - 0.5 * bump(times, 0, 40))  # too early
    slur = np.interp(times, [0, 50, 90, 120, 150], [0, 0.8, 0.9, 1.6, 0])
    assert has_notch(times, slur)
    noise = np.random.default_rng(3).normal(0.0, 0.01, len(times))
    assert not has_notch(times, plain + noise)


# --- vectorcardiogram --------------------------------------------------------------------------


@pytest.mark.parametrize("method", VCG_MATRICES)
def test_vectorcardiogram_is_the_same_linear_map_in_numpy_and_jax(method):
    ecg = beat(T)
    loop = vectorcardiogram(ecg, LEAD_NAMES, method)
    expected = np.zeros((len(T), 3))
    for k, name in enumerate(VCG_SOURCES):
        expected += ecg[:, [column(name)]] * np.array(VCG_MATRICES[method])[:, k]
    np.testing.assert_allclose(loop, expected, atol=1e-12)
    in_jax = vectorcardiogram(jnp.asarray(ecg), LEAD_NAMES, method)
    np.testing.assert_allclose(in_jax, loop, atol=1e-12)


def test_both_matrices_point_left_and_down_for_a_wave_to_the_left_leg():
    # II and I upright, V6 upright, V1 negative: to the left, down
    ecg = np.zeros((1, 12))
    for name, size in {"I": 0.8, "II": 1.0, "V1": -0.8, "V5": 1.2, "V6": 1.0}.items():
        ecg[0, column(name)] = size
    for method in VCG_MATRICES:
        x, y, z = vectorcardiogram(ecg, LEAD_NAMES, method)[0]
        assert x > 0.3
        assert y > 0.3
        assert z > 0.2  # V1 negative: to the back


def test_loop_area_and_qrs_area():
    loop = np.zeros((101, 3))
    loop[:, 1] = 2.0
    np.testing.assert_allclose(loop_area(np.arange(101.0), loop), [0.0, 200.0, 0.0])
    ecg = beat(T, onset=100.0)
    found = measurements(T, ecg)["qrs_area_uvs"]
    inside = (T >= 100) & (T <= 190)
    expected = np.linalg.norm(vectorcardiogram(ecg, LEAD_NAMES)[inside].sum(axis=0))
    assert found == pytest.approx(expected, rel=0.02)


def test_bad_vectorcardiograms(tmp_path):
    with pytest.raises(ValueError, match="kors or dower"):
        vectorcardiogram(beat(T), LEAD_NAMES, "frank")
    with pytest.raises(ValueError, match="lacks V6"):
        vectorcardiogram(beat(T)[:, :11], LEAD_NAMES[:11])
    loop = vectorcardiogram(beat(T), LEAD_NAMES)
    with pytest.raises(ValueError, match="fewer than three samples"):
        vcg_loops(tmp_path / "a.png", T, loop, qrs=(900.0, 990.0))
    with pytest.raises(ValueError, match="expected \\(700, 3\\)"):
        vcg_loops(tmp_path / "a.png", T, loop[:5], qrs=(0.0, 90.0))
    path = vcg_loops(tmp_path / "a.png", T, loop, qrs=(0.0, 90.0), t_wave=(230.0, 390.0))
    assert path.stat().st_size > 10_000


# --- differentiable forms ----------------------------------------------------------------------

SOFT = (
    ("qrs_onset_ms", 2.0),
    ("qrs_duration_ms", 4.0),
    ("qrs_area_uvs", 0.5),
    ("qrs_axis_deg", 2.0),
    ("t_peak_ms", 2.0),
    ("t_end_ms", 3.0),
    ("qt_ms", 4.0),
    ("tpeak_tend_ms", 3.0),
    ("qtc_bazett_ms", 5.0),
    ("qtc_fridericia_ms", 5.0),
    ("heart_rate_bpm", 1e-9),
)


@pytest.fixture(scope="module")
def soft():
    return jax.jit(lambda ecg, rr: soft_measurements(ecg, rr_ms=rr))


@pytest.mark.parametrize("onset", [0.0, 120.0])
def test_soft_measurements_are_near_the_exact_ones(soft, onset):
    ecg = beat(T, onset=onset)
    exact, found = measurements(T, ecg, rr_ms=900.0), soft(jnp.asarray(ecg), 900.0)
    for key, tolerance in SOFT:
        assert float(found[key]) == pytest.approx(exact[key], abs=tolerance), key
    for k, name in enumerate(LEAD_NAMES):
        assert float(found["r_mv"][k]) == pytest.approx(exact["leads"][name]["r_mv"], abs=0.02)
        assert float(found["s_mv"][k]) == pytest.approx(exact["leads"][name]["s_mv"], abs=0.03)
    share = list(exact["r_wave_progression"]["r_share"].values())
    np.testing.assert_allclose(found["r_share"], share, atol=0.02)


def test_a_late_second_r_belongs_to_the_qrs(soft):
    # 20 ms of rest after the QRS of 90 ms, then an R' of 50 ms in V1
    late = beat(T, onset=120.0)
    late[:, LEAD_NAMES.index("V1")] += 0.7 * bump(T, 230.0, 280.0)
    usual, found = measurements(T, beat(T, onset=120.0)), measurements(T, late)
    assert usual["qrs_duration_ms"] == pytest.approx(90.0, abs=8.0)
    assert found["qrs_duration_ms"] == pytest.approx(160.0, abs=8.0)
    assert found["bundle_branch_block"]["rbbb"]["late_r_in_v1_or_v2"]
    assert not usual["bundle_branch_block"]["rbbb"]["late_r_in_v1_or_v2"]
    both = (soft(jnp.asarray(late), 900.0)["qrs_duration_ms"], found["qrs_duration_ms"])
    assert float(both[0]) == pytest.approx(both[1], abs=3.0)


def test_times_of_a_flat_t_wave_count_for_nothing(soft):
    ecg = beat(T, onset=120.0)
    assert float(soft(jnp.asarray(ecg), 900.0)["t_confidence"]) > 0.9
    t_wave = (T >= 330.0)[:, None]
    assert float(soft(jnp.asarray(np.where(t_wave, 0.1 * ecg, ecg)), 900.0)["t_confidence"]) < 0.1


def test_soft_measurements_see_a_longer_qrs(soft):
    def lasting(duration):
        found = soft(jnp.asarray(left_block(duration)), 900.0)
        return {key: float(found[key]) for key in ("qrs_duration_ms", "qrs_energy_ms")}

    short, long = lasting(120.0), lasting(160.0)
    for key in short:
        assert long[key] - short[key] == pytest.approx(40.0, abs=8.0), key


def test_soft_scores_tell_the_blocks_apart(soft):
    left, right, none = (
        soft(jnp.asarray(ecg), 900.0)
        for ecg in (left_block(170.0), right_block(160.0), beat(T, onset=100.0))
    )
    assert float(left["lbbb_score"]) > 0.9 > 0.1 > float(left["rbbb_score"])
    assert float(right["rbbb_score"]) > 0.7 > 0.1 > float(right["lbbb_score"])
    assert max(float(none["lbbb_score"]), float(none["rbbb_score"])) < 0.1


KEYS = (
    "qrs_duration_ms",
    "qrs_energy_ms",
    "qrs_area_uvs",
    "qrs_axis_deg",
    "qt_ms",
    "tpeak_tend_ms",
)


def test_gradients_of_soft_measurements():
    ecg = jnp.asarray(beat(T, onset=100.0) + 0.02 * bump(T, 20, 90)[:, None])
    way = jnp.asarray(np.random.default_rng(5).normal(0.0, 1.0, (8, 12)))
    smooth = jnp.asarray(np.stack([np.cos(np.pi * k * T / T[-1]) for k in range(8)], axis=1))

    def moved(size):
        found = soft_measurements(ecg + size * smooth @ way, rr_ms=900.0)
        return jnp.stack([found[key] for key in KEYS])

    slope = jax.jit(jax.jacfwd(moved))(0.0)
    h, moved = 1e-6, jax.jit(moved)
    np.testing.assert_allclose(slope, (moved(h) - moved(-h)) / (2 * h), rtol=1e-4, atol=1e-4)
    back = jax.jit(jax.grad(lambda e: soft_measurements(e, rr_ms=900.0)["qrs_duration_ms"]))(ecg)
    np.testing.assert_allclose(jnp.sum(back * (smooth @ way)), slope[0], rtol=1e-6)


def test_gradients_lead_to_a_wanted_duration():
    """Stretching a beat in time by its gradient reaches the duration that was asked for."""
    ecg = jnp.asarray(beat(T, onset=100.0))

    def duration(stretch):
        times = 100.0 + (jnp.asarray(T) - 100.0) / stretch
        stretched = jax.vmap(lambda lead: jnp.interp(times, jnp.asarray(T), lead), 1, 1)(ecg)
        return soft_measurements(stretched, rr_ms=900.0)["qrs_duration_ms"]

    step = jax.jit(jax.value_and_grad(duration))
    stretch = 1.0
    for _ in range(5):
        value, slope = step(stretch)
        stretch += float((110.0 - value) / slope)
    assert float(step(stretch)[0]) == pytest.approx(110.0, abs=0.5)


def test_bad_soft_measurements():
    ecg = jnp.zeros((100, 12))
    with pytest.raises(ValueError, match="expected \\[times, leads\\]"):
        soft_measurements(ecg[:, :4])
    with pytest.raises(ValueError, match="lacks V6"):
        soft_measurements(ecg[:, :11], LEAD_NAMES[:11])
    with pytest.raises(ValueError, match="step_ms is 5"):
        soft_measurements(ecg, step_ms=5.0)


@pytest.mark.realdata
def test_waves_where_neurokit_finds_them(data):
    """The T wave of lead II and V5, and the end of the QRS; its onsets lie within the P wave."""
    neurokit = pytest.importorskip("neurokit2")
    apart = []
    for name in ("HR06002", "HR06004", "HR06006", "HR06008", "HR06009", "E07510"):
        recorded = read_recording(data / "ecg-cinc2021" / name)
        ecg = ECGFilter()(recorded.t_ms, recorded.ecg)
        single = median_beat(recorded.t_ms, ecg)
        exact = measurements(single.t_ms, single.ecg, rr_ms=single.rr_ms)
        peaks = np.round(r_peaks(recorded.t_ms, ecg) / 2.0).astype(int)
        found = []
        for lead in ("II", "V5"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                clean = neurokit.ecg_clean(recorded.ecg[:, column(lead)], sampling_rate=500)
                _, waves = neurokit.ecg_delineate(clean, peaks, sampling_rate=500, method="dwt")
            keys = "ECG_R_Offsets", "ECG_T_Peaks", "ECG_T_Offsets"
            found.append([2.0 * np.nanmedian(np.array(waves[k], float) - peaks) for k in keys])
        ours = [exact[key] for key in ("qrs_offset_ms", "t_peak_ms", "t_end_ms")]
        apart.append(np.array(ours) - np.mean(found, axis=0))
    offset, peak, end = np.median(np.abs(apart), axis=0)
    assert offset < 20.0
    assert peak < 12.0
    assert end < 30.0


@pytest.mark.realdata
def test_real_beats(data, soft):
    blocks = {}
    for path in sorted((data / "ecg-cinc2021").glob("*.hea")):
        recorded = read_recording(path)
        single = median_beat(recorded.t_ms, ECGFilter()(recorded.t_ms, recorded.ecg))
        times, ecg = on_grid(single.t_ms, single.ecg)
        # one shape for all, so that JAX compiles once
        times, ecg = (
            times[:450],
            ecg[:450]
            if len(ecg) > 450
            else np.pad(ecg, ((0, 450 - len(ecg)), (0, 0)), mode="edge"),
        )
        exact = measurements(times, ecg[: len(times)], rr_ms=single.rr_ms)
        found = soft(jnp.asarray(ecg), single.rr_ms)
        for key, tolerance in (
            ("qrs_duration_ms", 5.0),
            ("qrs_area_uvs", 1.0),
            ("qrs_axis_deg", 5),
        ):
            assert float(found[key]) == pytest.approx(exact[key], abs=tolerance), path.name
        met = exact["bundle_branch_block"]
        blocks[path.stem] = met["lbbb"]["met"], met["rbbb"]["met"]
    assert {name for name, met in blocks.items() if any(met)} == {"E07510"}
    assert blocks["E07510"] == (False, True)
