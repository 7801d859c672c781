"""Reading images of labels: NIfTI and whatever else nibabel reads, and NRRD."""

from pathlib import Path
from typing import Any

import numpy as np

# NIfTI's names of units, in mm.
_NIFTI_UNITS = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
# Those of NRRD ("space units"); nothing is said in most files.
_NRRD_UNITS = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0, "m": 1e3, "": 1.0}
# Signs that turn a named NRRD space into right, anterior, superior, the frame of NIfTI.
_TO_RAS = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
}
_NRRD = (".nrrd", ".nhdr")
IMAGES = (".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz")
DICOM = (".dcm", ".dicom", ".ima")
_DICOM_MARK, _DICOM_AT = b"DICM", 128


def read_image(path: Path, affine: Any = None) -> tuple[np.ndarray, Any]:
    """The values of an image and its affine in mm.

    Args:
        path: a file that nibabel reads, or NRRD (.nrrd, .nhdr).
        affine: [4, 4] in place of the one in the file.

    Returns:
        The array and the affine [4, 4] from indices to the centres of voxels, in mm.

    Raises:
        ValueError: there is no such file, it is DICOM, or it cannot be read.
        ImportError: the package that reads it is not installed.
    """
    refuse_dicom(path)
    if not path.is_file():
        raise ValueError(f"there is no image {path}")
    values, own = (_read_nrrd if path.suffix.lower() in _NRRD else _read_nifti)(path)
    return values, own if affine is None else affine


def has_no_frame(path: Path) -> bool:
    """Whether a NIfTI file says neither where its voxels lie nor how large they are."""
    if path.suffix.lower() in _NRRD:
        return False
    import nibabel

    header: Any = nibabel.load(path).header  # pyright: ignore[reportPrivateImportUsage]
    if not {"sform_code", "qform_code"} <= set(getattr(header, "keys", list)()):
        return False
    coded = int(header["sform_code"]) or int(header["qform_code"])
    return not coded and np.allclose(header.get_zooms()[:3], 1.0)


def check_labels(image: Any) -> np.ndarray:
    """Whole numbers on three axes, as int32.

    Raises:
        ValueError: the image has other axes, other values, or numbers beyond 32 bits.
    """
    image = np.asarray(image)
    if image.ndim == 4 and image.shape[3] == 1:
        image = image[..., 0]
    if image.ndim != 3:
        raise ValueError(f"an image of labels has three axes, got shape {image.shape}")
    if image.dtype.kind not in "iubf":
        raise ValueError(f"labels are whole numbers, but the image holds type {image.dtype}")
    if image.dtype.kind == "f":
        whole = np.isfinite(image).all() and (image == np.rint(image)).all()
        if not whole:
            raise ValueError(
                f"labels are whole numbers, but the image holds {image.dtype} values such as "
                f"{image[image != np.rint(image)][:3].tolist()}: give labels, not grey values"
            )
    limits = np.iinfo(np.int32)
    low, high = image.min(initial=0), image.max(initial=0)
    if low <= limits.min or high > limits.max:
        raise ValueError(f"labels from {low} to {high} do not fit 32 bits: number them anew")
    return image.astype(np.int32)


def refuse_dicom(path: Path, *, or_folder: bool = True) -> None:
    """DICOM is a folder of slices, or a file with a mark after 128 bytes.

    Args:
        path: a file or a folder.
        or_folder: refuse a folder of anything else too.

    Raises:
        ValueError: it is DICOM, or a folder.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = any(_is_dicom(file) for file in files[:50] if file.is_file())
    remedy = (
        "make one NIfTI file of labels of it first: segment it in 3D Slicer and save the "
        "segmentation as a labelmap (.nii.gz or .nrrd); `dcm2niix -z y -o OUT FOLDER` turns a "
        "series of slices that are labels already into .nii.gz"
    )
    if found:
        raise ValueError(f"{path} is DICOM, which holds slices and no label map: {remedy}")
    if or_folder and path.is_dir():
        raise ValueError(f"{path} is a folder, expected one file (.nii, .nii.gz, .nrrd): {remedy}")


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in DICOM or path.name.upper() == "DICOMDIR":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(_DICOM_AT)
        return file.read(len(_DICOM_MARK)) == _DICOM_MARK


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(
            f"{path} is read with nibabel, which is not installed: pip install cardiotwin[imaging]"
        ) from error
    try:
        image: Any = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel raises many kinds
        raise ValueError(f"{path} is no image that nibabel reads: {error}") from error
    named = getattr(image.header, "get_xyzt_units", lambda: ("mm", ""))()[0]
    if named not in _NIFTI_UNITS:
        raise ValueError(f"{path} is in units of {named!r}, expected one of {list(_NIFTI_UNITS)}")
    return values, np.diag([_NIFTI_UNITS[named]] * 3 + [1.0]) @ image.affine


def _read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        import nrrd
    except ImportError as error:
        raise ImportError(
            f"{path} is read with pynrrd, which is not installed: pip install cardiotwin[imaging]"
        ) from error
    try:
        values, header = nrrd.read(str(path))
    except Exception as error:  # pynrrd raises many kinds
        raise ValueError(f"{path} is no image that pynrrd reads: {error}") from error
    directions = header.get("space directions")
    if directions is None:
        spacings = header.get("spacings")
        if spacings is None:
            raise ValueError(
                f"{path} has neither 'space directions' nor 'spacings': its voxels have no size; "
                "give one (--voxel 0.5,0.5,0.6), or export it anew with its geometry"
            )
        directions = np.diag(np.asarray(spacings, np.float64))
    unit = str((header.get("space units") or [""])[0]).strip()
    if unit not in _NRRD_UNITS:
        raise ValueError(f"{path} is in units of {unit!r}, expected one of {list(_NRRD_UNITS)}")
    directions = np.asarray(directions, np.float64)
    rows = np.isfinite(directions).all(axis=1)  # a list of components has no direction
    sign = np.array(_TO_RAS.get(str(header.get("space", "")).lower(), (1.0, 1.0, 1.0)))
    affine = np.eye(4)
    affine[:3, :3] = _NRRD_UNITS[unit] * sign[:, None] * directions[rows].T
    affine[:3, 3] = _NRRD_UNITS[unit] * sign * np.asarray(header.get("space origin", [0.0] * 3))
    return np.asarray(values), affine
