"""Fit a QRS complex: find root nodes, move them with the velocities, choose how many there are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.twin.beginnings import Places

from .beat import EikonalBeat
from .calibrate import Calibration, Method, calibrate, fingerprint, write_arrays
from .free import Free, Unknowns
from .losses import AbstractLoss, Noise, Waveform
from .optimise import Log, quiet
from .roots import qrs_parameters
from .search import (
    ONSETS,
    SPEEDS,
    Found,
    endocardial_candidates,
    search_roots,
    travel_times,
)

Parameters = Callable[[EikonalBeat], Sequence[Free]]


class Search(eqx.Module):
    """How root nodes are searched before anything else moves.

    Attributes:
        candidates: places on both endocardia.
        radius: greatest height above the apex of a candidate.
        onsets: ms that are tried.
        speeds: factors on all velocities that are tried.
        attempts: random beginnings for each number of root nodes.
        followed: combinations that are then fitted.
        discrepancy: share of the amplitude, and ms: the softened loss of the search.
    """

    candidates: int = 120
    radius: float = 0.9
    onsets: tuple[float, ...] = ONSETS
    speeds: tuple[float, ...] = SPEEDS
    attempts: int = 5
    followed: int = 3
    discrepancy: tuple[float, float] = (0.3, 10.0)

    def __check_init__(self):
        if min(self.candidates, self.attempts, self.followed) < 1 or not (
            self.onsets and self.speeds
        ):
            raise ValueError(
                "Search: candidates, attempts, followed, onsets, speeds: one at least."
            )


class Choice(NamedTuple):
    """The answer, and what other numbers of root nodes gave.

    Attributes:
        best: the calibration with the greatest evidence.
        tried: the best of each number of root nodes.
        log_evidence: by number of root nodes, less that of the best.
        minima: of all descents, the lowest cost first.
    """

    best: Calibration
    tried: dict[int, Calibration]
    log_evidence: dict[int, float]
    minima: tuple[Calibration, ...]


def with_places(beat: EikonalBeat, places: Places) -> EikonalBeat:
    """A beat with other root nodes, in its own precision."""
    dtype = jnp.asarray(beat.roots.disc).dtype
    new = Places(
        jnp.asarray(places.disc, dtype),
        jnp.asarray(places.depth, dtype),
        jnp.asarray(places.onset, dtype),
        jnp.asarray(places.ventricle, jnp.int32),
    )
    return eqx.tree_at(lambda b: b.heart.roots, beat, new)


def calibrate_qrs(
    beat: EikonalBeat,
    t_ms: Float[np.ndarray, " times"],
    observed: Float[np.ndarray, "times leads"],
    names: Sequence[str],
    *,
    counts: Sequence[int] = (2, 3, 4, 5),
    parameters: Parameters = qrs_parameters,
    loss: AbstractLoss | None = None,
    noise: Noise | None = None,
    search: Search | None = None,
    method: Method | None = None,
    enough: float = 5.0,
    folder: Path | str | None = None,
    resume: bool = False,
    log: Log = quiet,
) -> Choice:
    """Fit root nodes, velocities and the start of the beat to a QRS complex.

    For every number of root nodes: a search over combinations of candidates and a factor on all
    velocities, then descents from the best combinations in which everything moves. The number of
    root nodes with the greatest evidence (Laplace) is taken, so that a root node is there only
    where the ECG asks for it.

    Args:
        beat: the heart; its velocities are the priors' medians, its root nodes do not matter.
        t_ms: [times] ms.
        observed: [times, leads] mV.
        names: of the leads.
        counts: numbers of root nodes to try, rising.
        parameters: from the beat to what may move in it.
        loss: of the ECG; `Waveform` with `noise` when left out.
        noise: of recording and model, for the evidence and the intervals.
        search: how root nodes are searched.
        method: how the descents go; its screen and starts are those of the search.
        enough: more root nodes are not tried once the evidence's logarithm has fallen by so much.
        folder: keeps log and state, a folder a descent; None keeps nothing.
        resume: go on from what the folder holds.
        log: takes a dictionary an evaluation or batch of them.

    Raises:
        ValueError: counts that do not rise, or as `calibrate`.
    """
    counts = list(counts)
    if not counts or counts != sorted(set(counts)) or counts[0] < 1:
        raise ValueError(f"calibrate_qrs: counts are {counts}; give rising numbers from 1.")
    search = Search() if search is None else search
    method = Method(soften=((0.2, 10.0),)) if method is None else method
    loss = Waveform(t_ms, observed, names, noise=noise) if loss is None else loss
    soft = loss.softened(*search.discrepancy) if isinstance(loss, Waveform) else loss
    candidates = endocardial_candidates(search.candidates, radius=search.radius)
    where = None if folder is None else Path(folder)
    searcher = _Searcher(beat, soft, candidates, search, method.seed, where, resume, log)
    single = eqx.tree_at(lambda m: (m.screened, m.starts), method, (0, 1))
    everything: list[Calibration] = []
    tried: dict[int, Calibration] = {}
    evidence: dict[int, float] = {}
    for count in counts:
        found = searcher(count)
        fits = []
        pairs = zip(found.places, found.speeds, strict=True)
        for number, (places, fast) in enumerate(list(pairs)[: search.followed]):
            model = with_places(beat, _inside(places))
            own = None if where is None else where / f"roots_{count}_{number + 1}"
            free = list(parameters(model))
            start = Unknowns(model, free).start(_faster(model, fast))
            fit = calibrate(
                model,
                t_ms,
                observed,
                names,
                free,
                loss=loss,
                method=single,
                starts=start[None],
                folder=own,
                resume=resume,
                log=_with(log, roots=count, combination=number + 1),
            )
            fits.append(fit)
        everything += fits
        tried[count] = max(fits, key=lambda fit: fit.information.log_evidence)
        evidence[count] = tried[count].information.log_evidence
        log({"stage": "roots", "roots": count, "log_evidence": evidence[count]})
        if evidence[count] < max(evidence.values()) - enough:
            break
    top = max(evidence, key=lambda k: evidence[k])
    less = {k: e - evidence[top] for k, e in evidence.items()}
    return Choice(tried[top], tried, less, tuple(sorted(everything, key=_lowest)))


class _Searcher:
    """Searches root nodes, and keeps what it found for a run that goes on."""

    def __init__(self, beat, loss, candidates, search: Search, seed, folder, resume, log):
        self.beat, self.loss, self.candidates, self.search = beat, loss, candidates, search
        self.seed, self.folder, self.resume, self.log = seed, folder, resume, log
        self.travel: Array | None = None
        self.key = fingerprint((beat, loss, candidates), repr((search, seed)))

    def __call__(self, count: int) -> Found:
        path = None if self.folder is None else self.folder / f"search_{count}.npz"
        if path is not None and self.resume and path.exists():
            with np.load(path, allow_pickle=False) as kept:
                if str(kept["key"]) == self.key:
                    return _unpacked(kept)
        if self.travel is None:
            self.travel = travel_times(self.beat, self.candidates)
        found = search_roots(
            self.beat,
            self.loss,
            count,
            candidates=self.candidates,
            onsets=self.search.onsets,
            speeds=self.search.speeds,
            attempts=self.search.attempts,
            seed=self.seed,
            travel=self.travel,
            log=_with(self.log, roots=count),
        )
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, key=self.key, **_packed(found))
        return found


def _packed(found: Found) -> dict[str, np.ndarray]:
    whole = jax.tree.map(lambda *x: np.stack(x), *found.places)
    names = ("disc", "depth", "onset", "ventricle")
    return {name: getattr(whole, name) for name in names} | {
        "speeds": np.array(found.speeds),
        "costs": found.costs,
        "work": np.array([found.solved, found.weighed]),
    }


def _unpacked(kept: Mapping[str, np.ndarray]) -> Found:
    rows = zip(kept["disc"], kept["depth"], kept["onset"], kept["ventricle"], strict=True)
    places = [Places(*(jnp.asarray(x) for x in row)) for row in rows]
    solved, weighed = (int(n) for n in kept["work"])
    return Found(places, kept["speeds"].tolist(), kept["costs"], solved, weighed)


def _lowest(fit: Calibration) -> float:
    return float(fit.minima.costs[0])


def _inside(places: Places) -> Places:
    """Onsets off the bounds of their priors, where a bounded parameter has no slope."""
    return eqx.tree_at(lambda p: p.onset, places, jnp.maximum(places.onset, 1.0))


def _faster(beat: EikonalBeat, factor: float) -> EikonalBeat:
    """The beat with all velocities multiplied."""
    faster = jax.tree.map(lambda v: v * factor, beat.heart.velocity)
    return eqx.tree_at(lambda b: b.heart.velocity, beat, faster)


def _with(log: Log, **tags) -> Log:
    return lambda entry: log({**tags, **entry})
