"""Cleaning images of parts: pieces, holes, another grid, smooth surfaces of the same volume."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from cardiotwin.anatomy.label_table import Part
from cardiotwin.anatomy.labels import overlaps
from cardiotwin.anatomy.voxels import label_pieces

# A second piece of a wall or cavity of at least this share of the largest is a second heart.
_SECOND_HEART = 0.2
_HOLE = 1000.0  # mm3: larger ones are left open, such as the cavities of a bare wall
_WIDTH = 0.7  # standard deviation of the smoothing, in voxels of the working grid
_ROUNDS = 20
_THICK = 3  # cubes: slices this far apart are interpolated
_CLOSE_ENOUGH = 0.002
_AWAY = 1e-4  # cubes: rounding of an affine adds none


class RefusedImage(ValueError):
    """An image that shows no sound heart, and where that shows.

    Args:
        message: what is wrong and how to mend it.
        place: [3] mm.
    """

    def __init__(self, message: str, place: Float[np.ndarray, " 3"]):
        super().__init__(message)
        self.place = place


class PartGrid(NamedTuple):
    """Parts on a grid with its frame: corner of the first voxel mm, axes row by row, edges mm."""

    parts: UInt8[np.ndarray, "x y z"]
    corner: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    edges: Float[np.ndarray, " 3"]

    def volume_of(self, part: int) -> float:
        """Volume of one part in mm3."""
        return float((self.parts == part).sum() * self.edges.prod())

    def around(self, chosen: tuple[int, ...], margin: float) -> "PartGrid":
        """The box around some parts, with so many mm beside them."""
        filled = np.isin(self.parts, chosen)
        spans = [np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {k}))) for k in range(3)]
        beside = np.ceil(margin / self.edges).astype(int)
        low = np.maximum([span[0] for span in spans] - beside, 0)
        high = [span[-1] + 1 for span in spans] + beside
        return self._replace(
            parts=self.parts[tuple(slice(a, b) for a, b in zip(low, high, strict=True))],
            corner=self.corner + (low * self.edges) @ self.axes,
        )


def largest_pieces(grid: PartGrid) -> tuple[PartGrid, dict[str, tuple[int, float]]]:
    """Keep the largest piece of every part.

    Returns:
        The grid, and by part how many pieces went and their volume in mm3.

    Raises:
        RefusedImage: a wall or cavity has a second piece that is a heart of its own.
    """
    parts, removed = grid.parts.copy(), {}
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        if box is None or part in (Part.SCAR, Part.BORDER_ZONE, Part.REMOVED):
            continue
        label, count = label_pieces(parts[box] == part)
        if count == 1:
            continue
        size = np.bincount(label.ravel())
        size[0] = 0
        order = np.argsort(-size)
        name = Part(part).name.lower()
        if size[order[1]] > _SECOND_HEART * size[order[0]] and part in (
            Part.LV_WALL,
            Part.LV_CAVITY,
            Part.RV_CAVITY,
            Part.MYOCARDIUM,
        ):
            volumes = " and ".join(f"{size[k] * grid.edges.prod() / 1e3:.3g} mL" for k in order[:2])
            second = np.argwhere(label == order[1]) + [s.start for s in box]
            raise RefusedImage(
                f"{name} lies in two pieces of {volumes}: the image seems to hold two hearts, or "
                "one that is cut apart; crop it to one, or join the pieces",
                grid.corner + ((second.mean(axis=0) + 0.5) * grid.edges) @ grid.axes,
            )
        gone = (label > 0) & (label != order[0])
        parts[box][gone] = Part.OUTSIDE
        removed[name] = (count - 1, float(gone.sum() * grid.edges.prod()))
    return grid._replace(parts=parts), removed


def fill_holes(grid: PartGrid) -> tuple[PartGrid, float]:
    """Give small enclosed holes to the nearest part; returns the volume filled, mm3."""
    label, count = label_pieces(np.pad(grid.parts == Part.OUTSIDE, 1, constant_values=True))
    if count == 1:
        return grid, 0.0
    label = label[1:-1, 1:-1, 1:-1]
    size = np.bincount(label.ravel(), minlength=count + 1) * grid.edges.prod()
    outside = 1  # the padding holds the first voxel
    small = (np.arange(count + 1) > outside) & (size < _HOLE)
    hole = small[label]
    return grid._replace(parts=nearest_part(grid, hole)), float(hole.sum() * grid.edges.prod())


def nearest_part(grid: PartGrid, where: np.ndarray) -> np.ndarray:
    """Parts with some voxels replaced by the nearest part of the others."""
    parts = grid.parts.copy()
    for box in ndimage.find_objects(label_pieces(where)[0]):
        wide = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in box)
        source = ~where[wide] & (grid.parts[wide] != Part.OUTSIDE)
        found: Any = ndimage.distance_transform_edt(
            ~source, sampling=grid.edges, return_distances=False, return_indices=True
        )
        inside = where[wide]
        parts[wide][inside] = grid.parts[wide][tuple(found)][inside]
    return parts


def between_slices(
    grid: PartGrid, overlays: dict[str, np.ndarray], spacing: float
) -> tuple[PartGrid, dict[str, np.ndarray]]:
    """Slices in between where an image's slices are far apart.

    In each slice every part has a signed distance; these are interpolated linearly from slice to
    slice and the greatest wins (shape-based interpolation, Raya and Udupa 1990,
    doi:10.1109/42.52980). A part that ends between two slices tapers.
    """
    axis = int(np.argmax(grid.edges))
    plane = np.delete(grid.edges, axis)
    count = round(float(grid.edges[axis] / max(spacing, plane.max())))
    if count < _THICK:
        return grid, overlays

    def padded(image: np.ndarray) -> np.ndarray:
        return np.pad(np.moveaxis(image, axis, 0), [(1, 1), (0, 0), (0, 0)])

    slices = padded(grid.parts)
    place = (np.arange(count * len(slices)) + 0.5) / count - 0.5
    low = np.clip(np.floor(place).astype(int), 0, len(slices) - 2)
    share = np.clip(place - low, 0.0, 1.0)[:, None, None].astype(np.float32)
    best = np.full((len(place), *slices.shape[1:]), -np.inf, np.float32)
    parts = np.zeros(best.shape, np.uint8)
    for part in np.unique(slices):
        signed = np.stack([_signed(cut == part, plane, float(grid.edges[axis])) for cut in slices])
        score = (1.0 - share) * signed[low] + share * signed[low + 1]
        wins = score > best
        np.copyto(best, score, where=wins)
        parts[wins] = part
    edges = grid.edges.copy()
    corner = grid.corner - edges[axis] * grid.axes[axis]
    edges[axis] /= count
    repeated = {
        name: np.moveaxis(np.repeat(padded(mask), count, axis=0), 0, axis)
        for name, mask in overlays.items()
    }
    return PartGrid(np.moveaxis(parts, 0, axis), corner, grid.axes, edges), repeated


def _signed(mask: np.ndarray, edges: np.ndarray, most: float) -> np.ndarray:
    """Distance to the border of a mask in its plane, positive inside, at most so many mm."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, most if mask.all() else -most, np.float32)
    inside = np.asarray(ndimage.distance_transform_edt(mask, sampling=edges))
    outside = np.asarray(ndimage.distance_transform_edt(~mask, sampling=edges))
    return np.clip(inside - outside, -most, most).astype(np.float32)


def resampled(
    grid: PartGrid, overlays: dict[str, np.ndarray], spacing: float, margin: float
) -> tuple[PartGrid, dict[str, np.ndarray]]:
    """The most likely part in each cube of another grid, from smoothed shares.

    The smoothed share of each part gets an offset such that the part keeps its volume; the offsets
    are found by iteration. Slices far apart are interpolated first. Smoothing is a Gaussian of 0.7
    cubes, or of half a voxel of the image where those are larger.

    Args:
        grid: parts in the image's own voxels.
        overlays: masks on the same voxels.
        spacing: edge of the cubes in mm.
        margin: mm to leave free on each side.

    Returns:
        The new grid, and the share of each cube that an overlay covers.
    """
    present = [int(k) for k in np.unique(grid.parts) if k]
    wanted = np.array([grid.volume_of(part) for part in present]) / spacing**3
    grid, overlays = between_slices(grid, overlays, spacing)
    size = np.array(grid.parts.shape) * grid.edges
    counts = np.ceil((size + 2 * margin) / spacing - _AWAY).astype(int)
    offset = 0.5 * (size - counts * spacing)
    old = zip(grid.edges, grid.parts.shape, counts, offset, strict=True)
    weights = [overlaps(edge, n, m, spacing, shift) for edge, n, m, shift in old]
    width = np.maximum(_WIDTH, 0.5 * grid.edges / spacing)
    shares = np.stack(
        [ndimage.gaussian_filter(_means(weights, grid.parts == k), width) for k in present]
    )
    parts = np.array([0, *present], np.uint8)[_keeping_volumes(shares, wanted)]
    cubes = PartGrid(parts, grid.corner + offset @ grid.axes, grid.axes, np.full(3, spacing))
    return cubes, {name: _means(weights, mask) for name, mask in overlays.items()}


def _means(weights: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Share of each voxel of another grid that a mask covers."""
    share = mask.astype(np.float32)
    for axis, weight in enumerate(weights):
        share = np.moveaxis(np.tensordot(weight, share, axes=(1, axis)), 0, axis)
    return share


def _keeping_volumes(shares: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the part of each voxel, 0 outside, whose counts are those wanted."""
    rest = np.clip(1.0 - shares.sum(axis=0), 0.0, None)
    offsets = np.zeros(len(shares), np.float32)
    step = np.full(len(shares), 0.1, np.float32)
    last = np.zeros(len(shares))
    chosen = np.zeros(rest.shape, np.uint8)
    for _ in range(_ROUNDS):
        best = rest.copy()
        chosen = np.zeros(rest.shape, np.uint8)
        for k, share in enumerate(shares):
            score = share + offsets[k]
            wins = score > best
            np.copyto(best, score, where=wins)
            chosen[wins] = k + 1
        count = np.bincount(chosen.ravel(), minlength=len(shares) + 1)[1:]
        missing = wanted / np.maximum(count, 1) - 1.0
        if (np.abs(missing) < _CLOSE_ENOUGH).all():
            break
        step = np.where(missing * last < 0, 0.5 * step, step)
        offsets += (step * np.clip(5.0 * missing, -1.0, 1.0)).astype(np.float32)
        last = missing
    return chosen
