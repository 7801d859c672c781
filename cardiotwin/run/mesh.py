"""From an image of labels, or a closed surface, to a heart: what ``cardiotwin mesh`` does."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.closed_surface import mesh_of_surface, read_surface
from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.formats import WRITABLE, read_mesh, write_mesh
from cardiotwin.anatomy.image_mesh import heart_mesh, heart_voxels
from cardiotwin.anatomy.imaging import (
    HeartImage,
    heart_from_labels,
    read_label_image,
    write_heart,
)
from cardiotwin.anatomy.label_table import choose_table, read_label_table
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.quality import quality_report
from cardiotwin.anatomy.remeshing import remeshed
from cardiotwin.anatomy.topology import areas
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.results.heart_picture import draw_heart
from cardiotwin.results.image_picture import draw_labels

SURFACE_FILES = (".vtp", ".stl", ".ply", ".obj", ".vtk")
MESH_FILES = (".vtu", ".vtu.gz", ".msh", ".msh.gz", ".inp", ".xdmf")
IMAGE_OUTPUTS = (".nii", ".nii.gz")


@dataclass(frozen=True)
class MeshTask:
    """What to make of which file.

    Attributes:
        source: an image of labels, a closed surface (.vtp, .stl, .ply, .obj, .vtk), or, to be
            remeshed, a mesh.
        output: .vtu or another format of meshes for tetrahedra; .nii or .nii.gz for voxels.
        edge_length: mean edge of tetrahedra, mm.
        spacing: edge of the cubes that an image is brought to, mm.
        rv_wall: thickness of the right wall to grow, mm.
        labels: the table to use, or None to find one in `tables`.
        tables: label tables that may fit, by name.
        voxel: edges of the image's voxels in mm, where it does not say.
        surfaces: label by name of surface, for a closed surface.
        unit: of the coordinates of a closed surface.
        picture: where to draw the heart, or None.
        remesh: new mean edge of a mesh, mm, or None.
    """

    source: Path
    output: Path
    edge_length: float = 1.5
    spacing: float = 1.0
    rv_wall: float = 3.5
    labels: Path | None = None
    tables: Mapping[str, Path] = field(default_factory=dict)
    voxel: tuple[float, ...] | float | None = None
    surfaces: Mapping[str, int] | None = None
    unit: str | None = None
    picture: Path | None = None
    remesh: float | None = None


def make_heart(task: MeshTask, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a heart, check that fibres by rule can be built on it, write and draw it.

    Args:
        task: what to make.
        say: takes each line about it.

    Returns:
        Volumes, areas, counts and times, for a table or JSON.

    Raises:
        ValueError: the input is no heart that can be used, or the output's format is unknown.
    """
    start = time.perf_counter()
    _check_output(task)
    heart = None
    if task.remesh is not None:
        before = read_mesh(task.source, unit=task.unit, find_surfaces=True)
        say(f"{task.source.name}: {before.nodes:,} nodes, {before.volume() / 1e3:.1f} mL")
        mesh = remeshed(before, task.remesh)
    elif task.source.suffix.lower() in SURFACE_FILES:
        surface = read_surface(task.source, unit=task.unit, labels=task.surfaces)
        say(f"{task.source.name}: closed surface of {len(surface.triangles):,} triangles")
        mesh = mesh_of_surface(surface, task.edge_length)
    else:
        heart = _heart(task, say)
        as_voxels = task.output.name.endswith(IMAGE_OUTPUTS)
        mesh = heart_voxels(heart) if as_voxels else heart_mesh(heart, task.edge_length)
    made = time.perf_counter()
    found = _described(mesh, heart)
    _say_counts(found, say)
    _write(task.output, mesh, heart)
    fibres = _check_fibres(mesh)
    if task.picture:
        draw_heart(task.picture, mesh, heart)
    found |= {"fibres": fibres, "output": str(task.output)}
    found["seconds"] = {"heart": made - start, "all": time.perf_counter() - start}
    say(f"fibres by rule: {fibres}")
    say(f"{found['seconds']['all']:.0f} s")
    return found


def _check_output(task: MeshTask) -> None:
    """Refuse what cannot be written, before long work."""
    closed = task.source.suffix.lower() in SURFACE_FILES
    image = task.output.name.endswith(IMAGE_OUTPUTS)
    if image and (closed or task.remesh is not None):
        what = "surface" if closed else "mesh"
        raise ValueError(f"{task.source} is a {what}, which becomes a mesh: write .vtu")
    if task.remesh is None and task.source.name.lower().endswith(MESH_FILES):
        raise ValueError(
            f"{task.source} is a mesh already: give --remesh MM for edges of another length, or "
            "use it as it is (mesh=file)"
        )
    plain = task.output.with_suffix("") if task.output.suffix == ".gz" else task.output
    if not image and plain.suffix.lower() not in WRITABLE:
        raise ValueError(
            f"{task.output}: expected one of {', '.join(WRITABLE)} for tetrahedra, or "
            f"{' or '.join(IMAGE_OUTPUTS)} for voxels"
        )
    for path in (task.output, task.picture):
        if path and not path.parent.is_dir():
            raise ValueError(f"{path}: the folder {path.parent} does not exist: make it first")


def _heart(task: MeshTask, say: Callable[[str], None]) -> HeartImage:
    image = read_label_image(task.source, voxel=task.voxel)
    if task.labels:
        table = read_label_table(task.labels)
    else:
        tables = {name: read_label_table(path) for name, path in task.tables.items()}
        name = choose_table(image.labels, tables)
        table = tables[name]
        say(f"label table {name}, which has exactly the labels of the image (see --labels)")
    try:
        heart = heart_from_labels(image, table, spacing=task.spacing, rv_wall=task.rv_wall)
    except ValueError as error:
        name = task.output.name.split(".")[0]
        picture = task.picture or task.output.with_name(f"{name}_refused.png")
        draw_labels(picture, image, table, getattr(error, "place", None))
        raise ValueError(f"{task.source}: {error}. Look at it: {picture}") from error
    for note in heart.notes:
        say(note)
    say("part           image (mL)   heart (mL)   change")
    for name, (before, after) in heart.volumes.items():
        change = f"{100 * (after / before - 1):+.2f} %" if before else ""
        say(f"{name:<14} {before / 1e3:10.2f} {after / 1e3:12.2f}   {change}")
    return heart


def _described(mesh: Mesh | Voxels, heart: HeartImage | None) -> dict[str, Any]:
    names = dict(mesh.region_names)
    volumes = mesh.volumes()
    found: dict[str, Any] = {
        "nodes": mesh.nodes,
        "elements": mesh.elements,
        "regions_mL": {
            names[k]: float(volumes[mesh.regions == k].sum() / 1e3) for k in sorted(names)
        },
        "surfaces_cm2": {
            name: float(areas(mesh.points, faces).sum() / 100.0)
            for name, faces in mesh.surfaces.items()
        },
    }
    if heart is not None:
        found["volumes_mL"] = {k: [v / 1e3 for v in pair] for k, pair in heart.volumes.items()}
        found["notes"] = list(heart.notes)
    if isinstance(mesh, Mesh):
        found["quality"] = quality_report(mesh)
    return found


def _say_counts(found: dict[str, Any], say: Callable[[str], None]) -> None:
    say(f"{found['nodes']:,} nodes, {found['elements']:,} elements")
    say("regions        " + ", ".join(f"{k} {v:.1f} mL" for k, v in found["regions_mL"].items()))
    say("surfaces       " + ", ".join(f"{k} {v:.1f} cm2" for k, v in found["surfaces_cm2"].items()))


def _write(path: Path, mesh: Mesh | Voxels, heart: HeartImage | None) -> None:
    if isinstance(mesh, Mesh):
        write_mesh(path, mesh)
    elif heart is not None:
        write_heart(path, heart)


def _check_fibres(mesh: Mesh | Voxels) -> str:
    """Build fibres by rule and say whether each element has one."""
    fibre = ldrb(mesh.tetrahedra() if isinstance(mesh, Voxels) else mesh).fibre
    length = np.linalg.norm(fibre, axis=1)
    bad = int((~np.isfinite(length) | (np.abs(length - 1.0) > 1e-6)).sum())
    return f"{bad} elements without one" if bad else "every element has one"
