"""Whether an image of parts shows one human heart, the right way round."""

import warnings

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from cardiotwin.anatomy._label_cleaning import PartGrid, RefusedImage
from cardiotwin.anatomy.label_table import VESSELS, WALLS, Part

# Volumes of ventricular muscle, mm3, from a mouse to a very large human heart.
_MUSCLE = (30.0, 2e6)
_SEPTAL_HOLE = 20.0  # mm2 of contact between the cavities: noise of the labels stays below
_OPPOSITE = -0.1
_APEX = 0.97  # of the largest distance from the opening: voxels that give the apex


def dilated(where: np.ndarray, steps: int = 1) -> np.ndarray:
    """Marked voxels and those so many faces away from one."""
    return np.asarray(ndimage.binary_dilation(where, iterations=steps))


def contact(parts: np.ndarray, first: int, others: tuple[int, ...]) -> np.ndarray:
    """Voxels of one part that share a face with one of some others, bool [x, y, z]."""
    return dilated(np.isin(parts, others)) & (parts == first)


def centre(grid: PartGrid, where: np.ndarray) -> Float[np.ndarray, " 3"]:
    """Mean position of some voxels, mm."""
    index = np.argwhere(where).mean(axis=0) + 0.5
    return grid.corner + (index * grid.edges) @ grid.axes


def check_size(grid: PartGrid, *, stated: bool) -> None:
    """Refuse a heart of an impossible size, which tells a wrong unit or none.

    Args:
        grid: the parts.
        stated: whether the file or the caller says how large a voxel is.
    """
    volume = float(np.isin(grid.parts, WALLS).sum() * grid.edges.prod())
    edges = " x ".join(f"{edge:.3g}" for edge in grid.edges)
    if not _MUSCLE[0] <= volume <= _MUSCLE[1]:
        raise ValueError(
            f"the muscle has {volume / 1e3:.3g} mL with voxels of {edges} mm, which is no heart: "
            "the affine seems to be missing or in another unit; give the voxels' edges in mm "
            "(--voxel 0.5,0.5,0.6)"
        )
    if not stated:
        warnings.warn(
            f"the file says neither where its voxels lie nor how large they are; taken as {edges} "
            f"mm, which makes {volume / 1e3:.3g} mL of muscle; give --voxel where that is wrong",
            stacklevel=3,
        )


def check_ventricles(grid: PartGrid) -> None:
    """Refuse ventricles in each other's place, and cavities that touch.

    Raises:
        ValueError: as said (`RefusedImage` with the place of a hole), or there is no cavity.
    """
    parts = grid.parts
    left, right = parts == Part.LV_CAVITY, parts == Part.RV_CAVITY
    if not left.any():
        raise ValueError(
            "the image has no left ventricular cavity: label it (lv_cavity), or check that the "
            "wall encloses one"
        )
    if not right.any():
        raise ValueError(
            "the image has no right ventricle: label its cavity (rv_cavity); of a left ventricle "
            "alone give a mesh instead of an image (mesh=file mesh.find_surfaces=lv)"
        )
    face = float(grid.edges.prod() ** (2 / 3))
    touching = contact(parts, Part.LV_CAVITY, (Part.RV_CAVITY,)).sum() * face
    if touching > _SEPTAL_HOLE:
        where = centre(grid, contact(parts, Part.LV_CAVITY, (Part.RV_CAVITY,)))
        raise RefusedImage(
            f"the septum has a hole: both cavities touch on {touching:.0f} mm2 around "
            f"{where.round(1).tolist()} mm; label muscle between them",
            where,
        )
    shares = []
    for cavity in (Part.LV_CAVITY, Part.RV_CAVITY):
        rim = (parts == cavity) & dilated(parts != cavity)
        walled = contact(parts, cavity, (Part.LV_WALL, Part.SEPTUM))
        shares.append(walled.sum() / max(rim.sum(), 1))
    if shares[1] > shares[0]:
        raise ValueError(
            f"the left wall covers {100 * shares[1]:.0f} % of the right cavity and only "
            f"{100 * shares[0]:.0f} % of the left one: left and right ventricle seem swapped; "
            "exchange lv_cavity and rv_cavity in the label table"
        )


def handedness(grid: PartGrid) -> float | None:
    """Whether the valves lie as in a heart: 1 as they should, -1 mirrored, None where unknown.

    Looking from the apex to the base with the right ventricle on the right-hand side, the outflow
    of each ventricle lies in front of its inflow. The figure is the cosine of the angle between
    that direction and the one found, of the right ventricle where both its valves are labelled.
    """
    parts = grid.parts
    up = long_axis(grid)
    across = centre(grid, parts == Part.RV_CAVITY) - centre(grid, parts == Part.LV_CAVITY)
    front = np.cross(up, across)
    cosines = []
    for cavity, inflow, outflow in (
        (Part.RV_CAVITY, Part.RA, Part.PULMONARY_ARTERY),
        (Part.LV_CAVITY, Part.LA, Part.AORTA),
    ):
        entry, leaving = contact(parts, cavity, (inflow,)), contact(parts, cavity, (outflow,))
        if entry.any() and leaving.any():
            way = centre(grid, leaving) - centre(grid, entry)
            way -= up * (up @ way)
            cosines.append(way @ front / (np.linalg.norm(way) * np.linalg.norm(front)))
    return float(cosines[0]) if cosines else None


def check_handedness(grid: PartGrid) -> str | None:
    """Refuse a mirrored heart; say where a heart lies oddly in a frame that is RAS.

    Returns:
        A sentence about a heart that points to the right, or None.

    Raises:
        ValueError: the valves are those of a mirrored heart.
    """
    cosine = handedness(grid)
    if cosine is not None and cosine < _OPPOSITE:
        raise ValueError(
            "the heart is mirrored: seen with the right ventricle on its side, the pulmonary valve "
            f"lies behind the tricuspid one (cosine {cosine:.2f}, expected above 0); the image was "
            "flipped without its affine: flip one axis back (for example nibabel's "
            "image.slicer[::-1]), or give the affine"
        )
    up = long_axis(grid)
    across = centre(grid, grid.parts == Part.RV_CAVITY) - centre(grid, grid.parts == Part.LV_CAVITY)
    if cosine is None and up[0] < 0 and across[0] < 0:
        return (
            "the apex points to the patient's right and the right ventricle lies to the left, if "
            "the affine is right-anterior-superior: the image may be mirrored"
        )
    return None


def long_axis(grid: PartGrid) -> np.ndarray:
    """Unit vector from the apex of the left cavity to the middle of its opening."""
    parts = grid.parts
    opening = contact(parts, Part.LV_CAVITY, VESSELS)
    if not opening.any():
        opening = contact(parts, Part.LV_CAVITY, (Part.OUTSIDE,))
    if opening.any():
        away = np.argwhere(parts == Part.LV_CAVITY) - np.argwhere(opening).mean(axis=0)
        length = np.linalg.norm(away * grid.edges, axis=1)
        up = -(away[length >= _APEX * length.max()].mean(axis=0) * grid.edges) @ grid.axes
    else:
        index = np.argwhere((parts == Part.LV_CAVITY) | (parts == Part.LV_WALL)) * grid.edges
        up = np.linalg.svd(np.cov(index.T))[0][:, 0] @ grid.axes
        to_right = centre(grid, parts == Part.RV_CAVITY) - centre(grid, parts == Part.LV_CAVITY)
        up = up * np.sign(up @ to_right or 1.0)  # the right ventricle lies nearer to the base
    return up / np.linalg.norm(up)
