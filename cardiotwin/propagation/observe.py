"""Observables: what a run remembers, folded into the time loop in O(nodes) memory."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

NodeArray = Float[Array, " nodes"]


class AbstractObservable(eqx.Module):
    """Something measured while the solver runs.

    `update` sees every time step and must cost O(nodes); its node order is the solver's own.
    `frame` sees carry and voltage once every frame, in the order of the mesh, and returns what is
    to be kept of them. `result` turns the last carry into per-node arrays, which the solver hands
    back in the order of the mesh.
    """

    @abstractmethod
    def init(self, v: NodeArray) -> Any:
        """Return the carry before the first step."""

    def update(
        self, carry: Any, v_old: NodeArray, v_new: NodeArray, t_old: Array, dt: Array
    ) -> Any:
        """Fold one step from `v_old` at time `t_old` (ms) to `v_new` into the carry."""
        del v_old, v_new, t_old, dt
        return carry

    def frame(self, carry: Any, v: NodeArray, t: Array) -> Any:
        """Return what to keep of the voltage `v` at frame time `t` (ms); None for nothing."""
        del carry, v, t
        return None

    def result(self, carry: Any) -> Any:
        """Return the final per-node arrays; None for nothing."""
        del carry
        return None


class ActivationTime(AbstractObservable):
    """First upward crossing of a threshold, interpolated linearly within the step.

    Nodes that never cross hold +inf in the solver; mask them (`jnp.isfinite`) before any mean.

    Args:
        threshold: mV.
        after: crossings before this time, ms, do not count, such as those of an earlier beat; None
            counts all.
    """

    threshold: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=-20.0)
    after: float | None = None

    def init(self, v: NodeArray) -> NodeArray:
        """No node has crossed yet."""
        return jnp.full(v.shape, jnp.inf, v.dtype)

    def update(self, carry, v_old, v_new, t_old, dt):
        """Note the nodes that cross in this step."""
        threshold = self.threshold.astype(v_new.dtype)
        rising = (v_old < threshold) & (v_new >= threshold)
        if self.after is not None:
            rising &= t_old >= self.after
        return jnp.where(
            rising & (carry == jnp.inf), crossing(v_old, v_new, t_old, dt, threshold), carry
        )

    def frame(self, carry, v, t):
        """Return the share of the nodes that has been activated so far."""
        return jnp.isfinite(carry).mean()

    def result(self, carry):
        """Return the times [nodes], ms."""
        return carry


class ActivationTimeAt(AbstractObservable):
    """Activation times so far at chosen nodes, once a frame; +inf where there was none yet.

    Args:
        nodes: [chosen].
        times: what counts as activation.
    """

    nodes: Int[np.ndarray, " chosen"] = eqx.field(converter=lambda n: np.asarray(n, np.int32))
    times: ActivationTime = eqx.field(default_factory=ActivationTime)

    def init(self, v: NodeArray) -> NodeArray:
        """No node has crossed yet."""
        check_nodes(self, v)
        return self.times.init(v)

    def update(self, carry, v_old, v_new, t_old, dt):
        """Note the nodes that cross in this step."""
        return self.times.update(carry, v_old, v_new, t_old, dt)

    def frame(self, carry, v, t):
        """Return the times at the nodes [chosen], ms."""
        return carry[self.nodes]


class RepolarisationTime(AbstractObservable):
    """Last downward crossing of a threshold, interpolated linearly within the step."""

    threshold: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=-70.0)  # mV

    def init(self, v: NodeArray) -> NodeArray:
        """No node has crossed yet."""
        return jnp.full(v.shape, jnp.inf, v.dtype)

    def update(self, carry, v_old, v_new, t_old, dt):
        """Note the nodes that cross in this step."""
        threshold = self.threshold.astype(v_new.dtype)
        falling = (v_old >= threshold) & (v_new < threshold)
        # a node that rises again has not repolarised yet
        rising = (v_old < threshold) & (v_new >= threshold)
        time = jnp.where(falling, crossing(v_old, v_new, t_old, dt, threshold), carry)
        return jnp.where(rising, jnp.inf, time)

    def result(self, carry):
        """Return the times [nodes], ms."""
        return carry


class Probe(AbstractObservable):
    """The voltage at chosen nodes, once a frame."""

    nodes: Int[np.ndarray, " probes"] = eqx.field(converter=lambda n: np.asarray(n, np.int32))

    def init(self, v: NodeArray) -> None:
        """Check that the nodes exist; nothing is carried."""
        check_nodes(self, v)

    def frame(self, carry, v, t):
        """Return the voltage at the probes [probes], mV."""
        return v[self.nodes]


class Snapshots(AbstractObservable):
    """The whole voltage field, once a frame.

    Memory grows with the frames: use the callback of `solve` where the run streams to a file.
    """

    def init(self, v: NodeArray) -> None:
        """Nothing is carried."""
        return None

    def frame(self, carry, v, t):
        """Return the voltage [nodes], mV."""
        return v


def check_nodes(observable: Any, v: NodeArray) -> None:
    """Refuse an observable whose `nodes` are no nodes of the mesh, naming its class."""
    nodes = observable.nodes
    if nodes.size and (nodes.min() < 0 or nodes.max() >= v.shape[0]):
        raise ValueError(
            f"{type(observable).__name__}: node indices span {nodes.min()} to {nodes.max()}, but "
            f"the mesh has nodes 0 to {v.shape[0] - 1}. Give indices of mesh nodes."
        )


def crossing(
    v_old: NodeArray, v_new: NodeArray, t_old: Array, dt: Array, threshold: Array
) -> NodeArray:
    """Time of the crossing of `threshold` between two voltages one step apart, in ms.

    Nodes that do not cross give `t_old`, with no derivative.
    """
    crosses = (v_old < threshold) != (v_new < threshold)
    # the double where keeps the gradient finite at nodes that (next to) do not move
    difference = jnp.where(crosses, v_new - v_old, 1.0)
    return t_old + dt * jnp.where(crosses, (threshold - v_old) / difference, 0.0)
