"""Whether a mesh is as large as a heart, which tells a wrong unit."""

import numpy as np

from cardiotwin.units import LENGTH_EXPONENTS, from_mm, to_mm

# Diagonals of the bounding box, mm, that a heart (mouse to dilated human) or a block may have;
# below UNSTATED a heart in mm is believed only when the unit was said.
HEART_SIZE = (5.0, 400.0)
BLOCK_SIZE = (1.0, 400.0)
UNSTATED = 30.0
HUMAN_HEART = 150.0
BLOCK_FILL = 0.9  # of its bounding box: a slab, which may be small


def size_doubt(points: np.ndarray, volume: float, unit: str, *, stated: bool) -> str | None:
    """What is odd about the size of a mesh, and which unit would fit, or None.

    Args:
        points: [nodes, 3] mm.
        volume: of the mesh, mm3.
        unit: unit that the coordinates were read in.
        stated: whether somebody said so; if not, small hearts are doubted too (a human heart in
            cm looks like one of a rat in mm).
    """
    extent = np.ptp(points, axis=0)
    diagonal = float(np.linalg.norm(extent))
    is_block = volume >= BLOCK_FILL * np.prod(extent)
    low, high = BLOCK_SIZE if is_block else HEART_SIZE
    if not stated and not is_block:
        low = UNSTATED
    if low <= diagonal <= high:
        return None
    in_file = float(from_mm(diagonal, unit))
    fits = {u: float(to_mm(in_file, u)) for u in LENGTH_EXPONENTS if u != unit}
    best = min(fits, key=lambda u: abs(np.log(fits[u] / HUMAN_HEART)))
    advice = (
        f"unit={best!r} would make it {fits[best]:.3g} mm"
        if HEART_SIZE[0] <= fits[best] <= HEART_SIZE[1]
        else "no usual unit fits a heart"
    )
    return (
        f"the mesh measures {diagonal:.3g} mm across, which is no heart, with its coordinates "
        f"{'said to be' if stated else 'taken'} in {unit}: {advice}; give unit={unit!r} if it is "
        "right"
    )
