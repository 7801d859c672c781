"""Surfaces to look at: the boundary of a mesh, isochrones on it, and a coarser copy of it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cardiotwin.anatomy.mesh import Mesh

# Nodes of a cut tetrahedron in order of height: how many lie below the plane, the edges that
# cross it, and the triangles between the crossings.
_CUTS = (
    (1, ((0, 1), (0, 2), (0, 3)), ((0, 1, 2),)),
    (2, ((0, 2), (0, 3), (1, 3), (1, 2)), ((0, 1, 2), (0, 2, 3))),
    (3, ((0, 3), (1, 3), (2, 3)), ((0, 1, 2),)),
)


class Surface(NamedTuple):
    """Triangles with outward normals, and the mesh node each of their points is.

    Attributes:
        points: [points, 3] mm.
        triangles: [triangles, 3] indices into `points`.
        nodes: [points] indices into the mesh's nodes.
    """

    points: Float[np.ndarray, "points 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    nodes: Int[np.ndarray, " points"]


def outer_surface(mesh: Mesh) -> Surface:
    """The whole boundary of a mesh: epicardium, endocardia and base."""
    faces = mesh.boundary_faces()
    nodes, triangles = np.unique(faces, return_inverse=True)
    return Surface(mesh.points[nodes], triangles.reshape(-1, 3).astype(np.int32), nodes)


def face_areas(
    points: Float[np.ndarray, "points 3"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, "triangles 3"]:
    """Normals of the triangles, as long as twice their area in mm2."""
    corners = points[triangles]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def point_normals(
    points: Float[np.ndarray, "points 3"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, "points 3"]:
    """Unit normals at the points: means over the triangles around, weighted by area."""
    sums = [
        np.bincount(triangles.ravel(), np.repeat(component, 3), minlength=len(points))
        for component in face_areas(points, triangles).T
    ]
    return unit(np.stack(sums, axis=1))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors along the last axis scaled to length 1; zeros stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)


def cross_section(
    points: Float[np.ndarray, "nodes 3"],
    cells: Int[np.ndarray, "elements 4"],
    height: Float[np.ndarray, " nodes"],
    values: Float[np.ndarray, " nodes"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The surface on which a linearly interpolated height is zero, and values on it.

    Args:
        points: [nodes, 3] mm.
        cells: [elements, 4].
        height: signed distance of each node from a plane, mm.
        values: a field at the nodes.

    Returns:
        Points [points, 3], triangles [triangles, 3] of either sense, values [points].
    """
    below = height[cells] < 0.0
    count = below.sum(axis=1)
    starts, ends, triangles, first = [], [], [], 0
    for number, edges, faces in _CUTS:
        cut = cells[count == number]
        order = np.argsort(height[cut], axis=1)
        cut = np.take_along_axis(cut, order, axis=1)
        starts.append(cut[:, [a for a, _ in edges]].ravel())
        ends.append(cut[:, [b for _, b in edges]].ravel())
        corner = first + len(edges) * np.arange(len(cut))
        triangles.append((corner[:, None, None] + np.array(faces)).reshape(-1, 3))
        first += len(edges) * len(cut)
    start, end = np.concatenate(starts), np.concatenate(ends)
    weight = height[start] / (height[start] - height[end])
    return (
        points[start] + weight[:, None] * (points[end] - points[start]),
        np.concatenate(triangles),
        values[start] + weight * (values[end] - values[start]),
    )


def isochrone_levels(values: np.ndarray, spacing: float) -> np.ndarray:
    """Multiples of `spacing` strictly between the least and the greatest finite value."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.empty(0)
    first = np.floor(finite.min() / spacing) + 1
    return spacing * np.arange(first, np.ceil(finite.max() / spacing))


def isochrones(
    points: Float[np.ndarray, "points 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    values: Float[np.ndarray, " points"],
    levels: np.ndarray,
) -> Float[np.ndarray, "segments 2 3"]:
    """Straight pieces of the lines on which linearly interpolated values equal a level.

    Args:
        points: [points, 3] mm.
        triangles: [triangles, 3].
        values: [points]; triangles with a NaN have no lines.
        levels: the values to draw.

    Returns:
        End points of the pieces [segments, 2, 3] in mm.
    """
    at = values[triangles]
    usable = np.isfinite(at).all(axis=1)
    triangles, at = triangles[usable], at[usable]
    pieces = []
    for level in levels:
        above = at >= level
        count = above.sum(axis=1)
        crossed = (count == 1) | (count == 2)
        alone = above[crossed] == (count[crossed] == 1)[:, None]  # the corner on its own side
        corner = np.argmax(alone, axis=1)
        rows = np.arange(len(corner))
        tri, val = triangles[crossed], at[crossed]
        start, v0 = points[tri[rows, corner]], val[rows, corner]
        ends = []
        for step in (1, 2):
            other = (corner + step) % 3
            weight = (level - v0) / (val[rows, other] - v0)
            ends.append(start + weight[:, None] * (points[tri[rows, other]] - start))
        pieces.append(np.stack(ends, axis=1))
    return np.concatenate(pieces) if pieces else np.empty((0, 2, 3))


def coarsened(surface: Surface, largest: int) -> Surface:
    """A surface of at most about `largest` triangles, made by merging points in cubes.

    Each cube keeps the one of its points that lies nearest to their centre, so that values at
    nodes stay what they were.

    Args:
        surface: the fine surface.
        largest: number of triangles that is small enough.

    Returns:
        The surface itself when it is small enough.
    """
    if len(surface.triangles) <= largest:
        return surface
    area = np.linalg.norm(face_areas(surface.points, surface.triangles), axis=1).sum() / 2
    edge = np.sqrt(2 * area / largest)  # a cube face of this size carries about two triangles
    coarse = _clustered(surface, edge)
    while len(coarse.triangles) > largest:
        edge *= 1.1
        coarse = _clustered(surface, edge)
    return coarse


def _clustered(surface: Surface, edge: float) -> Surface:
    cubes = np.floor((surface.points - surface.points.min(axis=0)) / edge).astype(np.int64)
    side = cubes.max() + 1
    _, cluster = np.unique(cubes @ np.array([side**2, side, 1]), return_inverse=True)
    size = np.bincount(cluster)
    centre = np.stack(
        [np.bincount(cluster, component) / size for component in surface.points.T], axis=1
    )
    distance = np.linalg.norm(surface.points - centre[cluster], axis=1)
    order = np.lexsort((distance, cluster))
    chosen = order[np.searchsorted(cluster[order], np.arange(len(size)))]
    triangles = cluster[surface.triangles]
    proper = (triangles != np.roll(triangles, 1, axis=1)).all(axis=1)
    triangles = triangles[proper]
    _, first = np.unique(np.sort(triangles, axis=1), axis=0, return_index=True)
    triangles = triangles[np.sort(first)]
    used, triangles = np.unique(triangles, return_inverse=True)
    nodes = chosen[used]
    return Surface(
        surface.points[nodes], triangles.reshape(-1, 3).astype(np.int32), surface.nodes[nodes]
    )
