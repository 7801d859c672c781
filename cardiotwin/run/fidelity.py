"""One word for how a beat is solved: what a run needs where it is not the monodomain alone."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import meshio
import numpy as np

from cardiotwin.anatomy.voxels import as_tetrahedra
from cardiotwin.ecg.eikonal_ecg import EikonalECG
from cardiotwin.propagation.solve import Frame
from cardiotwin.propagation.velocity import VelocityTarget
from cardiotwin.twin import Twin
from cardiotwin.twin.action import CellActions, cell_actions
from cardiotwin.twin.eikonal import EikonalHeart
from cardiotwin.twin.matching import match
from cardiotwin.twin.reaction_eikonal import reaction_eikonal

from .experiment import EIKONAL, MONODOMAIN, Experiment
from .journal import Journal
from .recorder import Recorder

AT_ONCE = 20  # samples worked out together
BEYOND = 10.0  # ends of the run after which what is never reached would fire


def model_of(experiment: Experiment) -> str:
    """The model that a run solves, in words."""
    method, coupled = experiment.solver.method, experiment.solver.coupled
    if method == MONODOMAIN:
        return "monodomain"
    if method == EIKONAL:
        return "eikonal, action potentials of the cells"
    return f"reaction-eikonal {'with' if coupled else 'without'} diffusion"


class EikonalTimes(NamedTuple):
    """Activation of a twin by the eikonal equation, and the action potentials of its cells."""

    activation: np.ndarray  # [nodes] ms, NaN where nothing arrives before the end
    actions: CellActions


def activate(
    experiment: Experiment, twin: Twin, velocity: Any, journal: Journal, found: dict[str, Any]
) -> EikonalTimes:
    """Solve the eikonal equation on a twin, matched to a run of the monodomain where one is named.

    Args:
        experiment: its tissue names the velocities.
        twin: as it would be solved by the monodomain.
        velocity: of untuned conductivities, as `tuned_twin` describes it.
        journal: of the run.
        found: the summary, which says what was done.
    """
    solver = experiment.solver
    with journal.stage("eikonal activation times", "eikonal"):
        heart = eikonal_heart(experiment, twin, velocity)
        heart = heart.astype(jnp.dtype(solver.precision))
        if solver.match is not None:
            heart, found["match"] = _matched(heart, solver.match)
        times = np.asarray(heart.times(), np.float64)
    with journal.stage("action potentials of the cells", "cells"):
        actions = cell_actions(twin.cell, len(twin.mesh.points))
    return EikonalTimes(np.where(times <= solver.t1, times, np.nan), actions)


def eikonal_heart(experiment: Experiment, twin: Twin, velocity: Any = None) -> EikonalHeart:
    """The eikonal heart of an experiment's twin: same fibres, velocities, scar and stimulus."""
    layers = experiment.tissue.layers(twin.anatomy) or _untuned_layers(twin, velocity)
    scar, slowing = experiment.tissue.scar, None
    if scar is not None:
        slowing = np.sqrt(scar.factors(twin.mesh))  # velocity goes with the root of diffusivity
    return EikonalHeart.stimulated(
        twin.anatomy, twin.tissue.fibres, layers, twin.stimulus, slowing=slowing
    )


def coupled_twin(experiment: Experiment, twin: Twin, eikonal: EikonalTimes) -> Twin:
    """The twin of the reaction-eikonal model."""
    return reaction_eikonal(
        twin,
        eikonal.activation,
        latency=eikonal.actions.latency,
        coupled=experiment.solver.coupled,
    )


def play(
    experiment: Experiment,
    twin: Twin,
    eikonal: EikonalTimes,
    probes: np.ndarray,
    field: np.ndarray | None,
    recorder: Recorder,
) -> dict[str, np.ndarray]:
    """Hand the beat that follows from activation times to a recorder, frame by frame.

    Args:
        experiment: how long the run lasts and how often it is sampled.
        twin: the heart.
        eikonal: its activation times and action potentials.
        probes: nodes that are recorded.
        field: lead field [electrodes, nodes]; None without an ECG.
        recorder: receives the frames.

    Returns:
        Activation and repolarisation times [nodes] in ms, NaN where there is none.
    """
    solver, actions = experiment.solver, eikonal.actions
    activation = np.where(np.isfinite(eikonal.activation), eikonal.activation, BEYOND * solver.t1)
    ecg = None if field is None else _ecg(experiment, twin, eikonal, field)
    duration, spread = jnp.asarray(actions.duration), jnp.zeros(len(activation))
    times = solver.every * np.arange(round(solver.t1 / solver.every) + 1)
    for part in np.array_split(times, -(-len(times) // AT_ONCE)):
        since = jnp.asarray(part[:, None] - activation[None])
        voltage = actions.rest + np.asarray(actions.action(since, duration, spread), np.float32)
        outputs: dict[str, Any] = {"probes": voltage[:, probes]}
        if ecg is not None:
            outputs["leads"] = ecg(part)
        for row, t in enumerate(part):
            own = {name: values[row] for name, values in outputs.items()}
            recorder(Frame(float(t), round(t / solver.dt), jnp.asarray(voltage[row]), own))
    late = eikonal.activation + actions.duration
    return {
        "activation": eikonal.activation,
        "repolarisation": np.where(late <= solver.t1, late, np.nan),
    }


def _ecg(experiment: Experiment, twin: Twin, eikonal: EikonalTimes, field: np.ndarray) -> Any:
    """From sample times to the potentials of all electrodes [times, electrodes], mV."""
    # what is never reached neither blurs the times of its neighbours nor shows
    reached = np.isfinite(eikonal.activation)
    shown = np.where(reached, field, 0.0)
    shown = np.where(reached, shown - shown.sum(axis=1, keepdims=True) / reached.sum(), 0.0)
    nearest = np.where(reached, eikonal.activation, np.nanmax(eikonal.activation))
    actions, dtype = eikonal.actions, jnp.dtype(experiment.solver.precision)
    sampler = EikonalECG(as_tetrahedra(twin.mesh), shown, actions.action, dtype=dtype)
    return lambda times: np.asarray(sampler(times, nearest, actions.duration))


def _matched(heart: EikonalHeart, path: str) -> tuple[EikonalHeart, dict[str, Any]]:
    """The heart matched to the activation map of a run, and what that says."""
    matched = match(heart, read_activation(path))
    return matched.heart, {
        "to": path,
        "rmse_ms": matched.fit.rmse,
        "correlation": matched.fit.correlation,
        "rmse_before_ms": matched.before.rmse,
        "capture_ms": matched.capture,
        "velocity_factors": {
            name: {"along": along, "across": across}
            for name, (along, across) in matched.factors.items()
        },
    }


def read_activation(path: str) -> np.ndarray:
    """Activation times [nodes] of a run, from its folder or its `activation.vtu`.

    Raises:
        ValueError: there is no such file, or it holds no activation times.
    """
    file = Path(path)
    file = file / "activation.vtu" if file.is_dir() else file
    if not file.is_file():
        raise ValueError(
            f"solver.match: {file} does not exist; name the folder of a finished run of the "
            "monodomain on the same mesh."
        )
    try:
        return np.asarray(meshio.read(file).point_data["activation_time_ms"], float)
    except KeyError as error:
        raise ValueError(
            f"solver.match: {file} holds no field activation_time_ms; name the folder of a "
            "finished run of the monodomain on the same mesh."
        ) from error


def _untuned_layers(twin: Twin, velocity: Any) -> dict[str, tuple[np.ndarray, VelocityTarget]]:
    """A layer for every set of conductivities, with its velocities in the continuum."""
    principal = np.asarray(twin.tissue.principal_diffusivity()).round(12)
    _, kind = np.unique(principal, axis=0, return_inverse=True)
    speeds = [row["continuum_m_per_s"] for row in velocity["layers"]]
    return {
        f"tissue {k + 1}": (kind.ravel() == k, VelocityTarget(*speeds[3 * k : 3 * k + 3]))
        for k in range(kind.max() + 1)
    }
