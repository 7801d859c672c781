"""Fibres of the atria by rule: bundles that run around the openings.

After Piersanti et al. 2021, doi:10.1016/j.cma.2020.113468. Laplace solutions between the openings
say which bundle an element belongs to, and the gradient of one of them, made tangential to the
wall, is the direction across the bundle's fibres. Ventricular rules do not apply: atrial fibres
hardly turn through the wall.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from cardiotwin.anatomy._frames import borrowed, element_mean, smooth_gradients, unit
from cardiotwin.anatomy.atria import (
    ATRIA,
    Atria,
    Atrium,
    Point,
    find_atria,
    roof,
    sinus_node,
    tricuspid_halves,
)
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.numerics.elliptic import solve_laplace
from cardiotwin.numerics.fem import stiffness_matrix

# Sine of the angle between a bundle's gradient and the wall's normal that spans a frame.
_SMALLEST_SINE = 0.1
BUNDLES = (
    "mitral vestibule", "left pulmonary veins", "right pulmonary veins", "left body",
    "tricuspid vestibule", "inferior caval vein", "superior caval vein", "crista terminalis",
    "pectinate muscles", "intercaval bundle", "septum", "right roof", "Bachmann's bundle",
)  # fmt: skip
_BACHMANN = BUNDLES.index("Bachmann's bundle")
# Length over which the course of Bachmann's bundle is smoothed, mm.
_SMOOTHING = 10.0

PerNode = Float[np.ndarray, " nodes"]


class AtrialRule(eqx.Module):
    """Where the bundles of the atria end, as levels of the fields between the openings.

    Defaults are the values of Piersanti et al. 2021 for realistic atria, except for those marked;
    they depend on the shape a little and may be set by eye.

    Args:
        mitral: share of the way from the veins to the mitral valve where its vestibule begins.
        left_veins: share of the way from the left to the right veins where the left ones end.
        right_veins: where the right ones begin.
        tricuspid: share of the way from the roof to the tricuspid valve where its vestibule begins.
        wall: where the roof's structures give way to the wall above the vestibule.
        inferior_cava: share of the way between the caval veins, from the superior to the inferior
            one, where the inferior one begins.
        superior_cava: where the superior one ends.
        crista: between which levels of the field from the free wall (-1) to the septum (1) the
            crista terminalis runs.
        intercaval: level of it below which the intercaval bundle runs.
        septum: level above which the septum begins.
        bachmann: radius of Bachmann's bundle in mm; 0 for none.
    """

    mitral: float = 0.85
    left_veins: float = 0.2
    right_veins: float = 0.85
    tricuspid: float = 0.9
    wall: float = 0.55
    inferior_cava: float = 0.9
    superior_cava: float = 0.1
    crista: tuple[float, float] = (-0.18, -0.1)
    intercaval: float = 0.135
    septum: float = 0.35
    bachmann: float = 4.5

    def __check_init__(self):
        shares = ("mitral", "left_veins", "right_veins", "tricuspid", "wall")
        for name in (*shares, "inferior_cava", "superior_cava"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(
                    f"AtrialRule: {name} is {getattr(self, name)!r}; expected a share, 0 to 1."
                )
        for low, high in (("left_veins", "right_veins"), ("superior_cava", "inferior_cava")):
            if not getattr(self, low) < getattr(self, high):
                raise ValueError(
                    f"AtrialRule: {low} is {getattr(self, low)!r} and {high} "
                    f"{getattr(self, high)!r}; the former must be smaller."
                )
        levels = (-1.0, *self.crista, self.intercaval, self.septum, 1.0)
        if len(self.crista) != 2 or list(levels) != sorted(levels):
            raise ValueError(
                f"AtrialRule: crista {self.crista}, intercaval {self.intercaval!r} and septum "
                f"{self.septum!r} must be rising levels between -1 and 1."
            )
        if not 0.0 <= self.bachmann < 20.0:
            raise ValueError(
                f"AtrialRule: bachmann is {self.bachmann!r} mm; expected the radius of the bundle, "
                "such as 4.5, or 0 for none."
            )


class AtrialFibres(NamedTuple):
    """Directions of both atria, and which bundle every element belongs to.

    Attributes:
        fibres: [elements, 3] each; the sheet direction is across the wall, outward.
        bundle: [elements] index into `BUNDLES`.
    """

    fibres: Fibres
    bundle: Int[np.ndarray, " elements"]


def atrial_fibres(
    mesh: Mesh,
    rule: AtrialRule | None = None,
    *,
    left_appendage: Point | None = None,
    right_appendage: Point | None = None,
    atria: Atria | None = None,
) -> AtrialFibres:
    """Rule-based fibres of both atria.

    After Piersanti et al. 2021, doi:10.1016/j.cma.2020.113468: Laplace solutions between the
    valves, veins and appendages; by their levels each element belongs to a bundle, whose field's
    gradient k, made perpendicular to the outward normal t of the wall, is the sheet normal n; the
    fibre is n x t. Departures:

    1. Gradients are averaged to the nodes and back, which removes the scatter where the wall is
       an element or two thick.
    2. Bachmann's bundle, which joins the atria in front, is laid along the shortest way through the
       wall from the sinus node to the left appendage, its fibres along it.

    Args:
        mesh: of both atria and nothing else, as `find_atria` takes it.
        rule: where the bundles end.
        left_appendage: tip of the left appendage, see `find_atria`.
        right_appendage: tip of the right appendage, see `find_atria`.
        atria: `find_atria(mesh)`, where it is known.

    Raises:
        ValueError: the mesh holds something else, or lacks what `find_atria` needs.
        RuntimeError: a solve did not converge.
    """
    rule = AtrialRule() if rule is None else rule
    if atria is None:
        atria = find_atria(mesh, left_appendage=left_appendage, right_appendage=right_appendage)
    known = len(atria.left.elements) + len(atria.right.elements)
    if known != mesh.elements:
        others = [name for _, name in mesh.region_names if name not in ATRIA]
        raise ValueError(
            f"{mesh.elements - known} of {mesh.elements} elements lie in neither atrium (regions "
            f"{others or 'without a name'}); keep the atria alone when reading the file "
            "(keep=[la, ra])."
        )
    frames = np.empty((mesh.elements, 3, 3))
    bundle = np.empty(mesh.elements, int)
    replaced = 0
    for atrium, found in (
        (atria.left, _left(atria.left, rule)),
        (atria.right, _right(atria, rule)),
    ):
        own, missing = _frames(atrium, *found)
        frames[atrium.elements], bundle[atrium.elements] = own, found[0]
        replaced += missing
    if rule.bachmann > 0.0:
        within, along = _bachmann(mesh, atria, rule.bachmann)
        sheet = frames[within, :, 1]
        way = unit(along - sheet * np.einsum("ei,ei->e", along, sheet)[:, None])
        frames[within, :, 0], bundle[within] = way, _BACHMANN
    fibre, sheet = frames[:, :, 0], frames[:, :, 1]
    return AtrialFibres(Fibres(fibre, sheet, np.cross(fibre, sheet), replaced), bundle)


def _left(atrium: Atrium, rule: AtrialRule) -> tuple[np.ndarray, np.ndarray]:
    """Bundle and direction across it of every element of the left atrium."""
    mesh, at = atrium.mesh, atrium.openings
    if "appendage" not in at:
        raise ValueError(
            "the left atrium has one opening on the left, which is taken for a vein, and none for "
            "its appendage: where that is closed, give its tip (left_appendage=[x, y, z] in mm)."
        )
    veins = {"right_veins": 1.0, "left_veins": 0.0}
    solve = _Solver(mesh)
    along = solve.field(at, veins | {"mitral": 1.0, "right_veins": 2.0, "appendage": -1.0})
    between = solve.field(at, veins)
    to_valve = solve.field(at, dict.fromkeys((*veins, "appendage"), 0.0) | {"mitral": 1.0})
    r, v = element_mean(mesh, to_valve), element_mean(mesh, between)
    bundle = np.select(
        [r >= rule.mitral, v <= rule.left_veins, v >= rule.right_veins], [0, 1, 2], default=3
    )
    by_valve, by_veins, by_body = smooth_gradients(mesh, to_valve, between, along)
    return bundle, _chosen(bundle, {0: by_valve, 1: by_veins, 2: by_veins, 3: by_body})


def _right(atria: Atria, rule: AtrialRule) -> tuple[np.ndarray, np.ndarray]:
    """Bundle and direction across it of every element of the right atrium."""
    mesh, at = atria.right.mesh, dict(atria.right.openings)
    at["roof"] = np.setdiff1d(roof(atria), at["tricuspid"])
    at["septal"], at["free"] = tricuspid_halves(atria)
    veins = {"inferior_cava": 1.0, "superior_cava": 0.0, "appendage": 0.0}
    solve = _Solver(mesh)
    along = solve.field(at, veins | {"inferior_cava": 2.0, "tricuspid": 1.0, "appendage": -1.0})
    between = solve.field(at, veins)
    to_valve = solve.field(at, {"tricuspid": 1.0, "roof": 0.0})
    across = solve.field(at, {"septal": 1.0, "free": -1.0, "roof": 0.0})
    r, v, w = (element_mean(mesh, field) for field in (to_valve, between, across))
    upper = r < rule.wall
    low, high = rule.crista
    bundle = np.select(
        [
            r >= rule.tricuspid,
            upper & (w >= low) & (w <= high),
            v >= rule.inferior_cava,
            v <= rule.superior_cava,
            upper & (w < low) | ~upper & (w < 0.0),
            upper & (w < rule.intercaval),
            ~upper | (w > rule.septum),
        ],
        [4, 7, 5, 6, 8, 9, 10],
        default=11,
    )
    by_valve, by_veins, by_side, by_body = smooth_gradients(mesh, to_valve, between, across, along)
    ways = {4: by_valve, 5: by_veins, 6: by_veins, 7: by_side, 8: by_body}
    return bundle, _chosen(bundle, ways | {9: by_veins, 10: by_valve, 11: by_side})


def _frames(
    atrium: Atrium, bundle: np.ndarray, across: np.ndarray
) -> tuple[Float[np.ndarray, "elements 3 3"], int]:
    """Frames with the columns fibre, sheet, sheet normal; and how many are borrowed."""
    mesh = atrium.mesh
    walls = {"endo": np.setdiff1d(atrium.endo, atrium.epi), "epi": atrium.epi}
    depth = _Solver(mesh).field(walls, {"endo": 0.0, "epi": 1.0})
    (out,) = smooth_gradients(mesh, depth)
    out, across = unit(out), unit(across)
    normal = across - out * np.einsum("ei,ei->e", across, out)[:, None]
    sine = np.linalg.norm(normal, axis=1)
    defined = (sine >= _SMALLEST_SINE) & (np.linalg.norm(out, axis=1) > 0.5)
    normal = unit(normal)
    frames = np.stack([np.cross(normal, out), out, -normal], axis=2)
    return borrowed(mesh, frames, defined), int((~defined).sum())


def _bachmann(
    mesh: Mesh, atria: Atria, radius: float
) -> tuple[Int[np.ndarray, " own"], Float[np.ndarray, "own 3"]]:
    """Elements within a distance of the bundle's course, and its direction there."""
    begin = int(KDTree(mesh.points).query(sinus_node(atria))[1])
    ends = atria.left.nodes[atria.left.openings["appendage"]]
    first, second = mesh.unique_edges().T
    length = np.linalg.norm(mesh.points[first] - mesh.points[second], axis=1)
    graph = sp.csr_array((length, (first, second)), shape=(mesh.nodes,) * 2)
    away, before = dijkstra(graph, directed=False, indices=begin, return_predecessors=True)
    node = int(ends[np.argmin(away[ends])])
    if not np.isfinite(away[node]):
        raise ValueError(
            "Bachmann's bundle cannot be laid: the atria share no nodes, so that no way leads from "
            "one to the other. Give a mesh in which they touch, or bachmann=0 for none."
        )
    path = [node]
    while path[-1] != begin:
        path.append(int(before[path[-1]]))
    at = away[path][::-1]
    places = np.arange(0.0, at[-1], 0.5)
    course = np.stack([np.interp(places, at, x) for x in mesh.points[path[::-1]].T], axis=1)
    course = gaussian_filter1d(course, _SMOOTHING / 4.0 / 0.5, axis=0, mode="nearest")
    distance, nearest = (np.asarray(x) for x in KDTree(course).query(mesh.centroids()))
    within = np.flatnonzero(distance <= radius)
    return within, unit(np.gradient(course, axis=0))[nearest[within]]


class _Solver:
    """Laplace's equation on one atrium, with values given on its openings."""

    def __init__(self, mesh: Mesh):
        self.stiffness = stiffness_matrix(mesh.points, mesh.cells)

    def field(self, openings: dict[str, np.ndarray], values: dict[str, float]) -> PerNode:
        """The field with these values; a node of two openings takes the later one's."""
        given = np.full(self.stiffness.indptr.size - 1, np.nan)
        for name, value in values.items():
            given[openings[name]] = value
        fixed = np.flatnonzero(np.isfinite(given))
        return solve_laplace(self.stiffness, fixed, given[fixed])


def _chosen(bundle: np.ndarray, ways: dict[int, np.ndarray]) -> Float[np.ndarray, "elements 3"]:
    """Of several vectors of each element that of its bundle."""
    return np.select([(bundle == k)[:, None] for k in ways], list(ways.values()))
