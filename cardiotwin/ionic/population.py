"""Populations of cells: conductances varied, and those kept whose beats look like measured ones.

Britton et al. 2013 (https://doi.org/10.1073/pnas.1304382110); ranges of human ventricular cells of
Passini et al. 2017 (https://doi.org/10.3389/fphys.2017.00668).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import qmc

from cardiotwin.ionic._base import AbstractIonicModel, replaced
from cardiotwin.ionic.biomarkers import MEASURES, biomarkers, potential_measures
from cardiotwin.ionic.pacing import Recording, pace, record

Model = TypeVar("Model", bound=AbstractIonicModel)

HUMAN_VENTRICLE: Mapping[str, tuple[float, float]] = {
    "apd90": (180.0, 440.0),
    "apd50": (110.0, 350.0),
    "upstroke": (100.0, 1000.0),
    "peak": (10.0, 55.0),
    "rest": (-95.0, -80.0),
    "ead": (0.0, 0.0),
}
"""Ranges of biomarkers in undiseased human ventricular cells at 1 Hz (Passini et al. 2017)."""


class Population(NamedTuple, Generic[Model]):
    """Cells that differ in their conductances.

    Attributes:
        model: parameters per cell.
        factors: channel to the factor of its conductance in each cell.
    """

    model: Model
    factors: dict[str, Float[np.ndarray, " cells"]]

    def __len__(self) -> int:
        return len(next(iter(self.factors.values())))

    def subset(self, keep: Bool[np.ndarray, " cells"]) -> "Population[Model]":
        """The cells that are marked."""
        marked = np.flatnonzero(keep)
        values = {
            row.name: np.asarray(value)[marked]
            for row in self.model.parameters()
            if np.ndim(value := getattr(self.model, row.name)) == 1
        }
        return Population(
            replaced(self.model, values), {k: x[marked] for k, x in self.factors.items()}
        )


class Screened(NamedTuple, Generic[Model]):
    """A population after its beats were compared with measured ranges.

    Attributes:
        accepted: the cells within all ranges.
        kept: which they are.
        measures: biomarker to its value in every cell of the population.
        reasons: biomarker to the number of cells outside its range.
        last: the beat that was measured, of every cell.
    """

    accepted: Population[Model]
    kept: Bool[np.ndarray, " cells"]
    measures: dict[str, Float[np.ndarray, " cells"]]
    reasons: dict[str, int]
    last: Recording


def population(
    model: Model,
    size: int,
    *,
    channels: Sequence[str] | Mapping[str, tuple[float, float]] | None = None,
    spread: float = 0.5,
    seed: int = 0,
) -> Population[Model]:
    """Vary conductances by Latin hypercube sampling.

    Args:
        model: an ionic model that names its `channels`, with scalar conductances.
        size: number of cells.
        channels: which to vary, all where None; a mapping gives the range of each factor.
        spread: factors lie between 1 - spread and 1 + spread where no range is given.
        seed: of the sampling; the same one gives the same cells.

    Raises:
        ValueError: a channel that the model does not have, a range that is not positive and
            ascending, or fewer than two cells.
    """
    if channels is None:
        channels = tuple(model.channels)
    unknown = [name for name in channels if name not in model.channels]
    if unknown or not len(channels):
        raise ValueError(
            f"population: {type(model).__name__} does not name the channels {unknown}; it names "
            f"{', '.join(model.channels) or 'none'}."
        )
    if size < 2:
        raise ValueError(f"population: size is {size}; give two cells or more.")
    ranges = [
        channels[name] if isinstance(channels, Mapping) else (1 - spread, 1 + spread)
        for name in channels
    ]
    for name, (low, high) in zip(channels, ranges, strict=True):
        if not 0 <= low < high:
            raise ValueError(
                f"population: the factor of {name} goes from {low} to {high}; give a range of "
                "factors, 0 or more and ascending."
            )
    drawn = qmc.LatinHypercube(len(ranges), rng=seed).random(size)
    low, high = np.array(ranges).T
    factors = dict(zip(channels, (low + drawn * (high - low)).T, strict=True))
    values = {model.channels[k]: getattr(model, model.channels[k]) * x for k, x in factors.items()}
    return Population(replaced(model, values), factors)


def screen(
    cells: Population[Model],
    ranges: Mapping[str, tuple[float, float]] = HUMAN_VENTRICLE,
    *,
    beats: int = 50,
    cycle_length: float = 1000.0,
    every: float = 0.25,
    **protocol: Any,
) -> Screened[Model]:
    """Pace a population as one batch and keep the cells whose last beat lies within ranges.

    Args:
        cells: from `population`.
        ranges: biomarker to its lowest and highest value, as in `MEASURES`.
        beats: paced; the last is measured.
        cycle_length: ms.
        every: interval between samples of the last beat, ms.
        **protocol: as of `pace`.

    Raises:
        ValueError: an unknown biomarker, a range upside down, or no beats.
    """
    check_ranges(ranges)
    at = protocol.pop("initial", None)
    if beats > 1:
        at = pace(cells.model, cycle_length=cycle_length, beats=beats - 1, initial=at, **protocol)
    last = record(cells.model, cycle_length=cycle_length, every=every, initial=at, **protocol)
    measures = biomarkers(last)
    inside = {
        name: (measures[name] >= low) & (measures[name] <= high)
        for name, (low, high) in ranges.items()
        if name in measures
    }
    kept = np.logical_and.reduce(list(inside.values()))
    reasons = {name: int((~x).sum()) for name, x in inside.items()}
    return Screened(cells.subset(kept), kept, measures, reasons, last)


def measured_ranges(
    t: Float[np.ndarray, " times"],
    v: Float[np.ndarray, "times traces"],
    *,
    names: Sequence[str] = ("rest", "peak", "apd30", "apd50", "apd90", "triangulation"),
    share: float = 1.0,
) -> dict[str, tuple[float, float]]:
    """Ranges of biomarkers of measured action potentials.

    Args:
        t: times, ms.
        v: one trace a column, mV, each from rest through one action potential.
        names: which biomarkers.
        share: middle share of the traces that the range covers, 1 for all.

    Raises:
        ValueError: shapes that do not fit, an unknown biomarker, or no trace that repolarises.
    """
    t, v = np.asarray(t, float), np.asarray(v, float)
    if t.ndim != 1 or v.ndim != 2 or len(t) != len(v) or len(t) < 3:
        raise ValueError(
            f"measured_ranges got times {t.shape} and traces {v.shape}; expected [times] and "
            "[times, traces], three times or more."
        )
    if not 0 < share <= 1:
        raise ValueError(f"measured_ranges: share is {share}; give a number above 0, up to 1.")
    found = potential_measures(t, v)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(f"measured_ranges: traces of V give no {', '.join(unknown)}.")
    ranges = {}
    for name in names:
        values = found[name][np.isfinite(found[name])]
        if not values.size:
            raise ValueError(f"measured_ranges: no trace has a {name}; do they repolarise?")
        ends = np.quantile(values, [0.5 - share / 2, 0.5 + share / 2])
        ranges[name] = (float(ends[0]), float(ends[1]))
    return ranges


def check_ranges(ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse ranges that name no biomarker or are upside down.

    Raises:
        ValueError: see above.
    """
    for name, (low, high) in ranges.items():
        if name not in MEASURES:
            raise ValueError(f"there is no biomarker {name!r}; there are {', '.join(MEASURES)}.")
        if not low <= high:
            raise ValueError(f"the range of {name} goes from {low} to {high}; give it ascending.")
