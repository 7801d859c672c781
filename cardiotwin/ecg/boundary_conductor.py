"""The body as boundary elements: lead fields of bodies of which only surfaces are known."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin._types import Millimetres
from cardiotwin.anatomy.closed_surface import ClosedSurface, Nearest
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels
from cardiotwin.ecg.boundary import boundary_inverse
from cardiotwin.ecg.conductivities import Conductivities
from cardiotwin.ecg.electrodes import Electrodes
from cardiotwin.ecg.idealised_torso import IdealisedTorso
from cardiotwin.ecg.leadfield import AbstractVolumeConductor, LeadField, check_conductivity
from cardiotwin.ecg.thorax import Thorax
from cardiotwin.ecg.torso import AbstractTorso, check_disjoint, check_torso
from cardiotwin.ecg.torso_electrodes import check_electrodes, place_on_torso
from cardiotwin.ecg.volume_elements import disc_points, surface_interpolation
from cardiotwin.numerics.fem import p1_geometry

_ELEMENTS_AT_ONCE = 4000


class BoundaryConductor(AbstractVolumeConductor):
    """A body of homogeneous compartments, solved on their surfaces only.

    The heart conducts as the trunk does, except for the blood in its cavities; lungs may stand
    anywhere but in the heart.

    Attributes:
        torso: the body.
        conductivities: of its compartments.
        electrode_radius: of the discs that the electrodes are, mm.
        organs: tissues whose surfaces count; the trunk fills the others.
        clearance: least distance of an electrode on the skin from the tissue, mm.
    """

    torso: AbstractTorso = eqx.field(default_factory=IdealisedTorso)
    conductivities: Conductivities = eqx.field(default_factory=Conductivities)
    electrode_radius: Millimetres = 5.0
    organs: tuple[str, ...] = ()
    clearance: Millimetres | None = None

    def __init__(
        self,
        torso: AbstractTorso | None = None,
        conductivities: Conductivities | None = None,
        electrode_radius: Millimetres = 5.0,
        organs: tuple[str, ...] = (),
        clearance: Millimetres | None = None,
    ):
        self.torso = IdealisedTorso() if torso is None else torso
        self.conductivities = Conductivities() if conductivities is None else conductivities
        self.electrode_radius, self.clearance = electrode_radius, clearance
        self.organs = tuple(organs)

    def place_electrodes(self, mesh: Mesh | Voxels, thorax: Thorax | None = None) -> Electrodes:
        """Return the nine electrodes of the twelve leads on this body's skin."""
        thorax = self.torso.thorax if thorax is None else thorax
        torso = self.torso.around(mesh)
        check_torso(torso, mesh)
        return place_on_torso(torso, thorax)

    def check(self, mesh: Mesh | Voxels, electrodes: Electrodes) -> None:
        """Raise ValueError where the body cannot hold the heart, or electrodes are off its skin."""
        super().check(mesh, electrodes)
        torso = self.torso.around(mesh)
        check_torso(torso, mesh)
        check_electrodes(torso, electrodes)

    def lead_field(
        self,
        mesh: Mesh | Voxels,
        sigma_i: Float[np.ndarray, "elements 3 3"],
        electrodes: Electrodes,
    ) -> LeadField:
        """Return the lead field against the mean potential of the skin."""
        sigma_i = np.asarray(sigma_i, np.float64)
        check_conductivity(mesh, sigma_i)
        self.check(mesh, electrodes)
        torso = self.torso.around(mesh)
        if isinstance(mesh, Voxels):
            sigma_i = np.repeat(sigma_i, TETRAHEDRA_PER_VOXEL, axis=0)
            mesh = mesh.tetrahedra()
        organs = [(name, surface) for name, surface in torso.organs if name in self.organs]
        check_disjoint({"skin": torso.skin, **{str(s.names[0]): s for _, s in organs}})
        centres = mesh.centroids()
        for name, surface in organs:
            held = int((Nearest(surface).depth(centres) > 0.0).sum())
            if held:
                raise ValueError(
                    f"BoundaryConductor: {held} elements of the heart lie in {name!r}; expected "
                    "the heart in the trunk. Leave that tissue out, or use TorsoConductor."
                )
        field = boundary_lead_field(
            [torso.skin, *(surface for _, surface in organs)],
            [self.conductivities.torso, *(getattr(self.conductivities, n) for n, _ in organs)],
            mesh,
            sigma_i,
            electrodes,
            radius=self.electrode_radius,
        )
        nodes = len(torso.skin.points) + sum(len(surface.points) for _, surface in organs)
        method = (
            f"boundary elements of a torso ({', '.join(['torso', *self.organs])}; {nodes} nodes), "
            "against the mean potential of the skin"
        )
        return LeadField(field, electrodes.names, method)


def boundary_lead_field(
    surfaces: list[ClosedSurface],
    sigma: list[float],
    heart: Mesh,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    electrodes: Electrodes,
    *,
    radius: float = 5.0,
) -> Float[np.ndarray, "electrodes nodes"]:
    """Lead field of electrodes on the outermost of some surfaces.

    Args:
        surfaces: the skin, and closed surfaces directly within it.
        sigma: conductivity within each, mS/mm; the first is that of the trunk, heart included.
        heart: tetrahedra within the trunk, outside the other surfaces.
        sigma_i: [elements, 3, 3], mS/mm.
        electrodes: on the skin.
        radius: of the discs that they are, mm.

    Returns:
        [electrodes, nodes], mV per mV, against the mean potential of the skin.
    """
    vectors = boundary_lead_vectors(
        surfaces, sigma, heart.centroids(), electrodes.positions, radius
    )
    gradients, volumes = p1_geometry(heart.points, heart.cells)
    flux = -np.einsum("e,eij,eaj->eai", volumes, sigma_i, gradients)
    field = np.empty((len(electrodes), len(heart.points)))
    for row, vector in zip(field, vectors, strict=True):
        entries = np.einsum("eai,ei->ea", flux, vector)
        row[:] = np.bincount(heart.cells.ravel(), entries.ravel(), minlength=len(row))
    return field - field.mean(axis=1, keepdims=True)


def boundary_lead_vectors(
    surfaces: list[ClosedSurface],
    sigma: list[float],
    places: Float[np.ndarray, "n 3"],
    electrodes: Float[np.ndarray, "m 3"],
    radius: float,
) -> Float[np.ndarray, "m n 3"]:
    """Potential of unit dipoles along the three axes at electrodes; arguments as above.

    Returns:
        [electrodes, places, 3], mV per uA mm, against the mean potential of the skin.
    """
    skin = surfaces[0]
    samples = disc_points(electrodes, skin.points[skin.triangles], radius)
    weights = surface_interpolation(samples, skin.points, skin.triangles).toarray()
    nodes = np.concatenate([surface.points for surface in surfaces])
    rows = np.pad(weights, ((0, 0), (0, len(nodes) - len(skin.points))))
    outside = [0.0] + [sigma[0]] * (len(surfaces) - 1)
    inverse = boundary_inverse(surfaces, sigma, outside, rows) / (4.0 * np.pi)
    middle = nodes.mean(axis=0)
    x = nodes - middle
    # sum over nodes of inverse (x - y) / |x - y|^3, as two products with 1 / |x - y|^3
    moments = (inverse[:, None, :] * x.T).reshape(-1, len(nodes))
    found = np.empty((len(electrodes), len(places), 3))
    for start in range(0, len(places), _ELEMENTS_AT_ONCE):
        y = places[start : start + _ELEMENTS_AT_ONCE] - middle
        square = (x**2).sum(axis=1)[:, None] - 2.0 * x @ y.T + (y**2).sum(axis=1)
        kernel = 1.0 / (square * np.sqrt(square))
        first = (moments @ kernel).reshape(len(electrodes), 3, len(y))
        found[:, start : start + len(y)] = first.transpose(0, 2, 1) - (
            (inverse @ kernel)[:, :, None] * y
        )
    return found
