"""Gather-only sparse operators: rows sliced by length, nodes ordered for locality.

A multiplication reads `x[column]` for every entry of a row and never scatters. Rows are stored as
(width, rows) with the width unrolled, so that the gathers of one step walk the vector in order.
Every operator here annihilates constants: it is stored by its off-diagonal entries alone and
applied to differences, so that a resting tissue stays exactly at rest in float32 too.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int, Integer, UInt
from scipy.sparse.csgraph import reverse_cuthill_mckee

from .differences import gather, row_differences

# Cost of one more slice, in entries a node. Measured on a heart of 103,494 nodes: a parabolic step
# took 9.0 ms in five slices, 5.9 in two; on a regular slab one slice wins.
SLICE_COST = 3.0

# Slices end at multiples of so many rows, those of small meshes at multiples of fewer: numbers that
# most counts of threads divide.
EVEN_ROWS = (960, 16)

# Corner pairs of the six edges of a tetrahedron.
TETRAHEDRON_EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])


class AbstractOperator(eqx.Module):
    """y_i = sum over neighbours j of w_ij (x_j - x_i), with symmetric weights w."""

    rowwise: ClassVar[bool]
    """Whether weights lie row by row, as the columns, so that some rows can be taken out."""
    weights: eqx.AbstractVar[tuple[Array, ...]]

    @abstractmethod
    def __call__(self, x: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Apply the operator."""

    @abstractmethod
    def touched(self, marked: Bool[Array, " nodes"]) -> Bool[Array, " nodes"]:
        """The marked nodes and all their neighbours."""

    @abstractmethod
    def row_sums(self) -> Float[Array, " nodes"]:
        """Sum of the weights of each row, the negative of the diagonal."""

    @abstractmethod
    def row_columns(self) -> tuple[Integer[Array, "width rows"], ...]:
        """Neighbours of every row, by slices of the rows; no entries unless `rowwise`."""

    @abstractmethod
    def padded(self, rows: int) -> "AbstractOperator":
        """The same operator with so many rows, the new ones last and without neighbours."""

    @abstractmethod
    def edge_weights(self, pattern: Any) -> Float[Array, " edges"]:
        """The weight of every edge, read back from where the pattern laid it out.

        Raises:
            ValueError: the operator was not laid out by this pattern.
        """


class AbstractPattern(eqx.Module):
    """Where the off-diagonal entries of a symmetric operator on the nodes of a mesh lie.

    The nodes are renumbered: row `i` of the operator is node `order[i]` of the mesh.
    """

    order: eqx.AbstractVar[Int[np.ndarray, " nodes"]]  # mesh node of each row
    rank: eqx.AbstractVar[Int[np.ndarray, " nodes"]]  # row of each mesh node
    edges: eqx.AbstractVar[Int[np.ndarray, "edges 2"]]  # row numbers, first below second
    element_edges: eqx.AbstractVar[
        Int[np.ndarray, "elements pairs"]
    ]  # edge of each corner pair of each element

    @property
    def nodes(self) -> int:
        """Number of rows."""
        return len(self.order)

    @abstractmethod
    def operator(self, edge_weights: Float[Array, " edges"]) -> AbstractOperator:
        """The operator with these weights."""


class RowPattern(AbstractPattern):
    """A pattern stored row by row, for elements of any shape."""

    order: Int[np.ndarray, " nodes"]
    rank: Int[np.ndarray, " nodes"]
    edges: Int[np.ndarray, "edges 2"]
    element_edges: Int[np.ndarray, "elements pairs"]
    columns: tuple[Int[np.ndarray, "width rows"], ...]  # one array a slice; padding points home
    entries: tuple[Int[np.ndarray, "width rows"], ...]  # edge of each entry; padding is `edges`

    def operator(self, edge_weights: Float[Array, " edges"]) -> "DifferenceOperator":
        """Lay the weight of every edge out over the rows."""
        padded = jnp.concatenate([edge_weights, jnp.zeros(1, edge_weights.dtype)])
        return DifferenceOperator(
            columns=tuple(jnp.asarray(c, jnp.uint32) for c in self.columns),
            weights=tuple(padded[e] for e in self.entries),
        )


def row_pattern(cells: np.ndarray, nodes: int) -> RowPattern:
    """Build the pattern of P1 finite elements on tetrahedra.

    Args:
        cells: [elements, 4] node indices.
        nodes: number of nodes of the mesh; each must belong to an element.

    Returns:
        The pattern, its nodes sorted by row length and, within a slice, by reverse Cuthill-McKee.
    """
    keys, inverse = _unique_pairs(cells, nodes)
    ends = np.stack([keys // nodes, keys % nodes])
    order, bounds = _locality_order(_adjacency(ends, nodes))
    rank = np.empty(nodes, np.int32)
    rank[order] = np.arange(nodes, dtype=np.int32)
    # the edges by their row numbers, and sorted by them
    first, second = np.sort(rank[ends], axis=0).astype(np.int64)
    by_row = np.argsort(first * nodes + second)
    edges = np.stack([first[by_row], second[by_row]], axis=1).astype(np.int32)
    number = np.empty(len(keys), np.int32)
    number[by_row] = np.arange(len(keys), dtype=np.int32)
    columns, entries = _slices(edges, nodes, bounds)
    return RowPattern(
        order=order.astype(np.int32),
        rank=rank,
        edges=edges,
        element_edges=number[inverse].reshape(-1, 6),
        columns=columns,
        entries=entries,
    )


class DifferenceOperator(AbstractOperator):
    """The operator of a `RowPattern`."""

    rowwise: ClassVar[bool] = True
    # unsigned as they are gathered by: XLA would keep a copy of those it has to convert in a loop
    columns: tuple[UInt[Array, "width rows"], ...]
    weights: tuple[Float[Array, "width rows"], ...]

    def __call__(self, x: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Apply the operator by gathers, forwards and in every derivative."""
        return row_differences(x, self.weights, self.columns)

    def touched(self, marked: Bool[Array, " nodes"]) -> Bool[Array, " nodes"]:
        """The marked nodes and all their neighbours."""
        start, out = 0, []
        for column in self.columns:
            rows = column.shape[1]
            near = jax.lax.slice(marked, (start,), (start + rows,))
            for k in range(column.shape[0]):
                near = near | gather(marked, column[k])
            out.append(near)
            start += rows
        return jnp.concatenate(out)

    def row_sums(self) -> Float[Array, " nodes"]:
        """Sum of the weights of each row, the negative of the diagonal."""
        return jnp.concatenate([w.sum(axis=0) for w in self.weights])

    def row_columns(self) -> tuple[UInt[Array, "width rows"], ...]:
        """Neighbours of every row, by slices of the rows."""
        return self.columns

    def padded(self, rows: int) -> "DifferenceOperator":
        """The same operator with so many rows, the new ones in the last slice."""
        old = sum(column.shape[1] for column in self.columns)
        width = self.columns[-1].shape[0]
        home = jnp.broadcast_to(jnp.arange(old, rows, dtype=jnp.uint32), (width, rows - old))
        last = jnp.concatenate([self.columns[-1], home], axis=1)
        weights = jnp.pad(self.weights[-1], ((0, 0), (0, rows - old)))
        return DifferenceOperator((*self.columns[:-1], last), (*self.weights[:-1], weights))

    def edge_weights(self, pattern: RowPattern) -> Float[Array, " edges"]:
        """The weight of every edge, read back from the rows."""
        check_laid_out(self.columns, pattern.columns)
        return read_back(self.weights, pattern.entries, len(pattern.edges))


def difference_operator(
    pattern: AbstractPattern, edge_weights: Float[Array, " edges"]
) -> AbstractOperator:
    """Lay the weight of every edge out as a pattern wants it."""
    return pattern.operator(edge_weights)


def check_laid_out(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Refuse arrays of an operator that have other shapes than those of a pattern."""
    if [f.shape for f in found] != [e.shape for e in expected]:
        raise ValueError(
            "The scheme prepared an operator on another pattern than that of the system; only "
            "operators on the system's own edges can be spread over devices. Use one device."
        )


def read_back(weights: tuple[Array, ...], entries: tuple[np.ndarray, ...], edges: int) -> Array:
    """The weight of every edge from arrays of weights; 0 for an edge that is in none of them.

    Args:
        weights: in any layout.
        entries: edge of each weight, laid out alike; padding has the number `edges`.
        edges: number of edges.
    """
    numbers = np.concatenate([entry.ravel() for entry in entries])
    where = np.full(edges + 1, len(numbers))
    where[numbers] = np.arange(len(numbers))
    values = jnp.concatenate([weight.ravel() for weight in weights])
    return jnp.concatenate([values, jnp.zeros(1, values.dtype)])[where[:-1]]


def edge_sums(pattern: AbstractPattern, local: Any, elements: slice = slice(None)) -> Any:
    """Sum a value of every corner pair of every element [elements, pairs] over the edges [edges].

    NumPy in, NumPy (float64) out; JAX in, JAX out, differentiable. `elements` says which they are.
    """
    return _segment_sum(local, pattern.element_edges[elements], len(pattern.edges))


def node_sums(pattern: AbstractPattern, cells: np.ndarray, local: Any) -> Any:
    """Sum a value of every corner [elements, corners] over the nodes, in row order."""
    return _segment_sum(local, pattern.rank[cells], pattern.nodes)


def row_sums(pattern: AbstractPattern, edge_values: Any) -> Any:
    """Sum a value of every edge [edges] over the edges of each row [nodes], in row order."""
    first, second = pattern.edges.T
    n = pattern.nodes
    return _segment_sum(edge_values, first, n) + _segment_sum(edge_values, second, n)


def differences_by_edges(
    pattern: AbstractPattern, edge_weights: Float[Array, " edges"], x: Float[Array, "batch nodes"]
) -> Float[Array, "batch nodes"]:
    """The operator with these weights, edge by edge: by scatters, for set-up work."""
    first, second = pattern.edges.T
    flow = edge_weights[None] * (x[:, second] - x[:, first])
    return jnp.zeros_like(x).at[:, first].add(flow).at[:, second].add(-flow)


def _segment_sum(local, segments: np.ndarray, count: int):
    if isinstance(local, np.ndarray):
        return np.bincount(segments.ravel(), weights=local.ravel(), minlength=count)
    return jax.ops.segment_sum(local.reshape(-1), segments.reshape(-1), num_segments=count)


def _unique_pairs(cells: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges as first * nodes + second, ascending, and the number of each of every element's."""
    pairs = np.sort(cells[:, TETRAHEDRON_EDGES].reshape(-1, 2), axis=1).astype(np.int64)
    keys = pairs[:, 0] * nodes + pairs[:, 1]
    del pairs
    return np.unique(keys, return_inverse=True)


def _adjacency(ends: np.ndarray, nodes: int) -> sp.csr_matrix:
    rows, columns = np.concatenate([ends, ends[::-1]], axis=1).astype(np.int32)
    ones = np.ones(len(rows), np.int8)
    return sp.csr_matrix((ones, (rows, columns)), shape=(nodes, nodes))


def _locality_order(graph: sp.csr_matrix) -> tuple[np.ndarray, list[int]]:
    """Nodes sorted by slice, then by reverse Cuthill-McKee; and the row where each slice ends."""
    length = np.diff(graph.indptr)
    widths = slice_widths(length)
    home = np.searchsorted(widths, length)
    cuthill = reverse_cuthill_mckee(graph, symmetric_mode=True)
    order = cuthill[np.argsort(home[cuthill], kind="stable")]
    ends = np.cumsum(np.bincount(home, minlength=len(widths)))
    return order, _rounded(ends).tolist()


def _rounded(ends: np.ndarray) -> np.ndarray:
    """Ends of the slices such that most numbers of threads divide the length of all but the last.

    Rows before an end that is moved back join the next slice, which is wider. Why lengths matter:
    `cardiotwin.propagation.devices.Evened`.
    """
    step = next((step for step in EVEN_ROWS if ends[-1] >= 20 * step), 1)
    back = ends[:-1] // step * step
    return np.unique(np.append(back[back > 0], ends[-1]))


def slice_widths(length: np.ndarray) -> np.ndarray:
    """Widths of the slices that minimise stored entries plus a cost a slice.

    Exact, by dynamic programming over the row lengths that occur.
    """
    values, counts = np.unique(length, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    best = [0.0]
    choice = []
    for last in range(len(values)):
        cost = [
            best[first] + values[last] * (below[last + 1] - below[first]) + SLICE_COST * len(length)
            for first in range(last + 1)
        ]
        choice.append(int(np.argmin(cost)))
        best.append(min(cost))
    widths, last = [], len(values) - 1
    while last >= 0:
        widths.append(values[last])
        last = choice[last] - 1
    return np.array(widths[::-1])


def _slices(edges, nodes, bounds):
    """Columns and edge numbers of every row of a pattern."""
    rows = np.concatenate([edges[:, 0], edges[:, 1]])
    columns = np.concatenate([edges[:, 1], edges[:, 0]])
    entries = np.tile(np.arange(len(edges)), 2)
    return fill_slices(rows, columns, entries, np.arange(nodes), bounds)


def fill_slices(rows, columns, entries, home, bounds):
    """Lay entries out row by row and slice by slice, columns ascending within a row.

    Args:
        rows: of every entry.
        columns: of every entry.
        entries: edge number of every entry, each edge twice.
        home: [nodes] the column that the padding of each row points to.
        bounds: the row where each slice ends.

    Returns:
        Columns and edge numbers, each a tuple of [width, rows] int32; padding has the number
        behind the last edge.
    """
    by_row = np.lexsort((columns, rows))
    rows, columns, entries = rows[by_row], columns[by_row], entries[by_row]
    length = np.bincount(rows, minlength=len(home))
    position = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
    out_columns, out_entries = [], []
    for start, stop in zip([0, *bounds[:-1]], bounds, strict=True):
        width = int(length[start:stop].max())
        column = np.repeat(home[start:stop].astype(np.int32)[None], width, axis=0)
        edge = np.full(column.shape, len(rows) // 2, np.int32)
        inside = (rows >= start) & (rows < stop)
        column[position[inside], rows[inside] - start] = columns[inside]
        edge[position[inside], rows[inside] - start] = entries[inside]
        out_columns.append(column)
        out_entries.append(edge)
    return tuple(out_columns), tuple(out_entries)
