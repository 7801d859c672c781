"""The study of an ECG: what is wrong with it, its median beat, measurements and pictures."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiotwin.ecg.checks import Flaw, require_sound
from cardiotwin.ecg.delineation import baseline, on_grid
from cardiotwin.ecg.features import measurements
from cardiotwin.ecg.filters import BANDS, ECGFilter
from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.ecg.recordings import Recording, read_recording
from cardiotwin.ecg.signals import Beat, median_beat, r_peaks
from cardiotwin.ecg.vcg import VCG_SOURCES, vectorcardiogram
from cardiotwin.results.figures import ecg_paper
from cardiotwin.results.tables import write_ecg_csv, write_json
from cardiotwin.results.vcg_figures import vcg_loops

from .pictures import spoken

WHOLE_BEAT = 450.0  # ms after the onset, over which two beats are compared


@dataclass(frozen=True)
class ECGTask:
    """What to find out about an ECG.

    Attributes:
        file: the recording.
        compare: another one to compare it with; None for none.
        unit: of the file's signals; None takes what the file says.
        without: leads to leave out.
        band: a name of `BANDS`.
        mains: frequency of the mains to take out in Hz; None for none.
        rr: ms between beats, where the file holds a single one.
        sex: "male" or "female"; None where it is not known.
    """

    file: str
    compare: str | None = None
    unit: str | None = None
    without: tuple[str, ...] = ()
    band: str = "measurement"
    mains: float | None = None
    rr: float | None = None
    sex: str | None = None

    def __post_init__(self):
        unknown = [name for name in self.without if name not in LEAD_NAMES]
        if unknown:
            raise ValueError(
                f"there is no lead {', '.join(unknown)}; leave out some of {', '.join(LEAD_NAMES)}."
            )
        if self.band not in BANDS:
            raise ValueError(f"band is {self.band!r}; give one of {', '.join(BANDS)}.")
        if self.rr is not None and not self.rr > 0.0:
            raise ValueError(f"rr is {self.rr:g} ms; give the positive time between two beats.")


class Studied(NamedTuple):
    """A prepared ECG.

    Attributes:
        recording: filtered.
        beat: its median beat, or the single one it holds.
        found: the measurements of the beat.
        flaws: what is wrong with the recording.
    """

    recording: Recording
    beat: Beat
    found: dict[str, Any]
    flaws: list[Flaw]


def study_ecg(task: ECGTask, folder: Path, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Read, check, filter and measure an ECG, and write tables and pictures.

    Args:
        task: what to do.
        folder: where results go.
        say: told, line by line, what was found.

    Returns:
        What `measurements.json` holds.

    Raises:
        ValueError: for a recording that cannot be read or has fatal flaws.
    """
    studied = prepare(task, task.file, task.unit)
    other = None if task.compare is None else prepare(task, task.compare, None)
    found: dict[str, Any] = {
        "file": str(task.file),
        "filter_hz": {"band": BANDS[task.band], "mains": task.mains},
        "flaws": [flaw._asdict() for flaw in studied.flaws],
        "beats": studied.beat.beats,
        **studied.found,
    }
    if other is not None:
        found["compared_with"] = str(task.compare)
        found["correlation"] = _likeness(studied, other)
    for flaw in studied.flaws:
        say(f"{flaw.kind}: {flaw.message}")
    for line in _told(found):
        say(line)
    _write(task, folder, studied, other)
    write_json(folder / "measurements.json", found | {"task": asdict(task)})
    return found


def prepare(task: ECGTask, path: str, unit: str | None) -> Studied:
    """Read and check an ECG, and bring it through the task's filter to one measured beat.

    Recorded and simulated ECGs take the same way. A file with a single beat is filtered as a train
    of such beats.

    Args:
        task: filter, leads and RR.
        path: the file.
        unit: of its signals; None takes what the file says.

    Returns:
        The filtered recording, its beat and its measurements.
    """
    wanted = [name for name in LEAD_NAMES if name not in task.without]
    raw = read_recording(path, leads=wanted, unit=unit)
    flaws = require_sound(raw)
    t_ms, single = raw.t_ms, len(r_peaks(raw.t_ms, raw.ecg)) < 2
    through = ECGFilter(*BANDS[task.band], mains=task.mains)
    ecg: Any
    if single:
        length = float(t_ms[-1] - t_ms[0]) * len(t_ms) / (len(t_ms) - 1)
        ecg = through(t_ms, raw.ecg, period_ms=max(length, task.rr or 1000.0))
        beat = Beat(t_ms, ecg, task.rr or np.nan, 1)
    else:
        ecg = through(t_ms, raw.ecg)
        beat = median_beat(t_ms, ecg)
    rr = beat.rr_ms if np.isfinite(beat.rr_ms) else None
    found = measurements(beat.t_ms, beat.ecg, raw.names, rr, task.sex)
    return Studied(raw._replace(ecg=ecg), beat, found, flaws)


def _aligned(studied: Studied) -> tuple[np.ndarray, np.ndarray]:
    """A beat on a grid of 1 ms from its QRS onset and from its baseline."""
    times, signal = on_grid(studied.beat.t_ms, studied.beat.ecg)
    onset = studied.found["qrs_onset_ms"]
    if onset is None:
        raise ValueError(f"no QRS to align by: {studied.found['not_measured']['qrs_onset_ms']}.")
    return times - onset, signal - baseline(times, signal, onset)


def _likeness(one: Studied, other: Studied) -> dict[str, float]:
    """Correlation of each common lead over the beat."""
    common = [n for n in one.recording.names if n in other.recording.names]
    if not common:
        raise ValueError("the two ECGs have no lead in common; compare some of the same leads.")
    (t, x), (u, y) = _aligned(one), _aligned(other)
    times = np.arange(max(t[0], u[0], -20.0), min(t[-1], u[-1], WHOLE_BEAT))
    likeness = {}
    for name in common:
        a = np.interp(times, t, x[:, one.recording.names.index(name)])
        b = np.interp(times, u, y[:, other.recording.names.index(name)])
        likeness[name] = float(np.corrcoef(a, b)[0, 1])
    return likeness


def _numbers(found: dict[str, Any]) -> dict[str, str]:
    """What stands on the sheet."""
    numbers = spoken(found) or {}
    if found["heart_rate_bpm"] is not None:
        numbers = {"Rate": f"{found['heart_rate_bpm']:.0f}/min"} | numbers
    if found["qrs_area_uvs"] is not None:
        numbers["QRS area"] = f"{found['qrs_area_uvs']:.0f} µVs"
    return numbers


def _told(found: dict[str, Any]) -> list[str]:
    lines = ["   ".join(f"{name} {value}" for name, value in _numbers(found).items())]
    blocks = found["bundle_branch_block"]
    if blocks is not None:
        named = {"lbbb": "left (Strauss)", "rbbb": "right (AHA/ACCF/HRS)"}
        met = [name for key, name in named.items() if blocks[key]["met"]]
        lines.append(f"criteria of bundle branch block met: {', '.join(met) or 'none'}")
    lines += [f"not measured: {key}: {why}" for key, why in found["not_measured"].items()]
    if "correlation" in found:
        mean = np.mean(list(found["correlation"].values()))
        lines.append(f"mean correlation of the leads with {found['compared_with']}: {mean:.2f}")
    return lines


def _write(task: ECGTask, folder: Path, studied: Studied, other: Studied | None) -> None:
    names, beat, found = studied.recording.names, studied.beat, studied.found
    low, high = BANDS[task.band]
    title = f"{Path(task.file).name}   {low:g} to {high:g} Hz"
    ecg_paper(
        folder / "sheet.png",
        studied.recording.t_ms,
        studied.recording.ecg,
        names,
        title=title,
        measurements=_numbers(found),
    )
    write_ecg_csv(folder / "beat.csv", beat.t_ms, beat.ecg, names)
    if other is not None:
        _write_comparison(task, folder, studied, other)
    if found["qrs_onset_ms"] is not None and set(VCG_SOURCES) <= set(names):
        times, level = _aligned(studied)
        loop: Any = vectorcardiogram(level, names)
        onset, offset, end = (found[f"{key}_ms"] for key in ("qrs_onset", "qrs_offset", "t_end"))
        late = None if end is None else (offset - onset, end - onset)
        vcg_loops(
            folder / "vcg.png",
            times,
            loop,
            qrs=(0.0, offset - onset),
            t_wave=late,
            title=f"Vectorcardiogram (Kors)   {Path(task.file).name}",
        )


def _write_comparison(task: ECGTask, folder: Path, studied: Studied, other: Studied) -> None:
    common = [n for n in studied.recording.names if n in other.recording.names]
    beats = []
    for each in (studied, other):
        times, level = _aligned(each)
        kept = (times >= -200.0) & (times <= WHOLE_BEAT + 150.0)
        columns = [each.recording.names.index(name) for name in common]
        beats.append((times[kept], level[kept][:, columns]))
    ecg_paper(
        folder / "compared.png",
        beats[0][0],
        beats[0][1],
        common,
        title="Median beats, aligned at the onset of the QRS",
        over=beats[1],
        labels=(Path(task.file).name, Path(str(task.compare)).name),
    )
