"""The atria of a heart: their walls, the openings of valves and veins, and landmarks.

Atria have no apex and no plane of a base; what they have is openings. Every opening is a loop of
edges where the endocardium ends, and is told by where it lies: the valves lie next to each other,
the veins of a side together, the appendages in front.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from cardiotwin.anatomy._frames import unit
from cardiotwin.anatomy.cavity import rim_edges
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import component_labels, match_faces

ATRIA = ("la", "ra")
# Loops of the endocardium that are shorter are flaws of the labels, mm.
_SHORTEST_LOOP = 12.0
# A node within this many thicknesses of the wall of an opening lies on its cut edge, where the
# boundary looks along the opening's axis to within this angle.
_REACH, _EDGE_ON = 1.6, np.cos(np.radians(50.0))
# Radius of the patch of wall that stands for the tip of an appendage, mm.
_TIP = 3.0
# The sinus node lies this far below the superior caval vein, towards the appendage, mm.
_SINUS_NODE_BELOW = 8.0

Point = Sequence[float]
Nodes = Int[np.ndarray, " n"]


class Atrium(NamedTuple):
    """One atrium as a mesh of its own.

    Attributes:
        mesh: of its wall.
        nodes: [nodes] of them in the whole mesh.
        elements: [elements] of the whole mesh.
        endo: nodes on the endocardium.
        epi: nodes on the outside, and where the wall borders on the rest of the heart.
        openings: node numbers of each opening with the cut edge of the wall around it. Left:
            "mitral", "left_veins", "right_veins" and "appendage"; right: "tricuspid",
            "superior_cava", "inferior_cava" and "appendage". An appendage that is closed is the
            patch of wall at its tip; a left one that is neither open nor named is not among them.
    """

    mesh: Mesh
    nodes: Nodes
    elements: Nodes
    endo: Nodes
    epi: Nodes
    openings: dict[str, Nodes]

    def centre(self, opening: str) -> Float[np.ndarray, " 3"]:
        """Mean of an opening's nodes, mm."""
        return self.mesh.points[self.openings[opening]].mean(axis=0)


class Atria(NamedTuple):
    """Both atria of a heart.

    Attributes:
        left: the left atrium.
        right: the right atrium.
        up: unit vector from the inferior to the superior caval vein.
        forward: unit vector across it, away from the spine.
    """

    left: Atrium
    right: Atrium
    up: Float[np.ndarray, " 3"]
    forward: Float[np.ndarray, " 3"]


class _Part(NamedTuple):
    """An atrium whose openings have no names yet."""

    mesh: Mesh
    nodes: Nodes
    elements: Nodes
    endo: Nodes
    epi: Nodes
    loops: list[Nodes]

    @property
    def centres(self) -> Float[np.ndarray, "loops 3"]:
        return np.array([self.mesh.points[loop].mean(axis=0) for loop in self.loops])


def find_atria(
    mesh: Mesh, *, left_appendage: Point | None = None, right_appendage: Point | None = None
) -> Atria:
    """Find both atria of a mesh, their openings and appendages.

    The tricuspid valve is the longest opening of the right atrium, the caval veins are the next
    two, and the mitral valve is the opening of the left atrium next to it. Of the caval veins the
    superior one is nearer to the left atrium. From them follow the directions up and forward. Veins
    of the left atrium on the side of the right one are right veins; its appendage is the foremost
    of the others, where there are several. The right appendage is what reaches farthest forward
    and up.

    Args:
        mesh: with the regions "la" and "ra" and the surfaces "endo_la" and "endo_ra", which end at
            the valves and veins; other regions are left aside.
        left_appendage: tip of the left appendage [x, y, z], mm, where it is closed.
        right_appendage: tip of the right appendage, mm; found when left out.

    Raises:
        ValueError: a region, a surface or an opening is missing, or a tip lies off the atrium.
    """
    left, right = (_part(mesh, name) for name in ATRIA)
    longest = np.argsort([-_length(right.mesh, loop) for loop in right.loops])
    valve, *veins = (int(k) for k in longest[:3])  # the coronary sinus is shorter
    middle = left.mesh.points.mean(axis=0)
    away = np.linalg.norm(right.centres[veins] - middle, axis=1)
    upper, lower = (veins[k] for k in np.argsort(away))
    up = right.centres[upper] - right.centres[lower]
    up /= np.linalg.norm(up)
    leftward = middle - right.mesh.points.mean(axis=0)
    leftward -= up * (up @ leftward)
    forward = np.cross(leftward, up) / np.linalg.norm(leftward)
    tip = _foremost(right, forward + up) if right_appendage is None else right_appendage
    openings = {"tricuspid": valve, "superior_cava": upper, "inferior_cava": lower}
    named = {name: right.loops[k] for name, k in openings.items()}
    named["appendage"] = _patch(right, tip, "right_appendage")
    return Atria(
        _named(left, _left_openings(left, right.centres[valve], leftward, forward, left_appendage)),
        _named(right, named),
        up,
        forward,
    )


def tricuspid_halves(atria: Atria) -> tuple[Nodes, Nodes]:
    """Nodes of the tricuspid ring on the side of the septum and on that of the free wall.

    The plane through the centres of the valve and of both caval veins divides them (Piersanti et
    al. 2021, doi:10.1016/j.cma.2020.113468).
    """
    right = atria.right
    ring = right.openings["tricuspid"]
    side = (right.mesh.points[ring] - right.centre("tricuspid")) @ _across(atria)
    return ring[side >= 0.0], ring[side < 0.0]


def roof(atria: Atria) -> Nodes:
    """Nodes of the right atrium between the caval veins, opposite the valve.

    Of the wall that the plane of `tricuspid_halves` cuts, the piece farthest from the valve.
    """
    right = atria.right
    cells, points = right.mesh.cells, right.mesh.points
    offset = (points - right.centre("tricuspid")) @ _across(atria)
    cut = cells[(offset[cells].min(axis=1) <= 0.0) & (offset[cells].max(axis=1) >= 0.0)]
    rings = np.concatenate([v for k, v in right.openings.items() if k != "appendage"])
    cut = cut[~np.isin(cut, rings).any(axis=1)]  # the rings hold the pieces together
    piece = component_labels(cut, len(points))[cut[:, 0]]
    away = KDTree(points[right.openings["tricuspid"]]).query(points[cut].mean(axis=1))[0]
    names, size = np.unique(piece, return_counts=True)
    large = names[size >= 0.1 * size.max()]
    nearest = [away[piece == name].min() for name in large]
    return np.unique(cut[piece == large[int(np.argmax(nearest))]])


def sinus_node(atria: Atria) -> Float[np.ndarray, " 3"]:
    """Where the sinus node lies, mm.

    Under the epicardium where the superior caval vein meets the right appendage, at the upper end
    of the crista terminalis (Chandler et al. 2009, doi:10.1161/CIRCULATIONAHA.108.844357).
    """
    right = atria.right
    ring = right.mesh.points[right.openings["superior_cava"]]
    tip = right.centre("appendage")
    begin = ring[np.argmin(np.linalg.norm(ring - tip, axis=1))]
    way = (tip - begin) / np.linalg.norm(tip - begin)
    outside = right.mesh.points[right.epi]
    return outside[KDTree(outside).query(begin + _SINUS_NODE_BELOW * way)[1]]


def _across(atria: Atria) -> Float[np.ndarray, " 3"]:
    """Normal of the plane through the right atrium's valve and veins, towards the left atrium."""
    right = atria.right
    valve, upper, lower = map(right.centre, ("tricuspid", "superior_cava", "inferior_cava"))
    normal = np.cross(upper - valve, lower - valve)
    return normal * np.sign(normal @ (atria.left.mesh.points.mean(axis=0) - valve))


def _part(mesh: Mesh, name: str) -> _Part:
    """One atrium, its boundary shared out between endocardium, cut edges and the outside."""
    label = {known: label for label, known in mesh.region_names}.get(name)
    faces = mesh.surfaces.get(f"endo_{name}")
    if label is None or faces is None:
        regions = ", ".join(repr(known) for _, known in mesh.region_names) or "none"
        raise ValueError(
            f"fibres of atria need the regions 'la' and 'ra' and the surfaces 'endo_la' and "
            f"'endo_ra'; the mesh has the regions {regions} and the surfaces "
            f"{', '.join(map(repr, mesh.surfaces)) or 'none'}. Keep both atria and name them when "
            "reading the file (names=..., keep=[la, ra])."
        )
    own, nodes = mesh.submesh(mesh.regions == label, allow_components=True)
    endo_faces = own.surfaces.get(f"endo_{name}", np.empty((0, 3), int))
    loops = _loops(own, endo_faces)
    if len(loops) < 3:
        raise ValueError(
            f"the surface 'endo_{name}' has {len(loops)} openings; expected at least three, the "
            "valve and veins of both sides. Cut the veins open, or name the surface so that it "
            "ends there."
        )
    boundary = own.boundary_faces()
    rest = boundary[match_faces(boundary, endo_faces) < 0]
    endo = np.unique(endo_faces)
    edges = [_cut_edge(own, endo, rest, loop) for loop in loops]
    taken = np.concatenate([endo, *edges])
    epi = np.setdiff1d(rest, taken)
    return _Part(own, nodes, np.flatnonzero(mesh.regions == label), endo, epi, edges)


def _loops(mesh: Mesh, faces: Int[np.ndarray, "faces 3"]) -> list[Nodes]:
    """Nodes of the loops of edges where a surface ends, without those too short for a vein."""
    if not len(faces):
        return []
    edges = rim_edges(faces)
    label = component_labels(edges, mesh.nodes)[edges[:, 0]] if len(edges) else edges[:, 0]
    loops = [np.unique(edges[label == k]) for k in np.unique(label)]
    return [loop for loop in loops if _length(mesh, loop) > _SHORTEST_LOOP]


def _length(mesh: Mesh, loop: Nodes) -> float:
    """Circumference of a ring of nodes, from their mean distance to its centre, mm."""
    offset = mesh.points[loop] - mesh.points[loop].mean(axis=0)
    return float(2.0 * np.pi * np.linalg.norm(offset, axis=1).mean())


def _cut_edge(mesh: Mesh, endo: Nodes, rest: Int[np.ndarray, "faces 3"], loop: Nodes) -> Nodes:
    """A loop with the edge of the wall that was cut there: faces near it that look along it."""
    points = mesh.points
    outside = np.unique(rest)
    thickness = float(np.median(KDTree(points[endo]).query(points[outside])[0]))
    centre = points[loop].mean(axis=0)
    axis = np.linalg.svd(points[loop] - centre)[2][2]  # across the plane that fits best
    away = KDTree(points[loop]).query(points)[0]
    near = (away[rest] <= _REACH * thickness).all(axis=1)
    corners = points[rest]
    normal = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    edge = rest[near & (np.abs(normal @ axis) > _EDGE_ON)]
    return np.union1d(loop, edge)


def _left_openings(
    left: _Part,
    tricuspid: Float[np.ndarray, " 3"],
    leftward: Float[np.ndarray, " 3"],
    forward: Float[np.ndarray, " 3"],
    tip: Point | None,
) -> dict[str, Nodes]:
    """Names of the openings of the left atrium."""
    centres = left.centres
    mitral = int(np.argmin(np.linalg.norm(centres - tricuspid, axis=1)))
    beyond = (centres - left.mesh.points.mean(axis=0)) @ leftward > 0.0
    others = np.arange(len(centres)) != mitral
    on_left, on_right = np.flatnonzero(others & beyond), np.flatnonzero(others & ~beyond)
    named = {"mitral": left.loops[mitral]}
    if tip is not None:
        named["appendage"] = _patch(left, tip, "left_appendage")
        touched = [k for k in on_left if np.isin(left.loops[k], named["appendage"]).any()]
        on_left = np.setdiff1d(on_left, touched)
    elif len(on_left) >= 2:
        foremost = on_left[np.argmax(centres[on_left] @ forward)]
        named["appendage"] = left.loops[foremost]
        on_left = on_left[on_left != foremost]
    if not (len(on_left) and len(on_right)):
        raise ValueError(
            f"the left atrium has {len(centres)} openings, {len(on_left)} veins on the left and "
            f"{len(on_right)} on the right; expected the mitral valve and veins on both sides. Cut "
            "the veins open."
        )
    named["left_veins"] = np.concatenate([left.loops[k] for k in on_left])
    named["right_veins"] = np.concatenate([left.loops[k] for k in on_right])
    return named


def _foremost(part: _Part, way: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """The point of the outside that reaches farthest along a direction."""
    outside = part.mesh.points[part.epi]
    return outside[np.argmax(outside @ way)]


def _patch(part: _Part, tip: Point | np.ndarray, name: str) -> Nodes:
    """Nodes of the wall around a point."""
    place = np.asarray(tip, np.float64)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError(f"{name} is {tip!r}; expected the tip of the appendage, [x, y, z] in mm.")
    away = np.linalg.norm(part.mesh.points - place, axis=1)
    if away.min() > _TIP:
        raise ValueError(
            f"{name} is {place.tolist()}, which lies {away.min():.1f} mm from the atrium; expected "
            "a point of its wall, in mm and in the coordinates of the mesh."
        )
    return np.flatnonzero(away <= _TIP)


def _named(part: _Part, openings: dict[str, Nodes]) -> Atrium:
    taken = np.unique(np.concatenate(list(openings.values())))
    shape = part.mesh, part.nodes, part.elements
    return Atrium(*shape, part.endo, np.setdiff1d(part.epi, taken), openings)
