"""Axis-aligned ellipsoids cut off by a horizontal plane: distance, area, chords."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "n 3"]


class Ellipsoid(NamedTuple):
    """An ellipsoid with its axes along x, y and z.

    Attributes:
        centre: [3] mm.
        semi_axes: [3] mm.
    """

    centre: np.ndarray
    semi_axes: np.ndarray

    def distance(self, points: Points) -> Float[np.ndarray, " n"]:
        """Distance to the surface in mm to first order, negative inside; its zero is exact."""
        scaled = (points - self.centre) / self.semi_axes
        radius = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
        steepness = np.linalg.norm(scaled / self.semi_axes, axis=1)
        return (radius - 1.0) * radius / np.maximum(steepness, 1e-12 / self.semi_axes.min())

    def half_chord(
        self, y: Float[np.ndarray, " n"], z: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Half the length in mm of the chord along x through (y, z), zero where it misses."""
        v = (y - self.centre[1]) / self.semi_axes[1]
        w = (z - self.centre[2]) / self.semi_axes[2]
        return self.semi_axes[0] * np.sqrt(np.maximum(1.0 - v * v - w * w, 0.0))

    def area(self, where: Callable[[Points], np.ndarray], top: float, steps: int) -> float:
        """Area in mm2 of the part below the plane z = top on which `where` holds.

        On the unit sphere a band of height ds has the area 2 pi ds at any height; mapping it to
        the ellipsoid multiplies areas by the product of the semi-axes times the length of
        (x/a^2, y/b^2, z/c^2). The midpoint rule in height and longitude therefore has no
        singularity at the poles.
        """
        highest = np.clip((top - self.centre[2]) / self.semi_axes[2], -1.0, 1.0)
        edges, height = np.linspace(-1.0, highest, steps + 1, retstep=True)
        s = 0.5 * (edges[1:] + edges[:-1])[:, None]
        longitude = 2.0 * np.pi * (np.arange(steps) + 0.5) / steps
        ring = np.sqrt(1.0 - s * s)
        unit = np.stack(
            np.broadcast_arrays(ring * np.cos(longitude), ring * np.sin(longitude), s), axis=-1
        ).reshape(-1, 3)
        stretch = np.prod(self.semi_axes) * np.linalg.norm(unit / self.semi_axes, axis=1)
        inside = where(self.centre + self.semi_axes * unit)
        return float(height * 2.0 * np.pi / steps * stretch[inside].sum())


def overlap(
    half_length: Float[np.ndarray, " n"],
    centre: float,
    other_half_length: Float[np.ndarray, " n"],
    other_centre: float,
) -> Float[np.ndarray, " n"]:
    """Length in mm that two intervals on a line have in common."""
    right = np.minimum(centre + half_length, other_centre + other_half_length)
    left = np.maximum(centre - half_length, other_centre - other_half_length)
    return np.maximum(right - left, 0.0)
