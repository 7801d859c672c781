"""How much the error of space is corrected, along and across the fibres, and its assembly by edge.

The correction itself is described in `corrected.py`; here is its share of the consistent mass. In
one dimension the share that carries a planar wave at its converged velocity depends on how well the
front is resolved, x = h sqrt(k / D): h is the spacing of the nodes, D the diffusivity, k a rate
that tells how fast the cell depolarises (`AbstractIonicModel.upstroke_rate`). Bars of TTP06,
Bueno-Orovio and Mitchell-Schaeffer cells, whose rates differ twentyfold, fall on one curve within
5 %; its limit of one half removes the leading error of the space discretisation. Where elements
are irregular the limit is lower (`irregularity.py`), and so is the share.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array
from cardiotwin.numerics.concrete import library
from cardiotwin.numerics.rows import AbstractPattern, edge_sums
from cardiotwin.tissue.conductivity import Tissue

from .elements import AbstractElements
from .irregularity import LATTICE, Excess

# share = LIMIT + SLOPE (sqrt(x^2 + KNEE^2) - KNEE), fitted to the bars
LIMIT, SLOPE, KNEE = 0.5, 0.85, 1.35
# Across the fibres the two directions of the plane share one operator, whose square has a mixed
# term that the error of space has not. Averaged over the directions of a wave in the plane, the
# error of a square lattice is 3/4 of that along its axes; 0.8 served the N-version slab best.
PLANE = 0.8
# What irregular elements take off the share (`irregularity.excess`) grows with the resolution x as
# sqrt(1 + (x / GROWTH)^2): fitted to bars of random tetrahedra, x from 0.9 to 5.4.
GROWTH = 2.5
LEAST_SHARE = 0.01  # not zero, for the sake of derivatives


class Correction(eqx.Module):
    """What the correction needs beside the system, by edge."""

    across: Float[type_array, " edges"]  # off-diagonal of L, the part across the fibres, mm3/ms
    along_smoothing: Float[type_array, " edges"]  # off-diagonal of M E_f, mm3
    across_smoothing: Float[type_array, " edges"]  # off-diagonal of M E_t, mm3
    mixed_smoothing: Float[type_array, " edges"]  # off-diagonal of M E_m, mm3


def share(x: Any) -> Any:
    """Share of the consistent mass at a resolution x = h sqrt(k / D), without unit."""
    return LIMIT + SLOPE * ((x * x + KNEE**2) ** 0.5 - KNEE)


def assemble_correction(
    elements: AbstractElements,
    tissue: Tissue,
    pattern: AbstractPattern,
    upstroke_rate: float,
    block: slice = slice(None),
    excess: Excess = LATTICE,
) -> Correction:
    """Assemble the edges of the correction.

    Args:
        elements: of the mesh, or a block of them.
        tissue: fibres and diffusivities, of the whole mesh.
        pattern: where the edges lie.
        upstroke_rate: of the ionic model, 1/ms.
        block: which elements they are.
        excess: what irregular elements change where the front is well resolved.
    """
    diffusivity, steps = tissue.principal_diffusivity()[block], elements.steps()
    axes = np.stack(
        [a[block] for a in (tissue.fibres.fibre, tissue.fibres.sheet, tissue.fibres.normal)],
        axis=1,
    )
    xp = library(diffusivity, steps)
    # squared spacing of the nodes along each axis: 6 a.G a, the edge itself on a regular lattice
    along_axis = steps @ axes.swapaxes(1, 2)
    squared = 6.0 * (along_axis**2).sum(axis=1)
    x = xp.sqrt(squared * upstroke_rate / diffusivity)
    growth = (1.0 + (x / GROWTH) ** 2) ** 0.5
    less = xp.stack([excess.along, excess.across, excess.across])[None]
    shares = share(x) * np.array([[1.0, PLANE, PLANE]]) - less * growth
    weight = xp.maximum(shares, LEAST_SHARE) ** 0.5
    # K(P G P) with P = sum of sqrt(beta) a a over the axes of the part; G the squares of the steps

    def smoothing(part: slice, weight: Any = 1.0) -> Array:
        d = (weight * along_axis[:, :, part]) @ axes[:, part]
        return edge_sums(pattern, elements.stiffness(d.swapaxes(1, 2) @ d), block)

    fibre, plane = slice(0, 1), slice(1, 3)
    scaled = diffusivity[:, plane, None] * axes[:, plane]
    across = scaled.swapaxes(1, 2) @ axes[:, plane]
    return Correction(
        across=edge_sums(pattern, elements.stiffness(across), block),
        along_smoothing=smoothing(fibre, weight[:, None, fibre]),
        across_smoothing=smoothing(plane, weight[:, None, plane]),
        mixed_smoothing=excess.between * smoothing(plane),
    )
