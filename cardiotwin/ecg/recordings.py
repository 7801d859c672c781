"""Recorded ECGs read from files: WFDB, CSV and DICOM, in mV and ms."""

import csv
import os
import re
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.units import MS_PER_S, MV_PER_V, UV_PER_MV

MV_PER_UNIT = {"mv": 1.0, "uv": 1.0 / UV_PER_MV, "µv": 1.0 / UV_PER_MV, "v": MV_PER_V}
FRANK_LEADS = ("vx", "vy", "vz")  # as PhysioNet's recordings call them

Raw = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


class Recording(NamedTuple):
    """A recorded ECG: times [samples] in ms, signals [samples, leads] in mV, names of the leads."""

    t_ms: Float[np.ndarray, " samples"]
    ecg: Float[np.ndarray, "samples leads"]
    names: tuple[str, ...]


def read_recording(
    path: str | os.PathLike, *, leads: Sequence[str] = LEAD_NAMES, unit: str | None = None
) -> Recording:
    """Read leads of a recording, by default the standard twelve.

    Of the limb leads two are enough: where I and II are there, the other four follow from them.
    Samples that are missing are NaN; `check_recording` names them and whatever else is wrong.

    Args:
        path: a WFDB record (with or without its ending .hea), a DICOM ECG (.dcm, needs
            cardiotwin[dicom]), or a CSV file whose first column is the time in ms and whose other
            columns are leads with their names as heading; lines that start with # are skipped.
        leads: names of the leads to read; case does not matter.
        unit: of the signals, mV, uV or V, in place of what the file says. A CSV file is in mV.

    Returns:
        The leads that are there, in the order asked for.

    Raises:
        ValueError: where none of them is there or a unit is unknown.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".xml":
        raise ValueError(
            f"{path}: XML of GE MUSE or HL7 aECG is not read. Convert it to WFDB (muse2wfdb for "
            "MUSE) or to CSV with the time in ms and leads in mV."
        )
    factor = None if unit is None else _factor(path, [unit])[0]
    if kind == ".csv":
        t_ms, signals, names = _read_csv(path, 1.0 if factor is None else factor)
    elif kind in (".dcm", ".dicom"):
        t_ms, signals, names = _read_dicom(path, factor)
    else:
        t_ms, signals, names = _read_wfdb(path, factor)
    columns = {name.lower(): signals[:, k] for k, name in enumerate(names)}
    if {"i", "ii"} <= set(columns):
        columns = _limb_leads(columns["i"], columns["ii"]) | columns
    found = [name for name in leads if name.lower() in columns]
    if not found:
        raise ValueError(
            f"{path}: holds the signals {', '.join(names)}; expected some of {', '.join(leads)}."
        )
    return Recording(t_ms, np.stack([columns[name.lower()] for name in found], 1), tuple(found))


def _limb_leads(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "iii": two - one,
        "avr": -(one + two) / 2.0,
        "avl": one - two / 2.0,
        "avf": two - one / 2.0,
    }


def _factor(path: Path, units: Sequence[str]) -> np.ndarray:
    """Factors that turn these units into mV."""
    unknown = sorted({str(unit) for unit in units if str(unit).lower() not in MV_PER_UNIT})
    if unknown:
        raise ValueError(f"{path}: unknown units {', '.join(unknown)}; expected mV, uV or V.")
    return np.array([MV_PER_UNIT[str(unit).lower()] for unit in units])


def _read_wfdb(path: Path, factor: float | None) -> Raw:
    with warnings.catch_warnings():
        # wfdb 4.3 uses a keyword that pandas 3 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        import wfdb

    named = path.suffix in (".hea", ".dat", ".mat")
    header = path.with_suffix(".hea") if named else path.with_name(path.name + ".hea")
    if not header.exists():
        raise ValueError(
            f"{path}: there is no such recording ({header.name} is missing). Give a WFDB record, a "
            ".csv or a .dcm file."
        )
    record: Any = wfdb.rdrecord(str(header.with_suffix("")))
    if getattr(record, "p_signal", None) is None or not record.fs:
        raise ValueError(f"{path}: expected a WFDB record of one segment that holds signals.")
    scale = _factor(path, record.units) if factor is None else factor
    signals = record.p_signal * scale
    return np.arange(len(signals)) * (MS_PER_S / record.fs), signals, tuple(record.sig_name)


def _read_csv(path: Path, factor: float) -> Raw:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(row) and not row[0].startswith("#")]
    try:
        values = np.array([[cell or "nan" for cell in row] for row in rows[1:]], dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: expected numbers below one heading row ({error}).") from None
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] != len(rows[0]):
        raise ValueError(f"{path}: expected a heading, then rows of a time in ms and leads in mV.")
    return values[:, 0], factor * values[:, 1:], tuple(name.strip() for name in rows[0][1:])


def _read_dicom(path: Path, factor: float | None) -> Raw:
    try:
        pydicom = import_module("pydicom")
    except ImportError:
        raise ValueError(
            f"{path}: reading DICOM needs pydicom: pip install 'cardiotwin[dicom]'."
        ) from None
    try:
        dataset = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError(f"{path}: this is no DICOM file ({error}).") from None
    groups = list(dataset.get("WaveformSequence", []))
    if not groups:
        raise ValueError(f"{path}: this DICOM file holds no waveform; expected a DICOM ECG.")
    # the rhythm strip before the median beat that some devices add
    group = max(range(len(groups)), key=lambda k: int(groups[k].NumberOfWaveformSamples))
    channels = groups[group].ChannelDefinitionSequence
    signals = np.array(dataset.waveform_array(group), np.float64)
    if factor is None:
        scaled = ["ChannelSensitivityUnitsSequence" in channel for channel in channels]
        if not all(scaled):
            raise ValueError(
                f"{path}: {scaled.count(False)} channels name no unit. Say it: unit='uV'."
            )
        units = [c.ChannelSensitivityUnitsSequence[0].CodeValue for c in channels]
        signals *= _factor(path, units)
    else:
        signals *= factor
    names = tuple(_dicom_lead(channel.ChannelSourceSequence[0]) for channel in channels)
    step = MS_PER_S / float(groups[group].SamplingFrequency)
    return np.arange(len(signals)) * step, signals, names


def _dicom_lead(source: Any) -> str:
    """The lead of "Lead aVR", "Lead I (Einthoven)" or "MDC_ECG_LEAD_V1"."""
    meaning = str(source.get("CodeMeaning", ""))
    bare = re.sub(r"\(.*?\)|MDC_ECG_LEAD_|\blead\b", " ", meaning, flags=re.IGNORECASE)
    return bare.strip() or str(source.get("CodeValue", "?"))
