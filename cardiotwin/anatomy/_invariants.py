"""What a `Mesh` promises, checked one promise a function; each message names the remedy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cardiotwin.anatomy.topology import (
    boundary_faces,
    component_labels,
    match_faces,
    same_winding,
    signed_volumes,
)

if TYPE_CHECKING:
    from cardiotwin.anatomy.mesh import Mesh

# An element whose volume is below this fraction of the cube of its longest edge has no volume:
# a regular tetrahedron has 0.118, and float64 coordinates resolve about 1e-15.
DEGENERATE = 1e-10
SHOWN = 5


def as_points(points: Any) -> np.ndarray:
    """Coordinates as a contiguous float64 array [nodes, 3]."""
    array = np.ascontiguousarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
        raise ValueError(
            f"points have shape {array.shape}: give coordinates in mm of shape [nodes, 3]"
        )
    return array


def as_indices(indices: Any, width: int, what: str) -> np.ndarray:
    """Node indices as a contiguous int32 array [n, width]."""
    array = np.asarray(indices)
    if array.size == 0 and width == 3:
        return np.empty((0, 3), np.int32)
    if array.ndim != 2 or array.shape[1] != width or len(array) == 0:
        kind = "tetrahedra" if width == 4 else "triangles"
        raise ValueError(
            f"{what}: shape {array.shape}, expected node indices of {kind}, shape [n, {width}]; "
            "read mixed or higher-order elements with read_mesh, which converts them"
        )
    if array.dtype.kind not in "iu":
        raise ValueError(f"{what}: type {array.dtype}, expected integer node indices")
    if array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min:
        raise ValueError(f"{what}: index {array.max()} does not fit 32 bits")
    return np.ascontiguousarray(array, dtype=np.int32)


def as_regions(regions: Any, elements: int) -> np.ndarray:
    """Region labels as int32 [elements]; all 1 when left out."""
    if regions is None:
        return np.ones(elements, np.int32)
    array = np.asarray(regions)
    if array.shape != (elements,):
        raise ValueError(
            f"regions have shape {array.shape}: give one label per element, shape ({elements},)"
        )
    labels = array.astype(np.int32) if np.all(np.isfinite(array)) else None
    if labels is None or np.any(labels != array):
        raise ValueError(
            "regions hold values that are no integers: give an integer label per element"
        )
    return np.ascontiguousarray(labels)


def check_mesh(mesh: "Mesh", *, allow_components: bool) -> None:
    """Check every invariant of a mesh, the cheap and the telling ones first."""
    check_finite(mesh.points)
    check_range(mesh.cells, len(mesh.points), "cells")
    for name, faces in mesh.surfaces.items():
        check_range(faces, len(mesh.points), f"surface {name!r}")
    check_lengths(mesh.point_data, len(mesh.points), "point_data", "nodes")
    check_lengths(mesh.cell_data, len(mesh.cells), "cell_data", "elements")
    check_region_names(mesh.region_names)
    check_volumes(mesh.points, mesh.cells)
    check_repeated(mesh.cells)
    check_isolated(mesh.cells, len(mesh.points))
    if not allow_components:
        check_components(mesh.points, mesh.cells)
    if mesh.surfaces:
        check_surfaces(mesh.surfaces, mesh.cells)


def check_finite(points: np.ndarray) -> None:
    """Coordinates are neither NaN nor infinite."""
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(points)} nodes have NaN or infinite coordinates, such as "
            f"{_some(bad, lambda i: f'node {i} at {_vector(points[i])}')}: correct them in the "
            "file they come from"
        )


def check_range(indices: np.ndarray, nodes: int, what: str) -> None:
    """Node indices lie between 0 and the number of nodes."""
    bad = np.flatnonzero(((indices < 0) | (indices >= nodes)).any(axis=1))
    if len(bad):
        remedy = (
            "indices count from 0, these seem to count from 1: subtract 1"
            if indices.max() == nodes and indices.min() == 1
            else "correct the indices, or give the points they belong to"
        )
        raise ValueError(
            f"{what}: {len(bad)} of {len(indices)} rows point to nodes that do not exist (there "
            f"are {nodes}), such as {_some(bad, lambda i: f'row {i} {indices[i].tolist()}')}: "
            f"{remedy}"
        )


def check_lengths(fields: Mapping[str, np.ndarray], length: int, what: str, axis: str) -> None:
    """Every field has one row per node, or per element."""
    for name, values in fields.items():
        if values.ndim == 0 or len(values) != length:
            raise ValueError(
                f"{what}[{name!r}] has shape {values.shape}: its first axis must have one row for "
                f"each of the {length} {axis}"
            )
        if values.dtype.kind not in "biufc":
            raise ValueError(
                f"{what}[{name!r}] has type {values.dtype}: only numbers can be a field; leave "
                "it out"
            )


def check_region_names(pairs: tuple[tuple[int, str], ...]) -> None:
    """No two regions share a name."""
    names = [name for _, name in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several regions are called {twice}: give each label its own name")


def degenerate(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Which elements have no volume at their scale [elements], boolean."""
    return np.abs(signed_volumes(points, cells)) <= DEGENERATE * _longest_edge(points, cells) ** 3


def check_volumes(points: np.ndarray, cells: np.ndarray) -> None:
    """All volumes are positive at the scale of their element."""
    volumes = signed_volumes(points, cells)
    flat = np.flatnonzero(np.abs(volumes) <= DEGENERATE * _longest_edge(points, cells) ** 3)
    if len(flat):
        worst = flat[np.argsort(np.abs(volumes[flat]))]
        raise ValueError(
            f"{len(flat)} of {len(cells)} elements have no volume, such as "
            f"{_some(worst, lambda i: _element(cells, i, volumes))}: leave them out with "
            "Mesh.repaired(..., drop_degenerate=True), or mesh the region anew"
        )
    inverted = np.flatnonzero(volumes < 0)
    if len(inverted):
        worst = inverted[np.argsort(volumes[inverted])]
        every = " (all of them: the file counts nodes the other way round)"
        raise ValueError(
            f"{len(inverted)} of {len(cells)} elements are inverted (negative volume)"
            f"{every if len(inverted) == len(cells) else ''}, such as "
            f"{_some(worst, lambda i: _element(cells, i, volumes))}: turn them over with "
            "Mesh.repaired(..., orient=True) or read_mesh(..., orient=True)"
        )


def repeated(cells: np.ndarray) -> np.ndarray:
    """Which elements have the nodes of an earlier one [elements], boolean."""
    ordered = np.sort(cells, axis=1).astype(np.int64)
    high = (ordered[:, 0] << 32) | ordered[:, 1]
    low = (ordered[:, 2] << 32) | ordered[:, 3]
    order = np.lexsort((low, high))
    again = (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
    mask = np.zeros(len(cells), bool)
    mask[order[1:][again]] = True
    return mask


def check_repeated(cells: np.ndarray) -> None:
    """No element occurs twice."""
    bad = np.flatnonzero(repeated(cells))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(cells)} elements repeat the nodes of an earlier one, such as "
            f"{_some(bad, lambda i: f'element {i} {cells[i].tolist()}')}: leave them out with "
            "Mesh.repaired(..., drop_duplicates=True)"
        )


def check_isolated(cells: np.ndarray, nodes: int) -> None:
    """Every node belongs to an element."""
    bad = np.flatnonzero(np.bincount(cells.ravel(), minlength=nodes) == 0)
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {nodes} nodes belong to no element, such as node "
            f"{_some(bad, str)}: leave them out with Mesh.repaired(..., drop_isolated=True)"
        )


def check_components(points: np.ndarray, cells: np.ndarray) -> None:
    """The mesh is one connected piece."""
    labels = component_labels(cells, len(points))[cells[:, 0]]
    pieces = int(labels.max()) + 1
    if pieces > 1:
        volume = np.bincount(labels, signed_volumes(points, cells))
        count = np.bincount(labels)
        first = np.unique(labels, return_index=True)[1]
        order = np.argsort(-volume)
        raise ValueError(
            f"the mesh falls into {pieces} pieces that share no node: "
            f"{_some(order, lambda i: _piece(int(count[i]), float(volume[i]), int(first[i])))}. "
            "Excitation cannot pass between them: keep the largest with "
            "Mesh.repaired(..., largest_component=True), or accept them with allow_components=True"
        )


def check_surfaces(surfaces: Mapping[str, np.ndarray], cells: np.ndarray) -> None:
    """Surface faces are boundary faces, each once, with normals out of the tissue."""
    boundary = boundary_faces(cells)
    for name, faces in surfaces.items():
        place = match_faces(faces, boundary)
        bad = np.flatnonzero(place < 0)
        if len(bad):
            raise ValueError(
                f"surface {name!r}: {len(bad)} of {len(faces)} triangles are not faces of the "
                f"boundary, such as {_some(bad, lambda i, f=faces: f'{i} {f[i].tolist()}')}: "
                "leave them out with Mesh.repaired(...), or match a surface of its own points "
                "with surface_from_file"
            )
        if len(np.unique(place)) < len(place):
            raise ValueError(
                f"surface {name!r}: {len(place) - len(np.unique(place))} of {len(faces)} "
                "triangles occur twice: leave out the repeated ones"
            )
        inward = np.flatnonzero(~same_winding(faces, boundary[place]))
        if len(inward):
            raise ValueError(
                f"surface {name!r}: the normals of {len(inward)} of {len(faces)} triangles point "
                f"into the tissue, such as "
                f"{_some(inward, lambda i, f=faces: f'{i} {f[i].tolist()}')}: turn them outward "
                "with Mesh.repaired(...)"
            )


def _longest_edge(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
    corners = points[cells]
    spans = [
        np.einsum("ij,ij->i", corners[:, a] - corners[:, b], corners[:, a] - corners[:, b])
        for a in range(4)
        for b in range(a)
    ]
    return np.sqrt(np.max(spans, axis=0))


def _some(items: np.ndarray, describe: Any) -> str:
    text = ", ".join(describe(int(item)) for item in items[:SHOWN])
    return text if len(items) <= SHOWN else f"{text} and {len(items) - SHOWN} more"


def _element(cells: np.ndarray, i: int, volumes: np.ndarray) -> str:
    return f"element {i} {cells[i].tolist()} of {volumes[i]:.3g} mm3"


def _piece(count: int, volume: float, first: int) -> str:
    return f"{count} elements of {volume:.4g} mm3 (from element {first})"


def _vector(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
