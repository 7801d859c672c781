"""Opening a mesh file of any format: which reader, what to do with .gz, what to say of damage."""

import gzip
import shutil
import tempfile
from pathlib import Path

from cardiotwin.anatomy import _meshio_files, _vtk_files, carp
from cardiotwin.anatomy._filemesh import FileMesh
from cardiotwin.anatomy._image_files import DICOM, IMAGES, refuse_dicom
from cardiotwin.units import length_exponent, to_mm

READABLE = (".vtu", ".vtk", *_meshio_files.SUFFIXES, *carp.SUFFIXES)


def open_file(path: Path, unit: str | None) -> FileMesh:
    """Content of a mesh file of any format, points in mm."""
    if unit is not None:
        length_exponent(unit)
    zipped = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if zipped else path).suffix.lower()
    folder = path.is_dir() and not carp.is_base(path)
    if suffix in carp.SUFFIXES or not (suffix or path.is_file() or folder):
        return carp.read(path, unit or "um")
    if folder or suffix in DICOM:
        refuse_dicom(path, or_folder=False)
    check_exists(path)
    if suffix in IMAGES:
        raise ValueError(
            f"{path}: this is an image, expected a mesh: make a heart of its labels first "
            f"(`cardiotwin mesh {path.name} -o heart.vtu`), or use mesh=image"
        )
    if suffix not in READABLE and suffix not in _vtk_files.SUFFIXES:
        what = f"the format {suffix!r}" if suffix else "a file without a suffix"
        raise ValueError(
            f"{path}: {what} cannot be read: convert it to one of {', '.join(READABLE)} (each also "
            "with .gz)"
        )
    if zipped and suffix in _meshio_files.SEVERAL_FILES:
        raise ValueError(
            f"{path}: an XDMF file refers to files beside it: decompress it beside them first"
        )
    if not zipped:
        return in_mm(read_plain(path, path), unit)
    with tempfile.TemporaryDirectory(prefix="cardiotwin-") as folder:
        plain = Path(folder) / path.with_suffix("").name
        try:
            with gzip.open(path, "rb") as source, plain.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        except (OSError, EOFError) as error:
            raise ValueError(
                f"{path}: cannot be decompressed ({error}): copy or download it again"
            ) from error
        return in_mm(read_plain(plain, path), unit)


def read_plain(path: Path, shown: Path) -> FileMesh:
    """Content of an unpacked file, points as it has them; errors name the file `shown`."""
    if path.stat().st_size == 0:
        raise ValueError(f"{shown}: the file is empty: copy or download it again")
    reader = _meshio_files if path.suffix.lower() in _meshio_files.SUFFIXES else _vtk_files
    try:
        return reader.read(path)
    except ValueError as error:
        raise ValueError(
            f"{shown}: damaged or not what its name says. {error}: copy, download or export it "
            "again"
        ) from error


def check_exists(path: Path) -> None:
    """Raise an error that shows what lies beside a file that is missing."""
    if path.is_file():
        return
    if path.is_dir():
        raise ValueError(
            f"{path}: this is a folder: name a mesh file, such as {path / 'heart.vtu'}"
        )
    there = "its folder does not exist"
    if path.parent.is_dir():
        near = sorted(p.name for p in path.parent.iterdir())
        there = f"its folder holds {', '.join(near[:8]) or 'nothing'}"
    raise ValueError(f"{path}: there is no such file ({there}): correct the path")


def in_mm(content: FileMesh, unit: str | None) -> FileMesh:
    """The content with its points turned from `unit` (mm when left out) into mm."""
    content.points = to_mm(content.points, unit or "mm")
    return content


def is_carp(path: Path) -> bool:
    """Whether a path names an openCARP mesh, by its suffix or by having none."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.suffix.lower() in carp.SUFFIXES or not plain.suffix
