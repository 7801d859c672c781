"""Cavities enclosed by endocardial surfaces: their openings and volumes."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import areas, match_faces
from cardiotwin.anatomy.voxels import Voxels

# Share of the boundary that may belong to no surface.
_UNNAMED = 0.02


def named_surface(mesh: Mesh | Voxels, name: str) -> Int[np.ndarray, "faces 3"]:
    """A labelled surface of a mesh.

    Raises:
        ValueError: the mesh has no such surface, or it is empty.
    """
    faces = mesh.surfaces.get(name)
    if faces is None or len(faces) == 0:
        have = ", ".join(repr(key) for key in mesh.surfaces) or "none"
        raise ValueError(
            f"the mesh has no surface {name!r} (it has: {have}); label its boundary faces, or "
            "name the labels of the file when reading it"
        )
    return faces


def is_left_ventricle(mesh: Mesh | Voxels) -> bool:
    """Whether a mesh is a left ventricle alone rather than both with a name missing.

    It names "epi", "endo_lv" and "base" but no "endo_rv" and no region "rv", and these three
    surfaces cover the boundary but for a fiftieth.
    """
    if "endo_rv" in mesh.surfaces or not mesh.surfaces.keys() >= {"epi", "endo_lv", "base"}:
        return False
    boundary = mesh.boundary_faces()
    covered = np.zeros(len(boundary), bool)
    for name in ("epi", "endo_lv", "base"):
        covered[match_faces(mesh.surfaces[name], boundary)] = True
    size = areas(mesh.points, boundary)
    bare = size[~covered].sum() > _UNNAMED * size.sum()
    return not bare and "rv" not in {name for _, name in mesh.region_names}


def rim_edges(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "edges 2"]:
    """Edges that belong to one face only, in the sense in which that face runs through them."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    key = edges.min(axis=1) * (int(edges.max()) + 1) + edges.max(axis=1)
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    return edges[first[count == 1]]


def opening_centre(mesh: Mesh | Voxels, surface: str) -> Float[np.ndarray, "3"]:
    """Centre of the openings of an endocardial surface in mm, weighted by the length of the rim.

    Raises:
        ValueError: the surface is missing or has no opening.
    """
    edges = rim_edges(named_surface(mesh, surface))
    if len(edges) == 0:
        raise ValueError(
            f"the surface {surface!r} is closed: expected an opening towards the base; "
            "label the basal faces 'base'"
        )
    ends = mesh.points[edges]
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    return np.average(ends.mean(axis=1), axis=0, weights=length)


def cavity_volume(mesh: Mesh, surface: str) -> float:
    """Volume in mm3 that an endocardial surface encloses, each opening closed by a cone.

    A flat opening, such as that of the idealised heart, is closed exactly.

    Args:
        mesh: a mesh in mm.
        surface: name of the endocardial surface, "endo_lv" or "endo_rv".

    Raises:
        ValueError: the surface is missing.
    """
    faces = named_surface(mesh, surface)
    wall = mesh.points[faces] - mesh.points[faces[0, 0]]
    volume = np.linalg.det(wall).sum() / 6.0
    edges = rim_edges(faces)
    if len(edges):
        nodes, local = np.unique(edges, return_inverse=True)
        local = local.reshape(edges.shape)
        links = sp.coo_matrix((np.ones(len(edges)), local.T), shape=(len(nodes), len(nodes)))
        count, ring = connected_components(links, directed=False)
        position = mesh.points[nodes] - mesh.points[faces[0, 0]]
        sums = [np.bincount(ring, weights=x, minlength=count) for x in position.T]
        centre = np.stack(sums, axis=1) / np.bincount(ring, minlength=count)[:, None]
        start, end = position[local[:, 0]], position[local[:, 1]]
        cone = np.stack([end, start, centre[ring[local[:, 0]]]], axis=1)
        volume += np.linalg.det(cone).sum() / 6.0
    return float(abs(volume))


def cavity_surface(mesh: Mesh | Voxels, surface: str) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface of a cavity: its endocardium, each opening closed by a cone.

    Args:
        mesh: a mesh in mm.
        surface: name of the endocardial surface, "endo_lv" or "endo_rv".

    Returns:
        Points [points, 3] in mm and triangles [triangles, 3], normals out of the cavity.

    Raises:
        ValueError: the surface is missing.
    """
    faces = named_surface(mesh, surface)[:, ::-1]
    nodes, local = np.unique(faces, return_inverse=True)
    points, local = mesh.points[nodes], local.reshape(-1, 3)
    edges = rim_edges(local)
    if len(edges) == 0:
        return points, local
    links = sp.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(points),) * 2)
    _, ring = connected_components(links, directed=False)
    rings, number = np.unique(ring[edges[:, 0]], return_inverse=True)
    centres = np.stack([points[ring == k].mean(axis=0) for k in rings])
    cone = np.stack([edges[:, 1], edges[:, 0], len(points) + number], axis=1)
    return np.concatenate([points, centres]), np.concatenate([local, cone])
