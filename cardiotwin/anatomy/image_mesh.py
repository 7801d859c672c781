"""Voxels and tetrahedra of a heart from an image, with its surfaces and regions named."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cardiotwin._types import Millimetres
from cardiotwin.anatomy._valves import valve_rings
from cardiotwin.anatomy._walls import FARTHEST_RIM, rim_distances
from cardiotwin.anatomy.imaging import (
    HeartImage,
    heart_from_labels,
    read_heart,
    read_label_image,
)
from cardiotwin.anatomy.label_table import CAVITIES, TISSUE, VESSELS, Part, table_for
from cardiotwin.anatomy.mesh import STANDARD_SURFACES, Mesh
from cardiotwin.anatomy.stuffing import cube_edge, stuff
from cardiotwin.anatomy.topology import (
    areas,
    boundary_faces,
    component_labels,
    element_faces,
    signed_volumes,
)
from cardiotwin.anatomy.voxels import Voxels, label_pieces

REGIONS = {1: "lv", 2: "rv", 3: "septum"}
_ENDOCARDIA = {Part.LV_CAVITY: "endo_lv", Part.RV_CAVITY: "endo_rv"}
_BEHIND = {
    "mitral": Part.LA,
    "aortic": Part.AORTA,
    "tricuspid": Part.RA,
    "pulmonary": Part.PULMONARY_ARTERY,
}
# Standard deviation, in voxels, of the smoothing whose level set is the surface of tetrahedra.
_WIDTH = 1.0
_BEYOND = 0.75  # voxels from a face outwards to where the part is that it faces
_RIM_SLACK = 0.5  # voxels
_VESSEL_SLACK = 5.0  # mm
_SMALLEST_PATCH = 50.0  # mm2
_HOLE_FROM_RIM = 3.0  # edges


def heart_voxels(heart: HeartImage) -> Voxels:
    """The tissue of a heart as a voxel grid with its surfaces.

    Regions are 1 "lv", 2 "rv" and 3 "septum"; surfaces "epi", "endo_lv", "endo_rv" and "base", and
    the rings of those valves whose atrium or artery the image has. Shares of scar and border zone
    become cell data.

    Raises:
        ValueError: the tissue falls into pieces.
    """
    mask = _largest(np.isin(heart.parts, TISSUE))
    grid = Voxels(
        mask,
        heart.spacing,
        origin=heart.corner,
        axes=heart.axes,
        regions=np.where(mask, heart.parts, 0).astype(np.int32),
        cell_data=heart.overlays,
        region_names=_present(heart.parts[mask]),
    )
    return grid.replaced(surfaces=_surfaces(heart, grid.points, grid.boundary_faces()))


def voxels_from_heart(image: str | Path) -> Voxels:
    """Voxels of an image that ``cardiotwin mesh IMAGE -o heart.nii.gz`` wrote."""
    return heart_voxels(read_heart(image))


def mesh_from_image(
    image: str | Path,
    *,
    labels: str | Path | None = None,
    edge_length: Millimetres = 1.5,
    spacing: Millimetres = 1.0,
    rv_wall: Millimetres = 3.5,
) -> Mesh:
    """Tetrahedra of the heart in an image of labels: `heart_from_labels`, then `heart_mesh`.

    Args:
        image: NIfTI, NRRD or whatever nibabel reads.
        labels: name of a label table or a YAML file; the one that fits when left out.
        edge_length: mean edge in mm.
        spacing: edge of the working cubes in mm.
        rv_wall: thickness of the right wall to grow where the image has none, mm.

    Raises:
        ValueError: as `heart_from_labels` and `heart_mesh`, or no label table fits.
    """
    return heart_mesh(_heart_of(image, labels, spacing, rv_wall), edge_length)


def voxels_from_image(
    image: str | Path,
    *,
    labels: str | Path | None = None,
    spacing: Millimetres = 1.0,
    rv_wall: Millimetres = 3.5,
) -> Voxels:
    """Voxels of the heart in an image of labels, cleaned and with surfaces; see `mesh_from_image`.

    Args:
        image: NIfTI, NRRD or whatever nibabel reads.
        labels: name of a label table or a YAML file; the one that fits when left out.
        spacing: edge of the voxels in mm.
        rv_wall: thickness of the right wall to grow where the image has none, mm.

    Raises:
        ValueError: as `heart_from_labels`, or no label table fits.
    """
    return heart_voxels(_heart_of(image, labels, spacing, rv_wall))


def _heart_of(
    image: str | Path, labels: str | Path | None, spacing: float, rv_wall: float
) -> HeartImage:
    found = read_label_image(Path(image))
    table = table_for(found.labels, labels)
    return heart_from_labels(found, table, spacing=spacing, rv_wall=rv_wall)


def heart_mesh(heart: HeartImage, edge_length: Millimetres = 1.5) -> Mesh:
    """The tissue of a heart as tetrahedra, by isosurface stuffing of its smoothed surface.

    The surface is a level of the tissue's indicator after a Gaussian of one voxel, the level at
    which the volume is that of the voxels.

    Args:
        heart: the heart.
        edge_length: mean edge in mm.

    Returns:
        The mesh, with regions 1 "lv", 2 "rv", 3 "septum", the surfaces "epi", "endo_lv", "endo_rv"
        and "base", the rings of the valves whose atrium or artery the image has ("mitral",
        "aortic", "tricuspid", "pulmonary"), and shares of scar and border zone as cell data.

    Raises:
        ValueError: the edge length is not positive or too long for the walls.
    """
    if not (np.isfinite(edge_length) and edge_length > 0):
        raise ValueError(f"edge_length must be a positive length in mm, got {edge_length!r}")
    tissue = _largest(np.isin(heart.parts, TISSUE))
    smooth = ndimage.gaussian_filter(tissue.astype(np.float32), _WIDTH)
    level = float(np.partition(smooth.ravel(), -int(tissue.sum()))[-int(tissue.sum())])
    slope = heart.spacing * _WIDTH * np.sqrt(2.0 * np.pi)  # mm over which an indicator falls

    def depth(points: np.ndarray) -> np.ndarray:
        index = points.T / heart.spacing - 0.5
        return slope * (ndimage.map_coordinates(smooth, index, order=1) - level)

    cube = cube_edge(edge_length, _surface_to_volume(smooth, level, heart.spacing))
    size = np.array(tissue.shape) * heart.spacing
    points, cells = stuff(depth, np.zeros(3), size, cube, open_top=False)
    mesh = named_mesh(heart, heart.to_points(points), cells)
    warn_of_holes(mesh, edge_length)
    return mesh


def warn_of_holes(mesh: Mesh, edge_length: float) -> None:
    """Warn where a wall has a hole: epicardium and endocardium meet away from the base."""
    inner = [mesh.surfaces[name] for name in ("endo_lv", "endo_rv") if name in mesh.surfaces]
    both = np.intersect1d(np.unique(mesh.surfaces["epi"]), np.unique(np.concatenate(inner)))
    rim = KDTree(mesh.points[np.unique(mesh.surfaces["base"])])
    holes = both[rim.query(mesh.points[both])[0] > _HOLE_FROM_RIM * edge_length]
    if len(holes):
        warnings.warn(
            f"epicardium and endocardium meet at {len(holes)} nodes away from the base, such as "
            f"{mesh.points[holes[0]].round(1).tolist()} mm: the wall is thin there or has a hole; "
            "use a shorter edge length, or a thicker right wall",
            stacklevel=3,
        )


def named_mesh(heart: HeartImage, points: np.ndarray, cells: np.ndarray) -> Mesh:
    """A mesh of a heart's tissue, in one piece, with regions and surfaces from the image.

    Args:
        heart: the heart.
        points: [nodes, 3] mm.
        cells: [elements, 4].
    """
    cells = largest_by_faces(points, cells)
    nodes, cells = np.unique(cells, return_inverse=True)
    points, cells = points[nodes], cells.reshape(-1, 4).astype(np.int32)
    index = heart.to_index(points[cells].mean(axis=1))
    tissue = np.isin(heart.parts, TISSUE)
    regions = _at(_filled(heart.parts, tissue), index).astype(np.int32)
    overlays = {
        name: ndimage.map_coordinates(share, index.T, order=1)
        for name, share in heart.overlays.items()
    }
    return Mesh(
        points,
        cells,
        regions,
        surfaces=_surfaces(heart, points, boundary_faces(cells)),
        cell_data=overlays,
        region_names=_present(regions),
    )


def _surfaces(heart: HeartImage, points: np.ndarray, faces: np.ndarray) -> dict[str, np.ndarray]:
    """Boundary faces by name, from the part that lies outside each."""
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    index = heart.to_index(corners.mean(axis=1) + _BEYOND * heart.spacing * normal)
    beyond = _at(_filled(heart.parts, ~np.isin(heart.parts, TISSUE)), index)
    name = np.full(len(faces), "epi", dtype="U7")
    for part, cavity in _ENDOCARDIA.items():
        name[beyond == part] = cavity
    name[_on_rim(heart, index, beyond)] = "base"
    name = _without_specks(points, faces, name)
    named = (name == k for k in STANDARD_SURFACES)
    surfaces = {k: faces[own] for k, own in zip(STANDARD_SURFACES, named, strict=True) if own.any()}
    return surfaces | valve_rings(points, surfaces, _behind_valves(heart))


def _behind_valves(heart: HeartImage) -> dict[str, np.ndarray]:
    """Centres of the voxels of the atrium or artery behind each valve that the image has, mm."""
    places = {valve: np.argwhere(heart.parts == part) for valve, part in _BEHIND.items()}
    return {
        valve: heart.to_points((index + 0.5) * heart.spacing)
        for valve, index in places.items()
        if len(index)
    }


def _on_rim(heart: HeartImage, index: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Whether places outside the tissue belong to the base [faces].

    A place belongs to the rim of a valve where the nearest voxel of a cavity is one of the
    opening, through which the cavity meets an atrium, an artery or the outside; with some slack
    where the place itself lies in an atrium or artery.
    """
    found = rim_distances(heart.grid)
    to_cavity, to_opening = (
        ndimage.map_coordinates(image, index.T, order=1, mode="nearest") for image in found
    )
    slack = np.where(np.isin(beyond, VESSELS), _VESSEL_SLACK, _RIM_SLACK * heart.spacing)
    near = (to_opening <= to_cavity + slack) & (to_opening <= FARTHEST_RIM)
    return ~np.isin(beyond, CAVITIES) & (near | (beyond == Part.REMOVED))


def _without_specks(points: np.ndarray, faces: np.ndarray, name: np.ndarray) -> np.ndarray:
    """Names with small patches given to the names around them."""
    size = areas(points, faces)
    for _ in range(3):
        small = np.zeros(len(faces), bool)
        for one in np.unique(name):
            here = np.flatnonzero(name == one)
            label = component_labels(faces[here], len(points))[faces[here, 0]]
            patch = np.bincount(label, size[here])
            limit = min(_SMALLEST_PATCH, 0.5 * patch.max())
            small[here[patch[label] < limit]] = True
        if not small.any():
            return name
        kept = KDTree(points[faces[~small]].mean(axis=1))
        nearest = kept.query(points[faces[small]].mean(axis=1))[1]
        name = name.copy()
        name[small] = name[~small][nearest]
    return name


def _largest(mask: np.ndarray) -> np.ndarray:
    label, count = label_pieces(mask)
    if count == 1:
        return mask
    size = np.bincount(label.ravel())
    size[0] = 0
    return label == np.argmax(size)


def _filled(parts: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Parts, those of unknown voxels replaced by the nearest known one's."""
    nearest: Any = ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    return parts[tuple(nearest)]


def _at(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values of the voxels that hold places, given by index [n, 3]."""
    place = np.clip(np.rint(index).astype(int), 0, np.array(image.shape) - 1)
    return image[tuple(place.T)]


def _present(labels: np.ndarray) -> dict[int, str]:
    return {k: name for k, name in REGIONS.items() if (labels == k).any()}


def _surface_to_volume(smooth: np.ndarray, level: float, spacing: float) -> float:
    """Surface over volume of a level set in 1/mm: the mean length of the indicator's gradient."""
    slope = np.sqrt(sum(g**2 for g in np.gradient(smooth, spacing)))
    return float(slope.sum() / (smooth > level).sum())


def largest_by_faces(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The elements of the largest group that hangs together by faces."""
    faces = element_faces(cells)
    order = np.argsort(faces.keys, kind="stable")
    ordered = faces.keys[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    count = len(cells)
    first, second = order[same] % count, order[same + 1] % count
    links = sp.coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    _, label = connected_components(links, directed=False)
    volume = np.bincount(label, signed_volumes(points, cells))
    return cells[label == np.argmax(volume)]
