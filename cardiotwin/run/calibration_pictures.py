"""The pictures and the report of a calibration. A picture that fails costs itself alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.voxels import as_tetrahedra
from cardiotwin.twin import Twin

from .journal import Journal

MEAN, SPREAD = "Activation time, mean of the fits", "Standard deviation of the activation time"


def draw_calibration(
    folder: Path,
    twin: Twin,
    choice: Any,
    known: Any,
    observed: Any,
    found: dict[str, Any],
    config_text: str,
    journal: Journal,
) -> None:
    """Draw the fit, its parameters, the map with its spread, and write the report."""
    from cardiotwin.results import calibration_figures as figures
    from cardiotwin.results.report import write_report
    from cardiotwin.results.scene import activation_map

    mesh = as_tetrahedra(twin.mesh)
    mean, sd = known.activation.mean(axis=0), known.activation.std(axis=0)
    made: dict[str, Path] = {}

    def attempt(key: str, what: str, work: Callable[[], Path]) -> None:
        with journal.stage(what):
            try:
                made[key] = work()
            except Exception as error:
                journal.warn(f"no {what}: {type(error).__name__}: {error}")

    best = choice.best
    attempt(
        "Recorded QRS complex, fitted one, and the spread of the fits",
        "fit of the leads",
        lambda: figures.leads_over(
            folder / "fit.png",
            observed.t_ms,
            observed.ecg,
            best.ecg(),
            observed.names,
            spread=np.stack([best.scaled(ecg) for ecg in known.ecgs]),
            by_lead=best.lead_correlations(),
        ),
    )
    attempt(
        "activation",
        "activation map",
        lambda: activation_map(
            folder / "activation.png",
            mesh,
            mean,
            cut=True,
            title=MEAN,
        ),
    )
    attempt(
        f"{SPREAD} over the fits",
        "map of the spread",
        lambda: activation_map(
            folder / "spread.png",
            mesh,
            sd,
            spacing_ms=_spacing(sd),
            title=SPREAD,
            label="standard deviation (ms)",
        ),
    )
    attempt(
        "Parameters: 5 to 95 % of the prior (grey), of Laplace and of the fits to perturbed ECGs",
        "parameters",
        lambda: figures.parameters(
            folder / "parameters.png",
            best.objective.unknowns,
            known.laplace,
            known.ensemble,
            best.latent,
        ),
    )
    attempt(
        "Convergence of the descents, and the evidence for each number of root nodes",
        "convergence",
        lambda: figures.convergence(
            folder / "convergence.png", folder / "fits", choice.log_evidence
        ),
    )
    attempt(
        "report",
        "report",
        lambda: write_report(
            folder,
            {**found, "timings_s": journal.timings, "warnings": journal.warnings},
            figures=made,
            mesh=mesh,
            activation_time=mean,
            config_text=config_text,
        ),
    )


def _spacing(values: np.ndarray) -> float:
    """A round spacing of lines, some five over the range."""
    fifth = max(float(np.ptp(values)), 1e-3) / 5.0
    power = 10.0 ** np.floor(np.log10(fifth))
    return float(power * min((1.0, 2.0, 5.0, 10.0), key=lambda k: abs(k - fifth / power)))
