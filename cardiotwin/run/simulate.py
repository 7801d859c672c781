"""One run from an experiment to a folder of results, kept whole through kills and failures."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiotwin.ecg.electrodes import Electrodes
from cardiotwin.ecg.leads import Leads
from cardiotwin.progress import Progress
from cardiotwin.propagation.observe import (
    AbstractObservable,
    ActivationTime,
    ActivationTimeAt,
    Probe,
    RepolarisationTime,
)
from cardiotwin.propagation.restimulation import Restimulate
from cardiotwin.propagation.solve import Solution, solve
from cardiotwin.results.tables import write_json, write_vtu
from cardiotwin.tissue.purkinje_stimulus import Feedback, PurkinjeStimulus
from cardiotwin.twin import Twin

from . import checkpoint, summary
from .experiment import EIKONAL, MONODOMAIN, Experiment
from .fidelity import EikonalTimes, activate, coupled_twin, model_of, play
from .journal import Journal
from .pictures import draw
from .probes import choose_probes
from .recorder import Recorder
from .tuning import tuned_twin, with_velocities

SUMMARY = "summary.json"
JUNCTIONS = "junctions"


def simulate(
    experiment: Experiment,
    folder: Path | str,
    config_text: str = "",
    *,
    progress: bool = True,
    resume: bool = False,
) -> dict[str, Any]:
    """Solve an experiment and write its results.

    Args:
        experiment: heart, stimulus, solver, leads and output.
        folder: of the results; made where it is missing.
        config_text: the resolved configuration, kept as `config.yaml` and in the report.
        progress: show stages and a progress bar.
        resume: go on from the checkpoint in the folder, if there is one.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        ValueError: bad input, found before the solver starts.
        NonFiniteError: the voltage became NaN or infinite; what was written until then is kept.
    """
    folder = Path(folder)
    journal = Journal(progress)
    finished = _open_folder(folder, experiment.output.overwrite, resume)
    if finished is not None:
        journal.say(f"the run in {folder} is finished: nothing to go on with")
        return finished
    found: dict[str, Any] = {
        "name": experiment.name,
        "status": "running",
        "environment": summary.environment(),
    }
    (folder / "config.yaml").write_text(config_text, encoding="utf-8")
    write_json(folder / SUMMARY, found)
    began = time.perf_counter()
    try:
        _execute(experiment, folder, config_text, journal, found, progress, resume)
        found["status"] = "finished"
    except BaseException as error:
        found["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        found["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        journal.timings["total"] = time.perf_counter() - began
        found |= {"timings_s": journal.timings, "warnings": journal.warnings}
        write_json(folder / SUMMARY, found)
    (folder / checkpoint.FILE).unlink(missing_ok=True)
    return found


def _open_folder(folder: Path, overwrite: bool, resume: bool) -> dict[str, Any] | None:
    """Make the folder; return the summary of a finished run that need not be repeated."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for the results.")
    kept = _kept(folder / SUMMARY)
    if kept.get("status") == "finished":
        if resume:
            return kept
        if not overwrite:
            raise ValueError(
                f"{folder} holds a finished run. Choose another folder, or say "
                "output.overwrite=true to replace it."
            )
    folder.mkdir(parents=True, exist_ok=True)
    return None


def _kept(path: Path) -> dict[str, Any]:
    """The summary that an earlier run left; empty where there is none, or none that can be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


class _Ready(NamedTuple):
    twin: Twin
    observe: dict[str, AbstractObservable]
    probes: list[str]
    electrodes: Electrodes | None
    nodes: np.ndarray  # of the probes
    eikonal: EikonalTimes | None  # where the method needs it


def _execute(experiment, folder, config_text, journal, found, progress, resume) -> None:
    ready = _prepare(experiment, journal, found)
    twin = ready.twin
    solver: dict[str, Any] = {"model": model_of(experiment)}
    if ready.eikonal is not None and experiment.solver.method == EIKONAL:
        times, recorder = _play(experiment, folder, ready, journal, progress)
        solver["nodes"] = len(twin.mesh.points)
    else:
        solution, recorder = _solve(experiment, folder, ready, journal, progress, resume)
        times = {k: _finite(solution.observed[k]) for k in ("activation", "repolarisation")}
        solver |= summary.solver_of(solution)
    if ready.eikonal is None:
        for message in summary.lost_stimuli(twin, times["activation"], experiment.solver.t1):
            journal.warn(message)
    if twin.tissue.fibres.note:
        found["fibre_field"] = twin.tissue.fibres.note
    found |= {
        "solver": solver,
        "mesh": summary.describe_mesh(twin),
        "activation": summary.activation_of(twin, **times),
        "measured_velocity_m_per_s": summary.velocities(experiment, twin, times["activation"]),
        "ecg": summary.ecg_of(experiment, twin, recorder),
    }
    write_vtu(
        folder / "activation.vtu",
        twin.mesh,
        {f"{name}_time_ms": values for name, values in times.items()},
        {"fibre": np.asarray(twin.tissue.fibres.fibre)},
    )
    # the numbers are safe before the pictures begin
    write_json(folder / SUMMARY, {**found, "timings_s": journal.timings})
    draw(experiment, folder, config_text, twin, times, recorder, found, journal)


def _prepare(experiment: Experiment, journal: Journal, found: dict[str, Any]) -> _Ready:
    """Everything that can be refused before the solver starts."""
    with journal.stage("assembling the heart: fibres, cells, stimulus", "assemble"):
        twin = experiment.twin()
        nodes, labels = choose_probes(twin.anatomy, experiment.output.probes)
        leads = experiment.leads
        electrodes = None
        if leads is not None:
            electrodes = leads.electrodes(twin.mesh, twin.anatomy.electrodes)
    twin, eikonal = _activated(experiment, twin, journal, found)
    observe: dict[str, AbstractObservable] = {
        "activation": ActivationTime(twin.cell.activation_threshold),
        "repolarisation": RepolarisationTime(twin.cell.repolarisation_threshold),
        "probes": Probe(nodes),
    }
    if leads is not None and electrodes is not None:
        with journal.stage("lead field"):
            field = leads.lead_field(twin, electrodes)
        rounded = np.asarray(field.field, experiment.solver.precision)
        observe["leads"] = Leads(rounded, field.names)
        found["lead_field"] = field.method
    if isinstance(twin.stimulus, PurkinjeStimulus):
        if experiment.solver.devices is None:
            times = ActivationTime(twin.cell.activation_threshold)
            observe[JUNCTIONS] = ActivationTimeAt(twin.stimulus.nodes, times)
        else:
            journal.warn(
                "On several devices muscle does not excite the Purkinje network; leave out "
                "solver.devices for that."
            )
    return _Ready(twin, observe, labels, electrodes, nodes, eikonal)


def _activated(
    experiment: Experiment, twin: Twin, journal: Journal, found: dict[str, Any]
) -> tuple[Twin, EikonalTimes | None]:
    """The twin that is solved, and its eikonal times where the method needs them."""
    method = experiment.solver.method
    if method == MONODOMAIN:
        twin, found["velocity"] = tuned_twin(experiment, twin, journal)
        return twin, None
    twin, found["velocity"] = with_velocities(experiment, twin, journal)
    eikonal = activate(experiment, twin, found["velocity"], journal, found)
    if method == EIKONAL:
        return twin, eikonal
    return coupled_twin(experiment, twin, eikonal), eikonal


def _play(
    experiment: Experiment, folder: Path, ready: _Ready, journal: Journal, progress: bool
) -> tuple[dict[str, np.ndarray], Recorder]:
    """The beat of the eikonal method: it takes seconds, and leaves no checkpoints."""
    assert ready.eikonal is not None
    (folder / checkpoint.FILE).unlink(missing_ok=True)
    report = Progress(experiment.solver.t1, enabled=progress)
    recorder = _recorder(experiment, folder, ready, None, report)
    leads = ready.observe.get("leads")
    field = np.asarray(leads.field) if isinstance(leads, Leads) else None
    with journal.stage("beat", "solve"), recorder, report:
        times = play(experiment, ready.twin, ready.eikonal, ready.nodes, field, recorder)
    return times, recorder


def _recorder(
    experiment: Experiment,
    folder: Path,
    ready: _Ready,
    saved: checkpoint.Saved | None,
    report: Progress,
) -> Recorder:
    return Recorder(
        experiment,
        folder,
        ready.twin,
        probes=ready.probes,
        electrodes=() if ready.electrodes is None else ready.electrodes.names,
        saved=saved,
        report=report,
    )


def _solve(
    experiment: Experiment,
    folder: Path,
    ready: _Ready,
    journal: Journal,
    progress: bool,
    resume: bool,
) -> tuple[Solution, Recorder]:
    solver, twin = experiment.solver, ready.twin
    key = checkpoint.physics_hash(twin, solver, list(ready.observe))
    saved = checkpoint.load(folder, key) if resume else None
    start = 0.0 if saved is None else saved.checkpoint.step * solver.dt
    if saved is not None:
        journal.say(f"going on from the checkpoint at {start:g} ms")
    else:
        # one of an earlier run would not go with the frames that are written from here on
        (folder / checkpoint.FILE).unlink(missing_ok=True)
        if resume:
            journal.say(f"no checkpoint in {folder}: starting at 0 ms")
    # a speed in node-steps only where every step is as long
    steady = {} if solver.quiet_dt else {"nodes": len(twin.mesh.points), "dt": solver.dt}
    report = Progress(solver.t1, t0=start, enabled=progress, **steady)
    recorder = _recorder(experiment, folder, ready, saved, report)

    def on_checkpoint(point) -> None:
        checkpoint.save(folder, key, point, recorder.records())

    seconds = experiment.output.checkpoint_seconds
    with journal.stage("solving", "solve"), recorder, report:
        solution = solve(
            twin.problem(),
            solver.t1,
            dt=solver.dt,
            every=solver.every,
            quiet_dt=solver.quiet_dt,
            multirate=solver.multirate,
            scheme=solver.scheme,
            precision=solver.precision,
            observe=ready.observe,
            initial=None if saved is None else saved.checkpoint,
            on_frame=recorder,
            restimulate=_restimulate(ready),
            on_checkpoint=on_checkpoint if seconds else None,
            checkpoint_seconds=seconds,
            profile=True,
            devices=solver.devices,
            partition=solver.partition,
        )
    return solution, recorder


def _restimulate(ready: _Ready) -> Restimulate | None:
    """How the muscle answers a Purkinje network during the run."""
    if JUNCTIONS not in ready.observe or not isinstance(ready.twin.stimulus, PurkinjeStimulus):
        return None
    feedback = Feedback(ready.twin.stimulus)
    # taken out of the outputs: the recorder need not keep the times of every frame
    return lambda frame: feedback(np.asarray(frame.outputs.pop(JUNCTIONS)))


def _finite(times) -> np.ndarray:
    times = np.asarray(times, np.float64)
    return np.where(np.isfinite(times), times, np.nan)
