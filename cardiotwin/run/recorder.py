"""What a run keeps while it solves: frames in a file, samples in memory, both restorable."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.ecg.leads import LEAD_NAMES, twelve_leads
from cardiotwin.propagation.solve import Frame
from cardiotwin.results.tables import write_ecg_csv, write_probes_csv, write_wfdb
from cardiotwin.results.vtkhdf import VTKHDFWriter
from cardiotwin.twin import Twin

from .checkpoint import Saved
from .experiment import Experiment, is_multiple

FRAMES = "beat.vtkhdf"


class Recorder:
    """Receives every frame of a solve.

    Attributes:
        labels: of the probes.

    Args:
        experiment: its output says what is kept.
        folder: of the run.
        twin: the heart that is solved.
        probes: labels of the probes.
        electrodes: names of the electrodes; empty without an ECG.
        saved: checkpoint from which the run goes on.
        report: called with the simulated time of every frame.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        twin: Twin,
        *,
        probes: Sequence[str],
        electrodes: Sequence[str],
        saved: Saved | None,
        report: Callable[[float], None],
    ):
        self._output, self._folder = experiment.output, folder
        self.labels, self._electrodes = list(probes), list(electrodes)
        self._report = report
        self._times: list[float] = []
        self._samples: dict[str, list[np.ndarray]] = {}
        if saved is not None:
            self._times = saved.records["times"].tolist()
            self._samples = {k: list(v) for k, v in saved.records.items() if k != "times"}
        self._writer = self._open(twin)

    def __call__(self, frame: Frame) -> None:
        """Keep a frame; the one at which a resumed run starts is already there."""
        if not self._times or frame.t > self._times[-1] + 1e-9:
            self._times.append(frame.t)
            for name, value in frame.outputs.items():
                self._samples.setdefault(name, []).append(np.asarray(value))
            if self._writer is not None and is_multiple(frame.t, self._output.frames_every):
                self._writer.append(frame.t, {"V": np.asarray(frame.v)})
        self._report(frame.t)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file of frames and write the samples, also those of a run that failed."""
        if self._writer is not None:
            self._writer.close()
        if self._times:
            self._write()

    @property
    def times(self) -> np.ndarray:
        """Sample times, ms."""
        return np.array(self._times)

    @property
    def ecg(self) -> np.ndarray | None:
        """Twelve leads [samples, 12], mV; None without an ECG."""
        if "leads" not in self._samples:
            return None
        return np.asarray(twelve_leads(np.stack(self._samples["leads"]), self._electrodes))

    @property
    def probes(self) -> np.ndarray | None:
        """Voltage at the probes [samples, probes], mV."""
        return np.stack(self._samples["probes"]) if "probes" in self._samples else None

    def records(self) -> dict[str, np.ndarray]:
        """Everything sampled so far, for a checkpoint."""
        return {"times": self.times} | {k: np.stack(v) for k, v in self._samples.items()}

    def _open(self, twin: Twin) -> VTKHDFWriter | None:
        if not self._output.frames_every:
            return None
        path = self._folder / FRAMES
        if self._times and path.exists():
            return VTKHDFWriter.resume(path, until_ms=self._times[-1])
        fibres = {"fibre": np.asarray(twin.tissue.fibres.fibre, np.float32)}
        return VTKHDFWriter(path, twin.mesh, cell_data=fibres, round_to={"V": 1 / 64})

    def _write(self) -> None:
        if self.probes is not None:
            write_probes_csv(self._folder / "probes.csv", self.times, self.probes, self.labels)
        ecg: Any = self.ecg
        if ecg is None:
            return
        write_ecg_csv(self._folder / "ecg.csv", self.times, ecg, LEAD_NAMES)
        if self._output.wfdb and len(self.times) > 1:
            write_wfdb(self._folder, "ecg", self.times, ecg, LEAD_NAMES)
