"""From points of a heart to its ventricular coordinates and back, and the AHA segments."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from cardiotwin.anatomy.coordinates import VentricularFields, ventricular_fields
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.ventricular import (
    INSERTION,
    VENTRICLES,
    VentricularCoordinates,
    ventricular_coordinates,
)
from cardiotwin.anatomy.winding import wrapped
from cardiotwin.numerics.fem import p1_geometry

# Elements that are tried for each point: the nearest ones by their centres.
_CANDIDATES = 48
_AT_ONCE = 20_000  # points, for the memory's sake
_LEVELS = 25


class Place(NamedTuple):
    """Ventricular coordinates of points.

    Attributes:
        ventricle: 0 for the left, 1 for the right one.
        transmural: 0 on the endocardium, 1 on the epicardium or in the middle of the septum.
        apicobasal: 0 at the apex, 1 on the base.
        rotational: radians, 0 in the middle of the septum, positive towards the front.
        distance: mm from the point that was asked for to the place that has these coordinates; 0
            within the tissue.
    """

    ventricle: Int[np.ndarray, " points"]
    transmural: Float[np.ndarray, " points"]
    apicobasal: Float[np.ndarray, " points"]
    rotational: Float[np.ndarray, " points"]
    distance: Float[np.ndarray, " points"]


class VentricularMap:
    """The way between the points of a mesh and their ventricular coordinates.

    Args:
        mesh: biventricular, with its surfaces.
        coordinates: of the mesh; worked out when left out.
        fields: its Laplace solutions, where they are known.

    Raises:
        ValueError: coordinates of another mesh; or as `ventricular_coordinates`.
    """

    def __init__(
        self,
        mesh: Mesh,
        coordinates: VentricularCoordinates | None = None,
        fields: VentricularFields | None = None,
    ):
        self.mesh, self._fields = mesh, fields
        if coordinates is None:
            coordinates = ventricular_coordinates(mesh, self.fields)
        found = coordinates
        self.coordinates = found
        if found.values.shape[1] != len(mesh.points) or len(found.side) != len(mesh.cells):
            raise ValueError(
                f"the coordinates are of a mesh with {found.values.shape[1]} nodes and "
                f"{len(found.side)} elements, this one has {len(mesh.points)} and "
                f"{len(mesh.cells)}; expected coordinates of the same mesh."
            )
        # [elements, 4, 3], rotational within half a turn of the first corner
        self._corners = found.values[found.side[:, None], mesh.cells]
        first = self._corners[:, :1, 2]
        self._corners[:, :, 2] = first + wrapped(self._corners[:, :, 2] - first)
        self._tree = KDTree(mesh.points[mesh.cells].mean(axis=1))
        self._inverse = [_Side(mesh, found, self._corners, which) for which in (0, 1)]

    @property
    def fields(self) -> VentricularFields:
        """Laplace solutions of the mesh, solved once."""
        if self._fields is None:
            self._fields = ventricular_fields(self.mesh)
        return self._fields

    def at(self, points: ArrayLike) -> Place:
        """Coordinates of points.

        Args:
            points: [points, 3] mm, or one [3]; those outside take the place of the nearest element.

        Raises:
            ValueError: points of another shape, or not finite.
        """
        wanted = np.atleast_2d(np.asarray(points, float))
        if wanted.ndim != 2 or wanted.shape[1] != 3 or not np.isfinite(wanted).all():
            raise ValueError(
                f"points have shape {np.shape(points)}; give finite [x, y, z] in mm, one row each."
            )
        corners = self.mesh.points[self.mesh.cells]

        def relative(element: np.ndarray, point: np.ndarray) -> np.ndarray:
            return corners[element] - wanted[point][..., None, :]

        element, share = _within(self._tree, wanted, relative)
        values = np.einsum("kc,kci->ki", share, self._corners[element])
        met = np.einsum("kc,kci->ki", share, corners[element])
        away = np.linalg.norm(met - wanted, axis=1)
        side = self.coordinates.side[element]
        depth, height = np.clip(values[:, :2], 0.0, 1.0).T  # beyond by rounding
        return Place(side, depth, height, wrapped(values[:, 2]), away)

    def points(
        self,
        ventricle: ArrayLike | str,
        transmural: ArrayLike,
        apicobasal: ArrayLike,
        rotational: ArrayLike,
    ) -> Float[np.ndarray, "points 3"]:
        """Points that have given coordinates, or the nearest that the heart has.

        Args:
            ventricle: 0 or "lv", 1 or "rv"; one or one a point.
            transmural: 0 to 1.
            apicobasal: 0 to 1.
            rotational: radians.

        Returns:
            [points, 3] mm.

        Raises:
            ValueError: no such ventricle, or coordinates out of their range.
        """
        if isinstance(ventricle, str):
            if ventricle not in VENTRICLES:
                raise ValueError(f"ventricle is {ventricle!r}; give 'lv' or 'rv'.")
            ventricle = VENTRICLES.index(ventricle)
        which, *rest = np.broadcast_arrays(
            *(np.atleast_1d(x) for x in (ventricle, transmural, apicobasal, rotational))
        )
        wanted = np.stack([np.asarray(x, float) for x in rest], axis=1)
        inside = np.isin(which, (0, 1)) & np.all(
            (wanted[:, :2] >= 0) & (wanted[:, :2] <= 1), axis=1
        )
        inside &= np.isfinite(wanted[:, 2])
        if not inside.all():
            k = int(np.argmin(inside))
            raise ValueError(
                f"point {k}: ventricle {which[k]}, transmural {wanted[k, 0]:g}, apicobasal "
                f"{wanted[k, 1]:g}, rotational {wanted[k, 2]:g}; expected 0 or 1, then two numbers "
                "from 0 to 1 and a finite angle in radians."
            )
        found = np.empty_like(wanted)
        for side in (0, 1):
            mine = which == side
            if mine.any():
                found[mine] = self._inverse[side].points(wanted[mine])
        return found

    def segments(self) -> Int[np.ndarray, " nodes"]:
        """The AHA segment of every node, 1 to 17; 0 in the right free wall.

        Cerqueira et al. 2002, https://doi.org/10.1161/hc0402.102975. Thirds of the height make the
        rings, the insertions of the right ventricle the sectors, and what lies beyond the tip of
        the cavity the apex. The right half of the septum takes the segment of the left half beside.
        """
        values, points = self.coordinates.values, self.mesh.points
        left = np.flatnonzero(~np.isnan(values[0, :, 0]))
        septal = np.abs(values[1, :, 2]) <= INSERTION
        right = np.flatnonzero(np.isnan(values[0, :, 0]) & septal)
        found = np.zeros(len(points), int)
        found[left] = _segment(values[0, left, 1], values[0, left, 2])
        found[left[_beyond_cavity(self.mesh, left)]] = 17
        _, nearest = KDTree(points[left]).query(points[right])
        found[right] = found[left[nearest]]
        return found


def _segment(height: np.ndarray, angle: np.ndarray) -> Int[np.ndarray, " nodes"]:
    """AHA segment of a height and an angle, without the apex."""
    sixth = np.floor(np.remainder(angle, 2.0 * np.pi) / (np.pi / 3.0)).astype(int) % 6
    ring = np.array([2, 1, 6, 5, 4, 3])[sixth]
    quarter = np.floor(np.remainder(angle + np.pi / 4.0, 2.0 * np.pi) / (np.pi / 2.0)).astype(int)
    apical = np.array([14, 13, 16, 15])[quarter % 4]
    return np.where(height >= 2.0 / 3.0, ring, np.where(height >= 1.0 / 3.0, ring + 6, apical))


def _beyond_cavity(mesh: Mesh, nodes: np.ndarray) -> np.ndarray:
    from cardiotwin.anatomy.coordinates import heart_axes

    up = heart_axes(mesh).apex_to_base
    lowest = (mesh.points[np.unique(mesh.surfaces["endo_lv"])] @ up).min()
    return mesh.points[nodes] @ up < lowest


class _Side:
    """Elements of one ventricle in the space of their coordinates.

    Coordinates are laid out as lengths: depth and height along two axes, the angle around two more
    with the wall's own radius, so that what is near in the heart is near there.
    """

    def __init__(
        self, mesh: Mesh, coordinates: VentricularCoordinates, corners: np.ndarray, which: int
    ):
        self.elements = np.flatnonzero(coordinates.side == which)
        self.corners = corners[self.elements]
        self.places = mesh.points[mesh.cells[self.elements]]
        gradients, _ = p1_geometry(mesh.points, mesh.cells[self.elements])
        slopes = np.linalg.norm(np.einsum("eai,eak->eki", gradients, self.corners), axis=2)
        self.thickness, self.height = (1.0 / np.median(slopes[:, k]) for k in (0, 1))
        middle = self.corners.mean(axis=1)
        level = np.minimum((middle[:, 1] * _LEVELS).astype(int), _LEVELS - 1)
        known = np.unique(level)
        radius = [1.0 / np.median(slopes[level == k, 2]) for k in known]
        self.radius = (known + 0.5) / _LEVELS, np.array(radius)
        self.tree = KDTree(self._laid_out(middle))

    def _laid_out(self, values: np.ndarray) -> Float[np.ndarray, "points 4"]:
        depth, height, angle = values.T
        radius = np.interp(height, *self.radius)
        return np.stack(
            [
                depth * self.thickness,
                height * self.height,
                radius * np.cos(angle),
                radius * np.sin(angle),
            ],
            axis=1,
        )

    def points(self, wanted: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
        """Points in mm that have given coordinates."""

        def relative(element: np.ndarray, point: np.ndarray) -> np.ndarray:
            away = self.corners[element] - wanted[point][..., None, :]
            turns = np.round(away[..., :1, 2:] / (2.0 * np.pi)) * 2.0 * np.pi
            away[..., 2:] -= turns
            return away

        element, share = _within(self.tree, self._laid_out(wanted), relative)
        return np.einsum("kc,kci->ki", share, self.places[element])


def _within(
    tree: KDTree,
    wanted: np.ndarray,
    relative: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "points 4"]]:
    """The element that holds each point, or almost, and the shares of its corners.

    Args:
        tree: of the elements' centres.
        wanted: points [points, d] in the tree's space.
        relative: corners [..., 4, 3] of elements [...] less the points of indices [...].
    """
    element = np.empty(len(wanted), int)
    share = np.empty((len(wanted), 4))
    for begin in range(0, len(wanted), _AT_ONCE):
        rows = np.arange(begin, min(begin + _AT_ONCE, len(wanted)))
        count = min(_CANDIDATES, tree.n)
        _, tried = tree.query(wanted[rows], k=count)
        tried = np.reshape(tried, (len(rows), count))
        corners = relative(tried, np.repeat(rows[:, None], count, axis=1))
        shares = _barycentric(corners)
        best = np.argmax(shares.min(axis=2), axis=1)
        chosen = np.arange(len(rows)), best
        held = np.maximum(shares[chosen], 0.0)
        element[rows], share[rows] = tried[chosen], held / held.sum(axis=1, keepdims=True)
    return element, share


def _barycentric(corners: Float[np.ndarray, "... 4 3"]) -> Float[np.ndarray, "... 4"]:
    """Barycentric coordinates of the origin; far outside in an element of no volume."""
    edges = corners[..., 1:, :] - corners[..., :1, :]
    opposite = np.stack(
        [np.cross(edges[..., (k + 1) % 3, :], edges[..., (k + 2) % 3, :]) for k in range(3)],
        axis=-2,
    )
    volume = np.einsum("...i,...i->...", edges[..., 0, :], opposite[..., 0, :])
    flat = volume == 0.0
    last = np.einsum("...ki,...i->...k", opposite, -corners[..., 0, :])
    last = last / np.where(flat, 1.0, volume)[..., None]
    found = np.concatenate([1.0 - last.sum(axis=-1, keepdims=True), last], axis=-1)
    return np.where(flat[..., None], -np.inf, found)
