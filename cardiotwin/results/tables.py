"""ECG, probes, activation times and the summary as files; each is written whole or not at all."""

import dataclasses
import json
import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.results._files import atomic_path
from cardiotwin.units import MS_PER_S

_WFDB_GAINS = (1000.0, 100.0, 10.0, 1.0)  # digital units per mV: 1 uV steps unless out of range
_WFDB_LARGEST = 32767  # of format 16; -32768 marks a missing sample


def write_ecg_csv(
    path: Path | str, t_ms: np.ndarray, ecg: np.ndarray, names: Sequence[str]
) -> Path:
    """Write an ECG as CSV: two comment lines, a header line, one row a sample.

    The comment lines start with ``#`` and name the units; the columns are ``time_ms`` and the
    leads in mV. ``pandas.read_csv(path, comment="#")`` reads it.

    Args:
        path: the file.
        t_ms: sample times [samples], ms.
        ecg: potentials [samples, leads], mV.
        names: lead names.

    Returns:
        The path.

    Raises:
        ValueError: when the shapes do not fit one another.
        DiskFull: when it does not fit on the disk.
    """
    comments = ("cardiotwin: simulated ECG", "time in ms, leads in mV")
    return _write_series(path, t_ms, ecg, names, comments, "leads")


def write_probes_csv(
    path: Path | str, t_ms: np.ndarray, values: np.ndarray, labels: Sequence[str]
) -> Path:
    """Write the transmembrane voltage at probes as CSV, in the layout of `write_ecg_csv`.

    Args:
        path: the file.
        t_ms: sample times [samples], ms.
        values: transmembrane voltage [samples, probes], mV.
        labels: probe names.

    Returns:
        The path.

    Raises:
        ValueError: when the shapes do not fit one another.
        DiskFull: when it does not fit on the disk.
    """
    comments = ("cardiotwin: transmembrane voltage at probes", "time in ms, voltage in mV")
    return _write_series(path, t_ms, values, labels, comments, "labels")


def write_columns(
    path: Path | str, columns: Mapping[str, Any], comments: Sequence[str] = ()
) -> Path:
    """Write columns of equal length as CSV, below comment lines that start with ``#``.

    Args:
        path: the file.
        columns: header, with its unit, to values.
        comments: lines to begin with.

    Returns:
        The path.

    Raises:
        ValueError: when the columns differ in length.
        DiskFull: when it does not fit on the disk.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    if len({x.shape for x in arrays.values()}) != 1 or next(iter(arrays.values())).ndim != 1:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
        raise ValueError(f"columns of a table must be equally long, got {shapes}")
    lines = [f"# {line}" for line in comments]
    lines.append(",".join(_quoted(name) for name in arrays))
    lines += [
        ",".join("" if np.isnan(x) else f"{x:.10g}" for x in row)
        for row in zip(*arrays.values(), strict=True)
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


def write_wfdb(
    folder: Path | str,
    record_name: str,
    t_ms: np.ndarray,
    ecg: np.ndarray,
    names: Sequence[str],
    *,
    rate_hz: int = 1000,
    comments: Sequence[str] = (),
) -> Path:
    """Write an ECG as a WFDB record (PhysioNet), ``<record>.hea`` and ``<record>.dat``.

    Samples lie at multiples of the sampling interval after the first time given; between given
    times the signal is interpolated linearly. Format 16 at 1000 units per mV (1 uV); a lead
    beyond 32 mV takes a coarser step.

    Args:
        folder: where the two files go.
        record_name: letters, digits, ``-`` and ``_``.
        t_ms: times [samples], ms, increasing.
        ecg: potentials [samples, leads], mV.
        names: lead names.
        rate_hz: sampling rate, usually 500 or 1000.
        comments: lines for the header.

    Returns:
        The path of the header.

    Raises:
        ValueError: when the shapes do not fit, the times do not increase, or the record name
            is not one that WFDB takes.
        DiskFull: when it does not fit on the disk.
    """
    t_ms, ecg = _checked_series(t_ms, ecg, names, "leads")
    if len(t_ms) < 2 or not (np.diff(t_ms) > 0).all():
        raise ValueError(f"times of record {record_name!r} must increase, got {len(t_ms)} of them")
    interval = MS_PER_S / rate_hz
    count = math.floor((t_ms[-1] - t_ms[0]) / interval + 1e-6) + 1
    at = t_ms[0] + interval * np.arange(count)
    signal = np.stack([np.interp(at, t_ms, lead) for lead in ecg.T], axis=1)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wfdb-") as scratch:
        _write_record(
            scratch,
            record_name,
            signal,
            fs=rate_hz,
            sig_name=list(names),
            comments=[f"first sample at {t_ms[0]:g} ms", *comments],
        )
        for suffix in (".dat", ".hea"):  # the header last: it names a complete record
            with atomic_path(folder / f"{record_name}{suffix}") as temporary:
                os.replace(Path(scratch) / f"{record_name}{suffix}", temporary)
    return folder / f"{record_name}.hea"


def write_vtu(
    path: Path | str,
    mesh: Mesh | Voxels,
    point_data: Mapping[str, np.ndarray] | None = None,
    cell_data: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write fields on the mesh as a zlib-compressed VTU file, without VTK.

    Args:
        path: the file.
        mesh: points in mm; its regions become the cell array ``region``.
        point_data: fields [nodes] or [nodes, components]; NaN marks nodes without a value.
        cell_data: fields [elements] or [elements, components].

    Returns:
        The path.

    Raises:
        ValueError: when a field's length does not fit the mesh.
        DiskFull: when it does not fit on the disk.
    """
    import meshio

    point_fields: dict[str, Any] = {name: np.asarray(a) for name, a in (point_data or {}).items()}
    cell_fields: dict[str, Any] = {
        "region": mesh.regions,
        **{name: np.asarray(a) for name, a in (cell_data or {}).items()},
    }
    for data, length, what in (
        (point_fields, len(mesh.points), "nodes"),
        (cell_fields, len(mesh.cells), "elements"),
    ):
        for name, array in data.items():
            if len(array) != length:
                raise ValueError(f"field {name!r} has {len(array)} rows, the mesh {length} {what}")
    grid = meshio.Mesh(
        mesh.points,
        [("tetra" if mesh.cells.shape[1] == 4 else "hexahedron", mesh.cells)],
        point_data=point_fields,
        cell_data={name: [array] for name, array in cell_fields.items()},
    )
    with atomic_path(path) as temporary:
        meshio.write(temporary, grid, file_format="vtu", compression="zlib")
    return Path(path)


def write_json(path: Path | str, data: Mapping[str, Any]) -> Path:
    """Write a summary as JSON that every reader takes.

    NaN and infinities become null; NumPy and JAX scalars and arrays, tuples, sets, paths and
    dataclasses become their plain equals. Keys keep the order given, so that two runs compare
    line by line.

    Args:
        path: the file.
        data: nested mappings, sequences and scalars.

    Returns:
        The path.

    Raises:
        TypeError: when a value has no plain equal; the message names its place.
        DiskFull: when it does not fit on the disk.
    """
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def plain(value: Any, place: str = "summary") -> Any:
    """The JSON equal of a value, as `write_json` says.

    Args:
        value: what to convert.
        place: where it stands, for the error message.

    Returns:
        dict, list, str, int, float, bool or None.

    Raises:
        TypeError: when there is no plain equal.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item, place) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: plain(getattr(value, f.name), f"{place}.{f.name}") for f in fields}
    if hasattr(value, "__array__") and np.asarray(value).dtype.kind in "biufSU":
        return plain(np.asarray(value).tolist(), place)
    raise TypeError(
        f"{place} is a {type(value).__name__}, which JSON cannot hold; "
        "give numbers, text, lists, mappings or arrays"
    )


def _write_record(folder: str, record_name: str, signal: np.ndarray, **fields: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # wfdb 4.3 calls pandas the old way
        import wfdb

        leads = signal.shape[1]
        wfdb.wrsamp(
            record_name,
            units=["mV"] * leads,
            p_signal=signal,
            fmt=["16"] * leads,
            adc_gain=[_gain(lead) for lead in signal.T],
            baseline=[0] * leads,
            write_dir=folder,
            **fields,
        )


def _gain(lead: np.ndarray) -> float:
    finite = np.abs(lead[np.isfinite(lead)])
    largest = finite.max() if len(finite) else 0.0
    for gain in _WFDB_GAINS:
        if largest * gain <= _WFDB_LARGEST:
            return gain
    raise ValueError(f"a lead reaches {largest:.3g} mV, beyond the 32 V that a WFDB record holds")


def _write_series(
    path: Path | str,
    t_ms: np.ndarray,
    values: np.ndarray,
    names: Sequence[str],
    comments: Sequence[str],
    what: str,
) -> Path:
    t_ms, values = _checked_series(t_ms, values, names, what)
    rows = [f"# {line}" for line in comments]
    rows.append(",".join(["time_ms", *(_quoted(name) for name in names)]))
    for time, row in zip(t_ms, values, strict=True):
        rows.append(",".join([f"{time:.10g}", *(f"{x:.7g}" for x in row)]))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Path(path)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"#\n') else name


def _checked_series(
    t_ms: np.ndarray, values: np.ndarray, names: Sequence[str], what: str
) -> tuple[np.ndarray, np.ndarray]:
    t_ms = np.asarray(t_ms, np.float64)
    values = np.asarray(values, np.float64)
    if t_ms.ndim != 1 or values.shape != (len(t_ms), len(names)):
        raise ValueError(
            f"got {t_ms.shape} times, values {values.shape} and {len(names)} {what}; expected "
            f"values of shape (times, {what}) = {(len(t_ms), len(names))}"
        )
    return t_ms, values
