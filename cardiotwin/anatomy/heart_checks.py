"""Whether the named surfaces of a mesh are those of one heart, before anything is built on them."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from cardiotwin.anatomy.cavity import is_left_ventricle, named_surface, opening_centre
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import areas, component_labels, match_faces
from cardiotwin.anatomy.voxels import Voxels

_ENDOCARDIA = ("endo_lv", "endo_rv")
# Edges that both endocardia may share: noise of labels at a ragged base stays below.
_TOUCHING = 3
# The left free wall is swapped for the right one where it is thinner by this.
_THINNER = 1.25
# Share of the boundary that may belong to no surface.
_UNNAMED = 0.02


def check_heart(mesh: Mesh | Voxels) -> None:
    """Refuse surfaces that are not those of ventricles, open at the base, in their places.

    Args:
        mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base"; a left ventricle alone has
            no "endo_rv".

    Raises:
        ValueError: a surface is missing, an endocardium is closed, both touch (a hole in the
            septum), or left and right are swapped; the message says where and how to mend it.
    """
    if is_left_ventricle(mesh):
        opening_centre(mesh, "endo_lv")
        return
    for name in ("epi", *_ENDOCARDIA, "base"):
        named_surface(mesh, name)
    for name in _ENDOCARDIA:
        opening_centre(mesh, name)
    _check_septum(mesh)
    left, right = (_free_wall(mesh, *pair) for pair in (_ENDOCARDIA, _ENDOCARDIA[::-1]))
    if left * _THINNER < right:
        raise ValueError(
            f"the free wall behind 'endo_lv' ({left:.1f} mm) is thinner than the one behind "
            f"'endo_rv' ({right:.1f} mm): left and right seem swapped; exchange the names of the "
            "two surfaces"
        )


def unnamed_share(mesh: Mesh) -> float:
    """Share of the boundary's area that no surface covers, 0 to 1."""
    boundary = mesh.boundary_faces()
    covered = np.zeros(len(boundary), bool)
    for faces in mesh.surfaces.values():
        covered[match_faces(faces, boundary)] = True
    size = areas(mesh.points, boundary)
    return float(size[~covered].sum() / size.sum())


def heart_doubts(mesh: Mesh) -> list[str]:
    """What is odd about a heart's surfaces, as sentences; empty where nothing is, or none named."""
    if not mesh.surfaces.keys() >= {"epi", *_ENDOCARDIA, "base"}:
        return []
    found = []
    try:
        check_heart(mesh)
    except ValueError as error:
        found.append(str(error))
    share = unnamed_share(mesh)
    if share > _UNNAMED:
        found.append(
            f"{100 * share:.0f} % of the boundary belongs to no surface: together they do not "
            "close; name the rest, or let them be found by shape (leave out all names)"
        )
    return found


def _check_septum(mesh: Mesh | Voxels) -> None:
    """Refuse endocardia that border on each other, as they do around a hole in the septum."""
    left, right = (_edges(mesh.surfaces[name], len(mesh.points)) for name in _ENDOCARDIA)
    shared = np.intersect1d(left, right)
    ends = np.unique(np.concatenate([shared // len(mesh.points), shared % len(mesh.points)]))
    what = f"share {len(shared)} edges"
    if len(shared) <= _TOUCHING:
        ends = _tunnel(mesh)
        what = f"are joined by a patch of {len(ends)} nodes that belongs to no surface"
    if not len(ends):
        return
    raise ValueError(
        f"the septum has a hole: the surfaces 'endo_lv' and 'endo_rv' {what}, around "
        f"{mesh.points[ends].mean(axis=0).round(1).tolist()} mm; label muscle between the cavities "
        "and mesh anew, or name the faces between them 'base' where they meet at a valve"
    )


def _tunnel(mesh: Mesh | Voxels) -> Int[np.ndarray, " nodes"]:
    """Nodes of a patch without a name that borders on both endocardia and on nothing else."""
    boundary = mesh.boundary_faces()
    named = np.zeros(len(boundary), bool)
    on = {}
    for name, faces in mesh.surfaces.items():
        named[match_faces(faces, boundary)] = True
        on[name] = np.unique(faces)
    bare = boundary[~named]
    if not len(bare):
        return np.empty(0, int)
    piece = component_labels(bare, len(mesh.points))[bare[:, 0]]
    for one in np.unique(piece):
        nodes = np.unique(bare[piece == one])
        touched = {name for name, own in on.items() if np.isin(nodes, own).any()}
        if touched == set(_ENDOCARDIA):
            return nodes
    return np.empty(0, int)


def _edges(faces: Int[np.ndarray, "faces 3"], nodes: int) -> Int[np.ndarray, " edges"]:
    """Every edge of a surface once, as one number."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = np.sort(pairs.astype(np.int64), axis=1).T
    return np.unique(low * nodes + high)


def _free_wall(mesh: Mesh | Voxels, name: str, other: str) -> float:
    """Median thickness in mm of the wall between an endocardium and the epicardium."""
    places: Float[np.ndarray, "n 3"] = mesh.points[np.unique(mesh.surfaces[name])]
    out, through = (
        KDTree(mesh.points[np.unique(mesh.surfaces[surface])]).query(places)[0]
        for surface in ("epi", other)
    )
    free = out <= through
    return float(np.median(out[free])) if free.any() else 0.0
