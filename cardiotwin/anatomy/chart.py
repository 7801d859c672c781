"""Ventricular coordinates to points by interpolation: smooth enough to be differentiated.

The height above the apex and the angle around a ventricle are polar coordinates of a disc, whose
middle is the apex and whose rim is the base. There the map to points has neither a pole nor a seam,
so a place that moves about in the disc moves smoothly through the heart.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cardiotwin._types import type_array

from .ventricular_map import VentricularMap

ACROSS = 49  # places of the table across a disc
DEPTHS = 7  # and through the wall


class VentricularChart(eqx.Module):
    """A table of the points of a heart, over both ventricles' discs and through their walls.

    Attributes:
        table: [ventricles, depths, across, across, 3] mm.
    """

    table: Float[type_array, "ventricles depths across across 3"]

    @classmethod
    def of(cls, heart: VentricularMap) -> "VentricularChart":
        """Look the table up in a heart."""
        line = np.linspace(-1.0, 1.0, ACROSS)
        first, second = (x.ravel() for x in np.meshgrid(line, line, indexing="ij"))
        height, angle = np.minimum(np.hypot(first, second), 1.0), np.arctan2(second, first)
        levels = [
            heart.points(which, depth, height, angle)
            for which in (0, 1)
            for depth in np.linspace(0.0, 1.0, DEPTHS)
        ]
        return cls(np.reshape(np.stack(levels), (2, DEPTHS, ACROSS, ACROSS, 3)))

    def __call__(
        self,
        ventricle: Int[type_array, " places"],
        disc: Float[type_array, "places 2"],
        depth: Float[type_array, " places"],
    ) -> Float[Array, "places 3"]:
        """Points of places, mm; differentiable in disc and depth.

        Args:
            ventricle: 0 for the left, 1 for the right one.
            disc: height above the apex times cosine and sine of the angle; outside the disc counts
                as its rim.
            depth: 0 on the endocardium, 1 on the epicardium or in the middle of the septum.
        """
        table, disc = jnp.asarray(self.table), jnp.asarray(disc)
        places = (0.5 * (jnp.clip(disc, -1.0, 1.0) + 1.0)) * (ACROSS - 1)
        deep = jnp.clip(depth, 0.0, 1.0) * (DEPTHS - 1)
        low = jnp.clip(jnp.floor(places).astype(int), 0, ACROSS - 2)
        under = jnp.clip(jnp.floor(deep).astype(int), 0, DEPTHS - 2)
        across, through = places - low, deep - under
        found = jnp.zeros((len(disc), 3), table.dtype)
        for d in (0, 1):
            for i in (0, 1):
                for j in (0, 1):
                    corner = table[ventricle, under + d, low[:, 0] + i, low[:, 1] + j]
                    share = (
                        (through if d else 1.0 - through)
                        * (across[:, 0] if i else 1.0 - across[:, 0])
                        * (across[:, 1] if j else 1.0 - across[:, 1])
                    )
                    found = found + share[:, None] * corner
        return found


def disc_of(
    apicobasal: Float[np.ndarray, " places"], rotational: Float[np.ndarray, " places"]
) -> Float[np.ndarray, "places 2"]:
    """Places in the disc of a height above the apex (0 to 1) and an angle (radians)."""
    return np.stack([apicobasal * np.cos(rotational), apicobasal * np.sin(rotational)], axis=1)
