"""Minimising: a screen of the prior, Levenberg-Marquardt of many starts at once, first-order steps.

The loops run on the host, one compiled step at a time, so that every evaluation can be logged, a
run be stopped between any two, and go on from the latents that it had.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
from jaxtyping import Float

from .objective import Objective, costs, slopes, spoilt

Log = Callable[[dict[str, Any]], None]


class Minima(NamedTuple):
    """Where some starts ended.

    Attributes:
        latents: [starts, latents].
        costs: [starts].
        converged: [starts] whether the steps became small.
        steps: [starts] that were accepted.
        evaluations: of the model with its derivatives, over all starts.
    """

    latents: Float[np.ndarray, "starts latents"]
    costs: Float[np.ndarray, " starts"]
    converged: np.ndarray
    steps: np.ndarray
    evaluations: int

    def best(self) -> int:
        """The start that ended lowest."""
        return int(np.argmin(self.costs))


def quiet(entry: dict[str, Any]) -> None:
    """Log nothing."""


def screen(
    objective: Objective,
    count: int,
    *,
    seed: int = 0,
    around: Float[np.ndarray, " latents"] | None = None,
    at_once: int = 8,
    log: Log = quiet,
) -> tuple[Float[np.ndarray, "cases latents"], Float[np.ndarray, " cases"]]:
    """Draw from the prior and weigh each draw.

    Args:
        objective: what to minimise.
        count: number of draws.
        seed: of the random numbers.
        around: latents to begin the list with, such as the model as it stands.
        at_once: cases computed together.
        log: takes a dictionary a batch.

    Returns:
        Latents and costs, the best first; draws whose ECG is not finite are left out.

    Raises:
        ValueError: no draw gave a finite ECG.
    """
    drawn = np.random.default_rng(seed).standard_normal((count, objective.unknowns.size))
    if around is not None:
        drawn = np.concatenate([np.atleast_2d(around), drawn])
    found = np.empty(len(drawn))
    batch = 8 * at_once
    for begin in range(0, len(drawn), batch):
        part = drawn[begin : begin + batch]
        padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        found[begin : begin + batch] = np.asarray(costs(objective, jnp.asarray(padded), at_once))[
            : len(part)
        ]
        log(
            {
                "stage": "screen",
                "evaluated": begin + len(part),
                "best": float(np.nanmin(found[: begin + len(part)])),
            }
        )
    good = ~spoilt(found)
    if not good.any():
        raise ValueError(
            f"The screen: none of {len(drawn)} draws from the priors gave a finite ECG. Check the "
            "model at its own values, then narrow the priors."
        )
    order = np.argsort(found[good])
    return drawn[good][order], found[good][order]


def spread_out(
    latents: Float[np.ndarray, "cases latents"], count: int, least: float = 0.5
) -> Float[np.ndarray, "chosen latents"]:
    """The first of a list that lie apart: root mean square distance of latents at least `least`.

    Where too few do, the next ones of the list fill up.
    """
    chosen: list[int] = []
    for k, latent in enumerate(latents):
        apart = [np.sqrt(np.mean((latent - latents[j]) ** 2)) for j in chosen]
        if not apart or min(apart) >= least:
            chosen.append(k)
        if len(chosen) == count:
            break
    rest = [k for k in range(len(latents)) if k not in chosen]
    return latents[sorted(chosen + rest[: count - len(chosen)])]


def _solver(tolerance) -> optx.LevenbergMarquardt:
    return optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance)


def _blank(objective: Objective, latent, shift, tolerance):
    """The residual as optimistix calls it, and its state before the first step."""

    def residual(latent, shift):
        return objective.residual(latent) - shift, None

    out = jax.eval_shape(objective.residual, latent)
    solver = _solver(tolerance)
    return residual, solver.init(residual, latent, shift, {}, out, None, frozenset())


@eqx.filter_jit
def _begin(objective: Objective, latents, shifts, tolerance):
    """States before the first step."""

    def of_one(latent, shift):
        return eqx.filter(_blank(objective, latent, shift, tolerance)[1], eqx.is_array)

    return jax.vmap(of_one)(latents, shifts)


@eqx.filter_jit
def _advance(objective: Objective, latents, shifts, kept, tolerance):
    """One step of Levenberg-Marquardt for all starts."""

    def of_one(latent, shift, kept):
        residual, blank = _blank(objective, latent, shift, tolerance)
        solver = _solver(tolerance)
        state = eqx.combine(kept, eqx.filter(blank, eqx.is_array, inverse=True))
        latent, state, _ = solver.step(residual, latent, shift, {}, state, frozenset())
        end, _ = solver.terminate(residual, latent, shift, {}, state, frozenset())
        cost = 0.5 * jnp.sum(state.f_info.residual**2)
        counts = state.num_accepted_steps, state.num_steps_since_acceptance
        return latent, eqx.filter(state, eqx.is_array), (end, cost, *counts)

    return jax.vmap(of_one)(latents, shifts, kept)


def least_squares(
    objective: Objective,
    starts: Float[np.ndarray, "starts latents"],
    *,
    shifts: Float[np.ndarray, "starts residuals"] | None = None,
    most_steps: int = 40,
    tolerance: float = 1e-3,
    at_once: int = 4,
    log: Log = quiet,
) -> Minima:
    """Levenberg-Marquardt (optimistix) from several starts, some at a time.

    Args:
        objective: its residuals' squares are minimised.
        starts: [starts, latents].
        shifts: subtracted from the residuals, one row a start: standard normal ones make each start
            a draw of noise and prior (`ensemble`).
        most_steps: a start that has not converged by then ends there.
        tolerance: of latents and residuals, relative and absolute, at which a start has converged.
        at_once: starts computed together.
        log: takes a dictionary a step.
    """
    starts = np.atleast_2d(np.asarray(starts, float))
    if shifts is None:
        out = jax.eval_shape(objective.residual, jnp.asarray(starts[0]))
        shifts = np.zeros((len(starts), *out.shape))
    groups = []
    for begin in range(0, len(starts), at_once):
        rows = np.arange(begin, min(begin + at_once, len(starts)))
        full = np.resize(rows, at_once)  # the last group repeats: one size compiles once
        groups.append(
            _descend(objective, starts[full], shifts[full], rows, most_steps, tolerance, log)
        )
    parts = [np.concatenate([group[k] for group in groups]) for k in range(4)]
    return Minima(*parts, evaluations=sum(group[4] for group in groups))


def _descend(objective, starts, shifts, rows, most_steps, tolerance, log):
    latents, shifts = jnp.asarray(starts), jnp.asarray(shifts)
    tolerance = jnp.asarray(tolerance)  # a number would compile anew at every value
    kept = _begin(objective, latents, shifts, tolerance)
    best, lowest = np.array(starts), np.full(len(starts), np.inf)
    ended, steps, stuck = np.zeros(len(starts), bool), np.zeros(len(starts), int), 0
    count = 0
    for number in range(most_steps):
        latents, kept, told = _advance(objective, latents, shifts, kept, tolerance)
        end, cost, accepted, since = (np.asarray(x) for x in told)
        count += len(rows)
        better = cost < lowest
        best[better], lowest[better] = np.asarray(latents)[better], cost[better]
        steps, stuck = accepted, since
        ended |= end | (stuck >= 8)  # no step helps any more: as low as rounding lets it
        log(
            {
                "stage": "descent",
                "step": number,
                "starts": rows.tolist(),
                "costs": lowest[: len(rows)].tolist(),
            }
        )
        if ended.all():
            break
    n = len(rows)
    return best[:n], lowest[:n], ended[:n], steps[:n], count


def first_order(
    objective: Objective,
    start: Float[np.ndarray, " latents"],
    *,
    steps: int = 100,
    rate: float = 0.05,
    method: optax.GradientTransformation | None = None,
    log: Log = quiet,
) -> Minima:
    """Steps along gradients (optax; Adam by default), for losses that are no sum of squares.

    Args:
        objective: its cost is minimised.
        start: [latents].
        steps: number of them.
        rate: of learning, in latents.
        method: any of optax.
        log: takes a dictionary a step.

    Returns:
        The lowest point that was met.
    """
    chain = optax.chain(
        optax.zero_nans(), optax.clip_by_global_norm(1e3), method or optax.adam(rate)
    )
    latent = jnp.asarray(start, float)
    state = chain.init(latent)
    best, lowest, advance = np.asarray(latent), np.inf, jax.jit(chain.update)
    for number in range(steps):
        cost, gradient = slopes(objective, latent)
        if float(cost) < lowest:
            best, lowest = np.asarray(latent), float(cost)
        log({"stage": "gradient", "step": number, "cost": float(cost)})
        update, state = advance(gradient, state, latent)
        latent = latent + update
    one = np.array([True])
    return Minima(best[None], np.array([lowest]), ~one, np.array([steps]), steps)


def total(first: Minima, second: Minima) -> Minima:
    """Both lists of minima."""
    parts = [np.concatenate([a, b]) for a, b in zip(first[:4], second[:4], strict=True)]
    return Minima(*parts, evaluations=first.evaluations + second.evaluations)


def sorted_minima(found: Minima) -> Minima:
    """The minima, the lowest first."""
    order = np.argsort(found.costs)
    return Minima(*(part[order] for part in found[:4]), evaluations=found.evaluations)
