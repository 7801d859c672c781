"""Small pieces of tissue for tests of propagation, and a membrane whose equation is solved exactly.

With sigma_i = sigma_e = 2 D and chi C_m = 1 uF/mm3 the diffusivity is D itself.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.spatial import Delaunay

from cardiotwin._types import param
from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import AbstractStimulus, NodalStimulus, Pulses


class SourceState(NamedTuple):
    """The rate at which the voltage rises, mV/ms."""

    w: Any


class Source(AbstractIonicModel):
    """dV/dt = w, dw/dt = -k w: linear, and passive (no current at all) where w starts at 0.

    One step is exact in w and of second order in V, so that what a scheme loses shows.
    """

    State: ClassVar[type[Any]] = SourceState
    gates: ClassVar[tuple[str, ...]] = ("w",)
    activation_threshold: ClassVar[float] = 0.5
    repolarisation_threshold: ClassVar[float] = 0.2

    v0: Any = param(0.0, "mV", meaning="initial voltage")
    w0: Any = param(0.0, "mV/ms", meaning="initial source")
    k: Any = param(0.5, "1/ms", meaning="decay of the source")

    def initial(self):
        return self.v0, SourceState(w=self.w0)

    def __call__(self, v, state):
        return -state.w, SourceState(w=-self.k * state.w)


class SmoothStimulus(AbstractStimulus):
    """A Gaussian of x: unlike a box it does not change with the mesh."""

    amplitude: float = 50.0
    width: float = 0.7
    duration: float = 2.0

    def pulses(self, points):
        n = len(points)
        amplitude = self.amplitude * np.exp(-((points[:, 0] / self.width) ** 2))
        return (
            Pulses(amplitude, np.zeros(n), np.asarray(self.duration), np.asarray(1e6), np.ones(())),
        )


NEVER = NodalStimulus([0], onset=1e6)  # after every run


def uniform_tissue(mesh: Mesh, diffusivity=(0.1, 0.1, 0.1)) -> Tissue:
    """Fibres along x and the same three diffusivities (mm2/ms) everywhere."""
    sigma = np.tile(2.0 * np.asarray(diffusivity, float), (len(mesh.cells), 1))
    return Tissue(straight_fibres(mesh), sigma, sigma, chi=1.0, c_m=1.0)


def straight_fibres(mesh: Mesh) -> Fibres:
    """The fibres of a slab, or fibres along x."""
    if "fibre" in mesh.cell_data:
        return fibres_from_mesh(mesh)
    axes = np.tile(np.eye(3), (len(mesh.cells), 1, 1))
    return Fibres(axes[:, 0], axes[:, 1], axes[:, 2])


def passive(mesh: Mesh, v0, diffusivity=(0.1, 0.1, 0.1), **parameters) -> Monodomain:
    """The heat equation (with a source where `w0` is given) from the voltages `v0`."""
    cell = Source(v0=np.asarray(v0), **parameters)
    return Monodomain(mesh, uniform_tissue(mesh, diffusivity), cell, NEVER)


def random_mesh(nodes: int, seed: int) -> Mesh:
    """Delaunay tetrahedra of random points in a box; slivers are left out."""
    points = np.random.default_rng(seed).uniform(0.0, 5.0, (nodes, 3))
    cells = Delaunay(points).simplices
    corners = points[cells]
    volume = np.linalg.det(corners[:, 1:] - corners[:, :1]) / 6.0
    cells[volume < 0] = cells[volume < 0][:, [0, 2, 1, 3]]
    longest = np.linalg.norm(corners[:, :, None] - corners[:, None], axis=-1).max(axis=(1, 2))
    return Mesh.repaired(points, cells[np.abs(volume) > 1e-3 * longest**3], largest_component=True)
