"""Some rows of the operators on a mesh, gathered once to be applied many times.

Which rows, and how many, depends on data; the dense arrays have a fixed room for them. There are
two sizes of it, and a loop over the rows is compiled for each. Choosing between them while the
program runs suits a CPU; a GPU would ask the host.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from .differences import gather

# Shares of the rows of every slice that the dense arrays have room for.
LEVELS = (0.2, 0.4)
# Lengths of dense arrays are odd multiples of this many entries: were they powers of two, all rows
# of a matrix would fall into the same lines of the cache, and a multiplication take four times as
# long.
LINE = 16


class Region(eqx.Module):
    """The chosen rows of one slice of a pattern: the inner ones, then their rim."""

    columns: Integer[Array, "width room"]  # neighbours of every entry, by their rows
    near: Integer[Array, "width room"]  # the same by their entries; of inner rows all have one
    whole: Int[Array, ""]  # how many rows, with the rim
    rows: int = eqx.field(static=True)  # of the slice


class Subset(eqx.Module):
    """Inner rows, and a rim of rows whose values they read, in dense arrays.

    Attributes:
        nodes: row of each entry; any row where the room is not filled.
        position: entry of each row that has one.
        inside: which rows are inner ones.
        regions: one a slice of the pattern, one behind the other.
        level: number of the smallest of `LEVELS` that has room for all.
        largest: number of the level whose room the arrays over the entries have. The rows of the
            regions, and of weights, have that of the last level always: what is beyond the room
            is left out as they are read, and not copied.
    """

    nodes: Int[Array, " dense"]
    position: Int[Array, " nodes"]
    inside: Bool[Array, " nodes"]
    regions: tuple[Region, ...]
    level: Int[Array, ""]
    largest: int = eqx.field(static=True, default=len(LEVELS) - 1)

    def take(self, leaf: Any) -> Any:
        """The entries of an array that has one value a row; anything else as it is."""
        return gather(leaf, self.nodes) if jnp.ndim(leaf) == 1 else leaf

    def join(
        self, inner: Float[Array, " dense"], others: Float[Array, " nodes"]
    ) -> Float[Array, " nodes"]:
        """A value of every row: of the inner ones theirs."""
        return jnp.where(self.inside, gather(inner, self.position), others)

    def weights(
        self, slices: tuple[Float[Array, "width rows"], ...]
    ) -> tuple[Float[Array, "width room"], ...]:
        """The weights of an operator in these rows."""
        out, begin, first = [], 0, 0
        for region, weights in zip(self.regions, slices, strict=True):
            size = region.columns.shape[1]
            out.append(gather(weights, self.nodes[begin : begin + size] - first))
            begin, first = begin + size, first + region.rows
        return tuple(out)

    def differences(
        self,
        x: Float[Array, " any"],
        home: Float[Array, " dense"],
        weights: tuple[Float[Array, "width room"], ...],
        *,
        dense: bool = False,
    ) -> Float[Array, " dense"]:
        """Sum of w_ki (x_c(k,i) - home_i) for every entry, as `row_differences`; lies in memory.

        Args:
            x: a value of every row, or of every entry.
            home: x of the entries themselves.
            weights: of the operator in these rows, with the room of the last level.
            dense: whether x is a value of every entry; then only inner rows come out right.
        """

        def total(zero, _):
            out, begin = [], 0
            sizes = self._sizes(self.largest)
            for region, weight, size in zip(self.regions, weights, sizes, strict=True):
                columns = region.near if dense else region.columns
                here = jax.lax.slice_in_dim(home, begin, begin + size)
                sums = jnp.zeros_like(here)
                for k in range(columns.shape[0]):
                    column = columns[k, :size] + zero.astype(columns.dtype)
                    column = self._moved(column, self.largest) if dense else column
                    sums = sums + weight[k, :size] * (gather(x, column) - here)
                out.append(sums)
                begin += size
            return out[0] if len(out) == 1 else jnp.concatenate(out)

        # One trip of a loop whose length XLA does not know, through columns that it takes to vary
        # with it. Otherwise it would put several sums into one kernel, which takes twice the time
        # of both, or gather every column into an array of its own.
        trips = jnp.minimum(self.level + 1, 1)
        return jax.lax.fori_loop(0, trips, total, jnp.zeros_like(home))

    def at(self, level: int) -> "Subset":
        """With the room of a smaller level."""
        return Subset(
            nodes=self.cut(self.nodes, level),
            position=self._moved(self.position, level),
            inside=self.inside,
            regions=self.regions,
            level=self.level,
            largest=level,
        )

    def cut(self, leaf: Any, level: int) -> Any:
        """What an array over the entries, [dense], has for a smaller level; others as they are."""
        if jnp.ndim(leaf) == 0 or level == self.largest:
            return leaf
        parts = self._parts(leaf)
        return _concatenated(
            [part[:size] for part, size in zip(parts, self._sizes(level), strict=True)]
        )

    def put(self, leaf: Array, part: Array, level: int) -> Array:
        """The array over the entries with those of a smaller level replaced."""
        if level == self.largest:
            return part
        out, begin = [], 0
        for old, size in zip(self._parts(leaf), self._sizes(level), strict=True):
            out += [part[begin : begin + size], old[size:]]
            begin += size
        return _concatenated(out)

    def _parts(self, leaf: Array) -> list[Array]:
        ends = np.cumsum(self._sizes(self.largest))[:-1]
        return jnp.split(leaf, ends)

    def _sizes(self, level: int) -> list[int]:
        return [room(region.rows, level) for region in self.regions]

    def _moved(self, entries: Array, level: int) -> Array:
        """Numbers of entries in the room of a smaller level than the last."""
        before = zip(self._sizes(len(LEVELS) - 1), self._sizes(level), strict=True)
        moved, end = entries, 0
        for larger, smaller in list(before)[:-1]:
            end += larger
            moved = moved - jnp.where(entries >= end, larger - smaller, 0).astype(entries.dtype)
        return moved


def subset(
    columns: tuple[Integer[Array, "width rows"], ...],
    inside: Bool[Array, " nodes"],
    around: Bool[Array, " nodes"],
) -> Subset:
    """Number the chosen rows through.

    Args:
        columns: of the operators, by slices.
        inside: the inner rows.
        around: the inner rows and all their neighbours.
    """
    largest = len(LEVELS) - 1
    first, begin = 0, 0
    numbered = []
    for column in columns:
        rows = column.shape[1]
        here = slice(first, first + rows)
        numbered.append(_number(inside[here], around[here], first, begin))
        first, begin = first + rows, begin + room(rows, largest)
    position = jnp.concatenate([found[1] for found in numbered])
    regions, first = [], 0
    for column, (nodes, _, whole) in zip(columns, numbered, strict=True):
        near = gather(column, nodes - first)
        regions.append(Region(near, gather(position, near), whole, column.shape[1]))
        first += column.shape[1]
    return Subset(
        nodes=jnp.concatenate([found[0] for found in numbered]),
        position=position,
        inside=inside,
        regions=tuple(regions),
        level=_level([(r.whole, r.rows) for r in regions]),
    )


def fits(
    columns: tuple[Integer[Array, "width rows"], ...], chosen: Bool[Array, " nodes"]
) -> Bool[Array, ""]:
    """Whether there is room for the chosen rows, inner ones and rim together."""
    ends = np.cumsum([column.shape[1] for column in columns])
    slices = jnp.split(chosen, ends[:-1])
    return _level([(x.sum(), len(x)) for x in slices]) < len(LEVELS)


def room(rows: int, level: int) -> int:
    """Length of the dense arrays for the rows of one slice."""
    lines = -(-int(LEVELS[level] * rows) // LINE)
    return LINE * (lines + 1 - lines % 2)


def _level(counts: list[tuple[Array, int]]) -> Int[Array, ""]:
    """Number of the first level with room for so many of so many rows; behind the last if none."""
    too_small = [
        jnp.stack([count > room(rows, level) for count, rows in counts]).any()
        for level in range(len(LEVELS))
    ]
    return jnp.stack(too_small).sum(dtype=jnp.int32)


def _number(inside, around, first: int, begin: int):
    """Rows of the entries and entries of the rows of a slice, and how many there are."""
    rank = jnp.cumsum(inside, dtype=jnp.int32)
    outer = jnp.cumsum(around & ~inside, dtype=jnp.int32)
    inner = rank[-1]
    entry = jnp.arange(1, room(len(inside), len(LEVELS) - 1) + 1, dtype=jnp.int32)
    # the k-th marked row is the first whose rank is k
    row = jnp.where(
        entry <= inner, jnp.searchsorted(rank, entry), jnp.searchsorted(outer, entry - inner)
    )
    nodes = first + jnp.minimum(row, len(inside) - 1).astype(jnp.int32)
    # rows without an entry are given one that exists
    position = jnp.where(inside, rank, inner + outer)
    position = begin + jnp.clip(position - 1, 0, len(entry) - 1)
    return nodes, position.astype(jnp.int32), inner + outer[-1]


def _concatenated(parts: list[Array]) -> Array:
    parts = [part for part in parts if part.shape[0]]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)
