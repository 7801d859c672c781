"""The single-cell bench: a beat, the limit cycle, restitution, drugs and populations of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.biomarkers import MEASURES, biomarkers
from cardiotwin.ionic.drugs import NET_CHARGE, drug_named, net_charge, with_drug
from cardiotwin.ionic.pacing import Recording, pace, record, steady_state
from cardiotwin.ionic.population import (
    HUMAN_VENTRICLE,
    check_ranges,
    measured_ranges,
    population,
    screen,
)
from cardiotwin.ionic.protocols import (
    S1S1,
    S1S2,
    diastolic_threshold,
    refractory_period,
    s1s1_restitution,
    s1s2_restitution,
)
from cardiotwin.propagation.restitution import VelocityRestitution, velocity_restitution
from cardiotwin.results.cell_figures import (
    draw_beat,
    draw_doses,
    draw_population,
    draw_restitution,
    measures_table,
)
from cardiotwin.results.tables import write_columns, write_json
from cardiotwin.twin import Cells

from .summary import environment

SAMPLING = 0.1  # ms, of recorded beats
# Stimuli of refractory periods over the diastolic threshold.
OVER_THRESHOLD = 2.0


@dataclass(frozen=True)
class CellStudy:
    """What to find out about a cell.

    Attributes:
        cells: model, cell type and parameters.
        cycle_length: of the beats, ms.
        beats: paced before the one that is shown.
        dt: time step, ms.
        precision: "float32" or "float64".
        limit_cycle: pace until a cycle changes nothing more than `tolerance`, in place of `beats`.
        tolerance: see `steady_state`.
        most_beats: see `steady_state`.
        drug: a name of `DRUGS`; None for none.
        multiples: concentrations of the drug, in multiples of the therapeutic one.
        ignore: channels of the drug that the model does not have.
        s1s1: cycle lengths of dynamic restitution, ms; empty for none.
        s1s2: intervals of standard restitution, ms; empty for none.
        refractory: find the refractory period, at twice the diastolic threshold.
        velocity: intervals of velocity restitution, ms; empty for none.
        cells_varied: size of a population; 0 for none.
        spread: of its conductances.
        seed: of its sampling.
        ranges: biomarker to range that its cells must lie in.
    """

    cells: Cells
    cycle_length: float = 1000.0
    beats: int = 1
    dt: float = 0.02
    precision: str = "float64"
    limit_cycle: bool = False
    tolerance: float = 1e-5
    most_beats: int = 2000
    drug: str | None = None
    multiples: Sequence[float] = (0.0, 1.0, 2.0, 4.0)
    ignore: Sequence[str] = ()
    s1s1: Sequence[float] = ()
    s1s2: Sequence[float] = ()
    refractory: bool = False
    velocity: Sequence[float] = ()
    cells_varied: int = 0
    spread: float = 0.5
    seed: int = 0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: HUMAN_VENTRICLE)

    def __post_init__(self):
        if self.precision not in ("float32", "float64"):
            raise ValueError(f"precision is {self.precision!r}; give float32 or float64.")
        if self.beats < 1 or not self.cycle_length > 0 or not self.dt > 0:
            raise ValueError(
                f"{self.beats} beats at {self.cycle_length:g} ms in steps of {self.dt:g} ms: "
                "give one beat or more, a positive cycle length and a positive step."
            )
        check_ranges(self.ranges)

    @property
    def protocol(self) -> dict[str, Any]:
        """How cells are paced."""
        return {"dt": self.dt, "dtype": np.dtype(self.precision)}


def study_cell(
    study: CellStudy, folder: Path, *, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Find out what a study asks for, and write tables and pictures.

    Args:
        study: what to find out.
        folder: where results go.
        say: told, line by line, what was found.

    Returns:
        What `cell.json` holds.

    Raises:
        ValueError: a drug, channel or time that does not fit the model.
    """
    cell = study.cells.reference()
    if study.drug is not None:  # refuse what cannot be before any work
        with_drug(cell, study.drug, 1.0, ignore=tuple(study.ignore))
    folder.mkdir(parents=True, exist_ok=True)
    kind = study.cells.uniform if hasattr(type(cell), "epi") else None
    title = f"{Path(study.cells.model).stem} {kind or ''}".strip()
    found: dict[str, Any] = {
        "model": study.cells.model,
        "cell_type": kind,
        "parameters": dict(study.cells.parameters),
        "settings": {k: v for k, v in asdict(study).items() if k not in ("cells", "ranges")},
        "environment": environment(),
    }
    start, found["pacing"] = _paced(study, cell, folder, say)
    found |= _beat(study, cell, start, folder, title, say)
    for part in (_doses, _restitution, _refractory, _population):
        found |= part(study, cell, start, folder, title, say)
    write_json(folder / "cell.json", found)
    return found


def _paced(study: CellStudy, cell: AbstractIonicModel, folder: Path, say: Callable) -> Any:
    """The state to start from, and how it was come to."""
    if not study.limit_cycle:
        if study.beats == 1:
            return None, {"beats": 0}
        length = study.cycle_length
        start = pace(cell, cycle_length=length, beats=study.beats - 1, **study.protocol)
        return start, {"beats": study.beats - 1}
    end = steady_state(
        cell,
        cycle_length=study.cycle_length,
        tolerance=study.tolerance,
        most_beats=study.most_beats,
        **study.protocol,
    )
    v, state = end.state
    values = {"V": float(v)} | {k: float(x) for k, x in state._asdict().items()}
    write_json(folder / "state.json", values)
    how = "after" if end.converged else "NOT reached after"
    say(
        f"limit cycle at {study.cycle_length:g} ms {how} {end.beats} beats: {end.slowest} changes "
        f"by {end.change:.2g} a beat (tolerance {study.tolerance:g})"
    )
    told = {"beats": end.beats, "change": end.change, "slowest": end.slowest}
    return end.state, told | {"converged": end.converged, "state": values}


def _beat(study, cell, start, folder, title, say) -> dict[str, Any]:
    beat = record(
        cell, cycle_length=study.cycle_length, every=SAMPLING, currents=True, initial=start,
        **study.protocol,
    )  # fmt: skip
    measures = biomarkers(beat)
    columns = {"V_mV": beat.v}
    columns |= {} if beat.calcium is None else {"calcium_mM": beat.calcium}
    columns |= {f"{name}_pA_per_pF": x for name, x in beat.currents.items()}
    note = f"{title}: a beat at {study.cycle_length:g} ms"
    write_columns(folder / "beat.csv", {"time_ms": beat.t, **columns}, (note,))
    draw_beat(folder / "beat.png", beat, title=note)
    say(f"{note}\n{measures_table(measures)}")
    if measures["ead"] > 0:
        say(f"  early after-depolarisation of {float(measures['ead']):.1f} mV")
    if np.isnan(measures["amplitude"]):
        say(
            f"  no action potential: {study.cycle_length:g} ms may be shorter than the refractory "
            "period (see --refractory), or the stimulus too weak"
        )
    elif np.isnan(measures["apd90"]):
        say(
            f"  the cell does not repolarise by 90 % within {study.cycle_length:g} ms: give a "
            "longer --cycle-length, or see whether a conductance is too small"
        )
    units = {name: MEASURES[name].unit for name in measures}
    return {"biomarkers": {k: float(x) for k, x in measures.items()}, "units": units}


def _doses(study, cell, start, folder, title, say) -> dict[str, Any]:
    if study.drug is None:
        return {}
    drug = drug_named(study.drug)
    multiples = np.asarray(study.multiples, float)
    under = with_drug(cell, drug, multiples, ignore=tuple(study.ignore))
    beats = max(study.beats, 2)
    length = study.cycle_length
    at = pace(under, cycle_length=length, beats=beats - 1, initial=start, **study.protocol)
    beat = record(
        under, cycle_length=length, every=SAMPLING, currents=True, initial=at, **study.protocol
    )
    measures = biomarkers(beat)
    table = {"multiple": multiples, "concentration_nM": multiples * drug.therapeutic, **measures}
    if set(NET_CHARGE) <= beat.currents.keys():
        table["net_charge_uC_per_uF"] = net_charge(beat)
    note = f"{title} with {drug.name}, beat {beats}"
    write_columns(folder / "drug.csv", table, (note, f"therapeutic {drug.therapeutic:g} nM"))
    draw_doses(folder / "drug.png", beat, multiples.tolist(), measures, title=note)
    say(f"{note}")
    for k, multiple in enumerate(multiples):
        ead = ", early after-depolarisation" if measures["ead"][k] > 0 else ""
        say(f"  {multiple:6g} x: APD90 {measures['apd90'][k]:.1f} ms{ead}")
    return {"drug": {"name": drug.name, **{k: np.asarray(v).tolist() for k, v in table.items()}}}


def _restitution(study, cell, start, folder, title, say) -> dict[str, Any]:
    common = {"initial": start, **study.protocol}
    curves: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    if study.s1s1:
        curves["dynamic"] = s1s1_restitution(cell, study.s1s1, **common)
        found["s1s1"] = _dynamic(curves["dynamic"], folder, title, say)
    if study.s1s2:
        curves["standard"] = s1s2_restitution(cell, study.s1s2, s1=study.cycle_length, **common)
        found["s1s2"] = _standard(curves["standard"], folder, title, say)
    if study.velocity:
        curves["velocity"] = velocity_restitution(cell, study.velocity, s1=study.cycle_length)
        found["velocity"] = _velocity(curves["velocity"], folder, title, say)
    if curves:
        draw_restitution(folder / "restitution.png", **curves, title=title)
    return {
        name: {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        for name, values in found.items()
    }


def _dynamic(curve: S1S1, folder: Path, title: str, say: Callable) -> dict[str, Any]:
    columns = {
        "cycle_length_ms": curve.cycle_length,
        "apd90_last_but_one_ms": curve.apd90[0],
        "apd90_last_ms": curve.apd90[1],
        "diastolic_interval_ms": curve.diastolic_interval,
    }
    write_columns(folder / "s1s1.csv", columns, (f"{title}: S1-S1 restitution",))
    onset = curve.alternans_onset
    alternans = "no alternans" if np.isnan(onset) else f"alternans from {onset:g} ms down"
    say(
        f"S1-S1: steepest slope {curve.steepest:.2f}, {alternans}, followed down to "
        f"{curve.shortest_followed:g} ms"
    )
    return curve._asdict() | {
        "steepest_slope": curve.steepest,
        "alternans_onset_ms": onset,
        "shortest_followed_ms": curve.shortest_followed,
    }


def _standard(curve: S1S2, folder: Path, title: str, say: Callable) -> dict[str, Any]:
    columns = {
        "interval_ms": curve.interval,
        "diastolic_interval_ms": curve.diastolic_interval,
        "apd90_ms": curve.apd90,
    }
    write_columns(folder / "s1s2.csv", columns, (f"{title}: S1-S2 restitution",))
    say(f"S1-S2 at {curve.s1:g} ms: steepest slope {curve.steepest:.2f}")
    return curve._asdict() | {"steepest_slope": curve.steepest}


def _velocity(curve: VelocityRestitution, folder: Path, title: str, say: Callable) -> dict:
    columns = {"interval_ms": curve.interval, "velocity_m_per_s": curve.velocity}
    write_columns(folder / "velocity.csv", columns, (f"{title}: velocity restitution",))
    on = curve.conducted
    first = f"{curve.velocity[on][0]:.3f} m/s at {curve.interval[on][0]:g} ms" if on.any() else ""
    say(f"conduction: {first or 'no S2 is conducted'} to {curve.velocity[-1]:.3f} m/s")
    return curve._asdict()


def _refractory(study, cell, start, folder, title, say) -> dict[str, Any]:
    del folder, title
    if not study.refractory:
        return {}
    common = {"initial": start, **study.protocol}
    threshold = diastolic_threshold(cell, **common)
    amplitude = OVER_THRESHOLD * threshold
    period = refractory_period(cell, s1=study.cycle_length, amplitude=amplitude, **common)
    say(
        f"diastolic threshold {threshold:.3g} mV/ms for 1 ms; refractory period {period:g} ms "
        f"(S1 {study.cycle_length:g} ms, {OVER_THRESHOLD:g} times the threshold)"
    )
    return {"diastolic_threshold_mV_per_ms": threshold, "refractory_period_ms": period}


def _population(study, cell, start, folder, title, say) -> dict[str, Any]:
    if not study.cells_varied:
        return {}
    cells = population(cell, study.cells_varied, spread=study.spread, seed=study.seed)
    screened = screen(
        cells, study.ranges, beats=max(study.beats, 2), cycle_length=study.cycle_length,
        initial=start, **study.protocol,
    )  # fmt: skip
    kept = screened.kept
    table = {f"factor_{k}": x for k, x in cells.factors.items()} | screened.measures
    note = f"{title}: {int(kept.sum())} of {len(cells)} cells accepted"
    write_columns(folder / "population.csv", {**table, "accepted": kept.astype(int)}, (note,))
    beat: Recording = screened.last
    draw_population(
        folder / "population.png", beat.t, beat.v, kept, screened.measures, study.ranges, title=note
    )
    outside = ", ".join(f"{k} {n}" for k, n in screened.reasons.items() if n)
    say(f"{note} (outside their range: {outside or 'none'})")
    told = {"size": len(cells), "accepted": int(kept.sum()), "outside": screened.reasons}
    return {"population": told | {"ranges": {k: list(v) for k, v in study.ranges.items()}}}


def read_ranges(file: str | Path) -> dict[str, tuple[float, float]]:
    """Ranges of biomarkers from a file.

    Args:
        file: JSON {"apd90": [180, 440], ...}; a CSV of measured action potentials with the times
            (ms) in the first column and a trace (mV) in each of the others; or a MATLAB file with
            `referenceTime` and `tracesRealigned`, as of the traces behind ToR-ORd.

    Raises:
        ValueError: a file that is none of these.
    """
    file = Path(file)
    if file.suffix == ".json":
        import json

        ranges = json.loads(file.read_text())
        try:
            ranges = {str(k): (float(low), float(high)) for k, (low, high) in ranges.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f'{file}: expected biomarkers with two ends each, such as {{"apd90": [180, 440]}}'
            ) from error
        check_ranges(ranges)
        return ranges
    if file.suffix == ".mat":
        from scipy.io import loadmat

        content = loadmat(file)
        if not {"referenceTime", "tracesRealigned"} <= content.keys():
            have = ", ".join(k for k in content if not k.startswith("__"))
            raise ValueError(
                f"{file} holds {have}; expected referenceTime (ms) and tracesRealigned [times, "
                "traces] (mV)."
            )
        return measured_ranges(content["referenceTime"].ravel(), content["tracesRealigned"])
    if file.suffix == ".csv":
        table = np.genfromtxt(file, delimiter=",", comments="#")
        table = table[np.isfinite(table).all(axis=1)] if table.ndim == 2 else table
        if table.ndim != 2 or table.shape[1] < 2 or len(table) < 3:
            raise ValueError(f"{file}: expected a column of times (ms) and one of each trace (mV).")
        return measured_ranges(table[:, 0], table[:, 1:])
    raise ValueError(f"{file}: expected ranges as .json, or measured traces as .csv or .mat.")
