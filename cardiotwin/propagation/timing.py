"""Where the time of a run goes: parts of a time step, each timed by itself."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .observe import AbstractObservable
from .scheme import Prepared

REPEATS = 5


def time_of_parts(
    prepared: Prepared, observe: dict[str, AbstractObservable], v: Any, observed: dict[str, Any]
) -> dict[str, float]:
    """Seconds that one parabolic step and one update of the observables take, by themselves.

    The loop fuses what it can, and the ionic step takes long to compile; so these two are measured,
    and what is left of the loop is the ionic step.

    Args:
        prepared: of the scheme.
        observe: observables by name.
        v: any voltage, in the order of the solver.
        observed: what each observable carries.
    """
    t = jnp.zeros((), v.dtype)

    def update(observed, old, new):
        return {
            name: observe[name].update(value, old, new, t, prepared.dt)
            for name, value in observed.items()
        }

    # the matrix is an argument: a constant would be folded into the program
    return {
        "diffusion_s": _time(lambda step, v: step(v), prepared.diffuse, v),
        "observables_s": _time(update, observed, v, v + 1) if observed else 0.0,
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
