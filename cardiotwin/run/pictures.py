"""The pictures of a run. A picture that cannot be drawn costs itself, not the run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import as_tetrahedra
from cardiotwin.ecg.delineation import baseline
from cardiotwin.ecg.leads import LEAD_NAMES
from cardiotwin.ecg.skin_potentials import skin_potentials
from cardiotwin.ecg.vcg import vectorcardiogram
from cardiotwin.twin import Twin, has_walls, wall_angles

from .experiment import Experiment
from .journal import Journal
from .recorder import FRAMES, Recorder

ACTIVATION, ECG, VCG, ACTION_POTENTIALS, FIBRES, FILM, REPORT = (
    "activation.png",
    "ecg.png",
    "vcg.png",
    "action_potentials.png",
    "fibre_angles.png",
    "beat.mp4",
    "report.html",
)
BODY_SURFACE = "body_surface.png"


def draw(
    experiment: Experiment,
    folder: Path,
    config_text: str,
    twin: Twin,
    times: dict[str, np.ndarray],
    recorder: Recorder,
    found: dict[str, Any],
    journal: Journal,
) -> None:
    """Draw the figures, the film and the report that the experiment asks for."""
    output, mesh = experiment.output, as_tetrahedra(twin.mesh)
    made: dict[str, Path] = {}

    def attempt(key: str, what: str, work: Callable[[], Path]) -> None:
        with journal.stage(what):
            try:
                made[key] = work()
            except Exception as error:
                # nothing here may cost the numbers that are already on the disk
                journal.warn(f"no {what}: {type(error).__name__}: {error}")

    if output.figures:
        _figures(attempt, experiment, folder, mesh, times, recorder, found)
        if has_walls(twin):
            work = partial(_fibre_angles, experiment, folder, twin, found)
            attempt("fibre_angles", "fibre angles", work)
    if output.body_surface:
        work = partial(_body_surface, experiment, folder, twin, found)
        attempt("body_surface", "body-surface potentials", work)
    if output.film and output.frames_every:
        attempt("film", "film", lambda: _film(folder, mesh))
    if output.report:
        attempt(
            "report",
            "report",
            lambda: _report(folder, config_text, mesh, times, made, found, journal),
        )


def _figures(attempt, experiment, folder, mesh, times, recorder, found) -> None:
    from cardiotwin.results.figures import action_potentials, ecg_paper
    from cardiotwin.results.scene import activation_map

    attempt(
        "activation",
        "activation map",
        lambda: activation_map(folder / ACTIVATION, mesh, times["activation"], cut=True),
    )
    ecg = recorder.ecg
    if ecg is not None:
        attempt(
            "ecg",
            "ECG sheet",
            lambda: ecg_paper(
                folder / ECG,
                recorder.times,
                ecg,
                LEAD_NAMES,
                title=", ".join(filter(None, ("12-lead ECG", experiment.name))),
                measurements=spoken(found["ecg"]),
            ),
        )
        if found["ecg"]["qrs_duration_ms"] is not None:
            attempt("vcg", "vectorcardiogram", lambda: _loops(folder, recorder, found["ecg"]))
    probes = recorder.probes
    if probes is not None:
        attempt(
            "action_potentials",
            "action potentials",
            lambda: action_potentials(
                folder / ACTION_POTENTIALS, recorder.times, probes, recorder.labels
            ),
        )


def _fibre_angles(experiment: Experiment, folder: Path, twin: Twin, found: dict) -> Path:
    from cardiotwin.results.fibre_figure import fibre_angles

    profiles = wall_angles(twin, experiment.fibres)
    errors = {
        wall: {
            f"mean_{kind}_error_deg": profile.mean_error
            for kind, profile in of.items()
            if profile.mean_error is not None
        }
        for wall, of in profiles.items()
    }
    if any(errors.values()):
        found["fibres"] = errors
    return fibre_angles(folder / FIBRES, profiles)


def _loops(folder: Path, recorder: Recorder, found: dict) -> Path:
    from cardiotwin.results.vcg_figures import vcg_loops

    onset, offset, end = (found[f"{key}_ms"] for key in ("qrs_onset", "qrs_offset", "t_end"))
    signal: Any = recorder.ecg
    signal = signal - baseline(recorder.times, signal, onset)
    return vcg_loops(
        folder / VCG,
        recorder.times,
        np.asarray(vectorcardiogram(signal, LEAD_NAMES)),
        qrs=(onset, offset),
        t_wave=None if end is None else (offset, end),
        title="Vectorcardiogram (Kors)",
    )


def _body_surface(experiment: Experiment, folder: Path, twin: Twin, found: dict) -> Path:
    """Maps, film and file of the potentials of the whole skin."""
    from cardiotwin.results.body_maps import BodyMaps, body_film, body_map, write_body_maps
    from cardiotwin.results.vtkhdf import read_steps

    assert experiment.leads is not None
    conductor: Any = experiment.leads.conductor
    sigma_i = np.asarray(twin.tissue.intracellular_tensor())
    with read_steps(folder / FRAMES) as steps:
        times = steps.times
        voltage = np.stack([v for _, v in steps.frames("V")])
    torso, potentials = skin_potentials(conductor, twin.mesh, sigma_i, voltage)
    skin = torso.skin
    maps = BodyMaps(skin.points, skin.triangles, torso.frame, times, potentials)
    write_body_maps(folder / "body_surface.vtkhdf", maps)
    if experiment.output.film:
        body_film(folder / "body_surface.mp4", maps)
    instants = experiment.output.body_surface_at or _instants(found["ecg"], maps.t_ms)
    placed = experiment.leads.electrodes(twin.mesh, twin.anatomy.electrodes)
    return body_map(folder / BODY_SURFACE, maps, instants, electrodes=placed.positions)


def _instants(ecg: dict[str, Any] | None, times: np.ndarray) -> list[float]:
    """Three quarters of the QRS and the peak of the T wave, or quarters of what there is."""
    if ecg is None or ecg["qrs_duration_ms"] is None:
        return [float(t) for t in times[0] + np.ptp(times) * np.array([0.25, 0.5, 0.75])]
    shares = (0.25, 0.5, 0.75)
    chosen = [ecg["qrs_onset_ms"] + share * ecg["qrs_duration_ms"] for share in shares]
    return chosen if ecg["t_peak_ms"] is None else [*chosen, ecg["t_peak_ms"]]


def _film(folder: Path, mesh: Mesh) -> Path:
    from cardiotwin.results.film import film
    from cardiotwin.results.vtkhdf import read_steps

    with read_steps(folder / FRAMES) as steps:
        return film(folder / FILM, mesh, steps.frames("V"))


def _report(folder, config_text, mesh, times, made, found, journal) -> Path:
    from cardiotwin.results.report import write_report

    return write_report(
        folder,
        {**found, "timings_s": journal.timings, "warnings": journal.warnings},
        figures={key: path for key, path in made.items() if key != "film"},
        film=made.get("film"),
        mesh=mesh,
        activation_time=times["activation"],
        config_text=config_text,
    )


def spoken(ecg: dict[str, Any] | None) -> dict[str, str] | None:
    """The measurements that belong on an ECG sheet."""
    if ecg is None:
        return None
    rows = (
        ("P", "p_duration_ms", " ms"),
        ("P axis", "p_axis_deg", "°"),
        ("QRS", "qrs_duration_ms", " ms"),
        ("QT", "qt_ms", " ms"),
        ("QTcF", "qtc_fridericia_ms", " ms"),
        ("Axis", "qrs_axis_deg", "°"),
    )
    return {
        name: f"{ecg[key]:.0f}{unit}".replace("-", "−")
        for name, key, unit in rows
        if ecg.get(key) is not None
    }
