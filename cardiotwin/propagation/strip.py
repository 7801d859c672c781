"""A strip of tissue cut from a mesh, straight enough to carry a plane wave along it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels

# In edges of the mesh: length of a strip, and width across the wall's tangent.
LENGTH, WIDTH = 24.0, 7.0
# A strip shorter than this cannot carry a wave that has settled.
SHORTEST = 14.0


class Strip(NamedTuple):
    """Part of a mesh and a frame in it.

    Attributes:
        mesh: the strip, one component.
        along: [3] unit vector from end to end.
        across: [3] unit vector, tangential to the wall.
        position: [nodes] mm from the end where waves start.
        inside: [nodes] whether a node keeps clear of the sides that were cut.
    """

    mesh: Mesh | Voxels
    along: np.ndarray
    across: np.ndarray
    position: np.ndarray
    inside: np.ndarray


def cut_strip(mesh: Mesh | Voxels, edge: float) -> Strip:
    """Cut a strip for measuring conduction velocity.

    On a heart it follows the long axis through the lateral wall of the left ventricle, on anything
    else the longest axis of the bounding box through the middle.

    Args:
        mesh: a heart with labelled endocardia, or any block of tissue.
        edge: mean edge length, mm.

    Raises:
        ValueError: the mesh has no stretch long enough.
    """
    origin, along, across = _frame(mesh)
    offset = mesh.points[mesh.cells].mean(axis=1) - origin
    chosen = np.abs(offset @ across) <= 0.5 * WIDTH * edge
    if "endo_lv" in mesh.surfaces:
        # one wall only: the far side of the cavity from the right ventricle
        chosen &= offset @ np.cross(along, across) > 0
    height = offset @ along
    span = height[chosen].max() - height[chosen].min() if chosen.any() else 0.0
    middle = 0.0 if chosen.any() and "endo_lv" in mesh.surfaces else np.median(height[chosen])
    chosen &= np.abs(height - middle) <= 0.5 * min(LENGTH * edge, 0.8 * span)
    if chosen.any():
        strip = _largest_piece(mesh, chosen)
        position = strip.points @ along
        position -= position.min()
        if position.max() >= SHORTEST * edge:
            side = np.abs((strip.points - origin) @ across)
            inside = side <= (0.5 * WIDTH - 1.5) * edge
            return Strip(strip, along, across, position, inside)
    raise ValueError(
        f"The conduction velocity cannot be measured on this mesh: it has no straight stretch of "
        f"{SHORTEST * edge:.0f} mm ({SHORTEST:g} edges). Refine the mesh, or switch tuning off "
        "(velocity: null)."
    )


def _frame(mesh: Mesh | Voxels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle of the strip, its direction, and the tangent of the wall across it."""
    if {"endo_lv", "endo_rv"} <= set(mesh.surfaces):
        axes = heart_axes(mesh)
        # cross(along, across) points to the lateral wall, away from the right ventricle
        return axes.origin, axes.apex_to_base, axes.third
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    order = np.argsort(low - high)
    unit = np.eye(3)
    return (low + high) / 2, unit[order[0]], unit[order[1]]


def _largest_piece(mesh: Mesh | Voxels, chosen: np.ndarray) -> Mesh | Voxels:
    if isinstance(mesh, Voxels):
        return mesh.copies(chosen)
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    cells = mesh.cells[chosen]
    rows = np.repeat(np.arange(len(cells)), 4)
    incidence = csr_matrix(
        (np.ones(rows.size, np.int8), (rows, cells.ravel())), (len(cells), len(mesh.points))
    )
    # pieces that hang together by faces: three shared nodes
    shared = (incidence @ incidence.T).tocoo()
    face = shared.data >= 3
    graph = csr_matrix((shared.data[face], (shared.row[face], shared.col[face])), shared.shape)
    _, label = connected_components(graph, directed=False)
    cells = cells[label == np.bincount(label).argmax()]
    used, local = np.unique(cells, return_inverse=True)
    return Mesh(mesh.points[used], local.reshape(cells.shape))


def side_by_side(strips: Sequence[Strip]) -> Mesh | Voxels:
    """The meshes of many strips as one that falls into pieces, strip by strip.

    Those of voxels must be copies of one.
    """
    first = strips[0].mesh
    if isinstance(first, Voxels):
        return first.copies(np.ones(first.elements, bool), len(strips))
    starts = np.cumsum([0] + [len(s.mesh.points) for s in strips[:-1]])
    return Mesh(
        np.concatenate([s.mesh.points for s in strips]),
        np.concatenate([s.mesh.cells + start for s, start in zip(strips, starts, strict=True)]),
        allow_components=True,
    )
