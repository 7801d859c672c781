"""Parts of a heart, in its own coordinates, whose cells or conduction differ."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Bool

from cardiotwin._types import MetresPerSecond as Velocity
from cardiotwin.anatomy.atrial_fibres import BUNDLES
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
        self.region, self.velocity = region, _target("ConductionZone", velocity)

    def elements(self, anatomy: Anatomy) -> Bool[np.ndarray, " elements"]:
        """Which elements of a heart belong to it; of voxels, those at least half within."""
        return _of_mesh(anatomy, self.region.elements(anatomy.map))


class BundleZone(eqx.Module):
    """Bundles of the atria that are tuned to velocities of their own.

    Args:
        bundles: names among `BUNDLES`, such as "crista terminalis".
        velocity: along fibre, sheet and normal.
    """

    bundles: tuple[str, ...]
    velocity: VelocityTarget

    def __init__(self, bundles: Sequence[str], velocity: Sequence[Velocity]):
        unknown = [name for name in bundles if name not in BUNDLES]
        if unknown or not bundles:
            raise ValueError(
                f"BundleZone: bundles are {list(bundles)}; give some of {', '.join(BUNDLES)}."
            )
        self.bundles, self.velocity = tuple(bundles), _target("BundleZone", velocity)

    def elements(self, anatomy: Anatomy) -> Bool[np.ndarray, " elements"]:
        """Which elements of both atria belong to it; of voxels, those at least half within."""
        wanted = [BUNDLES.index(name) for name in self.bundles]
        return _of_mesh(anatomy, np.isin(anatomy.bundles, wanted))


def _target(who: str, velocity: Sequence[Velocity]) -> VelocityTarget:
    if len(velocity) != 3 or not all(np.isfinite(v) and v > 0 for v in velocity):
        raise ValueError(
            f"{who}: velocity is {list(velocity)}; give three velocities in m/s, all positive, "
            "along fibre, sheet and normal."
        )
    return VelocityTarget(*map(float, velocity))


def _of_mesh(anatomy: Anatomy, found: np.ndarray) -> Bool[np.ndarray, " elements"]:
    """A mask of tetrahedra as one of the mesh's own elements."""
    if isinstance(anatomy.mesh, Voxels):
        return found.reshape(-1, TETRAHEDRA_PER_VOXEL).mean(axis=1) >= 0.5
    return found
