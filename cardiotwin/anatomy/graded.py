"""Tetrahedra inside a body, fine around a place of interest and coarser away from it."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.stuffing import stuff

# Layers of the lattice grow by this factor from one to the next: elements stay well shaped.
GROWTH = 1.15
_BISECTIONS = 12  # to 1e-4 of an edge


def graded_tetrahedra(
    depth: Callable[[np.ndarray], np.ndarray],
    bounds: Float[np.ndarray, "2 3"],
    focus: Float[np.ndarray, "2 3"],
    fine: float,
    coarse: float,
    *,
    hollow: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill a closed body by isosurface stuffing of a lattice whose layers grow away from a box.

    The boundary lies on the body's surface; within the box the cubes of the lattice have the edge
    `fine`, outside they grow layer by layer up to `coarse`, along each axis by itself.

    Args:
        depth: maps points [n, 3] mm to [n] mm, positive inside the body, about the distance to its
            surface near it.
        bounds: lower and upper corner of a box that holds the body, mm.
        focus: lower and upper corner of the box to resolve, mm.
        fine: edge of the cubes within `focus`, mm.
        coarse: largest edge of the cubes, mm.
        hollow: whether the body has holes within.

    Returns:
        Points float64 [nodes, 3] mm and cells int32 [elements, 4] of positive volume.

    Raises:
        ValueError: the lattice misses the body, or is too fine to hold.
    """
    if not (np.isfinite([fine, coarse]).all() and 0 < fine <= coarse):
        raise ValueError(
            f"the edges of the lattice are {fine} and {coarse} mm; expected 0 < fine <= coarse"
        )
    layers = [
        _layers(span, inner, fine, coarse)
        for span, inner in zip(np.transpose(bounds), np.transpose(focus), strict=True)
    ]

    def place(lattice: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                np.interp(x, np.arange(len(layer)), layer)
                for x, layer in zip(lattice.T, layers, strict=True)
            ],
            axis=1,
        )

    counts = np.array([len(layer) - 1.0 for layer in layers])
    lattice, cells = stuff(
        lambda x: depth(place(x)) / fine,
        np.zeros(3),
        counts,
        1.0,
        open_top=False,
        bisections=_BISECTIONS,
        hollow=hollow,
    )
    return place(lattice), cells


def _layers(span: np.ndarray, inner: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Coordinates of the layers along one axis, a layer and a half beyond both ends."""
    low, high = span
    inner_low, inner_high = np.clip(inner, low, high)
    count = max(round((inner_high - inner_low) / fine), 1)
    middle = inner_low + fine * np.arange(count + 1.0)

    def outwards(length: float) -> np.ndarray:
        steps, total, step = [], 0.0, fine
        while total < length + 1.5 * step:
            step = min(step * GROWTH, coarse)
            steps.append(step)
            total += step
        return np.cumsum(steps)

    before, after = outwards(inner_low - low), outwards(high - middle[-1])
    return np.concatenate([inner_low - before[::-1], middle, middle[-1] + after])
