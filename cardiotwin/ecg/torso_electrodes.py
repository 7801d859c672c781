"""Electrodes on a body: the standard places on any skin, and the refusal of impossible ones."""

import numpy as np

from cardiotwin.anatomy.closed_surface import Nearest
from cardiotwin.ecg.electrodes import TWELVE_LEAD_ELECTRODES, Electrodes
from cardiotwin.ecg.thorax import ACROSS, Thorax
from cardiotwin.ecg.torso import Torso, section_at
from cardiotwin.ecg.volume_elements import nearest_on_surface

DEEPEST = 5.0  # mm beneath the skin that an electrode on it may seem to lie
FARTHEST = 20.0  # mm off the skin


def place_on_torso(
    torso: Torso, thorax: Thorax | None = None, override: Electrodes | None = None
) -> Electrodes:
    """Place the nine electrodes of the twelve leads on the skin of a body.

    Heights are those of `Thorax`, measured from the heart's centre and scaled as the body was;
    places across are shares of the body's own width and depth at that height.

    Args:
        torso: the body.
        thorax: heights; by default a typical adult's.
        override: electrodes whose place is known; they take the place of those of the same name.

    Returns:
        RA, LA, LL, V1 to V6 on the skin, in the coordinates of the heart, mm.
    """
    thorax = Thorax() if thorax is None else thorax
    heights = thorax.electrodes()[:, 2] * torso.scale
    targets = []
    for name, height in zip(TWELVE_LEAD_ELECTRODES, heights, strict=True):
        section = section_at(torso, float(height))
        across = ACROSS[name]
        on_front = name != "LL"  # the hip's electrode lies in the middle of the depth
        forward = (1.0 - abs(across) ** thorax.exponent) ** (1.0 / thorax.exponent)
        targets.append(
            [
                section.left + across * section.width / 2.0,
                section.posterior - forward * on_front * section.depth / 2.0,
                height,
            ]
        )
    placed = on_skin(torso, Electrodes(TWELVE_LEAD_ELECTRODES, torso.mesh(np.array(targets))))
    return placed if override is None else overridden(placed, override)


def on_skin(torso: Torso, electrodes: Electrodes) -> Electrodes:
    """The electrodes moved to the nearest points of the skin."""
    corners = torso.skin.points[torso.skin.triangles]
    return Electrodes(electrodes.names, nearest_on_surface(electrodes.positions, corners)[0])


def overridden(electrodes: Electrodes, override: Electrodes) -> Electrodes:
    """The electrodes, those that stand in `override` too at the place they have there."""
    for name in override.names:
        electrodes.position(name)  # an unknown name is refused
    return Electrodes(
        electrodes.names,
        [
            (override if name in override.names else electrodes).position(name)
            for name in electrodes.names
        ],
    )


def check_electrodes(torso: Torso, electrodes: Electrodes, *, inside: bool = False) -> None:
    """Refuse electrodes that cannot be where they are said to be.

    Args:
        torso: the body.
        electrodes: in the coordinates of the heart.
        inside: accept electrodes inside the body.

    Raises:
        ValueError: an electrode lies inside the body or more than 20 mm off its skin, or those of
            the right and the left arm are exchanged.
    """
    depth = Nearest(torso.skin).depth(electrodes.positions)
    for name, position, deep in zip(electrodes.names, electrodes.positions, depth, strict=True):
        at = f"Electrode {name} at {position.round(1).tolist()} mm"
        if deep < -FARTHEST:
            raise ValueError(
                f"{at} is {-deep:.0f} mm off the skin; expected at most {FARTHEST:g} mm. Check "
                "that electrodes, heart and torso share coordinates and unit, or move it with "
                "on_skin."
            )
        if deep > DEEPEST and not inside:
            raise ValueError(
                f"{at} is {deep:.0f} mm inside the body; expected it on the skin. Move it with "
                "on_skin, or say inside=True for electrograms inside the body."
            )
    if {"RA", "LA"} <= set(electrodes.names):
        right, left = torso.body(np.stack([electrodes.position("RA"), electrodes.position("LA")]))
        if right[0] > left[0]:
            raise ValueError(
                f"The electrodes of the right and the left arm are exchanged: RA lies "
                f"{right[0] - left[0]:.0f} mm to the left of LA. Exchange their names, or turn the "
                "torso."
            )
