"""VTK files, XML (.vtu, .vtp) and legacy (.vtk), and surfaces (.obj, .stl, .ply), through PyVista.

VTK reports a damaged file as text on its console and hands back what it got so far; here every
such report becomes an error.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy._filemesh import Block, FileMesh

SUFFIXES = (".vtu", ".vtk", ".vtp", ".obj", ".stl", ".ply")
WRITABLE = (".vtu", ".vtk")
NAMES = "cardiotwin_names"
_INTERNAL = (
    "vtkOriginalPointIds",
    "vtkOriginalCellIds",
    "vtkGhostType",
    "_global-point-ids",
    "_global-cell-ids",
)
_KINDS = {
    1: "vertex",
    2: "vertex",
    3: "line",
    4: "polyline",
    5: "triangle",
    7: "polygon",
    8: "pixel",
    9: "quad",
    10: "tetra",
    11: "voxel",
    12: "hexahedron",
    13: "wedge",
    14: "pyramid",
    21: "line3",
    22: "triangle6",
    23: "quad8",
    24: "tetra10",
    25: "hexahedron20",
    26: "wedge15",
    27: "pyramid13",
    28: "quad9",
    29: "hexahedron27",
}
_VTK_NUMBER = {"tetra": 10, "triangle": 5}
# Kinds that number their nodes along the axes: kind -> (kind with VTK's ring order, order).
_AXIAL = {
    "voxel": ("hexahedron", [0, 1, 3, 2, 4, 5, 7, 6]),
    "pixel": ("quad", [0, 1, 3, 2]),
}
_DAMAGE = re.compile(r"error|malformed|premature|unexpected|cannot|could not|mismatch", re.I)


def read(path: Path) -> FileMesh:
    """Read a VTK or surface file; points as the file has them.

    Raises:
        ValueError: VTK reported anything wrong, or the file holds no points.
    """
    import pyvista

    data, reports = _run_reader(path)
    damage = [line for line in reports if _DAMAGE.search(line) and " In vtk" not in line]
    if damage or data is None or data.GetNumberOfPoints() == 0:
        raise ValueError(f"VTK found: {damage[0].strip() if damage else 'no points'}")
    wrapped: Any = pyvista.wrap(data)
    has_cells = wrapped.n_cells > 0  # VTK crashes when it casts a grid of points only
    is_grid = isinstance(wrapped, pyvista.UnstructuredGrid)
    grid = wrapped if is_grid or not has_cells else wrapped.cast_to_unstructured_grid()
    kinds = np.asarray(grid.celltypes) if has_cells else np.empty(0, np.uint8)
    blocks = [_block(grid, number, kinds) for number in np.unique(kinds)]
    fields = {name: np.asarray(values) for name, values in grid.point_data.items()}
    mesh = FileMesh(np.array(grid.points, np.float64), blocks, _numeric(fields))
    if NAMES in grid.field_data:
        names = json.loads(str(grid.field_data[NAMES][0]))
        mesh.region_names = {int(label): name for label, name in names["regions"].items()}
        mesh.surface_names = {int(label): name for label, name in names["surfaces"].items()}
        mesh.faithful = True
    return mesh


def write(path: Path, mesh: FileMesh) -> None:
    """Write a .vtu or .vtk file, labels and fields as arrays, the names as a text array."""
    import pyvista

    cells = np.concatenate(
        [np.insert(b.nodes, 0, b.nodes.shape[1], axis=1).ravel() for b in mesh.blocks]
    )
    kinds = np.concatenate(
        [np.full(len(b.nodes), _VTK_NUMBER[b.kind], np.uint8) for b in mesh.blocks]
    )
    grid = pyvista.UnstructuredGrid(cells, kinds, mesh.points)
    for name in mesh.blocks[0].data:
        grid.cell_data[name] = np.concatenate([block.data[name] for block in mesh.blocks])
    for name, values in mesh.point_data.items():
        grid.point_data[name] = values
    names = {"regions": mesh.region_names, "surfaces": mesh.surface_names}
    grid.field_data[NAMES] = [json.dumps(names)]  # escapes what is not ASCII, as VTK needs
    grid.save(str(path))


def _run_reader(path: Path) -> tuple[Any, list[str]]:
    """The output of VTK's reader for the file, and the lines VTK reported meanwhile."""
    from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkStringOutputWindow

    reader = _reader(path)
    reader.SetFileName(str(path))
    window, usual = vtkStringOutputWindow(), vtkOutputWindow.GetInstance()
    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkOutputWindow.SetInstance(window)
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        reader.Update()
        return reader.GetOutput(), window.GetOutput().splitlines()
    finally:
        vtkLogger.SetStderrVerbosity(verbosity)
        vtkOutputWindow.SetInstance(usual)


def _reader(path: Path) -> Any:
    from vtkmodules import vtkIOGeometry, vtkIOLegacy, vtkIOPLY, vtkIOXML

    suffix = path.suffix.lower()
    kind = _legacy_dataset(path) if suffix == ".vtk" else suffix
    readers = {
        ".vtu": vtkIOXML.vtkXMLUnstructuredGridReader,
        ".vtp": vtkIOXML.vtkXMLPolyDataReader,
        ".obj": vtkIOGeometry.vtkOBJReader,
        ".stl": vtkIOGeometry.vtkSTLReader,
        ".ply": vtkIOPLY.vtkPLYReader,
        "UNSTRUCTURED_GRID": vtkIOLegacy.vtkUnstructuredGridReader,
        "POLYDATA": vtkIOLegacy.vtkPolyDataReader,
        "STRUCTURED_GRID": vtkIOLegacy.vtkStructuredGridReader,
        "STRUCTURED_POINTS": vtkIOLegacy.vtkStructuredPointsReader,
        "RECTILINEAR_GRID": vtkIOLegacy.vtkRectilinearGridReader,
    }
    if kind not in readers:
        raise ValueError(f"the legacy VTK header names the data set {kind!r}")
    return readers[kind]()


def _legacy_dataset(path: Path) -> str:
    """The data set type that a legacy header names.

    VTK itself crashes on a legacy file that ends within its header or its leading field arrays;
    one that goes on to its coordinates is past that point.
    """
    content = path.read_bytes()
    dataset = re.search(rb"^DATASET[ \t]+(\w+)", content[:4096], re.M | re.I)
    if not dataset or not re.search(rb"^(POINTS|[XYZ]_COORDINATES|DIMENSIONS)\b", content, re.M):
        raise ValueError("the file ends before its coordinates")
    return dataset[1].decode().upper()


def _block(grid: Any, number: int, kinds: np.ndarray) -> Block:
    kind = _KINDS.get(int(number), f"VTK {number}")
    rows = np.flatnonzero(kinds == number)
    has_new_name = hasattr(grid, "cell_offsets")  # PyVista 0.49 renamed it
    offsets = np.asarray(grid.cell_offsets if has_new_name else grid.offset)
    sizes = np.diff(offsets)[rows]
    if kind == "polyline":
        return _segments(np.asarray(grid.cell_connectivity), offsets[rows], sizes)
    if (sizes != sizes[0]).any():  # polygons: only their nodes matter
        nodes = np.concatenate([grid.cell_connectivity[offsets[r] : offsets[r + 1]] for r in rows])
        return Block(kind, nodes.reshape(-1, 1))
    nodes = np.asarray(grid.cell_connectivity)[offsets[rows][:, None] + np.arange(sizes[0])]
    if kind in _AXIAL:
        kind, order = _AXIAL[kind]
        nodes = nodes[:, order]
    fields = {name: np.asarray(values)[rows] for name, values in grid.cell_data.items()}
    return Block(kind, nodes, _numeric(fields))


def _segments(nodes: np.ndarray, first: np.ndarray, sizes: np.ndarray) -> Block:
    """Poly-lines as the lines between their nodes, without data."""
    starts = np.concatenate([np.arange(f, f + n - 1) for f, n in zip(first, sizes, strict=True)])
    return Block("line", np.stack([nodes[starts], nodes[starts + 1]], axis=1))


def _numeric(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: values
        for name, values in fields.items()
        if values.dtype.kind in "biuf" and name not in _INTERNAL
    }
