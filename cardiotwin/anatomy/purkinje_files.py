"""Reading and writing Purkinje networks as lines in VTK files."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cardiotwin.anatomy._filemesh import FileMesh
from cardiotwin.anatomy._open import open_file
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.units import LENGTH_EXPONENTS, from_mm, to_mm

READABLE = (".vtp", ".vtu", ".vtk", ".obj")
# Points nearer than this are one, mm.
_SAME_POINT = 1e-3
# Diagonals of the bounding box that the network of a ventricle (rabbit to dilated human) may have.
_SIZE = (8.0, 300.0)
_HUMAN_SIZE = 110.0
_TIMES = ("activation", "activation_time", "activation_times", "time", "times", "lat")
_ROOT, _JUNCTION = "root", "junction"


def read_purkinje(
    path: str | os.PathLike[str],
    *,
    side: Literal["lv", "rv"] | None = None,
    unit: str = "mm",
    root: int | Sequence[float] | None = None,
) -> PurkinjeNetwork:
    """Read a Purkinje network: lines or poly-lines of a .vtp, .vtu, .vtk or .obj file (or .gz).

    Points at one place become one node, repeated segments one segment. All free ends but the root
    are junctions, unless the file was written by `write_purkinje`, which marks them.

    Args:
        path: the file.
        side: "lv" or "rv".
        unit: of the file's coordinates, "um", "mm", "cm" or "m".
        root: its number among the points of the file, or a position [x, y, z] in mm, whose nearest
            node is taken. Left out, it is the node with the smallest activation time where the
            file has such times (a point array "activation", "time" or "lat"), else the only node
            at which no segment ends: programs that grow trees write segments away from the root.

    Returns:
        The network.

    Raises:
        ValueError: the file is missing, damaged or holds no lines, is no ventricle's size in
            `unit`, falls into pieces, or does not tell its root.
    """
    path = Path(path)
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() not in READABLE:
        raise ValueError(
            f"{path}: cannot be read as a Purkinje network: give lines in one of "
            f"{', '.join(READABLE)} (each also with .gz)"
        )
    content = open_file(path, unit)
    edges = _lines(path, content)
    used = np.unique(edges)
    _check_size(path, content.points[used], unit)
    node = np.full(len(content.points), -1)
    node[used], points = _merged(content.points[used])
    chosen = _root(path, content, edges, node, points, root)
    try:
        return PurkinjeNetwork(
            points,
            _distinct(node[edges]),
            chosen,
            junctions=_marked(content, node),
            side=side,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_purkinje(path: str | os.PathLike[str], network: PurkinjeNetwork) -> None:
    """Write a network as lines of a .vtp file, whole or not at all.

    Root and junctions are marked by 1 in the point arrays "root" and "junction".

    Args:
        path: ends in .vtp.
        network: the network.

    Raises:
        ValueError: another suffix, or a folder that does not exist.
    """
    import pyvista

    path = Path(path)
    if path.suffix.lower() != ".vtp":
        raise ValueError(f"{path}: a Purkinje network is written as .vtp; change the suffix")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist: make it first")
    lines = np.insert(network.edges, 0, 2, axis=1).ravel()
    data = pyvista.PolyData(network.points, lines=lines)
    marks = np.zeros((2, network.nodes), np.uint8)
    marks[0, network.root], marks[1, network.junctions] = 1, 1
    data.point_data[_ROOT], data.point_data[_JUNCTION] = marks
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        target = Path(folder) / path.name
        data.save(str(target))
        os.replace(target, path)


def _lines(path: Path, content: FileMesh) -> np.ndarray:
    """All segments [edges, 2] as points of the file."""
    lines = [block.nodes for block in content.blocks if block.kind == "line"]
    if not lines:
        kinds = ", ".join(f"{len(b.nodes)} {b.kind}" for b in content.blocks) or "no elements"
        raise ValueError(
            f"{path}: no lines, found {kinds}: export the network as lines or poly-lines"
        )
    return np.concatenate(lines)


def _check_size(path: Path, points: np.ndarray, unit: str) -> None:
    """Refuse coordinates in which no ventricle has its network; other units are tried."""
    bad = int((~np.isfinite(points)).any(axis=1).sum())
    if bad:
        raise ValueError(f"{path}: {bad} of {len(points)} points are not finite: export it again")
    diagonal = float(np.linalg.norm(np.ptp(points, axis=0)))
    if _SIZE[0] <= diagonal <= _SIZE[1]:
        return
    fits = {u: float(to_mm(from_mm(diagonal, unit), u)) for u in LENGTH_EXPONENTS if u != unit}
    best = min(fits, key=lambda u: abs(np.log(max(fits[u], 1e-12) / _HUMAN_SIZE)))
    advice = (
        f"unit={best!r} would make it {fits[best]:.3g} mm"
        if _SIZE[0] <= fits[best] <= _SIZE[1]
        else "no usual unit fits a ventricle"
    )
    raise ValueError(
        f"{path}: the network measures {diagonal:.3g} mm across with its coordinates taken in "
        f"{unit}, which is no ventricle's: {advice}"
    )


def _merged(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The node of every point, and the nodes' places: points at one place become one node."""
    pairs = KDTree(points).query_pairs(_SAME_POINT, output_type="ndarray")
    links = sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(points),) * 2)
    _, group = connected_components(links, directed=False)
    _, first = np.unique(group, return_index=True)
    order = np.argsort(first)  # nodes keep the order of the file
    return np.argsort(order)[group], points[first[order]]


def _distinct(edges: np.ndarray) -> np.ndarray:
    """Every segment once, those within one node left out, in the order of the file."""
    _, first = np.unique(np.sort(edges, axis=1), axis=0, return_index=True)
    kept = edges[np.sort(first)]
    return kept[kept[:, 0] != kept[:, 1]]


def _marked(content: FileMesh, node: np.ndarray) -> np.ndarray | None:
    """Junctions that `write_purkinje` marked."""
    if not {_ROOT, _JUNCTION} <= content.point_data.keys():
        return None
    marked = node[np.flatnonzero(content.point_data[_JUNCTION])]
    return np.unique(marked[marked >= 0])


def _root(
    path: Path,
    content: FileMesh,
    edges: np.ndarray,
    node: np.ndarray,
    points: np.ndarray,
    given: int | Sequence[float] | None,
) -> int:
    if given is not None:
        return _given_root(path, node, points, given)
    if _ROOT in content.point_data and content.point_data[_ROOT].any():
        return int(node[np.argmax(content.point_data[_ROOT])])
    for name, values in content.point_data.items():
        if name.lower() in _TIMES and values.ndim == 1:
            early = np.where((node >= 0) & np.isfinite(values), values, np.inf)
            if np.isfinite(early).any():
                return int(node[np.argmin(early)])
    sources = np.setdiff1d(node[edges[:, 0]], node[edges[:, 1]])
    if len(sources) == 1:
        return int(sources[0])
    raise ValueError(
        f"{path}: the root is not known: the file has no activation times, and segments begin but "
        f"do not end at {len(sources)} nodes; give root= its number or its position in mm"
    )


def _given_root(
    path: Path, node: np.ndarray, points: np.ndarray, given: int | Sequence[float]
) -> int:
    if isinstance(given, (int, np.integer)):
        if not 0 <= given < len(node) or node[given] < 0:
            raise ValueError(
                f"{path}: root is point {given}, but the points with lines run from "
                f"{np.flatnonzero(node >= 0).min()} to {np.flatnonzero(node >= 0).max()}"
            )
        return int(node[given])
    place = np.asarray(given, float)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError(f"{path}: root is {given!r}; give a point's number, or [x, y, z] in mm")
    return int(np.argmin(np.linalg.norm(points - place, axis=1)))
