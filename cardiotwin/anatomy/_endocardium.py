"""A triangulated surface to walk on: nearest points, places named in coordinates, shortest ways."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from cardiotwin.anatomy.cavity import named_surface
from cardiotwin.anatomy.coordinates import HeartAxes, VentricularFields
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import areas, unique_edges
from cardiotwin.anatomy.walls import ENDOCARDIA, rotation, septal

# Triangles whose centres lie nearest that are tried for the nearest point.
_TRIED = 16


class Foot(NamedTuple):
    """A point on the surface: where it is, in which triangle, and with which weights of corners."""

    point: np.ndarray
    face: int
    weights: np.ndarray


class Endocardium:
    """The endocardium of one ventricle, its vertices renumbered from 0.

    Attributes:
        nodes: node of the mesh that each vertex is [vertices].
        points: [vertices, 3] mm.
        faces: [faces, 3] vertices.
        normals: [faces, 3] unit vectors into the cavity.
        share: area of the surface that belongs to each vertex [vertices], mm2.
    """

    def __init__(self, mesh: Mesh, side: str):
        faces = named_surface(mesh, ENDOCARDIA[side])
        self.nodes, local = np.unique(faces, return_inverse=True)
        self.points = mesh.points[self.nodes]
        self.faces = local.reshape(faces.shape)
        self._corners = self.points[self.faces]
        first, second = (self._corners[:, k] - self._corners[:, 0] for k in (1, 2))
        across = np.cross(first, second)
        self.normals = across / np.linalg.norm(across, axis=1, keepdims=True)
        third = np.repeat(areas(self.points, self.faces) / 3.0, 3)
        self.share = np.bincount(self.faces.ravel(), third)
        ff, fs, ss = _dots(first, first), _dots(first, second), _dots(second, second)
        rows = [
            ss[:, None] * first - fs[:, None] * second,
            ff[:, None] * second - fs[:, None] * first,
        ]
        self._slopes = np.stack(rows, axis=1) / (ff * ss - fs * fs)[:, None, None]
        self._centres = KDTree(self._corners.mean(axis=1))
        edges = unique_edges(self.faces)
        self._starts, self._ends = edges.T
        self._lengths = np.linalg.norm(self.points[self._ends] - self.points[self._starts], axis=1)

    def foot(self, point: Float[np.ndarray, "3"], normal: Float[np.ndarray, "3"]) -> Foot:
        """A point of the surface below or above another one, nearest where there are several.

        Triangles that face as `normal` does come first; where none lies straight below the point,
        as over a ridge, it is the nearest point of their rims.
        """
        tried = np.asarray(self._centres.query(point, k=min(_TRIED, len(self.faces)))[1])
        alike = tried[self.normals[tried] @ normal > 0.0]
        tried = alike if len(alike) else tried
        offsets = point - self._corners[tried, 0]
        later = np.einsum("tkj,tj->tk", self._slopes[tried], offsets)
        weights = np.concatenate([1.0 - later.sum(axis=1, keepdims=True), later], axis=1)
        inside = weights.min(axis=1) >= 0.0
        if inside.any():
            tried, weights = tried[inside], weights[inside]
        else:
            weights = _weights_on_rim(point, self._corners[tried])
        feet = np.einsum("tc,tci->ti", weights, self._corners[tried])
        best = int(np.argmin(_dots(feet - point, feet - point)))
        return Foot(feet[best], int(tried[best]), weights[best])

    def nearest_faces(self, points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
        """The triangle whose centre is nearest to each point."""
        return np.asarray(self._centres.query(points)[1])

    def ways_from(
        self, vertices: Int[np.ndarray, " n"], offsets: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " vertices"], Int[np.ndarray, " vertices"]]:
        """Shortest ways along edges from the nearest of several vertices.

        Args:
            vertices: to start from [n].
            offsets: length of the way before each of them [n], mm, above 0.

        Returns:
            Length of the way to every vertex, mm, and the vertex before it on that way; -1 where
            the way begins.
        """
        count = len(self.points)
        first = np.full(count, np.inf)
        np.minimum.at(first, vertices, offsets)
        starts = np.flatnonzero(np.isfinite(first))
        rows = np.concatenate([self._starts, self._ends, np.full(len(starts), count)])
        columns = np.concatenate([self._ends, self._starts, starts])
        weights = np.concatenate([self._lengths, self._lengths, first[starts]])
        graph = sp.csr_matrix((weights, (rows, columns)), shape=(count + 1, count + 1))
        length, before = dijkstra(graph, indices=count, return_predecessors=True)
        return length[:count], np.where(before[:count] == count, -1, before[:count])


class Landmarks:
    """Where the vertices of an endocardium lie in the heart's own terms.

    Attributes:
        height: apicobasal coordinate [vertices].
    """

    def __init__(
        self,
        mesh: Mesh,
        side: str,
        surface: Endocardium,
        fields: VentricularFields,
        axes: HeartAxes,
    ):
        points = surface.points
        self.height = fields.apicobasal[surface.nodes]
        self._angle = rotation(points, axes)
        self._septum = septal(mesh, surface.nodes, side)
        off_axis = np.cross(points - axes.origin, axes.apex_to_base)
        self._radius = np.linalg.norm(off_axis, axis=1)
        self._length = float(np.ptp(points @ axes.apex_to_base))

    def vertex_at(self, height: float, angle: float, septum: bool) -> int:
        """The vertex nearest to a height and an angle.

        Args:
            height: apicobasal coordinate.
            angle: about the long axis, degrees; 0 to the other ventricle, positive to the front.
            septum: look in the septum; otherwise in the free wall.
        """
        turn = (self._angle - angle + 180.0) % 360.0 - 180.0
        apart = np.hypot((self.height - height) * self._length, np.radians(turn) * self._radius)
        return int(np.argmin(np.where(self._septum == septum, apart, np.inf)))


def way_to(vertex: int, before: Int[np.ndarray, " vertices"]) -> list[int]:
    """Vertices of the way that ends at `vertex`, in the order of walking; see `ways_from`."""
    way = [vertex]
    while before[way[-1]] >= 0:
        way.append(int(before[way[-1]]))
    return way[::-1]


def _weights_on_rim(
    point: Float[np.ndarray, "3"], corners: Float[np.ndarray, "t 3 3"]
) -> Float[np.ndarray, "t 3"]:
    """Weights of the corners in the point of each triangle's rim that is nearest to `point`."""
    result = np.zeros((len(corners), 3))
    nearest = np.full(len(corners), np.inf)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        start, side = corners[:, a], corners[:, b] - corners[:, a]
        along = np.clip(_dots(point - start, side) / _dots(side, side), 0.0, 1.0)
        short = start + along[:, None] * side - point
        distance = _dots(short, short)
        rows = np.flatnonzero(distance < nearest)
        result[rows] = 0.0
        result[rows, a], result[rows, b] = 1.0 - along[rows], along[rows]
        nearest[rows] = distance[rows]
    return result


def _dots(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    return np.einsum("ij,ij->i", a, b)
