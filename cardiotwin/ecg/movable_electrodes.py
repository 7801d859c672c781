"""The lead field of the unbounded conductor as a function of where the electrodes are.

What `unbounded_lead_field` computes once, here with derivatives: of an ECG in the positions of
electrodes, and in the pose of the heart, which is that of the electrodes the other way round.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cardiotwin._types import type_array
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels, as_tetrahedra
from cardiotwin.numerics.fem import p1_geometry

from .leadfield import QUADRATURE, check_conductivity, mean_green_gradient


class UnboundedField(eqx.Module):
    """Potentials of electrodes anywhere in an unbounded homogeneous conductor, per node voltage.

    Attributes:
        samples: [4, elements, 3] points of the quadrature, mm.
        dipoles: [4, elements, 3] current dipole of every element per mV at each of its corners.
        cells: [4, elements] nodes.
        nodes: their number.
    """

    samples: Float[type_array, "4 elements 3"]
    dipoles: Float[type_array, "4 elements 3"]
    cells: Int[type_array, "4 elements"]
    nodes: int = eqx.field(static=True)

    def __init__(
        self,
        mesh: Mesh | Voxels,
        sigma_i: Float[np.ndarray, "elements 3 3"],
        *,
        sigma_medium: float = 0.2,
        surface_factor: float = 1.0,
    ):
        """Prepare the quadrature.

        Args:
            mesh: the heart.
            sigma_i: physical intracellular conductivity, mS/mm.
            sigma_medium: of the conductor, mS/mm.
            surface_factor: on every potential, see `UnboundedConductor`.

        Raises:
            ValueError: tensors that are no conductivities, or a medium that does not conduct.
        """
        if not (np.isfinite(sigma_medium) and sigma_medium > 0.0):
            raise ValueError(
                f"UnboundedField: sigma_medium is {sigma_medium} mS/mm; give a positive number."
            )
        sigma_i = np.asarray(sigma_i, np.float64)
        check_conductivity(mesh, sigma_i)
        if isinstance(mesh, Voxels):
            sigma_i = np.repeat(sigma_i, TETRAHEDRA_PER_VOXEL, axis=0)
        tetrahedra = as_tetrahedra(mesh)
        gradients, volumes = p1_geometry(tetrahedra.points, tetrahedra.cells)
        scale = -surface_factor / (4.0 * np.pi * sigma_medium)
        self.dipoles = jnp.asarray(scale * np.einsum("e,eij,eaj->aei", volumes, sigma_i, gradients))
        self.samples = jnp.asarray(
            np.einsum("qa,eai->qei", QUADRATURE, tetrahedra.points[tetrahedra.cells])
        )
        self.cells = jnp.asarray(np.ascontiguousarray(tetrahedra.cells.T), jnp.int32)
        self.nodes = len(tetrahedra.points)

    def __call__(
        self, positions: Float[Array | np.ndarray, "electrodes 3"]
    ) -> Float[Array, "electrodes nodes"]:
        """Lead field of electrodes, mV per mV; differentiable in their positions.

        Args:
            positions: [electrodes, 3] mm in the coordinates of the mesh, outside the heart: nearer
                than an edge length the quadrature is crude.
        """

        def row(position: Array) -> Array:
            slope = mean_green_gradient(self.samples, position)
            entries = jnp.einsum("aei,ei->ae", self.dipoles, slope)
            return jnp.zeros(self.nodes, entries.dtype).at[self.cells].add(entries)

        return jax.lax.map(row, jnp.asarray(positions, self.samples.dtype))


def seen_from_heart(
    positions: Float[Array | np.ndarray, "electrodes 3"],
    turn: Float[Array | np.ndarray, " 3"],
    shift: Float[Array | np.ndarray, " 3"],
    about: Float[Array | np.ndarray, " 3"],
) -> Float[Array, "electrodes 3"]:
    """Electrodes in the coordinates of a heart that is turned and shifted in a body at rest.

    Args:
        positions: [electrodes, 3] mm, in the body.
        turn: axis of the heart's rotation times its angle, radians.
        shift: of the heart, mm.
        about: point that the rotation leaves in place, such as the middle of the heart.
    """
    turn, about = jnp.asarray(turn), jnp.asarray(about)
    way = jnp.asarray(positions) - (about + jnp.asarray(shift))[None]
    x, y, z = -turn  # the other way round
    zero = jnp.zeros_like(x)
    generator = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    rotation = jax.scipy.linalg.expm(generator)
    return about[None] + jnp.einsum("ij,ej->ei", rotation, way)
