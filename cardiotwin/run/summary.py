"""What a run found, as plain numbers for `summary.json` and the report."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cardiotwin._version import __version__
from cardiotwin.anatomy.atria import ATRIA
from cardiotwin.ecg.features import measurements
from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.propagation.solve import Solution
from cardiotwin.propagation.velocity import measured_velocity
from cardiotwin.session import cores
from cardiotwin.twin import Twin
from cardiotwin.units import MM3_PER_ML

from .experiment import Experiment
from .recorder import Recorder

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "equinox", "h5py", "meshio", "pyvista", "hydra-core")

# A patch that has not fired so long after its pulse was not captured by it.
CAPTURE_PATIENCE = 10.0  # ms

# The depolarisation of atria is the P wave: what is measured of a QRS complex is measured of it.
_P_WAVE = {
    "p_onset_ms": "qrs_onset_ms",
    "p_offset_ms": "qrs_offset_ms",
    "p_duration_ms": "qrs_duration_ms",
    "p_axis_deg": "qrs_axis_deg",
}


def environment() -> dict[str, Any]:
    """Versions, device and machine of this process."""
    return {
        "cardiotwin": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "device": str(jax.devices()[0]),
        "platform": platform.platform(),
        "cores": cores(),
    }


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far, MiB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_a_unit = 1 if platform.system() == "Darwin" else 1024
    return peak * bytes_a_unit / 2**20


def describe_mesh(twin: Twin) -> dict[str, Any]:
    """Size of the mesh and its regions."""
    mesh = twin.mesh
    names = dict(mesh.region_names)
    volumes = mesh.volumes()
    return {
        "nodes": len(mesh.points),
        "elements": len(mesh.cells),
        "volume_ml": float(volumes.sum() / MM3_PER_ML),
        "regions_ml": {
            names.get(int(r), str(int(r))): float(volumes[mesh.regions == r].sum() / MM3_PER_ML)
            for r in np.unique(mesh.regions)
        },
    }


def activation_of(twin: Twin, activation: np.ndarray, repolarisation: np.ndarray) -> dict[str, Any]:
    """Activation and repolarisation of the whole and of every region, ms."""
    mesh = twin.mesh
    names = dict(mesh.region_names)
    result = {"all": _times(activation, repolarisation)}
    for region in np.unique(mesh.regions):
        nodes = np.unique(mesh.cells[mesh.regions == region])
        result[names.get(int(region), str(int(region)))] = _times(
            activation[nodes], repolarisation[nodes]
        )
    return result


def lost_stimuli(twin: Twin, activation: np.ndarray, t1: float) -> list[str]:
    """Say which stimulated patches of tissue did not fire in time: a stimulus that was too weak.

    Args:
        twin: its stimulus, pulse by pulse.
        activation: [nodes] ms, NaN where the tissue stayed at rest.
        t1: end of the run, ms; pulses shortly before it are not judged.
    """
    first, second = twin.mesh.unique_edges().T
    messages = []
    for pulses in twin.stimulus.pulses(twin.mesh.points):
        onset = np.where(np.asarray(pulses.amplitude) > 0, np.asarray(pulses.onset), np.nan)
        joined = onset[first] == onset[second]  # NaN equals nothing
        graph = coo_matrix(
            (np.ones(joined.sum(), np.int8), (first[joined], second[joined])), (onset.size,) * 2
        )
        _, patch = connected_components(graph, directed=False)
        # a patch that another wave reached first has fired too
        patience = float(pulses.duration) + CAPTURE_PATIENCE
        fired = activation - onset <= patience
        stimulated = onset + patience <= t1
        for lost in np.setdiff1d(patch[stimulated], patch[stimulated & fired]):
            here = patch == lost
            place = twin.mesh.points[here].mean(axis=0).round(1)
            messages.append(
                f"The stimulus at {place} mm ({int(here.sum())} nodes, {onset[here][0]:g} ms) did "
                "not capture. Raise its amplitude, duration or radius."
            )
    return messages


def velocities(experiment: Experiment, twin: Twin, activation: np.ndarray) -> dict[str, Any]:
    """Velocities that the beat shows, by layer."""
    masks = {name: mask for name, (mask, _) in experiment.tissue.layers(twin.anatomy).items()}
    if not masks:
        masks = {"all": np.ones(len(twin.mesh.cells), bool)}
    if "endocardium" in masks:
        masks["myocardium"] = masks["myocardium"] & ~masks["endocardium"]
    return {
        name: measured_velocity(twin.mesh, twin.tissue.fibres, activation, mask)
        for name, mask in masks.items()
    }


def ecg_of(experiment: Experiment, twin: Twin, recorder: Recorder) -> dict[str, Any] | None:
    """Measurements of the ECG, of atria alone those of the P wave; None without one."""
    if experiment.leads is None or recorder.ecg is None:
        return None
    found = measurements(recorder.times, recorder.ecg, rr_ms=experiment.leads.rr)
    if {name for _, name in twin.mesh.region_names} != set(ATRIA):
        return found
    wave = {name: found.get(key) for name, key in _P_WAVE.items()}
    during = np.asarray(recorder.times) <= (wave["p_offset_ms"] or np.inf)
    signal = np.asarray(recorder.ecg)[during]
    largest = signal[np.abs(signal).argmax(axis=0), np.arange(signal.shape[1])]
    return {**wave, "p_mv": dict(zip(LEAD_NAMES, largest.tolist(), strict=True))}


def solver_of(solution: Solution) -> dict[str, Any]:
    """Counts, timings and speed of the solve."""
    stats = dict(solution.stats)
    computing = stats["loop_s"] - stats.get("callback_s", 0.0)
    if stats["steps"] and computing > 0:
        stats["node_steps_per_s"] = stats["nodes"] * stats["steps"] / computing
    stats["peak_memory_mib"] = peak_memory_mib()
    return stats


def _times(activation: np.ndarray, repolarisation: np.ndarray) -> dict[str, Any]:
    done, back = np.isfinite(activation), np.isfinite(repolarisation)
    result: dict[str, Any] = {
        "activated_share": float(done.mean()),
        "repolarised_share": float(back.mean()),
    }
    if done.any():
        result["first_ms"], result["last_ms"] = np.min(activation[done]), np.max(activation[done])
        result["mean_ms"] = np.mean(activation[done])
    both = done & back
    if both.any():
        duration = (repolarisation - activation)[both]
        result["apd_mean_ms"] = np.mean(duration)
        result["apd_range_ms"] = [np.min(duration), np.max(duration)]
    return result


def _commit() -> str | None:
    """Commit of the source tree this package runs from; None where there is no repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
