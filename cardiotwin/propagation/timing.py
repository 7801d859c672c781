"""Where the time of a run goes: parts of a time step, each timed by itself."""

import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .observe import AbstractObservable
from .scheme import AbstractStep, Prepared

REPEATS = 5


class Taken(NamedTuple):
    """Steps that a run has taken."""

    short: int  # time steps outside quiet windows
    quiet: int  # longer ones, in quiet windows
    stride: int  # short ones in a longer one
    busy: float | None  # share of the nodes in short steps; None where all are


def time_of_parts(
    prepared: Prepared,
    longer: Prepared | None,
    observe: dict[str, AbstractObservable],
    v: Any,
    observed: dict[str, Any],
    taken: Taken,
    loop_s: float,
) -> dict[str, float]:
    """Seconds of a loop that went into diffusion, observables and, the rest, the ionic step.

    The compiled loop fuses what it can and cannot be stopped in between. So one parabolic step and
    one update of the observables are run by themselves, a few times, and multiplied by the steps
    taken. With nodes divided, diffusion counts by their shares.

    Args:
        prepared: of the time step.
        longer: of the longer one, if the run has any.
        observe: observables by name.
        v: any voltage, in the order of the solver.
        observed: what each observable carries.
        taken: steps that the run has taken.
        loop_s: of the whole loop, without callbacks.
    """
    t = jnp.zeros((), v.dtype)

    def diffuse(step, v):
        return step(v, step.flux(v))

    def update(observed, old, new):
        return {
            name: observe[name].update(value, old, new, t, prepared.dt)
            for name, value in observed.items()
        }

    # the matrix is an argument: a constant would be folded into the program
    one = _time(diffuse, prepared.diffuse, v)
    longer_one = 0.0 if longer is None else _time(diffuse, longer.diffuse, v)
    seen = _time(update, observed, v, v + 1) if observed else 0.0
    diffusion = taken.short * one + taken.quiet * longer_one
    if taken.busy is not None:
        everywhere = type(prepared.diffuse).local is AbstractStep.local
        share = 1.0 if everywhere else taken.busy
        held = 0.0 if everywhere else longer_one / taken.stride
        diffusion = taken.short * (share * one + held) + taken.quiet * longer_one
    observing = (taken.short + taken.quiet) * seen
    # on a few thousand nodes calls by themselves cost more than what they do
    shrink = min(1.0, loop_s / max(diffusion + observing, 1e-12))
    diffusion, observing = shrink * diffusion, shrink * observing
    return {
        "ionic_s": max(0.0, loop_s - diffusion - observing),  # rounding may leave less than none
        "diffusion_s": diffusion,
        "observables_s": observing,
    }


def _time(function, *arguments) -> float:
    """Shortest of several calls, compiled."""
    run = eqx.filter_jit(function)
    jax.block_until_ready(run(*arguments))
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)
