"""A run spread over devices: the nodes are shared out, and everything per node lies where they do.

Arrays over the nodes become arrays over the slots of all devices, sharded (`numerics.halo`). The
time loop itself stays as it is written for one device: XLA splits what is done node by node, turns
maxima and sums into ones over all devices, and only the operators exchange anything in a step.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from cardiotwin.numerics.concrete import known
from cardiotwin.numerics.halo import (
    NODES,
    HaloOperator,
    PartitionedRows,
    halo_operator,
    partitioned_rows,
)
from cardiotwin.numerics.partition import PartitionQuality, partition, partition_quality
from cardiotwin.numerics.rows import AbstractOperator
from cardiotwin.numerics.target import evenly
from cardiotwin.tissue.stimulus import Pulses

from .problem import System


class Layout(eqx.Module):
    """Where the arrays of a run lie: in the order of the rows, or in the slots of several devices.

    Attributes:
        rank: slot of every node of the mesh; its row on one device.
        slot: slot of every row of the system; None on one device, where the first are the rows'.
        mesh: the devices; None for one.
        slots: of all devices together; 0 where they are the rows themselves.
    """

    rank: Int[Array, " nodes"]
    slot: Int[Array, " nodes"] | None = None
    mesh: Mesh | None = eqx.field(static=True, default=None)
    slots: int = eqx.field(static=True, default=0)

    def to_mesh(self, values: Array) -> Array:
        """Per-node values in the order of the mesh, whole on every device."""
        return self._whole(self._whole(values)[..., self.rank])

    def to_rows(self, tree: Any) -> Any:
        """A PyTree with its per-node arrays in the order of the rows, whole on every device."""
        if not self.slots:
            return tree
        rows = slice(len(self.rank)) if self.slot is None else self.slot

        def gather(leaf):
            leaf = self._whole(leaf)
            return self._whole(leaf[..., rows]) if self._per_node(leaf) else leaf

        return jax.tree.map(gather, tree)

    def tree_to_mesh(self, tree: Any) -> Any:
        """A PyTree with its per-node arrays in the order of the mesh, whole on every device."""
        nodes = self.slots or len(self.rank)

        def gather(leaf):
            per_node = np.ndim(leaf) > 0 and np.shape(leaf)[-1] == nodes
            return self.to_mesh(leaf) if per_node else self._whole(leaf)

        return jax.tree.map(gather, tree)

    def pin(self, tree: Any) -> Any:
        """The same PyTree, its per-node arrays kept where their nodes are."""
        if self.mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.shardings(tree))

    def shardings(self, tree: Any) -> Any:
        """Where each array of a PyTree lies: per-node ones with their nodes, others everywhere."""
        mesh = self.mesh
        assert mesh is not None

        def of(leaf):
            if isinstance(leaf, HaloOperator):
                return jax.tree.map(lambda spec: NamedSharding(mesh, spec), leaf.specs())
            axes = (None,) * (np.ndim(leaf) - 1) + (NODES,) if self._per_node(leaf) else ()
            return NamedSharding(mesh, PartitionSpec(*axes))

        return jax.tree.map(of, tree, is_leaf=lambda leaf: isinstance(leaf, HaloOperator))

    def place(self, tree: Any) -> Any:
        """Spread a PyTree over the devices, as `shardings` says."""
        return jax.device_put(tree, self.shardings(tree))

    def copy(self, tree: Any) -> Any:
        """Copy a PyTree to every device, whole."""
        assert self.mesh is not None
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def agreed(self, decision: Any) -> bool:
        """A decision; where several processes solve together, that of the first of them."""
        if self.mesh is None or len(_processes(self.mesh.devices.ravel().tolist())) == 1:
            return bool(decision)
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(bool(decision))))

    def _per_node(self, leaf: Any) -> bool:
        return np.ndim(leaf) > 0 and np.shape(leaf)[-1] == self.slots

    def _whole(self, leaf: Array) -> Array:
        if self.mesh is None:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, PartitionSpec()))


class Spread(NamedTuple):
    """A system shared out among devices."""

    system: System
    rows: PartitionedRows
    devices: tuple[Any, ...]
    quality: PartitionQuality

    @property
    def mesh(self) -> Mesh:
        """The devices, in a row."""
        axes = {"axis_shapes": (len(self.devices),), "axis_names": (NODES,)}
        return jax.make_mesh(**axes, axis_types=(AxisType.Auto,), devices=self.devices)

    def layout(self) -> Layout:
        """Where arrays lie."""
        rank = self.rows.slot[self.system.pattern.rank]
        return Layout(jnp.asarray(rank), jnp.asarray(self.rows.slot), self.mesh, len(self.rows.row))

    def arrange(self, tree: Any, unused: Any = None) -> Any:
        """Lay a PyTree over rows out over slots: what a scheme prepared, or a state.

        An array is per node if its last axis is as long as there are nodes and it is not declared
        to have other axes. A slot that is not used has the parameters of some node of its device,
        but no stimulus and no neighbours, so it stays at rest if it starts there: the values of
        such slots are taken from `unused`, a PyTree like the first, where it is given.
        """

        def operator(old: AbstractOperator) -> HaloOperator:
            return halo_operator(self.rows, old.edge_weights(self.system.pattern), self.mesh)

        return _laid_out(tree, unused, self.system.nodes, self.rows, operator)

    def stats(self) -> dict[str, Any]:
        """Numbers for the report of a run."""
        return {
            "devices": len(self.devices),
            "largest_part": self.rows.slots_per_part,
            "halo_nodes": self.quality.halo,
            "halo_values_sent": self.rows.halo_values(),
            "halo_collectives": self.rows.collectives,
        }


class Evened(NamedTuple):
    """A system on one processor whose threads divide the number of slots evenly.

    Some unused slots follow the nodes where these do not divide: on two threads a step of 66,045
    nodes took four times as long as one of 66,046 (`evenly`).
    """

    nodes: int
    row: Int[np.ndarray, " slots"]  # of every slot; some row where it is unused
    used: Bool[np.ndarray, " slots"]

    def layout(self, rank: Int[np.ndarray, " nodes"]) -> Layout:
        """Where arrays lie; `rank` is the row of every node of the mesh."""
        return Layout(jnp.asarray(rank), slots=len(self.row))

    def arrange(self, tree: Any, unused: Any = None) -> Any:
        """Lay a PyTree over rows out over slots, as `Spread.arrange` does."""
        return _laid_out(tree, unused, self.nodes, self, lambda old: old.padded(len(self.row)))


def evened(nodes: int) -> Evened | None:
    """Slots for the nodes of a run on one device; None where the nodes are so many themselves."""
    slots = evenly(nodes)
    if slots == nodes:
        return None
    return Evened(nodes, np.minimum(np.arange(slots), nodes - 1), np.arange(slots) < nodes)


def spread(system: System, devices: Any, method: Any = "bisection") -> Spread:
    """Share the nodes of a system out among devices.

    Args:
        system: the discrete problem.
        devices: as `find_devices` takes them.
        method: as `partition` takes it; an array is in the order of the mesh.

    Raises:
        ValueError: devices that do not exist, or a partition that leaves one without nodes.
    """
    found = find_devices(devices)
    if not isinstance(method, str):
        method = np.asarray(method)
        method = method[system.pattern.order] if len(method) == system.nodes else method
    part = partition(np.asarray(known(system.points)), system.pattern.edges, len(found), method)
    if len(_processes(found)) > 1:
        # processors differ in rounding; the partition must not
        part = np.asarray(multihost_utils.broadcast_one_to_all(part))
    rows = partitioned_rows(system.pattern, part)
    return Spread(system, rows, found, partition_quality(part, system.pattern.edges))


def find_devices(devices: int | Sequence[Any]) -> tuple[Any, ...]:
    """The devices of a run.

    Args:
        devices: how many of those that JAX has, or which ones.

    Raises:
        ValueError: there are fewer, one is named twice, or a process has none of them.
    """
    if isinstance(devices, int | np.integer):
        have = jax.devices()
        if not 1 <= devices <= len(have):
            raise ValueError(_too_few(int(devices), have))
        found = tuple(have[:devices])
    else:
        found = tuple(devices)
        if not found or len(set(found)) < len(found):
            raise ValueError(f"The devices are {found}; give one or more, each of them once.")
    processes = _processes(found)
    if processes != {jax.process_index()} and len(processes) < jax.process_count():
        raise ValueError(
            f"The {len(found)} devices belong to {len(processes)} of {jax.process_count()} "
            "processes. Give devices of this process only, or some of every process."
        )
    return found


def _too_few(count: int, have: Sequence[Any]) -> str:
    hint = ""
    if have[0].platform == "cpu":
        hint = (
            " A processor counts as one device; to make more of it, set the environment variable "
            f"JAX_NUM_CPU_DEVICES={max(count, 1)} before the start."
        )
    return (
        f"The run asks for {count} devices, and JAX has {len(have)} ({have[0].platform}). "
        f"Give 1 to {len(have)}.{hint}"
    )


def _processes(devices: Sequence[Any]) -> set[int]:
    """Numbers of the processes that devices belong to."""
    return {device.process_index for device in devices}


def _laid_out(
    tree: Any,
    unused: Any,
    nodes: int,
    rows: PartitionedRows | Evened,
    operator: Callable[[AbstractOperator], Any],
) -> Any:
    """A PyTree over rows, laid out over slots; see `Spread.arrange`."""
    declared = set(_other_axes(tree))
    done: dict[Any, Any] = {}  # what two parts of the tree hold, they hold afterwards too

    def lay(leaf, idle):
        if isinstance(leaf, AbstractOperator):
            same = tuple(map(id, leaf.weights))
            if same not in done:
                done[same] = operator(leaf)
            return done[same]
        if isinstance(leaf, Pulses):
            leaf = jax.tree.map(lay, leaf, idle)
            return dataclasses.replace(leaf, amplitude=jnp.where(rows.used, leaf.amplitude, 0.0))
        if not np.ndim(leaf) or np.shape(leaf)[-1] != nodes or id(leaf) in declared:
            return leaf
        same = (id(leaf), id(idle))
        if same not in done:
            values = leaf[..., rows.row]
            there = values if idle is leaf else jnp.where(rows.used, values, idle[..., rows.row])
            done[same] = there
        return done[same]

    kinds = (AbstractOperator, Pulses)
    idle = tree if unused is None else unused
    return jax.tree.map(lay, tree, idle, is_leaf=lambda leaf: isinstance(leaf, kinds))


def _other_axes(tree: Any) -> Iterator[int]:
    """Arrays (their ids) that a module declares to have other axes than the nodes."""
    if isinstance(tree, eqx.Module):
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            declared = getattr(field.type, "dim_str", None)
            if declared is None:
                yield from _other_axes(value)
            elif "nodes" not in declared.split():
                yield id(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from _other_axes(value)
    elif isinstance(tree, dict):
        yield from _other_axes(tuple(tree.values()))
