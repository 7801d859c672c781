"""The monodomain problem, and the discrete system that the time loop runs on."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.numerics.concrete import library, of_jax
from cardiotwin.numerics.rows import AbstractPattern, edge_sums, node_sums
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import AbstractStimulus, Pulses, reorder

from . import irregularity
from .correction import Correction, assemble_correction
from .elements import Tetrahedra, elements_of, pattern_of


class System(eqx.Module):
    """M dv/dt = L v + M (stimulus - I_ion / C_m), in the node order of `pattern`.

    L is minus the stiffness matrix of the diffusion tensor; both L and the off-diagonal of the
    consistent mass are stored by edge.
    """

    pattern: AbstractPattern
    points: Float[type_array, "nodes 3"]  # mm, in the order of the rows
    mass: Float[type_array, " nodes"]  # lumped, mm3
    mass_edges: Float[type_array, " edges"]  # off-diagonal of the consistent mass, mm3
    diffusion_edges: Float[type_array, " edges"]  # off-diagonal of L, mm3/ms
    cell: AbstractIonicModel
    pulses: tuple[Pulses, ...]
    correction: Correction | None = None

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.pattern.nodes

    def to_rows(self, values: Any, dtype: Any) -> Array:
        """A scalar, or a per-node array in the order of the mesh, as [nodes] in row order."""
        values = jnp.asarray(values, dtype)
        if values.ndim == 0:
            return jnp.full((self.nodes,), values)
        return values[self.pattern.order]

    def to_mesh(self, values: Array) -> Array:
        """Per-node values from the order of the rows to the order of the mesh."""
        return values[self.pattern.rank]


class AbstractProblem(eqx.Module):
    """Something that `solve` can step."""

    def discretise(self, *, corrected: bool = False) -> System:
        """Assemble the discrete system, with what `CorrectedDiffusion` needs if `corrected`."""
        raise NotImplementedError


class Monodomain(AbstractProblem):
    """chi (C_m dV/dt + I_ion) = div(sigma_m grad V) + stimulus, no flux through the surface.

    Args:
        mesh: tetrahedra or voxels, in mm.
        tissue: fibres and conductivities, one entry an element.
        cell: the ionic model; its parameters are scalars or one value a node.
        stimulus: where and when the tissue is excited.
    """

    mesh: Mesh | Voxels
    tissue: Tissue
    cell: AbstractIonicModel
    stimulus: AbstractStimulus

    def __check_init__(self):
        if len(self.tissue.fibres.fibre) != len(self.mesh.cells):
            raise ValueError(
                f"Monodomain: the tissue has {len(self.tissue.fibres.fibre)} elements and the mesh "
                f"{len(self.mesh.cells)}. Build the fibres on this mesh."
            )
        for name, *_ in self.cell.parameters():
            value = getattr(self.cell, name)
            if np.ndim(value) and np.shape(value) != (len(self.mesh.points),):
                raise ValueError(
                    f"Monodomain: the ionic parameter {name} has shape {np.shape(value)}; give a "
                    f"scalar or one value for each of the {len(self.mesh.points)} nodes."
                )

    def discretise(self, *, corrected: bool = False) -> System:
        """Assemble the matrices and renumber the nodes for locality.

        The coordinates of the nodes, the tissue, the cell and the stimulus may be arrays of JAX,
        traced ones too; the elements of the mesh are concrete.
        """
        mesh = self.mesh
        pattern = pattern_of(mesh)
        tensor = self.tissue.diffusion()
        # memory for the matrices of all elements at once would be ten times that of the system
        traced = of_jax(tensor) or of_jax(mesh.points)
        blocks = [slice(None)] if traced else _blocks(len(mesh.cells))
        mass, mass_edges, diffusion_edges = _summed(
            blocks, lambda block: self._matrices(pattern, tensor, block)
        )
        correction = None
        if corrected:
            correction = self._correction(pattern, tensor, diffusion_edges, blocks)
        return System(
            pattern=pattern,
            points=mesh.points[pattern.order],
            mass=mass,
            mass_edges=mass_edges,
            diffusion_edges=diffusion_edges,
            cell=jax.tree.map(lambda p: p[pattern.order] if np.ndim(p) else p, self.cell),
            pulses=reorder(self.stimulus.pulses(mesh.points), pattern.order, float),
            correction=correction,
        )

    def _matrices(self, pattern: AbstractPattern, tensor: Any, block: slice):
        """What the elements of a block add to mass, to its edges, and to those of L."""
        cells = self.mesh.cells[block]
        elements = elements_of(self.mesh, self.tissue, block)
        volumes, corners = elements.volumes, cells.shape[1]
        lumped = library(volumes).repeat(volumes[:, None] / corners, corners, axis=1)
        return (
            node_sums(pattern, cells, lumped),
            edge_sums(pattern, volumes[:, None] * elements.mass_shares()[None], block),
            edge_sums(pattern, elements.stiffness(tensor[block]), block),
        )

    def _correction(
        self, pattern: AbstractPattern, tensor: Any, edges: Any, blocks: list[slice]
    ) -> Correction:
        """The correction, with the share that suits the mesh."""
        mesh, tissue, rate = self.mesh, self.tissue, self.cell.upstroke_rate

        def errors(block):
            elements, cells = elements_of(mesh, tissue, block), mesh.cells[block]
            assert isinstance(elements, Tetrahedra)
            return irregularity.spent(elements, tensor[block], tissue, pattern, cells, block)

        def assembled(block):
            elements = elements_of(mesh, tissue, block)
            return assemble_correction(elements, tissue, pattern, rate, block, excess)

        if isinstance(mesh, Voxels):  # a lattice
            excess = irregularity.LATTICE
        else:
            excess = irregularity.excess(_summed(blocks, errors), pattern, edges)
        return _summed(blocks, assembled)


def _summed(blocks: list[slice], work: Callable[[slice], Any]) -> Any:
    """The sum of what `work` finds on each block of elements."""
    total = work(blocks[0])
    for block in blocks[1:]:
        total = jax.tree.map(np.add, total, work(block))
    return total


# Elements whose matrices are worked out at a time, for what they need to stay in the cache; on
# large meshes more, because every block adds to all edges.
BLOCK = 50_000
MOST_BLOCKS = 40


def _blocks(elements: int) -> list[slice]:
    size = max(BLOCK, -(-elements // MOST_BLOCKS))
    return [slice(start, start + size) for start in range(0, elements, size)]
