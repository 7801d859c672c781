"""Many cases of one mesh at once, refused beforehand where they do not fit into memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiotwin._memory import host_memory

GIB = 2.0**30
# Share of the free memory that a batch may take; the rest is for what else the process holds.
SHARE = 0.9


def ensemble(
    run: Callable[[Any], Any],
    cases: Any,
    *,
    at_once: int | None = None,
    memory: float | None = None,
) -> Any:
    """Map a run over cases: `jax.vmap`, compiled once, its memory known before it starts.

    What the cases have in common, mesh and matrices first of all, is held once.

    Args:
        run: one case -> a PyTree of arrays, such as a function that calls `solve` and returns what
            it observed, or the gradient of one.
        cases: PyTree of arrays whose first axis counts the cases.
        at_once: cases of one batch; all when left out. Batches follow each other.
        memory: bytes that may be used; what is free on the device when left out.

    Returns:
        The results, stacked along a first axis.

    Raises:
        ValueError: no cases, axes of different length, or a batch that does not fit; the message
            says what it needs and how many cases fit.
    """
    count = _count(cases)
    size = count if at_once is None else at_once
    if not 1 <= size <= count:
        raise ValueError(f"at_once is {at_once}; give 1 to {count}, the number of cases.")
    batch = jax.jit(jax.vmap(run))
    programs = {}
    results = []
    for start in range(0, count, size):
        part = jax.tree.map(lambda leaf, a=start: jnp.asarray(leaf)[a : a + size], cases)
        length = min(size, count - start)
        if length not in programs:
            programs[length] = batch.lower(part).compile()
            _check_fit(batch, part, programs[length], length, memory)
        results.append(programs[length](part))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)


def _count(cases: Any) -> int:
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(cases)}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            f"The cases have first axes of lengths {sorted(lengths)}; give arrays that all hold "
            "one entry a case, and at least one case."
        )
    return lengths.pop()[0]


def _check_fit(batch, part, program, length: int, memory: float | None) -> None:
    free = free_memory() if memory is None else memory
    needed = program_memory(program)
    if free is None or needed <= SHARE * free or (length == 1 and needed <= free):
        return
    # two sizes give what each further case costs
    half = max(1, length // 2)
    smaller = program_memory(batch.lower(jax.tree.map(lambda leaf: leaf[:half], part)).compile())
    each = (needed - smaller) / max(1, length - half)
    shared = needed - length * each
    fits = int((SHARE * free - shared) // each) if each > 0 else 0
    remedy = (
        f"give at_once={fits}"
        if fits >= 1
        else "one case alone is too large: take fewer steps or frames, or a coarser mesh"
    )
    raise ValueError(
        f"A batch of {length} cases needs {needed / GIB:.3g} GiB ({shared / GIB:.3g} GiB shared "
        f"and {each / GIB:.3g} GiB a case), and {free / GIB:.3g} GiB is free, of which "
        f"{SHARE:.0%} may be taken: {max(fits, 0)} cases fit; {remedy}."
    )


def program_memory(program: jax.stages.Compiled) -> float:
    """Bytes that a compiled program needs: arguments, results and temporary arrays."""
    found = program.memory_analysis()
    if found is None:
        return 0.0
    return float(
        found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    )


def free_memory() -> float | None:
    """Bytes free on the first device: of the accelerator, or of the host for the CPU."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return float(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0))
    host = host_memory()
    return None if host is None else host[1]
