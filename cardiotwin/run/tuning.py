"""Conduction velocity in a run: the cached curve, tuning, and the warning when it is off."""

from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.scar import BORDER, CORE
from cardiotwin.propagation.strip import cut_strip
from cardiotwin.propagation.velocity import (
    Tuned,
    VelocityCurve,
    mean_edge_length,
    strip_velocity,
    tuned_diffusivities,
    velocity_curve,
    with_diffusivities,
)
from cardiotwin.results.tables import write_json
from cardiotwin.twin import Twin
from cardiotwin.twin.beginnings import beginning_of

from .experiment import Experiment
from .journal import Journal
from .memory import remembered

# Relative error of the conduction velocity above which a run warns.
TOLERATED = 0.05


def tune(
    experiment: Experiment,
    folder: Path | None = None,
    config_text: str = "",
    *,
    progress: bool = True,
    resume: bool = False,
) -> dict[str, Any]:
    """Find the diffusivities that give the target velocities on the mesh in use.

    Args:
        experiment: its tissue names the targets.
        folder: where `tuning.json` goes; None writes nothing.
        config_text: the resolved configuration, kept beside the result.
        progress: say what is being done.
        resume: ignored; tuning takes seconds.

    Returns:
        Edge length, velocity curve and one row a layer and axis, as in `tuning.json`.

    Raises:
        ValueError: no target velocities, or a target too slow for the mesh.
    """
    del resume
    if experiment.tissue.velocity is None:
        raise ValueError(
            "There is nothing to tune: tissue.velocity is null. Give three velocities in m/s, "
            "along fibre, sheet and normal, such as tissue.velocity=[0.6,0.3,0.3]."
        )
    journal = Journal(progress)
    with journal.stage("assembling the heart"):
        twin = experiment.twin()
    _, result = tuned_twin(experiment, twin, journal)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(config_text, encoding="utf-8")
        write_json(folder / "tuning.json", result)
    return result


def tuned_twin(experiment: Experiment, twin: Twin, journal: Journal) -> tuple[Twin, dict[str, Any]]:
    """Tune a twin, or say how far its untuned velocities are off."""
    with journal.stage("conduction velocity on this mesh", "velocity"):
        curve = _curve(experiment)
        edge = mean_edge_length(twin.mesh)
        result = {
            "edge_length_mm": edge,
            "dt_ms": experiment.solver.dt,
            "curve": {
                "h_over_sqrt_d": curve.ratios,
                "velocity_over_sqrt_d": curve.g,
                "continuum": curve.continuum,
            },
        }
        solver, cell = experiment.solver, experiment.ionic.reference()
        how = {"dt": solver.dt, "scheme": solver.scheme, "precision": solver.precision}
        if experiment.tissue.velocity is None:
            result["layers"] = _untuned(twin, curve, edge, journal, cell, how)
        else:
            layers = experiment.tissue.layers(twin.anatomy)
            tuned = _tuned(twin, layers, cell, curve, how)
            twin, result["layers"] = twin._replace(tissue=tuned.tissue), tuned.table
            _warn_missed(tuned.table, journal)
    warn_ignored_scar(experiment, twin, journal)
    # after tuning, which would make up for what the scar takes away
    scarred = experiment.tissue.scarred(twin.anatomy, twin.tissue)
    return twin._replace(tissue=scarred), result


def with_velocities(
    experiment: Experiment, twin: Twin, journal: Journal
) -> tuple[Twin, dict[str, Any]]:
    """The twin of a method that takes velocities as they are: nothing to tune, the scar in it."""
    if experiment.tissue.velocity is None:
        return tuned_twin(experiment, twin, journal)
    # of one beat, or refused before anything takes time
    beginning_of(twin.stimulus, twin.mesh)
    warn_ignored_scar(experiment, twin, journal)
    layers = experiment.tissue.layers(twin.anatomy)
    scarred = experiment.tissue.scarred(twin.anatomy, twin.tissue)
    rows = [
        {"layer": name, **{f"{axis}_m_per_s": v for axis, v in target._asdict().items()}}
        for name, (_, target) in layers.items()
    ]
    return twin._replace(tissue=scarred), {"layers": rows}


def warn_ignored_scar(experiment: Experiment, twin: Twin, journal: Journal) -> None:
    """Warn where a mesh carries a scar and nothing conducts like one."""
    if experiment.tissue.scar is None and {CORE, BORDER} & twin.mesh.cell_data.keys():
        journal.warn(
            "The mesh carries a scar, but its tissue conducts as if it were healthy. Say "
            "tissue=scarred to let the scar conduct as scars do."
        )


def _warn_missed(table: list[dict[str, Any]], journal: Journal) -> None:
    for row in table:
        error = row["measured_m_per_s"] / row["target_m_per_s"] - 1
        if abs(error) > TOLERATED:
            journal.warn(
                f"The {row['layer']} could not be tuned along the {row['axis']}: "
                f"{row['measured_m_per_s']:.2f} m/s on this mesh, {100 * error:+.0f} % off the "
                f"target of {row['target_m_per_s']:.2f} m/s. Refine the mesh."
            )


def _untuned(
    twin: Twin, curve: VelocityCurve, edge: float, journal: Journal, cell, how
) -> list[dict[str, Any]]:
    """Velocity of every distinct set of conductivities on this mesh and in the continuum."""
    principal = np.unique(np.asarray(twin.tissue.principal_diffusivity()).round(12), axis=0)
    try:
        found = strip_velocity(cell, cut_strip(twin.mesh, edge), principal, edge, **how)
    except ValueError:
        # too small a mesh for a strip: bars of the same edge length say what to expect
        found = np.array([[float(curve.velocity(d, edge)) for d in row] for row in principal])
    rows = []
    for diffusivities, speeds in zip(principal, found, strict=True):
        for axis, diffusivity, speed in zip(
            ("fibre", "sheet", "normal"), diffusivities, speeds, strict=True
        ):
            exact = float(np.sqrt(diffusivity) * curve.continuum)
            rows.append(
                {
                    "layer": "untuned",
                    "axis": axis,
                    "measured_m_per_s": float(speed),
                    "continuum_m_per_s": exact,
                    "diffusivity_mm2_per_ms": float(diffusivity),
                    "error": float(speed) / exact - 1,
                }
            )
            if abs(rows[-1]["error"]) > TOLERATED:
                what = (
                    "no wave propagates"
                    if speed == 0
                    else f"the velocity is {100 * rows[-1]['error']:+.0f} % off"
                )
                journal.warn(
                    f"Along the {axis} {what} on this mesh (edges {edge:.2f} mm; continuum "
                    f"{exact:.2f} m/s). Tune to a target velocity (tissue.velocity) or refine the "
                    "mesh."
                )
    return rows


def _curve(experiment: Experiment) -> VelocityCurve:
    """Velocity curve of the experiment's cell, scheme and time step, kept between runs."""
    cell, solver = experiment.ionic.reference(), experiment.solver
    how = {"dt": solver.dt, "scheme": solver.scheme, "precision": solver.precision}
    kept = remembered(
        "velocity",
        (type(cell).__name__, cell, repr(how)),
        lambda: velocity_curve(cell, **how)._asdict(),
    )
    return VelocityCurve(np.array(kept["ratios"]), np.array(kept["g"]), kept["continuum"])


def _tuned(twin: Twin, layers, cell, curve: VelocityCurve, how: dict[str, Any]) -> Tuned:
    """Tune a tissue to the velocities of its layers; the search is kept between runs."""

    def search() -> dict[str, Any]:
        principal, found = tuned_diffusivities(twin.mesh, layers, cell, curve=curve, **how)
        return {"principal": principal, "found": found}

    targets = {name: tuple(target) for name, (_, target) in layers.items()}
    key = (twin.mesh.points, twin.mesh.cells, twin.mesh.surfaces, targets)
    kept = remembered("tuning", (*key, type(cell).__name__, cell, repr(how)), search)
    return with_diffusivities(
        twin.tissue, layers, np.array(kept["principal"]), np.array(kept["found"])
    )
