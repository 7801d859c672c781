"""The layout of our VTKHDF files: the mesh, the empty arrays of the steps, and opening them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from cardiotwin.results._files import reserve

COMPRESSED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
_VTK_TYPES = {3: 5, 4: 10, 8: 12}  # triangles, tetrahedra, hexahedra by their number of nodes
_STEP_CHUNK = 256  # steps a chunk of the small per-step arrays holds


class HasCells(Protocol):
    """What is written of a mesh: tetrahedra, voxels, or the triangles of a surface."""

    @property
    def points(self) -> np.ndarray:
        """[nodes, 3] mm."""
        ...

    @property
    def cells(self) -> np.ndarray:
        """[elements, corners] indices into the points."""
        ...

    @property
    def regions(self) -> np.ndarray:
        """[elements] labels."""
        ...


def open_vtkhdf(path: Path, mode: str) -> h5py.File:
    """Open a file of this layout without locking it, so that a viewer may look at a running one.

    Args:
        path: the file.
        mode: "r" or "r+".

    Returns:
        The open HDF5 file.

    Raises:
        ValueError: when it is missing, not HDF5, or not a VTKHDF file with time steps.
    """
    try:
        file = h5py.File(path, mode, locking=False)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be opened as HDF5 ({error}); expected a .vtkhdf file of a run"
        ) from error
    if "VTKHDF/Steps" not in file or "round_to" not in file.attrs:
        file.close()
        raise ValueError(f"{path} is an HDF5 file, but not a VTKHDF file with steps of a run")
    return file


def step_times(steps: Any) -> np.ndarray:
    """Times of the finished steps, ms: the last thing that a step writes."""
    return steps["Values"][: int(steps.attrs["NSteps"])]


def step_arrays(steps: Any) -> list[Any]:
    """All per-step datasets below a Steps group but the times, nested ones too."""
    found: list[Any] = []
    steps.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return [dataset for dataset in found if dataset.name != f"{steps.name}/Values"]


def dynamic_arrays(root: Any) -> list[Any]:
    """The nodal datasets that change with time: those that can grow."""
    return [d for d in root["PointData"].values() if d.maxshape[0] is None]


def static_field(name: str, values: Any, length: int, what: str) -> np.ndarray:
    """Check the length of a field that holds for all steps; booleans become bytes."""
    array = np.asarray(values)
    if array.ndim not in (1, 2) or len(array) != length:
        raise ValueError(
            f"static field {name!r} has shape {array.shape}, expected ({length},) or "
            f"({length}, components): one row for each of the mesh's {what}"
        )
    return array.astype(np.uint8) if array.dtype == bool else array


def write_mesh(
    file: h5py.File,
    mesh: HasCells,
    cell_data: Mapping[str, np.ndarray],
    point_data: Mapping[str, np.ndarray],
) -> None:
    """Write the mesh, its static fields and the still empty arrays of the steps."""
    nodes, (elements, corners) = len(mesh.points), mesh.cells.shape
    root = file.create_group("VTKHDF")
    root.attrs["Version"] = np.array([2, 0], np.int64)
    root.attrs.create("Type", b"UnstructuredGrid", dtype=h5py.string_dtype("ascii", 16))
    for key, count in (
        ("Points", nodes),
        ("Cells", elements),
        ("ConnectivityIds", corners * elements),
    ):
        root[f"NumberOf{key}"] = np.array([count], np.int64)
    arrays = {
        "Points": mesh.points,
        "Connectivity": mesh.cells.astype(np.int64).ravel(),
        "Offsets": corners * np.arange(elements + 1, dtype=np.int64),
        "Types": np.full(elements, _VTK_TYPES[corners], np.uint8),
        **{f"CellData/{name}": a for name, a in cell_data.items()},
        **{f"PointData/{name}": a for name, a in point_data.items()},
    }
    root.create_group("PointData")
    file.flush()
    reserve(Path(file.filename), file.id.get_filesize(), sum(a.nbytes for a in arrays.values()))
    for name, array in arrays.items():
        root.create_dataset(name, data=array, **COMPRESSED)
    steps = root.create_group("Steps")
    # Count and times are made one after the other: their headers then lie side by side in the file,
    # in this order, so that a flush writes both at once (docs/decisions/0003).
    steps.attrs["NSteps"] = np.int64(0)
    step_array(steps, "Values", (), "f8")
    steps.create_group("PointDataOffsets")
    for name in ("PartOffsets", "NumberOfParts", "PointOffsets"):
        step_array(steps, name, ())
    for name in ("CellOffsets", "ConnectivityIdOffsets"):
        step_array(steps, name, (1,))
    for kind, fields in (("Cell", cell_data), ("Point", point_data)):
        for name in fields:
            step_array(steps, f"{kind}DataOffsets/{name}", ())


def step_array(steps: Any, name: str, tail: Sequence[int], dtype: str = "i8") -> None:
    """Make one array with a row for each step, still empty."""
    steps.create_dataset(
        name, shape=(0, *tail), maxshape=(None, *tail), chunks=(_STEP_CHUNK, *tail), dtype=dtype
    )
