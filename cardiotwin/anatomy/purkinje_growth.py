"""Fractal Purkinje trees on the endocardia of a heart, from the His bundle to the muscle.

After Sahli Costabal et al. 2016, J Biomech 49:2455, doi 10.1016/j.jbiomech.2015.12.025, which says
how branches bend, divide and end; the bundle branches, the fascicles and the filling of what the
fractal leaves empty are ours.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from cardiotwin._types import Degrees, Millimetres
from cardiotwin.anatomy._endocardium import Endocardium, Landmarks, way_to
from cardiotwin.anatomy._purkinje_sprout import GrowingTree, Rules
from cardiotwin.anatomy.coordinates import (
    HeartAxes,
    VentricularFields,
    heart_axes,
    ventricular_fields,
)
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.purkinje import PurkinjeNetwork

Side = Literal["lv", "rv"]


class _Place(NamedTuple):
    """A place on an endocardium: apicobasal coordinate, angle in degrees, septum or free wall."""

    height: float
    angle: float
    septum: bool


class _Bundle(NamedTuple):
    """Where a bundle branch begins and divides, and where its fascicles end."""

    root: _Place
    fork: _Place
    fascicles: tuple[_Place, ...]


# The left bundle divides high on the septum into a septal, an anterior and a posterior fascicle;
# the right one runs down the septum to the foot of the anterior papillary muscle.
_BUNDLES = {
    "lv": _Bundle(
        _Place(0.85, 0.0, True),
        _Place(0.65, 0.0, True),
        (_Place(0.4, 0.0, True), _Place(0.5, 95.0, False), _Place(0.45, -95.0, False)),
    ),
    "rv": _Bundle(
        _Place(0.85, 0.0, True),
        _Place(0.4, 0.0, True),
        (_Place(0.25, 0.0, True), _Place(0.35, 30.0, False), _Place(0.35, -45.0, False)),
    ),
}
_SHORTEST_BRANCH = 2  # segments
_ROUNDS = 40  # of filling, at most
_TWIGS = 3  # generations that grow from a branch that fills
# Share of the endocardium below which a tree is a failure; sound ones reach 95 % of it.
_LEAST_REACHED = 0.5
# Weight of the way from the root when a branch chooses where to begin, try after try.
_BALANCES = (0.5, 0.0)


class FractalTree(eqx.Module):
    """How a Purkinje tree grows on an endocardium.

    A branch grows by straight segments along the surface, bends away from the rest of the tree,
    and divides in two at its end; one that comes too near to another, or to the base, ends there
    in a junction. When all have ended, further branches grow to what lies farther than `reach`
    from every junction.

    Args:
        branch_length: mean length of a branch.
        branch_spread: standard deviation of that length.
        segment: length of the straight pieces.
        angle: by which each of two branches turns away from the one they grew from.
        repulsion: weight of the direction away from the nearest other branch, in every segment.
        clearance: a branch ends that comes nearer than this to another one, save to the one it
            grew from and that one's other branches.
        generations: how many times a branch may divide.
        reach: farthest that endocardium below `up_to` may lie from a junction, where a branch
            finds room.
        up_to: apicobasal coordinate (0 apex, 1 base) above which nothing but the bundle grows.
        seed: of the random lengths and of the order in which branches grow.
    """

    branch_length: float
    branch_spread: float
    segment: float
    angle: float
    repulsion: float
    clearance: float
    generations: int = eqx.field(static=True)
    reach: float
    up_to: float
    seed: int = eqx.field(static=True)

    def __init__(
        self,
        branch_length: Millimetres = 8.0,
        branch_spread: Millimetres = 0.5,
        segment: Millimetres = 1.0,
        angle: Degrees = 12.0,
        repulsion: float = 0.1,
        clearance: Millimetres = 2.0,
        generations: int = 8,
        reach: Millimetres = 6.0,
        up_to: float = 0.95,
        seed: int = 0,
    ):
        lengths = {
            "branch_length": branch_length,
            "segment": segment,
            "clearance": clearance,
            "reach": reach,
        }
        for name, value in lengths.items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"FractalTree: {name} is {value} mm; give a positive length.")
        if segment > clearance:
            # two segments cross only where ends lie nearer than 0.71 segments
            raise ValueError(
                f"FractalTree: the segment, {segment} mm, is longer than the clearance, "
                f"{clearance} mm: branches could step over each other; shorten the segment."
            )
        if branch_length < _SHORTEST_BRANCH * segment or not 0 <= branch_spread < branch_length:
            raise ValueError(
                f"FractalTree: branches of {branch_length} mm, give or take {branch_spread} mm, of "
                f"segments of {segment} mm: give branches of {_SHORTEST_BRANCH} segments or more, "
                "and a spread below their length."
            )
        if not (0 < angle < 90 and 0 <= repulsion <= 1 and 0 < up_to <= 1):
            raise ValueError(
                f"FractalTree: angle {angle} must lie between 0 and 90 degrees, repulsion "
                f"{repulsion} between 0 and 1, up_to {up_to} between 0 (apex) and 1 (base)."
            )
        if generations < 1:
            raise ValueError(f"FractalTree: generations is {generations}; give 1 or more.")
        self.branch_length, self.branch_spread, self.segment = branch_length, branch_spread, segment
        self.angle, self.repulsion, self.clearance = angle, repulsion, clearance
        self.generations, self.reach, self.up_to = int(generations), reach, up_to
        self.seed = int(seed)

    def grow(
        self,
        mesh: Mesh,
        side: Side,
        *,
        fields: VentricularFields | None = None,
        axes: HeartAxes | None = None,
    ) -> PurkinjeNetwork:
        """Grow the tree of one ventricle.

        Args:
            mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base".
            side: "lv" or "rv".
            fields: the mesh's Laplace solutions; solved when left out.
            axes: its axes; found when left out.

        Returns:
            The network; its junctions are its free ends.

        Raises:
            ValueError: a surface is missing, or the mesh is too coarse or too small for a tree.
        """
        if side not in _BUNDLES:
            raise ValueError(f"FractalTree: side is {side!r}; give 'lv' or 'rv'.")
        fields = ventricular_fields(mesh) if fields is None else fields
        surface = Endocardium(mesh, side)
        marks = Landmarks(mesh, side, surface, fields, heart_axes(mesh) if axes is None else axes)
        return _Growth(self, surface, marks, _BUNDLES[side]).network(side)


def grow_purkinje(
    mesh: Mesh, *, fields: VentricularFields | None = None, tree: FractalTree | None = None
) -> tuple[PurkinjeNetwork, PurkinjeNetwork]:
    """Grow the Purkinje trees of both ventricles.

    Args:
        mesh: with the surfaces "epi", "endo_lv", "endo_rv" and "base".
        fields: its Laplace solutions; solved when left out.
        tree: how the trees grow.

    Returns:
        The left and the right network, on their endocardia.

    Raises:
        ValueError: a surface is missing, or the mesh is too coarse or too small for a tree.
    """
    tree = FractalTree() if tree is None else tree
    fields = ventricular_fields(mesh) if fields is None else fields
    axes = heart_axes(mesh)
    left = tree.grow(mesh, "lv", fields=fields, axes=axes)
    return left, tree.grow(mesh, "rv", fields=fields, axes=axes)


def coverage(mesh: Mesh, network: PurkinjeNetwork, within: float = 10.0) -> float:
    """Share of the area of a network's endocardium that lies within a distance of a junction.

    The distance is that along the edges of the surface, which is longer than the shortest way by
    a tenth or so: the share is a lower bound.

    Args:
        mesh: on whose endocardium the network lies.
        network: with its `side`.
        within: mm.

    Raises:
        ValueError: the network's side is not known, or the surface is missing.
    """
    if network.side is None:
        raise ValueError("coverage: the network has no side; give it side='lv' or 'rv'.")
    surface = Endocardium(mesh, network.side)
    away = _ways_from(surface, network.points[network.junctions])[0]
    return float(surface.share[away <= within].sum() / surface.share.sum())


def _ways_from(
    surface: Endocardium, points: Float[np.ndarray, "n 3"], behind: np.ndarray | None = None
) -> tuple[Float[np.ndarray, " vertices"], Int[np.ndarray, " vertices"], Int[np.ndarray, "n 3"]]:
    """Shortest ways from points near the surface to every vertex; see `ways_from`.

    Args:
        surface: to walk on.
        points: to start from.
        behind: length that each point has behind it already [n], mm.

    Returns:
        Lengths, the vertex before each, and the corners of the triangle of every point.
    """
    corners = surface.faces[surface.nearest_faces(points)]
    offsets = np.linalg.norm(surface.points[corners] - points[:, None], axis=2)
    if behind is not None:
        offsets = offsets + behind[:, None]
    return *surface.ways_from(corners.ravel(), np.maximum(offsets, 1e-9).ravel()), corners


class _Growth:
    """One tree while it grows."""

    def __init__(self, shape: FractalTree, surface: Endocardium, marks: Landmarks, bundle: _Bundle):
        self.shape, self.surface, self.bundle, self.marks = shape, surface, bundle, marks
        self.random = np.random.default_rng(shape.seed)
        rules = Rules(shape.segment, shape.clearance, shape.repulsion, shape.up_to)
        self.tree = GrowingTree(surface, marks.height, rules, marks.vertex_at(*bundle.root))

    def network(self, side: Side) -> PurkinjeNetwork:
        """Grow all there is, and make a network of it."""
        tips = self._fascicles()
        self._divide(tips, self.shape.generations)
        self._fill()
        self._check_reach(side)
        tree = self.tree
        edges = np.stack([tree.parents[1:], np.arange(1, tree.count)], axis=1)
        return PurkinjeNetwork(tree.points, edges, 0, side=side)

    def _check_reach(self, side: Side) -> None:
        """Refuse a tree that leaves out most of the endocardium that it was to reach."""
        below = self.marks.height <= self.shape.up_to
        away = _ways_from(self.surface, self.tree.points[self.tree.ends()])[0]
        near = below & (away <= 2.0 * self.shape.reach)
        share = self.surface.share[near].sum() / self.surface.share[below].sum()
        if share < _LEAST_REACHED:
            raise ValueError(
                f"the Purkinje tree of the {side} reaches {100 * share:.0f} % of its endocardium: "
                "the surface is too rough for branches to run on, as that of voxels is, or too "
                "coarse. Grow it on tetrahedra of the same heart, or read a network from a file."
            )

    def _fascicles(self) -> list[int]:
        """Grow the bundle and its fascicles; return their ends."""
        fork = self.marks.vertex_at(*self.bundle.fork)
        bundle = self._toward(0, self.marks.vertex_at(*self.bundle.root), fork)
        self.insulated = self.tree.count
        return [
            self._toward(bundle, fork, self.marks.vertex_at(*place))
            for place in self.bundle.fascicles
        ]

    def _toward(self, origin: int, start: int, target: int) -> int:
        _, before = self.surface.ways_from(np.array([start]), np.array([1e-9]))
        return self.tree.branch_along(origin, way_to(target, before), through=True).end

    def _divide(self, tips: list[int], generations: int) -> None:
        """Let branches grow in pairs from tips, generation after generation."""
        angle = np.radians(self.shape.angle)
        for _ in range(generations):
            tips = [tips[k] for k in self.random.permutation(len(tips))]
            directions = [(tip, self.tree.turned(tip, a)) for tip in tips for a in (angle, -angle)]
            grown = [self.tree.branch(tip, ahead, self._segments()) for tip, ahead in directions]
            tips = [branch.end for branch in grown if branch.free]
            if not tips:
                return

    def _segments(self) -> int:
        length = self.random.normal(self.shape.branch_length, self.shape.branch_spread)
        return max(_SHORTEST_BRANCH, round(length / self.shape.segment))

    def _fill(self) -> None:
        """Grow branches to what lies farther than `reach` from every junction."""
        below = self.marks.height <= self.shape.up_to
        tries = np.zeros(len(below), int)
        for _ in range(_ROUNDS):
            away, _, _ = _ways_from(self.surface, self.tree.points[self.tree.ends()])
            targets = self._farthest(np.where(below & (tries < len(_BALANCES)), away, 0.0))
            if not targets:
                return
            for balance in _BALANCES:
                these = [vertex for vertex in targets if _BALANCES[tries[vertex]] == balance]
                for origin, way in self._ways(these, balance):
                    grown = self.tree.branch_along(origin, way)
                    if grown.free:
                        self._divide([grown.end], _TWIGS)
            tries[targets] += 1

    def _farthest(self, away: Float[np.ndarray, " vertices"]) -> list[int]:
        """Vertices beyond `reach`, the farthest first, each beyond `reach` of those before."""
        chosen: list[int] = []
        for vertex in np.argsort(-away, kind="stable"):
            if away[vertex] <= self.shape.reach:
                break
            apart = self.surface.points[chosen] - self.surface.points[vertex]
            if (apart**2).sum(axis=1).min(initial=np.inf) > self.shape.reach**2:
                chosen.append(int(vertex))
        return chosen

    def _ways(self, targets: list[int], balance: float) -> list[tuple[int, list[int]]]:
        """For each vertex the node to reach it from, and the way from it over the vertices.

        It is the node with the shortest way, to which `balance` times the way counts that the
        impulse has run already: so the ends of the tree fire early.
        """
        start = self.insulated  # nothing grows from the bundle
        points, behind = self.tree.points[start:], balance * self.tree.depths()[start:]
        _, before, corners = _ways_from(self.surface, points, behind)
        found = []
        for target in targets:
            way = way_to(target, before)
            beside = np.flatnonzero((corners == way[0]).any(axis=1))
            if not beside.size:
                continue  # a speck of surface to which no way leads
            apart = np.linalg.norm(points[beside] - self.surface.points[way[0]], axis=1)
            found.append((start + int(beside[np.argmin(apart + behind[beside])]), way))
        return found
