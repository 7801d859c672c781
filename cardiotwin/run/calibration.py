"""What `cardiotwin calibrate` is told: the recording, the noise, and how to search."""

from collections.abc import Sequence
from typing import Literal

from cardiotwin._types import Milliseconds
from cardiotwin.inference import Method, Noise, Search
from cardiotwin.inference.losses import Gain


class QRSCalibration:
    """What a recorded QRS complex is fitted with, and how.

    Args:
        ecg: the recording: WFDB, CSV or DICOM.
        unit: of its signals; null takes what the file says.
        without: leads to leave out.
        band: of the filter.
        mains: frequency to take out.
        before: how much of the time ahead of the QRS complex is fitted too.
        after: and behind it.
        step: between samples.
        roots: numbers of root nodes to try, rising; the evidence chooses.
        latest: onset of a root node that is possible.
        gain: "groups" fits one amplitude of the chest leads and one of the others, "global" one of
            all, "leads" one a lead, "none" takes the simulated one.
        noise: of the recording, mV.
        discrepancy: of the model, as a share of the leads' median amplitude.
        length: time over which the discrepancy goes together.
        upstroke: of the action potential, from 10 to 90 %.
        search: how root nodes are searched.
        method: how everything is then moved.
        members: fits to perturbed ECGs, for the spread; 0 for none.
        draws: of the Laplace posterior.
    """

    def __init__(
        self,
        ecg: str,
        unit: str | None = None,
        without: Sequence[str] = (),
        band: Literal["measurement", "diagnostic", "monitoring"] = "measurement",
        mains: float | None = None,
        before: Milliseconds = 10.0,
        after: Milliseconds = 15.0,
        step: Milliseconds = 2.0,
        roots: Sequence[int] = (2, 3, 4, 5),
        latest: Milliseconds = 40.0,
        gain: Gain = "groups",
        noise: float = 0.02,
        discrepancy: float = 0.08,
        length: Milliseconds = 8.0,
        upstroke: Milliseconds = 2.0,
        search: Search | None = None,
        method: Method | None = None,
        members: int = 20,
        draws: int = 200,
    ):
        from .ecg import ECGTask  # which draws experiments, and these hold a calibration

        self.task = ECGTask(ecg, unit=unit, without=tuple(without), band=band, mains=mains)
        if not (step > 0 and before >= 0 and after >= 0 and latest > 0):
            raise ValueError(
                f"QRSCalibration: step {step} and latest {latest} ms must be positive, before "
                f"{before} and after {after} not negative."
            )
        if members < 0 or draws < 2:
            raise ValueError(f"QRSCalibration: members {members} or draws {draws}: too few.")
        self.before, self.after, self.step = before, after, step
        self.roots, self.latest = tuple(int(k) for k in roots), latest
        self.gain: Gain = gain
        self.noise = Noise(noise, discrepancy, length)
        self.upstroke = upstroke
        self.search = Search() if search is None else search
        self.method = Method(soften=((0.2, 10.0),)) if method is None else method
        self.members, self.draws = members, draws
