"""Restitution, refractory period and alternans of a single cell, all intervals in one batch.

S1-S1 (dynamic) restitution paces at each cycle length for many beats; S1-S2 (standard) restitution
paces at one and lets one more stimulus follow after a shorter interval (Koller, Riccio and Gilmour
1998, https://doi.org/10.1152/ajpheart.1998.275.5.H1635).
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.biomarkers import action_potential_duration
from cardiotwin.ionic.pacing import Recording, pace, record

# Two beats whose APD90 differ by more count as alternans, ms.
ALTERNANS = 5.0
# A response this high over the first, in amplitude, is an action potential.
CAPTURE = 0.8
# How long the response to the last stimulus is looked at, ms.
WINDOW = 600.0
CYCLE_LENGTHS = (1000, 800, 600, 500, 450, 400, 370, 340, 320, 300, 280, 260, 250)
"""Of S1-S1 restitution, ms; they fit human ventricular cells."""
INTERVALS = (
    1000, 800, 700, 600, 550, 500, 450, 400, 380, 360, 350, 340, 330, 320, 310, 300, 290, 280, 270,
    260, 250,
)  # fmt: skip
"""Of S1-S2 restitution, ms; they fit human ventricular cells."""


class S1S1(NamedTuple):
    """Dynamic restitution.

    Attributes:
        cycle_length: ms, ascending.
        apd90: of the last two beats, ms [2, cycles]; NaN for one that did not follow.
        diastolic_interval: cycle length less the APD90 before, ms; NaN where a beat is missing.
        follows: whether every one of the last two stimuli made an action potential.
        alternans: difference of the last two APD90, ms; NaN where a beat is missing.
    """

    cycle_length: Float[np.ndarray, " cycles"]
    apd90: Float[np.ndarray, "2 cycles"]
    diastolic_interval: Float[np.ndarray, " cycles"]
    follows: Bool[np.ndarray, " cycles"]
    alternans: Float[np.ndarray, " cycles"]

    @property
    def steepest(self) -> float:
        """Largest slope of APD90 over the diastolic interval; NaN from fewer than two points."""
        return steepest_slope(self.diastolic_interval, self.apd90[1])

    @property
    def alternans_onset(self) -> float:
        """Longest cycle length with alternans, ms; NaN where there is none."""
        found = self.cycle_length[self.alternans > ALTERNANS]
        return float(found.max()) if found.size else float("nan")

    @property
    def shortest_followed(self) -> float:
        """Shortest cycle length that every beat followed, ms; NaN where there is none."""
        found = self.cycle_length[self.follows]
        return float(found.min()) if found.size else float("nan")


class S1S2(NamedTuple):
    """Standard restitution.

    Attributes:
        s1: cycle length of the train, ms.
        interval: from the last S1 to S2, ms, ascending.
        apd90: of the response to S2, ms; NaN where it did not capture.
        diastolic_interval: from 90 % repolarisation of the last S1 to S2, ms.
        captured: whether S2 made an action potential.
    """

    s1: float
    interval: Float[np.ndarray, " intervals"]
    apd90: Float[np.ndarray, " intervals"]
    diastolic_interval: Float[np.ndarray, " intervals"]
    captured: Bool[np.ndarray, " intervals"]

    @property
    def steepest(self) -> float:
        """Largest slope of APD90 over the diastolic interval; NaN from fewer than two points."""
        return steepest_slope(self.diastolic_interval, self.apd90)


def s1s1_restitution(
    model: AbstractIonicModel,
    cycle_lengths: ArrayLike = CYCLE_LENGTHS,
    *,
    beats: int = 30,
    every: float = 0.2,
    **protocol: Any,
) -> S1S1:
    """Pace a cell at every cycle length at once, and measure the last two beats of each.

    Args:
        model: an ionic model with scalar parameters.
        cycle_lengths: ms, in any order.
        beats: at each cycle length, two or more.
        every: interval between samples, ms, which divides the cycle lengths.
        **protocol: as of `pace` (dt, amplitude, duration, initial, ...).

    Raises:
        ValueError: parameters per node, fewer than two beats, or times that do not fit together.
    """
    cycles = np.unique(np.asarray(cycle_lengths, float))
    _check_scalar(model, "s1s1_restitution")
    if beats < 2 or not cycles.size or cycles[0] <= 0:
        raise ValueError(
            f"s1s1_restitution: {beats} beats at cycle lengths {cycle_lengths}; give two beats or "
            "more and positive cycle lengths in ms."
        )
    at = protocol.pop("initial", None)
    if beats > 2:
        at = pace(model, cycle_length=cycles, beats=beats - 2, initial=at, **protocol)
    found = record(model, cycle_length=cycles, beats=2, every=every, initial=at, **protocol)
    apd = np.full((2, len(cycles)), np.nan)
    for k, cycle in enumerate(cycles):
        reference = None
        for beat in range(2):
            response = _response(found, k, beat * cycle, cycle)
            reference = np.ptp(response) if reference is None else max(reference, np.ptp(response))
            apd[beat, k] = _duration(found.t[: len(response)], response, reference)
    follows = np.asarray(np.isfinite(apd).all(axis=0))
    interval = np.where(follows, cycles - apd[0], np.nan)
    return S1S1(cycles, apd, interval, follows, np.abs(apd[1] - apd[0]))


def s1s2_restitution(
    model: AbstractIonicModel,
    intervals: ArrayLike = INTERVALS,
    *,
    s1: float = 1000.0,
    beats: int = 10,
    every: float = 0.2,
    **protocol: Any,
) -> S1S2:
    """Pace a cell, then let one stimulus follow after every interval at once.

    Args:
        model: an ionic model with scalar parameters.
        intervals: from the last S1 to S2, ms, in any order, at most `s1`.
        s1: cycle length of the train, ms.
        beats: of the train, before the one that S2 follows.
        every: interval between samples, ms, which divides the intervals.
        **protocol: as of `pace` (dt, amplitude, duration, initial, ...).

    Raises:
        ValueError: parameters per node, no intervals, ones longer than `s1`, or times that do not
            fit together.
    """
    s2 = np.unique(np.asarray(intervals, float))
    _check_scalar(model, "s1s2_restitution")
    if not s2.size or s2[0] <= 0 or s2[-1] > s1:
        raise ValueError(
            f"s1s2_restitution: intervals {intervals} for S1 = {s1:g} ms; give positive ones of at "
            "most S1."
        )
    at = pace(model, cycle_length=s1, beats=beats, **protocol)
    protocol.pop("initial", None)
    first = record(model, cycle_length=s1, every=every, initial=at, **protocol)
    apd1 = float(action_potential_duration(first.t, first.v))
    length = every * np.ceil((s2[-1] + WINDOW) / every)
    found = record(
        model, cycle_length=s2, beats=2, length=length, every=every, initial=at, **protocol
    )
    apd = np.full(len(s2), np.nan)
    for k, interval in enumerate(s2):
        response = _response(found, k, interval, WINDOW)
        apd[k] = _duration(found.t[: len(response)], response, np.ptp(first.v))
    return S1S2(s1, s2, apd, s2 - apd1, np.isfinite(apd))


def refractory_period(
    model: AbstractIonicModel,
    *,
    s1: float = 1000.0,
    beats: int = 10,
    resolution: float = 1.0,
    amplitude: float = 52.0,
    **protocol: Any,
) -> float:
    """Effective refractory period: the longest S1-S2 interval whose S2 makes no action potential.

    Found in steps of 10 ms and then of `resolution`, each as one batch.

    Args:
        model: an ionic model with scalar parameters.
        s1: cycle length of the train, ms.
        beats: of the train.
        resolution: ms, a multiple of 0.2.
        amplitude: of every stimulus, mV/ms. Clinical protocols take twice the diastolic threshold,
            which `diastolic_threshold` gives; a stronger one shortens the period.
        **protocol: as of `pace`.

    Returns:
        The period, ms.

    Raises:
        ValueError: S2 never captures up to S1, or captures at once.
    """
    coarse = np.arange(50.0, s1 + 5.0, 10.0)
    low, high = 0.0, s1
    for intervals in (coarse, None):
        if intervals is None:
            intervals = np.arange(low + resolution, high + 0.5 * resolution, resolution)
        found = s1s2_restitution(
            model, intervals, s1=s1, beats=beats, amplitude=amplitude, **protocol
        )
        if not found.captured[-1]:
            raise ValueError(
                f"refractory_period: no S2 up to {intervals[-1]:g} ms captures with {amplitude:g} "
                "mV/ms. Is S1 too short, or the stimulus too weak?"
            )
        lost = np.flatnonzero(~found.captured)
        if intervals is coarse and not lost.size:
            raise ValueError(
                f"refractory_period: S2 captures after {coarse[0]:g} ms already with "
                f"{amplitude:g} mV/ms; give a weaker stimulus."
            )
        last = int(lost[-1]) if lost.size else -1
        low = float(found.interval[last]) if lost.size else low
        high = float(found.interval[last + 1])
    return low


def diastolic_threshold(
    model: AbstractIonicModel,
    *,
    duration: float = 1.0,
    most: float = 200.0,
    tolerance: float = 0.01,
    **protocol: Any,
) -> float:
    """Weakest stimulus (mV/ms) that makes a resting cell fire, to a relative `tolerance`.

    Args:
        model: an ionic model with scalar parameters.
        duration: of the stimulus, ms.
        most: strongest stimulus tried, mV/ms.
        tolerance: relative.
        **protocol: as of `record` (dt, initial, ...).

    Raises:
        ValueError: even the strongest does not, or the weakest does (a cell that beats by itself).
    """
    _check_scalar(model, "diastolic_threshold")
    low, high = most / 1000.0, most
    while True:
        tried = np.geomspace(low, high, 16)
        found = record(
            model, cycle_length=60.0, amplitude=tried, duration=duration, every=0.2, **protocol
        )
        fires = found.v.max(axis=0) > model.activation_threshold + 20.0
        if fires[0] or not fires[-1]:
            raise ValueError(
                f"diastolic_threshold: {'every' if fires[0] else 'no'} stimulus from {low:.3g} to "
                f"{high:.3g} mV/ms for {duration:g} ms makes {type(model).__name__} fire; give a "
                "resting, excitable cell, or other bounds (`most`)."
            )
        k = int(np.argmax(fires))
        low, high = tried[k - 1], tried[k]
        if high / low - 1.0 <= tolerance:
            return float(high)


def steepest_slope(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Largest slope between neighbouring finite points; NaN from fewer than two."""
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known])
    x, y = x[known][order], y[known][order]
    apart = np.diff(x) > 0
    return float(np.max(np.diff(y)[apart] / np.diff(x)[apart])) if apart.any() else float("nan")


def _response(found: Recording, cell: int, begin: float, length: float) -> np.ndarray:
    step = found.t[1] - found.t[0]
    first = round(begin / step)
    return found.v[first : first + round(length / step) + 1, cell]


def _duration(t: np.ndarray, v: np.ndarray, reference: float) -> float:
    """APD90 of a response; NaN where it is none, beside an amplitude to compare with."""
    if np.max(v) - v[0] < CAPTURE * reference:
        return float("nan")
    return float(action_potential_duration(t, v))


def _check_scalar(model: AbstractIonicModel, name: str) -> None:
    spread = [row.name for row in model.parameters() if np.ndim(getattr(model, row.name))]
    if spread:
        raise ValueError(
            f"{name}: the parameters {', '.join(spread)} have one value a node; give a single cell."
        )
