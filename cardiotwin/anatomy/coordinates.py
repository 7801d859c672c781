"""Where a point lies in the ventricles: Laplace coordinates on the nodes, and the heart's axes."""

from typing import NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from cardiotwin.anatomy.cavity import is_left_ventricle, named_surface, opening_centre
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import areas, component_labels
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.numerics.elliptic import solve_laplace
from cardiotwin.numerics.fem import p1_geometry, stiffness_matrix

# Radius of the patch of epicardium that counts as the apex, over the length of the left ventricle.
_APEX_RADIUS = 0.05
# Endocardium whose distance from the opening exceeds this share of the largest gives its direction.
_APEX_CAP = 0.97
# Share of the area called base below which a separate patch of it is ignored.
_SMALLEST_PATCH = 0.01
_LEVELS = 200


class VentricularFields(eqx.Module):
    """Solutions of Laplace's equation that say where a node lies, each [nodes], from 0 to 1.

    Attributes:
        phi_epi: 1 on the epicardium, 0 on both endocardia.
        phi_lv: 1 on the left endocardium, 0 on the right one and the epicardium.
        phi_rv: 1 on the right endocardium, 0 on the left one and the epicardium. The three add up
            to 1.
        transmural: 1 - max(phi_lv, phi_rv): 0 on both endocardia, 1 on the epicardium; in the
            septum it rises from 0 to about 0.5 halfway and falls again, so that both its sides
            count as endocardium and none of it as epicardium.
        apicobasal: 0 at the apex, 1 on the base, equal steps for equal mean distance: the Laplace
            solution between the apex and the base, its levels renumbered.
        interventricular: 1 on the left endocardium, 0 on the right one, no condition elsewhere:
            1 in the left free wall, 0 in the right one, falling through the septum.

    Of a left ventricle alone `phi_rv` is 0 and `interventricular` 1 throughout.
    """

    phi_epi: Float[np.ndarray, " nodes"]
    phi_lv: Float[np.ndarray, " nodes"]
    phi_rv: Float[np.ndarray, " nodes"]
    transmural: Float[np.ndarray, " nodes"]
    apicobasal: Float[np.ndarray, " nodes"]
    interventricular: Float[np.ndarray, " nodes"]


class HeartAxes(NamedTuple):
    """A right-handed frame of the heart.

    Attributes:
        origin: [3] mm, halfway between the apex and the opening of the left cavity.
        apex_to_base: [3] unit vector along the left ventricle, from its apex to its opening.
        lv_to_rv: [3] unit vector across it, from the left to the right ventricle.
        third: [3] apex_to_base x lv_to_rv, towards the anterior wall (in a heart that stands on
            its apex and is seen from the front, towards the viewer).
    """

    origin: np.ndarray
    apex_to_base: np.ndarray
    lv_to_rv: np.ndarray
    third: np.ndarray


def heart_axes(mesh: Mesh | Voxels) -> HeartAxes:
    """The heart's own axes from its labelled endocardia.

    The long axis runs from the part of the left endocardium farthest from the centre of its
    opening to that centre.

    Args:
        mesh: with the surfaces "endo_lv" and "endo_rv", open at the base; of a left ventricle alone
            with the region "septum", whose centre stands for the right side.

    Raises:
        ValueError: a surface is missing or closed, the ventricles lie one above the other, or a
            left ventricle alone does not say where its septum is.
    """
    opening = opening_centre(mesh, "endo_lv")
    apex = farthest_from_opening(mesh, "endo_lv", opening)
    up = opening - apex
    up /= np.linalg.norm(up)
    right = _septum_centre(mesh) if is_left_ventricle(mesh) else _area_centre(mesh, "endo_rv")
    across = right - _area_centre(mesh, "endo_lv")
    side = across - up * (up @ across)
    if np.linalg.norm(side) < 0.1 * np.linalg.norm(across):
        raise ValueError(
            "the right ventricle lies on the long axis of the left one: check that the surfaces "
            "'endo_lv' and 'endo_rv' are not exchanged or mixed"
        )
    side /= np.linalg.norm(side)
    return HeartAxes(0.5 * (opening + apex), up, side, np.cross(up, side))


def ventricular_fields(mesh: Mesh) -> VentricularFields:
    """Solve the Laplace problems of a biventricular mesh.

    Args:
        mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base"; a left ventricle alone has
            no "endo_rv".

    Raises:
        ValueError: a surface is missing or has no opening.
        RuntimeError: a solve did not converge.
    """
    stiffness = stiffness_matrix(mesh.points, mesh.cells)
    alone = is_left_ventricle(mesh)
    names = ("epi", "endo_lv") if alone else ("epi", "endo_lv", "endo_rv")
    nodes = {k: np.unique(named_surface(mesh, k)) for k in names}
    base = base_nodes(mesh)
    apex = apex_nodes(mesh, nodes["epi"])
    epi, lv, *rest = solve_shares(stiffness, [nodes[k] for k in names])
    rv, interventricular = np.zeros_like(epi), np.ones_like(epi)
    if not alone:
        rv = rest[0]
        interventricular, _ = solve_shares(stiffness, [nodes["endo_lv"], nodes["endo_rv"]])
    _, height = solve_shares(stiffness, [apex, np.setdiff1d(base, apex)])
    return VentricularFields(
        phi_epi=epi,
        phi_lv=lv,
        phi_rv=rv,
        transmural=1.0 - np.maximum(lv, rv),
        apicobasal=_equal_steps(mesh, height),
        interventricular=interventricular,
    )


def solve_shares(
    stiffness: sp.csr_matrix, sets: list[Int[np.ndarray, " fixed"]]
) -> Float[np.ndarray, "sets nodes"]:
    """One field for each set of nodes, 1 on it and 0 on the others; together they are 1.

    A node of several sets (the rim of a valve, say) is shared between them evenly.
    """
    fixed = np.unique(np.concatenate(sets))
    member = np.stack([np.isin(fixed, nodes) for nodes in sets], axis=1).astype(np.float64)
    shares = member / member.sum(axis=1, keepdims=True)
    solved = np.clip(solve_laplace(stiffness, fixed, shares[:, :-1]), 0.0, 1.0)
    rest = np.clip(1.0 - solved.sum(axis=1, keepdims=True), 0.0, 1.0)
    return np.concatenate([solved, rest], axis=1).T


def farthest_from_opening(
    mesh: Mesh | Voxels, surface: str, opening: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """The point of an endocardium farthest from its opening, in the mean direction there, mm."""
    offset = mesh.points[np.unique(mesh.surfaces[surface])] - opening
    distance = np.linalg.norm(offset, axis=1)
    direction = offset[distance >= _APEX_CAP * distance.max()].mean(axis=0)
    return opening + distance.max() * direction / np.linalg.norm(direction)


def apex_nodes(mesh: Mesh, epicardium: Int[np.ndarray, " n"]) -> Int[np.ndarray, " apex"]:
    """Epicardial nodes around the point where the long axis leaves the left ventricle.

    Args:
        mesh: with the surface "endo_lv".
        epicardium: nodes of its surface "epi".
    """
    opening = opening_centre(mesh, "endo_lv")
    inner = farthest_from_opening(mesh, "endo_lv", opening)
    length = np.linalg.norm(opening - inner)
    down = (inner - opening) / length
    offset = mesh.points[epicardium] - inner
    along = offset @ down
    off_axis = np.linalg.norm(offset - along[:, None] * down, axis=1)
    outer = epicardium[np.argmin(np.where(along > 0.0, off_axis, np.inf))]
    near = np.linalg.norm(mesh.points[epicardium] - mesh.points[outer], axis=1)
    return epicardium[near <= max(_APEX_RADIUS * length, near.min())]


def base_nodes(mesh: Mesh) -> Int[np.ndarray, " n"]:
    """Nodes of the base, without patches too small to be a part of it (labelling leaves some)."""
    faces = named_surface(mesh, "base")
    label = component_labels(faces, len(mesh.points))[faces[:, 0]]
    share = np.bincount(label, areas(mesh.points, faces))
    return np.unique(faces[share[label] >= _SMALLEST_PATCH * share.sum()])


def _area_centre(mesh: Mesh | Voxels, surface: str) -> Float[np.ndarray, "3"]:
    faces = named_surface(mesh, surface)
    centres = mesh.points[faces].mean(axis=1)
    return np.average(centres, axis=0, weights=areas(mesh.points, faces))


def _septum_centre(mesh: Mesh | Voxels) -> Float[np.ndarray, "3"]:
    """Centre of the region "septum" of a left ventricle alone."""
    label = {name: label for label, name in mesh.region_names}.get("septum")
    if label is None:
        raise ValueError(
            "this is a left ventricle alone, and where its septum is, and so its front, back and "
            "right, is not said; fibres, layers and fast endocardium do without, but electrodes, "
            "sites around the ventricle and a Purkinje network do not. Give its septum as a region "
            "'septum', or leave these out (leads=null, or electrodes from a file; stimulus=focal)."
        )
    own = mesh.cells[mesh.regions == label]
    return mesh.points[np.unique(own)].mean(axis=0)


def _equal_steps(mesh: Mesh, psi: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
    """Renumber the levels of a field from 0 to 1 so that equal steps lie equally far apart.

    A step d psi spans the distance d psi / |grad psi|; its mean over the elements of a level is
    summed from the apex up. The directions of the gradients stay as they are.
    """
    gradients, volumes = p1_geometry(mesh.points, mesh.cells)
    values = psi[mesh.cells]
    slope = np.linalg.norm(np.einsum("eai,ea->ei", gradients, values), axis=1)
    level = np.minimum((values.mean(axis=1) * _LEVELS).astype(int), _LEVELS - 1)
    weight = np.bincount(level, volumes, _LEVELS)
    mean_slope = np.bincount(level, volumes * slope, _LEVELS)
    filled = mean_slope > 0.0  # a level may hold nothing, or elements that lie in the base alone
    centres = (np.arange(_LEVELS) + 0.5) / _LEVELS
    spacing = np.interp(centres, centres[filled], weight[filled] / mean_slope[filled])
    height = np.concatenate([[0.0], np.cumsum(spacing)])
    return np.interp(psi, np.linspace(0.0, 1.0, _LEVELS + 1), height / height[-1])
