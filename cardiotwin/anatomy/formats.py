"""Reading and writing meshes: the only part of the package that knows mesh files.

VTK (.vtu, .vtk), Gmsh (.msh 2 and 4), XDMF, Abaqus (.inp), Medit (.mesh), each also gzipped, and
openCARP, text and binary. Nothing here unpickles: formats that would are not in the list.
"""

import gzip
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from cardiotwin._types import Millimetres
from cardiotwin.anatomy import _meshio_files, _vtk_files, carp
from cardiotwin.anatomy._draft import Draft, draft
from cardiotwin.anatomy._fibre_fields import checked_directions, take_directions
from cardiotwin.anatomy._fibre_files import directions_from_file, match_by_position
from cardiotwin.anatomy._filemesh import to_file_mesh
from cardiotwin.anatomy._open import check_exists, is_carp, open_file, read_plain
from cardiotwin.anatomy._size import size_doubt
from cardiotwin.anatomy.finding import with_found_surfaces
from cardiotwin.anatomy.mesh import Mesh, boundary_faces, oriented, outward, unique_edges
from cardiotwin.anatomy.naming import read_name_map
from cardiotwin.anatomy.refining import refined
from cardiotwin.anatomy.topology import match_faces
from cardiotwin.units import to_mm

WRITABLE = (*_vtk_files.WRITABLE, *_meshio_files.WRITABLE, *carp.SUFFIXES)
MATCH_FRACTION = 0.01  # of the median edge: how far a node of another file may lie


def read_mesh(
    path: str | os.PathLike[str],
    *,
    unit: str | None = None,
    regions: str | None = None,
    names: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    keep: Iterable[str | int] | None = None,
    fibres: str | os.PathLike[str] | bool | None = None,
    tolerance: float | None = None,
    orient: bool = False,
    allow_components: bool = False,
    allow_uniform_fibres: bool = False,
    find_surfaces: bool | Literal["lv"] = False,
    edge_length: Millimetres | None = None,
) -> Mesh:
    """Read a mesh file into a `Mesh` in millimetres.

    Hexahedra, prisms and pyramids are cut into tetrahedra that fit each other; triangles and
    quadrilaterals with labels become named surfaces, restricted to the boundary and turned
    outward; fibre and sheet directions of any usual name become cell_data "fibre" and "sheet".

    Args:
        path: the file; for openCARP any of its files or the base name.
        unit: unit of the file's coordinates, "um", "mm", "cm" or "m"; left out, mm, and um for
            openCARP.
        regions: name of the cell array with the region labels; found by name when left out
            ("region", "elemTag", "gmsh:physical", "_volume-id", "medit:ref", ...).
        names: names for labels: a JSON file, a mapping with "regions" and "surfaces", or
            "standard"; see `naming.read_name_map`. All names then become the standard ones where
            they mean the same ("Left ventricle" -> "lv").
        keep: names or labels of the regions to keep. The part of the new boundary that no
            standard surface covers becomes surface "base" (or "cut", where the cut went through
            ventricular tissue).
        fibres: a file with the directions: .lon, .blon, or points with vectors in any order,
            matched by position. False ignores directions, None takes those of the mesh file.
        tolerance: how far, in mm, a point of the fibre file may lie from its node; 1 % of the
            median edge when left out.
        orient: turn inverted elements over.
        allow_components: accept a mesh in several pieces.
        allow_uniform_fibres: keep directions that are the same in every element of a heart, which
            otherwise count as placeholders.
        find_surfaces: tell epicardium, endocardia and base apart by shape, where the file names
            none of them and there are two cavities; with a warning where that is uncertain. "lv"
            for the mesh of a left ventricle alone, which has one cavity.
        edge_length: halve the edges until their mean is about this, or below (`refined`); the
            file's own where left out.

    Returns:
        The mesh, checked.

    Raises:
        ValueError: the file is missing, damaged, of an unknown format, or its content breaks an
            invariant of `Mesh`; the message names the file, what was found and the remedy.
    """
    path = Path(path)
    content = open_file(path, unit)
    part = draft(path, content, regions, None if names is None else read_name_map(names))
    own = take_directions(path, part.cells, part.point_data, part.cell_data)
    if isinstance(fibres, (str, os.PathLike)):
        own = {}
        if carp.is_direction_file(fibres):
            own = carp.directions_of(fibres, len(part.cells))
    elif fibres is False:
        own = {}
    part.cell_data |= own
    if orient:
        part.cells = oriented(part.points, part.cells)
    if keep is not None:
        part.keep(keep)
    own = {name: part.cell_data.pop(name) for name in own}
    part.finish()
    if isinstance(fibres, (str, os.PathLike)) and not carp.is_direction_file(fibres):
        limit = MATCH_FRACTION * part.median_edge() if tolerance is None else tolerance
        own = directions_from_file(Path(fibres), part.points, part.cells, unit, limit)
    uniform = allow_uniform_fibres or content.faithful
    own = checked_directions(path, own, part.points, part.volume(), allow_uniform=uniform)
    part.cell_data |= own
    mesh = _checked(part, allow_components)
    _warn_size(path, mesh, unit)
    if find_surfaces:
        mesh = with_found_surfaces(path, mesh, alone=find_surfaces == "lv")
    return mesh if edge_length is None else refined(mesh, edge_length)


def write_mesh(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write a mesh, whole or not at all.

    Points, elements, regions, surfaces, directions, fields and names survive a round trip through
    .vtu, .vtk and .msh bit by bit (.msh: fields become float64); openCARP text keeps all but other
    fields, openCARP binary does so in float32. See docs/meshes.md for each format.

    Args:
        path: ends in .vtu, .vtk, .msh, .inp (each may be followed by .gz), .xdmf, .pts or .elem
            (openCARP text), .bpts or .belem (openCARP binary), or in nothing (openCARP text).
        mesh: the mesh.

    Raises:
        ValueError: the format is not known or cannot hold a name, the folder does not exist, or
            files of another mesh lie where openCARP would read them with this one.
    """
    path = Path(path)
    zipped = path.suffix.lower() == ".gz"
    plain = path.with_suffix("") if zipped else path
    suffix = plain.suffix.lower()
    if suffix and suffix not in WRITABLE:
        raise ValueError(
            f"{path}: the format {suffix!r} cannot be written: use one of {', '.join(WRITABLE)}"
        )
    if zipped and (is_carp(plain) or suffix in _meshio_files.SEVERAL_FILES):
        raise ValueError(
            f"{path}: this format is several files, which are not gzipped: leave out .gz, or write "
            ".vtu.gz"
        )
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist: make it first")
    with tempfile.TemporaryDirectory(prefix=f".{plain.name}-", dir=path.parent) as folder:
        target = Path(folder) / plain.name
        if suffix in carp.SUFFIXES or not suffix:
            _write_carp(plain, Path(folder), mesh)
        else:
            content = to_file_mesh(mesh)
            is_vtk = suffix in _vtk_files.WRITABLE
            _warn_left_out(path, [] if is_vtk else _meshio_files.left_out(suffix, content))
            (_vtk_files if is_vtk else _meshio_files).write(target, content)
        if zipped:
            with target.open("rb") as source, gzip.open(f"{target}.gz", "wb") as sink:
                shutil.copyfileobj(source, sink)
            target.unlink()
        _move_into_place(Path(folder), path)


def surface_from_file(
    mesh: Mesh,
    path: str | os.PathLike[str],
    *,
    unit: str = "mm",
    tolerance: float | None = None,
) -> Int[np.ndarray, "faces 3"]:
    """The faces of a mesh that a surface file (.obj, .stl, .ply, .vtp, .vtk, .vtu) describes.

    Args:
        mesh: the mesh.
        path: a triangulated surface whose triangles are boundary faces of the mesh.
        unit: unit of the surface's coordinates.
        tolerance: how far its points may lie from the nodes, mm; 1 % of the median edge when left
            out.

    Returns:
        Node indices of the mesh [faces, 3], outward, for ``mesh.replaced(surfaces={...})``.

    Raises:
        ValueError: a point has no node within the tolerance, or a triangle is no boundary face.
    """
    path = Path(path)
    check_exists(path)
    if path.suffix.lower() not in _vtk_files.SUFFIXES:
        raise ValueError(
            f"{path}: cannot be read as a surface: use one of {', '.join(_vtk_files.SUFFIXES)}"
        )
    content = read_plain(path, path)
    triangles = [b.nodes for b in content.blocks if b.kind == "triangle"]
    if not triangles:
        raise ValueError(f"{path}: no triangles found: export the surface triangulated")
    boundary = boundary_faces(mesh.cells)
    nodes = np.unique(boundary)
    limit = MATCH_FRACTION * _median_edge(mesh) if tolerance is None else tolerance
    points = to_mm(content.points, unit)
    nearest = match_by_position(path, points, mesh.points[nodes], limit, "points")
    faces = nodes[nearest][np.concatenate(triangles)]
    missing = int((match_faces(faces, boundary) < 0).sum())
    if missing:
        raise ValueError(
            f"{path}: {missing} of {len(faces)} triangles are not faces of the mesh's boundary: "
            "the surface was remeshed or belongs to another mesh"
        )
    return outward(faces, boundary)


def _checked(part: Draft, allow_components: bool) -> Mesh:
    try:
        return Mesh(
            part.points,
            part.cells,
            part.regions,
            surfaces=part.surfaces,
            point_data=part.point_data,
            cell_data=part.cell_data,
            region_names=part.region_names,
            allow_components=allow_components,
        )
    except ValueError as error:
        raise ValueError(f"{part.path}: {error}") from error


def _median_edge(mesh: Mesh) -> float:
    edges = mesh.points[unique_edges(mesh.cells)]
    return float(np.median(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1)))


def _warn_size(path: Path, mesh: Mesh, unit: str | None) -> None:
    assumed = unit or ("um" if is_carp(path) else "mm")
    doubt = size_doubt(mesh.points, mesh.volume(), assumed, stated=unit is not None)
    if doubt:
        warnings.warn(f"{path.name}: {doubt}", UserWarning, stacklevel=3)


def _warn_left_out(path: Path, names: list[str], stacklevel: int = 3) -> None:
    if names:
        warnings.warn(
            f"{path.name}: this format cannot hold the fields {names}, they are left out: write "
            ".vtu to keep them",
            UserWarning,
            stacklevel=stacklevel,
        )


def _write_carp(path: Path, folder: Path, mesh: Mesh) -> None:
    base, binary = carp.base_of(path)
    kept = ("fibre", "sheet")
    dropped = [*mesh.point_data, *(name for name in mesh.cell_data if name not in kept)]
    _warn_left_out(path, dropped, stacklevel=4)
    carp.write(folder, base.name, mesh, binary=binary)
    written = {file.name for file in folder.iterdir()}
    stale = [f.name for f in carp.companions(base, binary=binary) if f.name not in written]
    if stale:
        raise ValueError(
            f"{base}: {', '.join(stale)} of another mesh would be read with this one: remove them "
            "or write under another name"
        )


def _move_into_place(folder: Path, path: Path) -> None:
    """Move all files beside their target, the one that was asked for last."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
        os.replace(file, path.parent / file.name)
