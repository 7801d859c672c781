"""A twin folder: a heart with all that was worked out on it, and where it came from.

`twin.json` says what is in it, with units, versions, provenance and a checksum of every file;
`heart.vtu` (of voxels `heart.npz`) holds mesh, regions, surfaces, fibres, coordinates, AHA segments
and scar;
`electrodes.json`, `purkinje_lv.vtp` and `purkinje_rv.vtp` are there where the heart has them.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin._version import __version__
from cardiotwin.anatomy.coordinates import VentricularFields
from cardiotwin.anatomy.fibres import Fibres
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.purkinje_files import read_purkinje, write_purkinje
from cardiotwin.anatomy.ventricular import VENTRICLES, VentricularCoordinates
from cardiotwin.anatomy.voxel_files import read_voxels, write_voxels
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.electrodes import read_electrodes, write_electrodes
from cardiotwin.units import MM3_PER_ML

from .anatomy import Anatomy

FORMAT, VERSION = "cardiotwin twin", 1
INDEX, ELECTRODES = "twin.json", "electrodes.json"
HEART, VOXELS = "heart.vtu", "heart.npz"
SEGMENTS, SIDE = "aha_segment", "ventricle"
_LAPLACE = "laplace_"
_FRAME = ("fibre", "sheet")
_AXES = ("transmural", "apicobasal", "rotational")
_PACKAGES = ("jax", "numpy", "scipy")
_UNITS = {
    "length": "mm",
    "rotational": "radians",
    "transmural, apicobasal, laplace_*, scar, border_zone": "1 (shares from 0 to 1)",
    "volume": "mL",
}
_BLOCK = 1 << 20  # bytes


def save_twin(
    folder: str | os.PathLike[str],
    anatomy: Anatomy,
    *,
    sources: Sequence[str | os.PathLike[str]] = (),
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a heart with its fibres and coordinates as a twin folder, whole or not at all.

    Args:
        folder: to make.
        anatomy: tetrahedra or voxels with fibres; its fields and coordinates are worked out where
            they are not known yet.
        sources: files that the heart was made of; their checksums are kept.
        options: how it was made, plain values for JSON.
        overwrite: replace the twin that lies there.

    Returns:
        The folder.

    Raises:
        ValueError: no fibres, a folder that holds something else, or a network without a
            side.
    """
    folder = Path(folder)
    _check_whole(anatomy)
    check_place(folder, overwrite)
    networks = {f"purkinje_{n.side}.vtp": n for n in anatomy.networks or ()}
    if len(networks) != len(anatomy.networks or ()) or "purkinje_None.vtp" in networks:
        raise ValueError(
            "a twin keeps one Purkinje network for each side: give read_purkinje side='lv' or 'rv'"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as room:
        new = Path(room) / "new"
        new.mkdir()
        whole = _with_fields(anatomy)
        if isinstance(whole, Voxels):
            write_voxels(new / VOXELS, whole)
        else:
            write_mesh(new / HEART, whole)
        for name, network in networks.items():
            write_purkinje(new / name, network)
        if anatomy.electrodes is not None:
            write_electrodes(new / ELECTRODES, anatomy.electrodes)
        index = _index(new, anatomy, sources, options)
        text = json.dumps(index, indent=2) + "\n"
        (new / INDEX).write_text(text, encoding="utf-8")
        if folder.exists():
            os.replace(folder, Path(room) / "old")
        os.replace(new, folder)
    return folder


def load_twin(path: Path) -> Anatomy:
    """Load a twin folder: nothing is worked out again, and every file is checked first.

    Args:
        path: the folder.

    Returns:
        The heart with its mesh, fibres, fields, coordinates, and networks and electrodes where
        there are any.

    Raises:
        ValueError: no twin folder, one of a later version, or a file that is missing or was
            changed; the message names it.
    """
    folder = Path(path)
    index = read_index(folder)
    _check_files(folder, index["files"])
    if VOXELS in index["files"]:
        kept = read_voxels(folder / VOXELS)
    else:
        kept = read_mesh(folder / HEART, allow_uniform_fibres=True, allow_components=True)
    fields, coordinates = _fields_of(folder, kept)
    fibre, sheet = (kept.cell_data[name] for name in _FRAME)
    replaced = int(index["contents"].get("fibres", {}).get("replaced", 0))
    networks = [
        read_purkinje(folder / f"purkinje_{side}.vtp", side=side)
        for side in VENTRICLES
        if f"purkinje_{side}.vtp" in index["files"]
    ]
    electrodes = folder / ELECTRODES
    return Anatomy(
        kept,
        fields=fields,
        coordinates=coordinates,
        fibres=Fibres(fibre, sheet, np.cross(fibre, sheet), replaced),
        networks=networks or None,
        electrodes=read_electrodes(electrodes) if ELECTRODES in index["files"] else None,
    )


def read_index(folder: Path) -> dict[str, Any]:
    """What `twin.json` says, checked.

    Raises:
        ValueError: no twin folder, or one of a later version.
    """
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"{folder} is no twin folder: it has no {INDEX}; make one with "
            f"`cardiotwin twin heart.vtu -o {folder}`"
        )
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        heart = {HEART, VOXELS} & index["files"].keys()
        known = index["format"] == FORMAT and heart and index["contents"]
        number = int(index["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged ({error}): make the twin anew") from None
    if not known:
        raise ValueError(f"{folder / INDEX} is none of {FORMAT!r}: make the twin anew")
    if number > VERSION:
        raise ValueError(
            f"{folder} has version {number} of the format, this cardiotwin ({__version__}) reads "
            f"up to {VERSION}: update it"
        )
    return index


def describe_twin(anatomy: Anatomy, mesh: Mesh | Voxels) -> dict[str, Any]:
    """What a heart holds, in plain numbers for JSON."""
    volumes, names = mesh.volumes() / MM3_PER_ML, dict(mesh.region_names)
    fibres = anatomy.fibres
    found: dict[str, Any] = {
        "kind": "voxels" if isinstance(mesh, Voxels) else "tetrahedra",
        "nodes": len(mesh.points),
        "elements": len(mesh.cells),
        "regions": {
            names.get(label, str(label)): float(volumes[mesh.regions == label].sum())
            for label in np.unique(mesh.regions).tolist()
        },
        "surfaces": {name: len(faces) for name, faces in mesh.surfaces.items()},
        "fibres": {"frames": len(mesh.cells), "replaced": 0 if fibres is None else fibres.replaced},
        "coordinates": list(_AXES),
        "electrodes": list(anatomy.electrodes.names) if anatomy.electrodes is not None else [],
        "purkinje": {
            str(n.side): {"nodes": n.nodes, "junctions": len(n.junctions)}
            for n in anatomy.networks or ()
        },
    }
    for name in ("scar", "border_zone"):
        if name in mesh.cell_data:
            found[f"{name}_mL"] = float((volumes * mesh.cell_data[name]).sum())
    return found


def check_place(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or a twin that is not to be replaced.

    Raises:
        ValueError: as said.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the twin")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} holds other files: name a new folder for the twin")
    if not overwrite:
        raise ValueError(f"{folder} holds a twin: name another folder, or say --overwrite")


def _index(
    folder: Path,
    anatomy: Anatomy,
    sources: Sequence[str | os.PathLike[str]],
    options: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What `twin.json` says of a folder whose other files are written."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "made": _made(),
        "units": _UNITS,
        "contents": describe_twin(anatomy, _check_whole(anatomy)[0]),
        "provenance": {
            "sources": [_source(Path(path)) for path in sources],
            "options": dict(options or {}),
        },
        "files": {file.name: _stamp(file) for file in sorted(folder.iterdir())},
    }


def _check_whole(anatomy: Anatomy) -> tuple[Mesh | Voxels, Fibres]:
    if anatomy.fibres is None:
        raise ValueError("the heart has no fibres: give Anatomy(mesh, fibres=ldrb(mesh))")
    return anatomy.mesh, anatomy.fibres


def _with_fields(anatomy: Anatomy) -> Mesh | Voxels:
    """The mesh with everything per node and per element as fields; of voxels, one row each."""
    mesh, fibres = _check_whole(anatomy)
    heart = anatomy.map
    nodes = {
        _LAPLACE + name: getattr(anatomy.fields, name)
        for name in VentricularFields.__dataclass_fields__
    }
    for which, side in enumerate(VENTRICLES):
        for axis, name in enumerate(_AXES):
            nodes[f"{side}_{name}"] = heart.coordinates.values[which, :, axis]
    nodes[SEGMENTS] = heart.segments().astype(np.int32)
    elements = {"fibre": fibres.fibre, "sheet": fibres.sheet}
    elements[SIDE] = heart.coordinates.side.astype(np.int32)
    if isinstance(mesh, Voxels):
        elements[SIDE] = elements[SIDE].reshape(len(mesh.cells), -1)
    return mesh.replaced(
        point_data=mesh.point_data | nodes,
        cell_data=mesh.cell_data | elements,
        allow_components=True,
    )


def _fields_of(
    folder: Path, mesh: Mesh | Voxels
) -> tuple[VentricularFields, VentricularCoordinates]:
    names = VentricularFields.__dataclass_fields__
    wanted = [_LAPLACE + name for name in names]
    wanted += [f"{side}_{name}" for side in VENTRICLES for name in _AXES]
    missing = [name for name in wanted if name not in mesh.point_data]
    missing += [name for name in (*_FRAME, SIDE) if name not in mesh.cell_data]
    if missing:
        raise ValueError(f"{folder}: the heart lacks the fields {missing}: make the twin anew")
    values = np.stack(
        [
            np.stack([mesh.point_data[f"{side}_{name}"] for name in _AXES], axis=1)
            for side in VENTRICLES
        ]
    )
    fields = VentricularFields(**{name: mesh.point_data[_LAPLACE + name] for name in names})
    return fields, VentricularCoordinates(values, mesh.cell_data[SIDE].astype(int).ravel())


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    for name, stamp in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{folder}: the file {name} is missing: make the twin anew")
        found = _stamp(path)
        if found != stamp:
            raise ValueError(
                f"{folder}: the file {name} was changed after the twin was made ({found['bytes']} "
                f"bytes, SHA-256 {found['sha256'][:12]}..., expected {stamp.get('bytes')} bytes, "
                f"{str(stamp.get('sha256'))[:12]}...): restore it, or make the twin anew"
            )


def _made() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": f"cardiotwin {__version__}",
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _source(path: Path) -> dict[str, Any]:
    return {"file": path.name, **_stamp(path)}


def _stamp(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
