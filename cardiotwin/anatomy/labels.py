"""Voxel grids from images of labels: which labels are tissue, on which grid, in which frame."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cardiotwin._types import Millimetres
from cardiotwin.anatomy.voxels import Voxels, check_spacing, label_pieces

# Largest deviation of an image's axes from right angles.
_SKEW = 1e-3
# A voxel of a resampled grid is tissue where at least this share of it was.
_TISSUE = 0.5
_AWAY = 1e-9


def voxels_from_labels(
    image: Any,
    labels: Sequence[int] | Mapping[int, str] | int,
    *,
    affine: Any = None,
    spacing: Any = None,
    edge_length: Millimetres | None = None,
    largest_component: bool = False,
    allow_components: bool = False,
) -> Voxels:
    """Tissue made of the voxels of an image that have certain labels.

    Args:
        image: whole numbers [x, y, z], or a file that nibabel reads (NIfTI, ...).
        labels: those that are tissue; a mapping names their regions. The label of a voxel becomes
            its region.
        affine: [4, 4] from indices to the centres of the voxels in mm; that of the file where it
            is left out. Turned and mirrored axes are taken as they are, sheared ones refused.
        spacing: edges of a voxel in mm, where an array has no affine; its first voxel's outer
            corner is then the origin.
        edge_length: resample to cubes of this edge: a cube is tissue if at least half of it was,
            and its label is the most frequent one among tissue. The image's own voxels when left
            out.
        largest_component: keep the largest piece that hangs together by faces.
        allow_components: keep all pieces.

    Returns:
        The grid, cropped to the tissue.

    Raises:
        ValueError: no voxel has one of the labels, the labels are no whole numbers, the axes are
            sheared, an edge length is not positive, or the tissue falls into pieces.
        ImportError: a file is named and nibabel is not installed.
    """
    if isinstance(image, str | Path):
        image, affine = _read(Path(image), affine)
    image, names = _checked(image), _names(labels)
    corner, axes, edges, image = _frame(image, affine, spacing)
    found, low = _cropped(image, np.isin(image, list(names)))
    corner = corner + (low * edges) @ axes
    if edge_length is not None:
        found, offset = _resampled(found, edges, edge_length, list(names))
        corner, edges = corner + offset @ axes, check_spacing(edge_length)
    mask = found != _OUTSIDE
    if largest_component:
        mask = _largest(mask)
    final, low = _cropped(found, mask)
    present = np.unique(final[final != _OUTSIDE]).tolist()
    return Voxels(
        final != _OUTSIDE,
        edges,
        origin=corner + (low * edges) @ axes,
        axes=axes,
        regions=final,
        region_names={k: name for k, name in names.items() if k in present and name},
        allow_components=allow_components,
    )


_OUTSIDE = np.iinfo(np.int32).min


def _read(path: Path, affine: Any) -> tuple[np.ndarray, Any]:
    if not path.is_file():
        raise ValueError(f"there is no image {path}")
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
    return values, image.affine if affine is None else affine


def _checked(image: Any) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim == 4 and image.shape[3] == 1:
        image = image[..., 0]
    if image.ndim != 3:
        raise ValueError(f"an image of labels has three axes, got shape {image.shape}")
    if image.dtype.kind not in "iub":
        whole = np.isfinite(image).all() and (image == np.rint(image)).all()
        if not whole:
            raise ValueError(
                f"labels are whole numbers, but the image holds {image.dtype} values such as "
                f"{image[image != np.rint(image)][:3].tolist()}: give labels, not grey values"
            )
    return image.astype(np.int32)


def _names(labels: Any) -> dict[int, str]:
    if isinstance(labels, Mapping):
        names = {int(k): str(v) for k, v in labels.items()}
    else:
        names = dict.fromkeys([int(k) for k in np.atleast_1d(labels)], "")
    if not names:
        raise ValueError("labels is empty: say which labels are tissue")
    return names


def _frame(image: np.ndarray, affine: Any, spacing: Any) -> tuple[np.ndarray, ...]:
    """Outer corner, axes and edges of an image; it is turned round where they are mirrored."""
    if affine is None:
        if spacing is None:
            raise ValueError("an array needs a spacing or an affine: its voxels have no size yet")
        return np.zeros(3), np.eye(3), check_spacing(spacing), image
    affine = np.asarray(affine, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError(f"affine must be a finite [4, 4] matrix, got {affine!r}")
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
    return centre - 0.5 * edges @ axes, axes, edges, image


def _cropped(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box around a mask, other voxels marked as outside; and its lowest voxel."""
    if not mask.any():
        present = np.unique(image[image != _OUTSIDE])
        raise ValueError(
            f"no voxel is tissue: the labels of the image are {present[:20].tolist()}; choose "
            "among them, or a shorter edge_length"
        )
    spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(span[0], span[-1] + 1) for span in spans)
    low = np.array([span[0] for span in spans])
    return np.where(mask[box], image[box], _OUTSIDE), low


def _resampled(
    image: np.ndarray, edges: np.ndarray, edge_length: float, labels: list[int]
) -> tuple[np.ndarray, Float[np.ndarray, " 3"]]:
    """Labels on cubes around the same middle, and the corner of these from that of the image."""
    new = check_spacing(edge_length)
    size = image.shape * edges
    counts = np.maximum(np.ceil(size / new - _AWAY).astype(int), 1)
    offset = 0.5 * (size - counts * new)
    weights = [
        _overlaps(old, count, n, step, shift)
        for old, count, n, step, shift in zip(edges, image.shape, counts, new, offset, strict=True)
    ]
    shares = []
    for label in labels:
        share = (image == label).astype(np.float32)
        for axis, weight in enumerate(weights):
            share = np.moveaxis(np.tensordot(weight, share, axes=(1, axis)), 0, axis)
        shares.append(share)
    total = np.sum(shares, axis=0)
    chosen = np.array(labels, np.int32)[np.argmax(shares, axis=0)]
    return np.where(total >= _TISSUE - 1e-5, chosen, _OUTSIDE), offset


def _overlaps(old: float, count: int, n: int, step: float, shift: float) -> np.ndarray:
    """Share of each of `n` new intervals that lies in each of `count` old ones, [n, count]."""
    low, start = np.arange(count) * old, shift + np.arange(n)[:, None] * step
    inside = np.minimum(low + old, start + step) - np.maximum(low, start)
    return (np.clip(inside, 0.0, None) / step).astype(np.float32)


def _largest(mask: np.ndarray) -> np.ndarray:
    label, _ = label_pieces(mask)
    size = np.bincount(label.ravel())
    size[0] = 0
    return label == np.argmax(size)
