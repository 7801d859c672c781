"""A heart's mesh made anew with edges of another length, shorter or longer."""

import numpy as np
from scipy.spatial import KDTree

from cardiotwin._types import Millimetres
from cardiotwin.anatomy.closed_surface import ClosedSurface, mesh_of_surface
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.topology import match_faces

_DIRECTIONS = ("fibre", "sheet")


def remeshed(mesh: Mesh, edge_length: Millimetres) -> Mesh:
    """Fill the boundary of a heart with new tetrahedra, by isosurface stuffing.

    Boundary faces take the name of the nearest face that has a standard one; regions and fields of
    the elements those of the nearest element. Directions of fibres and fields of the nodes are left
    out, since neither is a number that a neighbour may lend: build fibres anew.

    Args:
        mesh: of both ventricles, with the surfaces "epi", "endo_lv", "endo_rv" and "base".
        edge_length: mean edge, mm.

    Raises:
        ValueError: a surface is missing, or the edge is not positive or too long for the walls.
    """
    missing = [name for name in STANDARD_SURFACES if name not in mesh.surfaces]
    if missing:
        raise ValueError(
            f"remeshing needs the surfaces {', '.join(STANDARD_SURFACES)}, and "
            f"{', '.join(missing)} are missing: name them, or let them be found by shape"
        )
    made = mesh_of_surface(_boundary(mesh), edge_length)
    nearest = KDTree(mesh.centroids()).query(made.centroids(), workers=-1)[1]
    kept = {k: values for k, values in mesh.cell_data.items() if k not in _DIRECTIONS}
    return made.replaced(
        regions=mesh.regions[nearest],
        region_names=mesh.region_names,
        cell_data={name: values[nearest] for name, values in kept.items()},
    )


def _boundary(mesh: Mesh) -> ClosedSurface:
    """The boundary with the standard name of each face, or of the nearest that has one."""
    faces = mesh.boundary_faces()
    names = np.full(len(faces), "", dtype="U8")
    for name in STANDARD_SURFACES:
        names[match_faces(mesh.surfaces[name], faces)] = name
    bare = names == ""
    if bare.any():
        centres = mesh.points[faces].mean(axis=1)
        names[bare] = names[~bare][KDTree(centres[~bare]).query(centres[bare])[1]]
    return ClosedSurface(mesh.points, faces, names)
