"""What a run is made of: the objects that a configuration describes."""

from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np

from cardiotwin._types import Millimetres, Milliseconds
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ecg.electrodes import Electrodes, read_electrodes
from cardiotwin.ecg.leadfield import AbstractVolumeConductor, LeadField, UnboundedConductor
from cardiotwin.ecg.thorax import Thorax
from cardiotwin.ecg.torso_conductor import TorsoConductor
from cardiotwin.numerics.partition import check_method
from cardiotwin.propagation.devices import find_devices
from cardiotwin.propagation.scheme import AbstractScheme, Godunov
from cardiotwin.propagation.times import WHOLE, check_multirate, check_times
from cardiotwin.tissue.places import VentricularSite
from cardiotwin.tissue.stimulus import AbstractStimulus
from cardiotwin.twin import (
    Anatomy,
    AnyFibres,
    AnyRhythm,
    Cells,
    Myocardium,
    RuleBasedFibres,
    SinusRhythm,
    Twin,
)

from .calibration import QRSCalibration

MONODOMAIN, EIKONAL, REACTION_EIKONAL = METHODS = ("monodomain", "eikonal", "reaction_eikonal")


class Solver:
    """How the equations are stepped.

    Args:
        t1: end of the run.
        dt: time step.
        every: interval of the ECG, the probes and the checks for finite values.
        quiet_dt: longest time step while nothing depolarises; null steps by dt throughout.
        multirate: whether cells away from a wave take the longer steps while others take dt; null
            where it pays: on a CPU, with Godunov splitting and a quiet_dt.
        scheme: operator splitting; Godunov with implicit diffusion when left out.
        precision: "float32" or "float64".
        devices: share the nodes out among so many; one when left out.
        partition: how they are shared out; "metis" needs the package pymetis.
        method: "monodomain"; "eikonal", which knows velocities and no membrane, and takes seconds;
            or "reaction_eikonal", in which every cell fires at its eikonal time.
        coupled: of the reaction-eikonal method: cells exchange current (R-E+), or do not (R-E-).
        match: folder of a monodomain run on the same mesh, to which the velocities of the eikonal
            equation are matched; null takes those of the tissue as they are.
    """

    def __init__(
        self,
        t1: Milliseconds = 450.0,
        dt: Milliseconds = 0.05,
        every: Milliseconds = 1.0,
        quiet_dt: Milliseconds | None = 0.2,
        scheme: AbstractScheme | None = None,
        precision: Literal["float32", "float64"] = "float32",
        devices: int | None = None,
        partition: Literal["bisection", "metis"] = "bisection",
        multirate: bool | None = None,
        method: Literal["monodomain", "eikonal", "reaction_eikonal"] = "monodomain",
        coupled: bool = True,
        match: str | None = None,
    ):
        _check_method(method, coupled, match, devices)
        self.method, self.coupled, self.match = method, coupled, match
        check_times(t1, dt, every, quiet_dt)
        check_method(partition)
        if devices is not None:
            find_devices(devices)
        self.devices, self.partition = devices, partition
        self.t1, self.dt, self.every, self.quiet_dt = t1, dt, every, quiet_dt
        self.scheme = Godunov() if scheme is None else scheme
        if multirate is None:
            possible = quiet_dt is not None and isinstance(self.scheme, Godunov)
            multirate = possible and devices is None and jax.default_backend() == "cpu"
        elif multirate:
            check_multirate(self.scheme, quiet_dt, devices)
        self.multirate = multirate
        self.precision = precision


class Recording:
    """The 12-lead ECG: where the electrodes are, and what conducts.

    Args:
        electrodes: JSON or CSV file of positions; placed from the heart's own axes when left out.
        unit: of the positions in the file.
        conductor: what surrounds the heart.
        thorax: size of the thorax and pose of the heart in it, where electrodes are placed.
        heart: mesh of the ventricles whose axes place the electrodes, where the run has none, as
            one of the atria; it shares the coordinates.
        rr: interval between beats for heart rate and corrected QT.
    """

    def __init__(
        self,
        electrodes: str | None = None,
        unit: Literal["mm", "cm", "m", "um"] = "mm",
        conductor: AbstractVolumeConductor | None = None,
        thorax: Thorax | None = None,
        rr: Milliseconds = 1000.0,
        heart: Mesh | None = None,
    ):
        self.heart = heart
        self.file, self.unit = electrodes, unit
        self.conductor = UnboundedConductor() if conductor is None else conductor
        if not (np.isfinite(rr) and rr > 0):
            raise ValueError(f"Recording: rr is {rr} ms; give a positive interval between beats.")
        self.thorax, self.rr = thorax, rr

    def electrodes(self, mesh: Mesh | Voxels, kept: Electrodes | None = None) -> Electrodes:
        """Read the electrodes, or take those of the twin folder, or place them.

        Raises:
            ValueError: an electrode is missing, or lies in or too near the heart.
        """
        # a body has a skin of its own, which electrodes kept with a bare heart need not lie on
        bare = self.thorax is None and isinstance(self.conductor, UnboundedConductor)
        given = kept if bare else None
        if self.file is not None:
            given = read_electrodes(self.file, unit=self.unit)
        if given is None:
            if self.heart is None:
                return self.conductor.place_electrodes(mesh, self.thorax)
            given = self.conductor.place_electrodes(self.heart, self.thorax)
        given.require_twelve_leads()
        self.conductor.check(mesh, given)
        return given

    def lead_field(self, twin: Twin, electrodes: Electrodes) -> LeadField:
        """Lead field on the mesh of the twin, from its physical intracellular conductivity."""
        sigma_i = np.asarray(twin.tissue.intracellular_tensor())
        return self.conductor.lead_field(twin.mesh, sigma_i, electrodes)


class Output:
    """What a run writes, and where.

    Args:
        folder: of the run.
        overwrite: replace a finished run that lies there.
        frames_every: interval of the voltage frames in the VTKHDF file; 0 for none.
        probes: points whose nearest nodes are recorded, [x, y, z] in mm or `VentricularSite`s;
            chosen on the heart when left out.
        wfdb: write the ECG as a WFDB record too.
        figures: write PNG figures.
        film: write a film of the voltage; it needs frames.
        report: write the HTML report.
        body_surface: solve for the potential of the whole skin at every frame: maps, a film and a
            file for ParaView; it needs frames, and a body of finite elements (leads=torso).
        body_surface_at: instants of the maps; chosen from the beat when left out.
        checkpoint_seconds: wall time between checkpoints; 0 for none.
    """

    def __init__(
        self,
        folder: str | None = None,
        overwrite: bool = False,
        frames_every: Milliseconds = 5.0,
        probes: Sequence[VentricularSite | Sequence[Millimetres]] | None = None,
        wfdb: bool = True,
        figures: bool = True,
        film: bool = True,
        report: bool = True,
        body_surface: bool = False,
        body_surface_at: Sequence[Milliseconds] | None = None,
        checkpoint_seconds: float = 60.0,
    ):
        if not (0 <= frames_every < np.inf and 0 <= checkpoint_seconds < np.inf):
            raise ValueError(
                f"Output: frames_every ({frames_every}) and checkpoint_seconds "
                f"({checkpoint_seconds}) must be finite and not negative; 0 switches them off."
            )
        self.folder, self.overwrite = folder, overwrite
        self.frames_every = frames_every
        self.probes = None if probes is None else tuple(probes)
        self.wfdb, self.figures, self.film, self.report = wfdb, figures, film, report
        self.body_surface = body_surface
        self.body_surface_at = None if body_surface_at is None else tuple(body_surface_at)
        if body_surface and not frames_every:
            raise ValueError(
                "Output: body_surface draws the frames, but frames_every is 0; give 5 ms or less."
            )
        self.checkpoint_seconds = checkpoint_seconds


class Experiment:
    """One run: a heart, what excites it, how it is solved and what is written.

    Args:
        mesh: the heart or slab: tetrahedra, voxels of a label image, or a twin folder's heart.
        fibres: how its fibres come about.
        ionic: ionic model and cell types.
        tissue: conductivities and target velocities.
        stimulus: what excites it.
        solver: time stepping.
        leads: the ECG; None for none.
        output: files and pictures.
        name: for titles; none where left out.
        calibration: what `cardiotwin calibrate` fits; other commands leave it alone.

    Raises:
        ValueError: frames are asked for at times that the solver does not stop at, or maps of a
            skin that is not there.
    """

    def __init__(
        self,
        mesh: Mesh | Voxels | Anatomy,
        fibres: AnyFibres | None = None,
        ionic: Cells | None = None,
        tissue: Myocardium | None = None,
        stimulus: AnyRhythm | AbstractStimulus | None = None,
        solver: Solver | None = None,
        leads: Recording | None = None,
        output: Output | None = None,
        name: str | None = None,
        calibration: QRSCalibration | None = None,
    ):
        self.mesh, self.name = mesh, name
        self.calibration = calibration
        self.fibres = RuleBasedFibres() if fibres is None else fibres
        self.ionic = Cells() if ionic is None else ionic
        self.tissue = Myocardium() if tissue is None else tissue
        self.stimulus = SinusRhythm() if stimulus is None else stimulus
        self.solver = Solver() if solver is None else solver
        self.leads = leads
        self.output = Output() if output is None else output
        if not is_multiple(self.output.frames_every, self.solver.every):
            raise ValueError(
                f"output.frames_every = {self.output.frames_every:g} ms is not a multiple of "
                f"solver.every = {self.solver.every:g} ms; give a multiple, or 0 for no frames."
            )

        conductor = None if leads is None else leads.conductor
        if self.output.body_surface and not isinstance(conductor, TorsoConductor):
            raise ValueError(
                "output.body_surface needs a body of finite elements; give leads=torso or "
                "leads=dalhousie, or leave body_surface out."
            )

    def twin(self) -> Twin:
        """Assemble the heart, its diffusivities not tuned yet."""
        return Twin.assemble(
            self.mesh,
            fibres=self.fibres,
            myocardium=self.tissue,
            cells=self.ionic,
            stimulus=self.stimulus,
        )


def _check_method(method: str, coupled: bool, match: str | None, devices: int | None) -> None:
    """Refuse what a method cannot do."""
    if method not in METHODS:
        raise ValueError(f"Solver: method is {method!r}; give one of {', '.join(METHODS)}.")
    if method == EIKONAL and devices is not None:
        raise ValueError(
            "Solver: the eikonal equation is solved on one device; leave solver.devices out, or "
            "take another solver.method."
        )
    if not coupled and method != REACTION_EIKONAL:
        raise ValueError(
            f"Solver: coupled=false is R-E-, of method=reaction_eikonal; the method is {method}."
        )
    if match is not None and method == MONODOMAIN:
        raise ValueError(
            "Solver: match is for the eikonal methods; the monodomain is what they are matched to. "
            "Leave solver.match out, or give solver.method=eikonal."
        )


def is_multiple(value: float, unit: float) -> bool:
    """Whether a time is a whole number of intervals, zero included."""
    return abs(value / unit - round(value / unit)) < WHOLE
