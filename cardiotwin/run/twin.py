"""From a heart's file to a twin folder: what ``cardiotwin twin`` does."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cardiotwin.anatomy.closed_surface import mesh_of_surface, read_surface
from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh
from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.image_mesh import mesh_from_image, voxels_from_image
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.anatomy.purkinje_files import read_purkinje
from cardiotwin.anatomy.purkinje_growth import grow_purkinje
from cardiotwin.anatomy.scar import scar_from_intensity, scar_from_labels
from cardiotwin.anatomy.ventricular import VENTRICLES
from cardiotwin.anatomy.voxels import Voxels, as_tetrahedra
from cardiotwin.ecg.electrodes import read_electrodes
from cardiotwin.ecg.thorax import place_electrodes
from cardiotwin.results.heart_picture import draw_heart
from cardiotwin.twin import Anatomy, RuleBasedFibres, save_twin
from cardiotwin.twin.folder import HEART, VOXELS, check_place, describe_twin

IMAGES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mgz", ".dcm")
SURFACES = (".vtp", ".stl", ".ply", ".obj")
GROW, PICTURE = "grow", "heart.png"
FIBRES = ("rule", "mesh")


@dataclass(frozen=True)
class TwinTask:
    """What to make a twin folder of.

    Attributes:
        source: a mesh, an image of labels or a closed surface.
        output: the folder.
        unit: of a mesh's or a surface's coordinates; as `read_mesh`.
        names: JSON file with names of regions and surfaces, for a mesh.
        keep: regions of a mesh to keep.
        labels: label table of an image.
        edge_length: mean edge in mm; of a mesh, its own where left out.
        voxels: edge of cubes in mm, to keep an image as voxels instead of tetrahedra.
        fibres: "rule", "mesh" (those of the file), or a file with directions.
        angles: of the rule, degrees: alpha_endo, alpha_epi, beta_endo, beta_epi.
        electrodes: file of positions in mm; placed from the heart's axes when left out.
        scar: label map or LGE image in the frame of the mesh; none when left out.
        scar_labels: labels of core and border zone, where `scar` holds labels.
        scar_method: "sd" or "fwhm", where it holds intensities.
        purkinje: "grow", or files for the left and the right ventricle; none when empty.
        overwrite: replace the twin in the folder.
    """

    source: Path
    output: Path
    unit: str | None = None
    names: Path | None = None
    keep: tuple[str, ...] | None = None
    labels: str | None = None
    edge_length: float | None = None
    voxels: float | None = None
    fibres: str = "rule"
    angles: tuple[float, ...] = (60.0, -60.0, -20.0, 20.0)
    electrodes: Path | None = None
    scar: Path | None = None
    scar_labels: tuple[int, ...] = ()
    scar_method: Literal["sd", "fwhm"] = "sd"
    purkinje: tuple[str, ...] = ()
    overwrite: bool = False


def make_twin(task: TwinTask, say: Callable[[str], None]) -> dict[str, Any]:
    """Read a heart, work out what belongs to it, and write the folder.

    Args:
        task: what to make.
        say: takes each line about it.

    Returns:
        What the folder holds, as in `twin.json`, and the seconds it took.

    Raises:
        ValueError: the input is no heart that can be used, or the folder holds something else.
    """
    start = time.perf_counter()
    check_place(task.output, task.overwrite)
    if len(task.purkinje) > 2:
        raise ValueError(f"purkinje is {task.purkinje}: give 'grow', or at most two files")
    mesh = _mesh(task)
    say(f"{task.source.name}: {len(mesh.points):,} nodes, {len(mesh.cells):,} elements")
    _check_surfaces(mesh, task.source)
    if task.scar is not None and isinstance(mesh, Mesh):
        mesh = _with_scar(task, mesh, say)
    heart = Anatomy(mesh)
    fibres = _fibres(task, heart)
    say(f"fibres ({task.fibres}): {fibres.replaced} directions borrowed from neighbours")
    coordinates = heart.map.coordinates
    electrodes = (
        place_electrodes(mesh) if task.electrodes is None else read_electrodes(task.electrodes)
    )
    whole = Anatomy(
        mesh,
        fields=heart.fields,
        coordinates=coordinates,
        fibres=fibres,
        networks=_networks(task, heart, mesh),
        electrodes=electrodes,
    )
    save_twin(
        task.output,
        whole,
        sources=_sources(task),
        options=_options(task),
        overwrite=task.overwrite,
    )
    draw_heart(task.output / PICTURE, mesh)
    found = describe_twin(whole, mesh)
    found |= {"folder": str(task.output), "seconds": time.perf_counter() - start}
    _tell(found, say)
    return found


def _mesh(task: TwinTask) -> Mesh | Voxels:
    name = task.source.name.lower()
    if task.voxels is not None:
        return _voxels(task, name)
    if name.endswith(IMAGES):
        edge = 1.5 if task.edge_length is None else task.edge_length
        return mesh_from_image(task.source, labels=task.labels, edge_length=edge)
    if name.endswith(SURFACES):
        edge = 1.5 if task.edge_length is None else task.edge_length
        return mesh_of_surface(read_surface(task.source, unit=task.unit), edge)
    return read_mesh(
        task.source,
        unit=task.unit,
        names=task.names,
        keep=task.keep,
        fibres=_directions(task),
        find_surfaces=True,
        edge_length=task.edge_length,
    )


def _voxels(task: TwinTask, name: str) -> Voxels:
    """The heart of an image as voxels."""
    assert task.voxels is not None
    if not name.endswith(IMAGES):
        raise ValueError(f"{task.source}: voxels come of an image of labels; leave --voxels out")
    if task.edge_length is not None or task.scar is not None or task.fibres != "rule":
        raise ValueError(
            "--voxels takes the image as it is, with fibres by rule: leave out --edge-length, "
            "--scar (label scar in the image itself) and --fibres"
        )
    return voxels_from_image(task.source, labels=task.labels, spacing=task.voxels)


def _with_scar(task: TwinTask, mesh: Mesh, say: Callable[[str], None]) -> Mesh:
    assert task.scar is not None
    if task.scar_labels:
        core, *border = task.scar_labels
        return scar_from_labels(mesh, task.scar, core=core, border=border).on(mesh)
    found = scar_from_intensity(mesh, task.scar, method=task.scar_method)
    low, high = found.thresholds or (0.0, 0.0)
    say(f"scar           border zone from {low:.4g}, core from {high:.4g} ({task.scar_method})")
    return found.on(mesh)


def _directions(task: TwinTask) -> str | bool | None:
    """What `read_mesh` is to do about fibres."""
    if task.fibres in FIBRES:
        return None if task.fibres == "mesh" else False
    return task.fibres


def _check_surfaces(mesh: Mesh | Voxels, source: Path) -> None:
    missing = [name for name in STANDARD_SURFACES if name not in mesh.surfaces]
    if missing:
        raise ValueError(
            f"{source}: a twin needs the surfaces {', '.join(STANDARD_SURFACES)}, and "
            f"{', '.join(missing)} are missing and were not found by shape; it has "
            f"{', '.join(mesh.surfaces) or 'none'}: name them (--names), or cut the base open"
        )


def _fibres(task: TwinTask, heart: Anatomy) -> Fibres:
    if task.fibres != "rule":
        return fibres_from_mesh(heart.mesh)
    if len(task.angles) != 4:
        raise ValueError(
            f"angles are {task.angles}; give four in degrees: alpha_endo, alpha_epi, beta_endo, "
            "beta_epi"
        )
    return RuleBasedFibres(*task.angles).on(heart)


def _networks(task: TwinTask, heart: Anatomy, mesh: Mesh | Voxels) -> list[PurkinjeNetwork] | None:
    if task.purkinje == (GROW,):
        return list(grow_purkinje(as_tetrahedra(mesh), fields=heart.fields))
    pairs = zip(task.purkinje, VENTRICLES, strict=False)
    return [read_purkinje(path, side=side) for path, side in pairs] or None


def _sources(task: TwinTask) -> list[Path]:
    files = [task.source, task.names, task.electrodes, task.scar]
    files += [Path(path) for path in task.purkinje if path != GROW]
    if task.fibres not in FIBRES:
        files.append(Path(task.fibres))
    return [file for file in files if file is not None and file.is_file()]


def _options(task: TwinTask) -> dict[str, Any]:
    """The options that were used, in plain values; of files their names."""
    found = {
        "unit": task.unit,
        "keep": task.keep,
        "labels": task.labels,
        "edge_length_mm": task.edge_length,
        "voxels_mm": task.voxels,
        "fibres": task.fibres if task.fibres in FIBRES else Path(task.fibres).name,
        "electrodes": "placed" if task.electrodes is None else task.electrodes.name,
        "scar": task.scar and (task.scar_labels or task.scar_method),
        "purkinje": [path if path == GROW else Path(path).name for path in task.purkinje],
    }
    if task.fibres == "rule":
        names = ("alpha_endo", "alpha_epi", "beta_endo", "beta_epi")
        found["angles_degrees"] = dict(zip(names, task.angles, strict=True))
    return found


def _tell(found: dict[str, Any], say: Callable[[str], None]) -> None:
    say("regions        " + ", ".join(f"{k} {v:.1f} mL" for k, v in found["regions"].items()))
    say(f"electrodes     {', '.join(found['electrodes'])}")
    for side, network in found["purkinje"].items():
        say(f"Purkinje {side}    {network['nodes']:,} nodes, {network['junctions']:,} junctions")
    for name in ("scar_mL", "border_zone_mL"):
        if name in found:
            say(f"{name[:-3]:<14} {found[name]:.2f} mL")
    folder = Path(found["folder"])
    heart = VOXELS if found["kind"] == "voxels" else HEART
    say(f"look at it     {folder / PICTURE}; {folder / heart}")
    say(f"{found['seconds']:.0f} s")
