"""Root nodes of a heart: what may move of them, and how many of them an ECG asks for."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from cardiotwin.tissue.places import VentricularSite
from cardiotwin.twin.beginnings import Places

from .beat import EikonalBeat
from .free import Free
from .priors import AbstractPrior, InDisc, LogNormal, Normal, Uniform

# Places to add root nodes at, one after the other: those of Durrer et al. 1970 first
# (doi 10.1161/01.CIR.41.6.899), in ventricular coordinates
CANDIDATES = (
    VentricularSite("lv", 0.45, 0.0),
    VentricularSite("rv", 0.35, 160.0, onset=8.0),
    VentricularSite("lv", 0.6, 80.0),
    VentricularSite("lv", 0.4, -90.0),
    VentricularSite("rv", 0.4, 60.0, onset=10.0),
    VentricularSite("lv", 0.3, 170.0, onset=5.0),
    VentricularSite("rv", 0.5, -120.0, onset=12.0),
)


def with_roots(beat: EikonalBeat, sites: Sequence[VentricularSite]) -> EikonalBeat:
    """A beat with other root nodes."""
    old = beat.roots
    dtype = jnp.asarray(old.disc).dtype
    new = Places.of(sites)
    new = Places(
        new.disc.astype(dtype), new.depth.astype(dtype), new.onset.astype(dtype), new.ventricle
    )
    return eqx.tree_at(lambda b: b.heart.roots, beat, new)


def qrs_parameters(
    beat: EikonalBeat,
    *,
    place: AbstractPrior | None = None,
    latest: float = 40.0,
    shift: float = 8.0,
    spread: float = 0.15,
) -> list[Free]:
    """What usually moves when a QRS complex is fitted.

    Places and onsets of the root nodes on the endocardium, the velocities of every layer (sheet and
    normal tied together; all three in a layer that is isotropic), and the start of the beat.

    Args:
        beat: whose root nodes and velocities are the priors' medians.
        place: prior of the places in their discs.
        latest: onset, ms; equally likely from 0.
        shift: ms, standard deviation of the start of the beat.
        spread: of the logarithm of the velocities of muscle; twice that of other layers.
    """
    free = [
        Free("root", lambda b: b.heart.roots.disc, InDisc(0.9) if place is None else place),
        Free("onset", lambda b: b.heart.roots.onset, Uniform(0.0, latest), unit="ms"),
        Free("start", lambda b: b.shift, Normal(np.asarray(beat.shift), shift), unit="ms"),
    ]
    for name, target in beat.heart.velocity.items():
        speeds = [float(v) for v in target]
        wide = spread if name == "myocardium" else 2.0 * spread
        if np.ptp(speeds) < 1e-6:
            where = _axes_of(name, (0, 1, 2))
            free.append(Free(f"{name} speed", where, LogNormal(speeds[0], wide), unit="m/s"))
            continue
        along = Free(
            f"{name} fibre speed", _axes_of(name, (0,)), LogNormal(speeds[0], wide), unit="m/s"
        )
        free.append(along)
        if abs(speeds[1] - speeds[2]) < 1e-6:
            cross = LogNormal(speeds[1], wide)
            free.append(Free(f"{name} cross speed", _axes_of(name, (1, 2)), cross, unit="m/s"))
        else:
            for axis, what in ((1, "sheet"), (2, "normal")):
                one = LogNormal(speeds[axis], wide)
                free.append(Free(f"{name} {what} speed", _axes_of(name, (axis,)), one, unit="m/s"))
    return free


def _axes_of(layer: str, axes: tuple[int, ...]) -> Callable[[Any], Any]:
    return lambda beat: tuple(beat.heart.velocity[layer][axis] for axis in axes)
