"""Stimuli: where, when and how strongly current enters the tissue."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from cardiotwin._types import (
    Millimetres,
    Milliseconds,
    type_array,
)
from cardiotwin._types import MillivoltsPerMillisecond as Rate
from cardiotwin.numerics.concrete import known, library, number, numbers

# one value for all pulses, traced where it is differentiated
PerTrain = float | type_array


class Pulses(eqx.Module):
    """Rectangular pulses of every node, ready for the time loop.

    A node receives `amplitude` from `onset` for `duration`, again every `period`, `count` times.
    """

    amplitude: Float[type_array, " nodes"]  # mV/ms
    onset: Float[type_array, " nodes"]  # ms
    duration: Float[type_array, ""]  # ms
    period: Float[type_array, ""]  # ms
    count: Float[type_array, ""]

    def __call__(self, t: Float[type_array, ""]) -> Float[type_array, " nodes"]:
        """Stimulus of every node at time `t` (ms), in mV/ms."""
        since = t - self.onset
        beat = jnp.clip(jnp.floor(since / self.period), 0.0, self.count - 1.0)
        phase = since - beat * self.period
        return jnp.where((phase >= 0) & (phase < self.duration), self.amplitude, 0.0)

    def mean(
        self, t: Float[type_array, ""], dt: Float[type_array, ""]
    ) -> Float[type_array, " nodes"]:
        """Mean stimulus of every node over the step from `t` to `t + dt` (ms), in mV/ms.

        An edge within the step counts by the share of the step that it leaves, so the derivative
        in onset and duration exists. An edge that falls on a step, to rounding, is exact, and its
        derivative is the mean of those on either side. Pulses of a train are a step or more apart.
        """
        end = t + dt - self.onset
        beat = jnp.clip(jnp.floor(end / self.period + 1e-5), 0.0, self.count - 1.0)
        since = t - (self.onset + beat * self.period)
        rounding = 4.0 * jnp.finfo(dt.dtype).eps * (jnp.abs(t) + dt) / dt
        begun, ended = since / dt, (since - self.duration) / dt
        return self.amplitude * (_share_after(begun, rounding) - _share_after(ended, rounding))


class AbstractStimulus(eqx.Module):
    """A stimulus; `a + b` gives both."""

    @abstractmethod
    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on nodes at `points` [nodes, 3] mm.

        Raises:
            ValueError: it reaches no node.
        """

    def __add__(self, other: "AbstractStimulus") -> "AbstractStimulus":
        """Both stimuli at once."""
        return Stimuli((self, other))

    def __call__(self, t: Float[type_array, ""], points: np.ndarray) -> Float[type_array, " nodes"]:
        """Stimulus at time `t` (ms) on nodes at `points` [nodes, 3] mm, in mV/ms."""
        return total(self.pulses(points), jnp.asarray(t, float))


class Stimuli(AbstractStimulus):
    """The sum of several stimuli."""

    parts: tuple[AbstractStimulus, ...]

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        return tuple(pulse for part in self.parts for pulse in part.pulses(points))


class FocalStimulus(AbstractStimulus):
    """One or more focal sites: every node within `radius` of a site is stimulated.

    Args:
        sites: [sites, 3] mm.
        radius: of each sphere, mm; at least an edge length or two, or no wave starts.
        onset: of each site or of all, ms.
        amplitude: mV/ms (50 uA/mm3 over chi C_m = 1.4 uF/mm3 is 35.7 mV/ms).
        duration: ms.
        period: cycle length of the S1 train, ms.
        count: number of S1 pulses.
    """

    sites: np.ndarray
    onset: type_array
    radius: float
    amplitude: PerTrain
    duration: PerTrain
    period: PerTrain
    count: int

    def __init__(
        self,
        sites: Sequence[Sequence[Millimetres]] | np.ndarray,
        radius: Millimetres = 2.0,
        onset: Milliseconds | list[float] | np.ndarray = 0.0,
        amplitude: Rate = 35.7,
        duration: Milliseconds = 2.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.sites = np.atleast_2d(np.asarray(sites, float))
        if self.sites.ndim != 2 or self.sites.shape[1] != 3 or not np.isfinite(self.sites).all():
            raise ValueError(
                f"FocalStimulus: sites have shape {np.shape(sites)}; give finite coordinates "
                "[x, y, z] in mm, one row a site."
            )
        self.onset = _per_site(onset, len(self.sites))
        self.radius, self.amplitude = float(radius), number(amplitude)
        self.duration, self.period, self.count = number(duration), number(period), int(count)
        check_radius(self)
        check_train(self, self.onset)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        distance = library(points).linalg.norm(points[:, None, :] - self.sites[None], axis=2)
        self._check_reach(known(points), known(distance))
        xp = library(distance, self.onset)
        onset = xp.where(distance <= self.radius, self.onset[None], np.inf).min(axis=1)
        return (_pulses(self, xp.isfinite(onset), onset),)

    def _check_reach(self, points: np.ndarray | None, distance: np.ndarray | None) -> None:
        if points is None or distance is None:
            return
        missed = np.flatnonzero(distance.min(axis=0) > self.radius)
        if missed.size:
            site = missed[0]
            nearest = int(distance[:, site].argmin())
            raise ValueError(
                f"FocalStimulus: site {site} at {self.sites[site]} mm is off the mesh: the nearest "
                f"node, {nearest} at {points[nearest]}, lies {distance[nearest, site]:.2f} mm "
                f"away and the radius is {self.radius} mm. Move the site or widen the radius."
            )


class BoxStimulus(AbstractStimulus):
    """Every node within an axis-aligned box is stimulated, its faces included.

    Args:
        low: lower corner, mm.
        high: upper corner, mm.
        onset: ms.
        amplitude: mV/ms.
        duration: ms.
        period: cycle length of the S1 train, ms.
        count: number of S1 pulses.
    """

    low: np.ndarray
    high: np.ndarray
    onset: PerTrain
    amplitude: PerTrain
    duration: PerTrain
    period: PerTrain
    count: int

    def __init__(
        self,
        low: Sequence[Millimetres] | np.ndarray = (0.0, 0.0, 0.0),
        high: Sequence[Millimetres] | np.ndarray = (1.5, 1.5, 1.5),
        onset: Milliseconds = 0.0,
        amplitude: Rate = 35.7,
        duration: Milliseconds = 2.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        if self.low.shape != (3,) or self.high.shape != (3,) or np.any(self.high < self.low):
            raise ValueError(
                f"BoxStimulus: the box runs from {low} to {high}; give two corners [x, y, z] in "
                "mm, the lower one first."
            )
        self.onset, self.amplitude = number(onset), number(amplitude)
        self.duration, self.period, self.count = number(duration), number(period), int(count)
        check_train(self, self.onset)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        xp = library(points)
        slack = 1e-9 * xp.maximum(1.0, xp.abs(points).max())
        low, high = (self.low - slack)[None], (self.high + slack)[None]
        here = xp.all((points >= low) & (points <= high), axis=1)
        found = known(here)
        if found is not None and not found.any():
            spanned = np.asarray(known(points))
            raise ValueError(
                f"BoxStimulus: no node lies between {self.low} and {self.high} mm; the mesh spans "
                f"{spanned.min(axis=0)} to {spanned.max(axis=0)}. Move or widen the box."
            )
        return (_pulses(self, here, library(self.onset).full(len(points), self.onset)),)


class NodalStimulus(AbstractStimulus):
    """Chosen nodes, each with its own onset.

    Args:
        nodes: [k] node indices of the mesh.
        onset: [k] or one for all, ms.
        amplitude: mV/ms.
        duration: ms.
        period: cycle length of the S1 train, ms.
        count: number of S1 pulses.
    """

    nodes: np.ndarray
    onset: type_array
    amplitude: PerTrain
    duration: PerTrain
    period: PerTrain
    count: int

    def __init__(
        self,
        nodes: list[int] | np.ndarray,
        onset: Milliseconds | list[float] | np.ndarray = 0.0,
        amplitude: Rate = 35.7,
        duration: Milliseconds = 2.0,
        period: Milliseconds = 1000.0,
        count: int = 1,
    ):
        self.nodes = np.atleast_1d(np.asarray(nodes, int))
        self.onset = _per_site(onset, len(self.nodes))
        self.amplitude, self.duration = number(amplitude), number(duration)
        self.period, self.count = number(period), int(count)
        check_train(self, self.onset)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        if not self.nodes.size or self.nodes.min() < 0 or self.nodes.max() >= len(points):
            raise ValueError(
                f"NodalStimulus: nodes {self.nodes[:5]}... of a mesh with nodes 0 to "
                f"{len(points) - 1}. Give indices of mesh nodes."
            )
        onset = np.full(len(points), np.inf)
        if library(self.onset) is jnp:
            onset = jnp.asarray(onset).at[self.nodes].min(self.onset)
        else:
            np.minimum.at(onset, self.nodes, self.onset)
        return (_pulses(self, library(onset).isfinite(onset), onset),)


def total(
    pulses: tuple[Pulses, ...], t: Float[type_array, ""], dt: Float[type_array, ""] | None = None
) -> Float[type_array, " nodes"]:
    """Sum of all pulses at time `t` (ms), or its mean from `t` to `t + dt`, in mV/ms."""
    values = [pulse(t) if dt is None else pulse.mean(t, dt) for pulse in pulses]
    return sum(values[1:], values[0])


def pulsing_nodes(
    pulses: tuple[Pulses, ...], begin: Float[type_array, ""], end: Float[type_array, ""]
) -> Bool[type_array, " nodes"]:
    """Whether each node is stimulated at some time between `begin` and `end` (ms)."""
    acts = jnp.asarray(False)
    for pulse in pulses:
        # the last pulse that has started by the end
        beat = jnp.clip(jnp.floor((end - pulse.onset) / pulse.period), 0.0, pulse.count - 1.0)
        start = pulse.onset + beat * pulse.period
        here = (start <= end) & (start + pulse.duration >= begin) & (pulse.amplitude != 0.0)
        acts = acts | here
    return acts


def pulsing(
    pulses: tuple[Pulses, ...], begin: Float[type_array, ""], end: Float[type_array, ""]
) -> Bool[type_array, ""]:
    """Whether any node is stimulated at some time between `begin` and `end` (ms)."""
    return jnp.any(pulsing_nodes(pulses, begin, end))


def last_onset(pulses: tuple[Pulses, ...]) -> float:
    """Time at which the last pulse starts, in ms."""
    return max(
        float(np.max(np.asarray(p.onset)[np.asarray(p.amplitude) != 0]) + (p.count - 1) * p.period)
        for p in pulses
    )


def reorder(pulses: tuple[Pulses, ...], order: np.ndarray, dtype) -> tuple[Pulses, ...]:
    """Pulses in another node order and in the precision of the solve."""

    def convert(leaf):
        return jnp.asarray(leaf[order] if leaf.ndim else leaf, dtype)

    return jax.tree.map(convert, pulses)


def _share_after(since: Float[type_array, " nodes"], rounding: Any) -> Float[type_array, " nodes"]:
    """Share of a step that lies behind an edge, `since` steps after which the step begins."""
    whole = jnp.round(since)
    on_step = jnp.abs(since - whole) <= rounding
    since = since + jax.lax.stop_gradient(jnp.where(on_step, whole - since, 0.0))
    return jnp.minimum(jnp.maximum(1.0 + since, 0.0), 1.0)


def _per_site(values: Any, count: int) -> Any:
    """One value a site, from as many or from one."""
    values = numbers(values)
    return library(values).broadcast_to(values, (count,)).copy()


def _pulses(train, here: Any, onset: Any) -> Pulses:
    xp = library(here, onset, train.amplitude)
    return Pulses(
        amplitude=xp.where(here, train.amplitude, 0.0),
        onset=xp.where(here, onset, 0.0),
        duration=numbers(train.duration),
        period=numbers(train.period),
        count=numbers(train.count),
    )


def check_radius(stimulus: Any) -> None:
    """Refuse a radius that is negative or not finite, naming the class of the stimulus."""
    if not (np.isfinite(stimulus.radius) and stimulus.radius >= 0):
        raise ValueError(
            f"{type(stimulus).__name__}: radius is {stimulus.radius} mm; give a number that is not "
            "negative, an edge length of the mesh or two."
        )


def check_train(train: Any, onset: Any) -> None:
    """Refuse a train of pulses that cannot be: its strength, its times and their number.

    Args:
        train: has `amplitude`, `duration`, `period` and `count`.
        onset: of the first pulse, one or many, ms.

    Raises:
        ValueError: names the class of `train` and what is wrong with it.
    """
    name = type(train).__name__
    for field in ("amplitude", "duration", "period", "count"):
        value = known(getattr(train, field))
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}: {field} is {value}; give a positive number.")
    times = known(onset)
    if times is not None and (np.any(times < 0) or not np.isfinite(times).all()):
        raise ValueError(f"{name}: onset is {onset} ms; a run starts at 0 ms.")
    period, duration = known(train.period), known(train.duration)
    if train.count > 1 and period is not None and duration is not None and period <= duration:
        raise ValueError(
            f"{name}: the period, {train.period} ms, must exceed the duration, "
            f"{train.duration} ms, when count is {train.count}."
        )
