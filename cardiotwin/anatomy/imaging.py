"""Hearts from images of labels: read, checked, cleaned, with walls and openings."""

import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage

from cardiotwin._types import Millimetres
from cardiotwin.anatomy import _label_cleaning as cleaning
from cardiotwin.anatomy import _walls as walls
from cardiotwin.anatomy._image_checks import check_handedness, check_size, check_ventricles
from cardiotwin.anatomy._image_files import check_labels, has_no_frame, read_image
from cardiotwin.anatomy._label_cleaning import PartGrid
from cardiotwin.anatomy.label_table import STANDARD_TABLE, Part, as_parts, read_label_table
from cardiotwin.anatomy.labels import framed
from cardiotwin.anatomy.voxels import check_spacing

_MARGIN = 4  # cubes around the heart
_LARGEST_GRID = 4e8  # cubes
_THICKEST = 20.0  # mm
_MUSCLE, _LEAST_MUSCLE = "muscle", 0.05  # share of a voxel below which it holds none
_VENTRICLES = (
    Part.LV_WALL,
    Part.RV_WALL,
    Part.SEPTUM,
    Part.LV_CAVITY,
    Part.RV_CAVITY,
    Part.SCAR,
    Part.BORDER_ZONE,
    Part.MYOCARDIUM,
)
_COMPARED = tuple(part.name.lower() for part in _VENTRICLES)


@dataclass(frozen=True)
class HeartImage:
    """A heart as an image of parts (see `Part`) on cubes, with a right wall and a septum.

    Attributes:
        parts: [x, y, z], numbers of `Part`.
        spacing: edge of the cubes in mm.
        corner: outer corner of the first voxel, mm.
        axes: directions of the image's axes, row by row: orthonormal, right-handed.
        volumes: by part, mm3 in the image as it came and after cleaning.
        overlays: name ("scar", "border_zone") -> share of each voxel [x, y, z], 0 to 1.
        notes: what was done, one sentence each.
    """

    parts: UInt8[np.ndarray, "x y z"]
    spacing: float
    corner: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    volumes: dict[str, tuple[float, float]] = field(default_factory=dict)
    overlays: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> PartGrid:
        """Its parts with their frame."""
        return PartGrid(self.parts, self.corner, self.axes, np.full(3, self.spacing))

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """From indices to the centres of voxels in mm."""
        affine = np.eye(4)
        affine[:3, :3] = self.spacing * self.axes.T
        affine[:3, 3] = self.corner + 0.5 * self.spacing * self.axes.sum(axis=0)
        return affine

    def to_index(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Indices (not rounded; centres of voxels are whole) of points in mm."""
        return (points - self.corner) @ self.axes.T / self.spacing - 0.5

    def to_points(self, local: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points in mm from distances in mm along the image's axes from its corner."""
        return self.corner + local @ self.axes


class LabelImage(NamedTuple):
    """Labels in a right-handed frame, cropped to those that are not zero.

    Attributes:
        labels: [x, y, z].
        corner: outer corner of the first voxel, mm.
        axes: directions of the axes, row by row.
        edges: of a voxel, mm.
        stated: whether something said how large a voxel is.
        mirrored: whether the affine was left-handed.
    """

    labels: Int[np.ndarray, "x y z"]
    corner: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    edges: Float[np.ndarray, " 3"]
    stated: bool
    mirrored: bool


def read_label_image(image: Any, *, affine: Any = None, voxel: Any = None) -> LabelImage:
    """Read an image of labels into a right-handed frame.

    Args:
        image: a file (NIfTI, NRRD, whatever nibabel reads) or whole numbers [x, y, z].
        affine: as for `heart_from_labels`.
        voxel: as for `heart_from_labels`.

    Raises:
        ValueError: the file cannot be read or is DICOM, the labels are no whole numbers or all
            zero, the axes are sheared, or an array comes without a size of its voxels.
        ImportError: the package that reads the file is not installed.
    """
    stated = affine is not None or voxel is not None
    if isinstance(image, str | Path):
        path = Path(image)
        image, own = read_image(path, affine)
        stated = stated or not has_no_frame(path)
        affine = own if voxel is None else None
    grid = framed(check_labels(image), None, affine, voxel)
    mirrored = affine is not None and np.linalg.det(np.asarray(affine)[:3, :3]) < 0
    filled = ndimage.find_objects((grid.labels != 0).astype(np.uint8))
    if not filled:
        raise ValueError("the image is empty: all its voxels are 0, expected labels of a heart")
    low = np.array([s.start for s in filled[0]])
    corner = grid.corner + (low * grid.edges) @ grid.axes
    labels = np.ascontiguousarray(grid.labels[filled[0]])
    return LabelImage(labels, corner, grid.axes, grid.edges, stated, bool(mirrored))


def heart_from_labels(
    image: Any,
    table: str | Path | Mapping[str, Any] | None = None,
    *,
    affine: Any = None,
    voxel: Any = None,
    spacing: Millimetres = 1.0,
    rv_wall: Millimetres = 3.5,
) -> HeartImage:
    """Clean an image of labels and complete it to a heart with two walls and an open base.

    The largest piece of each part is kept and small holes are filled. The parts are brought to
    cubes and smoothed; each keeps its volume. Where the image has no right ventricular wall, one
    grows outwards from the right cavity; where it touches an atrium or an artery there is the
    opening of a valve. Where a ventricle has no opening, both are cut by a plane across the long
    axis. The part of the left wall between both cavities becomes the septum.

    Args:
        image: a file (NIfTI, NRRD, whatever nibabel reads), whole numbers [x, y, z], or what
            `read_label_image` returns.
        table: what the labels mean, see `read_label_table`; our own numbers when left out.
        affine: [4, 4] from indices to centres of voxels in mm, right-anterior-superior; that of
            the file when left out.
        voxel: edges of a voxel in mm in place of an affine, one number or three.
        spacing: edge of the working cubes in mm.
        rv_wall: thickness of the right wall to grow, mm; at least two cubes.

    Returns:
        The heart; `volumes` are those of the ventricles.

    Raises:
        ValueError: the file cannot be read, is DICOM, or is sheared; the labels are unknown or
            empty; the image holds two hearts, a hole in the septum, or ventricles in each other's
            place.
        ImportError: the package that reads the file is not installed.
    """
    edge = float(check_spacing(spacing)[0])
    if not (np.isfinite(rv_wall) and 0.0 < rv_wall <= _THICKEST):
        raise ValueError(
            f"rv_wall is {rv_wall!r}; expected a thickness in mm up to {_THICKEST:g}, usually 3 to "
            "4"
        )
    known = read_label_table(STANDARD_TABLE if table is None else table)
    if not isinstance(image, LabelImage):
        image = read_label_image(image, affine=affine, voxel=voxel)
    notes = ["the image's axes are left-handed: the first was turned"] if image.mirrored else []
    grid = _found_parts(image, known)
    before = _volumes(grid)
    grid, overlays = _without_scar(_tidy(grid, notes))
    grid, shares = _on_cubes(grid, overlays, edge, rv_wall + _MARGIN * edge)
    grid, found = walls.find_cavities(grid)
    grid = walls.join_valves(walls.divide_muscle(grid))
    after = _volumes(grid)
    check_ventricles(grid)
    odd = check_handedness(grid)
    if odd:
        warnings.warn(odd, stacklevel=2)
    notes += [found] if found else []
    grid = _completed(grid, rv_wall, notes)
    volumes = {name: (before.get(name, 0.0), after[name]) for name in after if name in _COMPARED}
    return HeartImage(grid.parts, edge, grid.corner, grid.axes, volumes, shares, tuple(notes))


def read_heart(path: str | Path) -> HeartImage:
    """Read a heart that `write_heart` wrote, as it is.

    Raises:
        ValueError: the file is none of ours: its voxels are no cubes, or its labels not those of
            `Part` with both walls and cavities.
    """
    path = Path(path)
    grid = read_label_image(path)
    parts = np.pad(as_parts(grid.labels, STANDARD_TABLE), 1)
    needed = {Part.LV_WALL, Part.RV_WALL, Part.LV_CAVITY, Part.RV_CAVITY}
    missing = [part.name.lower() for part in sorted(needed - set(np.unique(parts).tolist()))]
    if missing or not np.allclose(grid.edges, grid.edges[0], rtol=1e-4):
        what = f"lacks {', '.join(missing)}" if missing else "has voxels that are no cubes"
        raise ValueError(
            f"{path} {what}: expected an image written by `cardiotwin mesh IMAGE -o {path.name}`"
        )
    corner = grid.corner - grid.edges @ grid.axes
    return HeartImage(parts, float(grid.edges[0]), corner, grid.axes)


def write_heart(path: str | Path, heart: HeartImage) -> None:
    """Write a heart as NIfTI with the numbers of `Part`, whole or not at all.

    Args:
        path: ends in .nii or .nii.gz.
        heart: the heart.

    Raises:
        ValueError: the path ends otherwise.
        ImportError: nibabel is not installed.
    """
    path = Path(path)
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    if suffix not in (".nii", ".nii.gz"):
        raise ValueError(f"{path}: an image is written as .nii or .nii.gz")
    import nibabel

    image = nibabel.Nifti1Image(heart.parts, heart.affine)  # pyright: ignore
    image.header.set_xyzt_units("mm")
    with tempfile.TemporaryDirectory(prefix=".heart-", dir=path.parent) as folder:
        target = Path(folder) / f"heart{suffix}"
        nibabel.save(image, target)  # pyright: ignore[reportPrivateImportUsage]
        os.replace(target, path)


def _found_parts(image: LabelImage, table: Mapping[str, tuple[int, ...]]) -> PartGrid:
    """Parts of an image whose size is that of a heart."""
    grid = PartGrid(as_parts(image.labels, table), image.corner, image.axes, image.edges)
    check_size(grid, stated=image.stated)
    return grid


def _tidy(grid: PartGrid, notes: list[str]) -> PartGrid:
    """Largest pieces, filled holes, the septum a part of the left wall."""
    grid, removed = cleaning.largest_pieces(grid)
    for name, (count, volume) in removed.items():
        notes.append(f"{name}: {count} smaller pieces removed, {volume:.0f} mm3")
    grid, filled = cleaning.fill_holes(grid)
    if filled:
        notes.append(f"holes of {filled:.0f} mm3 filled")
    parts = np.where(grid.parts == Part.SEPTUM, np.uint8(Part.LV_WALL), grid.parts)
    parts[parts == Part.REMOVED] = Part.OUTSIDE
    return grid._replace(parts=parts).around(_VENTRICLES, 2 * _MARGIN * float(grid.edges.max()))


def _without_scar(grid: PartGrid) -> tuple[PartGrid, dict[str, np.ndarray]]:
    """Scar and border zone as masks, their voxels given to the nearest wall."""
    overlays = {
        part.name.lower(): grid.parts == part
        for part in (Part.SCAR, Part.BORDER_ZONE)
        if (grid.parts == part).any()
    }
    if not overlays:
        return grid, {}
    scar = np.logical_or.reduce(list(overlays.values()))
    wall = np.isin(grid.parts, (Part.LV_WALL, Part.RV_WALL, Part.MYOCARDIUM))
    only_walls = grid._replace(parts=np.where(wall, grid.parts, np.uint8(0)))
    found = cleaning.nearest_part(only_walls, scar)
    found[scar & (found == Part.OUTSIDE)] = Part.LV_WALL
    return grid._replace(parts=np.where(scar, found, grid.parts)), {
        **overlays,
        _MUSCLE: wall | scar,
    }


def _on_cubes(
    grid: PartGrid, overlays: dict[str, np.ndarray], edge: float, margin: float
) -> tuple[PartGrid, dict[str, np.ndarray]]:
    """Parts and overlays on cubes, whose number is checked first."""
    size = np.array(grid.parts.shape) * grid.edges + 2 * margin
    if (size / edge).prod() > _LARGEST_GRID:
        raise ValueError(
            f"cubes of {edge:g} mm around a heart of {size.round(0).tolist()} mm are more than "
            f"{_LARGEST_GRID:.0e}: use a longer spacing"
        )
    grid, shares = cleaning.resampled(grid, overlays, edge, margin)
    return grid, _of_muscle(shares)


def _completed(grid: PartGrid, rv_wall: float, notes: list[str]) -> PartGrid:
    """A right wall where there is none, an open base, a septum."""
    if not (grid.parts == Part.RV_WALL).any():
        grid = walls.add_right_wall(grid, rv_wall)
        grown = max(rv_wall, walls.THINNEST * float(grid.edges[0]))
        why = f", two voxels, not {rv_wall:g}" if grown > rv_wall else ""
        notes.append(f"right wall of {grown:g} mm{why} grown from the right cavity")
    grid, cut = walls.cut_base(grid)
    notes += [cut] if cut else []
    return walls.divide_left_wall(grid)


def _of_muscle(shares: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Overlays as shares of the muscle in a voxel; beside it, of the muscle nearest to it."""
    if not shares:
        return {}
    muscle = shares.pop(_MUSCLE)
    nearest: Any = ndimage.distance_transform_edt(
        muscle < _LEAST_MUSCLE, return_distances=False, return_indices=True
    )
    within = np.maximum(muscle, _LEAST_MUSCLE)
    return {k: np.minimum(v / within, 1.0)[tuple(nearest)] for k, v in shares.items()}


def _volumes(grid: PartGrid) -> dict[str, float]:
    count = np.bincount(grid.parts.ravel(), minlength=len(Part)) * grid.edges.prod()
    return {part.name.lower(): float(count[part]) for part in Part if part and count[part]}
