"""Boundary elements on triangulated surfaces: potentials vary linearly over every triangle."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.linalg import lu_factor, lu_solve

from cardiotwin.anatomy.closed_surface import ClosedSurface
from cardiotwin.anatomy.topology import areas

_PAIRS_AT_ONCE = 40_000  # what fits a processor's cache
# Seven points on the triangle, exact to degree five (Radon 1948; Dunavant 1985,
# https://doi.org/10.1002/nme.1620210612)
_R = np.sqrt(15.0)
_A, _B = (6.0 - _R) / 21.0, (6.0 + _R) / 21.0
_SEVEN = np.array(
    [[1 / 3] * 3] + [np.roll([1 - 2 * s, s, s], k).tolist() for s in (_A, _B) for k in range(3)]
)
_WEIGHTS = np.array([9 / 40] + [(155.0 - _R) / 1200.0] * 3 + [(155.0 + _R) / 1200.0] * 3)


def double_layer(
    places: Float[np.ndarray, "n 3"], surface: ClosedSurface
) -> Float[np.ndarray, "n nodes"]:
    """Solid angles over 4 pi, weighted by the linear functions of the surface's nodes.

    Seen from inside, rows sum to one. A triangle in whose plane a point lies adds nothing.
    Solid angle: van Oosterom and Strackee 1983, https://doi.org/10.1109/TBME.1983.325207; its
    share of each corner: de Munck 1992, https://doi.org/10.1109/10.256433.

    Args:
        places: field points, mm.
        surface: normals outward.
    """
    found = np.empty((len(places), len(surface.points)))
    corners = surface.points[surface.triangles]
    gather = _incidence(surface)
    step = max(1, _PAIRS_AT_ONCE // len(corners))
    for start in range(0, len(places), step):
        part = slice(start, start + step)
        shares = _solid_angles(corners[None] - places[part, None, None])
        found[part] = (gather @ shares.reshape(len(shares), -1).T).T
    return found / (4.0 * np.pi)


def _incidence(surface: ClosedSurface) -> sp.csr_matrix:
    """Sums over the corners of all triangles [nodes, 3 triangles]."""
    corners = surface.triangles.ravel()
    entries = (np.ones(len(corners)), (corners, np.arange(len(corners))))
    return sp.csr_matrix(entries, shape=(len(surface.points), len(corners)))


def _solid_angles(y: Float[np.ndarray, "n f 3 3"]) -> Float[np.ndarray, "n f 3"]:
    """Solid angle of triangles seen from the origin, shared among their corners."""
    length = np.linalg.norm(y, axis=-1)
    opposite = np.stack(
        [np.cross(y[..., (k + 1) % 3, :], y[..., (k + 2) % 3, :]) for k in range(3)], -2
    )
    normal = opposite.sum(axis=-2)
    square = np.einsum("nfi,nfi->nf", normal, normal)
    volume = np.einsum("nfi,nfi->nf", y[..., 0, :], opposite[..., 0, :])
    pairs = [
        np.einsum("nfi,nfi->nf", y[..., a, :], y[..., b, :]) for a, b in ((0, 1), (1, 2), (2, 0))
    ]
    below = (
        length.prod(axis=-1)
        + pairs[0] * length[..., 2]
        + pairs[1] * length[..., 0]
        + pairs[2] * length[..., 1]
    )
    angle = 2.0 * np.arctan2(volume, below)
    # in the plane of a triangle nothing is seen of it; its edges would divide by zero
    flat = np.abs(volume) <= 1e-9 * square**0.75
    edge = np.roll(y, -1, axis=-2) - y
    size = np.linalg.norm(edge, axis=-1)
    ahead = np.roll(length, -1, axis=-1) * size + np.einsum(
        "nfki,nfki->nfk", np.roll(y, -1, -2), edge
    )
    behind = length * size + np.einsum("nfki,nfki->nfk", y, edge)
    safe = flat[..., None] | (behind <= 0) | (ahead <= 0)
    line = np.log(np.where(safe, 1.0, ahead) / np.where(safe, 1.0, behind)) / size
    vector = np.einsum("nfk,nfki->nfi", np.roll(line, 1, axis=-1) - line, y)
    across = np.roll(y, -2, axis=-2) - np.roll(y, -1, axis=-2)
    shares = np.einsum("nfki,nfi->nfk", opposite, normal) * angle[..., None]
    shares += volume[..., None] * np.einsum("nfki,nfi->nfk", across, vector)
    return np.where(flat[..., None], 0.0, shares / square[..., None])


def single_layer(
    places: Float[np.ndarray, "n 3"], surface: ClosedSurface
) -> Float[np.ndarray, "n nodes"]:
    """Integrals of the nodes' linear functions over the distance from points, over 4 pi, mm.

    Args:
        places: field points, mm; corners of the surface itself are allowed.
        surface: a triangulated surface.
    """
    corners = surface.points[surface.triangles]
    area = areas(surface.points, surface.triangles)
    samples = np.einsum("qk,fki->fqi", _SEVEN, corners)
    weights = area[:, None] * _WEIGHTS
    found = np.empty((len(places), len(surface.points)))
    gather = _incidence(surface)
    step = max(1, _PAIRS_AT_ONCE // (7 * len(corners)))
    for start in range(0, len(places), step):
        part = places[start : start + step]
        offset = samples[None] - part[:, None, None]
        near = np.linalg.norm(corners[None] - part[:, None, None], axis=-1)
        inverse = weights / np.linalg.norm(offset, axis=-1)
        entries = np.einsum("nfq,qk->nfk", inverse, _SEVEN)
        touching = near.min(axis=-1) <= 1e-9 * np.sqrt(area)
        row, face = np.nonzero(touching)
        corner = near[row, face].argmin(axis=-1)
        entries[row, face] = _touching(corners[face], area[face], corner)
        found[start : start + step] = (gather @ entries.reshape(len(part), -1).T).T
    return found / (4.0 * np.pi)


def _touching(
    corners: Float[np.ndarray, "m 3 3"],
    area: Float[np.ndarray, " m"],
    corner: Int[np.ndarray, " m"],
) -> Float[np.ndarray, "m 3"]:
    """Integrals over triangles one of whose corners is the field point (Duffy's transformation)."""
    rows = np.arange(len(corner))
    order = (corner[:, None] + np.arange(3)) % 3
    own = corners[rows[:, None], order]
    u, w = own[:, 1] - own[:, 0], own[:, 2] - own[:, 0]
    nodes, weights = np.polynomial.legendre.leggauss(12)
    t, weights = (nodes + 1.0) / 2.0, weights / 2.0
    ray = np.linalg.norm(u[:, None] * (1.0 - t)[:, None] + w[:, None] * t[:, None], axis=-1)
    parts = [weights / ray, weights * (1.0 - t) / ray, weights * t / ray]
    found = np.empty((len(corner), 3))
    found[rows[:, None], order] = area[:, None] * np.stack([p.sum(axis=1) for p in parts], axis=1)
    return found


def boundary_inverse(
    surfaces: Sequence[ClosedSurface],
    inside: Sequence[float],
    outside: Sequence[float],
    rows: Float[np.ndarray, "m nodes"],
) -> Float[np.ndarray, "m nodes"]:
    """What potentials on surfaces owe to sources: rows times the inverse of the boundary matrix.

    A source that alone in an infinite medium of conductivity 1 mS/mm gives b [nodes] mV gives
    potentials x with x - (mean over the first surface) = inverse @ b. The constant potential, the
    null space of the matrix, is deflated; the solid angle at a node is what its row lacks.

    Args:
        surfaces: closed, normals outward, the body's own first; none may cross another.
        inside: conductivity just inside each, mS/mm.
        outside: just outside each, mS/mm; 0 for the body's own.
        rows: [m, nodes of all surfaces], such as weights of electrodes.

    Returns:
        [m, nodes], against the mean potential of the first surface.
    """
    places = np.concatenate([surface.points for surface in surfaces])
    blocks = [
        (a - b) * double_layer(places, surface)
        for surface, a, b in zip(surfaces, inside, outside, strict=True)
    ]
    matrix = -np.concatenate(blocks, axis=1)
    matrix[np.diag_indices(len(places))] -= matrix.sum(axis=1)
    first = surfaces[0]
    mean = np.zeros(len(places))
    np.add.at(mean, first.triangles, (areas(first.points, first.triangles) / 3.0)[:, None])
    mean /= mean.sum()
    factors = lu_factor(matrix + np.diag(matrix).mean() * mean[None, :], overwrite_a=True)
    inverse = lu_solve(factors, (rows - mean).T, trans=1).T
    return inverse


def epicardial_transfer(
    heart: ClosedSurface, body: ClosedSurface
) -> Float[np.ndarray, "body heart"]:
    """The matrix that takes potentials on a closed surface around the heart to the body's skin.

    Between both the body is homogeneous and without sources; its skin is insulated. Barr, Ramsey
    and Spach 1977, https://doi.org/10.1109/TBME.1977.326192.

    Args:
        heart: within the body, normals outward.
        body: the skin, normals outward.

    Returns:
        [nodes of the body, nodes of the heart], pure numbers; rows sum to one.
    """
    layers = {}
    for name, places in (("B", body.points), ("H", heart.points)):
        on_body, on_heart = -double_layer(places, body), double_layer(places, heart)
        own = on_body if name == "B" else on_heart
        own[np.diag_indices(len(places))] -= on_body.sum(axis=1) + on_heart.sum(axis=1)
        layers[name] = on_body, on_heart, single_layer(places, heart)
    (bb, bh, gb), (hb, hh, gh) = layers["B"], layers["H"]
    flux = np.linalg.solve(gh, np.concatenate([hb, hh], axis=1))
    to_body, to_heart = np.split(gb @ flux, [len(body.points)], axis=1)
    return np.linalg.solve(bb - to_body, to_heart - bh)
