"""Some rows of the operators on a mesh, gathered once to be applied many times.

Which rows, and how many, depends on data. The dense arrays have a fixed room for them, and loops
over them take them in chunks, as many as there are. That suits a CPU; a GPU would ask the host in
every trip.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .differences import gather

# Entries that the ionic step takes at a time: enough for every core, few enough that little is done
# in vain. From 1024 to 8192 it takes the same time an entry, within a fifth.
CHUNK = 4176
# A multiplication goes through the smallest of these shares of the rows that holds those chosen; in
# chunks it would take twice the time, because XLA works out every index of a chunk anew.
LEVELS = (0.125, 0.25, 0.5)


class Region(eqx.Module):
    """The chosen rows of one slice of a pattern: the inner ones, then their rim."""

    columns: Int[Array, "width room"]  # neighbours of every entry, by their rows
    near: Int[Array, "width room"]  # the same by their entries; of inner rows all have one
    inner: Int[Array, ""]  # how many inner rows
    whole: Int[Array, ""]  # how many with the rim
    first: int = eqx.field(static=True)  # row where the slice begins
    begin: int = eqx.field(static=True)  # entry where the region begins
    rows: int = eqx.field(static=True)  # of the slice

    def size(self, level: float) -> int:
        """Entries of a share of the rows."""
        return room(self.rows, level)


class Subset(eqx.Module):
    """Inner rows, and a rim of rows whose values they read, in dense arrays.

    Attributes:
        nodes: row of each entry; any row where the room is not filled.
        position: entry of each row that has one.
        inside: which rows are inner ones.
        regions: one a slice of the pattern.
        chunks: first entry of every chunk that holds inner rows, then of the others.
        count: how many hold some.
    """

    nodes: Int[Array, " dense"]
    position: Int[Array, " nodes"]
    inside: Bool[Array, " nodes"]
    regions: tuple[Region, ...]
    chunks: Int[Array, " chunks"]
    count: Int[Array, ""]

    def take(self, leaf: Any) -> Any:
        """The entries of an array that has one value a row; anything else as it is."""
        return gather(leaf, self.nodes) if jnp.ndim(leaf) == 1 else leaf

    def join(
        self, inner: Float[Array, " dense"], others: Float[Array, " nodes"]
    ) -> Float[Array, " nodes"]:
        """A value of every row: of the inner ones theirs."""
        return jnp.where(self.inside, gather(inner, self.position), others)

    def weights(
        self, slices: tuple[Float[Array, "width rows"], ...], *, rim: bool = False
    ) -> tuple[Float[Array, "width room"], ...]:
        """The weights of an operator in the inner rows, and in the rim too where that is asked."""
        return tuple(
            _gathered(self.nodes, region, region.whole if rim else region.inner, weights)
            for region, weights in zip(self.regions, slices, strict=True)
        )

    def fill(
        self, kernel: Callable[[int, slice, slice], tuple[Array, ...]], *, rim: bool
    ) -> tuple[Float[Array, " dense"], ...]:
        """Arrays over the entries, of what a kernel finds for each.

        Args:
            kernel: given the number of a region, and which entries to work on, by their place in
                the region and in all, it returns arrays over them.
            rim: whether the rim is to be worked on, too.
        """
        counts = [region.whole if rim else region.inner for region in self.regions]
        too_small = [
            jnp.stack([c > r.size(level) for c, r in zip(counts, self.regions, strict=True)]).any()
            for level in LEVELS[:-1]
        ]
        level = jnp.stack(too_small).sum()
        return jax.lax.switch(level, [partial(self._fill, kernel, level) for level in LEVELS])

    def _fill(self, kernel, level: float):
        parts = []
        for number, region in enumerate(self.regions):
            size, begin = region.size(level), region.begin
            found = kernel(number, slice(size), slice(begin, begin + size))
            rest = jnp.zeros(region.near.shape[1] - size, found[0].dtype)
            parts.append([jnp.concatenate([x, rest]) for x in found])
        return tuple(jnp.concatenate(x) for x in zip(*parts, strict=True))


def subset(
    columns: tuple[Int[Array, "width rows"], ...],
    inside: Bool[Array, " nodes"],
    rim: Bool[Array, " nodes"],
) -> Subset:
    """Number the chosen rows through.

    Args:
        columns: of the operators, by slices.
        inside: the inner rows.
        rim: every neighbour of an inner row; inner rows themselves may be marked too.
    """
    first, begin = 0, 0
    numbered = []
    for column in columns:
        rows = column.shape[1]
        here = slice(first, first + rows)
        numbered.append(_number(inside[here], (rim & ~inside)[here], first, begin))
        first, begin = first + rows, begin + room(rows)
    nodes, position = (jnp.concatenate([x[k] for x in numbered]) for k in (0, 1))
    regions = []
    for column, (_, _, inner, whole, first, begin) in zip(columns, numbered, strict=True):
        empty = jnp.zeros((column.shape[0], room(column.shape[1])), jnp.int32)
        region = Region(empty, empty, inner, whole, first, begin, column.shape[1])
        here = _gathered(nodes, region, whole, column)
        near = _gathered(nodes, region, inner, column, position)
        regions.append(Region(here, near, inner, whole, first, begin, column.shape[1]))
    chunks = [jnp.arange(r.begin, r.begin + r.near.shape[1], CHUNK) for r in regions]
    used = [c - r.begin < r.inner for c, r in zip(chunks, regions, strict=True)]
    used, chunks = jnp.concatenate(used), jnp.concatenate(chunks).astype(jnp.int32)
    return Subset(
        nodes=nodes,
        position=position,
        inside=inside,
        regions=tuple(regions),
        chunks=chunks[jnp.argsort(~used, stable=True)],
        count=used.sum(dtype=jnp.int32),
    )


def fits(
    columns: tuple[Int[Array, "width rows"], ...], chosen: Bool[Array, " nodes"]
) -> Bool[Array, ""]:
    """Whether there is room for the chosen rows, inner ones and rim together."""
    ends = np.cumsum([column.shape[1] for column in columns])
    slices = jnp.split(chosen, ends[:-1])
    return jnp.stack([x.sum() <= room(len(x)) for x in slices]).all()


def room(rows: int, level: float = LEVELS[-1]) -> int:
    """Length of the dense arrays for the rows of one slice, or that of a smaller share of them."""
    return -(-int(level * rows) // CHUNK) * CHUNK


def piece(start: Array) -> Callable[[Any], Any]:
    """Takes a chunk from entry `start` on out of arrays [..., dense]; scalars stay as they are."""

    def cut(leaf):
        if jnp.ndim(leaf) == 0:
            return leaf
        return jax.lax.dynamic_slice_in_dim(leaf, start, CHUNK, axis=-1)

    return cut


def write(whole: Any, parts: Any, start: Array) -> Any:
    """Put chunks into the arrays [..., dense] that they belong to, from entry `start` on."""
    return jax.tree.map(
        lambda w, x: jax.lax.dynamic_update_slice_in_dim(w, x, start, axis=-1), whole, parts
    )


def in_memory(function: Callable[[Any], Any], x: Any, trips: Array) -> Any:
    """`function(x)`, whose results are of the types of `x` and lie in memory before they are used.

    A loop of a single trip, if `trips` is positive. Written straight back into the arrays they
    were read from, results would have XLA copy every such array first, whole, for every chunk.
    """
    return jax.lax.fori_loop(0, jnp.minimum(trips, 1), lambda _, x: function(x), x)


def differences(
    x: Float[Array, " any"],
    home: Float[Array, " some"],
    weights: Float[Array, "width some"],
    columns: Int[Array, "width some"],
) -> Float[Array, " some"]:
    """Sum of w_ki (x_c(k,i) - home_i), as `row_differences`; it lies in memory."""

    def total(zero, total):
        for k in range(columns.shape[0]):
            column = columns[k] + zero.astype(columns.dtype)
            total = total + weights[k] * (gather(x, column) - home)
        return total

    # One trip of a loop whose length XLA does not know, through columns that it takes to vary with
    # it: otherwise it would gather every column into an array of its own, for several sums at once
    trips = jnp.minimum(columns[0, 0] + 1, 1)
    return jax.lax.fori_loop(0, trips, total, jnp.zeros_like(home))


def _number(inside, rim, first: int, begin: int):
    """Rows of the entries and entries of the rows of a slice, and how many there are."""
    rank, outer = jnp.cumsum(inside, dtype=jnp.int32), jnp.cumsum(rim, dtype=jnp.int32)
    inner, whole = rank[-1], rank[-1] + outer[-1]
    entry = jnp.arange(1, room(len(inside)) + 1, dtype=jnp.int32)
    # the k-th marked row is the first whose rank is k
    row = jnp.where(
        entry <= inner, jnp.searchsorted(rank, entry), jnp.searchsorted(outer, entry - inner)
    )
    nodes = first + jnp.minimum(row, len(inside) - 1).astype(jnp.int32)
    position = begin + jnp.maximum(jnp.where(inside, rank, inner + outer) - 1, 0)
    return nodes, position.astype(jnp.int32), inner, whole, first, begin


def _gathered(nodes, region: Region, count, rows, renumber=None):
    """Rows [width, rows] of a slice for the entries [width, room] of its region."""
    out = jnp.zeros(region.near.shape, rows.dtype)

    def body(k, out):
        here = piece(region.begin + k * CHUNK)(nodes) - region.first
        found = gather(rows, here)
        return write(out, found if renumber is None else gather(renumber, found), k * CHUNK)

    return jax.lax.fori_loop(0, _trips(count), body, out)


def _trips(count):
    return -(-count // CHUNK)
