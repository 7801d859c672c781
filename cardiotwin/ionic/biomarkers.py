"""What is measured on an action potential and its calcium transient, cell by cell.

The names and definitions are those in use for populations of human models (Britton et al. 2013,
https://doi.org/10.1073/pnas.1304382110; Passini et al. 2017,
https://doi.org/10.3389/fphys.2017.00668): durations run from the steepest upstroke to the fraction
of repolarisation, triangulation is APD90 - APD30.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cardiotwin.ionic.pacing import Recording

# A rise of the potential by so much during repolarisation is an early after-depolarisation; one
# within this time of the upstroke is the notch and the dome that follows it.
EAD_RISE, DOME = 3.0, 100.0  # mV, ms
# Potential over rest by which an action potential counts as one.
LEAST_AMPLITUDE = 40.0  # mV


class Measure(NamedTuple):
    """What a biomarker is: its unit and its definition."""

    unit: str
    meaning: str


MEASURES: Mapping[str, Measure] = {
    "rest": Measure("mV", "potential before the upstroke"),
    "peak": Measure("mV", "highest potential"),
    "amplitude": Measure("mV", "peak over rest"),
    "upstroke": Measure("mV/ms", "steepest rise (1 mV/ms = 1 V/s)"),
    "apd30": Measure("ms", "duration to 30 % repolarisation"),
    "apd50": Measure("ms", "duration to 50 % repolarisation"),
    "apd90": Measure("ms", "duration to 90 % repolarisation"),
    "triangulation": Measure("ms", "APD90 - APD30"),
    "ead": Measure("mV", "largest rise during repolarisation, 0 without after-depolarisation"),
    "calcium_rest": Measure("nM", "free cytosolic calcium before the upstroke"),
    "calcium_peak": Measure("nM", "its peak"),
    "calcium_amplitude": Measure("nM", "peak over rest"),
    "calcium_time_to_peak": Measure("ms", "from the upstroke"),
    "ctd50": Measure("ms", "calcium transient from the upstroke to 50 % decay"),
    "ctd80": Measure("ms", "calcium transient from the upstroke to 80 % decay"),
}
"""Every biomarker's unit and meaning."""


def biomarkers(recording: Recording) -> dict[str, Float[np.ndarray, "*cells"]]:
    """Measure one beat of every cell.

    Args:
        recording: of one beat from its stimulus on; sampled at least every 0.5 ms.

    Returns:
        Name to values, as in `MEASURES`; a duration is NaN where the cell does not repolarise so
        far, all but `rest` and `peak` where it made no action potential.

    Raises:
        ValueError: fewer than three samples.
    """
    t, shape = recording.t, recording.v.shape[1:]
    if len(t) < 3:
        raise ValueError(
            f"biomarkers got {len(t)} samples; record one beat, every 0.5 ms or finer."
        )
    v = np.asarray(recording.v, np.float64).reshape(len(t), -1)
    found = potential_measures(t, v)
    found["upstroke"] = np.where(
        np.isnan(found["onset"]), np.nan, np.asarray(recording.upstroke, np.float64).ravel()
    )
    onset = found.pop("onset")
    if recording.calcium is not None:
        calcium = 1e6 * np.asarray(recording.calcium, np.float64).reshape(len(t), -1)  # mM to nM
        found |= calcium_measures(t, calcium, onset)
    return {name: found[name].reshape(shape) for name in MEASURES if name in found}


def potential_measures(
    t: Float[np.ndarray, " times"], v: Float[np.ndarray, "times cells"]
) -> dict[str, Float[np.ndarray, " cells"]]:
    """What is measured on the potential (mV) of each cell; `onset` is the time of the upstroke."""
    onset, peak, rest, top = _upstroke(t, v)
    excited = top - rest >= LEAST_AMPLITUDE
    found = {"rest": rest, "peak": top, "amplitude": top - rest}
    for name, share in (("apd30", 0.3), ("apd50", 0.5), ("apd90", 0.9)):
        found[name] = _crossing(t, v, peak, top - share * (top - rest)) - onset
    found["triangulation"] = found["apd90"] - found["apd30"]
    found["ead"] = _after_depolarisation(t, v, onset)
    found["onset"] = onset
    return {
        name: x if name in ("rest", "peak") else np.where(excited, x, np.nan)
        for name, x in found.items()
    }


def calcium_measures(
    t: Float[np.ndarray, " times"],
    calcium: Float[np.ndarray, "times cells"],
    onset: Float[np.ndarray, " cells"],
) -> dict[str, Float[np.ndarray, " cells"]]:
    """What is measured on the calcium (nM) of each cell."""
    cells = np.arange(calcium.shape[1])
    peak = np.argmax(calcium, axis=0)
    rest, top = calcium[0], calcium[peak, cells]
    found = {
        "calcium_rest": rest,
        "calcium_peak": top,
        "calcium_amplitude": top - rest,
        "calcium_time_to_peak": t[peak] - onset,
    }
    for name, share in (("ctd50", 0.5), ("ctd80", 0.8)):
        found[name] = _crossing(t, calcium, peak, top - share * (top - rest)) - onset
    return found


def action_potential_duration(
    t: Float[np.ndarray, "times"], v: Float[np.ndarray, "times *cells"], fraction: float = 0.9
) -> float | Float[np.ndarray, "*cells"]:
    """Duration of one action potential from its steepest upstroke to a fraction repolarised.

    Args:
        t: times, ms, of one beat: from rest through one action potential.
        v: potentials at those times, mV; the first is taken as the resting potential.
        fraction: how far the potential must come back from its peak to rest, 0.9 for APD90.

    Returns:
        The duration in ms, between samples by linear interpolation; NaN where the potential does
        not repolarise that far. An array where `v` holds several cells.

    Raises:
        ValueError: times and potentials differ in length.
    """
    t, v = np.asarray(t, np.float64), np.asarray(v, np.float64)
    if t.ndim != 1 or v.shape[:1] != t.shape or len(t) < 3:
        raise ValueError(
            f"action_potential_duration got times of shape {t.shape} and potentials of shape "
            f"{v.shape}; expected [times] and [times, ...] of one beat, three samples or more."
        )
    columns = v.reshape(len(t), -1)
    onset, peak, rest, top = _upstroke(t, columns)
    found = _crossing(t, columns, peak, top - fraction * (top - rest)) - onset
    return float(found[0]) if v.ndim == 1 else found.reshape(v.shape[1:])


def _upstroke(t: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """Time of the steepest rise, sample of the peak after it, resting and peak potential."""
    steepest = np.argmax(np.diff(v, axis=0), axis=0)
    after = np.arange(len(t))[:, None] >= steepest
    peak = np.argmax(np.where(after, v, -np.inf), axis=0)
    onset = 0.5 * (t[steepest] + t[steepest + 1])
    return onset, peak, v[0], v[peak, np.arange(v.shape[1])]


def _crossing(t: np.ndarray, x: np.ndarray, peak: np.ndarray, level: np.ndarray) -> np.ndarray:
    """When each column first falls below its level after its peak; NaN where it does not."""
    below = (x < level) & (np.arange(len(t))[:, None] > peak)
    at = np.argmax(below, axis=0)
    cells = np.arange(x.shape[1])
    high, low = x[np.maximum(at - 1, 0), cells], x[at, cells]
    fell = np.where(high > low, high - low, 1.0)
    time = t[at - 1] + (high - level) / fell * (t[at] - t[at - 1])
    return np.where(below.any(axis=0), time, np.nan)


def _after_depolarisation(t: np.ndarray, v: np.ndarray, onset: np.ndarray) -> np.ndarray:
    """Largest rise over the lowest potential since the dome, before full repolarisation."""
    late = t[:, None] >= onset + DOME
    rest, top = v[0], v.max(axis=0)
    above = v > top - 0.9 * (top - rest)
    # up to the last return to rest: a delayed rise from rest is another beat, not an early one
    repolarised = ~above & late
    first = np.where(repolarised.any(axis=0), np.argmax(repolarised, axis=0), len(t))
    inside = late & (np.arange(len(t))[:, None] < first)
    lowest = np.minimum.accumulate(np.where(inside, v, np.inf), axis=0)
    rise = np.where(inside, v - lowest, 0.0).max(axis=0, initial=0.0)
    return np.where(rise >= EAD_RISE, rise, 0.0)
