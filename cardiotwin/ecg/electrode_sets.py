"""Sets of electrodes beyond the standard nine: Frank, Mason-Likar, body-surface maps, pairs."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ecg.electrodes import TWELVE_LEAD_ELECTRODES, Electrodes
from cardiotwin.ecg.thorax import Thorax
from cardiotwin.ecg.torso import Torso, section_at
from cardiotwin.ecg.torso_electrodes import on_skin, place_on_torso

FRANK_ELECTRODES = ("A", "C", "E", "I", "M", "H", "F")
# Frank, Circulation 13:737-749 (1956), https://doi.org/10.1161/01.CIR.13.5.737; X to the left, Y to
# the feet, Z backwards
FRANK_WEIGHTS = {
    "X": {"A": 0.610, "C": 0.171, "I": -0.781},
    "Y": {"F": 0.655, "M": 0.345, "H": -1.000},
    "Z": {"A": 0.133, "M": 0.736, "I": -0.264, "E": -0.374, "C": -0.231},
}
# Degrees around the trunk from the middle of its front, positive to the left
_FRANK_ANGLES = {"A": 90.0, "C": 45.0, "E": 0.0, "I": -90.0, "M": 180.0}
_NECK, _BELOW_CLAVICLE, _FLANK = 30.0, 35.0, 110.0  # mm


def frank(torso: Torso, thorax: Thorax | None = None) -> Electrodes:
    """The seven electrodes of Frank's vectorcardiogram on a body, in the fifth intercostal space.

    Args:
        torso: the body.
        thorax: heights; by default a typical adult's.
    """
    thorax = Thorax() if thorax is None else thorax
    level = thorax.fifth_space_height * torso.scale
    points = [around_trunk(torso, level, angle) for angle in _FRANK_ANGLES.values()]
    shoulder = (thorax.shoulder_height + _NECK) * torso.scale
    hip = -thorax.hip_depth * torso.scale
    points += [around_trunk(torso, shoulder, 180.0), around_trunk(torso, hip, 90.0)]
    return Electrodes(FRANK_ELECTRODES, points)


def frank_leads(
    potentials: Float[Array | np.ndarray, "times electrodes"], names: Sequence[str]
) -> Float[Array | np.ndarray, "times 3"]:
    """X, Y and Z of Frank's vectorcardiogram in mV from electrode potentials."""
    weights = np.zeros((len(names), 3))
    for column, parts in enumerate(FRANK_WEIGHTS.values()):
        for name, weight in parts.items():
            weights[_number(names, name), column] = weight
    return potentials @ weights


def mason_likar(torso: Torso, thorax: Thorax | None = None) -> Electrodes:
    """The nine electrodes of twelve leads with the limbs' on the trunk, for exercise and monitors.

    RA and LA lie below the clavicles, LL on the left flank: Mason and Likar, Am Heart J 71:196-205
    (1966), https://doi.org/10.1016/0002-8703(66)90182-7.
    """
    thorax = Thorax() if thorax is None else thorax
    standard = place_on_torso(torso, thorax)
    clavicle = (thorax.shoulder_height - _BELOW_CLAVICLE) * torso.scale
    section = section_at(torso, clavicle)
    front = section.posterior - section.depth / 2.0
    arms = [
        [section.left + side * 0.6 * section.width / 2.0, front, clavicle] for side in (-1.0, 1.0)
    ]
    right, left = on_skin(torso, Electrodes(["RA", "LA"], torso.mesh(np.array(arms)))).positions
    flank = around_trunk(torso, -_FLANK * torso.scale, 60.0)
    moved = {"RA": right, "LA": left, "LL": flank}
    return Electrodes(
        TWELVE_LEAD_ELECTRODES,
        [moved.get(name, standard.position(name)) for name in TWELVE_LEAD_ELECTRODES],
    )


def vest(
    torso: Torso,
    rows: int = 14,
    columns: int = 18,
    *,
    top: float = 140.0,
    bottom: float = -120.0,
    prefix: str = "E",
) -> Electrodes:
    """Electrodes in horizontal rows around the trunk; by default the 252 of a mapping vest.

    Args:
        torso: the body.
        rows: from the top to the bottom.
        columns: around the trunk, evenly in angle, the first in the middle of the front.
        top: height of the first row above the heart's centre in a typical adult, mm.
        bottom: of the last row, mm.
        prefix: of the names: E1, E2, ... row by row.
    """
    if rows < 1 or columns < 1:
        raise ValueError(f"vest: {rows} rows and {columns} columns; expected at least one each.")
    points = [
        around_trunk(torso, height * torso.scale, angle)
        for height in np.linspace(top, bottom, rows)
        for angle in 360.0 * np.arange(columns) / columns
    ]
    return Electrodes([f"{prefix}{k + 1}" for k in range(len(points))], points)


def body_surface_120(torso: Torso, thorax: Thorax | None = None) -> Electrodes:
    """The three electrodes of the limbs and 117 in nine rows of thirteen around the trunk."""
    limbs = place_on_torso(torso, thorax)
    grid = vest(torso, 9, 13)
    names = ["RA", "LA", "LL"]
    return Electrodes(
        [*names, *grid.names], [*(limbs.position(name) for name in names), *grid.positions]
    )


def around_trunk(torso: Torso, height: float, angle: float) -> Float[np.ndarray, " 3"]:
    """The point of the skin at a height and an angle around the middle of the trunk.

    Args:
        torso: the body.
        height: above the heart's centre, mm; beyond the ends of the body the nearest one.
        angle: degrees from the middle of the front, positive to the left.
    """
    points = torso.body(torso.skin.points)
    low, high = points[:, 2].min(), points[:, 2].max()
    height = float(np.clip(height, low + 0.02 * (high - low), high - 0.02 * (high - low)))
    section = section_at(torso, height)
    start = np.array([section.left, section.posterior, height])
    turn = np.deg2rad(angle)
    ray = np.array([np.sin(turn), -np.cos(turn), 0.0])
    a, b, c = (points[torso.skin.triangles[:, k]] for k in range(3))
    # Moeller and Trumbore: the farthest crossing of the ray
    u, v, w = b - a, c - a, start - a
    across = np.cross(ray, v)
    size = np.einsum("fi,fi->f", u, across)
    size = np.where(np.abs(size) < 1e-12, np.inf, size)
    s = np.einsum("fi,fi->f", w, across) / size
    other = np.cross(w, u)
    t = other @ ray / size
    far = np.einsum("fi,fi->f", other, v) / size
    hit = (s >= -1e-9) & (t >= -1e-9) & (s + t <= 1 + 1e-9) & (far > 0) & np.isfinite(size)
    if not hit.any():
        raise ValueError(
            f"No skin lies at {angle:g} degrees around the trunk {height:.0f} mm above the heart; "
            "check that the axes of the torso (left, superior) are right."
        )
    return torso.mesh((start + far[hit].max() * ray)[None])[0]


def bipolar(
    potentials: Float[Array | np.ndarray, "times electrodes"],
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> Float[Array | np.ndarray, "times pairs"]:
    """Electrograms between pairs of electrodes, the first minus the second, mV."""
    first = np.array([_number(names, one) for one, _ in pairs])
    second = np.array([_number(names, other) for _, other in pairs])
    values = potentials if isinstance(potentials, jax.Array) else np.asarray(potentials)
    return values[:, first] - values[:, second]


def _number(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise ValueError(f"There is no electrode {name!r}; got {', '.join(names)}.")
    return list(names).index(name)
