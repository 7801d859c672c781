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
        """Stimulus of every node at time `t` (ms), in mV/ms.

        The solver asks at the middle of a step, so edges that fall on steps are exact.
        """
        since = t - self.onset
        beat = jnp.clip(jnp.floor(since / self.period), 0.0, self.count - 1.0)
        phase = since - beat * self.period
        return jnp.where((phase >= 0) & (phase < self.duration), self.amplitude, 0.0)


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
    onset: np.ndarray
    radius: float
    amplitude: float
    duration: float
    period: float
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
        self.onset = np.broadcast_to(np.asarray(onset, float), len(self.sites)).copy()
        self.radius, self.amplitude = float(radius), float(amplitude)
        self.duration, self.period, self.count = float(duration), float(period), int(count)
        check_radius(self)
        check_train(self, self.onset)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        distance = np.linalg.norm(points[:, None, :] - self.sites[None], axis=2)
        missed = np.flatnonzero(distance.min(axis=0) > self.radius)
        if missed.size:
            site = missed[0]
            nearest = int(distance[:, site].argmin())
            raise ValueError(
                f"FocalStimulus: site {site} at {self.sites[site]} mm is off the mesh: the nearest "
                f"node, {nearest} at {points[nearest]}, lies {distance[nearest, site]:.2f} mm "
                f"away and the radius is {self.radius} mm. Move the site or widen the radius."
            )
        onset = np.where(distance <= self.radius, self.onset[None], np.inf).min(axis=1)
        return (_pulses(self, np.isfinite(onset), onset),)


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
    onset: float
    amplitude: float
    duration: float
    period: float
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
        self.onset, self.amplitude, self.duration = float(onset), float(amplitude), float(duration)
        self.period, self.count = float(period), int(count)
        check_train(self, self.onset)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        slack = 1e-9 * max(1.0, float(np.abs(points).max()))
        here = np.all((points >= self.low - slack) & (points <= self.high + slack), axis=1)
        if not here.any():
            raise ValueError(
                f"BoxStimulus: no node lies between {self.low} and {self.high} mm; the mesh spans "
                f"{points.min(axis=0)} to {points.max(axis=0)}. Move or widen the box."
            )
        return (_pulses(self, here, np.full(len(points), self.onset)),)


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
    onset: np.ndarray
    amplitude: float
    duration: float
    period: float
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
        self.onset = np.broadcast_to(np.asarray(onset, float), self.nodes.shape).copy()
        self.amplitude, self.duration = float(amplitude), float(duration)
        self.period, self.count = float(period), int(count)
        check_train(self, self.onset)

    def pulses(self, points: np.ndarray) -> tuple[Pulses, ...]:
        """Locate the stimulus on the nodes of a mesh."""
        if not self.nodes.size or self.nodes.min() < 0 or self.nodes.max() >= len(points):
            raise ValueError(
                f"NodalStimulus: nodes {self.nodes[:5]}... of a mesh with nodes 0 to "
                f"{len(points) - 1}. Give indices of mesh nodes."
            )
        onset = np.full(len(points), np.inf)
        np.minimum.at(onset, self.nodes, self.onset)
        return (_pulses(self, np.isfinite(onset), onset),)


def total(pulses: tuple[Pulses, ...], t: Float[type_array, ""]) -> Float[type_array, " nodes"]:
    """Sum of all pulses at time `t` (ms), in mV/ms."""
    value = pulses[0](t)
    for pulse in pulses[1:]:
        value = value + pulse(t)
    return value


def pulsing(
    pulses: tuple[Pulses, ...], begin: Float[type_array, ""], end: Float[type_array, ""]
) -> Bool[type_array, ""]:
    """Whether any node is stimulated at some time between `begin` and `end` (ms)."""
    acts = jnp.asarray(False)
    for pulse in pulses:
        # the last pulse that has started by the end
        beat = jnp.clip(jnp.floor((end - pulse.onset) / pulse.period), 0.0, pulse.count - 1.0)
        start = pulse.onset + beat * pulse.period
        here = (start <= end) & (start + pulse.duration >= begin) & (pulse.amplitude != 0.0)
        acts = acts | jnp.any(here)
    return acts


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


def _pulses(train, here: np.ndarray, onset: np.ndarray) -> Pulses:
    return Pulses(
        amplitude=np.where(here, train.amplitude, 0.0),
        onset=np.where(here, onset, 0.0),
        duration=np.asarray(train.duration, float),
        period=np.asarray(train.period, float),
        count=np.asarray(train.count, float),
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
        value = getattr(train, field)
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}: {field} is {value}; give a positive number.")
    if np.any(np.asarray(onset) < 0) or not np.isfinite(onset).all():
        raise ValueError(f"{name}: onset is {onset} ms; a run starts at 0 ms.")
    if train.count > 1 and train.period <= train.duration:
        raise ValueError(
            f"{name}: the period, {train.period} ms, must exceed the duration, "
            f"{train.duration} ms, when count is {train.count}."
        )
