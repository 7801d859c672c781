"""Lead fields: how the voltage of every node shows at every electrode.

A lead field L [electrodes, nodes] turns the transmembrane voltage into electrode potentials,
phi = L V. By reciprocity phi(r) = -integral over the heart of grad Z . sigma_i grad V, where Z is
the potential in the volume conductor of a unit current fed in at r (Potse 2018,
https://doi.org/10.3389/fphys.2018.00370). How Z is found is the volume conductor's business; every
conductor gives the same LeadField, so that nothing downstream knows which one was used.
"""

from abc import abstractmethod

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin._types import Millimetres, MillisiemensPerMillimetre, type_array
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels
from cardiotwin.ecg.clearance import check_clearance
from cardiotwin.ecg.electrodes import Electrodes
from cardiotwin.ecg.thorax import Thorax, place_electrodes
from cardiotwin.numerics.concrete import library
from cardiotwin.numerics.fem import p1_geometry

# Four-point rule on the tetrahedron, exact for quadratics (Keast, Comput. Methods Appl. Mech. Eng.
# 55:339-348, 1986)
_NEAR = (5.0 + 3.0 * np.sqrt(5.0)) / 20.0
_FAR = (5.0 - np.sqrt(5.0)) / 20.0
QUADRATURE = np.full((4, 4), _FAR) + (_NEAR - _FAR) * np.eye(4)  # barycentric, equal weights

ELEMENTS_AT_ONCE = 100_000


class LeadField(eqx.Module):
    """Electrode potentials per node voltage, and how they were found.

    Attributes:
        field: [electrodes, nodes], mV per mV. Every row sums to zero: a voltage that is the same
            everywhere shows nowhere.
        names: of the electrodes.
        method: the volume conductor in words, for reports.
    """

    field: Float[np.ndarray, "electrodes nodes"]
    names: tuple[str, ...] = eqx.field(static=True)
    method: str = eqx.field(static=True)

    def __check_init__(self):
        if self.field.ndim != 2 or len(self.field) != len(self.names):
            raise ValueError(
                f"LeadField: got a field of shape {self.field.shape} for {len(self.names)} "
                "electrodes; expected [electrodes, nodes]."
            )


class AbstractVolumeConductor(eqx.Module):
    """What surrounds the heart: it alone decides the lead field.

    Attributes:
        clearance: least distance of an electrode from the tissue in mm; None to allow any.
    """

    clearance: eqx.AbstractVar[Millimetres | None]

    @abstractmethod
    def lead_field(
        self,
        mesh: Mesh | Voxels,
        sigma_i: Float[np.ndarray, "elements 3 3"],
        electrodes: Electrodes,
    ) -> LeadField:
        """Return the lead field of `electrodes` for a heart of intracellular `sigma_i` (mS/mm)."""

    def place_electrodes(self, mesh: Mesh | Voxels, thorax: Thorax | None = None) -> Electrodes:
        """Return the nine electrodes of the twelve leads, placed where none were recorded."""
        return place_electrodes(mesh, thorax=thorax)

    def check(self, mesh: Mesh | Voxels, electrodes: Electrodes) -> None:
        """Raise ValueError, before any long work, where electrodes cannot be where they are."""
        if self.clearance is not None:
            check_clearance(mesh, electrodes, self.clearance)


class UnboundedConductor(AbstractVolumeConductor):
    """A homogeneous isotropic conductor without boundary that fills all space, heart included.

    The shape of the beat is right; the amplitude is not that of a bounded torso, whose insulated
    surface makes it larger: `surface_factor` says by how much.

    Attributes:
        sigma: conductivity in mS/mm; 0.2 is usual for the mean torso.
        clearance: least distance of an electrode from the tissue in mm; None to allow any.
        surface_factor: factor on every potential; 1 is the unbounded medium itself, 3 what the
            surface of an insulated sphere shows of a dipole at its centre.
    """

    sigma: MillisiemensPerMillimetre = 0.2
    clearance: Millimetres | None = 5.0
    surface_factor: float = 1.0

    def __check_init__(self):
        if not (np.isfinite(self.surface_factor) and self.surface_factor > 0):
            raise ValueError(
                f"UnboundedConductor: surface_factor is {self.surface_factor}; give a positive "
                "number, 1 for the unbounded medium."
            )

    def lead_field(
        self,
        mesh: Mesh | Voxels,
        sigma_i: Float[np.ndarray, "elements 3 3"],
        electrodes: Electrodes,
    ) -> LeadField:
        """Return the lead field by quadrature of the Green's function."""
        field = unbounded_lead_field(
            mesh, sigma_i, electrodes, sigma_medium=self.sigma, clearance=self.clearance
        )
        method = f"unbounded homogeneous conductor, {self.sigma:g} mS/mm"
        if self.surface_factor != 1.0:
            method += f", potentials times {self.surface_factor:g} for the insulated surface"
        return LeadField(self.surface_factor * field, electrodes.names, method)


def unbounded_lead_field(
    mesh: Mesh | Voxels,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    electrodes: Electrodes,
    *,
    sigma_medium: float = 0.2,
    clearance: float | None = 5.0,
) -> Float[np.ndarray, "electrodes nodes"]:
    """Lead field in an unbounded homogeneous conductor.

    With Z(y) = 1 / (4 pi sigma_medium |r - y|) the entry of electrode r and node j is
    -integral of grad Z . sigma_i grad N_j. The gradient of Z is evaluated exactly at the four
    points of a quadrature that is exact for quadratics, not interpolated from nodal values of Z:
    on coarse meshes that is an order more accurate. A wave that runs towards an electrode gives a
    positive potential.

    Args:
        mesh: the heart.
        sigma_i: the physical intracellular conductivity [elements, 3, 3] in mS/mm (about 0.17 to
            0.3 along the fibres), not one that was scaled to reach a conduction velocity: the
            amplitude is proportional to it.
        electrodes: in the coordinates of the mesh.
        sigma_medium: conductivity of the medium in mS/mm.
        clearance: least distance of an electrode from the tissue in mm. None skips the check, for
            electrodes in a cavity; within one edge length of the tissue the quadrature is crude.

    Returns:
        Float64 [electrodes, nodes], mV per mV, against a reference at infinity.

    Raises:
        ValueError: for a tensor that is not symmetric positive semi-definite, a medium that does
            not conduct, and an electrode in or too near the heart.
    """
    sigma_i = np.asarray(sigma_i, np.float64)
    if not (np.isfinite(sigma_medium) and sigma_medium > 0.0):
        raise ValueError(
            f"sigma_medium is {sigma_medium} mS/mm; expected a positive number such as 0.2."
        )
    check_conductivity(mesh, sigma_i)
    if clearance is not None:
        check_clearance(mesh, electrodes, clearance)
    if isinstance(mesh, Voxels):
        sigma_i = np.repeat(sigma_i, TETRAHEDRA_PER_VOXEL, axis=0)
        mesh = mesh.tetrahedra()
    field = np.zeros((len(electrodes), len(mesh.points)))
    for start in range(0, len(mesh.cells), ELEMENTS_AT_ONCE):
        part = slice(start, start + ELEMENTS_AT_ONCE)
        cells = mesh.cells[part]
        gradients, volumes = p1_geometry(mesh.points, cells)
        # current dipole of an element per mV at each of its nodes, sign included: -V sigma_i grad N
        dipoles = np.einsum("e,eij,eaj->eai", -volumes, sigma_i[part], gradients)
        samples = np.einsum("qa,eai->qei", QUADRATURE, mesh.points[cells])
        for row, electrode in zip(field, electrodes.positions, strict=True):
            slope = mean_green_gradient(samples, electrode) / (4.0 * np.pi * sigma_medium)
            entries = np.einsum("eai,ei->ea", dipoles, slope)
            row += np.bincount(cells.ravel(), entries.ravel(), minlength=len(row))
    return field


def mean_green_gradient(
    samples: Float[type_array, "4 elements 3"], electrode: Float[type_array, " 3"]
) -> Float[type_array, "elements 3"]:
    """Mean over the quadrature points of the gradient of 1 / |electrode - y|, 1/mm2.

    Args:
        samples: [4, elements, 3] points y, mm.
        electrode: [3] mm.
    """
    xp = library(samples, electrode)
    towards = electrode[None, None] - samples
    distance_2 = xp.einsum("qei,qei->qe", towards, towards)
    return xp.einsum("qei,qe->ei", towards, distance_2**-1.5) / len(samples)


def check_conductivity(mesh: Mesh | Voxels, sigma_i: np.ndarray) -> None:
    """Raise ValueError unless `sigma_i` [elements, 3, 3] holds conductivity tensors of a mesh."""
    expected = (len(mesh.cells), 3, 3)
    if sigma_i.shape != expected:
        raise ValueError(
            f"sigma_i has shape {sigma_i.shape}; expected one tensor an element, {expected}, in "
            "mS/mm."
        )
    if not np.isfinite(sigma_i).all():
        bad = int(np.flatnonzero(~np.isfinite(sigma_i).all(axis=(1, 2)))[0])
        raise ValueError(f"sigma_i is not finite, first in element {bad}. Give finite tensors.")
    scale = np.abs(sigma_i).max(axis=(1, 2))
    skew = np.abs(sigma_i - sigma_i.transpose(0, 2, 1)).max(axis=(1, 2))
    lowest = np.linalg.eigvalsh(sigma_i)[:, 0]
    tolerance = 1e-6 * scale
    if (bad := (skew > tolerance) | (lowest < -tolerance)).any():
        worst = int(np.argmax(np.maximum(skew, -lowest) * bad))
        raise ValueError(
            f"sigma_i of {bad.sum()} elements is not symmetric positive semi-definite; the worst "
            f"is element {worst} with {sigma_i[worst].tolist()}. Build it from principal "
            "conductivities that are positive and an orthonormal fibre frame."
        )
