"""An eikonal heart that agrees with the monodomain of the same twin, from one run of it.

Where the two differ has physical reasons, each of one number. A stimulus takes a millisecond or
two until the muscle fires. A fast layer that is thin is loaded by the slow muscle beside it, and
carries a wave at two thirds to three quarters of the velocity of a plane one. And on a coarse mesh
waves that run obliquely to the fibres, or that bend, travel slower than those it was tuned to.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array
from cardiotwin.propagation.velocity import VelocityTarget

from .eikonal import EikonalFit, EikonalHeart, compare_times

MOST_ROUNDS = 12
LEAST_CHANGE = 3e-3  # of the logarithms of velocities, and ms: the search ends
WIDEST_STEP = 0.4  # of the logarithm of a velocity in one round
STARTING_CAPTURE = 1.0  # ms
SHRINKS = 4  # halvings of a step that makes the fit worse


class Matched(NamedTuple):
    """An eikonal heart matched to other activation times.

    Attributes:
        heart: with the velocities and the capture that fit best.
        fit: how well it matches.
        before: how well it did with the velocities it had.
        factors: by layer, the factors on the velocities along and across the fibres.
        capture: ms.
        rounds: of the search.
    """

    heart: EikonalHeart
    fit: EikonalFit
    before: EikonalFit
    factors: dict[str, tuple[float, float]]
    capture: float
    rounds: int


def match(heart: EikonalHeart, activation: Float[type_array, " nodes"]) -> Matched:
    """Fit velocities and capture to the activation times of one run of the monodomain.

    One factor on the velocity along the fibres and one on those across in every layer (a single
    one where a layer conducts alike in all directions), and the capture: least squares over all
    nodes that both reach, by Gauss-Newton. The matched heart then holds for other stimuli,
    velocities and onsets in the neighbourhood, at the cost of an eikonal.

    Args:
        heart: with the stimulus of the run, see `EikonalHeart.stimulated`.
        activation: [nodes] ms; NaN or infinite where the run activated nothing.

    Raises:
        ValueError: times of another mesh, or hardly any node activated.
    """
    wanted = np.asarray(activation, float)
    if wanted.shape != (heart.mesh.nodes,):
        raise ValueError(
            f"match: got activation times of shape {wanted.shape} for a heart of "
            f"{heart.mesh.nodes} nodes; give those of a run on the same mesh."
        )
    groups = _groups(heart)
    seen = np.isfinite(wanted)
    if seen.sum() <= len(groups) + 1:
        raise ValueError(
            f"match: {int(seen.sum())} of {seen.size} nodes are activated, too few to fit "
            f"{len(groups) + 1} numbers; let the run last until the heart is activated."
        )
    start = np.append(np.zeros(len(groups)), max(float(heart.capture), STARTING_CAPTURE))
    before = compare_times(_look(heart, groups, np.zeros(len(start)))[0], wanted)
    theta, times, rounds = _search(heart, groups, wanted, start)
    factors = {}
    for name in heart.velocity:
        own = [k for k, (layer, _) in enumerate(groups) if layer == name]
        factors[name] = (float(np.exp(theta[own[0]])), float(np.exp(theta[own[-1]])))
    matched = _with(heart, groups, jnp.asarray(theta, heart.capture.dtype))
    fit = compare_times(times, wanted)
    return Matched(matched, fit, before, factors, float(theta[-1]), rounds)


def _groups(heart: EikonalHeart) -> list[tuple[str, tuple[int, ...]]]:
    """Layer and axes of every factor; layers without elements have none."""
    present = np.unique(np.asarray(heart.layer))
    groups: list[tuple[str, tuple[int, ...]]] = []
    for number, (name, target) in enumerate(sorted(heart.velocity.items())):
        alike = len({float(v) for v in target}) == 1 or number not in present
        groups += [(name, axes) for axes in (((0, 1, 2),) if alike else ((0,), (1, 2)))]
    return groups


def _with(heart: EikonalHeart, groups, theta: Array) -> EikonalHeart:
    """The heart with other velocities and another capture."""
    velocity = {name: list(target) for name, target in heart.velocity.items()}
    for k, (name, axes) in enumerate(groups):
        for axis in axes:
            velocity[name][axis] = velocity[name][axis] * jnp.exp(theta[k])
    changed = {name: VelocityTarget(*values) for name, values in velocity.items()}
    return eqx.tree_at(lambda h: (h.velocity, h.capture), heart, (changed, theta[-1]))


@eqx.filter_jit
def _times_and_slopes(heart: EikonalHeart, groups, theta: Array) -> tuple[Array, Array]:
    def times(theta):
        found = _with(heart, groups, theta).times()
        return found, found

    slopes, found = jax.jacfwd(times, has_aux=True)(theta)
    return found, slopes


def _look(heart: EikonalHeart, groups, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times [nodes] and their derivatives [nodes, numbers]: one program for both."""
    found = _times_and_slopes(heart, groups, jnp.asarray(theta, heart.capture.dtype))
    times, slopes = (np.asarray(x, float) for x in found)
    return times, slopes


def _search(heart, groups, wanted, theta) -> tuple[np.ndarray, np.ndarray, int]:
    """Gauss-Newton with steps that are halved where they make the fit worse."""

    def missing(times: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(wanted) & np.isfinite(times), times - wanted, 0.0)

    times, slopes = _look(heart, groups, theta)
    for done in range(1, MOST_ROUNDS + 1):
        left = missing(times)
        # a factor that moves no time keeps its value
        step = -np.linalg.lstsq(np.where(left[:, None] == 0, 0.0, slopes), left, rcond=1e-6)[0]
        step[:-1] = np.clip(step[:-1], -WIDEST_STEP, WIDEST_STEP)
        for _ in range(SHRINKS):
            trial, steeper = _look(heart, groups, theta + step)
            if np.linalg.norm(missing(trial)) < np.linalg.norm(left):
                break
            step = 0.5 * step
        else:
            return theta, times, done
        theta, times, slopes = theta + step, trial, steeper
        if np.abs(step).max() < LEAST_CHANGE:
            return theta, times, done
    return theta, times, MOST_ROUNDS
