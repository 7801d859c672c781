"""Places in ventricular coordinates, which carry over from heart to heart."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from cardiotwin._types import Degrees, Milliseconds
from cardiotwin.anatomy.ventricular import VENTRICLES
from cardiotwin.anatomy.ventricular_map import VentricularMap
from cardiotwin.anatomy.winding import wrapped


class VentricularSite(eqx.Module):
    """A place in a ventricle, such as the tip of a lead, and when it is paced.

    Args:
        ventricle: "lv" or "rv"; the septum belongs half to each.
        apicobasal: 0 at the ventricle's apex, 1 at its base.
        rotational: degrees around the ventricle: 0 in the middle of the septum, +-60 where the
            other ventricle joins, 180 in the middle of the free wall; positive towards the front.
        transmural: 0 on the endocardium, 1 on the epicardium or in the middle of the septum.
        onset: ms.
    """

    ventricle: str
    apicobasal: float
    rotational: float
    transmural: float
    onset: float

    def __init__(
        self,
        ventricle: Literal["lv", "rv"],
        apicobasal: float,
        rotational: Degrees,
        transmural: float = 0.0,
        onset: Milliseconds = 0.0,
    ):
        if ventricle not in VENTRICLES:
            raise ValueError(f"VentricularSite: ventricle is {ventricle!r}; give 'lv' or 'rv'.")
        for name, value in (("apicobasal", apicobasal), ("transmural", transmural)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"VentricularSite: {name} is {value}; it runs from 0 to 1.")
        if not (np.isfinite(rotational) and np.isfinite(onset) and onset >= 0):
            raise ValueError(
                f"VentricularSite: rotational {rotational} and onset {onset} must be finite, and "
                "the onset not negative."
            )
        self.ventricle, self.apicobasal = ventricle, float(apicobasal)
        self.rotational, self.transmural = float(rotational), float(transmural)
        self.onset = float(onset)


class VentricularRegion(eqx.Module):
    """A part of the ventricles in their own coordinates: the same part of every heart.

    Ranges that are left out are open; a node or element belongs to the region where all hold. A
    range ends below its upper end, so that neighbouring ranges share nothing.

    Args:
        ventricle: "lv" or "rv"; both when left out. The septum belongs half to each.
        apicobasal: from and to, 0 at the ventricle's apex, 1 at its base.
        rotational: from and to in degrees, counted as for `VentricularSite`; the arc runs upwards
            from the first to the second, so [150, -150] is the lateral wall.
        transmural: from and to, 0 on the endocardium, 1 on the epicardium or in the middle of the
            septum.
        segments: AHA segments, 1 to 17.
    """

    ventricle: str | None
    apicobasal: tuple[float, float]
    rotational: tuple[float, float] | None
    transmural: tuple[float, float]
    segments: tuple[int, ...] | None

    def __init__(
        self,
        ventricle: Literal["lv", "rv"] | None = None,
        apicobasal: Sequence[float] = (0.0, 1.0),
        rotational: Sequence[Degrees] | None = None,
        transmural: Sequence[float] = (0.0, 1.0),
        segments: Sequence[int] | None = None,
    ):
        if ventricle not in (None, *VENTRICLES):
            raise ValueError(f"VentricularRegion: ventricle is {ventricle!r}; give 'lv' or 'rv'.")
        for name, pair in (("apicobasal", apicobasal), ("transmural", transmural)):
            if len(pair) != 2 or not 0.0 <= pair[0] < pair[1] <= 1.0:
                raise ValueError(
                    f"VentricularRegion: {name} is {list(pair)}; give two rising numbers from 0 to "
                    "1, such as [0.2, 0.5]."
                )
        if rotational is not None and not (len(rotational) == 2 and np.isfinite(rotational).all()):
            raise ValueError(
                f"VentricularRegion: rotational is {list(rotational)}; give two angles in degrees."
            )
        if segments is not None and not (segments and set(segments) <= set(range(1, 18))):
            raise ValueError(
                f"VentricularRegion: segments are {list(segments)}; give AHA segments from 1 to 17."
            )
        self.ventricle = ventricle
        self.apicobasal = (float(apicobasal[0]), float(apicobasal[1]))
        self.transmural = (float(transmural[0]), float(transmural[1]))
        self.rotational = None
        if rotational is not None:
            self.rotational = (float(rotational[0]), float(rotational[1]))
        self.segments = None if segments is None else tuple(segments)

    def nodes(self, heart: VentricularMap) -> Bool[np.ndarray, " nodes"]:
        """Which nodes of a heart lie in the region.

        Raises:
            ValueError: none does.
        """
        both = heart.coordinates.values
        found = np.logical_or(*(self._within(both[k], k) for k in (0, 1)))
        if self.segments is not None:
            found &= np.isin(heart.segments(), self.segments)
        return self._checked(found, "node")

    def elements(self, heart: VentricularMap) -> Bool[np.ndarray, " elements"]:
        """Which tetrahedra of a heart lie in the region, by the mean of their corners.

        Raises:
            ValueError: none does.
        """
        cells, side = heart.mesh.cells, heart.coordinates.side
        corners = heart.coordinates.values[side[:, None], cells]
        mean = corners.mean(axis=1)
        first = corners[:, 0, 2]
        mean[:, 2] = first + wrapped(corners[:, :, 2] - first[:, None]).mean(axis=1)
        found = np.where(side == 0, self._within(mean, 0), self._within(mean, 1))
        if self.segments is not None:
            found &= np.isin(_majority(heart.segments()[cells]), self.segments)
        return self._checked(found, "element")

    def _within(
        self, values: Float[np.ndarray, "places 3"], which: int
    ) -> Bool[np.ndarray, " places"]:
        """Which places of one ventricle lie in the ranges; NaN is nowhere."""
        if self.ventricle not in (None, VENTRICLES[which]):
            return np.zeros(len(values), bool)
        depth, height, angle = values.T
        found = _between(depth, self.transmural) & _between(height, self.apicobasal)
        if self.rotational is not None and self.rotational[1] - self.rotational[0] < 360.0:
            start, end = self.rotational
            found &= np.mod(np.degrees(angle) - start, 360.0) <= np.mod(end - start, 360.0)
        return found

    def _checked(self, found: np.ndarray, what: str) -> np.ndarray:
        if not found.any():
            raise ValueError(
                f"VentricularRegion: no {what} of this heart lies in it (ventricle "
                f"{self.ventricle}, apicobasal {self.apicobasal}, rotational {self.rotational}, "
                f"transmural {self.transmural}, segments {self.segments}): widen it, or use a "
                "finer mesh."
            )
        return found


def _between(
    values: Float[np.ndarray, " places"], pair: tuple[float, float]
) -> Bool[np.ndarray, " places"]:
    """From the first to below the second, so that neighbouring ranges share nothing."""
    low, high = pair
    return (values >= low) & ((values < high) | (high == 1.0) & (values <= high))


def _majority(corners: Int[np.ndarray, "elements 4"]) -> Int[np.ndarray, " elements"]:
    """The segment that most corners have; the smallest of those where several do."""
    count = (corners[:, :, None] == corners[:, None]).sum(axis=2)
    best = np.where(count == count.max(axis=1, keepdims=True), corners, 99)
    return best.min(axis=1)


def locate(sites: Sequence[VentricularSite], heart: VentricularMap) -> Float[np.ndarray, "sites 3"]:
    """Where sites lie in a heart, [sites, 3] mm."""
    return heart.points(
        [VENTRICLES.index(site.ventricle) for site in sites],
        [site.transmural for site in sites],
        [site.apicobasal for site in sites],
        np.radians([site.rotational for site in sites]),
    )
