"""Voxel grids from images of labels: which labels are tissue, on which grid, in which frame."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cardiotwin._types import Millimetres
from cardiotwin.anatomy._image_files import check_labels, read_image
from cardiotwin.anatomy._size import size_doubt
from cardiotwin.anatomy.voxels import Voxels, check_spacing, label_pieces

# Largest deviation of an image's axes from right angles.
_SKEW = 1e-3
# A voxel of a resampled grid is tissue where at least this share of it was.
_TISSUE = 0.5
_AWAY = 1e-9
_OUTSIDE = np.iinfo(np.int32).min


def voxels_from_labels(
    image: Any,
    labels: Sequence[int] | Mapping[int, str] | int,
    *,
    affine: Any = None,
    spacing: Any = None,
    fibre: Any = None,
    edge_length: Millimetres | None = None,
    largest_component: bool = False,
    allow_components: bool = False,
) -> Voxels:
    """Tissue made of the voxels of an image that have certain labels.

    Args:
        image: whole numbers [x, y, z], or a file that nibabel reads (NIfTI, ...), or NRRD.
        labels: those that are tissue; a mapping names their regions. The label of a voxel becomes
            its region.
        affine: [4, 4] from indices to the centres of the voxels in mm; that of the file where it
            is left out, in the unit that its header names. Turned and mirrored axes are taken as
            they are, sheared ones refused.
        spacing: edges of a voxel in mm, where an array has no affine; its first voxel's outer
            corner is then the origin. Refused beside an affine or a file.
        fibre: a vector of each voxel [x, y, z, 3], or a file of them on the same grid: the fibre's
            direction in the frame that the affine leads to, of any length but zero in tissue. It
            becomes the cell data "fibre".
        edge_length: resample to cubes of this edge: a cube is tissue if at least half of it was,
            its label is the most frequent one among tissue, its fibre the main axis of the
            tissue's. The image's own voxels when left out.
        largest_component: keep the largest piece that hangs together by faces.
        allow_components: keep all pieces.

    Returns:
        The grid, cropped to the tissue.

    Raises:
        ValueError: there is no such file, no voxel has one of the labels, the labels are no whole
            numbers, the axes are sheared, an edge length is not positive, a spacing comes beside
            an affine, the tissue falls into pieces, or the fibres do not fit the image.
        ImportError: a file is named and nibabel is not installed.
    """
    if isinstance(image, str | Path):
        image, affine = read_image(Path(image), affine)
    image, names = check_labels(image), _names(labels)
    cube = None if edge_length is None else check_spacing(edge_length, "edge_length")
    tissue = np.isin(image, list(names))
    grid = framed(image, _fibre(fibre, tissue, affine), affine, spacing)
    grid = grid.cropped(np.isin(grid.labels, list(names)))
    _warn_of_absent(names, grid.labels)
    if cube is not None:
        grid = grid.resampled(cube, list(names))
    mask = grid.labels != _OUTSIDE
    grid = grid.cropped(_largest(mask) if largest_component else mask)
    mask = grid.labels != _OUTSIDE
    present = np.unique(grid.labels[mask]).tolist()
    _warn_of_size(mask, grid.edges)
    return Voxels(
        mask,
        grid.edges,
        origin=grid.corner,
        axes=grid.axes,
        regions=grid.labels,
        cell_data={} if grid.fibre is None else {"fibre": grid.fibre},
        region_names={k: name for k, name in names.items() if k in present and name},
        allow_components=allow_components,
    )


class _Grid(NamedTuple):
    """An image in its frame; labels outside the tissue are `_OUTSIDE` once it is cropped."""

    labels: Int[np.ndarray, "x y z"]
    fibre: Float[np.ndarray, "x y z 3"] | None
    corner: Float[np.ndarray, " 3"]  # outer corner of the first voxel, mm
    axes: Float[np.ndarray, "3 3"]  # directions, row by row
    edges: Float[np.ndarray, " 3"]  # mm

    def cropped(self, mask: np.ndarray) -> "_Grid":
        """The box around a mask, other voxels marked as outside."""
        if not mask.any():
            present = np.unique(self.labels[self.labels != _OUTSIDE])
            raise ValueError(
                f"no voxel is tissue: the labels of the image are {present[:20].tolist()}; choose "
                "among them"
                if len(present)
                else "no voxel is left: no cube of this edge_length is half full of tissue; "
                "choose a shorter one"
            )
        spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        box = tuple(slice(span[0], span[-1] + 1) for span in spans)
        low = np.array([span[0] for span in spans])
        return self._replace(
            labels=np.where(mask[box], self.labels[box], _OUTSIDE),
            fibre=None if self.fibre is None else self.fibre[box],
            corner=self.corner + (low * self.edges) @ self.axes,
        )

    def resampled(self, edges: np.ndarray, names: list[int]) -> "_Grid":
        """Labels and fibres on other voxels around the same middle."""
        size = self.labels.shape * self.edges
        counts = np.maximum(np.ceil(size / edges - _AWAY).astype(int), 1)
        offset = 0.5 * (size - counts * edges)
        old = zip(self.edges, self.labels.shape, counts, edges, offset, strict=True)
        weights = [overlaps(*axis) for axis in old]
        shares = [_weighted(weights, (self.labels == label).astype(np.float32)) for label in names]
        chosen = np.array(names, np.int32)[np.argmax(shares, axis=0)]
        tissue = np.sum(shares, axis=0) >= _TISSUE - 1e-5
        fibre = None
        if self.fibre is not None:
            found = np.where((self.labels != _OUTSIDE)[..., None], self.fibre, 0.0)
            fibre = np.zeros((*counts, 3))
            fibre[tissue] = _main_axis(weights, found, tissue)
        return self._replace(
            labels=np.where(tissue, chosen, _OUTSIDE),
            fibre=fibre,
            corner=self.corner + offset @ self.axes,
            edges=edges,
        )


def _names(labels: Any) -> dict[int, str]:
    named = isinstance(labels, Mapping)
    pairs = labels.items() if named else [(k, "") for k in np.atleast_1d(labels).tolist()]
    names = {}
    for label, name in pairs:
        try:
            whole = int(label)
        except (TypeError, ValueError):
            whole = None
        if whole is None or (not isinstance(label, str) and whole != label):
            raise ValueError(
                f"labels: {label!r} is no whole number; expected the image's numbers of tissue, "
                "such as [1, 2], or {1: 'lv', 2: 'rv'} to name their regions"
            )
        names[whole] = str(name)
    if not names:
        raise ValueError("labels is empty: say which labels are tissue")
    return names


def _warn_of_absent(names: Mapping[int, str], image: np.ndarray) -> None:
    absent = sorted(set(names) - set(np.unique(image).tolist()))
    if absent:
        warnings.warn(f"no voxel of the image has label {absent}: left out", stacklevel=3)


def _warn_of_size(mask: np.ndarray, edges: np.ndarray) -> None:
    """Say where the box around the tissue is that of no heart, which tells a wrong unit."""
    box = np.array([[0.0, 0.0, 0.0], mask.shape * edges])
    doubt = size_doubt(box, mask.sum() * edges.prod(), "mm", stated=True)
    if doubt:
        across = np.linalg.norm(box[1])
        warnings.warn(
            f"the tissue is {across:.3g} mm across, with voxels of {edges.round(6).tolist()} mm, "
            "which is no heart: check the spacing or the affine, which are in mm",
            stacklevel=3,
        )


def _fibre(given: Any, tissue: np.ndarray, affine: Any) -> np.ndarray | None:
    """Unit vectors on the grid of the image."""
    if given is None:
        return None
    if isinstance(given, str | Path):
        given, other = read_image(Path(given), None)
        if affine is not None and not np.allclose(other, affine, atol=1e-3):
            raise ValueError(
                "the image of fibres lies in another place than that of labels: resample it to "
                f"the same grid (affine {np.asarray(other).tolist()} instead of "
                f"{np.asarray(affine).tolist()})"
            )
    fibre = np.asarray(given, np.float64)
    if fibre.ndim == 5 and fibre.shape[3] == 1:
        fibre = fibre[..., 0, :]
    if fibre.shape != (*tissue.shape, 3):
        raise ValueError(
            f"fibre has shape {fibre.shape}, expected {(*tissue.shape, 3)}: one vector for each "
            "voxel of the image"
        )
    length = np.linalg.norm(fibre, axis=-1)
    bad = tissue & ~(np.isfinite(length) & (length > 1e-9))
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {int(tissue.sum())} tissue voxels have a fibre that is zero or "
            f"not finite, the first being voxel {np.argwhere(bad)[0].tolist()}: give each a "
            "direction, or choose labels that have one"
        )
    return fibre / np.where(tissue, length, 1.0)[..., None]


def framed(image: np.ndarray, fibre: np.ndarray | None, affine: Any, spacing: Any) -> _Grid:
    """An image in its frame; it is turned round where its axes are mirrored."""
    if affine is not None and spacing is not None:
        raise ValueError(
            f"spacing is {spacing!r}, but the image has an affine, which says how large a voxel "
            "is: leave the spacing out, give another affine, or give edge_length to resample"
        )
    if affine is None:
        if spacing is None:
            raise ValueError("an array needs a spacing or an affine: its voxels have no size yet")
        return _Grid(image, fibre, np.zeros(3), np.eye(3), check_spacing(spacing))
    affine = np.asarray(affine, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError(f"affine must be a finite [4, 4] matrix, got {affine!r}")
    if not np.array_equal(affine[3], [0.0, 0.0, 0.0, 1.0]):
        raise ValueError(
            f"the last row of the affine is {affine[3].tolist()}, expected [0, 0, 0, 1]: the "
            "place of the first voxel belongs into the last column (is it transposed?)"
        )
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not (edges > 0).all():
        raise ValueError(f"the affine gives voxels of edges {edges.tolist()} mm: not positive")
    axes = (affine[:3, :3] / edges).T
    skew = np.abs(axes @ axes.T - np.eye(3)).max()
    if skew > _SKEW:
        raise ValueError(
            f"the axes of the image are not perpendicular (cosine {skew:.3g}): it is sheared, as "
            "by a gantry tilt; resample it to a rectangular grid first"
        )
    centre = affine[:3, 3]
    if np.linalg.det(axes) < 0:
        centre = centre + axes[0] * edges[0] * (image.shape[0] - 1)
        axes = axes * [[-1.0], [1.0], [1.0]]
        image = image[::-1]
        fibre = None if fibre is None else fibre[::-1]
    return _Grid(image, fibre, centre - 0.5 * edges @ axes, axes, edges)


def _weighted(weights: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Means over the voxels of another grid, [x, y, z]."""
    for axis, weight in enumerate(weights):
        values = np.moveaxis(np.tensordot(weight, values, axes=(1, axis)), 0, axis)
    return values


def _main_axis(weights: list[np.ndarray], fibre: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Direction of the largest eigenvalue of the mean of f f^T, in some voxels [voxels, 3]."""
    mean = np.empty((int(where.sum()), 3, 3))
    for i in range(3):
        for j in range(i + 1):
            product = fibre[..., i] * fibre[..., j]
            mean[:, i, j] = mean[:, j, i] = _weighted(weights, product)[where]
    return np.linalg.eigh(mean)[1][..., -1]


def overlaps(old: float, count: int, n: int, step: float, shift: float) -> np.ndarray:
    """Share of each of `n` new intervals that lies in each of `count` old ones, [n, count]."""
    low, start = np.arange(count) * old, shift + np.arange(n)[:, None] * step
    inside = np.minimum(low + old, start + step) - np.maximum(low, start)
    return (np.clip(inside, 0.0, None) / step).astype(np.float32)


def _largest(mask: np.ndarray) -> np.ndarray:
    label, _ = label_pieces(mask)
    size = np.bincount(label.ravel())
    size[0] = 0
    return label == np.argmax(size)
