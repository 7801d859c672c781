"""Where the voltage is recorded when nobody says where."""

from collections.abc import Sequence

import numpy as np

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.tissue.places import VentricularSite, locate
from cardiotwin.tissue.sites import EndocardialSite
from cardiotwin.twin import Anatomy

NEEDED = {"endo_lv", "endo_rv", "epi", "base"}


def choose_probes(
    anatomy: Anatomy, points: Sequence[VentricularSite | Sequence[float]] | np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """Nodes to record and their labels.

    Args:
        anatomy: the heart or slab.
        points: [x, y, z] in mm each, or sites in ventricular coordinates; the nearest nodes are
            taken. None chooses: endocardium and
            epicardium of the left free wall, septum and right free wall at mid-height on a heart,
            both ends and the middle of anything else.

    Raises:
        ValueError: a point lies further from the mesh than its longest edge.
    """
    mesh = anatomy.mesh
    if points is not None:
        nodes = _nearest(mesh.points, _in_mm(anatomy, points), _longest_edge(mesh))
        return nodes, [f"probe {i} at {np.round(mesh.points[n], 1)}" for i, n in enumerate(nodes)]
    if not set(mesh.surfaces) >= NEEDED:
        low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
        nodes = _nearest(mesh.points, np.array([low, (low + high) / 2, high]), np.inf)
        return nodes, ["low corner", "centre", "high corner"]
    return _on_heart(anatomy)


def _in_mm(
    anatomy: Anatomy, points: Sequence[VentricularSite | Sequence[float]] | np.ndarray
) -> np.ndarray:
    """Points [probes, 3] mm."""
    places = []
    for point in points:
        site = isinstance(point, VentricularSite)
        place = locate([point], anatomy.map)[0] if site else np.asarray(point, float)
        if np.shape(place) != (3,):
            raise ValueError(f"output.probes holds {point!r}; give [x, y, z] in mm or a site.")
        places.append(place)
    return np.array(places).reshape(-1, 3)


def _on_heart(anatomy: Anatomy) -> tuple[np.ndarray, list[str]]:
    mesh, fields, axes = anatomy.mesh, anatomy.fields, heart_axes(anatomy.mesh)
    wanted = {
        "LV lateral endocardium": EndocardialSite("lv", 0.5, 180.0),
        "septum, left side": EndocardialSite("lv", 0.5, 0.0, "septum"),
        "RV free wall": EndocardialSite("rv", 0.5, 0.0, "free"),
    }
    found = {label: site.locate(mesh, fields, axes) for label, site in wanted.items()}
    inner = mesh.points[found["LV lateral endocardium"]]
    outer = np.unique(mesh.surfaces["epi"])
    found["LV lateral epicardium"] = int(
        outer[np.argmin(np.linalg.norm(mesh.points[outer] - inner, axis=1))]
    )
    return np.array(list(found.values())), list(found)


def _nearest(nodes: np.ndarray, points: np.ndarray, tolerance: float) -> np.ndarray:
    from scipy.spatial import KDTree

    if not np.isfinite(points).all():
        raise ValueError(f"output.probes holds values that are not finite: {points.tolist()}.")
    distance, nearest = (np.asarray(x) for x in KDTree(nodes).query(points))
    far = np.flatnonzero(distance > tolerance)
    if far.size:
        raise ValueError(
            f"output.probes: probe {far[0]} at {points[far[0]]} mm lies {distance[far[0]]:.1f} mm "
            f"from the nearest node, at {nodes[nearest[far[0]]]}. Move it into the tissue."
        )
    return np.asarray(nearest)


def _longest_edge(mesh) -> float:
    ends = mesh.points[mesh.unique_edges()]
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).max())
