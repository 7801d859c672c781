"""Recorded ECGs: reading, filtering, and the median beat, measured like a simulated one."""

import csv
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.units import MS_PER_S, MV_PER_V, UV_PER_MV

MV_PER_UNIT = {"mv": 1.0, "uv": 1.0 / UV_PER_MV, "v": MV_PER_V}

LEAST_RR = 250.0  # ms between two beats: 240 a minute


class Recording(NamedTuple):
    """A recorded ECG: times [samples] in ms, signals [samples, leads] in mV, names of the leads."""

    t_ms: Float[np.ndarray, " samples"]
    ecg: Float[np.ndarray, "samples leads"]
    names: tuple[str, ...]


class Beat(NamedTuple):
    """One beat: times [samples] in ms from its R peak, signals in mV, RR in ms, beats in it."""

    t_ms: Float[np.ndarray, " samples"]
    ecg: Float[np.ndarray, "samples leads"]
    rr_ms: float
    beats: int


def read_recording(path: str | os.PathLike) -> Recording:
    """Read the standard twelve leads of a recording.

    Args:
        path: a WFDB record (with or without its ending .hea), or a CSV file whose first column is
            the time in ms and whose other columns are leads in mV with their names as heading;
            lines that start with # are skipped.

    Returns:
        The leads that are among the standard twelve, in their standard order.

    Raises:
        ValueError: where none of the twelve is there, a unit is unknown or a sample is missing.
    """
    path = Path(path)
    t_ms, signals, names = _read_csv(path) if path.suffix.lower() == ".csv" else _read_wfdb(path)
    known = {name.lower(): name for name in LEAD_NAMES}
    columns = {known[name.lower()]: k for k, name in enumerate(names) if name.lower() in known}
    order = [name for name in LEAD_NAMES if name in columns]
    if not order:
        raise ValueError(
            f"{path}: holds the signals {', '.join(names)}; expected some of "
            f"{', '.join(LEAD_NAMES)}."
        )
    ecg = signals[:, [columns[name] for name in order]]
    if not np.isfinite(ecg).all():
        raise ValueError(f"{path}: samples are missing (not a number). Cut the recording first.")
    return Recording(t_ms, ecg, tuple(order))


def filtered(
    t_ms: Float[np.ndarray, " samples"],
    ecg: Float[np.ndarray, "samples leads"],
    *,
    high_pass: float = 0.5,
    low_pass: float = 100.0,
) -> Float[np.ndarray, "samples leads"]:
    """Remove baseline wander and muscle noise, without phase shift.

    Args:
        t_ms: equally spaced times in ms.
        ecg: [samples, leads] mV.
        high_pass: lower cut-off in Hz (Butterworth, second order, forward and backward).
        low_pass: upper cut-off in Hz; left out where it reaches half the sampling rate.

    Returns:
        [samples, leads] mV.
    """
    from scipy.signal import butter, sosfiltfilt  # slow to import

    rate = MS_PER_S / float(np.median(np.diff(t_ms)))
    band = [high_pass, low_pass] if low_pass < rate / 2.0 else high_pass
    kind = "bandpass" if low_pass < rate / 2.0 else "highpass"
    return sosfiltfilt(butter(2, band, kind, fs=rate, output="sos"), ecg, axis=0)


def r_peaks(
    t_ms: Float[np.ndarray, " samples"], ecg: Float[np.ndarray, "samples leads"]
) -> Float[np.ndarray, " beats"]:
    """Times in ms of the QRS complexes: peaks of the smoothed spatial velocity over all leads."""
    from scipy.signal import find_peaks  # slow to import

    step = float(np.median(np.diff(t_ms)))
    speed = np.linalg.norm(np.gradient(ecg, step, axis=0), axis=1)
    energy = gaussian_filter1d(speed, 20.0 / step)
    # a tall T wave reaches a fifth of the QRS; the 98th percentile is in a QRS and no artefact
    least = 0.4 * np.percentile(energy, 98.0)
    peaks, _ = find_peaks(energy, height=least, distance=max(1, round(LEAST_RR / step)))
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


def _read_wfdb(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with warnings.catch_warnings():
        # wfdb 4.3 uses a keyword that pandas 3 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        import wfdb

    record: Any = wfdb.rdrecord(str(path.with_suffix("") if path.suffix == ".hea" else path))
    if getattr(record, "p_signal", None) is None or not record.fs:
        raise ValueError(f"{path}: expected a WFDB record of one segment that holds signals.")
    units = [str(unit).lower() for unit in record.units]
    unknown = sorted(set(units) - set(MV_PER_UNIT))
    if unknown:
        raise ValueError(f"{path}: unknown units {', '.join(unknown)}; expected mV, uV or V.")
    signals = record.p_signal * np.array([MV_PER_UNIT[unit] for unit in units])
    return np.arange(len(signals)) * (MS_PER_S / record.fs), signals, tuple(record.sig_name)


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(row) and not row[0].startswith("#")]
    try:
        values = np.array(rows[1:], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: expected numbers below one heading row ({error}).") from None
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] != len(rows[0]):
        raise ValueError(f"{path}: expected a heading, then rows of a time in ms and leads in mV.")
    return values[:, 0], values[:, 1:], tuple(name.strip() for name in rows[0][1:])
