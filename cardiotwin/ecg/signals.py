"""The beats of a recording and their median."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

LEAST_RR = 250.0  # ms between two beats: 240 a minute


class Beat(NamedTuple):
    """One beat: times [samples] in ms from its R peak, signals in mV, RR in ms, beats in it."""

    t_ms: Float[np.ndarray, " samples"]
    ecg: Float[np.ndarray, "samples leads"]
    rr_ms: float
    beats: int


def r_peaks(
    t_ms: Float[np.ndarray, " samples"],
    ecg: Float[np.ndarray, "samples leads"],
    *,
    least_rr: float = LEAST_RR,
) -> Float[np.ndarray, " beats"]:
    """Times in ms of the QRS complexes: peaks of the smoothed spatial velocity over all leads.

    Args:
        t_ms: equally spaced times in ms.
        ecg: [samples, leads] mV.
        least_rr: ms between two beats.

    Returns:
        [beats] ms.
    """
    from scipy.signal import find_peaks  # slow to import

    step = float(np.median(np.diff(t_ms)))
    speed = np.linalg.norm(np.gradient(ecg, step, axis=0), axis=1)
    energy = gaussian_filter1d(speed, 20.0 / step)
    # a tall T wave reaches a fifth of the QRS; the 98th percentile is in a QRS and no artefact
    least = 0.4 * np.percentile(energy, 98.0)
    peaks, _ = find_peaks(energy, height=least, distance=max(1, round(least_rr / step)))
    return t_ms[peaks]


def median_beat(
    t_ms: Float[np.ndarray, " samples"],
    ecg: Float[np.ndarray, "samples leads"],
    *,
    before: float = 300.0,
) -> Beat:
    """Median over the aligned beats of a recording, without ectopic and distorted ones.

    Args:
        t_ms: equally spaced times in ms.
        ecg: [samples, leads] mV, filtered.
        before: how much of the time ahead of the R peak belongs to the beat, in ms.

    Returns:
        A beat from `before` ahead of its R peak to as long ahead of the next one.

    Raises:
        ValueError: where the recording holds fewer than two whole beats.
    """
    step = float(np.median(np.diff(t_ms)))
    peaks = np.round((r_peaks(t_ms, ecg) - t_ms[0]) / step).astype(int)
    if len(peaks) < 2:
        raise ValueError(
            f"median_beat: found {len(peaks)} beats in {t_ms[-1] - t_ms[0]:.0f} ms; expected at "
            "least two. Give a longer recording, or measure the single beat directly."
        )
    rr = float(np.median(np.diff(peaks)))
    first = min(round(before / step), round(0.4 * rr))
    span = np.arange(-first, round(rr) - first)
    whole = peaks[(peaks + span[0] >= 0) & (peaks + span[-1] < len(t_ms))]
    if len(whole) == 0:
        raise ValueError(
            "median_beat: no beat lies whole within the recording. Give a longer recording."
        )
    stack = np.stack([ecg[_aligned(ecg, peak, whole[0], span) + span] for peak in whole])
    likeness = _correlation(stack, np.median(stack, axis=0))
    good = stack[likeness >= min(0.9, float(np.median(likeness)))]
    return Beat(span * step, np.median(good, axis=0), rr * step, len(good))


def _aligned(ecg: np.ndarray, peak: int, reference: int, span: np.ndarray) -> int:
    """Move a peak by up to 20 samples to where its QRS correlates best with the reference's."""
    around = span[np.abs(span) <= 60]
    template = ecg[reference + around]
    shifts = [
        shift
        for shift in range(-20, 21)
        if peak + shift + span[0] >= 0 and peak + shift + span[-1] < len(ecg)
    ]
    match = [np.sum(template * ecg[peak + shift + around]) for shift in shifts]
    return peak + shifts[int(np.argmax(match))]


def _correlation(stack: np.ndarray, template: np.ndarray) -> np.ndarray:
    flat = stack.reshape(len(stack), -1)
    scale = np.linalg.norm(flat, axis=1) * np.linalg.norm(template)
    return flat @ template.ravel() / np.where(scale > 0.0, scale, 1.0)
