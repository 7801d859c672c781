"""Ventricular coordinates: where a point lies, in terms that carry over from heart to heart.

Four numbers: which ventricle, how deep in its wall, how high, and how far around. They are built
with the ideas of universal ventricular coordinates (Bayer et al. 2018,
https://doi.org/10.1016/j.media.2018.01.005) and of Cobiveco (Schuler et al. 2021,
https://doi.org/10.1016/j.media.2021.102247): both ventricles are treated alike, the septum is
shared between them along its middle, and depth and height are shares of lengths.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from cardiotwin.anatomy.cavity import is_left_ventricle, named_surface, opening_centre
from cardiotwin.anatomy.coordinates import (
    HeartAxes,
    VentricularFields,
    base_nodes,
    farthest_from_opening,
    heart_axes,
    solve_shares,
    ventricular_fields,
)
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import component_labels, element_faces, face_components
from cardiotwin.anatomy.trajectories import trajectory_lengths
from cardiotwin.anatomy.winding import around_axis, harmonic_angle, wrapped
from cardiotwin.numerics.fem import p1_geometry, stiffness_matrix

VENTRICLES = ("lv", "rv")
# Angle of both insertions of the right ventricle: the septum takes a third of the way around.
INSERTION = np.pi / 3.0
# Height is sampled at so many levels where insertions are looked for.
_LEVELS = 40


class VentricularCoordinates(eqx.Module):
    """Coordinates of the nodes of a biventricular mesh.

    The septum is shared: its left half belongs to the left ventricle, its right half to the right
    one. Nodes of the surface between them have coordinates in both.

    Attributes:
        values: [2, nodes, 3], in the left and the right ventricle: transmural (0 on the
            endocardium, 1 on the epicardium or in the middle of the septum), apicobasal (0 at the
            ventricle's apex, 1 on the base) and rotational (radians, 0 in the middle of the septum,
            +-pi/3 where the other ventricle joins in front and behind, +-pi in the middle of the
            free wall; positive towards the front). NaN where a node is not in that ventricle.
        side: [elements] 0 for the left ventricle and 1 for the right one.
    """

    values: Float[np.ndarray, "2 nodes 3"]
    side: Int[np.ndarray, " elements"]

    @property
    def ventricle(self) -> Int[np.ndarray, " nodes"]:
        """0 or 1 at every node; those of the surface between count to the left."""
        return np.isnan(self.values[0, :, 0]).astype(int)

    @property
    def transmural(self) -> Float[np.ndarray, " nodes"]:
        """Depth at every node, in the ventricle of `ventricle`."""
        return self._of_node(0)

    @property
    def apicobasal(self) -> Float[np.ndarray, " nodes"]:
        """Height at every node, in the ventricle of `ventricle`."""
        return self._of_node(1)

    @property
    def rotational(self) -> Float[np.ndarray, " nodes"]:
        """Angle at every node in radians, in the ventricle of `ventricle`."""
        return self._of_node(2)

    def _of_node(self, which: int) -> Float[np.ndarray, " nodes"]:
        left, right = self.values[:, :, which]
        return np.where(np.isnan(left), right, left)


def ventricular_coordinates(
    mesh: Mesh, fields: VentricularFields | None = None
) -> VentricularCoordinates:
    """Coordinates of a biventricular mesh.

    Args:
        mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base".
        fields: of the mesh, where they are known.

    Raises:
        ValueError: a surface is missing or closed, or a ventricle has no tissue of its own.
        RuntimeError: a solve did not converge.
    """
    if is_left_ventricle(mesh):
        raise ValueError(
            "ventricular coordinates are those of both ventricles, and this is a left ventricle "
            "alone: its depth and height are fields of their own (ventricular_fields), the angle "
            "around it has no insertions to start from. State places in mm instead."
        )
    fields = ventricular_fields(mesh) if fields is None else fields
    axes = heart_axes(mesh)
    side = _sides(mesh, fields)
    values = np.full((2, len(mesh.points), 3), np.nan)
    for which in (0, 1):
        half = _Half.of(mesh, side, which)
        values[which, half.nodes] = half.coordinates(axes)
    return VentricularCoordinates(values, side)


def _sides(mesh: Mesh, fields: VentricularFields) -> Int[np.ndarray, " elements"]:
    """The ventricle of every element: nearer to which endocardium, crumbs given to the other."""
    side = (fields.interventricular[mesh.cells].mean(axis=1) < 0.5).astype(int)
    for which in (0, 1, 0):
        own = np.flatnonzero(side == which)
        if not own.size:
            raise ValueError(
                f"no tissue is nearer to 'endo_{VENTRICLES[which]}' than to the other endocardium; "
                "expected two ventricles. Are the surfaces right?"
            )
        piece = face_components(element_faces(mesh.cells[own]))
        side[own[piece != np.bincount(piece).argmax()]] = 1 - which
    return side


class _Half(NamedTuple):
    """One ventricle as a mesh of its own.

    Attributes:
        name: "lv" or "rv".
        nodes: of the whole mesh.
        points: of those, mm.
        cells: in terms of them.
        endo: nodes on its endocardium.
        outer: nodes on its epicardium, and of the surface that the ventricles share.
        shared: nodes of that surface.
        base: nodes of the base.
        apex: innermost point of its apex, mm.
        up: unit vector from there to its opening.
    """

    name: str
    nodes: Int[np.ndarray, " own"]
    points: Float[np.ndarray, "own 3"]
    cells: Int[np.ndarray, "elements 4"]
    endo: Int[np.ndarray, " endo"]
    outer: Int[np.ndarray, " outer"]
    shared: Int[np.ndarray, " shared"]
    base: Int[np.ndarray, " base"]
    apex: Float[np.ndarray, " 3"]
    up: Float[np.ndarray, " 3"]

    @classmethod
    def of(cls, mesh: Mesh, side: np.ndarray, which: int) -> "_Half":
        """The half of a mesh that belongs to one ventricle."""
        name = VENTRICLES[which]
        nodes, cells = np.unique(mesh.cells[side == which], return_inverse=True)
        mine = np.zeros(len(mesh.points), bool)
        mine[nodes] = True
        beyond = np.zeros_like(mine)
        beyond[mesh.cells[side != which]] = True
        place = np.cumsum(mine) - 1

        def own(chosen: np.ndarray) -> np.ndarray:
            return place[np.unique(chosen)[mine[np.unique(chosen)]]]

        shared = own(np.flatnonzero(mine & beyond))
        endo = own(named_surface(mesh, f"endo_{name}"))
        other = own(named_surface(mesh, f"endo_{VENTRICLES[1 - which]}"))
        epi = own(named_surface(mesh, "epi"))
        opening = opening_centre(mesh, f"endo_{name}")
        apex = farthest_from_opening(mesh, f"endo_{name}", opening)
        return cls(
            name,
            nodes,
            mesh.points[nodes],
            cells.reshape(-1, 4),
            endo,
            np.setdiff1d(np.unique(np.concatenate([epi, shared, other])), endo),
            shared,
            own(base_nodes(mesh)),
            apex,
            (opening - apex) / np.linalg.norm(opening - apex),
        )

    def coordinates(self, axes: HeartAxes) -> Float[np.ndarray, "own 3"]:
        """Transmural, apicobasal and rotational of the half's nodes."""
        gradients, volumes = p1_geometry(self.points, self.cells)
        rough = self._rough_angle(axes)
        angle = harmonic_angle(rough, self.cells, gradients, volumes)
        tip = self._tip(np.flatnonzero(around_axis(angle, self.cells)))
        depth = self._share(gradients, volumes, self.endo, self.outer)
        height = self._share(gradients, volumes, tip, np.setdiff1d(self.base, tip))
        return np.stack([depth, height, self._anchored(angle, height)], axis=1)

    def _tip(self, turning: Int[np.ndarray, " turning"]) -> Int[np.ndarray, " tip"]:
        """Nodes where the axis leaves through the apex; tissue between two valves may hold it too.

        Args:
            turning: elements that hold the axis.
        """
        if not turning.size:
            raise ValueError(
                f"no element of the {self.name} lies on its long axis: the apex is missing; "
                "expected a ventricle that is closed below. Are the surfaces right?"
            )
        cells = self.cells[turning]
        piece = component_labels(cells, len(self.points))[cells[:, 0]]
        rise = (self.points[cells].mean(axis=1) - self.apex) @ self.up
        return np.unique(cells[piece == piece[np.argmin(rise)]])

    def _share(
        self, gradients: np.ndarray, volumes: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> Float[np.ndarray, " own"]:
        """Length to one set over the length between both, along the lines of a Laplace solution."""
        if not (low.size and high.size):
            raise ValueError(
                f"the {self.name} has no nodes on one of its surfaces (apex or endocardium: "
                f"{low.size}, base or epicardium: {high.size}); check the surfaces' names"
            )
        stiffness = stiffness_matrix(self.points, self.cells)
        rising, falling = solve_shares(stiffness, [high, low])
        parts = [
            trajectory_lengths(self.points, self.cells, gradients, volumes, u, start)
            for u, start in ((rising, low), (falling, high))
        ]
        whole = parts[0] + parts[1]
        share = np.where(whole > 0.0, parts[0] / np.where(whole > 0.0, whole, 1.0), rising)
        share[low], share[high] = 0.0, 1.0
        return share

    def _rough_angle(self, axes: HeartAxes) -> Float[np.ndarray, " own"]:
        """An angle that winds once around the cavity: 0 in the septum, positive in front."""
        offset = self.points - self.apex
        if self.name == "lv":
            across = axes.lv_to_rv - self.up * (self.up @ axes.lv_to_rv)
            return np.arctan2(offset @ np.cross(self.up, across), offset @ across)
        # the right cavity is a crescent that no straight line may run along: its septal and its
        # free wall are told apart by a field, and front and back by the place
        stiffness = stiffness_matrix(self.points, self.cells)
        septal, _ = solve_shares(stiffness, [self.shared, np.setdiff1d(self.outer, self.shared)])
        front = np.cross(self.up, axes.lv_to_rv)
        reach = offset @ front / np.ptp(offset @ front)
        return np.arctan2(reach, septal - 0.5)

    def _anchored(
        self, angle: Float[np.ndarray, " own"], height: Float[np.ndarray, " own"]
    ) -> Float[np.ndarray, " own"]:
        """The angle stretched so that the septum lies between -pi/3 and pi/3 at every height."""
        middle = np.angle(np.exp(1j * angle[self.shared]).mean())
        angle = wrapped(angle - middle)
        seam = angle[self.shared], height[self.shared]
        front = _envelope(seam[0], seam[1])
        back = -_envelope(-seam[0], seam[1])
        front, back = (np.interp(height, *_curve(x)) for x in (front, back))
        free = 2.0 * np.pi - (front - back)
        past = np.where(angle > front, angle - front, angle - front + 2.0 * np.pi)
        inside = (angle >= back) & (angle <= front)
        septal = (angle - back) / (front - back) * 2.0 * INSERTION - INSERTION
        around = INSERTION + past / free * (2.0 * np.pi - 2.0 * INSERTION)
        return wrapped(np.where(inside, septal, around))


def _envelope(
    angle: Float[np.ndarray, " seam"], height: Float[np.ndarray, " seam"]
) -> Float[np.ndarray, " levels"]:
    """Largest angle of the shared surface at every level of height, NaN where there is none."""
    level = np.minimum((height * _LEVELS).astype(int), _LEVELS - 1)
    found = np.full(_LEVELS, -np.inf)
    np.maximum.at(found, level, angle)
    return np.where(np.isfinite(found), found, np.nan)


def _curve(
    levels: Float[np.ndarray, " levels"],
) -> tuple[Float[np.ndarray, " known"], Float[np.ndarray, " known"]]:
    """A smooth course of what was found level by level."""
    known = np.flatnonzero(np.isfinite(levels))
    padded = np.pad(levels[known], 2, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    smooth = np.convolve(np.pad(median, 2, mode="edge"), np.ones(5) / 5.0, mode="valid")
    return (known + 0.5) / _LEVELS, smooth


def in_ventricle(coordinates: VentricularCoordinates) -> Bool[np.ndarray, "2 nodes"]:
    """Which nodes have coordinates in the left and in the right ventricle."""
    return ~np.isnan(coordinates.values[:, :, 0])
