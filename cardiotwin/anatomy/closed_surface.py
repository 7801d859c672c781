"""Tetrahedra inside a closed, labelled surface of both ventricles."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from cardiotwin._types import Millimetres
from cardiotwin.anatomy._open import open_file
from cardiotwin.anatomy.finding import tell_surfaces
from cardiotwin.anatomy.image_mesh import REGIONS, largest_by_faces, warn_of_holes
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.stuffing import cube_edge, stuff
from cardiotwin.anatomy.topology import areas, boundary_faces

# The labels of Cobiveco's closed surfaces (Schuler et al. 2021, doi 10.1016/j.media.2021.102247).
COBIVECO = {"base": 1, "epi": 2, "endo_lv": 3, "endo_rv": 4}
_CANDIDATES = 8  # nearest triangles by centroid, among which the nearest one is sought
_CHUNK = 50_000
_BISECTIONS = 12  # to 1e-4 of an edge
_ARRAYS = ("class", "label", "surface", "region", "id")
_SAME = 1e-6  # mm: points nearer than this are one


class ClosedSurface(NamedTuple):
    """A closed triangulated surface, its normals outward.

    Attributes:
        points: [points, 3] mm.
        triangles: [triangles, 3].
        names: of the surface that each triangle belongs to [triangles].
    """

    points: Float[np.ndarray, "points 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    names: np.ndarray

    def volume(self) -> float:
        """Enclosed volume, mm3."""
        a, b, c = (self.points[self.triangles[:, k]] - self.points[0] for k in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def read_surface(
    path: str | Path,
    *,
    unit: str | None = None,
    array: str | None = None,
    labels: Mapping[str, int] | None = None,
) -> ClosedSurface:
    """Read a closed surface, its parts by the labels of its points or triangles or by shape.

    Without labels its parts are told by shape (`tell_surfaces`), with a warning where that is
    uncertain.

    Args:
        path: .vtp, .vtk, .stl, .ply or .obj; the last three hold no labels.
        unit: of the coordinates; mm when left out.
        array: name of the labels; "class", "label", "surface", "region" or "id" when left out.
        labels: label by name of the surfaces "epi", "endo_lv", "endo_rv" and "base"; those of
            Cobiveco when left out (1 base, 2 epicardium, 3 left, 4 right endocardium).

    Raises:
        ValueError: the file cannot be read, lacks one of the four surfaces or the labels that were
            asked for, does not close, or its shape is not that of both ventricles.
    """
    path = Path(path)
    content = open_file(path, unit)
    blocks = [b for b in content.blocks if b.kind == "triangle"]
    if not blocks:
        raise ValueError(f"{path}: no triangles found: export the surface triangulated")
    faces = np.concatenate([b.nodes for b in blocks])
    shared = set.intersection(*(set(b.data) for b in blocks))
    data = {name: np.concatenate([b.data[name] for b in blocks]) for name in shared}
    values = _triangle_labels(path, content.point_data, data, faces, array, labels)
    places, number = np.unique(
        np.rint(content.points / _SAME).astype(np.int64), axis=0, return_inverse=True
    )
    faces = number.reshape(-1)[faces]
    ordered = np.sort(faces, axis=1)
    proper = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
    faces = faces[proper].astype(np.int32)
    points = places * _SAME
    _check_closed(path, points, faces)
    found = ClosedSurface(points, faces, np.empty(0))
    if found.volume() < 0:
        found = found._replace(triangles=faces[:, [0, 2, 1]])
    if values is None:
        return found._replace(names=_by_shape(path, found))
    found = found._replace(names=_names(path, values[proper], labels or COBIVECO))
    check_sides(path, found)
    return found


def mesh_from_surface(
    path: str | Path,
    *,
    edge_length: Millimetres = 1.5,
    unit: str | None = None,
    labels: Mapping[str, int] | None = None,
) -> Mesh:
    """Tetrahedra of a file's closed surface: `read_surface`, then `mesh_of_surface`."""
    return mesh_of_surface(read_surface(path, unit=unit, labels=labels), edge_length)


def mesh_of_surface(surface: ClosedSurface, edge_length: Millimetres = 1.5) -> Mesh:
    """Fill a closed surface of both ventricles with tetrahedra, by isosurface stuffing.

    Boundary faces take the name of the nearest triangle of the surface. An element belongs to the
    septum where it is nearer to both endocardia than to the epicardium, otherwise to the ventricle
    whose endocardium is nearer.

    Args:
        surface: the surface.
        edge_length: mean edge in mm.

    Raises:
        ValueError: the edge length is not positive or too long for the walls.
    """
    if not (np.isfinite(edge_length) and edge_length > 0):
        raise ValueError(f"edge_length must be a positive length in mm, got {edge_length!r}")
    total = float(areas(surface.points, surface.triangles).sum())
    cube = cube_edge(edge_length, total / surface.volume())
    nearest = Nearest(surface)
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    depth = nearest.depth
    box = low - 1.5 * cube, high + 1.5 * cube
    points, cells = stuff(depth, *box, cube, open_top=False, bisections=_BISECTIONS)
    cells = largest_by_faces(points, cells)
    nodes, cells = np.unique(cells, return_inverse=True)
    points, cells = points[nodes], cells.reshape(-1, 4).astype(np.int32)
    faces = boundary_faces(cells)
    name = surface.names[nearest(points[faces].mean(axis=1))[1]]
    mesh = Mesh(
        points,
        cells,
        _regions(surface, points[cells].mean(axis=1)),
        surfaces={k: faces[name == k] for k in STANDARD_SURFACES},
        region_names=REGIONS,
    )
    warn_of_holes(mesh, edge_length)
    return mesh


class Nearest:
    """Distance to a closed surface and the nearest triangle, for many points.

    The nearest triangle is sought among those with the eight nearest centroids. Where several are
    equally near, as at an edge, that decides the side whose plane the point lies farthest from.
    """

    def __init__(self, surface: ClosedSurface):
        self._corners = surface.points[surface.triangles]
        normal = np.cross(
            self._corners[:, 1] - self._corners[:, 0], self._corners[:, 2] - self._corners[:, 0]
        )
        self._normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        self._tree = KDTree(self._corners.mean(axis=1))

    def __call__(self, points: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance in mm, positive inside [n], and the nearest triangle [n]."""
        parts = [points[k : k + _CHUNK] for k in range(0, max(len(points), 1), _CHUNK)]
        found = [self._search(part) for part in parts]
        distance, triangle = (np.concatenate(values) for values in zip(*found, strict=True))
        return distance, triangle

    def depth(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Signed distance in mm, positive inside."""
        return self(points)[0]

    def _search(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = min(_CANDIDATES, len(self._corners))
        _, candidates = self._tree.query(points, k=count, workers=-1)
        candidates = candidates.reshape(len(points), count)
        offset = points[:, None] - closest_points(points[:, None], self._corners[candidates])
        distance = np.linalg.norm(offset, axis=2)
        height = np.einsum("ijk,ijk->ij", offset, self._normal[candidates])
        near = distance <= distance.min(axis=1, keepdims=True) * (1 + 1e-9) + 1e-9
        best = np.argmax(np.where(near, np.abs(height), -1.0), axis=1)
        rows = np.arange(len(points))
        sign = np.where(height[rows, best] > 0, -1.0, 1.0)
        return sign * distance[rows, best], candidates[rows, best]


def closest_points(
    points: Float[np.ndarray, "*n 3"], corners: Float[np.ndarray, "*n 3 3"]
) -> Float[np.ndarray, "*n 3"]:
    """The points of triangles that are nearest to other points."""
    a, b, c = (corners[..., k, :] for k in range(3))
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = ((x * y).sum(-1) for x, y in ((u, u), (u, v), (v, v)))
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    area = np.maximum(uu * vv - uv * uv, 1e-30)
    s, t = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    inside = (s >= 0) & (t >= 0) & (s + t <= 1)
    best = a + s[..., None] * u + t[..., None] * v
    shortest = np.where(inside, 0.0, np.inf)
    for start, along in ((a, u), (a, v), (b, c - b)):
        length = np.maximum((along * along).sum(-1), 1e-30)
        share = np.clip(((points - start) * along).sum(-1) / length, 0.0, 1.0)
        place = start + share[..., None] * along
        gap = ((points - place) ** 2).sum(-1)
        better = gap < shortest
        best = np.where(better[..., None], place, best)
        shortest = np.where(better, gap, shortest)
    return best


def check_sides(path: Path, surface: ClosedSurface) -> None:
    """Refuse endocardia in each other's place: the left wall is the thicker one.

    Raises:
        ValueError: the wall around "endo_lv" is thinner than that around "endo_rv".
    """
    centres = surface.points[surface.triangles].mean(axis=1)
    outer = KDTree(centres[surface.names == "epi"])
    left, right = (
        float(np.median(outer.query(centres[surface.names == name])[0]))
        for name in ("endo_lv", "endo_rv")
    )
    inner = float(np.quantile(outer.query(centres[surface.names == "endo_rv"])[0], 0.25))
    if left < inner:
        raise ValueError(
            f"{path}: the wall around endo_lv ({left:.1f} mm) is thinner than the one around "
            f"endo_rv ({right:.1f} mm): left and right seem swapped; exchange their labels "
            "(--surfaces)"
        )


def _by_shape(path: Path, surface: ClosedSurface) -> np.ndarray:
    """Names of the surfaces that triangles belong to, as their shape tells."""
    try:
        found = tell_surfaces(surface.points, surface.triangles)
    except ValueError as error:
        raise ValueError(
            f"{path}: the triangles have no labels, and their shape does not tell: {error}"
        ) from error
    if found.doubts:
        warnings.warn(
            f"{path.name}: the triangles have no labels; their shape tells, but that is uncertain: "
            f"{'; '.join(found.doubts)}. Look at the picture, or label them 1 base, 2 epicardium, "
            "3 left and 4 right endocardium in an array called 'class'.",
            stacklevel=3,
        )
    return found.names


def _names(path: Path, values: np.ndarray, labels: Mapping[str, int]) -> np.ndarray:
    """Names of the surfaces that triangles belong to."""
    known = {label: name for name, label in labels.items()}
    present = set(np.unique(values).tolist())
    if present != set(known) or set(labels) != set(STANDARD_SURFACES):
        raise ValueError(
            f"{path}: the labels are {sorted(present)}, expected {dict(labels)}; say which label "
            "is which surface (--surfaces base=1,epi=2,endo_lv=3,endo_rv=4)"
        )
    return np.array([known[value] for value in values.tolist()])


def _triangle_labels(
    path: Path,
    point_data: dict,
    cell_data: dict,
    faces: np.ndarray,
    array: str | None,
    labels: Mapping[str, int] | None,
) -> np.ndarray | None:
    """Whole-numbered labels of triangles; at a border the most frequent, then the least, wins.

    None where there are none and none were asked for.
    """
    lower = {**{k.lower(): (v, True) for k, v in point_data.items()}}
    lower.update({k.lower(): (v, False) for k, v in cell_data.items()})
    name = next((n for n in ([array] if array else _ARRAYS) if n.lower() in lower), None)
    if name is None:
        if array is None and labels is None:
            return None
        have = ", ".join([*point_data, *cell_data]) or "none"
        raise ValueError(
            f"{path}: the triangles have no labels {array or ''} (arrays: {have}); label them 1 "
            "base, 2 epicardium, 3 left and 4 right endocardium in an array called 'class', name "
            "the array (--array), or ask for no labels, so that their shape tells"
        )
    values, on_points = lower[name.lower()]
    values = np.asarray(values)
    if values.ndim != 1 or not np.allclose(values, np.rint(values)):
        raise ValueError(f"{path}: labels are whole numbers, one each, not {values.shape}")
    values = np.rint(values).astype(np.int64)
    if not on_points:
        return values
    three = np.sort(values[faces], axis=1)
    return np.where(three[:, 1] == three[:, 2], three[:, 1], three[:, 0])


def _check_closed(path: Path, points: np.ndarray, faces: np.ndarray) -> None:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    for wrong, what, remedy in (
        (count == 1, "open", "the surface has holes: close them (PyVista's fill_holes)"),
        (
            count > 2,
            "shared by more than two triangles",
            "the surface branches: remove inner faces",
        ),
    ):
        if wrong.any():
            place = points[edges[wrong][0]].mean(axis=0).round(1).tolist()
            raise ValueError(
                f"{path}: {int(wrong.sum())} of {len(edges)} edges are {what}, such as the one at "
                f"{place} mm: {remedy}"
            )


def _regions(surface: ClosedSurface, centres: np.ndarray) -> np.ndarray:
    triangles = surface.points[surface.triangles].mean(axis=1)
    left, right, outer = (
        KDTree(triangles[surface.names == name]).query(centres, workers=-1)[0]
        for name in ("endo_lv", "endo_rv", "epi")
    )
    septum = np.maximum(left, right) < outer
    return np.where(septum, 3, np.where(left < right, 1, 2)).astype(np.int32)
