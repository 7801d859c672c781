"""Another stimulus while a run goes on: what comes out of the muscle decides what goes into it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiotwin.numerics.concrete import known
from cardiotwin.tissue.stimulus import AbstractStimulus, reorder

from .devices import evened
from .problem import System
from .windows import Loop

# From a frame (see `solve`): the stimulus from now on, or None for the same as before.
Restimulate = Callable[[Any], AbstractStimulus | None]


def restimulated(loop: Loop, system: System, stimulus: AbstractStimulus) -> Loop:
    """The loop of a run on one device with another stimulus.

    Args:
        loop: of the run.
        system: what it solves.
        stimulus: of as many parts as the one that it takes the place of.

    Raises:
        ValueError: it has another number of parts.
    """
    old = loop.prepared.pulses
    points = np.asarray(known(system.points))[np.asarray(system.pattern.rank)]
    parts = stimulus.pulses(points)
    if len(parts) != len(old):
        raise ValueError(
            f"restimulate returned a stimulus of {len(parts)} parts in place of one of {len(old)}; "
            "return one that is made like the problem's."
        )
    pulses = reorder(parts, system.pattern.order, loop.prepared.dt.dtype)
    even = evened(system.nodes)
    if even is not None:
        pulses = even.arrange(pulses)
    return _stimulated(
        loop, jax.tree.map(lambda new, leaf: jnp.asarray(new, leaf.dtype), pulses, old)
    )


def ready_for_another(loop: Loop) -> Loop:
    """The same loop, its pulses held once: as they are held when another stimulus takes over.

    A compiled loop takes what is made like the loop that it was compiled for, and arrays that are
    held once and twice are not alike.
    """
    return _stimulated(loop, jax.tree.map(jnp.copy, loop.prepared.pulses))


def _stimulated(loop: Loop, pulses: Any) -> Loop:
    prepared, quiet = (_with(part, pulses) for part in (loop.prepared, loop.quiet))
    return loop._replace(prepared=prepared, quiet=quiet)


def _with(prepared: Any, pulses: Any) -> Any:
    if prepared is None:
        return None
    return type(prepared)(prepared.diffuse, prepared.cell, pulses, prepared.dt, prepared.ionic_step)
