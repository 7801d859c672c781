"""Which wall of a ventricle a point lies in, and where around the heart's long axis."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from cardiotwin.anatomy.coordinates import HeartAxes
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels

ENDOCARDIA = {"lv": "endo_lv", "rv": "endo_rv"}


def rotation(points: Float[np.ndarray, "n 3"], axes: HeartAxes) -> Float[np.ndarray, " n"]:
    """Angle about the long axis in degrees: 0 from left to right ventricle, positive to the front.

    Args:
        points: [n, 3] mm.
        axes: of the heart.
    """
    offset = points - axes.origin
    return np.degrees(np.arctan2(offset @ axes.third, offset @ axes.lv_to_rv))


def distance_to(
    mesh: Mesh | Voxels, nodes: Int[np.ndarray, " n"], surface: str
) -> Float[np.ndarray, " n"]:
    """Distance of nodes from the nodes of a surface [n], mm."""
    tree = KDTree(mesh.points[np.unique(mesh.surfaces[surface])])
    return np.asarray(tree.query(mesh.points[nodes])[0])


def septal(
    mesh: Mesh | Voxels, nodes: Int[np.ndarray, " n"], ventricle: str
) -> Bool[np.ndarray, " n"]:
    """Which nodes of a ventricle's endocardium line the septum [n].

    The septum is where the other ventricle is nearer than the epicardium.

    Args:
        mesh: with the surfaces "epi", "endo_lv" and "endo_rv".
        nodes: of the endocardium [n].
        ventricle: "lv" or "rv", to which the nodes belong.
    """
    other = ENDOCARDIA["rv" if ventricle == "lv" else "lv"]
    return distance_to(mesh, nodes, other) < distance_to(mesh, nodes, "epi")
