"""Where root nodes may lie: a search over combinations, for the price of one solve a candidate.

The eikonal times of several root nodes are the least of the times of each alone. So the travel
times from every candidate are worked out once, and a combination with onsets costs a minimum and
an ECG. A factor on all velocities divides the travel times, so it is searched too; the ratios of
the velocities are held, and move in the descents that follow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cardiotwin._types import type_array
from cardiotwin.twin.beginnings import Places

from .beat import EikonalBeat
from .losses import AbstractLoss
from .optimise import Log, quiet

ONSETS = (0.0, 6.0, 12.0, 20.0, 30.0)  # ms that are tried
SPEEDS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3)  # factors on all velocities that are tried
GOLDEN = np.pi * (3.0 - np.sqrt(5.0))


class Found(NamedTuple):
    """Combinations of root nodes, the best first.

    Attributes:
        places: each with all its root nodes.
        speeds: factor on all velocities that goes with each.
        costs: of the loss.
        solved: eikonal solves that it took.
        weighed: combinations that were tried.
    """

    places: list[Places]
    speeds: list[float]
    costs: Float[np.ndarray, " combinations"]
    solved: int
    weighed: int


def endocardial_candidates(
    count: int = 120, *, radius: float = 0.9, ventricles: Sequence[int] = (0, 1)
) -> Places:
    """Places spread evenly over the discs of the endocardia (a sunflower's seeds).

    Args:
        count: over all ventricles.
        radius: greatest height above the apex.
        ventricles: 0 left, 1 right.
    """
    each = count // len(ventricles)
    if each < 1:
        raise ValueError(
            f"endocardial_candidates: {count} places for {len(ventricles)} ventricles."
        )
    number = np.arange(each) + 0.5
    far, turn = radius * np.sqrt(number / each), number * GOLDEN
    disc = np.stack([far * np.cos(turn), far * np.sin(turn)], axis=1)
    total = each * len(ventricles)
    return Places(
        jnp.asarray(np.tile(disc, (len(ventricles), 1))),
        jnp.zeros(total),
        jnp.zeros(total),
        jnp.asarray(np.repeat(np.asarray(ventricles, np.int32), each)),
    )


def travel_times(beat: EikonalBeat, candidates: Places) -> Float[Array, "candidates nodes"]:
    """Activation times from every candidate alone, ms after its onset."""
    # positions move through one compiled program; ventricles are numbers there
    dtype = jnp.asarray(beat.roots.disc).dtype
    found = [
        _alone(
            beat,
            jnp.asarray(candidates.disc[k : k + 1], dtype),
            jnp.asarray(candidates.depth[k : k + 1], dtype),
            candidates.ventricle[k : k + 1],
        )
        for k in range(len(candidates.depth))
    ]
    return jnp.stack(found)


@eqx.filter_jit
def _alone(beat: EikonalBeat, disc: Array, depth: Array, ventricle: type_array) -> Array:
    roots = Places(disc, depth, jnp.zeros_like(depth), ventricle)
    return eqx.tree_at(lambda b: b.heart.roots, beat, roots).heart.times()


@eqx.filter_jit
def _weigh(
    beat: EikonalBeat,
    loss: AbstractLoss,
    travel: Float[Array, "candidates nodes"],
    chosen: Int[Array, "cases roots"],
    onset: Float[Array, "cases roots"],
    speed: Float[Array, " cases"],
    at_once: int,
) -> Float[Array, " cases"]:
    def one(case):
        which, when, fast = case
        times = jnp.min(travel[which] / fast + when[:, None], axis=0) + beat.shift
        durations = None if beat.durations is None else beat.durations(times)
        return loss(beat.ecg(beat.t_ms, times, durations))

    cost = jax.lax.map(one, (chosen, onset, speed), batch_size=at_once)
    return jnp.where(jnp.isfinite(cost), cost, jnp.inf)


def search_roots(
    beat: EikonalBeat,
    loss: AbstractLoss,
    count: int,
    *,
    candidates: Places | None = None,
    onsets: Sequence[float] = ONSETS,
    speeds: Sequence[float] = SPEEDS,
    attempts: int = 3,
    rounds: int = 6,
    seed: int = 0,
    at_once: int = 4,
    travel: Float[Array, "candidates nodes"] | None = None,
    log: Log = quiet,
) -> Found:
    """Find combinations of root nodes whose ECG is nearest to the recorded one.

    Each attempt begins with other root nodes, drawn at random. One after the other moves to the
    best of all candidates and onsets, then all velocities to the best factor, until none changes.

    Args:
        beat: with the velocities to search with; its own root nodes do not matter.
        loss: of the ECG; a softened one has wider basins.
        count: number of root nodes.
        candidates: where they may lie; spread over both endocardia when left out.
        onsets: ms that are tried for each.
        speeds: factors on all velocities that are tried.
        attempts: how often to begin.
        rounds: most times that each root node is moved in an attempt.
        seed: of the random beginnings.
        at_once: combinations computed together.
        travel: as `travel_times` of these candidates gave them, for another search of this heart.
        log: takes a dictionary a round.

    Raises:
        ValueError: more root nodes than candidates, or no combination has a finite ECG.
    """
    candidates = endocardial_candidates() if candidates is None else candidates
    size = len(candidates.depth)
    if not 1 <= count <= size:
        raise ValueError(f"search_roots: {count} root nodes among {size} candidates.")
    solved = 0 if travel is not None else size
    travel = travel_times(beat, candidates) if travel is None else travel
    random = np.random.default_rng(seed)
    grid = np.array(np.meshgrid(np.arange(size), onsets, indexing="ij")).reshape(2, -1)
    options, delays = grid[0].astype(int), grid[1]
    tried = np.asarray(speeds, float)
    weighed = 0

    def weigh(trial: np.ndarray, when: np.ndarray, fast: np.ndarray) -> np.ndarray:
        nonlocal weighed
        weighed += len(trial)
        onsets, factors = jnp.asarray(when, travel.dtype), jnp.asarray(fast, travel.dtype)
        cost = _weigh(beat, loss, travel, jnp.asarray(trial), onsets, factors, at_once)
        return np.asarray(cost)

    ends: dict[tuple, tuple[float, np.ndarray, np.ndarray, float]] = {}
    for attempt in range(attempts):
        chosen = random.choice(size, count, replace=False)
        onset, fast = np.zeros(count), tried[attempt % len(tried)]
        lowest = np.inf
        for turn in range(rounds):
            before = lowest
            for k in random.permutation(count):
                trial = np.repeat(chosen[None], len(options), axis=0)
                when = np.repeat(onset[None], len(options), axis=0)
                trial[:, k], when[:, k] = options, delays
                cost = weigh(trial, when, np.full(len(options), fast))
                best = int(np.argmin(cost))
                if cost[best] < lowest:
                    lowest, chosen, onset = float(cost[best]), trial[best], when[best]
            same = np.repeat(chosen[None], len(tried), axis=0)
            cost = weigh(same, np.repeat(onset[None], len(tried), axis=0), tried)
            if cost.min() < lowest:
                lowest, fast = float(cost.min()), float(tried[np.argmin(cost)])
            log({"stage": "search", "attempt": attempt, "round": turn, "cost": lowest})
            if not lowest < before:
                break
        order = np.lexsort((onset, chosen))
        key = tuple(chosen[order])
        if key not in ends or lowest < ends[key][0]:
            ends[key] = (lowest, chosen[order], onset[order], float(fast))
    ranked = sorted(ends.values(), key=lambda end: end[0])
    if not np.isfinite(ranked[0][0]):
        raise ValueError("search_roots: no combination has a finite ECG; check the velocities.")
    places = [
        Places(
            candidates.disc[which],
            candidates.depth[which],
            jnp.asarray(when),
            candidates.ventricle[which],
        )
        for _, which, when, _ in ranked
    ]
    costs = np.array([end[0] for end in ranked])
    return Found(places, [end[3] for end in ranked], costs, solved, weighed)
