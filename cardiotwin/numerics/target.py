"""Loops over few alike stages, in the form that suits the device a program is written for.

On a GPU a loop within a time step costs a kernel for its counter, one for every coefficient that it
looks up, and copies of what it carries; written out it costs none of these. On a CPU the loop has
to stay: there XLA fuses a gather with what it gathers from, and works that out anew for every
neighbour.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

# More stages than these stay in a loop: a program grows with every stage written out.
MOST_WRITTEN_OUT = 16

_named: ContextVar[str | None] = ContextVar("platform", default=None)


@contextmanager
def written_for(platform: str) -> Iterator[None]:
    """Within, programs are traced for a platform ("cpu", "gpu") that need not be present."""
    token = _named.set(platform)
    try:
        yield
    finally:
        _named.reset(token)


def on_gpu() -> bool:
    """Whether the program being traced is for a GPU: the platform named, or JAX's own."""
    named = _named.get()
    if named is None:
        chosen: Any = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
        named = getattr(chosen, "platform", chosen) or jax.default_backend()
    return named in ("gpu", "cuda", "rocm")


def threads() -> int:
    """Threads among which XLA shares out the work of one device: the processor's cores, or 1."""
    if on_gpu():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def evenly(count: int) -> int:
    """The smallest number of entries, from `count` on, that the threads divide.

    XLA shares the entries of an array out over the threads; where these do not divide their number,
    its loops are not vectorised, and take several times as long.
    """
    return -(-count // threads()) * threads()


def in_memory(values: Any) -> Any:
    """The values themselves; a GPU writes them to memory, as has to be before they are gathered."""
    return jax.lax.optimization_barrier(values) if on_gpu() else values


def repeat(count: int, stage: Callable[[Any, Any], Any], start: Any) -> Any:
    """What comes out of the last of some stages: stage(1, stage(0, start)) of two.

    Args:
        count: number of stages.
        stage: number of the stage and what is carried -> what is carried on.
        start: what the first stage gets.
    """
    if not on_gpu() or count > MOST_WRITTEN_OUT:
        return jax.lax.fori_loop(0, count, stage, start)
    carry = start
    for k in range(count):
        carry = stage(k, in_memory(carry) if k else carry)
    return carry
