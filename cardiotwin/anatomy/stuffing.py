"""Isosurface stuffing: well-shaped tetrahedra in a body given by a function.

After Labelle and Shewchuk 2007, doi:10.1145/1276377.1276448. A body-centred cubic lattice is laid
over the body. Lattice nodes close to the surface are moved onto it, the other lattice edges that
cross the surface are cut there, and each tetrahedron is filled by one of few stencils.

Departures from the paper:

1. The body ends above in an exactly flat plane, a side of the lattice; nodes in this plane move
   only within it.
2. Quadrilaterals on lattice faces are split from the inner node that lies deeper, which decides
   all faces without a conflict, for any lattice; those on the surface along their shorter diagonal.
3. Nodes are moved in rounds, those nearest to the surface first, so that each round is one
   vectorised step and as few nodes as possible move.
"""

from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from cardiotwin.anatomy.lattice import (
    body_centred_cells,
    body_centred_points,
    check_counts,
    orient_positive,
)

Depth = Callable[[np.ndarray], np.ndarray]

# A node moves to a cut nearer than this fraction of the edge: the paper's values for the long
# (axis-aligned) and the short edges of the lattice. The halved edges at the flat top are short.
_SNAP_LONG = 0.24999
_SNAP_SHORT = 0.41189
_BISECTIONS = 32
# A cell whose nodes all moved to the surface is kept when its middle is deeper than this fraction
# of its size: it spans a thin wall. Shallower ones lie flat on one surface.
_SPANNING = 0.15
_POCKET_DEPTH = 1e-3  # in cubes
# Mean edge of a stuffed mesh over the edge of the lattice's cubes (measured to 0.3 %): about 0.92
# inside the body, whose edges are 1 and 0.87, less near the surface, where they are cut.
_BULK_EDGE = 0.9135
_SURFACE_LOSS = 0.0510


def mean_edge(cube: float, surface_to_volume: float) -> float:
    """Mean edge in mm of a stuffed mesh with cubes of this edge; surface over volume in 1/mm."""
    return cube * (_BULK_EDGE - _SURFACE_LOSS * cube * surface_to_volume)


def cube_edge(edge_length: float, surface_to_volume: float) -> float:
    """Edge of the lattice's cubes that gives a mean edge: the smaller root of `mean_edge`.

    Raises:
        ValueError: no cube gives so long an edge.
    """
    slope = _SURFACE_LOSS * surface_to_volume
    if 4.0 * slope * edge_length > _BULK_EDGE**2:
        raise ValueError(
            f"no lattice gives a mean edge of {edge_length:g} mm in so thin a wall: use at most "
            f"{0.99 * _BULK_EDGE**2 / (4.0 * slope):.3g} mm"
        )
    return 2.0 * edge_length / (_BULK_EDGE + np.sqrt(_BULK_EDGE**2 - 4.0 * slope * edge_length))


def stuff(
    depth: Depth,
    lower: np.ndarray,
    upper: np.ndarray,
    spacing: float,
    *,
    open_top: bool = True,
    bisections: int = _BISECTIONS,
    hollow: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the part of a body below a horizontal plane with tetrahedra.

    Args:
        depth: maps points [n, 3] mm to [n] mm, positive inside the body, zero on its surface,
            about the distance to the surface near it.
        lower: [3] mm, lower corner of a box that holds the body with room to spare.
        upper: [3] mm, upper corner; the plane is ``z = upper[2]``.
        spacing: edge of the lattice's cubes in mm.
        open_top: whether the plane cuts the body; false for one that lies wholly in the box.
        bisections: halvings that find where an edge of the lattice meets the surface; each halves
            the error, which starts at half an edge.
        hollow: whether holes within the body stay holes; otherwise they are taken for corners that
            the lattice cannot resolve, and filled.

    Returns:
        Points float64 [nodes, 3] mm and cells int32 [elements, 4] of positive volume.

    Raises:
        ValueError: the spacing misses the body altogether, or asks for more than a mesh can hold.
    """
    nx, ny, nz = (int(n) for n in np.ceil((upper - lower) / spacing))
    counts = (nx, ny, nz)
    check_counts(counts)
    origin = upper - spacing * np.array(counts)
    points = origin + spacing * body_centred_points(counts)
    points[np.isclose(points[:, 2], upper[2], rtol=0.0, atol=1e-9 * spacing), 2] = upper[2]
    value = depth(points)
    cells = body_centred_cells(counts, value > 0.0)
    if len(cells) == 0:
        raise ValueError(
            f"a lattice of {spacing:g} mm has no node inside the body: use a smaller edge length"
        )
    points, (value,), cells = _compact(points, (value,), cells)
    if not hollow:
        value = _fill_pockets(points, value, cells, spacing, upper[2] if open_top else None)
    edges, cuts = _cut_edges(depth, points, value, cells, bisections)
    edges, cuts = _snap(depth, points, value, edges, cuts, spacing, upper[2])
    return _fill(depth, points, value, cells, edges, cuts)


def _compact(points: np.ndarray, values: tuple, cells: np.ndarray) -> tuple:
    """Drop the points that no cell uses."""
    used = np.zeros(len(points), bool)
    used[cells] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    return points[used], tuple(v[used] for v in values), number[cells]


def _fill_pockets(
    points: np.ndarray, value: np.ndarray, cells: np.ndarray, spacing: float, top: float | None
) -> np.ndarray:
    """Count outer nodes as inner ones where no path of outer nodes leads to the top.

    Without a top, where none leads to the largest group of outer nodes, the outside.

    Such pockets arise in the sharp corner of a cavity, where it is narrower than the lattice.
    """
    edges = np.concatenate([cells[:, list(pair)] for pair in combinations(range(4), 2)])
    edges = edges[(value[edges] < 0.0).all(axis=1)]
    links = sp.coo_matrix((np.ones(len(edges), np.int8), edges.T), shape=(len(points),) * 2)
    _, label = connected_components(links, directed=False)
    outer = value < 0.0
    if top is None:
        open_labels = [np.argmax(np.bincount(label[outer]))]
    else:
        open_labels = np.unique(label[outer & (points[:, 2] == top)])
    pocket = (value < 0.0) & ~np.isin(label, open_labels)
    return np.where(pocket, _POCKET_DEPTH * spacing, value)


def _cut_edges(
    depth: Depth, points: np.ndarray, value: np.ndarray, cells: np.ndarray, bisections: int
) -> tuple:
    """Lattice edges (inner node, outer node) that cross the surface, and where they do."""
    pairs = np.concatenate([cells[:, list(pair)] for pair in permutations(range(4), 2)])
    pairs = pairs[(value[pairs[:, 0]] > 0.0) & (value[pairs[:, 1]] < 0.0)]
    keys = np.unique(pairs[:, 0].astype(np.int64) * len(points) + pairs[:, 1])
    edges = np.stack([keys // len(points), keys % len(points)], axis=1)
    inner, outer = points[edges[:, 0]], points[edges[:, 1]]
    for _ in range(bisections):
        middle = 0.5 * (inner + outer)
        inside = (depth(middle) > 0.0)[:, None]
        inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
    return edges, 0.5 * (inner + outer)


def _snap(
    depth: Depth,
    points: np.ndarray,
    value: np.ndarray,
    edges: np.ndarray,
    cuts: np.ndarray,
    spacing: float,
    top: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Move nodes too near to a cut onto the surface; changes ``points`` and ``value`` in place.

    Returns:
        The edges that are still cut, and their cuts.
    """
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    reach = np.where(length > 0.95 * spacing, _SNAP_LONG, _SNAP_SHORT) * length
    in_plane = points[:, 2] == top
    while True:
        gap = np.linalg.norm(points[edges] - cuts[:, None], axis=2) / reach[:, None]
        nearest = np.full(len(points), np.inf)
        np.minimum.at(nearest, edges.ravel(), gap.ravel())
        rival = np.full(len(points), np.inf)
        np.minimum.at(rival, edges.ravel(), nearest[edges[:, ::-1]].ravel())
        first = (nearest < 1.0) & (nearest < rival)
        if not first.any():
            return edges, cuts
        edge, end = np.nonzero((gap == nearest[edges]) & first[edges])
        node = edges[edge, end]
        target = cuts[edge]
        flat = in_plane[node]
        target[flat] = _project_in_plane(depth, target[flat], top)
        points[node] = target
        value[node] = 0.0
        left = (value[edges] != 0.0).all(axis=1)
        edges, cuts, reach = edges[left], cuts[left], reach[left]


def _project_in_plane(depth: Depth, points: np.ndarray, top: float) -> np.ndarray:
    """Nearest surface points within the plane z = top, by Newton's method on the depth."""
    step = 1e-4
    projected = points.copy()
    projected[:, 2] = top
    for _ in range(20):
        residual = depth(projected)
        gradient = np.stack(
            [
                (depth(projected + step * axis) - depth(projected - step * axis)) / (2.0 * step)
                for axis in np.eye(3)[:2]
            ],
            axis=1,
        )
        scale = np.maximum(np.einsum("ij,ij->i", gradient, gradient), 1e-2)
        projected[:, :2] -= (residual / scale)[:, None] * gradient
    return projected


def _worth_filling(
    depth: Depth, points: np.ndarray, value: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """Numbers of the cells that hold a part of the body.

    Those with an inner node, and those that span a thin wall: all nodes moved, middle inside.
    """
    inner = (value[cells] > 0.0).any(axis=1)
    flat = np.flatnonzero((value[cells] == 0.0).all(axis=1))
    corners = points[cells[flat]]
    size = np.linalg.norm(corners[:, 1:] - corners[:, :1], axis=2).mean(axis=1)
    spanning = flat[depth(corners.mean(axis=1)) > _SPANNING * size]
    return np.union1d(np.flatnonzero(inner), spanning)


def _fill(
    depth: Depth,
    points: np.ndarray,
    value: np.ndarray,
    cells: np.ndarray,
    edges: np.ndarray,
    cuts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace every lattice tetrahedron by its part inside the body."""
    cells = cells[_worth_filling(depth, points, value, cells)]
    rank = np.empty(len(points), np.int64)  # deepest first, without ties
    rank[np.argsort(-value, kind="stable")] = np.arange(len(points))
    order = np.argsort(rank[cells], axis=1)
    cells = np.take_along_axis(cells, order, axis=1).astype(np.int64)
    sign = np.sign(value[cells]).astype(int)
    keys = edges[:, 0].astype(np.int64) * len(points) + edges[:, 1]
    every = np.concatenate([points, cuts])

    def cut(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
        return len(points) + np.searchsorted(keys, inner * len(points) + outer)

    filled = [cells[sign[:, 3] >= 0]]
    for signs in sorted({tuple(s) for s in sign[sign[:, 3] < 0].tolist()}):
        nodes = cells[(sign == signs).all(axis=1)].T
        filled.append(_stencil(signs, nodes, cut, every))
    cells = np.concatenate(filled)
    every, _, cells = _compact(every, (), cells)
    return every, orient_positive(every, cells)


def _stencil(signs: tuple, nodes: np.ndarray, cut: Callable, points: np.ndarray) -> np.ndarray:
    """Tetrahedra for lattice cells that have at least one node outside.

    Args:
        signs: of the four nodes, deepest first: 1 inside, 0 on the surface, -1 outside.
        nodes: [4, cells], deepest first.
        cut: node of a cut edge from its inner and its outer node.
        points: [nodes, 3] mm, with the cuts.

    Returns:
        [elements, 4] of either orientation.
    """
    a, b, c, d = nodes
    match signs:
        case (1, -1, -1, -1):
            parts = [(a, cut(a, b), cut(a, c), cut(a, d))]
        case (1, 0, -1, -1):
            parts = [(a, b, cut(a, c), cut(a, d))]
        case (1, 0, 0, -1):
            parts = [(a, b, c, cut(a, d))]
        case (1, 1, 0, -1):
            parts = [(a, b, c, cut(b, d)), (a, c, cut(a, d), cut(b, d))]
        case (1, 1, 1, -1):
            parts = [
                (a, b, c, cut(c, d)),
                (a, b, cut(b, d), cut(c, d)),
                (a, cut(a, d), cut(b, d), cut(c, d)),
            ]
        case _:  # (1, 1, -1, -1)
            ac, ad, bc, bd = cut(a, c), cut(a, d), cut(b, c), cut(b, d)
            one = np.linalg.norm(points[ac] - points[bd], axis=1)
            other = np.linalg.norm(points[ad] - points[bc], axis=1)
            p, q = np.where(one <= other, ac, ad), np.where(one <= other, bd, bc)
            parts = [(a, b, bc, bd), (a, p, q, np.where(one <= other, ad, ac))]
            parts.append((a, p, q, np.where(one <= other, bc, bd)))
    return np.concatenate([np.stack(part, axis=1) for part in parts])
