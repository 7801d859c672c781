"""Depth beneath a closed surface, sampled on a grid once and interpolated for very many points."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

from cardiotwin.anatomy.closed_surface import ClosedSurface, Nearest

_LEVELS = 3  # spacings of 4, 2 and 1
_BAND = 1.8  # spacings from the surface within which depths must be exact: a cell and its diagonal
_SLACK = 0.3  # spacings of the coarser level that interpolation may be wrong by near the surface


class SampledDepth:
    """Signed distance in mm to a closed surface, positive inside, linear between grid points.

    Only near the surface are the grid's values exact; elsewhere they come from a coarser grid. A
    smooth surface of radius R is met to spacing^2 / 8R; edges are rounded by a part of the spacing.

    Args:
        surface: the surface.
        spacing: of the grid, mm.
    """

    def __init__(self, surface: ClosedSurface, spacing: float):
        coarsest = spacing * 2 ** (_LEVELS - 1)
        low = surface.points.min(axis=0) - coarsest
        cubes = np.ceil((surface.points.max(axis=0) + coarsest - low) / coarsest).astype(int)
        exact = Nearest(surface)
        values = np.zeros(1)
        for level in range(_LEVELS):
            step = spacing * 2 ** (_LEVELS - 1 - level)
            shape = cubes * 2**level + 1
            places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
            if level == 0:
                values = exact.depth((low + step * places).reshape(-1, 3)).reshape(shape)
                continue
            values = map_coordinates(values, np.moveaxis(places / 2.0, -1, 0), order=1)
            near = np.abs(values) < _BAND * step + 2.0 * _SLACK * step
            values[near] = exact.depth(low + step * places[near])
        self._low, self._spacing, self._values = low, spacing, values

    def __call__(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Depth in mm; of a point beyond the grid that of the grid's nearest point."""
        place = ((points - self._low) / self._spacing).T
        return map_coordinates(self._values, place, order=1, mode="nearest")
