"""A sparse operator whose rows are spread over devices: neighbours exchange their halo, no more.

Each device holds the same number of slots: its own rows, behind a few unused slots where its part
is smaller than the largest. Arrays over the nodes are laid out device after device, [slots], and
sharded along that axis. An operator sends the values that other devices read, receives those it
reads itself, and multiplies as on one device. All else in a time step is done node by node or is a
reduction, which XLA splits by itself.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Integer

from .differences import gather
from .partition import exchange_rounds, ghost_nodes
from .rows import AbstractPattern, fill_slices, slice_widths
from .target import in_memory

# Name of the axis of the device mesh along which nodes are spread.
NODES = "nodes"
# Rounds of messages are joined into one exchange of all with all where that sends at most so many
# times the values: between GPUs of one machine it is the number of collectives that costs.
MOST_PADDING = 4.0


class PartitionedRows(eqx.Module):
    """Where the rows of a pattern lie on the devices, and what the devices exchange.

    A column is a slot of the same device, or, from `slots_per_part` on, a place in what the device
    receives in one exchange: in its rounds, one behind the other, or from each device in turn where
    all exchange with all at once (there are then no rounds, and one array to send).
    """

    parts: int = eqx.field(static=True)
    slot: Int[np.ndarray, " rows"]  # of every row of the pattern
    row: Int[np.ndarray, " slots"]  # of every slot; some row of the same part where it is unused
    used: Bool[np.ndarray, " slots"]
    columns: tuple[Int[np.ndarray, "width slots"], ...]  # one array a slice; padding points home
    entries: tuple[Int[np.ndarray, "width slots"], ...]  # edge of each entry; padding is `edges`
    inner: int = eqx.field(static=True)  # number of leading slices that read no halo
    sends: tuple[Int[np.ndarray, " sent"], ...]  # slots of each device to send, one array a round
    rounds: tuple[tuple[tuple[int, int], ...], ...] = eqx.field(static=True)  # (from, to) pairs

    @property
    def slots_per_part(self) -> int:
        """Slots of one device."""
        return len(self.row) // self.parts

    @property
    def collectives(self) -> int:
        """Number of collectives of one multiplication."""
        return len(self.sends)

    def halo_values(self) -> int:
        """Values that cross between devices in one multiplication, padding included."""
        if self.sends and not self.rounds:
            return len(self.sends[0]) // self.parts * (self.parts - 1)
        sizes = (len(send) // self.parts for send in self.sends)
        return sum(size * len(pairs) for size, pairs in zip(sizes, self.rounds, strict=True))


def partitioned_rows(
    pattern: AbstractPattern,
    part: Int[np.ndarray, " rows"],
    *,
    most_padding: float = MOST_PADDING,
) -> PartitionedRows:
    """Lay the rows of a pattern out over devices.

    Args:
        pattern: rows of the operators, ordered for locality.
        part: device of every row of the pattern, none without a row.
        most_padding: exchange all with all at once if that sends at most so many times the values
            that rounds of messages would; 0 for rounds always.
    """
    parts, edges = int(part.max()) + 1, pattern.edges
    both = np.concatenate([edges, edges[:, ::-1]])
    cut = part[both[:, 0]] != part[both[:, 1]]
    length = np.bincount(both[:, 0], minlength=pattern.nodes)
    outer = np.zeros(pattern.nodes, bool)
    outer[both[cut, 0]] = True
    local, bounds, inner = _local_order(part, parts, length, outer)
    size = bounds[-1]
    slot = part * np.int64(size) + local
    used = np.zeros(parts * size, bool)
    used[slot] = True
    row = np.repeat(np.unique(part, return_index=True)[1], size)
    row[slot] = np.arange(pattern.nodes)
    ghosts = ghost_nodes(part, edges)
    sends, rounds, place = _exchange(ghosts, local, parts, most_padding)
    # a column is local to the device of its row
    column = local[both[:, 1]].copy()
    column[cut] = size + place[_find(ghosts, part[both[cut, 0]], both[cut, 1])]
    columns, entries = _slices(
        slot[both[:, 0]], column, np.tile(np.arange(len(edges)), 2), bounds, parts
    )
    return PartitionedRows(
        parts=parts,
        slot=slot.astype(np.int32),
        row=row.astype(np.int32),
        used=used,
        columns=columns,
        entries=entries,
        inner=inner,
        sends=sends,
        rounds=rounds,
    )


class HaloOperator(eqx.Module):
    """An operator over devices: takes and returns [slots] arrays, zero where unused."""

    columns: tuple[Integer[Array, "width slots"], ...]
    weights: tuple[Float[Array, "width slots"], ...]
    sends: tuple[Integer[Array, " sent"], ...]
    rounds: tuple[tuple[tuple[int, int], ...], ...] = eqx.field(static=True)
    inner: int = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    def __call__(self, x: Float[Array, " slots"]) -> Float[Array, " slots"]:
        """Exchange the halo and apply the operator by gathers."""
        where, nodes = self.specs(), PartitionSpec(NODES)
        return jax.shard_map(
            self._local,
            mesh=self.mesh,
            in_specs=(nodes, where.columns, where.weights, where.sends),
            out_specs=nodes,
        )(x, self.columns, self.weights, self.sends)

    def specs(self) -> Any:
        """How each array is sharded: an operator with a `PartitionSpec` in the place of each."""

        def of(leaf):
            return PartitionSpec(*(None,) * (leaf.ndim - 1), NODES)

        return jax.tree.map(of, self)

    def _local(self, x, columns, weights, sends):
        """The rows of one device."""
        x = in_memory(x)
        leaving = [gather(x, send) for send in sends]
        if self.rounds:
            received = [
                jax.lax.ppermute(values, NODES, pairs)
                for values, pairs in zip(leaving, self.rounds, strict=True)
            ]
        else:
            received = [jax.lax.all_to_all(values, NODES, 0, 0, tiled=True) for values in leaving]
        start, out = 0, []
        table = x
        for k, (column, weight) in enumerate(zip(columns, weights, strict=True)):
            if k == self.inner:
                table = in_memory(jnp.concatenate([x, *received]))
            out.append(_differences(table, column, weight, start))
            start += column.shape[1]
        return out[0] if len(out) == 1 else jnp.concatenate(out)


def _differences(x, column, weight, start):
    """One slice, whose rows lie in `x` from `start` on."""
    home = jax.lax.slice(x, (start,), (start + column.shape[1],))
    total = jnp.zeros_like(home)
    for k in range(column.shape[0]):
        total = total + weight[k] * (gather(x, column[k]) - home)
    return total


def halo_operator(
    rows: PartitionedRows, edge_weights: Float[Array, " edges"], mesh: Mesh
) -> HaloOperator:
    """Lay the weight of every edge out over the rows of all devices."""
    padded = jnp.concatenate([edge_weights, jnp.zeros(1, edge_weights.dtype)])
    return HaloOperator(
        columns=tuple(jnp.asarray(c, jnp.uint32) for c in rows.columns),
        weights=tuple(padded[e] for e in rows.entries),
        sends=tuple(jnp.asarray(s, jnp.uint32) for s in rows.sends),
        rounds=rows.rounds,
        inner=rows.inner,
        mesh=mesh,
    )


def _local_order(part, parts, length, outer):
    """Place of every row on its device, where the slices end, and how many read no halo.

    The slices are the same on all devices: first those of rows without neighbours elsewhere, then
    those of the others, each by length and then in the order of the pattern.
    """
    size = np.bincount(part, minlength=parts).max()
    seam = size - np.bincount(part[outer], minlength=parts).max()
    local = _places(part, parts, size, length, outer)
    # a device with fewer outer rows than another fills that range up with inner ones
    late = local >= seam
    local = _places(part, parts, size, length, late)
    longest = np.zeros(size, int)
    np.maximum.at(longest, local, length)
    bounds, inner = [0], 0
    for begin, end in ((0, seam), (seam, size)):
        if end > begin:
            widths = slice_widths(longest[begin:end])
            home = np.searchsorted(widths, longest[begin:end])
            bounds += (begin + np.cumsum(np.bincount(home))).tolist()
        inner = inner or len(bounds) - 1
    home = np.searchsorted(bounds, local, side="right")
    return _places(part, parts, size, home, late), bounds[1:], inner if seam else 0


def _places(part, parts, size, key, late):
    """Sort the rows of each part: `late` ones last, each kind by a key; the last fills the end."""
    order = np.lexsort((key, late, part))
    count = np.bincount(part, minlength=parts)
    behind = np.arange(len(part)) - np.repeat(np.cumsum(count), count)
    local = np.empty(len(part), int)
    local[order] = size + behind
    return local


def _exchange(ghosts, local, parts, most_padding):
    """Slots to send in each round, pairs of devices of each round, place of every ghost."""
    pairs, which, count = np.unique(
        ghosts[:, 1::-1], axis=0, return_inverse=True, return_counts=True
    )
    sends, rounds, place = _in_rounds(ghosts, local, parts, pairs, which, count)
    longest, sent = count.max(initial=0), sum(map(len, sends))
    if len(rounds) < 2 or parts * parts * longest > most_padding * sent:
        return sends, rounds, place
    # a block for every device to send to, and one from every device received
    order = np.lexsort((local[ghosts[:, 2]], which))
    begin = np.cumsum(count) - count
    position = np.empty(len(ghosts), int)
    position[order] = np.arange(len(ghosts)) - np.repeat(begin, count)
    send = np.zeros((parts, parts, longest), np.int32)
    send[ghosts[:, 1], ghosts[:, 0], position] = local[ghosts[:, 2]]
    return (send.ravel(),), (), ghosts[:, 1] * longest + position


def _in_rounds(ghosts, local, parts, pairs, which, count):
    """The exchange in messages from device to device, in as few rounds as there can be."""
    # long messages share a round with long ones
    rank = np.argsort(-count, kind="stable")
    when = np.empty(len(pairs), int)
    when[rank] = exchange_rounds(pairs[rank])
    sends, rounds, place, offset = [], [], np.empty(len(ghosts), int), 0
    for number in range(when.max(initial=-1) + 1):
        here = np.flatnonzero(when == number)
        send = np.zeros((parts, count[here].max()), np.int32)
        for pair in here:
            ghost = np.flatnonzero(which == pair)
            ghost = ghost[np.argsort(local[ghosts[ghost, 2]])]
            send[pairs[pair, 0], : len(ghost)] = local[ghosts[ghost, 2]]
            place[ghost] = offset + np.arange(len(ghost))
        offset += send.shape[1]
        sends.append(send.ravel())
        rounds.append(tuple(map(tuple, pairs[here].tolist())))
    return tuple(sends), tuple(rounds), place


def _find(ghosts, part, row):
    """Index of the ghost with a receiving part and a row."""
    scale = ghosts[:, 2].max(initial=0) + 1
    keys = ghosts[:, 0] * scale + ghosts[:, 2]
    order = np.argsort(keys)
    return order[np.searchsorted(keys[order], part * scale + row)]


def _slices(slot, column, entry, bounds, parts):
    """The slices of all devices, one device after the other within each slice."""
    size = bounds[-1]
    local = np.tile(np.arange(size), parts)
    home = np.searchsorted(bounds, local, side="right")
    order = np.argsort(home, kind="stable")  # slots, slice by slice
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    ends = [parts * bound for bound in bounds]
    return fill_slices(place[slot], column, entry, local[order], ends)
