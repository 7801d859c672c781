"""Where the valves of a heart are whose atria and arteries are known but not part of its mesh."""

import numpy as np
from scipy.spatial import KDTree

from cardiotwin.anatomy.naming import VALVE_PLACES, leads_to


def valve_rings(
    points: np.ndarray, surfaces: dict[str, np.ndarray], behind: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The rings of the valves that no surface names.

    Faces of the base that reach an endocardium, each given to the valve whose atrium or artery is
    nearest.

    Args:
        points: nodes [nodes, 3], mm.
        surfaces: name -> faces, with "endo_lv", "endo_rv" and "base".
        behind: valve -> points [n, 3] of the atrium or artery that begins there, mm.

    Returns:
        Valve -> faces, those that were found.
    """
    found: dict[str, np.ndarray] = {}
    for endocardium in ("endo_lv", "endo_rv"):
        own = {v: places for v, places in behind.items() if VALVE_PLACES[v][0] == endocardium}
        if endocardium not in surfaces or "base" not in surfaces or not own:
            continue
        base = surfaces["base"]
        ring = base[np.isin(base, surfaces[endocardium]).any(axis=1)]
        centres = points[ring].mean(axis=1)
        away = [KDTree(places).query(centres)[0] for places in own.values()]
        nearest = np.argmin(away, axis=0)
        found |= {valve: ring[nearest == k] for k, valve in enumerate(own)}
    return {name: faces for name, faces in found.items() if len(faces) and name not in surfaces}


def points_behind(points: np.ndarray, removed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Nodes of the atrium or artery behind each valve.

    Args:
        points: nodes [nodes, 3].
        removed: elements that were cut away, by the name of their region.
    """
    found = {}
    for valve in VALVE_PLACES:
        cells = [own.ravel() for name, own in removed.items() if leads_to(name, valve)]
        if cells:
            found[valve] = points[np.unique(np.concatenate(cells))]
    return found
