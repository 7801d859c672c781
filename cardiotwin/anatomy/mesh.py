"""The tetrahedral mesh every other part of the package stands on."""

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from cardiotwin.anatomy import _invariants as invariants
from cardiotwin.anatomy.topology import boundary_faces as boundary_faces
from cardiotwin.anatomy.topology import (
    component_labels,
    match_faces,
    same_winding,
    signed_volumes,
)
from cardiotwin.anatomy.topology import unique_edges as unique_edges
from cardiotwin.numerics.fem import p1_geometry

STANDARD_SURFACES = ("epi", "endo_lv", "endo_rv", "base")
STANDARD_REGIONS = ("lv", "rv", "septum")


class Mesh(eqx.Module):
    """A tetrahedral mesh in millimetres, with named regions and surfaces.

    All arrays are NumPy arrays on the host; a mesh is not passed to compiled code, arrays derived
    from it are. A mesh that was constructed holds: finite coordinates, positive volumes, no node
    without an element, no element twice, one connected piece (unless `allow_components`), fields
    of the right length, and surfaces whose faces lie on the boundary with their normals pointing
    out of the tissue.

    Args:
        points: coordinates [nodes, 3], mm.
        cells: node indices [elements, 4]; the fourth node lies on the side to which the normal of
            the first three points (positive volume).
        regions: an integer label per element [elements]; all 1 when left out.
        surfaces: name -> node indices [faces, 3] of boundary faces, counter-clockwise seen from
            outside. Standard names: "epi", "endo_lv", "endo_rv" (with the right-ventricular side
            of the septum) and "base".
        point_data: name -> values per node [nodes, ...].
        cell_data: name -> values per element [elements, ...]; the fibre direction of a file is
            "fibre" [elements, 3], the sheet direction "sheet".
        region_names: a mapping or pairs (label, name). Standard names: "lv", "rv", "septum".
        allow_components: accept a mesh that falls into several pieces.

    Raises:
        ValueError: an invariant does not hold; the message names the worst offenders and the
            remedy, most often `Mesh.repaired`, which takes the same arguments.
    """

    points: Float[np.ndarray, "nodes 3"]
    cells: Int[np.ndarray, "elements 4"]
    regions: Int[np.ndarray, " elements"]
    surfaces: dict[str, np.ndarray]
    point_data: dict[str, np.ndarray]
    cell_data: dict[str, np.ndarray]
    region_names: tuple[tuple[int, str], ...] = eqx.field(static=True)

    def __init__(
        self,
        points: Any,
        cells: Any,
        regions: Any = None,
        *,
        surfaces: Mapping[str, Any] | None = None,
        point_data: Mapping[str, Any] | None = None,
        cell_data: Mapping[str, Any] | None = None,
        region_names: Mapping[int, str] | Iterable[tuple[int, str]] = (),
        allow_components: bool = False,
    ):
        self.points = invariants.as_points(points)
        self.cells = invariants.as_indices(cells, 4, "cells")
        self.regions = invariants.as_regions(regions, len(self.cells))
        self.surfaces = {
            name: invariants.as_indices(faces, 3, f"surface {name!r}")
            for name, faces in (surfaces or {}).items()
        }
        self.point_data = _native(point_data)
        self.cell_data = _native(cell_data)
        self.region_names = tuple((int(k), str(v)) for k, v in dict(region_names).items())
        invariants.check_mesh(self, allow_components=allow_components)

    @classmethod
    def repaired(
        cls,
        points: Any,
        cells: Any,
        regions: Any = None,
        *,
        surfaces: Mapping[str, Any] | None = None,
        point_data: Mapping[str, Any] | None = None,
        cell_data: Mapping[str, Any] | None = None,
        region_names: Mapping[int, str] | Iterable[tuple[int, str]] = (),
        orient: bool = True,
        drop_degenerate: bool = True,
        drop_duplicates: bool = True,
        drop_isolated: bool = True,
        largest_component: bool = False,
        allow_components: bool = False,
    ) -> "Mesh":
        """Make a mesh from arrays that break the invariants, mending what can be mended.

        Surface faces that are not on the boundary (any more) are dropped, the others are turned
        outward.

        Args:
            points: as for the constructor, like all arguments up to `region_names`.
            cells: [elements, 4].
            regions: [elements].
            surfaces: name -> [faces, 3].
            point_data: name -> [nodes, ...].
            cell_data: name -> [elements, ...].
            region_names: label -> name.
            orient: flip inverted elements.
            drop_degenerate: leave out elements of (nearly) no volume.
            drop_duplicates: leave out elements that occur twice.
            drop_isolated: leave out nodes without an element, and renumber.
            largest_component: keep only the piece with the largest volume.
            allow_components: accept several pieces.
        """
        points = invariants.as_points(points)
        cells = invariants.as_indices(cells, 4, "cells")
        regions = invariants.as_regions(regions, len(cells))
        cell_data, point_data = _native(cell_data), _native(point_data)
        invariants.check_finite(points)
        invariants.check_range(cells, len(points), "cells")
        invariants.check_lengths(point_data, len(points), "point_data", "nodes")
        invariants.check_lengths(cell_data, len(cells), "cell_data", "elements")
        keep = np.ones(len(cells), bool)
        if drop_degenerate:
            keep &= ~invariants.degenerate(points, cells)
        if drop_duplicates:
            keep &= ~invariants.repeated(cells)
        if largest_component and keep.any():
            keep &= _in_largest_component(points, cells, keep)
        if orient:
            cells = oriented(points, cells)
        cells = cells[keep]
        nodes = np.unique(cells) if drop_isolated else np.arange(len(points))
        renumber = np.full(len(points), -1, np.int32)
        renumber[nodes] = np.arange(len(nodes), dtype=np.int32)
        return cls(
            points[nodes],
            renumber[cells],
            regions[keep],
            surfaces=_outward_surfaces(surfaces or {}, cells, renumber),
            point_data={name: values[nodes] for name, values in point_data.items()},
            cell_data={name: values[keep] for name, values in cell_data.items()},
            region_names=region_names,
            allow_components=allow_components,
        )

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.points)

    @property
    def elements(self) -> int:
        """Number of tetrahedra."""
        return len(self.cells)

    def volumes(self) -> Float[np.ndarray, " elements"]:
        """Volume of every element [elements], mm3."""
        return signed_volumes(self.points, self.cells)

    def volume(self) -> float:
        """Volume of the whole mesh, mm3."""
        return float(self.volumes().sum())

    def centroids(self) -> Float[np.ndarray, "elements 3"]:
        """Centre of every element [elements, 3], mm."""
        return self.points[self.cells].mean(axis=1)

    def gradients(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, "elements 3"]:
        """Gradient of a field in every element [elements, 3], a unit per mm."""
        shapes, _ = p1_geometry(self.points, self.cells)
        return np.einsum("eai,ea->ei", shapes, np.asarray(values, np.float64)[self.cells])

    def unique_edges(self) -> Int[np.ndarray, "edges 2"]:
        """Every edge once [edges, 2], lower node first."""
        return unique_edges(self.cells)

    def boundary_faces(self) -> Int[np.ndarray, "faces 3"]:
        """Faces of the whole boundary [faces, 3], normals out of the tissue."""
        return boundary_faces(self.cells)

    def region_id(self, name: str) -> int:
        """The label of the region called `name`.

        Raises:
            ValueError: no region has that name; the message lists those there are.
        """
        for label, known in self.region_names:
            if known == name:
                return label
        present = ", ".join(f"{known!r} ({label})" for label, known in self.region_names)
        raise ValueError(
            f"the mesh has no region {name!r}: its named regions are {present or 'none'} and its "
            f"labels are {np.unique(self.regions).tolist()}; name them with region_names="
        )

    def select(self, regions: Iterable[str | int], *, allow_components: bool = False) -> "Mesh":
        """The part of the mesh in the named (or numbered) regions, renumbered.

        Args:
            regions: names or labels.
            allow_components: accept that the part falls into several pieces.
        """
        labels = [
            self.region_id(region) if isinstance(region, str) else int(region)
            for region in ([regions] if isinstance(regions, str) else regions)
        ]
        unknown = sorted(set(labels) - set(np.unique(self.regions).tolist()))
        if unknown:
            raise ValueError(
                f"no element has the region label {unknown}: the labels are "
                f"{np.unique(self.regions).tolist()}"
            )
        return self.submesh(np.isin(self.regions, labels), allow_components=allow_components)[0]

    def submesh(
        self, mask: Bool[np.ndarray, " elements"], *, allow_components: bool = False
    ) -> tuple["Mesh", Int[np.ndarray, " kept"]]:
        """The marked elements as a mesh of their own, with its fields and surfaces.

        Surfaces keep the faces that lie on the boundary of the part; one that keeps none is left
        out. Faces that the cut laid bare belong to no surface.

        Args:
            mask: which elements to keep [elements], boolean.
            allow_components: accept that the part falls into several pieces.

        Returns:
            The part, and for each of its nodes the index of that node in this mesh.
        """
        mask = np.asarray(mask)
        if mask.shape != (self.elements,) or mask.dtype != bool:
            raise ValueError(
                f"the mask has shape {mask.shape} and type {mask.dtype}: give one boolean per "
                f"element, shape ({self.elements},)"
            )
        if not mask.any():
            raise ValueError("the mask keeps no element: mark at least one")
        cells = self.cells[mask]
        nodes = np.unique(cells)
        renumber = np.full(self.nodes, -1, np.int32)
        renumber[nodes] = np.arange(len(nodes), dtype=np.int32)
        labels = set(np.unique(self.regions[mask]).tolist())
        part = Mesh(
            self.points[nodes],
            renumber[cells],
            self.regions[mask],
            surfaces=_outward_surfaces(self.surfaces, cells, renumber),
            point_data={name: values[nodes] for name, values in self.point_data.items()},
            cell_data={name: values[mask] for name, values in self.cell_data.items()},
            region_names=[pair for pair in self.region_names if pair[0] in labels],
            allow_components=allow_components,
        )
        return part, nodes

    def replaced(self, *, allow_components: bool = False, **changes: Any) -> "Mesh":
        """A copy with some constructor arguments changed, checked anew.

        Args:
            allow_components: accept that the mesh falls into several pieces.
            **changes: any of the constructor's arguments, such as ``cell_data={...}``.
        """
        names = ("points", "cells", "regions", "surfaces", "point_data", "cell_data")
        arguments = {name: getattr(self, name) for name in (*names, "region_names")} | changes
        return Mesh(**arguments, allow_components=allow_components)


def oriented(
    points: Float[np.ndarray, "nodes 3"], cells: Int[np.ndarray, "elements 4"]
) -> Int[np.ndarray, "elements 4"]:
    """The same elements with the inverted ones turned over (last two nodes swapped)."""
    cells = np.array(cells)
    inverted = signed_volumes(points, cells) < 0
    cells[inverted] = cells[inverted][:, [0, 1, 3, 2]]
    return cells


def outward(
    faces: Int[np.ndarray, "faces 3"], boundary: Int[np.ndarray, "boundary 3"]
) -> Int[np.ndarray, "kept 3"]:
    """Those of `faces` that are in `boundary`, wound as they are there (normals out of tissue).

    Args:
        faces: [faces, 3] node indices in any order and sense.
        boundary: what `boundary_faces` returns.
    """
    place = match_faces(faces, boundary)
    found = place >= 0
    faces, sense = np.array(faces[found]), boundary[place[found]]
    flipped = ~same_winding(faces, sense)
    faces[flipped] = faces[flipped][:, [0, 2, 1]]
    return faces


def _outward_surfaces(
    surfaces: Mapping[str, Any], cells: np.ndarray, renumber: np.ndarray
) -> dict[str, np.ndarray]:
    """Surfaces restricted to the boundary of `cells`, outward and renumbered; empty ones go."""
    if not surfaces:
        return {}
    boundary = boundary_faces(cells)
    kept = {
        name: renumber[outward(invariants.as_indices(faces, 3, f"surface {name!r}"), boundary)]
        for name, faces in surfaces.items()
    }
    return {name: faces for name, faces in kept.items() if len(faces)}


def _in_largest_component(points: np.ndarray, cells: np.ndarray, keep: np.ndarray) -> np.ndarray:
    labels = component_labels(cells[keep], len(points))[cells[:, 0]]
    volume = np.bincount(labels[keep], np.abs(signed_volumes(points, cells[keep])))
    return labels == np.argmax(volume)


def _native(fields: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Fields as contiguous arrays in the machine's byte order, their type kept."""
    arrays = {str(name): np.asarray(values) for name, values in (fields or {}).items()}
    return {
        name: np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        for name, values in arrays.items()
    }
