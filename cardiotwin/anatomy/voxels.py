"""Tissue on a voxel grid: elements are voxels, nodes are their corners."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from cardiotwin.anatomy import _invariants as invariants
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import boundary_faces
from cardiotwin.numerics.stencil import CORNERS

# The tetrahedra of a voxel: one for each order in which the axes lead from the first corner to the
# last (Kuhn). Neighbours cut their common face along the same diagonal.
_TETRAHEDRA = np.array(
    [[0, 1, 2, 6], [0, 2, 3, 6], [0, 3, 7, 6], [0, 7, 4, 6], [0, 4, 5, 6], [0, 5, 1, 6]]
)
TETRAHEDRA_PER_VOXEL = len(_TETRAHEDRA)
# Largest deviation of grid axes from unit length and from right angles.
_SKEW = 1e-3
# Share of the tissue that may lie in walls of a single voxel before a warning.
_THIN = 0.05
_MOST_UNEQUAL = 3.0  # ratio of the longest to the shortest edge of a voxel before a warning
_WORST_SHOWN = 5


class Voxels(eqx.Module):
    """Tissue made of equal boxes: every marked voxel is an element, its corners are nodes.

    It takes the place of a `Mesh` wherever a run is set up: tissue, fibres, regions and
    conductivities are per voxel, voltages per node.

    Args:
        mask: which voxels are tissue [x, y, z].
        spacing: edges of a voxel, mm, one number or three.
        origin: the outer corner of the first voxel, mm.
        axes: direction of each axis of the grid, row by row [3, 3]: orthonormal, right-handed.
        regions: an integer label per voxel, on the grid [x, y, z] or for the tissue [voxels].
        surfaces: name -> node indices [faces, 3], from `boundary_faces`.
        point_data: name -> values per node [nodes, ...].
        cell_data: name -> values per voxel, [voxels, ...] or on the grid [x, y, z, ...]; the fibre
            direction is "fibre", the sheet direction "sheet".
        region_names: a mapping or pairs (label, name).
        allow_components: accept tissue in several pieces that share no face.

    Raises:
        ValueError: no tissue, a spacing that is not positive, axes that are not orthonormal,
            fields of the wrong length, surfaces that are no boundary, names used twice, or tissue
            in pieces.
    """

    mask: Bool[np.ndarray, "x y z"]
    spacing: Float[np.ndarray, " 3"]
    origin: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    points: Float[np.ndarray, "nodes 3"]
    cells: Int[np.ndarray, "voxels 8"]
    regions: Int[np.ndarray, " voxels"]
    surfaces: dict[str, np.ndarray]
    point_data: dict[str, np.ndarray]
    cell_data: dict[str, np.ndarray]
    region_names: tuple[tuple[int, str], ...] = eqx.field(static=True)

    def __init__(
        self,
        mask: Any,
        spacing: Any,
        *,
        origin: Any = (0.0, 0.0, 0.0),
        axes: Any = None,
        regions: Any = None,
        surfaces: Mapping[str, Any] | None = None,
        point_data: Mapping[str, Any] | None = None,
        cell_data: Mapping[str, Any] | None = None,
        region_names: Mapping[int, str] | Iterable[tuple[int, str]] = (),
        allow_components: bool = False,
    ):
        self.mask = check_mask(mask)
        self.spacing = check_spacing(spacing)
        self.origin = np.asarray(origin, np.float64)
        if self.origin.shape != (3,) or not np.isfinite(self.origin).all():
            raise ValueError(f"origin must be three finite coordinates in mm, got {origin!r}")
        self.axes = _orthonormal(np.eye(3) if axes is None else axes)
        if not allow_components:
            _check_one_piece(self.mask, self.spacing)
        self._warn_of_coarseness()
        grid = self.node_grid()
        corner = np.argwhere(grid >= 0) * self.spacing
        self.points = self.origin + corner @ self.axes
        voxels = np.argwhere(self.mask)
        self.cells = np.stack([grid[tuple((voxels + c).T)] for c in CORNERS], axis=1)
        self.regions = invariants.as_regions(self._of_tissue(regions), len(voxels))
        self.cell_data = {
            str(name): np.asarray(self._of_tissue(values))
            for name, values in (cell_data or {}).items()
        }
        self.point_data = {str(k): np.asarray(v) for k, v in (point_data or {}).items()}
        invariants.check_lengths(self.cell_data, len(voxels), "cell_data", "voxels")
        invariants.check_lengths(self.point_data, len(self.points), "point_data", "nodes")
        self.surfaces = {
            name: invariants.as_indices(faces, 3, f"surface {name!r}")
            for name, faces in (surfaces or {}).items()
        }
        self.region_names = tuple((int(k), str(v)) for k, v in dict(region_names).items())
        invariants.check_region_names(self.region_names)
        for name, faces in self.surfaces.items():
            invariants.check_range(faces, len(self.points), f"surface {name!r}")
        if self.surfaces:
            invariants.check_surfaces(self.surfaces, self._tetrahedra())

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.points)

    @property
    def elements(self) -> int:
        """Number of tissue voxels."""
        return len(self.cells)

    def volumes(self) -> Float[np.ndarray, " voxels"]:
        """Volume of every voxel, mm3."""
        return np.full(int(self.mask.sum()), self.spacing.prod())

    def volume(self) -> float:
        """Volume of the tissue, mm3."""
        return float(self.volumes().sum())

    def centroids(self) -> Float[np.ndarray, "voxels 3"]:
        """Centre of every voxel, mm."""
        return self.points[self.cells].mean(axis=1)

    def node_grid(self) -> Int[np.ndarray, "x1 y1 z1"]:
        """Number of the node at each corner of the grid, -1 where none is."""
        touched = np.zeros(np.add(self.mask.shape, 1), bool)
        for corner in CORNERS:
            here = tuple(slice(c, c + n) for c, n in zip(corner, self.mask.shape, strict=True))
            touched[here] |= self.mask
        grid = np.full(touched.shape, -1, np.int32)
        grid[touched] = np.arange(touched.sum(), dtype=np.int32)
        return grid

    def on_grid(self, values: Any, outside: Any = np.nan) -> np.ndarray:
        """Values of the tissue voxels [voxels, ...] as an image [x, y, z, ...]."""
        values = np.asarray(values)
        image = np.full((*self.mask.shape, *values.shape[1:]), outside)
        image[self.mask] = values
        return image

    def unique_edges(self) -> Int[np.ndarray, "edges 2"]:
        """Every edge of a voxel once [edges, 2], lower node first."""
        grid = self.node_grid()
        found = []
        for corner in np.eye(3, dtype=int):
            low = grid[tuple(slice(0, n - c) for n, c in zip(grid.shape, corner, strict=True))]
            high = grid[tuple(slice(c, n) for n, c in zip(grid.shape, corner, strict=True))]
            sides = _beside(self.mask, corner)
            found.append(np.stack([low[sides], high[sides]], axis=1))
        return np.concatenate(found)

    def boundary_faces(self) -> Int[np.ndarray, "faces 3"]:
        """The whole boundary as triangles [faces, 3], normals out of the tissue."""
        return boundary_faces(self._tetrahedra())

    def tetrahedra(self) -> Mesh:
        """The same tissue as tetrahedra on the same nodes, six a voxel, voxel by voxel."""
        return Mesh(
            self.points,
            self._tetrahedra(),
            np.repeat(self.regions, TETRAHEDRA_PER_VOXEL),
            surfaces=self.surfaces,
            point_data=self.point_data,
            cell_data={
                name: np.repeat(values, TETRAHEDRA_PER_VOXEL, axis=0)
                for name, values in self.cell_data.items()
            },
            region_names=self.region_names,
            allow_components=True,
        )

    def gradients(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, "voxels 3"]:
        """Gradient of a field at the centre of every voxel, a unit per mm."""
        slopes = (2.0 * CORNERS - 1.0) / (4.0 * self.spacing)
        return (np.asarray(values, np.float64)[self.cells] @ slopes) @ self.axes

    def copies(self, chosen: Bool[np.ndarray, " voxels"], count: int = 1) -> "Voxels":
        """The largest piece of some of the voxels, so many times side by side, without fields."""
        label, _ = label_pieces(self.on_grid(chosen, outside=False))
        size = np.bincount(label.ravel())
        size[0] = 0
        piece = label == np.argmax(size)
        spans = [np.flatnonzero(piece.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        piece = piece[tuple(slice(span[0], span[-1] + 1) for span in spans)]
        low = np.array([span[0] for span in spans]) * self.spacing
        apart = np.pad(piece, [(0, 1), (0, 0), (0, 0)])  # so that copies share no node
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said of the whole
            return Voxels(
                np.concatenate([apart] * count),
                self.spacing,
                origin=self.origin + low @ self.axes,
                axes=self.axes,
                allow_components=True,
            )

    def replaced(self, **changes: Any) -> "Voxels":
        """A copy with some constructor arguments changed, checked anew."""
        names = ("mask", "spacing", "origin", "axes", "regions", "surfaces", "point_data")
        kept = {name: getattr(self, name) for name in (*names, "cell_data", "region_names")}
        return Voxels(**{**kept, "allow_components": True, **changes})

    def _tetrahedra(self):
        return self.cells[:, _TETRAHEDRA].reshape(-1, 4)

    def _of_tissue(self, values: Any) -> Any:
        """Values per tissue voxel, taken out of an image where one is given."""
        if values is not None and np.shape(values)[:3] == self.mask.shape:
            return np.asarray(values)[self.mask]
        return values

    def _warn_of_coarseness(self) -> None:
        unequal = self.spacing.max() / self.spacing.min()
        if unequal > _MOST_UNEQUAL:
            warnings.warn(
                f"voxels of {_text(self.spacing)} mm resolve a wave {unequal:.1f} times worse "
                "along one axis than along another: give an image an edge_length",
                stacklevel=3,
            )
        thin = self.mask & ~in_blocks(self.mask)
        share = thin.sum() / self.mask.sum()
        if share > _THIN:
            place = np.argwhere(thin)[0]
            warnings.warn(
                f"{int(thin.sum())} of {int(self.mask.sum())} voxels ({100 * share:.0f} %) lie in "
                f"walls that are one voxel thick, such as voxel {place.tolist()}: use smaller "
                "voxels, or take thin tissue out",
                stacklevel=3,
            )


def as_tetrahedra(mesh: Mesh | Voxels) -> Mesh:
    """A mesh itself, or the tetrahedra of voxels, on the same nodes."""
    return mesh.tetrahedra() if isinstance(mesh, Voxels) else mesh


def check_mask(mask: Any) -> Bool[np.ndarray, "x y z"]:
    """Three axes of booleans (or of 0 and 1), not all false."""
    mask = np.asarray(mask)
    if mask.ndim != 3 or (mask.dtype != bool and not np.isin(mask, (0, 1)).all()):
        raise ValueError(
            f"mask must be a boolean array with three axes, got shape {mask.shape} and type "
            f"{mask.dtype}; of an image with several labels choose some (voxels_from_labels)"
        )
    mask = mask.astype(bool)
    if not mask.any():
        raise ValueError(f"no voxel of the mask of shape {mask.shape} is tissue: mark at least one")
    return mask


def check_spacing(spacing: Any, name: str = "spacing") -> Float[np.ndarray, " 3"]:
    """One edge or three, positive, in mm."""
    try:
        edges = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        edges = np.array(np.nan)
    if edges.shape not in ((), (3,)) or not (np.isfinite(edges) & (edges > 0)).all():
        raise ValueError(
            f"{name} must be a positive length in mm, or three along the axes, got {spacing!r}; "
            "an affine (voxels_from_labels) can describe axes that run backwards"
        )
    return np.broadcast_to(edges, 3).copy()


def in_blocks(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Voxels that belong to a block of two by two by two voxels of the mask."""
    wide = np.pad(mask, 1)
    block = np.ones(np.subtract(wide.shape, 1), bool)
    size = block.shape
    for c in CORNERS:
        block &= wide[tuple(slice(k, k + n) for k, n in zip(c, size, strict=True))]
    found = np.zeros(mask.shape, bool)
    for c in CORNERS:
        found |= block[tuple(slice(k, k + n) for k, n in zip(c, mask.shape, strict=True))]
    return found


def _beside(mask: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Node pairs along one axis that lie on a voxel of the mask."""
    for axis in range(3):
        if corner[axis] == 0:
            wide = np.pad(mask, [(int(a == axis),) * 2 for a in range(3)])
            n = wide.shape[axis] - 1
            mask = wide.take(range(n), axis) | wide.take(range(1, n + 1), axis)
    return mask


def _orthonormal(axes: Any) -> Float[np.ndarray, "3 3"]:
    axes = np.asarray(axes, np.float64)
    good = axes.shape == (3, 3) and np.abs(axes @ axes.T - np.eye(3)).max() < _SKEW
    if not good or np.linalg.det(axes) < 0:
        raise ValueError(
            f"axes must be three perpendicular directions of length one, right-handed, got {axes}: "
            "a sheared or mirrored image has to be resampled or turned first"
        )
    u, _, v = np.linalg.svd(axes)
    return np.eye(3) if np.array_equal(axes, np.eye(3)) else u @ v


def label_pieces(mask: Bool[np.ndarray, "x y z"]) -> tuple[Int[np.ndarray, "x y z"], int]:
    """Number of the piece of every voxel, 0 outside; pieces hang together by faces."""
    label = np.empty(mask.shape, np.int32)
    return label, int(ndimage.label(mask, output=label))  # pyright: ignore[reportArgumentType]


def _check_one_piece(mask: np.ndarray, spacing: np.ndarray) -> None:
    label, count = label_pieces(mask)
    if count == 1:
        return
    size = np.bincount(label.ravel())[1:]
    largest = np.argsort(-size)[:_WORST_SHOWN]
    slices = ndimage.find_objects(label)
    named = ", ".join(
        f"{size[k]} voxels from voxel {[s.start for s in slices[k]]}" for k in largest
    )
    volume = size.sum() * spacing.prod()
    raise ValueError(
        f"the tissue ({volume:.4g} mm3) falls into {count} pieces that share no face: {named}"
        f"{', ...' if count > _WORST_SHOWN else ''}; keep the largest "
        "(voxels_from_labels(largest_component=True)), or say allow_components=True"
    )


def _text(values: np.ndarray) -> str:
    return " x ".join(f"{v:.4g}" for v in values)
