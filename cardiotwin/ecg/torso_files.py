"""Bodies read from files: closed surfaces of skin and organs, and where the heart lies in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy._open import open_file
from cardiotwin.anatomy.closed_surface import ClosedSurface
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.idealised_torso import blood_of
from cardiotwin.ecg.thorax import Thorax, heart_pose
from cardiotwin.ecg.torso import AbstractTorso, Torso, closed_surface
from cardiotwin.units import to_mm

_SAME = 1e-6  # mm: points nearer than this are one
Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]


def read_body_surface(path: str | Path, unit: str = "mm") -> ClosedSurface:
    """Read a closed surface.

    Args:
        path: a .pts file (one point a line) with the .fac file of the same name beside it (one
            triangle a line, the first point is 1), as map3d writes them, or a surface in any format
            that meshes are read from (.stl, .ply, .obj, .vtk, .vtp, .vtu).
        unit: of the coordinates.

    Raises:
        ValueError: the file cannot be read, or its surface is open or faces inwards.
    """
    path = Path(path)
    if path.suffix.lower() in (".pts", ".fac"):
        points, triangles = _read_map3d(path, unit)
    else:
        content = open_file(path, unit)
        blocks = [block.nodes for block in content.blocks if block.kind == "triangle"]
        if not blocks:
            raise ValueError(f"{path}: no triangles found; export the surface triangulated.")
        # files such as .stl repeat a point in every triangle
        places, number = np.unique(
            np.rint(content.points / _SAME).astype(np.int64), axis=0, return_inverse=True
        )
        points, triangles = places * _SAME, number.reshape(-1)[np.concatenate(blocks)]
    try:
        return closed_surface(points, triangles, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_map3d(path: Path, unit: str) -> tuple[np.ndarray, np.ndarray]:
    tables = []
    for suffix, kind in ((".pts", np.float64), (".fac", np.int64)):
        file = path.with_suffix(suffix)
        try:
            table = np.loadtxt(file, dtype=kind, ndmin=2)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file}: cannot be read as rows of three numbers ({error})."
            ) from None
        if table.shape[1:] != (3,):
            raise ValueError(f"{file}: expected rows of three numbers, got {table.shape}.")
        tables.append(table)
    points, triangles = tables
    if triangles.min() < 1 or triangles.max() > len(points):
        raise ValueError(
            f"{path.with_suffix('.fac')}: names points {triangles.min()} to {triangles.max()}; "
            f"expected 1 to {len(points)}."
        )
    return to_mm(points, unit), triangles - 1


class SurfaceTorso(AbstractTorso):
    """A body whose surfaces are read from files.

    Args:
        skin: file of the skin, see `read_body_surface`.
        organs: file or files of closed surfaces by tissue: lungs, bone, muscle, fat, blood.
        unit: of the files.
        left: the axis of the files that points to the body's left.
        superior: the axis that points up.
        heart_at: where the centre of the heart lies in the files' coordinates, mm; null where the
            files already have the coordinates of the heart mesh.
        blood: whether the cavities of the heart hold blood.
        thorax: angles of the heart, where `heart_at` is given.
        scale: of the body; 1 leaves it as it is.
    """

    surfaces: tuple[ClosedSurface, ...]
    tissues: tuple[str, ...] = eqx.field(static=True)
    axes: np.ndarray
    heart_at: np.ndarray | None
    blood: bool
    thorax: Thorax
    scale: float

    def __init__(
        self,
        skin: str,
        organs: Mapping[str, str | Sequence[str]] | None = None,
        unit: Literal["mm", "cm", "m", "um"] = "mm",
        left: Axis = "+x",
        superior: Axis = "+z",
        heart_at: Sequence[float] | None = None,
        blood: bool = True,
        thorax: Thorax | None = None,
        scale: float = 1.0,
    ):
        names, found = [], [read_body_surface(skin, unit)]
        for tissue, paths in (organs or {}).items():
            if tissue not in ("lungs", "bone", "muscle", "fat", "blood", "torso"):
                raise ValueError(
                    f"SurfaceTorso: {tissue!r} is no tissue; expected lungs, bone, muscle, fat, "
                    "blood or torso."
                )
            for path in [paths] if isinstance(paths, str) else paths:
                names.append(tissue)
                found.append(read_body_surface(path, unit))
        self.surfaces, self.tissues = tuple(found), tuple(names)
        self.axes = _body_axes(left, superior)
        self.heart_at = None if heart_at is None else np.asarray(heart_at, np.float64)
        if self.heart_at is not None and self.heart_at.shape != (3,):
            raise ValueError(f"SurfaceTorso: heart_at is {heart_at}; expected three lengths in mm.")
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"SurfaceTorso: scale is {scale}; expected a positive number.")
        self.blood, self.scale = blood, scale
        self.thorax = Thorax() if thorax is None else thorax

    def around(self, mesh: Mesh | Voxels) -> Torso:
        """Return the body in the coordinates of a heart mesh."""
        frame = self.axes if self.heart_at is None else None
        centre, frame, _ = heart_pose(mesh, self.thorax, frame=frame, scale=1.0)

        def placed(surface: ClosedSurface) -> ClosedSurface:
            if self.heart_at is None:
                return surface
            seen = self.scale * (surface.points - self.heart_at) @ self.axes.T
            return surface._replace(points=centre + seen @ frame)

        skin, *organs = (placed(surface) for surface in self.surfaces)
        parts = [*zip(self.tissues, organs, strict=True), *(blood_of(mesh) if self.blood else [])]
        return Torso(skin, tuple(parts), frame, centre, self.scale)


def _body_axes(left: str, superior: str) -> Float[np.ndarray, "3 3"]:
    """Rows left, posterior and superior in the coordinates of a file."""
    rows = []
    for name, axis in (("left", left), ("superior", superior)):
        if len(axis) != 2 or axis[0] not in "+-" or axis[1] not in "xyz":
            raise ValueError(f"SurfaceTorso: {name} is {axis!r}; expected such as '+x' or '-z'.")
        row = np.zeros(3)
        row["xyz".index(axis[1])] = 1.0 if axis[0] == "+" else -1.0
        rows.append(row)
    if rows[0] @ rows[1] != 0.0:
        raise ValueError(
            f"SurfaceTorso: left is {left!r} and superior {superior!r}; expected different axes."
        )
    return np.stack([rows[0], np.cross(rows[1], rows[0]), rows[1]])
