"""Places in ventricular coordinates, which carry over from heart to heart."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin._types import Degrees, Milliseconds
from cardiotwin.anatomy.ventricular import VENTRICLES
from cardiotwin.anatomy.ventricular_map import VentricularMap


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


def locate(sites: Sequence[VentricularSite], heart: VentricularMap) -> Float[np.ndarray, "sites 3"]:
    """Where sites lie in a heart, [sites, 3] mm."""
    return heart.points(
        [VENTRICLES.index(site.ventricle) for site in sites],
        [site.transmural for site in sites],
        [site.apicobasal for site in sites],
        np.radians([site.rotational for site in sites]),
    )
