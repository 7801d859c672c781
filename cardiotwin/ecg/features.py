"""Measurements on one beat of a twelve-lead ECG: intervals, axis, waves, R-wave progression."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cardiotwin.ecg.bundle_branch import bundle_branch_block
from cardiotwin.ecg.delineation import NotMeasurable, Qrs, TWave, baseline, on_grid, qrs, t_wave
from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.ecg.vcg import VCG_SOURCES, loop_area, vectorcardiogram
from cardiotwin.units import MS_PER_MIN, MS_PER_S

# 2nd to 98th percentile of 46,129 healthy adults: Mason 2007,
# https://doi.org/10.1016/j.jelectrocard.2006.09.003
NORMAL_LIMITS = {
    "heart_rate_bpm": (48.0, 98.0),
    "qrs_duration_ms": (69.0, 109.0),
    "qrs_axis_deg": (-40.0, 91.0),
    "qt_ms": (325.0, 452.0),
    "qtc_bazett_ms": (361.0, 457.0),
    "qtc_fridericia_ms": (359.0, 445.0),
}

FLAT_T = 0.1  # of the greatest T amplitude over the leads: below it T is called flat
BIPHASIC_T = 0.35  # of a lead's greater T deflection: above it the lesser counts
LEAST_WAVE = 0.05  # of a lead's peak-to-peak QRS: below it a deflection is not a wave
LATEST_T = 0.72  # of the RR interval after the onset: later the next P wave may stand
CHEST_LEADS = tuple(f"V{k}" for k in range(1, 7))

Table = dict[str, tuple[Any, str]]  # key -> value, or None and the reason


def frontal_axis(
    t_ms: Float[np.ndarray, " times"],
    ecg: Float[np.ndarray, "times leads"],
    names: Sequence[str],
    start: float,
    end: float,
    baseline_before: float | None = None,
) -> float:
    """Electrical axis in the frontal plane from the net areas of I and aVF between two times.

    Args:
        t_ms: increasing times in ms.
        ecg: [times, leads] mV.
        names: of the leads; I and aVF must be there.
        start: of the wave in ms.
        end: of the wave in ms.
        baseline_before: the level just before this time is the baseline; by default before `start`.

    Returns:
        Degrees in (-180, 180]: 0 to the left, 90 down. aVF is scaled by 2 / sqrt(3), since an
        augmented lead shows that much less of the heart's vector than a bipolar one.

    Raises:
        NotMeasurable: where the two areas are nearly zero.
    """
    times, signal = on_grid(t_ms, ecg)
    level = start if baseline_before is None else baseline_before
    signal = signal - baseline(times, signal, level)
    wave = signal[(times >= start) & (times <= end)]
    one, foot = (wave[:, _column(names, name)] for name in ("I", "aVF"))
    left, down = float(one.sum()), float(foot.sum()) * 2.0 / np.sqrt(3.0)
    if np.hypot(left, down) <= 0.02 * (np.abs(one).sum() + np.abs(foot).sum()):
        raise NotMeasurable("the net areas of I and aVF are nearly zero")
    return float(np.rad2deg(np.arctan2(down, left)))


def corrected_qt(qt_ms: float, rr_ms: float) -> tuple[float, float]:
    """QT corrected for the heart rate after Bazett (square root) and Fridericia (cube root), ms."""
    rr = rr_ms / MS_PER_S
    return qt_ms / float(np.sqrt(rr)), qt_ms / float(np.cbrt(rr))


def measurements(
    t_ms: Float[np.ndarray, " times"],
    ecg: Float[np.ndarray, "times leads"],
    names: Sequence[str] = LEAD_NAMES,
    rr_ms: float | None = None,
    sex: str | None = None,
) -> dict[str, Any]:
    """Everything measured on one beat, ready for JSON.

    Args:
        t_ms: increasing times in ms, at most 4 ms apart.
        ecg: [times, leads] mV, one beat.
        names: of the leads.
        rr_ms: interval between beats in ms, for rate and corrected QT; unknown by default.
        sex: "male" or "female", for the criteria of left bundle branch block.

    Returns:
        Plain Python numbers under the keys `qrs_onset_ms`, `qrs_offset_ms`, `qrs_duration_ms`,
        `qrs_area_uvs` (of the vectorcardiogram after Kors), `qrs_axis_deg`, `t_axis_deg`,
        `t_peak_ms`, `t_end_ms`, `qt_ms`, `tpeak_tend_ms`, `rr_ms`, `heart_rate_bpm`,
        `qtc_bazett_ms`, `qtc_fridericia_ms`; `leads` (per lead `q_mv`, `r_mv`, `s_mv`, `st60_mv`,
        `t_mv`, `t_polarity`), `r_wave_progression` (`r_share`, `transition`, `pattern`),
        `bundle_branch_block` (as the function of that name returns it), `outside_normal` (keys of
        NORMAL_LIMITS whose value lies outside), and `not_measured`. What could not be measured is
        None, and its reason stands in `not_measured`.

    Raises:
        ValueError: for times, signals and names that do not fit each other.
    """
    names = tuple(names)
    times, signal = on_grid(t_ms, ecg)
    if signal.shape[1] != len(names):
        raise ValueError(
            f"measurements: got {signal.shape[1]} leads and {len(names)} names; expected one each."
        )
    found, no_qrs = _attempt(qrs, times, signal)
    latest = None if rr_ms is None or found is None else found.onset + LATEST_T * rr_ms
    wave, no_t = (None, no_qrs) if found is None else _attempt(t_wave, times, signal, found, latest)
    leads = _lead_waves(times, signal, names, found, wave)
    table = _depolarisation(times, signal, names, found, no_qrs)
    table |= _repolarisation(times, signal, names, found, wave, no_t)
    table |= _rates(table["qt_ms"], rr_ms)
    table["r_wave_progression"] = (None, no_qrs) if not leads else _attempt(_progression, leads)
    table["bundle_branch_block"] = (
        (None, no_qrs)
        if found is None
        else _attempt(bundle_branch_block, times, signal, names, found, leads, sex)
    )
    result: dict[str, Any] = {key: value for key, (value, _) in table.items()}
    return result | {
        "leads": leads,
        "outside_normal": [
            key
            for key, (low, high) in NORMAL_LIMITS.items()
            if result[key] is not None and not low <= result[key] <= high
        ],
        "not_measured": {key: why for key, (value, why) in table.items() if value is None},
    }


def _attempt(how: Callable, *arguments: Any) -> tuple[Any, str]:
    """What `how` measures and no reason, or None and the reason why not."""
    try:
        return how(*arguments), ""
    except NotMeasurable as reason:
        return None, str(reason)


def _depolarisation(times, signal, names, found: Qrs | None, no_qrs: str) -> Table:
    keys = ("qrs_onset_ms", "qrs_offset_ms", "qrs_duration_ms")
    if found is None:
        return dict.fromkeys((*keys, "qrs_area_uvs", "qrs_axis_deg"), (None, no_qrs))
    table: Table = {key: (value, "") for key, value in zip(keys, found, strict=True)}
    axis = _attempt(frontal_axis, times, signal, names, found.onset, found.offset)
    area = _attempt(_qrs_area, times, signal, names, found)
    return table | {"qrs_area_uvs": area, "qrs_axis_deg": axis}


def _qrs_area(times, signal, names, found: Qrs) -> float:
    missing = [name for name in VCG_SOURCES if name not in names]
    if missing:
        raise NotMeasurable(f"the leads lack {', '.join(missing)}")
    inside = (times >= found.onset) & (times <= found.offset)
    level = signal - baseline(times, signal, found.onset)
    loop = vectorcardiogram(level, names)[inside]
    return float(np.linalg.norm(loop_area(times[inside], loop)))


def _repolarisation(times, signal, names, found, wave: TWave | None, no_t: str) -> Table:
    keys = ("t_peak_ms", "t_end_ms", "qt_ms", "tpeak_tend_ms")
    if wave is None:
        return dict.fromkeys((*keys, "t_axis_deg"), (None, no_t))
    values = (*wave, wave.end - found.onset, wave.end - wave.peak)
    table: Table = {key: (value, "") for key, value in zip(keys, values, strict=True)}
    start = _t_start(found, wave)
    axis = _attempt(frontal_axis, times, signal, names, start, wave.end, found.onset)
    return table | {"t_axis_deg": axis}


def _rates(qt: tuple[Any, str], rr_ms: float | None) -> Table:
    corrected = ("qtc_bazett_ms", "qtc_fridericia_ms")
    if rr_ms is None:
        return dict.fromkeys(("rr_ms", "heart_rate_bpm", *corrected), (None, "RR is not known"))
    table: Table = {"rr_ms": (float(rr_ms), ""), "heart_rate_bpm": (MS_PER_MIN / float(rr_ms), "")}
    qt_ms, no_qt = qt
    if qt_ms is None:
        return table | dict.fromkeys(corrected, (None, no_qt))
    values = corrected_qt(qt_ms, rr_ms)
    return table | {key: (value, "") for key, value in zip(corrected, values, strict=True)}


def _t_start(found: Qrs, wave: TWave) -> float:
    """Begin of the T wave: as long before its peak as twice the descent takes."""
    return max(found.offset, wave.peak - 2.0 * (wave.end - wave.peak))


def _lead_waves(times, signal, names, found: Qrs | None, wave: TWave | None) -> dict[str, Any]:
    if found is None:
        return {}
    level = signal - baseline(times, signal, found.onset)
    inside = (times >= found.onset) & (times <= found.offset)
    st = int(min(np.searchsorted(times, found.offset + 60.0), len(times) - 1))
    leads: dict[str, Any] = {}
    for k, name in enumerate(names):
        q, r, s = _deflections(level[inside, k])
        leads[name] = {"q_mv": q, "r_mv": r, "s_mv": s, "st60_mv": float(level[st, k])}
    if wave is None:
        return {name: waves | {"t_mv": None, "t_polarity": None} for name, waves in leads.items()}
    section = level[(times >= _t_start(found, wave)) & (times <= wave.end)]
    high, low = section.max(axis=0), section.min(axis=0)
    flat = FLAT_T * np.maximum(high, -low).max()
    for k, name in enumerate(names):
        leads[name]["t_mv"] = float(high[k] if high[k] >= -low[k] else low[k])
        leads[name]["t_polarity"] = _polarity(float(high[k]), float(low[k]), float(flat))
    return leads


def _polarity(high: float, low: float, flat: float) -> str:
    greater, lesser = max(high, -low), min(high, -low)
    if greater < flat:
        return "flat"
    if lesser >= max(flat, BIPHASIC_T * greater):
        return "biphasic"
    return "upright" if high > -low else "inverted"


def _deflections(wave: np.ndarray) -> tuple[float, float, float]:
    """Q, R and S of a QRS in mV, none negative: S is the deepest point after R has begun.

    A complex without a positive wave (QS) has its depth as S.
    """
    least = LEAST_WAVE * np.ptp(wave)
    positive = np.flatnonzero(wave > least)
    if len(positive) == 0:
        return 0.0, 0.0, float(max(-wave.min(), 0.0))
    before, after = wave[: positive[0] + 1], wave[positive[0] :]
    q, s = -before.min(), -after.min()
    return float(q if q > least else 0.0), float(wave.max()), float(s if s > least else 0.0)


def _progression(leads: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in CHEST_LEADS if name not in leads]
    if missing:
        raise NotMeasurable(f"the leads lack {', '.join(missing)}")
    heights = [(leads[name]["r_mv"], leads[name]["s_mv"]) for name in CHEST_LEADS]
    if any(r + s <= 0.0 for r, s in heights):
        raise NotMeasurable("a chest lead is flat")
    share = [r / (r + s) for r, s in heights]
    transition = _transition(share)
    if transition is None:
        pattern = "none"
    else:
        pattern = "early" if transition < 2.0 else "normal" if transition <= 4.0 else "late"
    return {
        "r_share": dict(zip(CHEST_LEADS, share, strict=True)),
        "transition": transition,
        "pattern": pattern,
    }


def _transition(share: Sequence[float]) -> float | None:
    """Chest lead (1 to 6, interpolated) from which on R is greater than S."""
    if share[0] >= 0.5:
        return 1.0
    for k in range(5):
        if share[k] < 0.5 <= share[k + 1]:
            return k + 1 + (0.5 - share[k]) / (share[k + 1] - share[k])
    return None


def _column(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise NotMeasurable(f"lead {name} is not there")
    return list(names).index(name)
