"""A tree that grows on an endocardium branch by branch and never runs into itself."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cardiotwin.anatomy._endocardium import Endocardium, Foot

# A way is followed by heading for the first of its points that lies farther than so many segments.
_AHEAD = 4.0
# Nodes nearer than this share of a segment touch, whatever branches they belong to.
_TOUCH = 0.3
# A step that the surface shortens below this share of a segment has met its rim.
_STUCK = 0.5
_ROOM = 1024

# From a node and the direction in which it was reached: where to go, None to stop.
Steering = Callable[[int, np.ndarray], np.ndarray | None]


class Rules(NamedTuple):
    """How branches grow: segment and clearance in mm, repulsion, the height where they end."""

    segment: float
    clearance: float
    repulsion: float
    up_to: float


class Branch(NamedTuple):
    """A branch that has grown: its last node, and whether nothing stopped it."""

    end: int
    free: bool


class _Around(NamedTuple):
    """Nodes that a branch can meet, those it keeps its distance from, and how many came before."""

    nodes: np.ndarray
    rivals: np.ndarray
    count: int


class GrowingTree:
    """Nodes on an endocardium, each with the node that it grew from; node 0 is the root.

    Attributes:
        surface: on which the nodes lie.
        height: apicobasal coordinate of its vertices [vertices].
        rules: how branches grow.
        count: number of nodes.
    """

    def __init__(
        self, surface: Endocardium, height: Float[np.ndarray, " vertices"], rules: Rules, root: int
    ):
        """Begin at a vertex of the surface whose vertices have apicobasal coordinates `height`."""
        self.surface, self.height, self.rules = surface, height, rules
        self._points, self._normals = np.empty((_ROOM, 3)), np.empty((_ROOM, 3))
        self._links = np.empty((_ROOM, 3), np.int64)  # parent, branch, face
        self.count, self._branches = 0, 0
        face = int(np.flatnonzero((surface.faces == root).any(axis=1))[0])
        corner = (surface.faces[face] == root).astype(float)
        self._add(Foot(surface.points[root], face, corner), -1)

    @property
    def points(self) -> Float[np.ndarray, "nodes 3"]:
        """Coordinates of the nodes [nodes, 3], mm."""
        return self._points[: self.count]

    @property
    def parents(self) -> Int[np.ndarray, " nodes"]:
        """The node from which each grew [nodes]; -1 for the root."""
        return self._links[: self.count, 0]

    @property
    def faces(self) -> Int[np.ndarray, " nodes"]:
        """The triangle on which each node lies [nodes]."""
        return self._links[: self.count, 2]

    def ends(self) -> Int[np.ndarray, " ends"]:
        """Nodes from which nothing grows, the root left out."""
        return np.setdiff1d(np.arange(1, self.count), self.parents)

    def depths(self) -> Float[np.ndarray, " nodes"]:
        """Length of the tree from the root to every node [nodes], mm."""
        steps = np.linalg.norm(self.points - self.points[self.parents], axis=1)
        depths = np.zeros(self.count)
        for node in range(1, self.count):  # a node comes after its parent
            depths[node] = depths[self.parents[node]] + steps[node]
        return depths

    def turned(self, node: int, angle: float) -> Float[np.ndarray, "3"]:
        """The direction in which a node was reached, turned within the surface (radians)."""
        normal = self._normals[node]
        ahead = _tangent(self.points[node] - self.points[self.parents[node]], normal)
        return np.cos(angle) * ahead + np.sin(angle) * np.cross(normal, ahead)

    def branch(self, origin: int, direction: Float[np.ndarray, "3"], segments: int) -> Branch:
        """Grow a branch of so many segments from a node, bending away from the tree."""
        return self._grow(origin, lambda node, ahead: ahead, direction, segments, through=False)

    def branch_along(self, origin: int, way: Sequence[int], *, through: bool = False) -> Branch:
        """Grow a branch that follows vertices of the surface to the last of them.

        Args:
            origin: node to grow from.
            way: vertices.
            through: keep no distance from other branches, and end at no height.
        """
        targets, step, passed = self.surface.points[list(way)], self.rules.segment, 0

        def steer(node: int, ahead: np.ndarray) -> np.ndarray | None:
            nonlocal passed
            distance = np.linalg.norm(targets - self.points[node], axis=1)
            if distance[-1] <= step:
                return None
            while passed < len(targets) - 1 and distance[passed] < _AHEAD * step:
                passed += 1
            return targets[passed] - self.points[node]

        turns = np.concatenate([self.points[[origin]], targets])
        most = int(1.5 * np.linalg.norm(np.diff(turns, axis=0), axis=1).sum() / step) + 1
        return self._grow(origin, steer, targets[-1], most, through)

    def _add(self, foot: Foot, parent: int) -> int:
        if self.count == len(self._points):
            self._points = np.concatenate([self._points, np.empty_like(self._points)])
            self._normals = np.concatenate([self._normals, np.empty_like(self._normals)])
            self._links = np.concatenate([self._links, np.empty_like(self._links)])
        self._points[self.count] = foot.point
        self._normals[self.count] = self.surface.normals[foot.face]
        self._links[self.count] = parent, self._branches, foot.face
        self.count += 1
        return self.count - 1

    def _grow(
        self, origin: int, steer: Steering, ahead: np.ndarray, segments: int, through: bool
    ) -> Branch:
        self._branches += 1
        around = self._around(origin, segments, through)
        up_to = np.inf if through else self.rules.up_to
        node = origin
        for _ in range(segments):
            wanted = steer(node, ahead)
            if wanted is None:
                break
            foot = self._step(node, wanted, around, up_to)
            if foot is None:
                return Branch(node, free=False)
            ahead = foot.point - self.points[node]
            node = self._add(foot, node)
        return Branch(node, free=True)

    def _around(self, origin: int, segments: int, through: bool) -> _Around:
        """The nodes that a branch of so many segments from a node can come near to."""
        away = _squares(self.points - self.points[origin])
        reached = segments * self.rules.segment + self.rules.clearance + 3.0 * self.rules.segment
        nodes = np.flatnonzero(away <= reached**2)
        branch = self._links[: self.count, 1]
        kin = np.append(branch[self.parents == origin], branch[origin])
        beside = (away[nodes] <= self.rules.clearance**2) | np.isin(branch[nodes], kin)
        return _Around(nodes, nodes[~beside & (not through)], self.count)

    def _step(self, node: int, wanted: np.ndarray, around: _Around, up_to: float) -> Foot | None:
        """Where one segment in the wanted direction ends; None where there is no room for it."""
        start, normal, step = self.points[node], self._normals[node], self.rules.segment
        direction, rivals = _tangent(wanted, normal), self.points[around.rivals]
        if len(rivals):
            apart = start - rivals
            away = apart[np.argmin(_squares(apart))]
            direction = direction + self.rules.repulsion * away / np.sqrt(away @ away)
            direction = _tangent(direction, normal)
        foot = self.surface.foot(start + step * direction, normal)
        advance = foot.point - start
        if advance @ advance < (_STUCK * step) ** 2:
            return None
        if foot.weights @ self.height[self.surface.faces[foot.face]] > up_to:
            return None
        crowded = _squares(rivals - foot.point).min(initial=np.inf) < self.rules.clearance**2
        return None if crowded or self._meets(node, foot.point, around) else foot

    def _meets(self, node: int, end: np.ndarray, around: _Around) -> bool:
        """Whether a segment from a node to `end` touches a node or crosses a segment."""
        step = self.rules.segment
        nodes = np.concatenate([around.nodes, np.arange(around.count, self.count)])
        square = _squares(self.points[nodes] - end)
        close, square = nodes[square < (2.5 * step) ** 2], square[nodes != node]
        if square.min(initial=np.inf) < (_TOUCH * step) ** 2:
            return True
        near = close[(self.parents[close] != node) & (close > 0) & (close != node)]
        along, normal = end - self.points[node], self._normals[node]
        frame = np.array([along / (along @ along), np.cross(normal, along)]).T
        starts = (self.points[self.parents[near]] - self.points[node]) @ frame
        return bool(
            _cross_first_axis(starts, (self.points[near] - self.points[node]) @ frame).any()
        )


def _cross_first_axis(
    starts: Float[np.ndarray, "n 2"], ends: Float[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    """Which segments in the plane cross the stretch of the first axis from 0 to 1."""
    sides = starts[:, 1] * ends[:, 1] < 0.0
    fall = np.where(sides, starts[:, 1] - ends[:, 1], 1.0)
    meets = starts[:, 0] + starts[:, 1] / fall * (ends[:, 0] - starts[:, 0])
    return sides & (meets >= 0.0) & (meets <= 1.0)


def _squares(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    return np.einsum("ij,ij->i", vectors, vectors)


def _tangent(direction: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The unit vector along the surface that a direction has; itself where it has none."""
    flat = direction - normal * (normal @ direction)
    length = np.sqrt(flat @ flat)
    return flat / length if length > 0.0 else direction
