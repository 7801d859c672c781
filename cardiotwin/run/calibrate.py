"""A calibration from a recorded ECG to a folder: the fitted twin, how sure it is, and a report."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from cardiotwin.anatomy.voxels import as_tetrahedra
from cardiotwin.ecg.delineation import baseline, on_grid
from cardiotwin.ecg.eikonal_ecg import EikonalECG, SigmoidAction
from cardiotwin.ecg.leads import LEAD_NAMES, twelve_leads
from cardiotwin.inference import (
    Calibration,
    Choice,
    EikonalBeat,
    Waveform,
    calibrate_qrs,
    ensemble,
    laplace,
)
from cardiotwin.inference.objective import ecgs
from cardiotwin.inference.roots import CANDIDATES, qrs_parameters
from cardiotwin.inference.uncertainty import (
    Posterior,
    fields_of,
    most_ambiguous,
    null_field,
)
from cardiotwin.results.tables import write_columns, write_json, write_vtu
from cardiotwin.twin import Twin
from cardiotwin.twin.eikonal import EikonalHeart

from . import summary
from .calibration import QRSCalibration
from .calibration_pictures import draw_calibration
from .ecg import prepare
from .experiment import Experiment
from .journal import Journal

SUMMARY, ANSWER, TWIN = "summary.json", "calibration.json", "fitted.txt"


class Observed(NamedTuple):
    """A QRS complex cut out of a recording.

    Attributes:
        t_ms: [times] ms from its onset.
        ecg: [times, leads] mV from the baseline.
        names: of the leads.
        qrs_ms: its duration.
        flaws: of the recording that need to be known.
    """

    t_ms: np.ndarray
    ecg: np.ndarray
    names: tuple[str, ...]
    qrs_ms: float
    flaws: list[str]


def calibrate(
    experiment: Experiment,
    folder: Path | str,
    config_text: str = "",
    *,
    progress: bool = True,
    resume: bool = False,
) -> dict[str, Any]:
    """Fit an experiment's heart to a recorded QRS complex.

    Args:
        experiment: heart, fibres, tissue (its velocities are the priors' medians), leads, and the
            calibration.
        folder: of the results; made where it is missing.
        config_text: the resolved configuration, kept beside the results.
        progress: say what is being done.
        resume: go on from the descents that the folder holds.

    Returns:
        The summary, as in `summary.json`.

    Raises:
        ValueError: no recording, one with fatal flaws, a heart without ventricular coordinates, or
            tissue without velocities.
    """
    folder, journal, began = Path(folder), Journal(progress), time.perf_counter()
    task = experiment.calibration
    if task is None:
        raise ValueError("calibrate: there is no recording; give ecg=FILE.")
    if experiment.leads is None:
        raise ValueError("calibrate: leads are null; choose some, such as leads=torso.")
    observed = observe(task)
    kept = folder / SUMMARY
    if kept.exists() and not (resume or experiment.output.overwrite):
        raise ValueError(
            f"{folder} holds a calibration. Go on with --resume, choose another folder, or say "
            "output.overwrite=true."
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config_text, encoding="utf-8")
    for flaw in observed.flaws:
        journal.warn(flaw)
    twin, beat = assemble(experiment, observed, journal)
    with journal.stage("fitting the QRS complex", "fit"):
        choice = _fit(task, beat, observed, folder, journal, resume)
    for message in choice.best.warnings:
        journal.warn(message)
    with journal.stage("how sure the answer is", "uncertainty"):
        known = assess(task, choice, journal)
    found = {
        "name": experiment.name or "calibration",
        "status": "finished",
        **describe(task, choice, known, observed, twin),
        "environment": summary.environment(),
    }
    _write(folder, twin, choice.best, known, observed, found)
    draw_calibration(folder, twin, choice, known, observed, found, config_text, journal)
    journal.timings["total"] = time.perf_counter() - began
    found |= {"timings_s": journal.timings, "warnings": journal.warnings}
    write_json(kept, found)
    return found


def observe(task: QRSCalibration) -> Observed:
    """The median QRS complex of a recording, on its own clock and from its own baseline.

    Raises:
        ValueError: it cannot be read, has fatal flaws, or no QRS complex can be told.
    """
    studied = prepare(task.task, task.task.file, task.task.unit)
    onset, duration = studied.found["qrs_onset_ms"], studied.found["qrs_duration_ms"]
    if onset is None or duration is None:
        why = studied.found["not_measured"].get("qrs_onset_ms", "none is told")
        raise ValueError(f"{task.task.file}: there is no QRS complex to fit ({why}).")
    times, signal = on_grid(studied.beat.t_ms, studied.beat.ecg)
    level = signal - baseline(times, signal, onset)
    wanted = np.arange(-task.before, duration + task.after + 0.5 * task.step, task.step)
    within = (wanted + onset >= times[0]) & (wanted + onset <= times[-1])
    wanted = wanted[within]
    ecg = np.stack([np.interp(wanted + onset, times, lead) for lead in level.T], axis=1)
    flaws = [f"{flaw.kind}: {flaw.message}" for flaw in studied.flaws]
    return Observed(wanted, ecg, tuple(studied.recording.names), float(duration), flaws)


def assemble(
    experiment: Experiment, observed: Observed, journal: Journal
) -> tuple[Twin, EikonalBeat]:
    """The heart of an experiment as a beat of the eikonal equation, with its lead field."""
    task, recording = experiment.calibration, experiment.leads
    assert task is not None
    assert recording is not None
    if experiment.tissue.velocity is None:
        raise ValueError(
            "calibrate: tissue.velocity is null, and velocities are what is fitted; give three in "
            "m/s, along fibre, sheet and normal."
        )
    with journal.stage("assembling the heart", "assemble"):
        twin = experiment.twin()
        heart = EikonalHeart.of(
            twin.anatomy,
            twin.tissue.fibres,
            experiment.tissue.layers(twin.anatomy),
            CANDIDATES[: task.roots[0]],
            curved=False,
        )
    with journal.stage("lead field"):
        electrodes = recording.electrodes(twin.mesh, twin.anatomy.electrodes)
        field = recording.lead_field(twin, electrodes)
    leads = np.asarray(twelve_leads(np.asarray(field.field).T, field.names)).T
    rows = [LEAD_NAMES.index(name) for name in observed.names]
    action = SigmoidAction(upstroke=task.upstroke)
    ecg = EikonalECG(as_tetrahedra(twin.mesh), leads[rows], action)
    times = jnp.asarray(observed.t_ms, jnp.float32)
    return twin, EikonalBeat(heart.astype(jnp.float32), ecg, jnp.float32(0.0), None, times)


def _fit(task: QRSCalibration, beat, observed: Observed, folder, journal, resume) -> Choice:
    def log(entry: dict[str, Any]) -> None:
        if entry["stage"] == "search":
            journal.say(f"  {entry['roots']} root nodes: search {entry['attempt'] + 1}, "
                        f"cost {entry['cost']:.0f}")  # fmt: skip
        elif entry["stage"] == "descent" and entry["step"] % 5 == 0:
            costs = ", ".join(f"{cost:.0f}" for cost in entry["costs"])
            journal.say(f"  {entry['roots']} root nodes, combination {entry['combination']}, "
                        f"step {entry['step']}: cost {costs}")  # fmt: skip
        elif entry["stage"] == "roots":
            journal.say(f"  {entry['roots']} root nodes: log evidence {entry['log_evidence']:.1f}")

    loss = Waveform(observed.t_ms, observed.ecg, observed.names, noise=task.noise, gain=task.gain)
    return calibrate_qrs(
        beat,
        observed.t_ms,
        observed.ecg,
        observed.names,
        counts=task.roots,
        parameters=lambda b: qrs_parameters(b, latest=task.latest),
        loss=loss,
        search=task.search,
        method=task.method,
        folder=folder / "fits",
        resume=resume,
        log=log,
    )


class Known(NamedTuple):
    """How sure an answer is.

    Attributes:
        laplace: draws about the best answer.
        ensemble: fits to perturbed ECGs; None without members.
        activation: [draws, nodes] ms, of the ensemble's members, or else of Laplace draws.
        ecgs: [draws, times, leads] mV of the same.
        blind: [nodes] ms, how the map may change along what the ECG cannot tell.
        ambiguous: correlation of two ECGs and ms between their maps, of the two most different
            answers with the same ECG; None where there is no such pair.
    """

    laplace: Posterior
    ensemble: Posterior | None
    activation: np.ndarray
    ecgs: np.ndarray
    blind: np.ndarray
    ambiguous: tuple[float, float] | None


def assess(task: QRSCalibration, choice: Choice, journal: Journal) -> Known:
    """Laplace and ensemble about the best answer, and what other answers fit as well."""
    best = choice.best
    objective, latent = best.objective, best.latent
    near = laplace(objective, latent, draws=task.draws, known=best.information)
    members = None
    latents = near.latents[:20]
    if task.members:
        journal.say(f"  {task.members} fits to perturbed ECGs")
        members, _ = ensemble(objective, latent[None], members=task.members)
        latents = members.latents
    activation = fields_of(objective, latents, EikonalBeat.activation)
    simulated = np.asarray(ecgs(objective, jnp.asarray(latents), 1), float)
    # other numbers and places of root nodes that fit almost as well count as answers too
    alike = [fit for fit in choice.minima if fit.correlation() > best.correlation() - 0.02]
    maps = np.stack([np.asarray(fit.model.activation(), float) for fit in alike])
    beats = np.stack([fit.ecg() for fit in alike])
    pair = most_ambiguous(
        np.concatenate([simulated, beats]), np.concatenate([activation, maps]), apart=5.0
    )
    blind = null_field(objective, latent, best.information, EikonalBeat.activation)
    told = None if pair is None else (pair.correlation, pair.rmse)
    return Known(near, members, activation, simulated, blind, told)


def describe(
    task: QRSCalibration, choice: Choice, known: Known, observed: Observed, twin: Twin
) -> dict[str, Any]:
    """The answer in numbers."""
    best, info = choice.best, choice.best.information
    labels, units = info.labels, best.objective.unknowns.units
    value = np.asarray(best.objective.unknowns.flat(jnp.asarray(best.latent)))
    near = known.laplace.interval()
    table: dict[str, Any] = {}
    for k, label in enumerate(labels):
        row = {
            "unit": units[k],
            "value": float(value[k]),
            "laplace_5": float(near[0, k]),
            "laplace_95": float(near[1, k]),
            "share_of_prior_sd": float(info.shrinkage()[k]),
        }
        if known.ensemble is not None:
            low, high = known.ensemble.interval()[:, k]
            row |= {"ensemble_5": float(low), "ensemble_95": float(high)}
        table[label] = row
    times = known.activation
    return {
        "recording": {
            "file": str(task.task.file),
            "qrs_duration_ms": observed.qrs_ms,
            "leads": list(observed.names),
        },
        "fit": {
            "correlation": best.correlation(),
            "correlation_by_lead": best.lead_correlations(),
            "gain_by_lead": dict(zip(observed.names, _gains(best).tolist(), strict=True)),
            "cost": float(best.minima.costs[0]),
            "root_nodes": len(best.model.heart.roots.onset),
            "log_evidence_by_root_nodes": {str(k): v for k, v in choice.log_evidence.items()},
            "evaluations_with_derivatives": sum(f.evaluations[0] for f in choice.minima),
        },
        "parameters": table,
        "activation": {
            "nodes": times.shape[1],
            "earliest_ms": float(times.mean(axis=0).min()),
            "latest_ms": float(times.mean(axis=0).max()),
            "median_sd_ms": float(np.median(times.std(axis=0))),
            "greatest_sd_ms": float(times.std(axis=0).max()),
        },
        "what_the_ecg_cannot_tell": {
            "directions_told": info.told(),
            "directions_in_all": len(labels),
            "information_eigenvalues": info.eigenvalues,
            "greatest_change_of_the_map_ms": float(known.blind.max()),
            "two_maps_with_one_ecg": None
            if known.ambiguous is None
            else {"ecg_correlation": known.ambiguous[0], "rmse_ms": known.ambiguous[1]},
        },
        "said": (
            "The torso is generic unless electrodes and conductor are the patient's own; no "
            "imaging enters that was not given. Research software; a human decides."
        ),
    }


def _gains(best: Calibration) -> np.ndarray:
    loss = best.objective.loss
    raw = ecgs(best.objective, jnp.asarray(best.latent)[None], 1)[0]
    return np.asarray(loss.gains(raw)) if isinstance(loss, Waveform) else np.ones(raw.shape[1])


def _write(folder: Path, twin: Twin, best, known: Known, observed: Observed, found) -> None:
    write_json(folder / ANSWER, found)
    fitted = best.ecg()
    columns = {"t_ms": observed.t_ms}
    for k, name in enumerate(observed.names):
        columns |= {f"{name}_recorded_mV": observed.ecg[:, k], f"{name}_fitted_mV": fitted[:, k]}
    write_columns(folder / "qrs.csv", columns)
    mesh = as_tetrahedra(twin.mesh)
    fields = {
        "activation_time_ms": np.asarray(best.model.activation(), float),
        "activation_time_mean_ms": known.activation.mean(axis=0),
        "activation_time_sd_ms": known.activation.std(axis=0),
        "activation_time_untold_ms": known.blind,
    }
    write_vtu(folder / "activation.vtu", mesh, fields)
    from cardiotwin.results.vtkhdf import VTKHDFWriter

    with VTKHDFWriter(folder / "activation.vtkhdf", mesh, sidecar=False) as file:
        file.append(0.0, fields)
    (folder / TWIN).write_text(overrides_of(best.model), encoding="utf-8")


def overrides_of(beat: EikonalBeat) -> str:
    """The fitted heart as overrides of ``cardiotwin simulate``, one a line."""
    sites = ",".join(
        "{_target_:cardiotwin.tissue.places.VentricularSite,"
        f"ventricle:{site.ventricle},apicobasal:{site.apicobasal:.4f},"
        f"rotational:{site.rotational:.2f},transmural:{site.transmural:.3f},"
        f"onset:{max(site.onset, 0.0):.2f}}}"
        for site in beat.roots.sites()
    )
    lines = ["stimulus=placed", f"stimulus.sites=[{sites}]"]
    for name, target in beat.heart.velocity.items():
        speeds = [round(float(v), 4) for v in target]
        if name == "myocardium":
            lines.append(f"tissue.velocity={json.dumps(speeds)}".replace(" ", ""))
        elif name == "endocardium":
            lines.append(f"tissue.endocardium.velocity={speeds[0]}")
    return "\n".join(lines) + "\n"
