"""Potentials of the whole skin at instants of a beat: the heart's currents in the body."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.leadfield import check_conductivity
from cardiotwin.ecg.torso import Torso, check_torso
from cardiotwin.ecg.torso_conductor import TorsoConductor, heart_coupling
from cardiotwin.ecg.torso_mesh import HEART
from cardiotwin.ecg.volume_elements import COLUMNS, VolumeElements


class SkinPotentials(NamedTuple):
    """Potentials of a body's skin.

    Attributes:
        torso: the body; `torso.skin` holds the points and triangles.
        potentials: [times, points of the skin] mV, against the mean of the skin.
    """

    torso: Torso
    potentials: Float[np.ndarray, "times points"]


def skin_potentials(
    conductor: TorsoConductor,
    mesh: Mesh | Voxels,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    voltage: Float[np.ndarray, "times nodes"],
    *,
    tolerance: float = 1e-8,
) -> SkinPotentials:
    """Solve for the potential of the whole skin, one elliptic problem an instant.

    A lead field costs one problem an electrode and then gives every instant; this costs one
    problem an instant and gives every point, with the same elements: at an electrode's place both
    agree to the tolerance.

    Args:
        conductor: the body and its elements.
        mesh: the heart.
        sigma_i: intracellular conductivity [elements, 3, 3], mS/mm.
        voltage: [times, nodes] transmembrane, mV.
        tolerance: of the elliptic solves.

    Returns:
        The body and the potentials of the points of its skin.

    Raises:
        ValueError: the voltages do not fit the mesh, or the body cannot hold the heart.
    """
    voltage, sigma_i = np.asarray(voltage), np.asarray(sigma_i, np.float64)
    if voltage.ndim != 2 or voltage.shape[1] != len(mesh.points):
        raise ValueError(
            f"skin_potentials: got voltages of shape {voltage.shape} for {len(mesh.points)} nodes; "
            "expected [times, nodes]."
        )
    check_conductivity(mesh, sigma_i)
    torso = conductor.torso.around(mesh)
    check_torso(torso, mesh)
    body, heart, sigma_i = conductor.elements(torso, mesh, sigma_i)
    elements = VolumeElements(body)
    coupling = heart_coupling(body, heart, sigma_i, HEART)
    places = elements.surface_weights(torso.skin.points, conductor.electrode_radius)
    potentials = np.empty((len(voltage), len(torso.skin.points)))
    for start in range(0, len(voltage), COLUMNS):
        part = slice(start, start + COLUMNS)
        v = np.asarray(voltage[part], np.float64)
        # the mean drives no current: without it the sum cancels less
        currents = coupling.T @ (v - v.mean(axis=1, keepdims=True)).T
        padding = COLUMNS - currents.shape[1] if len(voltage) > COLUMNS else 0
        currents = np.pad(currents, ((0, 0), (0, padding)))  # one program for all batches
        found = elements.potentials(currents, tolerance)[:, : len(v)]
        potentials[part] = (places @ found).T
    return SkinPotentials(torso, potentials)
