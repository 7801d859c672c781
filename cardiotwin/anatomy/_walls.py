"""Completing an image of parts: the right wall, the plane of the base, the septum."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from cardiotwin.anatomy._image_checks import contact, dilated, long_axis
from cardiotwin.anatomy._label_cleaning import PartGrid
from cardiotwin.anatomy.label_table import CAVITIES, TISSUE, VESSELS, Part
from cardiotwin.anatomy.voxels import label_pieces

_CREASE = 2.0  # mm: gaps up to twice this width are closed
_VALVE_GAP = 5.0  # mm between a cavity and its atrium or artery that counts as a valve
THINNEST = 2  # voxels of a right wall
FARTHEST_RIM = 20.0  # mm from the opening
_SECTORS = 24
_RIM = 0.1  # share of the sectors whose wall may end below the plane of the base
_VALVES = (
    (Part.LV_CAVITY, Part.LA),
    (Part.LV_CAVITY, Part.AORTA),
    (Part.RV_CAVITY, Part.RA),
    (Part.RV_CAVITY, Part.PULMONARY_ARTERY),
)
_ENCLOSED = 1000.0  # mm3, the smallest cavity of a bare wall


def distance(grid: PartGrid, where: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"]:
    """Distance of each voxel's centre to that of the nearest marked one, mm; inf without any."""
    if not where.any():
        return np.full(where.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~where, sampling=grid.edges))


def closing(grid: PartGrid, where: np.ndarray, radius: float) -> np.ndarray:
    """Voxels that no ball of this radius beside the marked ones can reach."""
    return distance(grid, distance(grid, where) > radius) > radius


def depth_outside(grid: PartGrid, where: np.ndarray) -> np.ndarray:
    """Distance in mm from the surface of the marked voxels, negative inside, smoothed."""
    half = 0.5 * grid.edges[0]
    outside, inside = distance(grid, where), distance(grid, ~where)
    return ndimage.gaussian_filter(np.where(where, half - inside, outside - half), 1.0)


def rim_distances(grid: PartGrid) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm to the nearest voxel of a cavity, and to the nearest one of an opening.

    An opening is where a cavity meets an atrium, an artery or the outside. Where both distances
    are the same, a place lies beyond the rim of a valve rather than beside a wall.
    """
    cavity = np.isin(grid.parts, CAVITIES)
    beside = ~cavity & ~np.isin(grid.parts, TISSUE)
    return distance(grid, cavity), distance(grid, cavity & dilated(beside))


def join_valves(grid: PartGrid) -> PartGrid:
    """Close narrow gaps between a cavity and its atrium or artery, which valves leave."""
    parts = grid.parts.copy()
    for cavity, vessel in _VALVES:
        away, near = parts == vessel, parts == cavity
        if not (away.any() and near.any()) or contact(parts, cavity, (vessel,)).any():
            continue
        gap = float(distance(grid, away)[near].min())
        if gap <= _VALVE_GAP:
            bridge = closing(grid, away | near, 0.5 * gap + grid.edges[0])
            parts[bridge & (parts == Part.OUTSIDE)] = cavity
    return grid._replace(parts=parts)


def add_right_wall(grid: PartGrid, thickness: float) -> PartGrid:
    """Grow a right wall outwards from the right cavity, into what is no other part.

    The wall is at least two voxels thick, as one alone neither conducts well nor closes.
    Gaps between the left wall and either cavity become left wall; creases between the new wall and
    its surroundings are filled.
    """
    parts = grid.parts.copy()
    right = parts == Part.RV_CAVITY
    septal = closing(grid, right | (parts == Part.LV_WALL), _CREASE)
    parts[septal & (parts == Part.OUTSIDE)] = Part.LV_WALL
    within = closing(grid, (parts == Part.LV_CAVITY) | (parts == Part.LV_WALL), _CREASE)
    parts[within & (parts == Part.OUTSIDE)] = Part.LV_WALL
    thickness = max(thickness, THINNEST * float(grid.edges[0]))
    reach = depth_outside(grid, right)
    free = parts == Part.OUTSIDE
    parts[free & (reach <= thickness)] = Part.RV_WALL
    solid = np.isin(parts, (Part.LV_WALL, Part.RV_WALL, Part.LV_CAVITY, Part.RV_CAVITY))
    crease = closing(grid, solid, _CREASE) & free & (reach <= thickness + _CREASE)
    parts[crease] = Part.RV_WALL
    kept = parts == Part.RV_WALL
    label, count = label_pieces(kept)
    if count > 1:
        size = np.bincount(label.ravel())
        size[0] = 0
        parts[kept & (label != np.argmax(size))] = Part.OUTSIDE
    return grid._replace(parts=parts)


def cut_base(grid: PartGrid) -> tuple[PartGrid, str | None]:
    """Cut both ventricles by a plane across the long axis where one of them has no valve.

    The plane lies where the left wall is still a complete ring, and below the top of each cavity.

    Returns:
        The grid, with what lies above the plane `Part.REMOVED`, and a sentence on the cut.
    """
    parts = grid.parts
    cavities = [c for c in (Part.LV_CAVITY, Part.RV_CAVITY) if (parts == c).any()]
    if all(contact(parts, cavity, VESSELS).any() for cavity in cavities):
        return grid, None
    up = long_axis(grid) @ grid.axes.T
    where = np.moveaxis(np.indices(parts.shape), 0, -1) @ (up * grid.edges)
    tops = [where[parts == cavity].max() - 1.5 * grid.edges[0] for cavity in cavities]
    height = min(_ring_height(grid, where, up), *tops)
    parts = parts.copy()
    heart = np.isin(parts, (*cavities, Part.LV_WALL, Part.RV_WALL, *VESSELS))
    parts[heart & (where > height)] = Part.REMOVED
    bottom = where[np.isin(parts, (Part.LV_WALL, Part.RV_WALL))].min()
    return grid._replace(parts=parts), (
        f"base cut by a plane across the long axis, {height - bottom:.0f} mm above the apex, since "
        "a ventricle touches neither atrium nor artery"
    )


def _ring_height(grid: PartGrid, where: np.ndarray, up: np.ndarray) -> float:
    """Height along the long axis up to which the left wall surrounds its cavity."""
    wall = np.argwhere(grid.parts == Part.LV_WALL) * grid.edges
    height = where[grid.parts == Part.LV_WALL]
    middle = np.argwhere(grid.parts == Part.LV_CAVITY).mean(axis=0) * grid.edges
    side = np.linalg.svd(up[None])[2][1:]
    angle = np.arctan2(*((wall - middle) @ side.T).T)
    sector = ((angle / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    top = np.full(_SECTORS, -np.inf)
    np.maximum.at(top, sector, height)
    return float(np.quantile(top, _RIM, method="higher")) - 1.5 * grid.edges[0]


def divide_left_wall(grid: PartGrid) -> PartGrid:
    """Call septum what of the left wall lies nearer to the right cavity than to the outside."""
    parts = grid.parts.copy()
    left = parts == Part.LV_WALL
    to_cavity, to_opening = rim_distances(grid)
    rim = (to_opening <= to_cavity + 0.5 * grid.edges[0]) & (to_opening <= FARTHEST_RIM)
    to_right = distance(grid, parts == Part.RV_CAVITY)
    to_outside = distance(grid, (parts == Part.OUTSIDE) & ~rim)
    parts[left & (to_right < to_outside)] = Part.SEPTUM
    return grid._replace(parts=parts)


def divide_muscle(grid: PartGrid) -> PartGrid:
    """Give undivided muscle to the right wall between the right cavity and the outside."""
    parts = grid.parts.copy()
    muscle = parts == Part.MYOCARDIUM
    if not muscle.any():
        return grid
    to_left, to_right, to_outside = (
        distance(grid, parts == part) for part in (Part.LV_CAVITY, Part.RV_CAVITY, Part.OUTSIDE)
    )
    right = (to_right < to_left) & (to_outside < to_left)
    parts[muscle] = np.where(right[muscle], Part.RV_WALL, Part.LV_WALL)
    return grid._replace(parts=parts)


def find_cavities(grid: PartGrid) -> tuple[PartGrid, str | None]:
    """Find the cavities of a bare wall: what a lid across its open end encloses.

    Six directions of the axes of inertia and several heights of the lid are tried; the lid that
    encloses most is kept. The larger of two cavities is the one with the thicker wall around it
    on the left.

    Returns:
        The grid, and a sentence on what was found, or None where the cavities are labelled.

    Raises:
        ValueError: no lid encloses a cavity.
    """
    parts = grid.parts
    if (parts == Part.LV_CAVITY).any():
        return grid, None
    wall = np.isin(parts, (Part.MYOCARDIUM, Part.LV_WALL, Part.RV_WALL))
    solid = wall | (parts == Part.RV_CAVITY)
    best = np.zeros_like(wall)
    for above in _lids(grid, wall):
        label, _ = label_pieces(np.pad(~solid & ~above, 1, constant_values=True))
        inside = (label > 1)[1:-1, 1:-1, 1:-1] & ~above
        if inside.sum() > best.sum():
            best = inside
    label, count = label_pieces(best)
    size = np.bincount(label.ravel(), minlength=count + 1)
    size[0] = 0
    large = [k for k in np.argsort(-size)[:2] if size[k] * grid.edges.prod() > _ENCLOSED]
    if not large:
        raise ValueError(
            "the image has no cavities, and no lid over the wall encloses one: label the cavities "
            f"(lv_cavity, rv_cavity), or check the wall of {wall.sum() * grid.edges.prod():.0f} mm3"
        )
    thickness = distance(grid, ~wall & ~np.isin(label, large))
    depth = [thickness[dilated(label == k, 2) & wall].mean() for k in large]
    parts = parts.copy()
    order = np.argsort(depth)[::-1]
    names = (Part.LV_CAVITY, Part.RV_CAVITY)
    for name, k in zip(names, order, strict=False):
        parts[label == large[k]] = name
    volumes = ", ".join(f"{size[k] * grid.edges.prod() / 1e3:.0f} mL" for k in large)
    return grid._replace(parts=parts), f"cavities found inside the wall: {volumes}"


def _lids(grid: PartGrid, wall: np.ndarray):
    """Half spaces above planes across the axes of inertia of a wall."""
    place = np.argwhere(wall) * grid.edges
    directions = np.linalg.svd(np.cov(place.T))[0].T
    everywhere = np.moveaxis(np.indices(wall.shape), 0, -1) * grid.edges
    for direction in np.concatenate([directions, -directions]):
        height = everywhere @ direction
        low, high = np.quantile(height[wall], [0.0, 1.0])
        for share in (0.95, 0.88, 0.8, 0.7):
            yield height > low + share * (high - low)
