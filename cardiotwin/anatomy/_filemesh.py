"""A mesh as a file holds it: blocks of elements of any kind with their data and names."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cardiotwin.anatomy._elements import (
    QUADRATIC,
    SURFACES,
    VOLUMES,
    split_surfaces,
    split_volumes,
)

if TYPE_CHECKING:
    from cardiotwin.anatomy.mesh import Mesh

REGION, SURFACE = "region", "surface"


@dataclass
class Block:
    """Elements of one kind (the names of meshio, nodes in VTK order) with data per element."""

    kind: str
    nodes: np.ndarray
    data: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class FileMesh:
    """What a file holds, points in mm.

    `faithful` marks a file that this package wrote: its names and fields are taken as they are.
    """

    points: np.ndarray
    blocks: list[Block]
    point_data: dict[str, np.ndarray] = field(default_factory=dict)
    region_names: dict[int, str] = field(default_factory=dict)
    surface_names: dict[int, str] = field(default_factory=dict)
    faithful: bool = False


@dataclass
class Solid:
    """Tetrahedra and surface triangles in the numbering of the file, with their data."""

    cells: np.ndarray
    cell_data: dict[str, np.ndarray]
    triangles: np.ndarray
    triangle_data: dict[str, np.ndarray]


def solid(path: Path, mesh: FileMesh) -> Solid:
    """Cut all volume elements into tetrahedra and all surface elements into triangles.

    Raises:
        ValueError: an index is out of range, an element kind is not known, or there are no volume
            elements.
    """
    volumes, surfaces = [], []
    for block in mesh.blocks:
        _check_block(path, block, len(mesh.points))
        kind, nodes = block.kind, block.nodes
        if kind in QUADRATIC:
            kind, corners = QUADRATIC[kind]
            nodes = nodes[:, :corners]
            warnings.warn(
                f"{path.name}: {len(nodes)} quadratic elements ({block.kind}) are read as linear "
                "ones, their mid-edge nodes are left out",
                UserWarning,
                stacklevel=4,
            )
        if kind in VOLUMES:
            cells, source = split_volumes(kind, nodes, mesh.points)
            volumes.append((cells, _rows(block.data, source)))
        elif kind in SURFACES:
            triangles, source = split_surfaces(kind, nodes)
            surfaces.append((triangles, _rows(block.data, source)))
    if not volumes:
        found = ", ".join(f"{len(b.nodes)} {b.kind}" for b in mesh.blocks) or "no elements"
        raise ValueError(
            f"{path}: no volume elements, found {found}: a surface must be filled with tetrahedra "
            "by a mesher (Gmsh, fTetWild, TetGen) first"
        )
    cells, cell_data = _joined(volumes, 4)
    triangles, triangle_data = _joined(surfaces, 3)
    return Solid(cells, cell_data, triangles, triangle_data)


def to_file_mesh(mesh: "Mesh") -> FileMesh:
    """A mesh as two blocks, tetrahedra and surface triangles, with labels "region", "surface".

    Fields of elements are padded on the triangles: NaN for floats, 0 for the rest.
    """
    taken = {REGION, SURFACE} & set(mesh.cell_data)
    if taken:
        raise ValueError(
            f"cell_data has a field called {sorted(taken)}, which files use for the labels: "
            "give it another name before writing"
        )
    names = list(mesh.surfaces)
    faces = [mesh.surfaces[name] for name in names]
    triangles = np.concatenate([np.empty((0, 3), np.int32), *faces])
    labels = np.repeat(np.arange(1, len(names) + 1, dtype=np.int32), [len(f) for f in faces])
    tetra = Block("tetra", mesh.cells, dict(mesh.cell_data))
    tetra.data |= {REGION: mesh.regions, SURFACE: np.zeros(len(mesh.cells), np.int32)}
    blocks = [tetra]
    if len(triangles):
        padded = {name: _padding(values, len(triangles)) for name, values in tetra.data.items()}
        blocks.append(Block("triangle", triangles, padded | {SURFACE: labels}))
    return FileMesh(
        mesh.points,
        blocks,
        dict(mesh.point_data),
        dict(mesh.region_names),
        dict(enumerate(names, start=1)),
        faithful=True,
    )


def _check_block(path: Path, block: Block, nodes: int) -> None:
    ignored = ("vertex", "line", "line3", "polygon", "polyline")
    if block.kind not in (*VOLUMES, *SURFACES, *QUADRATIC, *ignored):
        raise ValueError(
            f"{path}: {len(block.nodes)} elements of kind {block.kind!r} cannot be read: convert "
            "them to tetrahedra, hexahedra, prisms or pyramids"
        )
    if block.nodes.size and (block.nodes.min() < 0 or block.nodes.max() >= nodes):
        raise ValueError(
            f"{path}: elements of kind {block.kind!r} point to nodes from {block.nodes.min()} to "
            f"{block.nodes.max()}, but the file has {nodes} nodes: it is damaged or its parts "
            "belong to different meshes"
        )


def _rows(data: dict[str, np.ndarray], source: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[source] for name, values in data.items()}


def _joined(
    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]], width: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Blocks put together; a field stays when every block has it."""
    if not parts:
        return np.empty((0, width), np.int64), {}
    shared = [name for name in parts[0][1] if all(name in data for _, data in parts)]
    return (
        np.concatenate([nodes for nodes, _ in parts]),
        {name: np.concatenate([data[name] for _, data in parts]) for name in shared},
    )


def _padding(values: np.ndarray, rows: int) -> np.ndarray:
    fill = np.nan if values.dtype.kind in "fc" else 0
    return np.full((rows, *values.shape[1:]), fill, values.dtype)
