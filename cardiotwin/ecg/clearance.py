"""Distance between electrodes and the heart, and the refusal of electrodes inside it."""

import numpy as np

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.electrodes import Electrodes

FARTHEST_PLAUSIBLE = 1000.0  # mm from the heart; beyond it the unit of the file is wrong


def check_clearance(
    mesh: Mesh | Voxels, electrodes: Electrodes, clearance: float = 5.0
) -> np.ndarray:
    """Distance of every electrode from the tissue; an error where one is in or near the heart.

    An electrode counts as inside where the convex hull of the mesh holds it: in the wall, in a
    cavity, or in the groove between the ventricles.

    Args:
        mesh: the heart.
        electrodes: in the coordinates of the mesh.
        clearance: least distance from the tissue's surface in mm.

    Returns:
        Distances [electrodes] in mm from the nearest point of the tissue's surface.

    Raises:
        ValueError: naming the electrode, its distance and the nearest point of the tissue.
    """
    distances, nearest = _distance_to_surface(mesh, electrodes.positions)
    inside = _inside_hull(mesh.points, electrodes.positions)
    for k, name in enumerate(electrodes.names):
        at = np.array2string(electrodes.positions[k], precision=1)
        surface = np.array2string(nearest[k], precision=1)
        if inside[k] or distances[k] < clearance:
            where = "inside the heart" if inside[k] else "too near the heart"
            raise ValueError(
                f"Electrode {name} at {at} mm is {where}: {distances[k]:.1f} mm from the nearest "
                f"point of its surface, {surface} mm. Expected it outside and at least "
                f"{clearance:g} mm away: check that electrodes and mesh share coordinates and unit."
            )
        if distances[k] > FARTHEST_PLAUSIBLE:
            raise ValueError(
                f"Electrode {name} at {at} mm is {distances[k]:.0f} mm from the heart (nearest "
                f"point {surface} mm). Expected at most {FARTHEST_PLAUSIBLE:g} mm: check the unit "
                "of the electrode file and that it shares the mesh's coordinates."
            )
    return distances


def _distance_to_surface(mesh: Mesh | Voxels, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import KDTree  # slow to import

    faces = mesh.boundary_faces()
    corners = mesh.points[faces]
    centres = corners.mean(axis=1)
    reach = np.linalg.norm(corners - centres[:, None], axis=2).max()
    tree = KDTree(centres)
    distances, nearest = np.empty(len(targets)), np.empty((len(targets), 3))
    for k, target in enumerate(targets):
        # a face can only be the nearest where its centre is within the nearest centre's distance
        # plus the largest circumradius
        candidates = tree.query_ball_point(target, tree.query(target)[0] + reach)
        closest = _closest_on_triangles(target, corners[candidates])
        lengths = np.linalg.norm(closest - target, axis=1)
        best = lengths.argmin()
        distances[k], nearest[k] = lengths[best], closest[best]
    return distances, nearest


def _closest_on_triangles(target: np.ndarray, corners: np.ndarray) -> np.ndarray:
    first, edge_1, edge_2 = (
        corners[:, 0],
        corners[:, 1] - corners[:, 0],
        corners[:, 2] - corners[:, 0],
    )
    normal = np.cross(edge_1, edge_2)
    square = np.einsum("fi,fi->f", normal, normal)
    offset = target - first
    u = np.einsum("fi,fi->f", np.cross(offset, edge_2), normal) / square
    w = np.einsum("fi,fi->f", np.cross(edge_1, offset), normal) / square
    options = [first + u[:, None] * edge_1 + w[:, None] * edge_2]
    above = (u >= 0) & (w >= 0) & (u + w <= 1)
    lengths = [np.where(above, np.linalg.norm(options[0] - target, axis=1), np.inf)]
    for a, b in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[:, a], corners[:, b] - corners[:, a]
        share = np.einsum("fi,fi->f", target - start, along) / np.einsum("fi,fi->f", along, along)
        options.append(start + np.clip(share, 0.0, 1.0)[:, None] * along)
        lengths.append(np.linalg.norm(options[-1] - target, axis=1))
    best = np.argmin(lengths, axis=0)
    return np.array(options)[best, np.arange(len(corners))]


def _inside_hull(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    from scipy.spatial import ConvexHull, QhullError  # slow to import

    try:
        planes = ConvexHull(points).equations
    except QhullError:  # a flat mesh encloses nothing
        return np.zeros(len(targets), bool)
    return np.asarray((targets @ planes[:, :3].T + planes[:, 3] <= 0.0).all(axis=1))
