"""The tetrahedral mesh every other part of the package stands on."""

import equinox as eqx
import numpy as np


class Mesh(eqx.Module):
    """A tetrahedral mesh in millimetres, with named regions and surfaces."""

    points: np.ndarray  # float64 [nodes, 3], mm
    cells: np.ndarray  # int32 [elements, 4], positive volume
    regions: np.ndarray  # int32 [elements]
    surfaces: dict[str, np.ndarray]  # name -> int32 [faces, 3], outward normals
    point_data: dict[str, np.ndarray]
    cell_data: dict[str, np.ndarray]
    region_names: tuple[tuple[int, str], ...] = eqx.field(static=True)

    def __init__(self, points, cells, regions=None, *, surfaces=None, point_data=None,
                 cell_data=None, region_names=()):
        self.points = np.ascontiguousarray(points, dtype=np.float64)
        self.cells = np.ascontiguousarray(cells, dtype=np.int32)
        self.regions = (np.ones(len(self.cells), np.int32) if regions is None
                        else np.ascontiguousarray(regions, dtype=np.int32))
        self.surfaces = dict(surfaces or {})
        self.point_data = dict(point_data or {})
        self.cell_data = dict(cell_data or {})
        self.region_names = tuple(dict(region_names).items())
