"""Fibre, sheet and sheet-normal directions: built by rule from the anatomy, or read from a file.

Angles: the helix angle alpha turns the fibre from the circumferential direction (anticlockwise
seen from the base) towards the base, in the plane of the wall. A positive angle is a right-handed
helix about the long axis, as on the left endocardium; a negative one a left-handed helix, as on the
epicardium (Streeter et al. 1969, doi:10.1161/01.RES.24.3.339). The sheet angle beta turns the sheet
direction about the fibre, from the outward transmural direction towards the base.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy._frames import (
    ElementVectors,
    bislerp,
    borrowed,
    element_mean,
    oriented,
    smooth_gradients,
    unit,
)
from cardiotwin.anatomy.coordinates import HeartAxes, VentricularFields, ventricular_fields
from cardiotwin.anatomy.fibre_rules import (
    FibreRule,
    SeptumAngles,
    WallAngles,
    WallGeometry,
    rule_angles,
    wall_geometry,
)
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.outflow import ValveFields, valve_fields
from cardiotwin.anatomy.voxels import Voxels

# Sine of the angle between the longitudinal and the transmural gradient below which they do not
# span a frame.
_SMALLEST_SINE = 0.05
_WORST_SHOWN = 5
_RIGHT = 5.0  # degrees that fibre and sheet may be off the perpendicular


class Fibres(eqx.Module):
    """Orthonormal right-handed material directions of every element.

    Attributes:
        fibre: along the myocytes.
        sheet: in the sheet, across the myocytes, about transmural.
        normal: fibre x sheet.
        replaced: number of elements that took the directions of their nearest neighbour, because
            the rule left theirs undefined or no sample was near.
        note: where they came from, for people; empty where a rule or the mesh gave them.
    """

    fibre: ElementVectors
    sheet: ElementVectors
    normal: ElementVectors
    replaced: int = eqx.field(static=True, default=0)
    note: str = eqx.field(static=True, default="")

    def repeated(self, times: int) -> "Fibres":
        """Each element's directions so many times, as for the tetrahedra of a voxel."""
        axes = (np.repeat(axis, times, axis=0) for axis in (self.fibre, self.sheet, self.normal))
        return Fibres(*axes, replaced=self.replaced, note=self.note)


def ldrb(
    mesh: Mesh,
    *,
    alpha_endo: float = 60.0,
    alpha_epi: float = -60.0,
    beta_endo: float = -20.0,
    beta_epi: float = 20.0,
    rv: WallAngles | None = None,
    septum: SeptumAngles | None = None,
    outflow: WallAngles | None = None,
    left_share: float = 0.5,
    fields: VentricularFields | None = None,
    valves: ValveFields | None = None,
) -> Fibres:
    """Rule-based fibres of both ventricles from Laplace solutions (LDRB).

    After Bayer et al. 2012, doi:10.1007/s10439-012-0593-5, with these departures:

    1. The frames of the endocardium and the epicardium are turned by the same angle, linear in the
       depth phi_epi, before they are interpolated. As printed, the angle is interpolated a second
       time with the frames, which bends its course (60 - 120 phi^2 for +60/-60 degrees), and when
       the angles at the two surfaces differ by more than 90 degrees the interpolation leaps, at
       three quarters of the wall for +60/-60, because it takes the shorter way round.
    2. The depth in the septum is 1 - `interventricular` instead of phi_rv / (phi_lv + phi_rv),
       which is zero over zero on the epicardium.
    3. Gradients are averaged to the nodes and back, which removes the scatter of the gradients of
       single elements at a ragged base.

    With `outflow` the longitudinal direction and the angles turn into those of the outflow tracts
    towards the aortic and the pulmonary valve (Doste et al. 2019, doi:10.1002/cnm.3185).

    Args:
        mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base".
        alpha_endo: helix angle on both endocardia in degrees.
        alpha_epi: helix angle on the epicardium in degrees.
        beta_endo: sheet angle on both endocardia in degrees.
        beta_epi: sheet angle on the epicardium in degrees.
        rv: angles of the right free wall and, unless given, the right side of the septum; those
            above when left out.
        septum: angles of both sides of the septum; those of the endocardia when left out.
        outflow: angles at the aortic and the pulmonary valve; the mesh then needs the surfaces
            "mitral", "aortic", "tricuspid" and "pulmonary" too.
        left_share: depth in the septum, from 0 on its left to 1 on its right side, at which both
            angles pass through zero.
        fields: `ventricular_fields(mesh)`, where already computed.
        valves: `valve_fields(mesh, fields)`, where already computed; unused without `outflow`.

    Returns:
        Directions per element.

    Raises:
        ValueError: a surface is missing, or an angle is not within -90 to 90 degrees.
    """
    lv = WallAngles(alpha_endo, alpha_epi, beta_endo, beta_epi)
    rule = FibreRule(lv, rv, septum, outflow, left_share)
    fields = ventricular_fields(mesh) if fields is None else fields
    if outflow is not None and valves is None:
        valves = valve_fields(mesh, fields)
    geometry = wall_geometry(mesh, fields, None if outflow is None else valves)
    return fibres_by_rule(mesh, rule, geometry)


def fibres_by_rule(mesh: Mesh, rule: FibreRule, geometry: WallGeometry) -> Fibres:
    """Directions that a rule asks for, as `ldrb`.

    Args:
        mesh: of both ventricles.
        rule: its angles.
        geometry: `wall_geometry(mesh, fields, valves)`.
    """
    (left, left_sine), (right, right_sine), (outer, outer_sine) = geometry[:3]
    depth, across = geometry.depth, geometry.across
    within, outside = (np.radians(angles) for angles in rule_angles(rule, geometry))
    inner = bislerp(oriented(left, *within), oriented(right, *within), across)
    frames = bislerp(inner, oriented(outer, *outside), depth)
    inner_sine = np.where(across < 0.5, left_sine, right_sine)
    defined = np.where(depth < 0.5, inner_sine, outer_sine) >= _SMALLEST_SINE
    frames = borrowed(mesh, frames, defined)
    fibre, sheet = frames[:, :, 0], frames[:, :, 2]
    return Fibres(fibre, sheet, np.cross(fibre, sheet), int((~defined).sum()))


def helix_angle(
    mesh: Mesh, fibre: ElementVectors, fields: VentricularFields, axes: HeartAxes
) -> Float[np.ndarray, " elements"]:
    """Helix angle in degrees from -90 to 90, by its definition, whatever made the fibres.

    The angle within the wall's tangent plane between the fibre and the circumferential direction
    (long axis x outward normal). Outward is away from the left endocardium in the left ventricle
    and the septum, and away from the right one in the right ventricle.

    Args:
        mesh: of the ventricles.
        fibre: [elements, 3].
        fields: `ventricular_fields(mesh)`.
        axes: `heart_axes(mesh)`.
    """
    left = element_mean(mesh, fields.interventricular) >= 0.5
    to_left, to_right = smooth_gradients(mesh, fields.phi_lv, fields.phi_rv)
    outward = -unit(np.where(left[:, None], to_left, to_right))
    around = unit(np.cross(axes.apex_to_base, outward))
    along = np.cross(outward, around)
    angle = np.degrees(
        np.arctan2(np.einsum("ei,ei->e", fibre, along), np.einsum("ei,ei->e", fibre, around))
    )
    return (angle + 90.0) % 180.0 - 90.0


def fibres_from_mesh(mesh: Mesh | Voxels, *, largest_deviation: float = _RIGHT) -> Fibres:
    """Material directions that the mesh carries in its cell data "fibre" and, if there, "sheet".

    Fibres are normalised. A sheet direction is made perpendicular to its fibre when it nearly is.
    Without one it is the direction perpendicular to the fibre and nearest to a coordinate axis,
    which is enough for conduction that is the same in all directions across the fibre.

    Args:
        mesh: with the cell data "fibre" [elements, 3] of any length but zero.
        largest_deviation: degrees that the angle between fibre and sheet may differ from 90.

    Raises:
        ValueError: there is no fibre field, its shape is wrong, a vector is zero or not finite, or
            fibre and sheet are not perpendicular; the message names the worst elements.
    """
    return _frames(mesh.cell_data, len(mesh.cells), largest_deviation)


def uniform_fibres(elements: int, fibre: Any, sheet: Any = None) -> Fibres:
    """The same material directions in every element.

    Args:
        elements: how many there are.
        fibre: [3], of any length but zero.
        sheet: [3] across it; the direction nearest to a coordinate axis when left out.

    Raises:
        ValueError: a vector is zero or not finite, or they are not perpendicular.
    """
    given = {"fibre": fibre} | ({} if sheet is None else {"sheet": sheet})
    frame = _frames({name: np.atleast_2d(vector) for name, vector in given.items()}, 1, _RIGHT)
    fibre, sheet, normal = (
        np.repeat(axis, elements, axis=0) for axis in (frame.fibre, frame.sheet, frame.normal)
    )
    return Fibres(fibre, sheet, normal)


def mean_fibres(fibres: Fibres, group: int) -> Fibres:
    """Material directions of consecutive groups of elements, whatever sign each carries.

    Args:
        fibres: [elements, 3] each.
        group: elements in a group, such as the tetrahedra of a voxel.
    """
    fibre, sheet = (
        np.einsum("egi,egj->eij", *[axis.reshape(-1, group, 3)] * 2)
        for axis in (fibres.fibre, fibres.sheet)
    )
    along = np.linalg.eigh(fibre)[1][..., -1]
    across = np.eye(3) - along[:, :, None] * along[:, None]
    sheet = np.linalg.eigh(across @ sheet @ across)[1][..., -1]
    return Fibres(along, sheet, np.cross(along, sheet), fibres.replaced, fibres.note)


def _frames(fields: Mapping[str, Any], elements: int, largest_deviation: float) -> Fibres:
    """Material directions from the fields "fibre" and, if there, "sheet", checked."""
    fibre = _direction(fields, elements, "fibre")
    if "sheet" in fields:
        sheet = _direction(fields, elements, "sheet")
        cosine = np.einsum("ei,ei->e", fibre, sheet)
        deviation = np.degrees(np.arcsin(np.clip(np.abs(cosine), 0.0, 1.0)))
        worst = np.argsort(-deviation)[:_WORST_SHOWN]
        if deviation[worst[0]] > largest_deviation:
            named = ", ".join(f"{k} ({deviation[k]:.1f})" for k in worst)
            raise ValueError(
                f"fibre and sheet must be perpendicular to {largest_deviation:g} degrees, but "
                f"{int((deviation > largest_deviation).sum())} elements deviate by more, the worst "
                f"being element (degrees): {named}; leave the sheet field out, or build the "
                "directions by rule (ldrb)"
            )
    else:
        sheet = np.eye(3)[np.argmin(np.abs(fibre), axis=1)]
    sheet = unit(sheet - fibre * np.einsum("ei,ei->e", fibre, sheet)[:, None])
    return Fibres(fibre, sheet, np.cross(fibre, sheet))


def _direction(fields: Mapping[str, Any], elements: int, name: str) -> ElementVectors:
    """A normalised vector field from the cell data, checked."""
    field = fields.get(name)
    if field is None:
        have = ", ".join(repr(key) for key in fields) or "none"
        raise ValueError(
            f"the mesh has no cell data {name!r} (it has: {have}); build fibres by rule (ldrb), or "
            "name the file's array when reading it"
        )
    field = np.asarray(field, np.float64)
    if field.shape != (elements, 3):
        raise ValueError(
            f"the cell data {name!r} must hold one vector for each of {elements} elements, "
            f"got shape {field.shape}"
        )
    length = np.linalg.norm(field, axis=1)
    bad = np.flatnonzero(~np.isfinite(length) | (length < 1e-9))
    if len(bad):
        named = ", ".join(f"{k} {field[k].tolist()}" for k in bad[:_WORST_SHOWN])
        raise ValueError(
            f"{len(bad)} of {len(field)} vectors of the cell data {name!r} are zero or not finite, "
            f"the first being element: {named}; give every element a direction, or build fibres by "
            "rule (ldrb)"
        )
    return field / length[:, None]
