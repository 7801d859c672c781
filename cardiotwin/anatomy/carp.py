"""openCARP meshes: nodes, elements, fibres, surfaces and vertex lists, text and binary.

A mesh is a set of files with one base name: ``.pts`` (nodes, micrometres), ``.elem`` (elements of
any kind with a region tag), ``.lon`` (one or two directions per element), and for each surface
``.<name>.surf``. The binary forms ``.bpts``, ``.belem`` and ``.blon`` hold 32-bit numbers behind
a 1024-byte text header: the count, the byte order (0 little, 1 big) and a checksum; the header of
``.blon`` begins with the number of directions. Node orders differ from VTK's for hexahedra and
prisms. Sources: the openCARP manual (opencarp.org/manual), and meshtool, which reads and writes
the same files. Names of regions, which the format does not know, go to ``.names.json``.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cardiotwin.anatomy._carp_files import (
    check_count,
    numbers_of,
    promised_count,
    read_belem,
    read_bpts,
    read_directions,
    read_elem,
    read_pts,
    sibling,
    words_of,
    write_binary,
    write_text,
)
from cardiotwin.anatomy._filemesh import SURFACE, Block, FileMesh

if TYPE_CHECKING:
    from cardiotwin.anatomy.mesh import Mesh

TEXT = (".pts", ".elem", ".lon")
BINARY = (".bpts", ".belem", ".blon")
SUFFIXES = TEXT + BINARY


def read(path: Path, unit: str = "um") -> FileMesh:
    """Read an openCARP mesh by the path of any of its files, or by its base name.

    Args:
        path: ``heart.pts``, ``heart.belem``, ``heart`` and so on; text files may be gzipped.
        unit: unit of the coordinates.

    Raises:
        ValueError: a file is missing, ends early or disagrees with the others.
    """
    base, binary = _base(path)
    points = (read_bpts if binary else read_pts)(_existing(base, ".bpts", ".pts", binary), unit)
    elements = _existing(base, ".belem", ".elem", binary)
    blocks, rows = (read_belem if binary else read_elem)(elements)
    _add_directions(base, binary, blocks, rows)
    mesh = FileMesh(points, blocks)
    _add_surfaces(base, mesh)
    names = sibling(base, ".names.json")
    if names.exists():
        try:
            known = json.loads(names.read_text(encoding="utf-8"))["regions"]
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{names}: no list of region names ({error}): remove it") from error
        mesh.region_names = {int(label): name for label, name in known.items()}
        mesh.faithful = True
    return mesh


def write(folder: Path, base: str, mesh: "Mesh", *, binary: bool) -> None:
    """Write the files of a mesh into a folder, coordinates in micrometres.

    Text keeps every bit (a coordinate is written as the exact decimal of its millimetres, shifted
    by three digits); binary keeps 32-bit floats.
    """
    odd = [name for name in mesh.surfaces if not re.fullmatch(r"[\w\- ]+", name)]
    if odd:
        raise ValueError(
            f"the surface names {odd} cannot be part of a file name: rename them to letters, "
            "digits, '_' and '-'"
        )
    directions = [mesh.cell_data[k] for k in ("fibre", "sheet") if k in mesh.cell_data]
    if "sheet" in mesh.cell_data and "fibre" not in mesh.cell_data:
        raise ValueError("a sheet direction without a fibre direction cannot be written")
    lon = np.concatenate(directions, axis=1) if directions else None
    target = folder / base
    if binary:
        write_binary(target, mesh, lon)
    else:
        write_text(target, mesh, lon)
    for name, faces in mesh.surfaces.items():
        lines = ["Tr {} {} {}".format(*face) for face in faces.tolist()]
        sibling(target, f".{name}.surf").write_text("\n".join([str(len(lines)), *lines, ""]))
    names = {"written_by": "cardiotwin", "regions": dict(mesh.region_names)}
    sibling(target, ".names.json").write_text(json.dumps(names, indent=1), encoding="utf-8")


def companions(base: Path, *, binary: bool) -> list[Path]:
    """Files that are there already and that a reader of the base name would take in."""
    suffixes = (*(BINARY if binary else TEXT), ".names.json")
    files = [sibling(base, suffix) for suffix in suffixes]
    return [file for file in files if file.exists()] + _surface_files(base)


def read_vtx(path: str | Path, *, nodes: int | None = None) -> np.ndarray:
    """Read a vertex list (``.vtx``): a count, "intra" or "extra", then node indices.

    Args:
        path: the file.
        nodes: number of nodes of the mesh, to check the indices against.

    Returns:
        Node indices [n], int32, in the file's order.
    """
    path = Path(path)
    words = words_of(path)
    domain = words[1:2]
    if domain and not domain[0].isdigit() and domain[0] not in (b"intra", b"extra"):
        raise ValueError(f"{path}: {domain[0]!r} after the count, expected 'intra' or 'extra'")
    start = 2 if domain in ([b"intra"], [b"extra"]) else 1
    indices = numbers_of(path, words[start:], np.int64)
    check_count(path, promised_count(path, words), len(indices), "vertices")
    if len(indices) and (indices.min() < 0 or (nodes is not None and indices.max() >= nodes)):
        raise ValueError(
            f"{path}: indices from {indices.min()} to {indices.max()}, the mesh has {nodes} nodes: "
            "the list belongs to another mesh"
        )
    return indices.astype(np.int32)


def write_vtx(path: str | Path, nodes: Iterable[int], *, domain: str = "intra") -> None:
    """Write a vertex list; `domain` is "intra" or "extra"."""
    if domain not in ("intra", "extra"):
        raise ValueError(f"domain {domain!r}: give 'intra' or 'extra'")
    indices = [str(int(node)) for node in nodes]
    Path(path).write_text("\n".join([str(len(indices)), domain, *indices, ""]))


def base_of(path: Path) -> tuple[Path, bool]:
    """The base name of a mesh to write, and whether the binary form is meant."""
    suffix = path.suffix.lower()
    return (path.with_suffix(""), suffix in BINARY) if suffix in SUFFIXES else (path, False)


def is_base(path: Path) -> bool:
    """Whether files of points lie beside a base name, text or binary."""
    return _has_text(path) or sibling(path, ".bpts").exists()


def _base(path: Path) -> tuple[Path, bool]:
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() in SUFFIXES:
        return plain.with_suffix(""), plain.suffix.lower() in BINARY
    return plain, is_base(plain) and not _has_text(plain)


def _has_text(base: Path) -> bool:
    return any(sibling(base, ".pts" + zipped).exists() for zipped in ("", ".gz"))


def _existing(base: Path, binary_suffix: str, text_suffix: str, binary: bool) -> Path:
    path = sibling(base, binary_suffix if binary else text_suffix)
    zipped = sibling(base, text_suffix + ".gz")
    if path.exists() or binary or not zipped.exists():
        if not path.exists():
            raise ValueError(
                f"{path}: missing; an openCARP mesh needs {base.name}{text_suffix} (or "
                f"{base.name}{binary_suffix}) beside its other files"
            )
        return path
    return zipped


def _surface_files(base: Path) -> list[Path]:
    pattern = re.compile(re.escape(base.name) + r"\.([^.]+)\.surf")
    return sorted(f for f in base.parent.iterdir() if pattern.fullmatch(f.name))


def _add_directions(
    base: Path, binary: bool, blocks: list[Block], places: list[np.ndarray]
) -> None:
    path = sibling(base, ".blon" if binary else ".lon")
    if not path.exists() and not binary:
        path = sibling(base, ".lon.gz")
    if not path.exists():
        return
    lon = read_directions(path)
    check_count(path, sum(map(len, places)), len(lon), "elements with a direction")
    for block, rows in zip(blocks, places, strict=True):
        if block.kind not in ("triangle", "quad", "line"):
            block.data["fibre"] = lon[rows, :3]
            if lon.shape[1] == 6:
                block.data["sheet"] = lon[rows, 3:]


def is_direction_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a .lon, .lon.gz or .blon file."""
    return str(path).lower().removesuffix(".gz").endswith((".lon", ".blon"))


def directions_of(path: str | os.PathLike[str], elements: int) -> dict[str, np.ndarray]:
    """The directions of a file, "fibre" and perhaps "sheet", for so many tetrahedra."""
    lon = read_directions(Path(path))
    if len(lon) != elements:
        raise ValueError(
            f"{path}: directions of {len(lon)} elements, the mesh file has {elements} tetrahedra: "
            "it belongs to another mesh"
        )
    return {"fibre": lon[:, :3]} | ({"sheet": lon[:, 3:]} if lon.shape[1] == 6 else {})


def _add_surfaces(base: Path, mesh: FileMesh) -> None:
    used = [block.data[SURFACE].max(initial=0) for block in mesh.blocks if SURFACE in block.data]
    label = int(max(used, default=0))
    for path in _surface_files(base):
        blocks, _ = read_elem(path)
        label += 1
        for block in blocks:
            block.data[SURFACE] = np.full(len(block.nodes), label, np.int32)
        mesh.blocks.extend(blocks)
        mesh.surface_names[label] = path.name[len(base.name) + 1 : -len(".surf")]
