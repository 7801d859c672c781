"""Scar and border zone from a second image: volume shares of every element.

The image is a label map, or late gadolinium enhancement (LGE) whose intensities are divided by
thresholds: so many standard deviations above remote muscle (2 and 5 by default), or half of the
largest intensity (FWHM).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cardiotwin.anatomy._image_files import check_labels, read_image
from cardiotwin.anatomy.mesh import Mesh

CORE, BORDER = "scar", "border_zone"
# Elements are sampled at the centres of their parts, halved until an edge is half a voxel's, but
# not more than so often (64 parts).
_MOST_HALVINGS = 2
_AT_ONCE = 2_000_000  # sample points
_LEAST_INSIDE = 0.9  # share of the tissue that the image must cover
_MODE_BINS = 128


class Scar(NamedTuple):
    """Volume shares of every element, 0 to 1, and how they were found.

    Attributes:
        core: dense scar [elements].
        border: border zone [elements].
        thresholds: intensities at which border zone and core begin; None for labels.
    """

    core: Float[np.ndarray, " elements"]
    border: Float[np.ndarray, " elements"]
    thresholds: tuple[float, float] | None = None

    def on(self, mesh: Mesh) -> Mesh:
        """The mesh with the shares as cell data "scar" and "border_zone"."""
        return mesh.replaced(cell_data=mesh.cell_data | {CORE: self.core, BORDER: self.border})


def scar_from_labels(
    mesh: Mesh,
    image: str | os.PathLike[str] | np.ndarray,
    *,
    core: int | Iterable[int],
    border: int | Iterable[int] = (),
    affine: Any = None,
) -> Scar:
    """Volume shares of scar and border zone from a label map in the frame of the mesh.

    Args:
        mesh: of the ventricles, mm.
        image: NIfTI, NRRD or whatever nibabel reads; or labels [x, y, z].
        core: labels of dense scar.
        border: labels of the border zone.
        affine: [4, 4] from indices to centres of voxels in mm; the file's when left out.

    Returns:
        The shares; `Scar.on` puts them on the mesh.

    Raises:
        ValueError: the image cannot be read, has no such label, lacks an affine, or does not
            cover the mesh.
        ImportError: the package that reads the file is not installed.
    """
    values, affine = _opened(image, affine)
    labels = check_labels(values)
    sets = [np.atleast_1d(np.asarray(chosen, int)) for chosen in (core, tuple(_listed(border)))]
    present = np.unique(labels).tolist()
    absent = sorted(set(np.concatenate(sets).tolist()) - set(present))
    if absent or not sets[0].size:
        raise ValueError(
            f"the scar image has no label {absent or 'for the core'}: its labels are "
            f"{present[:20]}; name those of core and border zone"
        )
    classes = np.zeros(labels.shape, np.int8)
    classes[np.isin(labels, sets[1])] = 2
    classes[np.isin(labels, sets[0])] = 1
    samples = _Samples(mesh, classes.shape, affine)
    return Scar(samples.shares(classes == 1), samples.shares(classes == 2))


def scar_from_intensity(
    mesh: Mesh,
    image: str | os.PathLike[str] | np.ndarray,
    *,
    method: Literal["sd", "fwhm"] = "sd",
    border_sd: float = 2.0,
    core_sd: float = 5.0,
    remote: Bool[np.ndarray, " elements"] | None = None,
    affine: Any = None,
) -> Scar:
    """Volume shares of scar and border zone from an LGE image in the frame of the mesh.

    "sd": border zone from `border_sd` and core from `core_sd` standard deviations above the mean of
    remote muscle. "fwhm": core from half of the largest intensity in the muscle, border zone from
    `border_sd` to there. (Flett et al. 2011, https://doi.org/10.1016/j.jcmg.2010.11.015, compare
    the methods; half maximum was the most reproducible.)

    Args:
        mesh: of the ventricles, mm.
        image: NIfTI, NRRD or whatever nibabel reads; or intensities [x, y, z].
        method: "sd" or "fwhm".
        border_sd: standard deviations above remote muscle.
        core_sd: standard deviations above remote muscle.
        remote: elements of healthy muscle [elements]; when left out, the mode of the intensities
            in the muscle is their mean and what lies below it gives their spread.
        affine: [4, 4] from indices to centres of voxels in mm; the file's when left out.

    Returns:
        The shares, and the two thresholds.

    Raises:
        ValueError: as `scar_from_labels`; the intensities are all alike, or no threshold lies above
            the other.
    """
    if method not in ("sd", "fwhm") or not 0.0 < border_sd < core_sd:
        raise ValueError(
            f"method is {method!r}, border_sd {border_sd}, core_sd {core_sd}: give 'sd' or 'fwhm', "
            "and two numbers of standard deviations of which the second is the larger"
        )
    values, affine = _opened(image, affine)
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(
            f"the scar image has shape {values.shape}; expected finite intensities on three axes"
        )
    samples = _Samples(mesh, values.shape, affine)
    muscle = samples.values(values)
    mean, spread = _remote(muscle if remote is None else samples.values(values, remote), remote)
    low = mean + border_sd * spread
    high = mean + core_sd * spread if method == "sd" else 0.5 * float(muscle.max())
    if spread <= 0.0 or high <= low:
        raise ValueError(
            f"border zone would begin at {low:.4g} and core at {high:.4g}, with remote muscle of "
            f"{mean:.4g} +- {spread:.4g} and at most {muscle.max():.4g} in the muscle: the image "
            "shows no enhancement, or does not lie on the mesh"
        )
    core = samples.shares(values >= high)
    return Scar(core, samples.shares((values >= low) & (values < high)), (low, high))


class _Samples:
    """Voxels at evenly spread points of every element."""

    def __init__(self, mesh: Mesh, shape: tuple[int, ...], affine: np.ndarray):
        self.mesh, self.shape = mesh, np.array(shape)
        self.inverse = np.linalg.inv(affine)
        self.corners = _barycentric(self._halvings(affine))
        self._check_cover(affine)

    def shares(self, chosen: np.ndarray) -> Float[np.ndarray, " elements"]:
        """Share of each element's points whose voxel is marked."""
        found = np.empty(self.mesh.elements)
        for block in self._blocks():
            found[block] = self._at(chosen, block).mean(axis=1)
        return found

    def values(self, image: np.ndarray, elements: np.ndarray | None = None) -> np.ndarray:
        """The image at the points of some elements."""
        chosen = np.ones(self.mesh.elements, bool) if elements is None else np.asarray(elements)
        if chosen.shape != (self.mesh.elements,) or not chosen.any():
            raise ValueError(
                f"remote has shape {chosen.shape}: mark some of {self.mesh.elements} elements"
            )
        return np.concatenate([self._at(image, b)[chosen[b]].ravel() for b in self._blocks()])

    def _blocks(self) -> list[slice]:
        size = max(1, _AT_ONCE // len(self.corners))
        return [slice(k, k + size) for k in range(0, self.mesh.elements, size)]

    def _index(self, block: slice) -> Int[np.ndarray, "elements points 3"]:
        places = np.einsum("pc,eci->epi", self.corners, self.mesh.points[self.mesh.cells[block]])
        return np.rint(places @ self.inverse[:3, :3].T + self.inverse[:3, 3]).astype(np.int64)

    def _at(self, image: np.ndarray, block: slice) -> np.ndarray:
        """Voxels at points; those beyond the image take the nearest voxel."""
        return image[tuple(np.moveaxis(np.clip(self._index(block), 0, self.shape - 1), -1, 0))]

    def _halvings(self, affine: np.ndarray) -> int:
        first, second = self.mesh.unique_edges().T
        length = np.linalg.norm(self.mesh.points[first] - self.mesh.points[second], axis=1)
        voxel = np.linalg.norm(affine[:3, :3], axis=0).min()
        wanted = np.ceil(np.log2(max(np.median(length) / voxel, 1.0)))
        return int(min(wanted + 1, _MOST_HALVINGS))

    def _check_cover(self, affine: np.ndarray) -> None:
        centres = self.mesh.centroids()
        index = np.rint(centres @ self.inverse[:3, :3].T + self.inverse[:3, 3])
        inside = ((index >= 0) & (index < self.shape)).all(axis=1).mean()
        if inside < _LEAST_INSIDE:
            ends = np.stack([np.zeros(3), self.shape - 1.0])
            box = np.sort(ends @ affine[:3, :3].T + affine[:3, 3], axis=0).round(0).tolist()
            points = self.mesh.points
            own = [points.min(axis=0).round(0).tolist(), points.max(axis=0).round(0).tolist()]
            raise ValueError(
                f"the scar image covers {100 * inside:.0f} % of the mesh: it spans {box} mm and "
                f"the mesh {own} mm; register it to the image that the mesh was made of, or mend "
                "its affine"
            )


def _barycentric(halvings: int) -> Float[np.ndarray, "points 4"]:
    """Barycentric coordinates of the centres of the equal parts of a tetrahedron, 8 a halving."""
    parts = np.eye(4)[None]
    for _ in range(halvings):
        middle = {
            (a, b): 0.5 * (parts[:, a] + parts[:, b]) for a in range(4) for b in range(a + 1, 4)
        }
        corner = {(a, a): parts[:, a] for a in range(4)}
        at = middle | corner
        pieces = [[(k, k), *(tuple(sorted((k, j))) for j in range(4) if j != k)] for k in range(4)]
        ring = [(0, 1), (1, 2), (2, 3), (0, 3)]  # around the diagonal from 02 to 13
        pieces += [[(0, 2), (1, 3), ring[k], ring[(k + 1) % 4]] for k in range(4)]
        parts = np.concatenate([np.stack([at[p] for p in piece], axis=1) for piece in pieces])
    return parts.mean(axis=1)


def _remote(values: np.ndarray, given: np.ndarray | None) -> tuple[float, float]:
    """Mean and standard deviation of remote muscle."""
    if given is not None:
        return float(values.mean()), float(values.std())
    low, high = np.percentile(values, [0.5, 99.5])
    if high <= low:
        return float(low), 0.0
    count, edges = np.histogram(values, bins=_MODE_BINS, range=(low, high))
    # the mode of a smoothed histogram: bins of their own would follow the noise
    smooth = np.convolve(count, np.hanning(_MODE_BINS // 8 + 2), mode="same")
    k = int(np.argmax(smooth))
    mode = 0.5 * (edges[k] + edges[k + 1])
    below = values[values <= mode]
    return float(mode), float(np.sqrt(np.mean((below - mode) ** 2)))


def _opened(image: Any, affine: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(image, str | os.PathLike):
        values, affine = read_image(Path(image), affine)
    else:
        values = np.asarray(image)
    if affine is None:
        raise ValueError("an array of voxels has no place: give its affine [4, 4] in mm")
    affine = np.asarray(affine, np.float64)
    if affine.shape != (4, 4) or abs(np.linalg.det(affine)) < 1e-12:
        raise ValueError(f"the affine has shape {affine.shape} or no inverse; give [4, 4] in mm")
    values = np.asarray(values)
    return (values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values), affine


def _listed(labels: int | Iterable[int]) -> tuple[int, ...]:
    return (int(labels),) if isinstance(labels, int | np.integer) else tuple(labels)
