"""How much more than on a lattice the elements of a mesh err, along and across the fibres.

On a lattice linear elements with a lumped mass err in one way only: they carry short waves too
slowly, and one half of the consistent mass cancels that to leading order. On irregular tetrahedra
the stiffness errs as well, and the other way: a linear interpolant of a curved wave is stiffer than
the wave. For waves across the fibres it is far stiffer, because its errors lie in all directions
and those along the fibres cost several times more (7.6 times in the N-version benchmark).

To leading order a plane wave in direction a is held back by the lumped mass by the share E of its
eigenvalue and driven on by C, both in units of the squared wave number: E is the mean of a . G a,
G as in `correction`, and C the least energy of the difference between (a . x)^2 / 2 and any
piecewise linear function. The share of the consistent mass that is right is then 1 - C / E, which
is one half along the edges of a lattice and may fall below zero. C is found from the interpolant of
each element, less what moving the values at the nodes still gains, r . K^-1 r for the forces r that
are left at them; r varies from node to node, so that a few conjugate gradients do.

Between the two directions the waves along and across the fibres add up on a lattice. On irregular
elements those waves are held back more than their sum: a mixed term remains, which is found from
the waves at 45 degrees to the fibres.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from cardiotwin.numerics.concrete import library, of_jax
from cardiotwin.numerics.rows import AbstractPattern, differences_by_edges, node_sums, row_sums
from cardiotwin.tissue.conductivity import Tissue

from .elements import Tetrahedra

# The right shares on a lattice: along its axes, and averaged over a plane of two axes.
ON_A_LATTICE = 0.5, 0.375
# What is less than this is none: derivatives exist on a lattice, too.
TOLERANCE = 0.02
# Of conjugate gradients: these leave 1 to 3 % of the gain.
ITERATIONS = 4
ROUNDING = 1e-5
# Equal angles about the fibres over which quartics have their mean: across them, where opposite
# directions are the same, and at 45 degrees.
ACROSS, BETWEEN = 3, 5


class Spent(NamedTuple):
    """What blocks of elements add, for each direction (mm7/ms, forces mm5/ms)."""

    lumping: Any  # sum of volume D_a a.G a, [directions]
    interpolation: Any  # energy of the interpolation error, [directions]
    forces: Any  # r, [directions, nodes]
    outward: Any  # sum of volume grad phi, 0 at nodes that are not on the surface, [3, nodes], mm2
    around: Any  # sum of the lengths of what is summed there, [nodes], mm2


class Excess(NamedTuple):
    """What tells irregular elements from those of a lattice, where all are 0.

    Attributes:
        along: by how much the right share of the consistent mass along the fibres is smaller.
        across: and across them.
        between: share of the consistent mass that the waves between them lack besides.
    """

    along: Any
    across: Any
    between: Any


LATTICE = Excess(0.0, 0.0, 0.0)
# A few slivers can drive the means as high as they like; and on coarse meshes a mixed term speeds
# waves along the axes up, too: on isotropic bars of body-centred tetrahedra, where it would be 1,
# by 2 % at h = 1.3 sqrt(D ms).
MOST = Excess(along=1.0, across=4.0, between=0.5)


def spent(
    elements: Tetrahedra,
    tensor: Any,
    tissue: Tissue,
    pattern: AbstractPattern,
    cells: np.ndarray,
    block: slice = slice(None),
) -> Spent:
    """Energies and forces of the waves on a block of elements.

    Args:
        elements: of the mesh, or a block of them.
        tensor: of diffusion, [block, 3, 3], mm2/ms.
        tissue: its fibres are asked, of the whole mesh.
        pattern: of the whole mesh.
        cells: nodes of the block's elements.
        block: which elements they are.
    """
    xp = library(tensor, elements.volumes)
    steps = elements.steps()
    lumping, interpolation, forces = [], [], []
    for axis in _directions(tissue, block):
        diffusivity = xp.einsum("ei,ei->e", xp.einsum("eij,ej->ei", tensor, axis), axis)
        spread = (xp.einsum("eki,ei->ek", steps, axis) ** 2).sum(axis=1)
        energy, force = elements.interpolation_error(axis, tensor)
        lumping.append((elements.volumes * diffusivity * spread).sum())
        interpolation.append(energy.sum())
        forces.append(node_sums(pattern, cells, force))
    areas = elements.volumes[:, None, None] * elements.gradients
    return Spent(
        lumping=xp.stack(lumping),
        interpolation=xp.stack(interpolation),
        forces=xp.stack(forces),
        outward=xp.stack([node_sums(pattern, cells, areas[..., k]) for k in range(3)]),
        around=node_sums(pattern, cells, abs(areas).sum(axis=-1)),
    )


def _directions(tissue: Tissue, block: slice) -> list[Any]:
    """Along the fibres, across them, and at 45 degrees to them, [block, 3] each."""
    of = tissue.fibres
    fibre, sheet, normal = (a[block] for a in (of.fibre, of.sheet, of.normal))

    def across(angle):
        return np.cos(angle) * sheet + np.sin(angle) * normal

    between = [across(2.0 * np.pi * k / BETWEEN) for k in range(BETWEEN)]
    return [
        fibre,
        *(across(np.pi * k / ACROSS) for k in range(ACROSS)),
        *(0.5**0.5 * (fibre + b) for b in between),
    ]


def excess(found: Spent, pattern: AbstractPattern, diffusion_edges: Any) -> Excess:
    """What the correction has to allow for; a mesh that errs less than a lattice is taken for one.

    Args:
        found: sums over all elements.
        pattern: of the mesh.
        diffusion_edges: off-diagonal of L, mm3/ms.
    """
    xp = library(found.forces, diffusion_edges)
    # the wave of a run meets the surface at a right angle; these do not, and the forces that they
    # leave there say nothing of the elements
    inside = abs(found.outward).sum(axis=0) < ROUNDING * found.around
    least = found.interpolation - _gains(pattern, diffusion_edges, found.forces, inside)
    parts = [slice(0, 1), slice(1, 1 + ACROSS), slice(1 + ACROSS, None)]
    lumping = [found.lumping[part].mean() for part in parts]
    right = [held - least[part].mean() for held, part in zip(lumping, parts, strict=True)]
    along, across = (r / held for r, held in zip(right[:2], lumping[:2], strict=True))
    # at 45 degrees each of the two counts a quarter, and so does the mixed term
    between = (4.0 * right[2] - right[0] - right[1]) / lumping[0]
    limits = ON_A_LATTICE[0] - along, ON_A_LATTICE[1] - across, between
    return Excess(
        *(xp.clip(x - TOLERANCE, 0.0, most) for x, most in zip(limits, MOST, strict=True))
    )


def _gains(pattern: AbstractPattern, edges: Any, forces: Any, free: Any) -> Any:
    """What moving the free nodes gains, r . K^-1 r from below by conjugate gradients."""
    xp = library(edges, forces)
    apply = _stiffness(pattern, edges)
    inverse = (1.0 / row_sums(pattern, edges))[None]
    free = xp.where(free, 1.0, 0.0)[None]
    r, p, old = free * forces, None, xp.ones(1)
    gain = xp.zeros(len(forces))
    for _ in range(ITERATIONS):
        z = inverse * r
        rz = (r * z).sum(axis=1, keepdims=True)
        p = z if p is None else z + rz / _positive(old, xp) * p
        q = free * apply(p)
        step = rz / _positive((p * q).sum(axis=1, keepdims=True), xp)
        gain = gain + (step * rz)[:, 0]  # what this step takes off the energy, twice
        r, old = r - step * q, rz
    return gain


def _positive(x: Any, xp: Any) -> Any:
    """A number to divide by: one where the forces vanish."""
    return xp.where(x > 0.0, x, 1.0)


def _stiffness(pattern: AbstractPattern, edges: Any):
    """How to apply K to [directions, nodes]."""
    if of_jax(edges):
        return lambda x: -differences_by_edges(pattern, edges, x)
    first, second = pattern.edges.T
    off = sp.coo_matrix((-edges, (first, second)), shape=(pattern.nodes,) * 2).tocsr()
    matrix = off + off.T + sp.diags(row_sums(pattern, edges))
    return lambda x: np.ascontiguousarray((matrix @ x.T).T)
