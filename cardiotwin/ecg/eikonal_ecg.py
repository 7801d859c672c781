"""ECGs of activation times: a template at every node, summed by the lead field."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int

from cardiotwin._types import Milliseconds
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.numerics.fem import p1_geometry

RISE_PER_SCALE = 2.0 * np.log(9.0)  # 10 to 90 % of a logistic step, in units of its scale
VARIANCE_PER_SCALE = np.pi**2 / 3.0  # of a logistic distribution, in units of its scale squared
AT_ONCE = 4  # ECGs of a batch computed together; more only takes memory


class AbstractAction(eqx.Module):
    """An action potential as a function of the time since activation."""

    @abstractmethod
    def __call__(
        self,
        since: Float[Array, "times nodes"],
        duration: Float[Array, " nodes"] | None,
        spread: Float[Array, " nodes"],
    ) -> Float[Array, "times nodes"]:
        """Voltage in mV.

        Args:
            since: [times, nodes] ms since activation, negative before it.
            duration: [nodes] of the action potential in ms; None for no repolarisation.
            spread: [nodes] ms, standard deviation of the activation times around the node over
                which the voltage is averaged.
        """


class SigmoidAction(AbstractAction):
    """A logistic rise, and a logistic fall one duration later.

    Attributes:
        amplitude: mV from rest to the plateau.
        upstroke: ms from 10 to 90 % of the rise.
        repolarisation: ms from 10 to 90 % of the fall.
    """

    amplitude: float | Array = 105.0
    upstroke: float | Array = 2.0
    repolarisation: float | Array = 80.0

    def __check_init__(self):
        for name in ("amplitude", "upstroke", "repolarisation"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"SigmoidAction: {name} is {value}; give a positive number.")

    def __call__(self, since, duration, spread):
        """Voltage above rest in mV; a spread widens the rise to the same variance."""
        rise = (self.upstroke / RISE_PER_SCALE) ** 2 + spread**2 / VARIANCE_PER_SCALE
        voltage = jax.nn.sigmoid(since * jax.lax.rsqrt(rise)[None])
        if duration is not None:
            fall = RISE_PER_SCALE / self.repolarisation
            voltage = voltage - jax.nn.sigmoid((since - duration[None]) * fall)
        return self.amplitude * voltage


class TabulatedAction(AbstractAction):
    """An action potential of a table, such as one paced in a cell model or measured.

    Another duration stretches what follows the first 10 ms. Averages over a spread are exact:
    differences of the table's integral.

    Attributes:
        integral: [samples] mV ms, of the voltage above rest from activation on.
        step: ms between samples.
        duration: of the table's action potential in ms.
    """

    integral: Float[Array, " samples"]
    step: float
    duration: float

    UPSTROKE = 10.0  # ms that no stretching touches
    LEAST_HALF_WIDTH = 0.25  # ms, over which is averaged at least

    def __init__(self, t_ms, voltage, *, duration: float):
        """Take a table.

        Args:
            t_ms: [samples] equally spaced ms, from activation on.
            voltage: [samples] mV; the last sample is rest.
            duration: of this action potential in ms, such as its APD90.

        Raises:
            ValueError: for shapes, times or a duration that do not fit.
        """
        times, values = np.asarray(t_ms, np.float64), np.asarray(voltage, np.float64)
        if times.ndim != 1 or values.shape != times.shape or len(times) < 3:
            raise ValueError(
                f"TabulatedAction: got times of shape {times.shape} and voltages of shape "
                f"{values.shape}; expected [samples] each, three or more."
            )
        steps = np.diff(times)
        if not (np.isfinite(values).all() and steps.min() > 0.0 and np.ptp(steps) < 1e-3):
            raise ValueError("TabulatedAction: expected finite voltages at equal steps in ms.")
        if not self.UPSTROKE < duration <= times[-1] - times[0]:
            raise ValueError(
                f"TabulatedAction: duration is {duration:g} ms; expected {self.UPSTROKE:g} to the "
                f"table's {times[-1] - times[0]:g} ms."
            )
        above = values - values[-1]
        self.step = float(steps.mean())
        areas = 0.5 * (above[1:] + above[:-1]) * self.step
        self.integral = jnp.asarray(np.concatenate([[0.0], np.cumsum(areas)]))
        self.duration = float(duration)

    def __call__(self, since, duration, spread):
        """Voltage above rest in mV, averaged over a box of the spread's variance."""
        half = jnp.maximum(np.sqrt(3.0) * spread, self.LEAST_HALF_WIDTH)[None]
        after, before = self._until(since + half, duration), self._until(since - half, duration)
        return (after - before) / (2.0 * half)

    def _until(self, since, duration):
        """Integral of the voltage up to `since`."""
        beyond = jnp.maximum(since - self.UPSTROKE, 0.0)
        early = self._look_up(jnp.minimum(since, self.UPSTROKE))
        edge = self._look_up(jnp.full((), self.UPSTROKE, since.dtype))
        if duration is None:  # the voltage after the upstroke for ever
            later = self._look_up(jnp.full((), self.UPSTROKE + self.step, since.dtype))
            return early + beyond * (later - edge) / self.step
        ratio = (duration - self.UPSTROKE)[None] / (self.duration - self.UPSTROKE)
        return early + ratio * (self._look_up(self.UPSTROKE + beyond / ratio) - edge)

    def _look_up(self, since):
        place = jnp.clip(since / self.step, 0.0, len(self.integral) - 1.0)
        first = jnp.minimum(place.astype(jnp.int32), len(self.integral) - 2)
        low, high = self.integral[first], self.integral[first + 1]
        return (low + (place - first) * (high - low)).astype(since.dtype)


class EikonalECG(eqx.Module):
    """ECGs of activation times, fast enough for thousands, differentiable in times and durations.

    A front thinner than two edges jumps from node to node and makes the ECG noisy (Pezzuto 2017,
    https://doi.org/10.3389/fphys.2017.00265). So the voltage of a node is the average of the
    template over activation times near it: `smoothing` is the share of the variance that these
    have over the node's elements. All of it blunts the ECG, none leaves it rough.

    Attributes:
        field: [leads, nodes] mV per mV; `twelve_leads(field.T, names).T` of electrodes' lead field.
        action: the template.
        neighbours: [width, nodes] indices.
        weights: [width, nodes] of the squared differences to the neighbours; they sum up to the
            variance of the activation times around the node.
        smoothing: share of that variance that widens the template; 0 takes the nodes' own times.
    """

    field: Float[Array, "leads nodes"]
    action: AbstractAction
    neighbours: Int[Array, "width nodes"]
    weights: Float[Array, "width nodes"]
    smoothing: float

    def __init__(
        self,
        mesh: Mesh,
        field: Any,
        action: AbstractAction | None = None,
        *,
        smoothing: float = 0.25,
        dtype: Any = None,
    ):
        """Prepare the sum over a mesh.

        Args:
            mesh: the heart.
            field: [leads, nodes] mV per mV; every row sums to zero.
            action: the template; a `SigmoidAction` by default.
            smoothing: share of the variance of the activation times around a node, from 0 to 1.
            dtype: of the computation; float32 by default, which keeps 1e-4 mV.

        Raises:
            ValueError: where the field is not one of this mesh, or the smoothing no share.
        """
        if np.ndim(field) != 2 or np.shape(field)[1] != len(mesh.points):
            raise ValueError(
                f"EikonalECG: got a lead field of shape {np.shape(field)} for {len(mesh.points)} "
                "nodes; expected [leads, nodes]. Compute the lead field on this mesh."
            )
        if not 0.0 <= smoothing <= 1.0:
            raise ValueError(f"EikonalECG: smoothing is {smoothing}; expected 0 to 1.")
        self.smoothing = smoothing
        dtype = np.float32 if dtype is None else dtype
        neighbours, weights = _spread_stencil(mesh)
        self.field = jnp.asarray(field, dtype)
        self.action = SigmoidAction() if action is None else action
        self.neighbours, self.weights = jnp.asarray(neighbours), jnp.asarray(weights, dtype)

    def spread(self, activation: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Standard deviation in ms of the activation times around each node.

        Args:
            activation: [nodes] ms.
        """
        apart = activation[self.neighbours] - activation[None]
        return jnp.sqrt(jnp.sum(self.weights * apart**2, axis=0) + 1e-12)

    def __call__(
        self,
        t_ms: Float[Array | np.ndarray, " times"],
        activation: Float[Array | np.ndarray, " nodes"],
        duration: Float[Array | np.ndarray, " nodes"] | None = None,
    ) -> Float[Array, "times leads"]:
        """Return the ECG of one beat.

        Args:
            t_ms: [times] ms.
            activation: [nodes] ms; every node must be activated.
            duration: [nodes] of the action potentials in ms; None for the QRS alone.

        Returns:
            [times, leads] mV.
        """
        dtype = self.field.dtype
        activation = jnp.asarray(activation, dtype)
        if duration is not None:
            duration = jnp.asarray(duration, dtype)
        since = jnp.asarray(t_ms, dtype)[:, None] - activation[None]
        share = jnp.sqrt(jnp.asarray(self.smoothing, dtype))  # traced where the ECG is an argument
        voltage = self.action(since, duration, share * self.spread(activation))
        # fronts of 100 mV leave 1 mV: without the mean the sum cancels less
        voltage = voltage - jnp.mean(voltage, axis=1, keepdims=True)
        return jnp.matmul(voltage, self.field.T, precision=jax.lax.Precision.HIGHEST)

    def batch(
        self,
        t_ms: Float[Array | np.ndarray, " times"],
        activation: Float[Array | np.ndarray, "beats nodes"],
        duration: Float[Array | np.ndarray, "beats nodes"] | None = None,
    ) -> Float[Array, "beats times leads"]:
        """ECGs of many beats, a few at a time.

        Args:
            t_ms: [times] ms.
            activation: [beats, nodes] ms.
            duration: [beats, nodes] ms; None for the QRS alone.

        Returns:
            [beats, times, leads] mV.
        """
        beats = jax.tree.map(lambda x: jnp.asarray(x, self.field.dtype), (activation, duration))
        return jax.lax.map(lambda beat: self(t_ms, *beat), beats, batch_size=AT_ONCE)


def resolved_upstroke(mesh: Mesh, activation: Float[np.ndarray, " nodes"]) -> Milliseconds:
    """The shortest upstroke that a mesh resolves without averaging: the time of two edges.

    Args:
        mesh: the heart.
        activation: [nodes] ms.

    Returns:
        ms, for 95 % of the edges (Pezzuto 2017: width times velocity at least two edges).
    """
    pairs = mesh.cells[:, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]].reshape(-1, 2)
    apart = np.abs(np.diff(np.asarray(activation, np.float64)[pairs], axis=1))
    return float(2.0 * np.percentile(apart, 95.0))


def _spread_stencil(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours and weights [width, nodes] of squared differences that give the spread of times.

    Around node j the second moment of an element with the weight N_j is
    (sum_a d_a d_a^T + (sum_a d_a)(sum_a d_a)^T) / 30 with the edges d_a to its other corners. The
    edges are weighted by volume, and scaled so that the trace of the moment is right.
    """
    cells, count = np.asarray(mesh.cells), len(mesh.points)
    volumes = np.asarray(p1_geometry(mesh.points, cells)[1])
    moment, own = np.zeros(count), np.zeros(count)
    first, second, weight = [], [], []
    for corner in range(4):
        others = np.delete(np.arange(4), corner)
        j = cells[:, corner]
        edges = mesh.points[cells[:, others]] - mesh.points[j][:, None]
        trace = (np.sum(edges**2, axis=(1, 2)) + np.sum(edges.sum(axis=1) ** 2, axis=1)) / 30.0
        moment += np.bincount(j, volumes * trace, minlength=count)
        own += np.bincount(j, volumes, minlength=count)
        first.append(np.repeat(j, 3))
        second.append(cells[:, others].ravel())
        weight.append(np.repeat(volumes, 3))
    index = np.concatenate(first), np.concatenate(second)
    matrix = sp.csr_matrix((np.concatenate(weight), index), shape=(count, count))
    lengths = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(count), lengths)
    apart = np.sum((mesh.points[matrix.indices] - mesh.points[rows]) ** 2, axis=1)
    total = np.bincount(rows, matrix.data * apart, minlength=count)
    # a node of no element has no neighbours
    scale = np.divide(moment, own * total, out=np.zeros(count), where=total > 0.0)
    place = np.arange(len(rows)) - matrix.indptr[rows]
    neighbours = np.tile(np.arange(count, dtype=np.int32), (max(int(lengths.max()), 1), 1))
    weights = np.zeros(neighbours.shape)
    neighbours[place, rows] = matrix.indices
    weights[place, rows] = matrix.data * scale[rows]
    return neighbours, weights
