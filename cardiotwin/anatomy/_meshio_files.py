"""Gmsh 4, XDMF, Abaqus and Medit files through meshio, and Gmsh 2 through `_gmsh2`.

meshio's own `read` prints and ends the process on a damaged file, so its readers are called one
by one and every failure becomes an error of ours.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cardiotwin.anatomy import _gmsh2
from cardiotwin.anatomy._filemesh import REGION, SURFACE, Block, FileMesh

SUFFIXES = (".msh", ".xdmf", ".xmf", ".inp", ".mesh", ".meshb")
WRITABLE = (".msh", ".xdmf", ".xmf", ".inp")
SEVERAL_FILES = (".xdmf", ".xmf")
_GMSH_SHAPES = ((), (3,), (9,))  # what a Gmsh view can hold per node or element


def read(path: Path) -> FileMesh:
    """Read a Gmsh (2 and 4), XDMF, Abaqus or Medit file; points as the file has them.

    Raises:
        ValueError: the file is damaged; the message is meshio's.
    """
    import meshio

    suffix = path.suffix.lower()
    module = {".msh": meshio.gmsh, ".inp": meshio.abaqus}.get(suffix, meshio.xdmf)
    if suffix in (".mesh", ".meshb"):
        module = meshio.medit
    if suffix == ".msh":
        if _gmsh2.is_version_2(path):
            return _gmsh2.read(path)
        _check_closed(path)
    try:
        content = module.read(str(path))
    except Exception as error:  # meshio's readers fail in as many ways as files are damaged
        raise ValueError(f"meshio found: {type(error).__name__} {error}".rstrip()) from error
    if np.ndim(content.points) != 2 or not len(content.points):
        raise ValueError("meshio found no points")
    points = np.zeros((len(content.points), 3))
    points[:, : content.points.shape[1]] = content.points
    blocks = []
    for number, cells in enumerate(content.cells):
        data = {name: np.asarray(v[number]) for name, v in content.cell_data.items()}
        blocks.append(Block(cells.type, np.asarray(cells.data), data))
    mesh = FileMesh(points, blocks, {k: np.asarray(v) for k, v in content.point_data.items()})
    _take_names(mesh, content.field_data)
    if suffix == ".inp":
        _take_sets(mesh, content.cell_sets)
    return mesh


def write(path: Path, mesh: FileMesh) -> None:
    """Write a .msh (version 2.2, binary), .xdmf (with an .h5 beside it) or .inp file."""
    {".msh": _write_gmsh, ".inp": _write_abaqus}.get(path.suffix.lower(), _write_xdmf)(path, mesh)


def left_out(suffix: str, mesh: FileMesh) -> list[str]:
    """Names of the fields that the format cannot hold."""
    fields = mesh.blocks[0].data | mesh.point_data
    names = [name for name in fields if name not in (REGION, SURFACE)]
    if suffix == ".inp":
        return names
    if suffix == ".msh":
        return [name for name in names if fields[name].shape[1:] not in _GMSH_SHAPES]
    return []


def _take_names(mesh: FileMesh, field_data: dict[str, Any]) -> None:
    """Physical names, which meshio gives as name -> (label, dimension)."""
    for name, pair in field_data.items():
        if np.shape(pair) == (2,):
            names = {3: mesh.region_names, 2: mesh.surface_names}.get(int(pair[1]))
            if names is not None:
                names[int(pair[0])] = name


def _take_sets(mesh: FileMesh, cell_sets: dict[str, list[Any]]) -> None:
    """Abaqus element sets as labels; where sets overlap, the smaller one counts."""
    for dimension, names in ((4, mesh.region_names), (3, mesh.surface_names)):
        kinds = [
            (number, block)
            for number, block in enumerate(mesh.blocks)
            if (block.kind in ("triangle", "quad")) == (dimension == 3)
        ]
        name = SURFACE if dimension == 3 else REGION
        for _, block in kinds:
            block.data[name] = np.zeros(len(block.nodes), np.int32)
        sizes = {s: sum(len(rows[n]) for n, _ in kinds) for s, rows in cell_sets.items()}
        present = [s for s in cell_sets if sizes[s]]
        labels = {s: label for label, s in enumerate(present, start=1)}
        for chosen in sorted(present, key=lambda s: -sizes[s]):
            for number, block in kinds:
                block.data[name][np.asarray(cell_sets[chosen][number], int)] = labels[chosen]
            names[labels[chosen]] = chosen


def _meshio_mesh(mesh: FileMesh, **extra: Any) -> Any:
    import meshio

    cell_data = {name: [block.data[name] for block in mesh.blocks] for name in mesh.blocks[0].data}
    return meshio.Mesh(
        mesh.points,
        [(block.kind, block.nodes) for block in mesh.blocks],
        point_data=dict(mesh.point_data),  # type: ignore[arg-type]
        cell_data=cell_data,  # type: ignore[arg-type]
        **extra,
    )


def _named_labels(mesh: FileMesh) -> dict[str, tuple[int, int]]:
    """Names as Gmsh and meshio have them: name -> (label, dimension)."""
    shared = set(mesh.region_names.values()) & set(mesh.surface_names.values())
    if shared:
        raise ValueError(
            f"a region and a surface are both called {sorted(shared)}: this format keeps one list "
            "of names, rename one of the two or write .vtu"
        )
    names = [*mesh.region_names.values(), *mesh.surface_names.values()]
    odd = [name for name in names if set(name) & set("\"\n,=\\'")]
    if odd:
        raise ValueError(
            f"the names {odd} hold quotes, commas, equals signs or backslashes, which this format "
            "cannot hold: rename them or write .vtu"
        )
    regions = {name: (label, 3) for label, name in mesh.region_names.items()}
    return regions | {name: (label, 2) for label, name in mesh.surface_names.items()}


def _write_gmsh(path: Path, mesh: FileMesh) -> None:
    names = _named_labels(mesh)
    dropped = set(left_out(".msh", mesh))
    blocks = [
        Block(b.kind, b.nodes, {k: v for k, v in b.data.items() if k not in dropped})
        for b in mesh.blocks
    ]
    point_data = {k: v for k, v in mesh.point_data.items() if k not in dropped}
    _gmsh2.write(path, FileMesh(mesh.points, blocks, point_data), names)


def _write_xdmf(path: Path, mesh: FileMesh) -> None:
    import meshio

    writer = meshio.xdmf.main.XdmfWriter(str(path), _meshio_mesh(mesh), data_format="HDF")
    writer.h5_file.close()
    names = _named_labels(mesh)
    if names:
        tree = ElementTree.parse(path)
        grid = tree.find("./Domain/Grid")
        listing = ElementTree.Element("main")
        for name, (label, dimension) in names.items():
            entry = ElementTree.SubElement(listing, "map", key=name, dim=str(dimension))
            entry.text = str(label)
        information = ElementTree.SubElement(
            grid,  # type: ignore[arg-type]
            "Information",
            Name="labels",
            Value=str(len(names)),
        )
        information.text = ElementTree.tostring(listing, encoding="unicode")
        tree.write(path, encoding="utf-8", xml_declaration=True)


def _write_abaqus(path: Path, mesh: FileMesh) -> None:
    import meshio

    _named_labels(mesh)
    sets: dict[str, list[np.ndarray]] = {}
    for number, block in enumerate(mesh.blocks):
        solid = block.kind == "tetra"
        labels = block.data[REGION if solid else SURFACE]
        names = mesh.region_names if solid else mesh.surface_names
        for label in np.unique(labels):
            rows = [np.empty(0, int) for _ in mesh.blocks]
            rows[number] = np.flatnonzero(labels == label)
            sets[names.get(int(label), f"region_{label}")] = rows
    bare = [Block(block.kind, block.nodes) for block in mesh.blocks]
    meshio.abaqus.write(str(path), _meshio_mesh(FileMesh(mesh.points, bare), cell_sets=sets))


def _check_closed(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        tail = file.read().strip().splitlines()
    if not tail or not tail[-1].strip().startswith(b"$End"):
        raise ValueError("the last section is not closed, the file ends early")
