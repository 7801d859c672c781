"""Fibre and sheet angles across the walls of the ventricles, against what a rule asked for."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from cardiotwin.anatomy._frames import Frames, element_mean, unit
from cardiotwin.anatomy.coordinates import VentricularFields
from cardiotwin.anatomy.fibre_rules import FibreRule, Prescription, prescription, wall_geometry
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.mesh import Mesh

LEFT, SEPTUM, RIGHT = "LV free wall", "septum", "RV free wall"
WALLS = (LEFT, SEPTUM, RIGHT)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 20
_FEWEST = 10  # elements that a bin needs
_APEX = 0.15  # apicobasal below which directions turn round the apex
_FREE = 0.02  # of the way across the septum up to which a rule gives a free wall its own angles
_MIXED = 0.1  # share of the other kind of wall that either still has
_EPICARDIAL = 0.05  # depth up to which the tissue between the cavities is septum, not junction


class AngleProfile(NamedTuple):
    """Angles in one wall, in bins of its depth.

    Attributes:
        depth: [bins] 0 on the endocardium, 1 on the epicardium; in the septum 0 on its left side,
            1 on its right side. Bins of few elements are left out.
        quantiles: [bins, 5] degrees, those of `QUANTILES`.
        wanted: [bins] median of the prescribed angle, degrees; None without a rule.
        mean_error: degrees between the angle and the prescribed one, mean over the elements; None
            without a rule.
        elements: how many there are in the wall.
    """

    depth: Float[np.ndarray, " bins"]
    quantiles: Float[np.ndarray, "bins 5"]
    wanted: Float[np.ndarray, " bins"] | None
    mean_error: float | None
    elements: int


def wall_masks(mesh: Mesh, fields: VentricularFields) -> dict[str, Bool[np.ndarray, " elements"]]:
    """Elements of the free walls and the septum, without the apex and the junctions between them.

    Junctions reach far into the free walls here: as far as a rule takes the septum into account.

    Args:
        mesh: of both ventricles.
        fields: `ventricular_fields(mesh)`.
    """
    across = 1.0 - element_mean(mesh, fields.interventricular)
    off_apex = element_mean(mesh, fields.apicobasal) > _APEX
    left, right = across < _FREE, across > 1.0 - _FREE
    septum = ~left & ~right & (element_mean(mesh, fields.phi_epi) < _EPICARDIAL)
    return {LEFT: left & off_apex, SEPTUM: septum & off_apex, RIGHT: right & off_apex}


def _whole_walls(mesh: Mesh, fields: VentricularFields) -> dict[str, np.ndarray]:
    """The same up to where free wall and septum meet, for fields that no rule made."""
    on_left = element_mean(mesh, fields.interventricular) >= 0.5
    off_apex = element_mean(mesh, fields.apicobasal) > _APEX
    septal = wall_geometry(mesh, fields).septal
    free, septum = off_apex & (septal < _MIXED), off_apex & (septal > 1.0 - _MIXED)
    return {LEFT: free & on_left, SEPTUM: septum, RIGHT: free & ~on_left}


def angle_profiles(
    mesh: Mesh,
    fibres: Fibres,
    fields: VentricularFields,
    wanted: Prescription | None = None,
) -> dict[str, dict[str, AngleProfile]]:
    """Helix angles, and sheet angles where a rule asks for some, across each wall.

    In the free walls angles are seen outward from the cavity, in the septum from the left one, so
    that its angles run on from one side to the other. Longitudinal is the direction of `wanted`,
    or towards the nearest part of the base without it.

    Args:
        mesh: of both ventricles.
        fibres: of its elements.
        fields: `ventricular_fields(mesh)`.
        wanted: the angles that the fibres were to have.

    Returns:
        Wall -> "helix" and, with a prescription, "sheet" -> profile.
    """
    asked = wanted
    if asked is None:
        asked = prescription(FibreRule(), wall_geometry(mesh, fields))
    helix = helix_in(asked.frames, fibres.fibre)
    # sheet angles change their sign with the fibre, which has none: take that of the wanted one
    turn = np.radians(asked.alpha)[:, None]
    along = np.cos(turn) * asked.frames[:, :, 0] + np.sin(turn) * asked.frames[:, :, 1]
    sign = np.where(np.einsum("ei,ei->e", along, fibres.fibre) < 0.0, -1.0, 1.0)
    sheet = _sheet_in(asked.frames, sign[:, None] * fibres.fibre, fibres.sheet)
    across = 1.0 - element_mean(mesh, fields.interventricular)
    depth = element_mean(mesh, fields.phi_epi)
    found = {}
    masks = (_whole_walls if wanted is None else wall_masks)(mesh, fields)
    for wall, mask in masks.items():
        # the right half of the septum is seen from the right cavity: turn it over
        side = np.where((wall == SEPTUM) & ~asked.from_left, -1.0, 1.0)[mask]
        at = (across if wall == SEPTUM else depth)[mask]
        profiles = {}
        for name, angle, goal in (("helix", helix, asked.alpha), ("sheet", sheet, asked.beta)):
            if wanted is not None:
                profiles[name] = _profile(at, side * angle[mask], side * goal[mask])
            elif name == "helix":
                profiles[name] = _profile(at, side * angle[mask], None)
        found[wall] = profiles
    return found


def helix_in(frames: Frames, fibre: Float[np.ndarray, "elements 3"]) -> np.ndarray:
    """Helix angle [elements] in degrees, -90 to 90, in given frames of the wall."""
    around, up = (np.einsum("ei,ei->e", frames[:, :, k], fibre) for k in (0, 1))
    return _half_turn(np.degrees(np.arctan2(up, around)))


def _sheet_in(frames: Frames, fibre: np.ndarray, sheet: np.ndarray) -> np.ndarray:
    out = frames[:, :, 2]
    upward = unit(np.cross(out, fibre))
    rise, through = (np.einsum("ei,ei->e", way, sheet) for way in (upward, out))
    return _half_turn(np.degrees(np.arctan2(rise, through)))


def _profile(at: np.ndarray, angle: np.ndarray, goal: np.ndarray | None) -> AngleProfile:
    place = np.minimum((np.clip(at, 0.0, 1.0) * _BINS).astype(int), _BINS - 1)
    used = np.flatnonzero(np.bincount(place, minlength=_BINS) >= _FEWEST)
    middle = None if goal is None else np.array([np.median(goal[place == k]) for k in used])
    centre = _axial_means(angle, place, used) if middle is None else middle
    quantiles = np.empty((len(used), len(QUANTILES)))
    for row, k in enumerate(used):
        off = _half_turn(angle[place == k] - centre[row])
        quantiles[row] = centre[row] + np.quantile(off, QUANTILES)
    depth = np.array([at[place == k].mean() for k in used])
    error = None
    if goal is not None and len(angle):
        error = float(np.abs(_half_turn(angle - goal)).mean())
    return AngleProfile(depth, quantiles, middle, error, len(angle))


def _axial_means(angle: np.ndarray, place: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Mean direction of each bin, angles half a turn apart being the same; without leaps."""
    doubled = np.exp(2j * np.radians(angle))
    means = np.array([np.angle(doubled[place == k].mean()) for k in used])
    return 0.5 * np.degrees(np.unwrap(means))


def _half_turn(angle: np.ndarray) -> np.ndarray:
    return (angle + 90.0) % 180.0 - 90.0
