"""Fibres measured or built on one mesh, brought to another one.

Directions have no sign, so that they are averaged as dyads f f^T, whose principal axis is the mean
direction. Between samples the dyads are taken to be linear (moving least squares), which follows
the turn of the fibres up to the surfaces of the wall, where samples lie on one side only.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from cardiotwin.anatomy._frames import unit
from cardiotwin.anatomy.fibre_rules import wall_geometry
from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh
from cardiotwin.anatomy.ventricular_map import VentricularMap

_NEIGHBOURS = 16
_MOST_NEIGHBOURS = 256
_AT_ONCE = 20_000  # places, for the memory's sake
_RIDGE = 1e-3  # keeps slopes bounded where neighbours lie in one plane
_NEAR = 1e-2  # of the neighbourhood, squared: how sharply samples are met
_REACH = 2.0  # spacings that a place may lie from its nearest sample
_MOST_UNCOVERED = 0.05
_UNITS = {1e-3: "m", 1e-1: "cm", 1e3: "um"}


class FibreSamples(NamedTuple):
    """Directions at points.

    Attributes:
        places: [samples, 3] mm.
        fibre: [samples, 3], of any length and sign; samples of length zero are ignored.
        sheet: [samples, 3], or None.
    """

    places: Float[np.ndarray, "samples 3"]
    fibre: Float[np.ndarray, "samples 3"]
    sheet: Float[np.ndarray, "samples 3"] | None = None


def fibres_at(
    samples: FibreSamples,
    places: Float[np.ndarray, "places 3"],
    *,
    tolerance: float | None = None,
    smoothing: float = 0.0,
) -> Fibres:
    """Material directions at places, interpolated from samples in the same coordinates.

    Args:
        samples: where the directions are known.
        places: mm, such as the centres of the elements of a mesh.
        tolerance: mm to the nearest sample beyond which a place counts as not covered; twice the
            spacing of the samples or of the places when left out.
        smoothing: standard deviation in mm of a Gaussian that averages noisy samples; 0 goes
            through the samples.

    Returns:
        One frame a place; `replaced` counts the places that are not covered and take the direction
        of their nearest sample, `note` says how far the samples lie.

    Raises:
        ValueError: a sample is not finite, or more than 5 % of the places are not covered; the
            message compares positions and sizes and names the unit that would fit.
    """
    check_smoothing(smoothing)
    samples = _checked(samples)
    tree = KDTree(samples.places)
    distance, nearest = tree.query(places)
    if tolerance is None:
        tolerance = _REACH * max(_spacing(samples.places), _spacing(places))
    far = distance > tolerance
    if far.mean() > _MOST_UNCOVERED:
        raise ValueError(_apart(samples.places, places, distance, tolerance))
    near = ~far
    fibre, sheet = unit(samples.fibre[nearest]), None
    fibre[near] = _principal(_dyads_at(tree, samples.fibre, places[near], smoothing))
    if samples.sheet is not None:
        dyads = _tensors(unit(samples.sheet)[nearest])
        dyads[near] = _dyads_at(tree, samples.sheet, places[near], smoothing)
        across = np.eye(3) - fibre[:, :, None] * fibre[:, None]
        sheet = _principal(across @ dyads @ across)
    note = (
        f"{near.sum()} of {len(places)} elements within {tolerance:.3g} mm of {len(tree.data)} "
        f"samples; distances: median {np.median(distance):.2g} mm, largest {distance.max():.2g} mm"
    )
    return _frames_of(fibre, sheet, int(far.sum()), note)


def fibres_of_heart(
    target: VentricularMap, source: VentricularMap, *, smoothing: float = 0.0
) -> Fibres:
    """Fibres of one heart carried to another through ventricular coordinates.

    Every element looks up the place in the source heart that has its coordinates, and takes the
    directions there as they lie in the wall: against the circumferential, the longitudinal and the
    transmural direction.

    Args:
        target: of the heart that needs fibres.
        source: of the heart whose mesh carries them, in its cell data "fibre" and, if there,
            "sheet".
        smoothing: as in `fibres_at`, mm in the source heart.

    Raises:
        ValueError: the source's mesh carries no directions, or surfaces are missing.
    """
    check_smoothing(smoothing)
    known = fibres_from_mesh(source.mesh)
    centres = source.mesh.centroids()
    place = target.at(target.mesh.centroids())
    found = source.points(place.ventricle, place.transmural, place.apicobasal, place.rotational)
    frames, own = _wall_frames(target), _wall_frames(source)
    with_sheet = "sheet" in source.mesh.cell_data
    fibre = np.empty((len(found), 3))
    sheet = np.empty_like(fibre) if with_sheet else None
    for which in (0, 1):
        here, there = place.ventricle == which, source.coordinates.side == which
        tree = KDTree(centres[there])
        for given, made in ((known.fibre, fibre), (known.sheet, sheet)):
            if made is None or not here.any():
                continue
            local = np.einsum("eij,ei->ej", own[there], given[there])
            lying = _principal(_dyads_at(tree, local, found[here], smoothing))
            made[here] = np.einsum("eij,ej->ei", frames[here], lying)
    return _frames_of(fibre, sheet, 0, f"{len(found)} elements through ventricular coordinates")


def check_smoothing(smoothing: float) -> None:
    """Raise a ValueError unless it is a length."""
    if not (np.isfinite(smoothing) and smoothing >= 0.0):
        raise ValueError(f"smoothing is {smoothing} mm; give 0 for none, or a positive length.")


def _wall_frames(heart: VentricularMap) -> Float[np.ndarray, "elements 3 3"]:
    """Circumferential, longitudinal, transmural, outward from the cavity of each element's side."""
    geometry = wall_geometry(heart.mesh, heart.fields)
    left, right = geometry.left[0], geometry.right[0] * np.array([-1.0, 1.0, -1.0])
    return np.where(heart.coordinates.side[:, None, None] == 0, left, right)


def _checked(samples: FibreSamples) -> FibreSamples:
    fields = [f for f in samples if f is not None]
    if any(f.ndim != 2 or f.shape != (len(samples.places), 3) for f in fields):
        shapes = ", ".join(str(f.shape) for f in fields)
        raise ValueError(
            f"places and directions of samples have shapes {shapes}; expected [samples, 3] alike"
        )
    bad = np.flatnonzero(~np.isfinite(np.concatenate(fields, axis=1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(samples.places)} samples of the fibre field are not finite, the "
            f"first being sample {bad[0]}: leave them out"
        )
    kept = np.linalg.norm(samples.fibre, axis=1) > 0.0
    if not kept.any():
        raise ValueError("all samples of the fibre field have length zero: name another field")
    sheet = None if samples.sheet is None else unit(samples.sheet[kept])
    return FibreSamples(samples.places[kept], unit(samples.fibre[kept]), sheet)


def _spacing(places: np.ndarray) -> float:
    """Median distance between neighbours, mm."""
    if len(places) < 2:
        return 0.0
    some = places[:: 1 + len(places) // 2000]
    return float(np.median(KDTree(places).query(some, k=2)[0][:, 1]))


def _dyads_at(
    tree: KDTree, directions: np.ndarray, places: np.ndarray, smoothing: float
) -> Float[np.ndarray, "places 3 3"]:
    """Dyads of directions at places: a linear fit to those of the nearest samples, by distance."""
    known = np.asarray(tree.data)
    count = min(_neighbours(tree, places, smoothing), tree.n)
    found = np.empty((len(places), 9))
    for begin in range(0, len(places), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        distance, nearest = (np.reshape(x, (-1, count)) for x in tree.query(places[rows], k=count))
        reach = np.maximum(distance.max(axis=1, keepdims=True), np.finfo(float).tiny)
        if smoothing > 0.0:
            weight = np.exp(-0.5 * (distance / smoothing) ** 2) + np.finfo(float).tiny
        else:
            share = (distance / reach) ** 2
            weight = np.maximum(1.0 - share, 1e-6) / (share + _NEAR**2)
        weight /= weight.sum(axis=1, keepdims=True)
        away = (known[nearest] - places[rows, None]) / reach[:, :, None]
        basis = np.concatenate([np.ones_like(distance)[..., None], away], axis=2)
        dyads = _tensors(directions[nearest]).reshape(*nearest.shape, 9)
        matrix = np.einsum("pk,pki,pkj->pij", weight, basis, basis)
        matrix += np.diag([0.0, *[_RIDGE] * 3])
        right = np.einsum("pk,pki,pkc->pic", weight, basis, dyads)
        found[rows] = np.linalg.solve(matrix, right)[:, 0]
    return found.reshape(-1, 3, 3)


def _neighbours(tree: KDTree, places: np.ndarray, smoothing: float) -> int:
    """How many samples count: those within two standard deviations of the smoothing, if any."""
    if smoothing <= 0.0 or not len(places):
        return _NEIGHBOURS
    some = places[:: 1 + len(places) // 200]
    inside = np.median(tree.query_ball_point(some, 2.0 * smoothing, return_length=True))
    return int(np.clip(inside, _NEIGHBOURS, _MOST_NEIGHBOURS))


def _tensors(directions: np.ndarray) -> np.ndarray:
    return directions[..., :, None] * directions[..., None, :]


def _principal(dyads: np.ndarray) -> np.ndarray:
    return np.linalg.eigh(0.5 * (dyads + np.swapaxes(dyads, 1, 2)))[1][..., -1]


def _frames_of(fibre: np.ndarray, sheet: np.ndarray | None, replaced: int, note: str) -> Fibres:
    if sheet is None:
        sheet = np.eye(3)[np.argmin(np.abs(fibre), axis=1)]
    sheet = unit(sheet - fibre * np.einsum("ei,ei->e", fibre, sheet)[:, None])
    return Fibres(fibre, sheet, np.cross(fibre, sheet), replaced, note)


def _apart(known: np.ndarray, places: np.ndarray, distance: np.ndarray, tolerance: float) -> str:
    """Why samples do not cover a heart, and what would mend it."""
    low, high = known.min(axis=0), known.max(axis=0)
    begin, end = places.min(axis=0), places.max(axis=0)
    ratio = np.linalg.norm(high - low) / np.linalg.norm(end - begin)
    fits = [name for factor, name in _UNITS.items() if 0.5 < ratio / factor < 2.0]
    remedy = (
        f"their size fits coordinates in {fits[0]}: give unit={fits[0]}"
        if fits
        else "register the field to the heart, carry it over through ventricular coordinates, or "
        "give a larger tolerance"
    )
    return (
        f"the fibre field does not cover the heart: {(distance > tolerance).sum()} of "
        f"{len(places)} elements lie farther than {tolerance:.3g} mm from its nearest sample "
        f"(median {np.median(distance):.3g} mm). Samples reach from {np.round(low, 3).tolist()} to "
        f"{np.round(high, 3).tolist()} mm, elements from {np.round(begin, 3).tolist()} to "
        f"{np.round(end, 3).tolist()} mm; {remedy}"
    )
