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
import scipy.sparse as sp
from jaxtyping import Float
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from cardiotwin.anatomy.coordinates import HeartAxes, VentricularFields, ventricular_fields
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.numerics.fem import p1_geometry

ElementVectors = Float[np.ndarray, "elements 3"]
Frames = Float[np.ndarray, "elements 3 3"]

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
            the rule left theirs undefined.
    """

    fibre: ElementVectors
    sheet: ElementVectors
    normal: ElementVectors
    replaced: int = eqx.field(static=True, default=0)


def ldrb(
    mesh: Mesh,
    *,
    alpha_endo: float = 60.0,
    alpha_epi: float = -60.0,
    beta_endo: float = -20.0,
    beta_epi: float = 20.0,
    fields: VentricularFields | None = None,
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

    Args:
        mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base".
        alpha_endo: helix angle on both endocardia in degrees.
        alpha_epi: helix angle on the epicardium in degrees.
        beta_endo: sheet angle on both endocardia in degrees.
        beta_epi: sheet angle on the epicardium in degrees.
        fields: `ventricular_fields(mesh)`, where already computed.

    Returns:
        Directions per element.

    Raises:
        ValueError: a surface is missing, or an angle is not within -90 to 90 degrees.
    """
    angles = {"alpha_endo": alpha_endo, "alpha_epi": alpha_epi}
    angles |= {"beta_endo": beta_endo, "beta_epi": beta_epi}
    for name, angle in angles.items():
        if not -90.0 <= angle <= 90.0:
            raise ValueError(f"{name} must lie within -90 and 90 degrees, got {angle!r}")
    fields = ventricular_fields(mesh) if fields is None else fields
    up, to_left, to_right, out = _gradients(
        mesh, fields.apicobasal, fields.phi_lv, fields.phi_rv, fields.phi_epi
    )
    left, left_sine = _axes(up, -to_left)
    right, right_sine = _axes(up, to_right)
    outer, outer_sine = _axes(up, out)
    depth = _element_mean(mesh, fields.phi_epi)
    across = np.clip(1.0 - _element_mean(mesh, fields.interventricular), 0.0, 1.0)
    # Seen from the left endocardium outward, as in the septum, the right wall lies inside out: its
    # angles change their sign.
    side = 1.0 - 2.0 * across
    alpha = np.radians((1.0 - depth) * alpha_endo + depth * alpha_epi)
    beta = np.radians((1.0 - depth) * beta_endo + depth * beta_epi)
    inner = _bislerp(
        _orient(left, side * alpha, side * beta), _orient(right, side * alpha, side * beta), across
    )
    frames = _bislerp(inner, _orient(outer, alpha, beta), depth)
    inner_sine = np.where(across < 0.5, left_sine, right_sine)
    defined = np.where(depth < 0.5, inner_sine, outer_sine) >= _SMALLEST_SINE
    frames = _borrow(mesh, frames, defined)
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
    left = _element_mean(mesh, fields.interventricular) >= 0.5
    to_left, to_right = _gradients(mesh, fields.phi_lv, fields.phi_rv)
    outward = -_unit(np.where(left[:, None], to_left, to_right))
    around = _unit(np.cross(axes.apex_to_base, outward))
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
    return Fibres(along, sheet, np.cross(along, sheet))


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
    sheet = _unit(sheet - fibre * np.einsum("ei,ei->e", fibre, sheet)[:, None])
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


def _element_mean(mesh: Mesh, field: np.ndarray) -> Float[np.ndarray, " elements"]:
    return field[mesh.cells].mean(axis=1)


def _gradients(mesh: Mesh, *fields: np.ndarray) -> list[ElementVectors]:
    """Gradients of nodal fields, averaged to the nodes and back to the elements.

    The gradient within one element is off where the mesh is coarse or its boundary ragged (as the
    base of a segmented heart is); the volume-weighted mean at the nodes is more accurate.
    """
    shapes, volumes = p1_geometry(mesh.points, mesh.cells)
    nodes, corners = len(mesh.points), mesh.cells.ravel()
    share = sp.csr_matrix(
        (np.repeat(volumes, 4), (corners, np.repeat(np.arange(len(volumes)), 4))),
        shape=(nodes, len(volumes)),
    )
    weight = np.bincount(corners, np.repeat(volumes, 4), nodes)[:, None]
    means = []
    for field in fields:
        at_nodes = (share @ np.einsum("eai,ea->ei", shapes, field[mesh.cells])) / weight
        means.append(at_nodes[mesh.cells].mean(axis=1))
    return means


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float64).tiny)


def _axes(up: ElementVectors, through: ElementVectors) -> tuple[Frames, np.ndarray]:
    """Frames (circumferential, longitudinal, transmural), and how well they are defined.

    Returns:
        Columns e0 = e1 x e2, e1 along `up`, e2 the part of `through` perpendicular to it; and the
        sine of the angle between the two, zero where a gradient vanishes.
    """
    e1 = _unit(up)
    across = _unit(through)
    across -= e1 * np.einsum("ei,ei->e", e1, across)[:, None]
    sine = np.where(np.linalg.norm(e1, axis=1) > 0.5, np.linalg.norm(across, axis=1), 0.0)
    spare = np.eye(3)[np.argmin(np.abs(e1), axis=1)]  # any frame where there is none
    spare -= e1 * np.einsum("ei,ei->e", e1, spare)[:, None]
    e1 = np.where(np.linalg.norm(e1, axis=1, keepdims=True) > 0.5, e1, np.roll(spare, 1, axis=1))
    e2 = _unit(np.where(sine[:, None] > 1e-6, across, spare))
    return np.stack([np.cross(e1, e2), e1, e2], axis=2), sine


def _orient(frames: Frames, alpha: np.ndarray, beta: np.ndarray) -> Frames:
    """Turn frames by the helix angle about e2, then by the sheet angle about the fibre; radians."""
    e0, e1, e2 = (frames[:, :, k] for k in range(3))
    cos_a, sin_a, cos_b, sin_b = (
        function(angle)[:, None] for angle in (alpha, beta) for function in (np.cos, np.sin)
    )
    fibre = cos_a * e0 + sin_a * e1
    upward = cos_a * e1 - sin_a * e0
    return np.stack([fibre, cos_b * upward - sin_b * e2, sin_b * upward + cos_b * e2], axis=2)


def _bislerp(first: Frames, second: Frames, weight: np.ndarray) -> Frames:
    """Interpolate frames whose axes have no sign: Bayer's bidirectional spherical interpolation.

    Half turns about its own axes (q i, q j, q k) leave a frame the same; the one nearest to the
    second frame is interpolated to it, along the shorter of the two ways round.
    """
    x, y, z, w = (q := Rotation.from_matrix(first).as_quat()).T
    other = Rotation.from_matrix(second).as_quat()
    turned = np.stack(
        [
            q,
            np.stack([w, z, -y, -x], axis=1),
            np.stack([-z, w, x, -y], axis=1),
            np.stack([y, -x, w, -z], axis=1),
        ]
    )
    cosine = np.einsum("kei,ei->ke", turned, other)
    best = np.argmax(np.abs(cosine), axis=0)
    rows = np.arange(len(best))
    cosine = cosine[best, rows]
    start = turned[best, rows] * np.where(cosine < 0.0, -1.0, 1.0)[:, None]
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    a = np.where(near, 1.0 - weight, np.sin((1.0 - weight) * angle) / safe)
    b = np.where(near, weight, np.sin(weight * angle) / safe)
    return Rotation.from_quat(a[:, None] * start + b[:, None] * other).as_matrix()


def _borrow(mesh: Mesh, frames: Frames, defined: np.ndarray) -> Frames:
    """Give elements without a frame that of the nearest element with one."""
    if defined.all():
        return frames
    if not defined.any():
        raise ValueError(
            "no element has a fibre direction: the longitudinal and transmural gradients are "
            "parallel everywhere; check the labels of the surfaces"
        )
    centres = mesh.points[mesh.cells].mean(axis=1)
    _, nearest = KDTree(centres[defined]).query(centres[~defined])
    filled = frames.copy()
    filled[~defined] = frames[defined][nearest]
    return filled
