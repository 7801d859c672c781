"""Angles that a rule asks for, wall by wall, and the frames of the wall they are taken in.

Every angle is seen outward from the cavity that its wall belongs to: the helix angle alpha against
the circumferential direction (anticlockwise seen from the base), the sheet angle beta against the
outward normal; both are positive towards the base.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from cardiotwin._types import Degrees
from cardiotwin.anatomy._frames import (
    Frames,
    axes_of,
    between,
    element_mean,
    smooth_gradients,
    unit,
)
from cardiotwin.anatomy.coordinates import VentricularFields
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.outflow import ValveFields

PerElement = Float[np.ndarray, " elements"]


class WallAngles(eqx.Module):
    """Helix and sheet angles on both sides of a wall, linear in the depth between them.

    Args:
        alpha_endo: helix angle on the endocardium.
        alpha_epi: helix angle on the epicardium.
        beta_endo: sheet angle on the endocardium.
        beta_epi: sheet angle on the epicardium.
    """

    alpha_endo: float
    alpha_epi: float
    beta_endo: float
    beta_epi: float

    def __init__(
        self,
        alpha_endo: Degrees = 60.0,
        alpha_epi: Degrees = -60.0,
        beta_endo: Degrees = -20.0,
        beta_epi: Degrees = 20.0,
    ):
        _check(alpha_endo=alpha_endo, alpha_epi=alpha_epi, beta_endo=beta_endo, beta_epi=beta_epi)
        self.alpha_endo, self.alpha_epi = float(alpha_endo), float(alpha_epi)
        self.beta_endo, self.beta_epi = float(beta_endo), float(beta_epi)

    def at(self, depth: PerElement) -> tuple[PerElement, PerElement]:
        """Both angles in degrees at a depth from 0, endocardium, to 1, epicardium."""
        return (
            (1.0 - depth) * self.alpha_endo + depth * self.alpha_epi,
            (1.0 - depth) * self.beta_endo + depth * self.beta_epi,
        )


class SeptumAngles(eqx.Module):
    """Helix and sheet angles on both sides of the septum, each seen from its own cavity.

    Args:
        alpha_left: helix angle on the left side.
        alpha_right: helix angle on the right side.
        beta_left: sheet angle on the left side.
        beta_right: sheet angle on the right side.
    """

    alpha_left: float
    alpha_right: float
    beta_left: float
    beta_right: float

    def __init__(
        self,
        alpha_left: Degrees = 60.0,
        alpha_right: Degrees = 60.0,
        beta_left: Degrees = -20.0,
        beta_right: Degrees = -20.0,
    ):
        _check(
            alpha_left=alpha_left,
            alpha_right=alpha_right,
            beta_left=beta_left,
            beta_right=beta_right,
        )
        self.alpha_left, self.alpha_right = float(alpha_left), float(alpha_right)
        self.beta_left, self.beta_right = float(beta_left), float(beta_right)


class FibreRule(eqx.Module):
    """The angles of both ventricles.

    Args:
        lv: of the left free wall.
        rv: of the right free wall; those of the left one when left out.
        septum: of both sides of the septum; those of the endocardia when left out.
        outflow: under the aortic and the pulmonary valve (Doste et al. 2019,
            doi:10.1002/cnm.3185); None treats the outflow tracts like the rest.
        left_share: depth in the septum, from 0 on its left to 1 on its right side, at which both
            angles pass through zero.
    """

    lv: WallAngles
    rv: WallAngles
    septum: SeptumAngles
    separate: bool = eqx.field(static=True)
    outflow: WallAngles | None
    left_share: float

    def __init__(
        self,
        lv: WallAngles | None = None,
        rv: WallAngles | None = None,
        septum: SeptumAngles | None = None,
        outflow: WallAngles | None = None,
        left_share: float = 0.5,
    ):
        if not 0.0 < left_share < 1.0:
            raise ValueError(
                f"left_share must lie between 0 and 1, got {left_share!r}: it is the depth in the "
                "septum where the angles pass through zero, 0.5 in its middle"
            )
        self.lv = WallAngles() if lv is None else lv
        self.rv = self.lv if rv is None else rv
        self.separate = septum is not None
        ends = (self.lv.alpha_endo, self.rv.alpha_endo, self.lv.beta_endo, self.rv.beta_endo)
        self.septum = SeptumAngles(*ends) if septum is None else septum
        self.outflow, self.left_share = outflow, float(left_share)


class WallGeometry(NamedTuple):
    """What a rule needs to know of every element.

    Attributes:
        left: frames of the left endocardium, its transmural column away from the left cavity, and
            how well each is defined (sine of the angle between its two gradients).
        right: the same of the right one, its transmural column towards the right cavity.
        outer: the same of the epicardium, outward.
        depth: 0 on the endocardia, 1 on the epicardium.
        across: 0 in the left free wall, 1 in the right one, rising through the septum.
        septal: 0 in the free walls, 1 in the septum.
        body: of the left and of the right ventricle: 1 away from the outflow tract, 0 at its valve.
    """

    left: tuple[Frames, PerElement]
    right: tuple[Frames, PerElement]
    outer: tuple[Frames, PerElement]
    depth: PerElement
    across: PerElement
    septal: PerElement
    body: tuple[PerElement, PerElement]


class Prescription(NamedTuple):
    """The angles that a rule asks for in every element.

    Attributes:
        frames: circumferential, longitudinal and transmural columns, outward from the nearer
            cavity.
        alpha: helix angle in them, degrees.
        beta: sheet angle in them, degrees.
        from_left: whether that is the left one.
    """

    frames: Frames
    alpha: PerElement
    beta: PerElement
    from_left: Bool[np.ndarray, " elements"]


def wall_geometry(
    mesh: Mesh, fields: VentricularFields, valves: ValveFields | None = None
) -> WallGeometry:
    """Frames and depths of every element.

    Args:
        mesh: of both ventricles.
        fields: `ventricular_fields(mesh)`.
        valves: `valve_fields(mesh, fields)`; the longitudinal direction is then that to the valves
            (to the inflow valve in the body of a ventricle, to the outflow valve below it) instead
            of that to the nearest part of the base.
    """
    to_left, to_right, out = smooth_gradients(mesh, fields.phi_lv, fields.phi_rv, fields.phi_epi)
    across = np.clip(1.0 - element_mean(mesh, fields.interventricular), 0.0, 1.0)
    everywhere = np.ones(len(mesh.cells))
    if valves is None:
        (up,) = smooth_gradients(mesh, fields.apicobasal)
        ups, body = (up, up), (everywhere, everywhere)
    else:
        ways = [unit(way) for way in smooth_gradients(mesh, *valves.heights)]
        body = (element_mean(mesh, valves.body_lv), element_mean(mesh, valves.body_rv))
        # Directions are mixed, not gradients: those of a small valve are many times steeper.
        ups = tuple(
            unit(share[:, None] * inflow + (1.0 - share)[:, None] * outflow)
            for share, inflow, outflow in zip(body, ways[::2], ways[1::2], strict=True)
        )
    mean_up = (1.0 - across)[:, None] * ups[0] + across[:, None] * ups[1]
    return WallGeometry(
        left=axes_of(ups[0], -to_left),
        right=axes_of(ups[1], to_right),
        outer=axes_of(mean_up, out),
        depth=element_mean(mesh, fields.phi_epi),
        across=across,
        septal=_septal(to_left, to_right, out, across),
        body=(body[0], body[1]),
    )


def rule_angles(
    rule: FibreRule, geometry: WallGeometry
) -> tuple[tuple[PerElement, PerElement], tuple[PerElement, PerElement]]:
    """Angles (alpha, beta) of the endocardial frames and of the epicardial one, degrees.

    Seen from the left endocardium outward, as in the septum, the right wall lies inside out: there
    the endocardial frames take the negative angles.
    """
    left, right = _sides(rule, geometry)
    turn = _turn(rule, geometry.across)
    inner = tuple(np.where(turn > 0, turn * a, turn * b) for a, b in zip(left, right, strict=True))
    across = geometry.across
    outer = tuple((1.0 - across) * a + across * b for a, b in zip(left, right, strict=True))
    return (inner[0], inner[1]), (outer[0], outer[1])


def prescription(rule: FibreRule, geometry: WallGeometry) -> Prescription:
    """The angles of a rule, in the frames of the endocardia as they turn into each other."""
    (alpha, beta), _ = rule_angles(rule, geometry)
    on_left = geometry.across < rule.left_share
    sign = np.where(on_left, 1.0, -1.0)
    outward = np.stack([sign, np.ones_like(sign), sign], axis=1)
    frames = between(geometry.left[0], geometry.right[0], geometry.across) * outward[:, None]
    return Prescription(frames, sign * alpha, sign * beta, on_left)


def _sides(
    rule: FibreRule, geometry: WallGeometry
) -> tuple[tuple[PerElement, PerElement], tuple[PerElement, PerElement]]:
    """Angles (alpha, beta) of each ventricle at every depth, the septum's where it is near."""
    found = []
    ends = (
        (rule.septum.alpha_left, rule.septum.beta_left),
        (rule.septum.alpha_right, rule.septum.beta_right),
    )
    for wall, of_septum, body in zip((rule.lv, rule.rv), ends, geometry.body, strict=True):
        angles = wall.at(geometry.depth)
        if rule.separate:
            share = geometry.septal
            angles = [(1.0 - share) * a + share * b for a, b in zip(angles, of_septum, strict=True)]
        if rule.outflow is not None:
            tract = rule.outflow.at(geometry.depth)
            angles = [body * a + (1.0 - body) * b for a, b in zip(angles, tract, strict=True)]
        found.append((angles[0], angles[1]))
    return found[0], found[1]


def _turn(rule: FibreRule, across: PerElement) -> PerElement:
    """1 on the left side, 0 where the halves of the septum meet, -1 on the right side."""
    share = rule.left_share
    return np.where(across < share, 1.0 - across / share, (share - across) / (1.0 - share))


def _septal(
    to_left: np.ndarray, to_right: np.ndarray, out: np.ndarray, across: PerElement
) -> PerElement:
    """Whether the other side of the wall is the other cavity rather than the epicardium.

    By the steepness of the two: on the left side that of `phi_rv` against that of `phi_epi`.
    """
    left, right, epi = (np.linalg.norm(way, axis=1) for way in (to_left, to_right, out))
    tiny = np.finfo(np.float64).tiny
    on_left, on_right = right / (right + epi + tiny), left / (left + epi + tiny)
    return (1.0 - across) * on_left + across * on_right


def _check(**angles: float) -> None:
    for name, angle in angles.items():
        if not -90.0 <= angle <= 90.0:
            raise ValueError(f"{name} must lie within -90 and 90 degrees, got {angle!r}")
