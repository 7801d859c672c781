"""A mesh on its way from a file to `Mesh`: labelled, cut to some regions, renumbered."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cardiotwin.anatomy._filemesh import FileMesh, solid
from cardiotwin.anatomy._labels import (
    cut_surfaces,
    region_labels,
    surfaces_by_name,
)
from cardiotwin.anatomy._valves import points_behind, valve_rings
from cardiotwin.anatomy.mesh import outward
from cardiotwin.anatomy.naming import NameMap, standard_region
from cardiotwin.anatomy.topology import boundary_faces, signed_volumes, unique_edges


@dataclass
class Draft:
    """The arguments of `Mesh`, not checked yet; surfaces may hold faces that are no boundary."""

    path: Path
    points: np.ndarray
    cells: np.ndarray
    regions: np.ndarray
    surfaces: dict[str, np.ndarray]
    point_data: dict[str, np.ndarray]
    cell_data: dict[str, np.ndarray]
    region_names: dict[int, str]
    removed: np.ndarray | None = None
    removed_regions: dict[str, np.ndarray] = field(default_factory=dict)

    def volume(self) -> float:
        """Sum of the volumes, mm3."""
        return float(signed_volumes(self.points, self.cells).sum())

    def median_edge(self) -> float:
        """Median length of the edges, mm."""
        edges = self.points[unique_edges(self.cells)]
        return float(np.median(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1)))

    def keep(self, wanted: Iterable[str | int]) -> None:
        """Keep the elements of some regions.

        Args:
            wanted: names or labels.

        Raises:
            ValueError: there is no such region; the message lists those there are.
        """
        mask = self._mask([wanted] if isinstance(wanted, (str, int)) else list(wanted))
        kept = set(np.unique(self.regions[mask]).tolist())
        self.removed = self.cells[~mask]
        self.removed_regions = {
            v: self.cells[self.regions == k] for k, v in self.region_names.items() if k not in kept
        }
        self.cells, self.regions = self.cells[mask], self.regions[mask]
        self.cell_data = {name: values[mask] for name, values in self.cell_data.items()}
        self.region_names = {k: v for k, v in self.region_names.items() if k in kept}

    def finish(self) -> None:
        """Leave out nodes without tetrahedra, and surface faces that are not on the boundary.

        What a cut laid bare becomes a surface, see `cut_surfaces`.
        """
        if self.surfaces:
            boundary = boundary_faces(self.cells)
            if self.removed is not None and len(self.removed):
                self.surfaces = cut_surfaces(
                    boundary, self.surfaces, self.removed, set(self.removed_regions)
                )
                behind = points_behind(self.points, self.removed_regions)
                self.surfaces |= valve_rings(self.points, self.surfaces, behind)
            else:
                self._trim(boundary)
        used = np.zeros(len(self.points), bool)
        used[self.cells.ravel()] = True
        renumber = np.cumsum(used) - 1
        self.points, self.cells = self.points[used], renumber[self.cells]
        self.surfaces = {name: renumber[faces] for name, faces in self.surfaces.items()}
        self.point_data = _telling({k: v[used] for k, v in self.point_data.items()})
        self.cell_data = _telling(self.cell_data)

    def _mask(self, wanted: list[str | int]) -> np.ndarray:
        present = np.unique(self.regions).tolist()
        by_name = {name: label for label, name in self.region_names.items()}
        chosen = [
            by_name.get(item, by_name.get(standard_region(item)))
            if isinstance(item, str)
            else int(item)
            for item in wanted
        ]
        unknown = [w for w, label in zip(wanted, chosen, strict=True) if label not in present]
        if unknown or not wanted:
            names = self.region_names
            known = ", ".join(f"{k} ({names[k]})" if k in names else str(k) for k in present)
            raise ValueError(
                f"{self.path}: no region {unknown} to keep: the regions are {known}; give labels, "
                "or names through names=..."
            )
        return np.isin(self.regions, [label for label in chosen if label is not None])

    def _trim(self, boundary: np.ndarray) -> None:
        fitting = {name: outward(faces, boundary) for name, faces in self.surfaces.items()}
        lost = {n: len(f) - len(fitting[n]) for n, f in self.surfaces.items()}
        lost = {name: count for name, count in lost.items() if count}
        if lost:
            shown = ", ".join(f"{name!r} ({count})" for name, count in list(lost.items())[:5])
            more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
            warnings.warn(
                f"{self.path.name}: {sum(lost.values())} triangles of {len(lost)} surfaces are "
                f"not on the boundary of the elements and are left out: {shown}{more}",
                UserWarning,
                stacklevel=4,
            )
        self.surfaces = {n: f for n, f in fitting.items() if len(f) or n not in lost}


def draft(path: Path, content: FileMesh, regions: str | None, names: NameMap | None) -> Draft:
    """Label what a file holds; see `read_mesh` for the arguments."""
    used = np.zeros(len(content.points), bool)
    parts = solid(path, content)
    for block in content.blocks:
        used[block.nodes.ravel()] = True
    unused = np.flatnonzero(~used)
    if len(unused):
        warnings.warn(
            f"{path.name}: {len(unused)} nodes belong to no element (the first is node "
            f"{unused[0]}) and are left out, later nodes are renumbered",
            UserWarning,
            stacklevel=3,
        )
    labels, region_names = region_labels(path, content, parts, regions, names)
    surfaces = surfaces_by_name(content, parts, names)
    return Draft(
        path,
        content.points,
        parts.cells,
        labels,
        surfaces,
        content.point_data,
        parts.cell_data,
        region_names,
    )


def _telling(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fields without those that are NaN throughout (they spoke of elements now gone)."""
    return {
        name: values
        for name, values in fields.items()
        if values.dtype.kind != "f" or not len(values) or not np.isnan(values).all()
    }
