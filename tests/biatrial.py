"""Two hollow spheres of voxels that share a wall, with the openings of both atria."""

import numpy as np

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels

EDGE, INNER, OUTER = 2.0, 19.0, 23.0
# x to the left, y to the back, z up, mm: centres, the way of each opening and its radius.
CENTRES = {"la": np.array([22.0, 8.0, 8.0]), "ra": np.array([-21.0, 0.0, 0.0])}
OPENINGS = {
    "la": {
        "mitral": ((0.3, -0.6, -1.0), 10.0),
        "appendage": ((0.9, -0.8, 0.5), 6.0),
        "upper left vein": ((1.0, 0.5, 0.7), 6.0),
        "lower left vein": ((1.0, 0.7, -0.3), 6.0),
        "upper right vein": ((-0.5, 1.0, 0.9), 6.0),
        "lower right vein": ((-0.5, 1.0, -0.2), 6.0),
    },
    "ra": {
        "tricuspid": ((0.4, -1.0, -0.3), 12.0),
        "superior_cava": ((0.0, 0.3, 1.0), 7.0),
        "inferior_cava": ((0.0, 0.3, -1.0), 7.0),
    },
}
APPENDAGE = CENTRES["ra"] + OUTER * np.array([0.0, -0.75, 0.66])  # where nothing is open


def unit(vector) -> np.ndarray:
    """A vector of length one."""
    return np.asarray(vector, float) / np.linalg.norm(vector)


def opening(side: str, name: str) -> np.ndarray:
    """Centre of an opening, in the middle of the wall."""
    return CENTRES[side] + 0.5 * (INNER + OUTER) * unit(OPENINGS[side][name][0])


def biatrial(left: dict | None = None) -> Mesh:
    """Both atria, with the regions "la" and "ra" and the surfaces "endo_la" and "endo_ra".

    Args:
        left: openings of the left atrium, where they are not those of `OPENINGS`.
    """
    holes = OPENINGS | ({} if left is None else {"la": left})
    low = np.array([-48.0, -36.0, -28.0])
    shape = np.array([50, 36, 32])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    places = low + EDGE * (index + 0.5)
    distance = {k: np.linalg.norm(places - c, axis=-1) for k, c in CENTRES.items()}
    solid = {}
    for side, centre in CENTRES.items():
        solid[side] = (distance[side] >= INNER) & (distance[side] <= OUTER)
        for way, radius in holes[side].values():
            along = (places - centre) @ unit(way)
            off = np.linalg.norm(places - centre - along[..., None] * unit(way), axis=-1)
            solid[side] &= ~((along > 0.0) & (off < radius))
    cavity = {side: distance[side] < INNER for side in CENTRES}
    regions = np.where(solid["ra"], 2, 0)
    regions[solid["la"]] = 1
    regions[cavity["la"] | cavity["ra"]] = 0
    grid = Voxels(
        regions > 0,
        EDGE,
        origin=low,
        regions=regions,
        region_names={1: "la", 2: "ra"},
    )
    mesh = grid.tetrahedra()
    faces = mesh.boundary_faces()
    middle = mesh.points[faces].mean(axis=1)
    corners = mesh.points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ahead = middle + 0.5 * EDGE * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    voxel = tuple(((ahead - low) // EDGE).astype(int).T)
    return mesh.replaced(surfaces={f"endo_{side}": faces[cavity[side][voxel]] for side in CENTRES})
