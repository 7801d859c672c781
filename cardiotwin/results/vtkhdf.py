"""One VTKHDF file a run: the mesh once, then time steps appended as the solver makes them.

The layout is version 2.0 of VTK's HDF5 format, the lowest one with time steps, so that every
reader since VTK 9.3 (ParaView 5.12) opens it: https://docs.vtk.org/en/latest/design_documents
(VTKHDFFileFormat). The mesh is one part whose offsets are 0 in every step, which readers take as
a static mesh. A step becomes visible only when all its data lie in the file: data and offsets,
flush; the step count and its time, flush. A killed run therefore leaves a file that opens and
holds every step whose time was written. (VTK 9.7 reads as many times as the file holds into room
for as many as the count says, and crashes where there are more: the count must never come second.)
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cardiotwin.results import xdmf
from cardiotwin.results._files import FULL_ERRNOS, atomic_path, disk_full, reserve
from cardiotwin.results._vtkhdf_layout import (
    COMPRESSED,
    HasCells,
    dynamic_arrays,
    open_vtkhdf,
    static_field,
    step_array,
    step_arrays,
    step_times,
    write_mesh,
)
from cardiotwin.results._vtkhdf_reader import Steps as Steps
from cardiotwin.results._vtkhdf_reader import read_steps as read_steps

_SIDECAR_GROWTH = 64  # a long run rewrites the sidecar each time it has grown by 1/64


class VTKHDFWriter:
    """Appends time steps of nodal fields to a VTKHDF file, and keeps an XDMF sidecar beside it.

    Use it as a context manager. Fields are stored as float32, gzip-compressed, one chunk a step.

    Attributes:
        path: the file.
        times: times of the steps written so far, ms.
    """

    def __init__(
        self,
        path: Path | str,
        mesh: HasCells,
        *,
        cell_data: Mapping[str, np.ndarray] | None = None,
        point_data: Mapping[str, np.ndarray] | None = None,
        round_to: Mapping[str, float] | None = None,
        sidecar: bool = True,
    ):
        """Create the file with the mesh and the fields that do not change.

        Args:
            path: the .vtkhdf file; an existing one is replaced.
            mesh: points in mm: tetrahedra, voxels or triangles; its regions are stored as the
                cell array ``region``.
            cell_data: static fields [elements] or [elements, components], such as the fibres.
            point_data: static fields [nodes] or [nodes, components].
            round_to: spacing to which a field is rounded before it is stored; ``{"V": 1 / 64}``
                halves a file of voltages in mV at an error below 0.008 mV.
            sidecar: write ``<stem>.xdmf`` beside it for readers without temporal VTKHDF.

        Raises:
            ValueError: when a field's length does not fit the mesh.
            DiskFull: when the mesh does not fit.
        """
        cells = {"region": mesh.regions, **(cell_data or {})}
        cells = {k: static_field(k, v, len(mesh.cells), "elements") for k, v in cells.items()}
        nodes = {
            k: static_field(k, v, len(mesh.points), "nodes") for k, v in (point_data or {}).items()
        }
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            write_mesh(file, mesh, cells, nodes)
            file.attrs["round_to"] = json.dumps(dict(round_to or {}))
        self._open(Path(path), None, sidecar)

    @classmethod
    def resume(
        cls, path: Path | str, *, until_ms: float | None = None, sidecar: bool = True
    ) -> "VTKHDFWriter":
        """Open a file that a run left, killed or not, to append further steps.

        The times are trusted; whatever lies behind them from an unfinished step is cut off.

        Args:
            path: the file.
            until_ms: keep only steps at or before this time, such as that of the checkpoint
                from which the solver goes on.
            sidecar: rewrite the XDMF sidecar.

        Returns:
            A writer whose `times` are those of the steps kept.

        Raises:
            ValueError: when the file is missing or not one this class wrote.
        """
        writer = cls.__new__(cls)
        writer._open(Path(path), until_ms, sidecar)
        return writer

    def append(self, t_ms: float, fields: Mapping[str, Any]) -> None:
        """Add one time step.

        Args:
            t_ms: its time, later than that of the step before.
            fields: nodal fields [nodes] or [nodes, components], the same names in every step.

        Raises:
            ValueError: when the time does not increase, a length or a name does not fit, or the
                writer is closed.
            DiskFull: when there is no room for the step; the steps before it stay readable.
        """
        self._check_open()
        arrays = self._checked(t_ms, fields)
        self._reserve(sum(a.nbytes for a in arrays.values()))
        try:
            self._write_step(t_ms, arrays)
        except OSError as error:
            self._abandon(error)
            if error.errno in FULL_ERRNOS:
                raise disk_full(self.path, error, self._kept()) from error
            raise
        self._sidecar_if_due()

    def write_table(
        self,
        name: str,
        columns: Mapping[str, Any],
        *,
        units: Mapping[str, str] | None = None,
    ) -> None:
        """Store small time series (an ECG, probes) as ``/Tables/<name>/<column>``.

        VTK ignores groups other than ``/VTKHDF``. A table of the same name is replaced.

        Args:
            name: the table's name.
            columns: arrays of one length [rows].
            units: unit of each column, stored as the attribute ``unit``.

        Raises:
            ValueError: when columns differ in length or a name holds a slash.
            DiskFull: when there is no room; the steps stay readable.
        """
        self._check_open()
        arrays = {k: np.asarray(v) for k, v in columns.items()}
        lengths = {k: a.shape for k, a in arrays.items()}
        if len(set(lengths.values())) > 1 or any(a.ndim != 1 for a in arrays.values()):
            raise ValueError(f"table {name!r} has columns of shapes {lengths}, expected one length")
        if any("/" in part for part in (name, *arrays)):
            raise ValueError(f"table {name!r} with columns {list(arrays)}: names hold no '/'")
        self._reserve(sum(a.nbytes for a in arrays.values()))
        tables = self._file.require_group("Tables")
        if name in tables:
            del tables[name]
        group = tables.create_group(name, track_order=True)
        for column, array in arrays.items():
            dataset = group.create_dataset(column, data=array, **(COMPRESSED if len(array) else {}))
            if units and column in units:
                dataset.attrs["unit"] = units[column]
        self._file.flush()

    def close(self) -> None:
        """Close the file and bring the sidecar up to date; harmless when called twice."""
        if self._closed:
            return
        self._closed = True
        arrays = self._sidecar_arrays() if self._sidecar else None
        length = self._file.id.get_filesize()
        self._file.close()
        if self.path.stat().st_size > length:  # room reserved for a step that never came
            os.truncate(self.path, length)
        if arrays:
            self._write_sidecar(arrays)

    def __len__(self) -> int:
        return len(self.times)

    def __enter__(self) -> "VTKHDFWriter":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def _open(self, path: Path, until_ms: float | None, sidecar: bool) -> None:
        self.path = path
        self._closed = False
        self._file = open_vtkhdf(path, "r+")
        self._root: Any = self._file["VTKHDF"]
        self._steps: Any = self._root["Steps"]
        self._nodes = len(self._root["Points"])
        self._round_to: dict[str, float] = json.loads(str(self._file.attrs["round_to"]))
        times = step_times(self._steps)
        if until_ms is not None:
            times = times[times <= until_ms + 1e-9 * max(1.0, abs(until_ms))]
        self.times: list[float] = [float(t) for t in times]
        self._truncate(len(times))
        self._sidecar = path.with_suffix(".xdmf") if sidecar else None
        if self._sidecar:
            self._write_sidecar(self._sidecar_arrays())

    def _truncate(self, count: int) -> None:
        """Cut everything behind the first `count` steps: the times, the counter, then the rest."""
        self._steps["Values"].resize(count, axis=0)
        self._file.flush()
        self._steps.attrs.modify("NSteps", np.int64(count))
        self._file.flush()
        for dataset in step_arrays(self._steps):
            dataset.resize(min(count, len(dataset)), axis=0)
        for dataset in dynamic_arrays(self._root):
            dataset.resize(min(count * self._nodes, len(dataset)), axis=0)
        self._file.flush()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(
                f"{self.path} is closed; open it again with VTKHDFWriter.resume to append"
            )

    def _checked(self, t_ms: float, fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if self.times and not t_ms > self.times[-1]:
            raise ValueError(
                f"step at {t_ms} ms follows one at {self.times[-1]} ms in {self.path}; times must "
                "increase (resume(path, until_ms=...) drops later steps)"
            )
        known = {d.name.rsplit("/", 1)[-1] for d in dynamic_arrays(self._root)}
        if not fields or (known and known != set(fields)):
            raise ValueError(
                f"step at {t_ms} ms has fields {sorted(fields)}, expected "
                f"{sorted(known) or 'at least one'}: every step holds the same"
            )
        arrays = {}
        for name, values in fields.items():
            array = np.asarray(values)
            if not known and name in self._root["PointData"]:
                raise ValueError(f"field {name!r} is already a static point field of {self.path}")
            if array.ndim not in (1, 2) or len(array) != self._nodes:
                raise ValueError(
                    f"field {name!r} has shape {array.shape}, expected ({self._nodes},) or "
                    f"({self._nodes}, components): one row a node"
                )
            spacing = self._round_to.get(name)
            if spacing:
                array = np.rint(array / spacing) * spacing
            arrays[name] = np.ascontiguousarray(array, np.float32)
        return arrays

    def _write_step(self, t_ms: float, arrays: Mapping[str, np.ndarray]) -> None:
        index = len(self.times)
        first = index * self._nodes
        for name, array in arrays.items():
            dataset = self._field(name, array.shape[1:])
            dataset.resize(first + self._nodes, axis=0)
            dataset[first:] = array
        offsets = {f"PointDataOffsets/{name}": first for name in arrays}
        values = {"NumberOfParts": 1, **offsets}
        for dataset in step_arrays(self._steps):
            key = dataset.name.removeprefix("/VTKHDF/Steps/")
            dataset.resize(index + 1, axis=0)
            dataset[index] = values.get(key, 0)
        self._file.flush()
        times = self._steps["Values"]
        times.resize(index + 1, axis=0)
        times[index] = t_ms
        self._steps.attrs.modify("NSteps", np.int64(index + 1))
        self._file.flush()  # writes the count no later than the number of times
        self.times.append(float(t_ms))

    def _field(self, name: str, tail: tuple[int, ...]) -> Any:
        """The dataset of a field that changes with time, made at its first step."""
        group = self._root["PointData"]
        if name not in group:
            group.create_dataset(
                name,
                shape=(0, *tail),
                maxshape=(None, *tail),
                chunks=(self._nodes, *tail),
                dtype="f4",
                **COMPRESSED,
            )
            step_array(self._steps, f"PointDataOffsets/{name}", ())
        return group[name]

    def _reserve(self, size: int) -> None:
        """Claim room for `size` bytes of data before the file is touched.

        HDF5 cannot undo a write that fails half-way: the process may even crash in closing the
        file, and what was on the disk may no longer open.
        """
        try:
            reserve(self.path, self._file.id.get_filesize(), size)
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                raise disk_full(self.path, error, self._kept()) from error
            raise

    def _abandon(self, error: OSError) -> None:
        """Give the file up after a failed write; what was flushed before it stays on the disk."""
        self._closed = True
        try:
            self._file.close()
        except (OSError, RuntimeError) as late:
            error.add_note(f"closing the file then failed too: {late}")

    def _kept(self) -> str:
        return (
            f"The {len(self.times)} steps written before it can be read, and VTKHDFWriter.resume "
            "goes on from them; fewer frames or round_to need less room."
        )

    def _sidecar_if_due(self) -> None:
        count = len(self.times)
        if self._sidecar and count - self._sidecar_steps >= max(1, count // _SIDECAR_GROWTH):
            self._write_sidecar(self._sidecar_arrays())

    def _sidecar_arrays(self) -> dict[str, Any]:
        root = self._root
        dynamic = {d.name for d in dynamic_arrays(self._root)}
        static = {
            centre: [_array(d) for d in root[group].values() if d.name not in dynamic]
            for centre, group in (("Node", "PointData"), ("Cell", "CellData"))
        }
        return {
            "points": _array(root["Points"]),
            "connectivity": _array(root["Connectivity"]),
            "elements": len(root["Types"]),
            "static": static,
            "dynamic": [_array(d) for d in dynamic_arrays(self._root)],
        }

    def _write_sidecar(self, arrays: dict[str, Any]) -> None:
        assert self._sidecar is not None
        xdmf.write_sidecar(self._sidecar, self.path.name, times=self.times, **arrays)
        self._sidecar_steps = len(self.times)


def _array(dataset: Any) -> xdmf.Array:
    return xdmf.Array(dataset.name, dataset.shape, dataset.dtype)
