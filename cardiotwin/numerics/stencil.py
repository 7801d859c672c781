"""Operators on the nodes of a voxel grid, whose neighbours lie at fixed offsets.

Nothing is stored about who the neighbours of a node are. Tissue that (nearly) fills its box is one
dense array, and its neighbours are slices of it. Other tissue is cut into small cubes of nodes,
kept where they hold any: a vector is gathered once into all cubes, each with a rim of the nodes
around it, and there neighbours are slices again. One gather for a node and its share of the rims
takes the place of one for every neighbour. The weight of an edge is kept once and read from both
its ends.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from .differences import Layout, Slices, differences, gather
from .rows import AbstractOperator, AbstractPattern, check_laid_out, read_back

Offset = tuple[int, int, int]

# The corners of a voxel in the order of its node numbers (VTK's for hexahedra), and their pairs.
CORNERS = np.array(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]
)
CORNER_PAIRS = np.array(list(itertools.combinations(range(8), 2)))
# One of each two opposite neighbours: those whose first step is forward.
OFFSETS: tuple[Offset, ...] = tuple(
    (x, y, z) for x, y, z in itertools.product((-1, 0, 1), repeat=3) if (x, y, z) > (0, 0, 0)
)
# Share of its box that tissue must fill to be stored as one array.
DENSE = 0.8
# Edge of a cube, in nodes.
CUBE = 4
# Weights this small beside the largest are rounding: an offset that has no others is left out.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Boxes(Layout):
    """Dense boxes of nodes: [x, y, z, boxes], the weights of an offset with a rim below.

    `integers` are, unless the one box is full, the node in every place of the boxes and their rims
    (some node where there is none), and the place of every node in the boxes.

    Attributes:
        box: nodes of a box along each axis.
        count: number of boxes.
        full: whether every place of the box (there is one) holds a node.
        offsets: of the neighbours that have weights.
    """

    box: tuple[int, int, int]
    count: int
    full: bool
    offsets: tuple[Offset, ...]
    weight_axes: int = 4

    @property
    def integers(self) -> int:
        """None for a full box."""
        return 0 if self.full else 2

    def differences(self, x, integers, weights):
        """Sum over the offsets of slices, in both directions."""
        around = self._spread(x, integers)
        home = self._at(around, (0, 0, 0))
        total = jnp.zeros((), x.dtype)
        for offset, weight in zip(self.offsets, weights, strict=True):
            back = tuple(-o for o in offset)
            out, into = self._roles(offset)
            total = total + self._cut(weight, out) * (self._at(around, offset) - home)
            total = total + self._cut(weight, into) * (self._at(around, back) - home)
        return self._collect(total, integers)

    def products(self, a, x, integers):
        """One product for each end of an edge, added where an edge has both in one box."""
        around = self._spread(x, integers)
        home = self._at(around, (0, 0, 0))
        here = self._at(self._spread(a, integers), (0, 0, 0))
        found = []
        for offset in self.offsets:
            back = tuple(-o for o in offset)
            out, into = self._roles(offset)
            found.append(
                self._put(here * (self._at(around, offset) - home), offset, out)
                + self._put(here * (self._at(around, back) - home), offset, into)
            )
        return tuple(found)

    def weight_shapes(self, integers):
        """A box and the rim below it along the axes of the offset."""
        return [(*self._edge_box(offset), self.count) for offset in self.offsets]

    def touched(self, marked: Array, integers: Slices, weights: Slices) -> Array:
        """The marked nodes and their neighbours at the offsets."""
        around = self._spread(marked, integers)
        total = self._at(around, (0, 0, 0))
        for offset, weight in zip(self.offsets, weights, strict=True):
            both = zip((offset, tuple(-o for o in offset)), self._roles(offset), strict=True)
            for step, role in both:
                near = self._at(around, step)
                # a rim also shows nodes that are none, and those across a gap
                total = total | (near if self.full else near & (self._cut(weight, role) != 0))
        return self._collect(total, integers)

    def collect(self, ends: Array, integers: tuple[Array, ...]) -> Array:
        """Values in the boxes [x, y, z, boxes] as [nodes]."""
        return self._collect(ends, integers)

    def _spread(self, x, integers):
        """The boxes with their rims, [..., x + 2, y + 2, z + 2, boxes]."""
        if self.full:
            x = x.reshape(*x.shape[:-1], *self.box, 1)
            rim = [(0, 0)] * (x.ndim - 4) + [(1, 1)] * 3 + [(0, 0)]
            return jnp.pad(x, rim)
        return gather(x, integers[0])

    def _collect(self, values, integers):
        values = values.reshape(*values.shape[:-4], -1)
        if self.full:
            return values
        return gather(values, integers[1])

    def _edge_box(self, offset):
        return tuple(n + abs(o) for n, o in zip(self.box, offset, strict=True))

    def _roles(self, offset):
        """Where the edges that leave each node of a box lie, and those that reach it."""
        return tuple(int(o == 1) for o in offset), tuple(int(o == -1) for o in offset)

    def _at(self, around, offset):
        return self._cut(around, tuple(1 + o for o in offset))

    def _cut(self, array, start):
        for axis, (first, size) in enumerate(zip(start, self.box, strict=True)):
            array = lax.slice_in_dim(array, first, first + size, axis=axis - 4 + array.ndim)
        return array

    def _put(self, values, offset, start):
        rim = [(first, abs(o) - first) for first, o in zip(start, offset, strict=True)]
        return jnp.pad(values, [(0, 0)] * (values.ndim - 4) + rim + [(0, 0)])


class StencilOperator(AbstractOperator):
    """The operator of a `StencilPattern`."""

    rowwise: ClassVar[bool] = False
    nodes: int = eqx.field(static=True)
    integers: tuple[Int[Array, " ..."], ...]
    weights: tuple[Float[Array, "x y z boxes"], ...]  # one array an offset
    boxes: Boxes = eqx.field(static=True)
    unused: int = eqx.field(static=True, default=0)  # rows behind the nodes

    def padded(self, rows: int) -> "StencilOperator":
        """The same operator with so many rows, the new ones last and without neighbours."""
        return dataclasses.replace(self, unused=rows - self.nodes)

    def row_columns(self) -> tuple[Int[Array, "0 nodes"]]:
        """One slice of rows without entries."""
        return (jnp.zeros((0, self.nodes + self.unused), jnp.int32),)

    def __call__(self, x: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Apply the operator by slices, forwards and in every derivative."""
        if not self.weights:
            return jnp.zeros_like(x)
        of_nodes = differences(self.boxes, x[: self.nodes], self.weights, self.integers)
        return jnp.pad(of_nodes, (0, self.unused))

    def touched(self, marked: Bool[Array, " nodes"]) -> Bool[Array, " nodes"]:
        """The marked nodes and all their neighbours."""
        near = self.boxes.touched(marked[: self.nodes], self.integers, self.weights)
        return jnp.concatenate([near, marked[self.nodes :]])

    def row_sums(self) -> Float[Array, " nodes"]:
        """Sum of the weights of each row, the negative of the diagonal."""
        boxes = self.boxes
        ends = [
            boxes._cut(weight, start)
            for offset, weight in zip(boxes.offsets, self.weights, strict=True)
            for start in boxes._roles(offset)
        ]
        return jnp.pad(boxes.collect(sum(ends[1:], ends[0]), self.integers), (0, self.unused))

    def edge_weights(self, pattern: "StencilPattern") -> Float[Array, " edges"]:
        """The weight of every edge, read back from the boxes."""
        entries = tuple(
            entry
            for offset, entry in zip(OFFSETS, pattern.entries, strict=True)
            if offset in self.boxes.offsets
        )
        check_laid_out(self.weights, entries)
        return read_back(self.weights, entries, len(pattern.edges))


class StencilPattern(AbstractPattern):
    """The pattern of a voxel grid: two nodes are neighbours where they share a voxel.

    Rows run through the grid along its longest axis first.
    """

    order: Int[np.ndarray, " nodes"]
    rank: Int[np.ndarray, " nodes"]
    edges: Int[np.ndarray, "edges 2"]
    element_edges: Int[np.ndarray, "voxels 28"]  # edge of each pair of `CORNER_PAIRS`
    bounds: tuple[int, ...] = eqx.field(static=True)  # first edge of each offset, and the end
    boxes: Boxes = eqx.field(static=True)
    integers: tuple[Int[np.ndarray, " ..."], ...]
    entries: tuple[Int[np.ndarray, "x y z boxes"], ...]  # edge of each weight; padding is `edges`

    def operator(self, edge_weights: Float[Array, " edges"]) -> StencilOperator:
        """Lay the weight of every edge out over the boxes, offsets without any left out."""
        padded = jnp.concatenate([edge_weights, jnp.zeros(1, edge_weights.dtype)])
        kept = self._kept(edge_weights)
        offsets = tuple(self.boxes.offsets[k] for k in kept)
        return StencilOperator(
            nodes=self.nodes,
            integers=tuple(jnp.asarray(i) for i in self.integers),
            weights=tuple(padded[self.entries[k]] for k in kept),
            boxes=Boxes(self.boxes.box, self.boxes.count, self.boxes.full, offsets),
        )

    def _kept(self, edge_weights) -> list[int]:
        if isinstance(edge_weights, Tracer):  # weights that are 0 may have a derivative
            return list(range(len(OFFSETS)))
        size = np.abs(np.asarray(edge_weights))
        floor = ROUNDING * size.max(initial=0.0)
        spans = itertools.pairwise(self.bounds)
        return [k for k, (low, high) in enumerate(spans) if (size[low:high] > floor).any()]


def stencil_pattern(
    mask: Bool[np.ndarray, "x y z"], nodes: Int[np.ndarray, "x1 y1 z1"]
) -> StencilPattern:
    """Build the pattern of trilinear elements on the voxels of a mask.

    Args:
        mask: which voxels are elements.
        nodes: number of the node at each corner of the grid; -1 where no voxel of the mask is.
    """
    # the longest axis last: its nodes are neighbours in memory
    axes = tuple(int(a) for a in np.argsort(mask.shape, kind="stable"))
    mask, grid = mask.transpose(axes), nodes.transpose(axes)
    order = grid[grid >= 0]
    row = np.full(grid.shape, -1, np.int32)
    row[grid >= 0] = np.arange(len(order), dtype=np.int32)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    edge, edges, bounds = _edges(mask, row)
    boxes, integers, entries = _lay_out(row, edge, bounds[-1])
    return StencilPattern(
        order=order.astype(np.int32),
        rank=rank,
        edges=edges,
        element_edges=_voxel_edges(mask, axes, edge),
        bounds=bounds,
        boxes=boxes,
        integers=integers,
        entries=entries,
    )


def _edges(mask, row):
    """Number of the edge whose low corner is at each node, offset by offset; their ends."""
    numbers, ends, bounds = [], [], [0]
    for offset in OFFSETS:
        # an edge lies in the voxels on all sides of it along the axes that it does not follow
        there = mask
        for axis, step in enumerate(offset):
            if step == 0:
                rim = [(int(a == axis),) * 2 for a in range(3)]
                wide = np.pad(there, rim)
                length = wide.shape[axis] - 1
                there = np.take(wide, range(length), axis) | np.take(
                    wide, range(1, length + 1), axis
                )
        low = np.argwhere(there)
        start = low + [int(step == -1) for step in offset]
        end = start + offset
        both = np.stack([row[tuple(start.T)], row[tuple(end.T)]], axis=1)
        number = np.full(there.shape, -1, np.int32)
        number[there] = bounds[-1] + np.arange(len(low), dtype=np.int32)
        numbers.append(number)
        ends.append(np.sort(both, axis=1))
        bounds.append(bounds[-1] + len(low))
    return numbers, np.concatenate(ends).astype(np.int32), tuple(bounds)


def _voxel_edges(mask, axes, edge):
    """The edge of each corner pair of each voxel, voxels in the order of the unturned mask."""
    back = np.argsort(axes)
    voxels = np.argwhere(mask.transpose(back))[:, axes]
    found = np.empty((len(voxels), len(CORNER_PAIRS)), np.int32)
    for k, (p, q) in enumerate(CORNER_PAIRS):
        first, second = CORNERS[p][list(axes)], CORNERS[q][list(axes)]
        offset = tuple(int(n) for n in second - first)
        offset = offset if offset in OFFSETS else tuple(-n for n in offset)
        at = voxels + np.minimum(first, second)
        found[:, k] = edge[OFFSETS.index(offset)][tuple(at.T)]
    return found


def _lay_out(row: np.ndarray, edge: list[np.ndarray], edges: int):
    """Boxes, their integers, and the edge of every weight."""
    shape, nodes = row.shape, int((row >= 0).sum())
    dense = nodes >= DENSE * row.size
    box = np.array(shape if dense else (CUBE,) * 3)
    boxes = -(-np.array(shape) // box)
    wide = np.full(tuple(boxes * box + 2), -1, np.int32)
    wide[tuple(slice(1, n + 1) for n in shape)] = row
    first = np.stack(np.meshgrid(*map(np.arange, boxes), indexing="ij"), -1).reshape(-1, 3) * box
    around = _windows(wide, first, box + 2)
    inner = (slice(1, -1),) * 3
    kept = (around[inner] >= 0).any(axis=(0, 1, 2))
    first, around = first[kept], around[..., kept]
    here = around[inner]
    full = bool((here >= 0).all())
    place = np.empty(nodes, np.int32)
    slots = here.ravel()
    place[slots[slots >= 0]] = np.flatnonzero(slots >= 0).astype(np.int32)
    entries = []
    for offset, number in zip(OFFSETS, edge, strict=True):
        rim = np.abs(offset)
        padded = np.full(tuple(boxes * box + rim), -1, np.int32)
        padded[tuple(slice(r, r + n) for r, n in zip(rim, number.shape, strict=True))] = number
        window = _windows(padded, first, box + rim)
        entries.append(np.where(window < 0, edges, window).astype(np.int32))
    layout = Boxes((int(box[0]), int(box[1]), int(box[2])), len(first), full, OFFSETS)
    integers = () if full else (_nearest(around), place)
    assert full or prod(here.shape) < 2**31
    return layout, integers, tuple(entries)


def _windows(array: np.ndarray, first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The window of every box, [x, y, z, boxes]."""
    found = np.empty((*size, len(first)), array.dtype)
    for k, at in enumerate(first):
        found[..., k] = array[tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))]
    return found


def _nearest(around):
    """The rows in the boxes; where there is no node, some node of the same box."""
    some = around.max(axis=(0, 1, 2))
    return np.where(around < 0, some, around).astype(np.int32)
