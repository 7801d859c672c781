"""Parts of a heart, in its own coordinates, whose cells or conduction differ."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Bool

from cardiotwin._types import MetresPerSecond as Velocity
from cardiotwin.anatomy.voxels import TETRAHEDRA_PER_VOXEL, Voxels
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.tissue.places import VentricularRegion

from .anatomy import Anatomy


class CellZone(eqx.Module):
    """A region whose ionic parameters are multiplied.

    Args:
        region: where.
        factors: by parameter, such as ``{g_Kr: 0.5}``.
    """

    region: VentricularRegion
    factors: dict[str, float]

    def __init__(self, region: VentricularRegion, factors: Mapping[str, float]):
        for name, factor in factors.items():
            if not (np.isfinite(factor) and factor >= 0):
                raise ValueError(
                    f"CellZone: factors.{name} is {factor!r}; give a factor, such as 0.5."
                )
        if not factors:
            raise ValueError("CellZone: no factors; give at least one, such as {g_Kr: 0.5}.")
        self.region = region
        self.factors = {name: float(factor) for name, factor in factors.items()}


class ConductionZone(eqx.Module):
    """A region that is tuned to velocities of its own.

    Args:
        region: where.
        velocity: along fibre, sheet and normal.
    """

    region: VentricularRegion
    velocity: VelocityTarget

    def __init__(self, region: VentricularRegion, velocity: Sequence[Velocity]):
        if len(velocity) != 3 or not all(np.isfinite(v) and v > 0 for v in velocity):
            raise ValueError(
                f"ConductionZone: velocity is {list(velocity)}; give three velocities in m/s, all "
                "positive, along fibre, sheet and normal."
            )
        self.region, self.velocity = region, VelocityTarget(*map(float, velocity))

    def elements(self, anatomy: Anatomy) -> Bool[np.ndarray, " elements"]:
        """Which elements of a heart belong to it; of voxels, those at least half within."""
        found = self.region.elements(anatomy.map)
        if isinstance(anatomy.mesh, Voxels):
            return found.reshape(-1, TETRAHEDRA_PER_VOXEL).mean(axis=1) >= 0.5
        return found
