"""The body as finite elements: lead fields by reciprocity, one elliptic solve an electrode."""

import hashlib
import os
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from cardiotwin._types import Millimetres
from cardiotwin._version import __version__
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels
from cardiotwin.ecg.conductivities import Conductivities
from cardiotwin.ecg.electrodes import Electrodes
from cardiotwin.ecg.idealised_torso import IdealisedTorso
from cardiotwin.ecg.leadfield import AbstractVolumeConductor, LeadField, check_conductivity
from cardiotwin.ecg.thorax import Thorax
from cardiotwin.ecg.torso import AbstractTorso, Torso, check_torso
from cardiotwin.ecg.torso_electrodes import check_electrodes, place_on_torso
from cardiotwin.ecg.torso_mesh import HEART, TISSUES, TorsoMesh, mesh_torso
from cardiotwin.ecg.volume_elements import COLUMNS, ConductorMesh, VolumeElements, gradient_operator
from cardiotwin.numerics.fem import p1_geometry
from cardiotwin.session import results_folder


class TorsoConductor(AbstractVolumeConductor):
    """A body of several tissues around the heart, solved with finite elements.

    The heart's mesh and that of the body need not match: the gradient of the potential of a unit
    current is interpolated onto the heart.

    Attributes:
        torso: the body.
        conductivities: of its tissues.
        fine: edge of the lattice of elements around the heart, mm.
        coarse: largest edge of that lattice, mm.
        electrode_radius: of the discs that the electrodes are, mm.
        inside: accept electrodes inside the body, for electrograms in and near the heart.
        keep: keep lead fields on disk and read them again where nothing changed.
        clearance: least distance of an electrode on the skin from the tissue, mm.
    """

    torso: AbstractTorso = eqx.field(default_factory=IdealisedTorso)
    conductivities: Conductivities = eqx.field(default_factory=Conductivities)
    fine: Millimetres = 4.0
    coarse: Millimetres = 10.0
    electrode_radius: Millimetres = 5.0
    inside: bool = False
    keep: bool = True
    clearance: Millimetres | None = None

    def __check_init__(self):
        if not 0 < self.fine <= self.coarse < np.inf:
            raise ValueError(
                f"TorsoConductor: fine is {self.fine} and coarse {self.coarse} mm; expected "
                "0 < fine <= coarse."
            )
        if not 0 <= self.electrode_radius <= 50.0:
            raise ValueError(
                f"TorsoConductor: electrode_radius is {self.electrode_radius} mm; expected 0 (a "
                "point) to 50 mm."
            )

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
        check_electrodes(torso, electrodes, inside=self.inside)

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
        key = self._hash(mesh, torso, sigma_i, electrodes)
        kept = _read(key) if self.keep else None
        if kept is not None:
            return LeadField(kept["field"], electrodes.names, str(kept["method"]))
        body, heart, sigma_i = self.elements(torso, mesh, sigma_i)
        field = element_lead_field(
            body, heart, sigma_i, electrodes, radius=self.electrode_radius, tissue=HEART
        )
        used = [TISSUES[k] for k in np.unique(body.tissue)]
        method = (
            f"finite elements of a torso ({', '.join(used)}; {len(body.points)} nodes), "
            "against the mean potential of the skin"
        )
        if self.keep:
            _write(key, field, method)
        return LeadField(field, electrodes.names, method)

    def elements(
        self, torso: Torso, mesh: Mesh | Voxels, sigma_i: Float[np.ndarray, "elements 3 3"]
    ) -> tuple[ConductorMesh, Mesh, Float[np.ndarray, "tetrahedra 3 3"]]:
        """The body as tetrahedra, the heart as tetrahedra, and the heart's conductivity on them.

        Args:
            torso: around the heart.
            mesh: the heart.
            sigma_i: intracellular conductivity [elements, 3, 3], mS/mm.
        """
        if isinstance(mesh, Voxels):
            sigma_i = np.repeat(sigma_i, TETRAHEDRA_PER_VOXEL, axis=0)
            mesh = mesh.tetrahedra()
        size = TorsoMesh(self.fine, self.coarse)
        return mesh_torso(torso, mesh, sigma_i, self.conductivities, size), mesh, sigma_i

    def _hash(self, *parts: Any) -> str:
        digest = hashlib.sha256(repr((__version__, jax.tree.structure(self))).encode())
        for leaf in jax.tree.leaves((self, [_arrays(part) for part in parts])):
            if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
                digest.update(repr((leaf.shape, str(leaf.dtype))).encode())
                digest.update(np.ascontiguousarray(leaf).tobytes())
            else:
                digest.update(repr(leaf).encode())
        return digest.hexdigest()


def element_lead_field(
    body: ConductorMesh,
    heart: Mesh,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    electrodes: Electrodes,
    *,
    radius: float = 5.0,
    tissue: int | None = None,
    tolerance: float = 1e-8,
) -> Float[np.ndarray, "electrodes nodes"]:
    """Lead field on a heart within a body of finite elements.

    Args:
        body: the conductor, the heart's bulk conductivity where the heart is.
        heart: its tetrahedra, which need not be those of the body.
        sigma_i: [elements, 3, 3], mS/mm.
        electrodes: those on the skin are spread over discs.
        radius: of the discs, mm.
        tissue: number of the heart in `body.tissue`.
        tolerance: of the elliptic solves.

    Returns:
        [electrodes, nodes], mV per mV, against the mean potential of the body's surface.
    """
    elements = VolumeElements(body)
    weights = elements.electrode_weights(electrodes.positions, radius)
    coupling = heart_coupling(body, heart, sigma_i, tissue)
    field = np.empty((len(electrodes), len(heart.points)))
    sink = elements.uniform_sink()[:, None]
    for start in range(0, len(electrodes), COLUMNS):
        part = slice(start, start + COLUMNS)
        z = elements.potentials(weights[part].toarray().T - sink, tolerance)
        field[part] = (coupling @ z).T
    return field - field.mean(axis=1, keepdims=True)


def heart_coupling(
    body: ConductorMesh,
    heart: Mesh,
    sigma_i: Float[np.ndarray, "elements 3 3"],
    tissue: int | None = None,
    *,
    smooth: bool = True,
) -> sp.csr_matrix:
    """The matrix [heart nodes, body nodes] of -integral of grad N_i . sigma_i grad Z.

    Its transpose turns a transmembrane voltage into the currents that it drives in the body.
    """
    gradients, volumes = p1_geometry(heart.points, heart.cells)
    flux = -np.einsum("e,eij,eaj->eai", volumes, sigma_i, gradients)  # [elements, 4, 3]
    count = len(heart.cells)
    rows = np.broadcast_to(heart.cells[:, :, None], flux.shape)
    columns = np.broadcast_to(3 * np.arange(count)[:, None, None] + np.arange(3), flux.shape)
    per_element = sp.csr_matrix(
        (flux.ravel(), (rows.ravel(), columns.ravel())), shape=(len(heart.points), 3 * count)
    )
    slopes = gradient_operator(body, heart.centroids(), tissue, smooth=smooth)
    return sp.csr_matrix(per_element @ slopes)


def _arrays(part: Any) -> Any:
    if isinstance(part, (Mesh, Voxels)):
        return [part.points, part.cells]
    if isinstance(part, Torso):
        surfaces = [part.skin, *(surface for _, surface in part.organs)]
        names = [name for name, _ in part.organs]
        return [[(s.points, s.triangles) for s in surfaces], names, part.frame, part.layers]
    return part.positions if isinstance(part, Electrodes) else part


def _read(key: str) -> dict[str, np.ndarray] | None:
    folder = results_folder()
    path = None if folder is None else folder / "lead-fields" / f"{key}.npz"
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path) as file:
            return {name: file[name] for name in ("field", "method")}
    except (OSError, ValueError, KeyError):  # damaged: computed and written anew
        return None


def _write(key: str, field: np.ndarray, method: str) -> None:
    folder = results_folder()
    if folder is None:
        return
    path = folder / "lead-fields" / f"{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{key}.{os.getpid()}.partial.npz")
    np.savez(temporary, field=field, method=np.array(method))
    os.replace(temporary, path)
