"""Finer meshes of the same shape: every tetrahedron into eight."""

import numpy as np
from jaxtyping import Int

from cardiotwin._types import Millimetres
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import unique_edges

_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
# The octahedron that is left when the corners are cut off: its three diagonals by the edges whose
# middles they join, each with the other four middles in a ring around it.
_DIAGONALS = (
    ((0, 5), (1, 3, 4, 2)),
    ((1, 4), (0, 3, 5, 2)),
    ((2, 3), (0, 1, 5, 4)),
)
# More elements than this are refused: such a mesh does not fit into a common machine's memory.
_MOST = 40_000_000


def refined(mesh: Mesh, edge_length: Millimetres) -> Mesh:
    """Halve all edges as often as it takes to bring their mean to a wanted length, or below.

    Every tetrahedron becomes eight (Bey 1995, https://doi.org/10.1007/BF02238487): four at its
    corners and four of the octahedron between, cut along its shortest diagonal. The shape stays as
    it is, with its corners: a coarse mesh does not become smooth. Regions and element data are
    those of the parent, node data the mean of an edge's ends.

    Args:
        mesh: any.
        edge_length: wanted mean edge, mm; each halving is taken to halve the mean.

    Returns:
        The mesh itself where its edges are short enough.

    Raises:
        ValueError: an edge length that is not positive, or one that takes more than 40 million
            elements.
    """
    if not edge_length > 0:
        raise ValueError(f"refined: edge_length is {edge_length} mm; give a positive one.")
    mean = mean_edge(mesh)
    rounds = max(int(np.ceil(np.log2(mean / edge_length) - 1e-9)), 0)
    if len(mesh.cells) * 8.0**rounds > _MOST:
        raise ValueError(
            f"refined: edges of {mean:.2f} mm to {edge_length:g} mm are {rounds} halvings, "
            f"{len(mesh.cells) * 8.0**rounds:.3g} elements; at most {_MOST:,} are made. Give a "
            "longer edge."
        )
    for _ in range(rounds):
        mesh = halved(mesh)
    return mesh


def mean_edge(mesh: Mesh) -> float:
    """Mean length of the edges, mm."""
    ends = mesh.points[mesh.unique_edges()]
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).mean())


def halved(mesh: Mesh) -> Mesh:
    """Every tetrahedron into eight, every surface triangle into four; see `refined`."""
    edges = unique_edges(mesh.cells).astype(np.int64)
    count = len(mesh.points)
    keys = edges[:, 0] * count + edges[:, 1]

    def middle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pair = np.minimum(first, second).astype(np.int64) * count + np.maximum(first, second)
        return count + np.searchsorted(keys, pair)

    ends = mesh.points[edges]
    points = np.concatenate([mesh.points, ends.mean(axis=1)])
    middles = np.stack([middle(mesh.cells[:, a], mesh.cells[:, b]) for a, b in _PAIRS], axis=1)
    cells = np.concatenate([_corners(mesh.cells, middles), _inner(points, middles)], axis=1)
    cells = _turned(points, cells.reshape(-1, 4))
    surfaces = {}
    for name, faces in mesh.surfaces.items():
        a, b, c = faces.T
        ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
        four = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        surfaces[name] = np.stack([np.stack(x, axis=1) for x in four], axis=1).reshape(-1, 3)
    return Mesh(
        points,
        cells,
        regions=np.repeat(mesh.regions, 8),
        surfaces=surfaces,
        point_data={
            name: np.concatenate([x, x[edges].mean(axis=1).astype(x.dtype)])
            for name, x in mesh.point_data.items()
        },
        cell_data={name: np.repeat(x, 8, axis=0) for name, x in mesh.cell_data.items()},
        region_names=mesh.region_names,
        allow_components=True,  # as many as before
    )


def _corners(
    cells: Int[np.ndarray, "elements 4"], middles: Int[np.ndarray, "elements 6"]
) -> Int[np.ndarray, "elements 4 4"]:
    """The tetrahedra at the corners."""
    beside = [[k for k, pair in enumerate(_PAIRS) if corner in pair] for corner in range(4)]
    return np.stack(
        [np.column_stack([cells[:, k], middles[:, beside[k]]]) for k in range(4)], axis=1
    )


def _inner(
    points: np.ndarray, middles: Int[np.ndarray, "elements 6"]
) -> Int[np.ndarray, "elements 4 4"]:
    """The four around the shortest diagonal of the octahedron between."""
    lengths = [
        np.linalg.norm(points[middles[:, a]] - points[middles[:, b]], axis=1)
        for (a, b), _ in _DIAGONALS
    ]
    shortest = np.argmin(lengths, axis=0)
    found = np.empty((len(middles), 4, 4), middles.dtype)
    for k, ((a, b), ring) in enumerate(_DIAGONALS):
        mine = middles[shortest == k]
        found[shortest == k] = np.stack(
            [
                np.stack([mine[:, a], mine[:, b], mine[:, ring[i]], mine[:, ring[i - 1]]], axis=1)
                for i in range(4)
            ],
            axis=1,
        )
    return found


def _turned(
    points: np.ndarray, cells: Int[np.ndarray, "elements 4"]
) -> Int[np.ndarray, "elements 4"]:
    """With positive volumes."""
    corners = points[cells]
    edges = corners[:, 1:] - corners[:, :1]
    inverted = np.einsum("ei,ei->e", edges[:, 0], np.cross(edges[:, 1], edges[:, 2])) < 0
    cells[inverted] = cells[inverted][:, [0, 1, 3, 2]]
    return cells
