"""A network of Purkinje fibres: straight segments between points, from a root to junctions."""

from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components


class PurkinjeNetwork(eqx.Module):
    """One side's Purkinje fibres, a graph of straight segments that hangs together.

    Args:
        points: coordinates [nodes, 3], mm.
        edges: node indices [edges, 2]; rings are allowed.
        root: node that the His bundle feeds.
        junctions: nodes where the network meets muscle [junctions]; left out, all free ends but
            the root.
        side: "lv", "rv", or None where it is not known.

    Raises:
        ValueError: a point is not finite, an edge is out of range, has no length or occurs twice,
            a node does not hang together with the root, or there is no junction.
    """

    points: Float[np.ndarray, "nodes 3"]
    edges: Int[np.ndarray, "edges 2"]
    junctions: Int[np.ndarray, " junctions"]
    root: int = eqx.field(static=True)
    side: str | None = eqx.field(static=True)

    def __init__(
        self,
        points: Any,
        edges: Any,
        root: int,
        *,
        junctions: Sequence[int] | np.ndarray | None = None,
        side: Literal["lv", "rv"] | None = None,
    ):
        self.points = np.array(points, np.float64)
        _check_points(self.points)
        self.edges = _as_indices(edges, "edges").reshape(-1, 2)
        self.root = int(root)
        self.side = side
        _check_range(self.edges, len(self.points), "edges")
        _check_range(np.array([self.root]), len(self.points), "root")
        _check_edges(self.points, self.edges)
        _check_connected(self.points, self.edges, self.root)
        ends = np.setdiff1d(np.flatnonzero(self.degrees() == 1), [self.root])
        given = ends if junctions is None else np.unique(_as_indices(junctions, "junctions"))
        _check_range(given, len(self.points), "junctions")
        if not len(given):
            raise ValueError(
                "PurkinjeNetwork: no junctions: the network has no free end but its root; name "
                "the nodes where it meets muscle with junctions="
            )
        if side not in (None, "lv", "rv"):
            raise ValueError(f"PurkinjeNetwork: side is {side!r}; give 'lv', 'rv' or None.")
        self.junctions = given

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.points)

    def lengths(self) -> Float[np.ndarray, " edges"]:
        """Length of every edge [edges], mm."""
        ends = self.points[self.edges]
        return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)

    def length(self) -> float:
        """Length of the whole network, mm."""
        return float(self.lengths().sum())

    def degrees(self) -> Int[np.ndarray, " nodes"]:
        """Number of edges at every node [nodes]."""
        return np.bincount(self.edges.ravel(), minlength=len(self.points))

    def graph(self) -> sp.csr_matrix:
        """The lengths of the edges as a symmetric matrix [nodes, nodes], mm."""
        lengths, (starts, ends) = self.lengths(), self.edges.T
        rows, columns = np.concatenate([starts, ends]), np.concatenate([ends, starts])
        return sp.csr_matrix((np.tile(lengths, 2), (rows, columns)), shape=(self.nodes,) * 2)


def _as_indices(values: Any, what: str) -> np.ndarray:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(
            f"PurkinjeNetwork: {what} have the type {array.dtype}; give node indices (integers)."
        )
    if what == "edges" and (array.ndim != 2 or array.shape[1] != 2 or not array.size):
        raise ValueError(
            f"PurkinjeNetwork: edges have the shape {array.shape}; give two nodes an edge, "
            "[edges, 2], and at least one edge."
        )
    return array.astype(np.int64).reshape(array.shape if what == "edges" else -1)


def _check_points(points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(
            f"PurkinjeNetwork: points have the shape {points.shape}; give [nodes, 3] in mm."
        )
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if bad.size:
        raise ValueError(
            f"PurkinjeNetwork: {bad.size} points are not finite, the first is node {bad[0]} at "
            f"{points[bad[0]]}; leave them out with their edges."
        )


def _check_range(indices: np.ndarray, nodes: int, what: str) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= nodes):
        raise ValueError(
            f"PurkinjeNetwork: {what} name nodes from {indices.min()} to {indices.max()}, but the "
            f"network has nodes 0 to {nodes - 1}; count from 0."
        )


def _check_edges(points: np.ndarray, edges: np.ndarray) -> None:
    lengths = np.linalg.norm(np.diff(points[edges], axis=1)[:, 0], axis=1)
    empty = np.flatnonzero(lengths == 0.0)
    if empty.size:
        first = edges[empty[0]]
        raise ValueError(
            f"PurkinjeNetwork: {empty.size} edges have no length, the first joins nodes {first[0]} "
            f"and {first[1]} at {points[first[0]]}; merge points that coincide."
        )
    repeated = len(edges) - len(np.unique(np.sort(edges, axis=1), axis=0))
    if repeated:
        raise ValueError(f"PurkinjeNetwork: {repeated} edges occur twice; leave the repeats out.")


def _check_connected(points: np.ndarray, edges: np.ndarray, root: int) -> None:
    links = sp.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(points),) * 2)
    count, piece = connected_components(links, directed=False)
    if count == 1:
        return
    sizes = np.bincount(piece)
    apart = np.delete(sizes, piece[root])
    nearest = points[np.flatnonzero(piece != piece[root])[0]]
    raise ValueError(
        f"PurkinjeNetwork: {count} pieces: {sizes[piece[root]]} nodes hang together with the root, "
        f"node {root}; {apart.sum()} others lie in {count - 1} pieces of "
        f"{', '.join(map(str, np.sort(apart)[::-1][:5]))}{', ...' if count > 6 else ''} nodes, one "
        f"of them at {nearest}. Join the pieces, or make a network of each."
    )
