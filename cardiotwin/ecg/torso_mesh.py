"""Tetrahedra of a whole body, fine around the heart, with the conductivity of every element."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from cardiotwin.anatomy.closed_surface import ClosedSurface, Nearest
from cardiotwin.anatomy.graded import graded_tetrahedra
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.sampled_depth import SampledDepth
from cardiotwin.ecg.conductivities import Conductivities
from cardiotwin.ecg.torso import Torso
from cardiotwin.ecg.volume_elements import ConductorMesh, locate

TISSUES = ("torso", "fat", "muscle", "lungs", "bone", "blood", "heart")
HEART = TISSUES.index("heart")
_AROUND_HEART = 4.0  # mm of fine elements beyond the heart
_WITHIN = -1e-9  # least barycentric coordinate of a point in a tetrahedron


class TorsoMesh(NamedTuple):
    """Size of the elements.

    Attributes:
        fine: edge of the lattice's cubes around the heart, mm.
        coarse: largest edge of the cubes elsewhere, mm.
    """

    fine: float = 4.0
    coarse: float = 10.0


def mesh_torso(
    torso: Torso,
    heart: Mesh,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    conductivities: Conductivities,
    size: TorsoMesh,
) -> ConductorMesh:
    """Fill a body with tetrahedra; its skin is met, tissues are told by the elements' centroids.

    Args:
        torso: the body, in the coordinates of the heart.
        heart: its tetrahedra.
        sigma_i: intracellular conductivity of the heart [elements, 3, 3], mS/mm.
        conductivities: of all tissues.
        size: of the elements.
    """
    turned = torso.skin._replace(points=torso.body(torso.skin.points))
    depth = SampledDepth(turned, size.coarse / 2.0)
    inside = torso.body(heart.points)
    margin = _AROUND_HEART
    focus = np.stack([inside.min(axis=0) - margin, inside.max(axis=0) + margin])
    bounds = np.stack([turned.points.min(axis=0), turned.points.max(axis=0)])
    points, cells = graded_tetrahedra(depth, bounds, focus, size.fine, size.coarse)
    points = torso.mesh(points)
    centres = points[cells].mean(axis=1)
    tissue, sigma = tissues_at(torso, heart, sigma_i, conductivities, centres, size.coarse / 2.0)
    return ConductorMesh(points, cells, sigma, tissue)


def tissues_at(
    torso: Torso,
    heart: Mesh,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    conductivities: Conductivities,
    places: Float[np.ndarray, "n 3"],
    spacing: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Number in `TISSUES` [n] and conductivity [n, 3, 3] at points of the body.

    With a `spacing` in mm, depths beneath large surfaces are sampled at it.
    """
    tissue = np.zeros(len(places), np.int8)
    depth = None
    beneath = 0.0
    for name, thickness in torso.layers:
        depth = _depth(torso.skin, spacing)(places) if depth is None else depth
        coat = (depth >= beneath) & (depth < beneath + thickness)
        tissue[coat] = TISSUES.index(name)
        beneath += thickness
    for name, surface in torso.organs:
        # cavities are small and their trabeculae fine
        tissue[_within(surface, places, None if name == "blood" else spacing)] = TISSUES.index(name)
    sigma = np.array([getattr(conductivities, name) for name in TISSUES[:HEART]] + [0.0])
    tensors = sigma[tissue][:, None, None] * np.eye(3)
    box = (places > heart.points.min(axis=0)) & (places < heart.points.max(axis=0))
    near = np.flatnonzero(box.all(axis=1))
    element, _, least = locate(places[near], heart.points, heart.cells)
    held = least >= _WITHIN
    tissue[near[held]] = HEART
    bulk = conductivities.heart(np.asarray(sigma_i, np.float64))
    tensors[near[held]] = bulk[element[held]]
    return tissue, tensors


def _depth(surface: ClosedSurface, spacing: float | None) -> Callable[[np.ndarray], np.ndarray]:
    return Nearest(surface).depth if spacing is None else SampledDepth(surface, spacing)


def _within(
    surface: ClosedSurface, places: np.ndarray, spacing: float | None
) -> Bool[np.ndarray, " n"]:
    low, high = surface.points.min(axis=0), surface.points.max(axis=0)
    found = ((places > low) & (places < high)).all(axis=1)
    found[found] = _depth(surface, spacing)(places[found]) > 0.0
    return found
