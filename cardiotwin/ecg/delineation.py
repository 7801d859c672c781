"""Delineation of one beat: where the QRS complex and the T wave begin and end."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import correlate1d, gaussian_filter1d

COARSEST_STEP = 4.0  # ms; ECGs are sampled at 250 Hz at least
VELOCITY_WINDOW = 9  # ms, over which the derivative of a lead is fitted
QRS_FRACTION = 0.04  # of the greatest spatial velocity: the edges of the QRS
QUIET_BEFORE = 8  # ms below the threshold that end the search for the onset
QUIET_AFTER = 14  # ms below it that end the search for the offset: a notched QRS slows down inside
# A late R' of a bundle branch block comes after a stretch as quiet as the end of the QRS.
LATE_FRACTION = 0.1  # of the greatest spatial velocity: no ST segment is as fast
LATE_WITHIN = 50  # ms after the QRS has become quiet
EARLIEST_T = 50.0  # ms from the end of the QRS to the earliest peak of T
T_SMOOTHING = 6.0  # ms, standard deviation


class NotMeasurable(ValueError):
    """A quantity that this ECG does not show; the message says why."""


class Qrs(NamedTuple):
    """Onset, offset and duration of the QRS complex in ms."""

    onset: float
    offset: float
    duration: float


class TWave(NamedTuple):
    """Times in ms of the peak and the end of the T wave."""

    peak: float
    end: float


def qrs(t_ms: Float[np.ndarray, " times"], ecg: Float[np.ndarray, "times leads"]) -> Qrs:
    """Onset and offset of the QRS complex of one beat, over all leads together.

    The spatial velocity (the norm over the leads of their time derivatives) is followed from its
    peak outwards to where it stays below a fraction of that peak. A beat that starts with the first
    sample, as a simulated one does, has its onset there: before it the leads count as constant.

    Args:
        t_ms: increasing times in ms, at most 4 ms apart.
        ecg: [times, leads] mV, one beat; for longer recordings see `signals.median_beat`.

    Returns:
        Onset, offset, duration in ms.

    Raises:
        NotMeasurable: where the leads are flat or the record ends within the QRS.
        ValueError: for times and signals that do not fit each other.
    """
    times, signal = on_grid(t_ms, ecg)
    speed = _spatial_velocity(signal)
    top = int(np.argmax(speed))
    if not speed[top] > 0.0:
        raise NotMeasurable("all leads are flat")
    # noise of a recording raises the threshold; a simulated beat has none
    threshold = max(QRS_FRACTION * speed[top], 2.0 * float(np.percentile(speed, 20.0)))
    # ahead of the first sample the leads count as constant, beyond the last one nothing is known
    ahead = np.append(speed[: top + 1][::-1] < threshold, np.ones(QUIET_BEFORE, bool))
    first = _quiet_from(ahead, QUIET_BEFORE)
    last = _offset_from(speed[top:], threshold)
    if first is None or last is None:
        raise NotMeasurable("the record ends before the QRS complex does")
    onset, offset = times[max(top - first, 0)], times[top + last]
    return Qrs(float(onset), float(offset), float(offset - onset))


def t_wave(
    t_ms: Float[np.ndarray, " times"],
    ecg: Float[np.ndarray, "times leads"],
    complex_: Qrs,
    latest: float | None = None,
) -> TWave:
    """Peak and end of the T wave in the root mean square over the leads.

    The end is where the tangent at the steepest descent after the peak meets the baseline.

    Args:
        t_ms: increasing times in ms.
        ecg: [times, leads] mV.
        complex_: the QRS of this beat.
        latest: time in ms after which the next P wave may stand; by default the record's end.

    Returns:
        Times in ms of peak and end.

    Raises:
        NotMeasurable: where there is no T wave or the record ends before it does.
    """
    times, signal = on_grid(t_ms, ecg)
    signal = signal - baseline(times, signal, complex_.onset)
    height = gaussian_filter1d(np.sqrt(np.mean(signal**2, axis=1)), T_SMOOTHING)
    start = complex_.offset + EARLIEST_T
    window = (times >= start) & (times <= (np.inf if latest is None else latest))
    if window.sum() < EARLIEST_T:
        raise NotMeasurable("the record ends before the T wave")
    times, height = times[window], height[window]
    from scipy.signal import find_peaks  # slow to import

    peaks, shape = find_peaks(height, prominence=0.0)
    if len(peaks) == 0:
        rising = height[-1] > height[0]
        raise NotMeasurable(
            "the record ends before the peak of the T wave" if rising else "there is no T wave"
        )
    peak = int(peaks[np.argmax(shape["prominences"])])
    floor = float(height[peak:].min())
    if height[-1] == floor and floor > 0.3 * height[peak]:
        raise NotMeasurable("the T wave has not come back to the baseline when the record ends")
    slope = np.gradient(height[peak:])
    steepest = int(np.argmin(slope))
    run_down = (height[peak + steepest] - floor) / -slope[steepest]
    return TWave(float(times[peak]), float(times[peak + steepest] + run_down))


def on_grid(t_ms: np.ndarray, ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and signals on a grid of 1 ms."""
    t_ms, ecg = np.asarray(t_ms, np.float64), np.asarray(ecg, np.float64)
    if ecg.ndim != 2 or t_ms.shape != ecg.shape[:1] or len(t_ms) < 2:
        raise ValueError(
            f"ECG: got times of shape {t_ms.shape} and signals of shape {ecg.shape}; expected "
            "[times] and [times, leads] with two times at least."
        )
    if not (np.isfinite(t_ms).all() and np.isfinite(ecg).all()):
        raise ValueError("ECG: times and signals must be finite; cut off what is not.")
    steps = np.diff(t_ms)
    if steps.min() <= 0.0 or steps.max() > COARSEST_STEP * (1.0 + 1e-6):
        raise ValueError(
            f"ECG: time steps run from {steps.min():g} to {steps.max():g} ms; expected increasing "
            f"times at most {COARSEST_STEP:g} ms apart. Save frames more often."
        )
    grid = t_ms[0] + np.arange(int(np.floor(t_ms[-1] - t_ms[0] + 1e-9)) + 1.0)
    return grid, np.stack([np.interp(grid, t_ms, lead) for lead in ecg.T], axis=1)


def _spatial_velocity(signal: np.ndarray) -> np.ndarray:
    """Norm over the leads of their derivatives in mV/ms; constant beyond both ends."""
    half = VELOCITY_WINDOW // 2
    places = np.arange(-half, half + 1.0)
    weights = places / np.sum(places**2)  # least-squares slope of a parabola over the window
    slope = correlate1d(signal, weights, axis=0, mode="nearest")
    return np.sqrt(np.sum(slope**2, axis=1))


def _offset_from(speed: np.ndarray, threshold: float) -> int | None:
    """First index from which the QRS stays quiet, and no late part of it follows; or None."""
    quiet, late = speed < threshold, LATE_FRACTION * speed[0]
    start = 0
    while (found := _quiet_from(quiet[start:], QUIET_AFTER)) is not None:
        start += found
        loud = np.flatnonzero(speed[start : start + LATE_WITHIN] > late)
        if len(loud) == 0:
            return start
        start += int(loud[-1])
    return None


def _quiet_from(quiet: np.ndarray, length: int) -> int | None:
    """First index from which `quiet` holds `length` times in a row, or None."""
    loud = np.flatnonzero(~np.append(quiet, False))
    starts = np.append(0, loud + 1)
    runs = np.append(loud, len(quiet)) - starts
    long = np.flatnonzero(runs >= length)
    return int(starts[long[0]]) if len(long) else None


def baseline(times: np.ndarray, signal: np.ndarray, onset: float) -> np.ndarray:
    """Level [leads] just ahead of the QRS, or the first sample where nothing lies ahead of it."""
    ahead = (times >= onset - 20.0) & (times <= onset - 4.0)
    return np.median(signal[ahead], axis=0) if ahead.sum() >= 4 else signal[0]
