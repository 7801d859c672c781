"""Fibre directions that lie in a file of their own, its points in any order."""

from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from cardiotwin.anatomy._fibre_fields import average_to_elements, take_directions
from cardiotwin.anatomy._filemesh import FileMesh, solid
from cardiotwin.anatomy._open import open_file


def directions_from_file(
    path: Path, points: np.ndarray, cells: np.ndarray, unit: str | None, tolerance: float
) -> dict[str, np.ndarray]:
    """Directions per element from vectors at the nodes, or elements, of another file.

    Args:
        path: a mesh, or points alone, with a vector field of a known name.
        points: nodes of the mesh [nodes, 3], mm.
        cells: its elements [elements, 4].
        unit: unit of the file's coordinates.
        tolerance: how far a point may lie from its node, mm.

    Returns:
        "fibre", and "sheet" where the file has it, [elements, 3].

    Raises:
        ValueError: the file has no such field, or nodes without a counterpart.
    """
    content = open_file(path, unit)
    none = np.empty((0, 4), int)
    by_node = take_directions(path, none, {}, content.point_data, average=False)
    if by_node:
        nearest = match_by_position(path, points, content.points, tolerance, "nodes")
        return {name: average_to_elements(v[nearest], cells) for name, v in by_node.items()}
    parts = solid(path, content)
    by_element = take_directions(path, parts.cells, {}, parts.cell_data)
    if not by_element:
        raise ValueError(_no_field(path, {*content.point_data, *parts.cell_data}))
    centres, places = content.points[parts.cells].mean(axis=1), points[cells].mean(axis=1)
    nearest = match_by_position(path, places, centres, tolerance, "elements")
    return {name: values[nearest] for name, values in by_element.items()}


def match_by_position(
    path: Path, places: np.ndarray, known: np.ndarray, tolerance: float, what: str
) -> np.ndarray:
    """For each place the index of the nearest known one.

    Raises:
        ValueError: some have none within the tolerance; the message says how many and how far.
    """
    distance, nearest = KDTree(known).query(places)
    far = np.flatnonzero(distance > tolerance)
    if len(far):
        worst = far[np.argsort(-distance[far])][:3]
        some = ", ".join(f"{i} ({distance[i]:.3g} mm away)" for i in worst)
        raise ValueError(
            f"{path}: {len(far)} of {len(places)} {what} have no counterpart within "
            f"{tolerance:.3g} mm in this file, such as {some}: give the file that belongs to the "
            "mesh, its unit, or a larger tolerance"
        )
    return np.asarray(nearest)


def read_directions(
    path: Path, unit: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Points in mm, fibre and, where the file has it, sheet directions of a file [samples, 3].

    Args:
        path: a mesh or points alone, with a vector field of a known name at nodes or elements.
        unit: unit of the file's coordinates, mm when left out.

    Raises:
        ValueError: the file has no such field.
    """
    content = open_file(path, unit)
    none = np.empty((0, 4), int)
    found = take_directions(path, none, {}, content.point_data, average=False)
    places = content.points
    if "fibre" not in found and content.blocks:
        parts = solid(path, content)
        found = take_directions(path, parts.cells, {}, parts.cell_data)
        places = content.points[parts.cells].mean(axis=1)
    if "fibre" not in found:
        raise ValueError(_no_field(path, {*content.point_data, *_fields_of(content)}))
    return places, found["fibre"], found.get("sheet")


def _fields_of(content: FileMesh) -> set[str]:
    return {name for block in content.blocks for name in block.data}


def _no_field(path: Path, names: set[str]) -> str:
    return (
        f"{path}: no fibre direction among its fields {sorted(names)}: call a field of three "
        "components 'fibre' (and one 'sheet')"
    )
