"""Draw the ECGs of the documentation from finished runs.

    for beat in control lbbb rbbb; do
        cardiotwin simulate experiment=$beat output.film=false output.folder=beats/$beat
    done
    cardiotwin simulate leads=torso stimulus=purkinje tissue.endocardium=null mesh.edge_length=2 \
        output.folder=beats/idealised

and for the maps the control beat with ``output.body_surface=true``; then
``python docs/images/ecg.py beats``. The recording is E07513 of the Georgia set of the
PhysioNet/CinC Challenge 2021 (CC BY 4.0).
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cardiotwin.ecg import ECGFilter, measurements, median_beat, read_recording
from cardiotwin.ecg.delineation import baseline
from cardiotwin.ecg.vcg import vectorcardiogram
from cardiotwin.results.figures import ecg_paper
from cardiotwin.results.vcg_figures import vcg_loops
from cardiotwin.run.pictures import spoken

HERE, DPI = Path(__file__).parent, 170
RECORDING = "ecg-cinc2021/E07513.hea"
TITLES = {
    "control": "Control beat, human heart in a torso",
    "lbbb": "The same heart, left bundle branch block",
    "rbbb": "The same heart, right bundle branch block",
    "idealised": "Idealised heart in an idealised torso",
}


def main(folder: Path) -> None:
    """Draw the sheets, the comparison with a recording, the loops and the maps."""
    for name, title in TITLES.items():
        beat = read_recording(folder / name / "ecg.csv")
        found = measurements(beat.t_ms, beat.ecg, beat.names, 1000.0)
        path = HERE / f"ecg-{name}.png"
        text = spoken(found)
        ecg_paper(path, beat.t_ms, beat.ecg, beat.names, title=title, measurements=text, dpi=DPI)
    _compare(folder)
    _loops(folder)
    with Image.open(folder / "control" / "body_surface.png") as picture:
        picture.resize((picture.width * 6 // 10, picture.height * 6 // 10)).save(
            HERE / "body-surface.png", optimize=True
        )


def _compare(folder: Path) -> None:
    """The control beat over the median beat of a recording, both through the same filter."""
    through = ECGFilter()
    raw = read_recording(Path(os.environ["CARDIOTWIN_DATA"]) / RECORDING)
    beat = median_beat(raw.t_ms, np.asarray(through(raw.t_ms, raw.ecg)))
    simulated = read_recording(folder / "control" / "ecg.csv")
    filtered = np.asarray(through(simulated.t_ms, simulated.ecg, period_ms=1000.0))
    one = _aligned(simulated.t_ms, filtered, simulated.names)
    two = _aligned(beat.t_ms, beat.ecg, raw.names)
    ecg_paper(
        HERE / "ecg-recorded.png",
        *one,
        simulated.names,
        title="Control beat and a recorded beat in sinus rhythm",
        over=two,
        labels=("simulated", "recorded (E07513)"),
        dpi=DPI,
    )


def _aligned(times: np.ndarray, ecg: np.ndarray, names) -> tuple[np.ndarray, np.ndarray]:
    """A beat from the onset of its QRS and from its baseline."""
    onset = measurements(times, ecg, names)["qrs_onset_ms"]
    kept = (times >= onset - 30.0) & (times <= onset + 460.0)
    return times[kept] - onset, (ecg - baseline(times, ecg, onset))[kept]


def _loops(folder: Path) -> None:
    beat = read_recording(folder / "control" / "ecg.csv")
    found = measurements(beat.t_ms, beat.ecg, beat.names)
    onset, offset, end = (found[f"{key}_ms"] for key in ("qrs_onset", "qrs_offset", "t_end"))
    loop = np.asarray(vectorcardiogram(beat.ecg, beat.names))
    name, title = HERE / "vcg.png", "Vectorcardiogram (Kors) of the control beat"
    vcg_loops(name, beat.t_ms, loop, qrs=(onset, offset), t_wave=(offset, end), title=title)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
