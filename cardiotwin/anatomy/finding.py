"""Epicardium, endocardia and base of a biventricular mesh, from its shape alone."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.topology import areas, boundary_faces

# Rays that leave a face, in a cone around its normal; a face that more of them leave into tissue
# looks into a cavity.
_RAYS, _CONE, _INNER = 9, np.radians(50.0), 0.6
_ASKED = 8000  # faces that rays leave
# Base: faces that look up within this angle, above this share of the height.
_UP, _HIGH = np.radians(50.0), 0.6
# Share of them below which a patch is no part of the base.
_PART = 0.03
# Share of the boundary that an endocardium is.
_LARGE = 0.05
# Walls whose thickness differs less cannot be told apart.
_RATIO = 1.25
# Openness of a cavity below which it is closed; ventricles have 0.09 (real) to 0.16 (idealised).
_SHUT = 0.03
# Smoothing of what the rays say, over neighbours.
_ROUNDS = 5


class FoundSurfaces(NamedTuple):
    """Surfaces found by shape.

    Attributes:
        surfaces: "epi", "endo_lv", "base" and, but for a left ventricle alone, "endo_rv"; all
            boundary faces shared out.
        doubts: what speaks against them, as sentences; empty where nothing does.
        names: which of them every face belongs to [faces].
    """

    surfaces: dict[str, Int[np.ndarray, "faces 3"]]
    doubts: tuple[str, ...]
    names: np.ndarray


def find_surfaces(mesh: Mesh, *, alone: bool = False) -> FoundSurfaces:
    """Tell the surfaces of a biventricular mesh apart that is open at the base.

    Faces that see tissue in most directions look into a cavity; the two largest patches of them are
    the endocardia, the one with the thinner wall the right one. Of the rest, what looks up between
    them and the outside is the base.

    Args:
        mesh: a mesh of both ventricles, in mm.
        alone: it is one of a left ventricle alone, with one cavity.

    Raises:
        ValueError: there are no two cavities (or not one), or no base.
    """
    return tell_surfaces(mesh.points, boundary_faces(mesh.cells), alone=alone)


def tell_surfaces(
    points: Float[np.ndarray, "nodes 3"], faces: Int[np.ndarray, "faces 3"], *, alone: bool = False
) -> FoundSurfaces:
    """Share out the triangles of a closed surface around a biventricular wall, as `find_surfaces`.

    Args:
        points: mm.
        faces: the whole surface, their normals out of the tissue.
        alone: the wall is that of a left ventricle alone.

    Raises:
        ValueError: there are no two cavities (or not one), or no base.
    """
    shape = _Boundary(points, faces)
    patches = shape.patches(shape.smoothed(shape.enclosed()) > _INNER)
    large = [own for own in patches if shape.area[own].sum() >= _LARGE * shape.area.sum()]
    if alone and len(large) != 1:
        raise ValueError(
            f"the boundary has {len(large)} large patches that look into a cavity; expected one, "
            "the endocardium of a left ventricle alone. Leave find_surfaces=lv out for a mesh of "
            "both ventricles, or name the surfaces in the file."
        )
    if not alone and len(large) < 2:
        raise ValueError(
            f"the boundary has {len(patches)} patches that look into a cavity, {len(large)} of "
            "them large; expected two, the endocardia of both ventricles. Name the surfaces in the "
            "file, or give a mesh of both ventricles that is open at the base; a hole in the "
            "septum makes one cavity of both. For a left ventricle alone say find_surfaces=lv."
        )
    cavities = range(1 if alone else 2)
    _check_open(shape, [large[k] for k in cavities])
    cavity = np.full(len(faces), -1)
    for k in cavities:
        cavity[large[k]] = k
    base = shape.base(cavity >= 0)
    if not base.any():
        raise ValueError(
            "no part of the boundary looks up between the cavities and the outside; expected a "
            "base. Cut the ventricles open below the valves, or name the surfaces in the file."
        )
    # what base and cavity leave between them is the rim of the cavity
    epi, *strips = shape.patches((cavity < 0) & ~base)
    tree = KDTree(shape.centre[cavity >= 0])
    for strip in strips:
        nearest = tree.query(shape.centre[strip])[1]
        cavity[strip] = cavity[np.flatnonzero(cavity >= 0)[nearest]]
        tree = KDTree(shape.centre[cavity >= 0])
    outer = np.zeros(len(faces), bool)
    outer[epi] = True
    sides, doubts = [np.flatnonzero(cavity == k) for k in cavities], []
    if not alone:
        sides, doubts = _left_and_right(shape, sides, outer)
    names = np.full(len(faces), "epi", dtype="U7")
    names[base] = "base"
    for name, side in zip(("endo_lv", "endo_rv"), sides, strict=not alone):
        names[side] = name
    surfaces = {name: faces[names == name] for name in STANDARD_SURFACES if name in names}
    return FoundSurfaces(surfaces, (*doubts, *_doubts(shape, surfaces)), names)


def _check_open(shape: "_Boundary", cavities: list[np.ndarray]) -> None:
    shut = sum(shape.opening(own) < _SHUT for own in cavities)
    if shut:
        raise ValueError(
            f"{shut} of {len(cavities)} cavities have no opening: expected a base. Cut the "
            "ventricles open below the valves."
        )


def with_found_surfaces(path: str | Path, mesh: Mesh, *, alone: bool = False) -> Mesh:
    """A mesh with the surfaces that its shape tells, where it has none of the four itself.

    Args:
        path: of the mesh, for a warning.
        mesh: as `find_surfaces` takes it; one without two cavities is returned as it is.
        alone: it is to be a left ventricle alone; another one is refused.
    """
    if set(STANDARD_SURFACES) & mesh.surfaces.keys():
        return mesh
    try:
        found = find_surfaces(mesh, alone=alone)
    except ValueError as error:
        if alone:
            raise ValueError(f"{path}: {error}") from error
        return mesh  # who needs surfaces says so
    if found.doubts:
        warnings.warn(
            f"{path}: the surfaces were found by shape, and that is uncertain: "
            f"{'; '.join(found.doubts)}. Look at them (`cardiotwin info FILE` draws them), or name "
            "them in the file.",
            stacklevel=3,
        )
    return mesh.replaced(surfaces={**mesh.surfaces, **found.surfaces})


class _Boundary:
    """The boundary faces of a mesh, and which of them are neighbours."""

    def __init__(self, points: Float[np.ndarray, "nodes 3"], faces: Int[np.ndarray, "faces 3"]):
        self.points, self.faces = points, faces
        corners = points[faces]
        self.area = areas(points, faces)
        self.centre = corners.mean(axis=1)
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normal = across / np.linalg.norm(across, axis=1, keepdims=True)
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
        owner = np.tile(np.arange(len(faces)), 3)
        order = np.lexsort(edges.T)
        edges, owner = edges[order], owner[order]
        same = np.flatnonzero((edges[1:] == edges[:-1]).all(axis=1))
        self.pairs = np.stack([owner[same], owner[same + 1]], axis=1)

    def _links(self, pairs: np.ndarray) -> sp.csr_array:
        ones, count = np.ones(len(pairs)), len(self.faces)
        return sp.csr_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))

    def enclosed(self) -> Float[np.ndarray, " faces"]:
        """Share of the rays from every face that meet tissue."""
        import pyvista as pv
        import vtk

        triangles = np.column_stack([np.full(len(self.faces), 3), self.faces]).ravel()
        locator = vtk.vtkStaticCellLocator()
        locator.SetDataSet(pv.PolyData(self.points, triangles))
        locator.BuildLocator()
        size = float(np.linalg.norm(np.ptp(self.points, axis=0)))
        step = 1e-3 * np.sqrt(np.median(self.area))
        t: Any = vtk.reference(0.0)
        sub: Any = vtk.reference(0)
        place, local = [0.0] * 3, [0.0] * 3
        asked = np.arange(0, len(self.faces), 1 + len(self.faces) // _ASKED)
        centre, normal = self.centre[asked], self.normal[asked]
        met = np.zeros(len(asked))
        for ways in _cone(normal):
            begins, ends = centre + step * normal, centre + size * ways
            met += [
                locator.IntersectWithLine(a, b, 0.0, t, place, local, sub)
                for a, b in zip(begins.tolist(), ends.tolist(), strict=True)
            ]
        # the others as the nearest that looks the same way: two walls lie back to back
        apart = 0.1 * size
        near = KDTree(np.hstack([centre, apart * normal]))
        return met[near.query(np.hstack([self.centre, apart * self.normal]))[1]] / _RAYS

    def smoothed(
        self, values: Float[np.ndarray, " faces"], rounds: int = _ROUNDS
    ) -> Float[np.ndarray, " faces"]:
        """Means over neighbours, again and again."""
        links = self._links(self.pairs)
        links = links + links.T + sp.eye_array(len(self.faces))
        count = links.sum(axis=1)
        for _ in range(rounds):
            values = (links @ values) / count
        return values

    def patches(self, chosen: Bool[np.ndarray, " faces"]) -> list[Int[np.ndarray, " own"]]:
        """Faces of each connected part of the chosen ones, the largest first."""
        kept = self.pairs[chosen[self.pairs].all(axis=1)]
        label = connected_components(self._links(kept), directed=False)[1]
        label = np.where(chosen, label, -1)
        names = np.unique(label[chosen])
        found = [np.flatnonzero(label == name) for name in names]
        return sorted(found, key=lambda own: -self.area[own].sum())

    def opening(self, own: Int[np.ndarray, " own"]) -> float:
        """How open a patch is: 0 for a closed surface, whose normals sum to nothing, 1 flat."""
        way = (self.normal[own] * self.area[own, None]).sum(axis=0)
        return float(np.linalg.norm(way) / self.area[own].sum())

    def up(self, inner: Bool[np.ndarray, " faces"]) -> Float[np.ndarray, " 3"]:
        """Where the cavities open: against the mean way that their walls look."""
        # a closed surface's normals sum to nothing; an open one's to its opening, looking down
        way = -(self.normal * self.area[:, None])[inner].sum(axis=0)
        return -way / np.linalg.norm(way)

    def base(self, inner: Bool[np.ndarray, " faces"]) -> Bool[np.ndarray, " faces"]:
        """Faces that look up where the cavities open, in large patches."""
        up = self.up(inner)
        height = self.centre @ up
        high = height > height.min() + _HIGH * np.ptp(height)
        looks_up = ~inner & high & (self.smoothed(self.normal @ up, 2) > np.cos(_UP))
        found = np.zeros(len(self.faces), bool)
        for own in self.patches(looks_up):
            if self.area[own].sum() > _PART * self.area[looks_up].sum():
                found[own] = True
        return found


def _cone(normals: Float[np.ndarray, "faces 3"]) -> list[Float[np.ndarray, "faces 3"]]:
    """Unit vectors in a cone around each normal: itself, and even turns around it."""
    helper = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(normals, first)
    turns = np.linspace(0.0, 2.0 * np.pi, _RAYS - 1, endpoint=False)
    tilted = [
        np.cos(_CONE) * normals + np.sin(_CONE) * (np.cos(x) * first + np.sin(x) * second)
        for x in turns
    ]
    return [normals, *tilted]


def _left_and_right(
    shape: _Boundary, patches: list[np.ndarray], outer: Bool[np.ndarray, " faces"]
) -> tuple[list[np.ndarray], list[str]]:
    """The endocardia, the one with the thicker free wall first."""
    tree = KDTree(shape.centre[outer])
    other = [KDTree(shape.centre[own]) for own in reversed(patches)]
    walls = []
    for own, across in zip(patches, other, strict=True):
        out, _ = tree.query(shape.centre[own])
        through, _ = across.query(shape.centre[own])
        walls.append(float(np.median(out[out <= through])))
    thick, thin = max(walls), min(walls)
    doubts = []
    if thick < _RATIO * thin:
        doubts.append(
            f"the free walls of both cavities are alike ({walls[0]:.1f} and {walls[1]:.1f} mm), so "
            "left and right are a guess"
        )
    order = [0, 1] if walls[0] >= walls[1] else [1, 0]
    return [patches[k] for k in order], doubts


def _doubts(shape: _Boundary, surfaces: dict[str, np.ndarray]) -> list[str]:
    """Endocardium that borders on epicardium, and a base in many pieces."""
    name = {key: np.unique(faces) for key, faces in surfaces.items()}
    found = []
    for endo in name.keys() & {"endo_lv", "endo_rv"}:
        shared = np.intersect1d(name[endo], name["epi"]).size
        rim = np.intersect1d(name[endo], np.union1d(name["epi"], name["base"])).size
        if shared > 0.2 * max(rim, 1):
            found.append(
                f"{shared} of {rim} nodes on the rim of {endo!r} border on the epicardium, not on "
                "the base"
            )
    return found
