"""Left and right bundle branch block by their published criteria, each criterion by itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from cardiotwin.ecg.delineation import NotMeasurable, Qrs, baseline, on_grid

# ms, Strauss 2011, https://doi.org/10.1016/j.amjcard.2010.11.010
LBBB_DURATION = {"male": 140.0, "female": 130.0}
NOTCH_LEADS = ("I", "aVL", "V1", "V2", "V5", "V6")
LEAST_NOTCHED = 2  # leads
# A notch or slur of the middle of the QRS: the paper leaves the window to the eye; ours is
# 40 ms after the onset to four fifths of the QRS.
NOTCH_FROM, NOTCH_TO = 40.0, 0.8
NOTCH_DEPTH = 0.03  # mV; less is noise of a median beat
SLUR = 0.35  # of the slopes on both sides, to which the slope falls without a change of sign
SLUR_SIDES = 0.2  # of the steepest slope of the lead, which both sides must reach
SMOOTHING = 2.0  # ms, standard deviation

# Surawicz 2009, https://doi.org/10.1161/CIRCULATIONAHA.108.191095
RBBB_DURATION = 120.0  # ms
LONG_S = 40.0  # ms, in I and V6
LATE_R = 50.0  # ms from the onset to the peak of a pure R in V1
LEAST_WAVE = 0.05  # of a lead's peak-to-peak QRS: below it a deflection is not a wave


def bundle_branch_block(
    t_ms: Float[np.ndarray, " times"],
    ecg: Float[np.ndarray, "times leads"],
    names: Sequence[str],
    complex_: Qrs,
    leads: Mapping[str, Mapping[str, Any]],
    sex: str | None = None,
) -> dict[str, Any]:
    """Criteria of left (Strauss) and right (AHA/ACCF/HRS) bundle branch block on one beat.

    Args:
        t_ms: increasing times in ms.
        ecg: [times, leads] mV.
        names: of the leads; I, aVL, V1, V2, V5 and V6 must be there.
        complex_: the QRS of the beat.
        leads: Q, R and S of each lead, as `measurements(...)["leads"]`.
        sex: "male" or "female"; the duration of a left block depends on it. None takes 140 ms.

    Returns:
        `lbbb` and `rbbb`, each with `met` and its criteria by name; `lbbb` holds `notched`, the
        leads with a notch or slur. Plain Python values.

    Raises:
        NotMeasurable: where a lead is missing.
        ValueError: for another `sex`.
    """
    if sex not in (None, *LBBB_DURATION):
        raise ValueError(f"sex is {sex!r}; give male, female or None where it is not known.")
    missing = [name for name in NOTCH_LEADS if name not in names]
    if missing:
        raise NotMeasurable(f"the leads lack {', '.join(missing)}")
    times, signal = on_grid(t_ms, ecg)
    signal = signal - baseline(times, signal, complex_.onset)
    inside = (times >= complex_.onset) & (times <= complex_.offset)
    times = times[inside] - complex_.onset
    waves = {name: signal[inside, list(names).index(name)] for name in NOTCH_LEADS}
    return {
        "lbbb": _left(times, waves, complex_.duration, leads, sex),
        "rbbb": _right(times, waves, complex_.duration),
    }


def _left(times, waves, duration: float, leads, sex: str | None) -> dict[str, Any]:
    least = LBBB_DURATION[sex or "male"]
    notched = [name for name in NOTCH_LEADS if has_notch(times, waves[name])]
    criteria = {
        "long_qrs": duration >= least,
        "qs_or_rs_in_v1_v2": all(leads[n]["s_mv"] > leads[n]["r_mv"] for n in ("V1", "V2")),
        "mid_qrs_notch_or_slur": len(notched) >= LEAST_NOTCHED,
    }
    extra = {"least_duration_ms": least, "notched": notched}
    return {"met": all(criteria.values()), **criteria, **extra}


def _right(times, waves, duration: float) -> dict[str, Any]:
    second = any(_second_r(waves[name]) for name in ("V1", "V2"))
    criteria = {
        "long_qrs": duration >= RBBB_DURATION,
        "late_r_in_v1_or_v2": second or _pure_late_r(times, waves["V1"]),
        "wide_s_in_i_and_v6": all(_wide_s(times, waves[name]) for name in ("I", "V6")),
    }
    return {"met": all(criteria.values()), **criteria}


def has_notch(times: Float[np.ndarray, " times"], wave: Float[np.ndarray, " times"]) -> bool:
    """Whether a QRS has a notch or slur in its middle part.

    Args:
        times: [times] ms from the onset, 1 ms apart, to the offset.
        wave: [times] mV from the baseline.

    Returns:
        True for a notch (the dominant wave turns back by 0.03 mV or more) or a slur (its slope
        falls to a third between two steep parts) from 40 ms to four fifths of the QRS.
    """
    from scipy.signal import find_peaks  # slow to import

    wave = gaussian_filter1d(wave, SMOOTHING)
    wave = wave if wave.max() >= -wave.min() else -wave
    middle = (times >= NOTCH_FROM) & (times <= NOTCH_TO * times[-1])
    valleys, _ = find_peaks(-wave, prominence=NOTCH_DEPTH)
    if any(middle[k] and wave[k] > 0.0 for k in valleys):
        return True
    slope = np.gradient(wave)
    steep = np.abs(slope)
    flats, _ = find_peaks(-steep)
    for k in flats:
        same = slope[max(k - 3, 0)] * slope[min(k + 3, len(slope) - 1)] > 0.0
        if middle[k] and same and wave[k] > NOTCH_DEPTH:
            turns = np.flatnonzero(np.diff(np.sign(slope)) != 0)
            first = int(turns[turns < k].max(initial=-1)) + 1
            last = int(turns[turns >= k].min(initial=len(slope) - 1))
            sides = steep[first : k + 1].max(), steep[k : last + 1].max()
            if min(sides) >= SLUR_SIDES * steep.max() and steep[k] <= SLUR * min(sides):
                return True
    return False


def _second_r(wave: np.ndarray) -> bool:
    """An r or R, then a negative or much smaller part, then R' as high as the first or wider."""
    from scipy.signal import find_peaks, peak_widths  # slow to import

    wave = gaussian_filter1d(wave, SMOOTHING)
    least = LEAST_WAVE * np.ptp(wave)
    wave = np.append(wave, wave[-1] - 1.0)  # one that ends within a wave has its peak too
    peaks, _ = find_peaks(wave, height=least, prominence=least)
    if len(peaks) < 2:
        return False
    first, *_, second = peak_widths(wave, peaks, rel_height=0.5)[0]
    return bool(wave[peaks[-1]] >= wave[peaks[0]] or second > first)


def _pure_late_r(times: np.ndarray, wave: np.ndarray) -> bool:
    pure = -wave.min() <= LEAST_WAVE * np.ptp(wave)
    return bool(pure and times[np.argmax(wave)] > LATE_R)


def _wide_s(times: np.ndarray, wave: np.ndarray) -> bool:
    """S lasts longer than R, or 40 ms."""
    least = LEAST_WAVE * np.ptp(wave)
    positive = wave > least
    if not positive.any():
        return False
    after = np.arange(len(wave)) > int(np.argmax(wave))
    step = times[1] - times[0]
    s_length = float(((wave < -least) & after).sum() * step)
    return s_length > min(LONG_S, float(positive.sum() * step))
