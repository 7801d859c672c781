"""Short time steps where a wave passes, longer ones everywhere else.

A wavefront fills a small part of the tissue, and only there are time steps of hundredths of a
millisecond needed. For a window of about a millisecond the nodes are divided: those that rose in
the window before, and be it as little as the foot of a wave does, those that a stimulus reaches,
and their neighbours take every time step. The others take one step in several, and move evenly in
between. What was left out of the short steps and depolarised nevertheless is found at the end of
the window, which is then repeated with all nodes in short steps: the division can cost time, and
never a wave.

The nodes in short steps are gathered into dense arrays once a window (`numerics.subset`), with
their rows of the matrices where the parabolic step can do with some of the rows; an implicit one
goes on diffusing on all nodes in every step. There the whole tissue takes the short step, or none
of it does, on a GPU.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from cardiotwin.numerics.rows import DifferenceOperator
from cardiotwin.numerics.subset import Subset, fits, in_memory, piece, subset, write
from cardiotwin.tissue.stimulus import pulsing_nodes

from .scheme import Prepared, State

# The tissue is quiet where no node rises faster: ten times less than a front's foot as it reaches
# threshold, more than the recovery of the notch (0.5 mV/ms).
QUIET_RISE = 1.0  # mV/ms
# At rest, a node that rises faster is in the foot of a wave.
FOOT_RISE = 0.05  # mV/ms


class Division(NamedTuple):
    """Which nodes take the short steps of a window."""

    busy: Bool[Array, " nodes"]
    rim: Bool[Array, " nodes"]  # with the neighbours of all


def rising(
    v: Float[Array, " nodes"], before: Float[Array, " nodes"], time: Any, threshold: float
) -> tuple[Bool[Array, " nodes"], Bool[Array, ""]]:
    """Nodes that a wave is reaching, and whether one is there at all.

    Args:
        v: voltage at the end of a window, mV.
        before: voltage at its beginning, mV.
        time: its length, ms.
        threshold: of activation, mV; below it also the foot of a wave counts.
    """
    rise = v - before
    # not finite counts as rising
    fast = ~(rise <= QUIET_RISE * time)
    return fast | ((rise > FOOT_RISE * time) & (v < threshold)), fast.any()


def divide(
    neighbours: DifferenceOperator,
    prepared: Prepared,
    rising: Bool[Array, " nodes"],
    begin: Array,
    end: Array,
    hops: int,
) -> Division:
    """Find the nodes that need short steps from `begin` to `end` (ms).

    Args:
        neighbours: any operator on the edges of the mesh.
        prepared: has the cell and the stimuli.
        rising: nodes that a wave was reaching at `begin`.
        begin: of the window, ms.
        end: of the window, ms.
        hops: neighbours of neighbours to take along.
    """
    busy = rising | pulsing_nodes(prepared.pulses, begin, end)
    busy = jax.lax.fori_loop(0, hops, lambda _, x: neighbours.touched(x), busy)
    return Division(busy, neighbours.touched(busy))


def pays(neighbours: DifferenceOperator, division: Division) -> Bool[Array, ""]:
    """Whether the busy nodes are few enough to be gathered."""
    return fits(neighbours.columns, division.rim)


class Dense(NamedTuple):
    """The cells in short steps, in dense arrays."""

    v: Float[Array, " dense"]
    cell: Any


def mixed_steps(
    rows: Subset,
    prepared: Prepared,
    longer: Prepared,
    state: State,
    step: Any,
    seen: Any,
    stride: int,
    steps: int,
):
    """Advance a window of `steps` time steps, the idle nodes once every `stride` of them.

    Args:
        rows: the busy nodes.
        prepared: of the short step.
        longer: of the long one, `stride` short ones.
        state: at the beginning.
        step: number of the first step -> its time, ms.
        seen: folds a step into what is observed: (observed, v_old, v_new, i) -> observed; given as
            a pair of the function and the observed at the beginning.
        stride: short steps in a long one.
        steps: short steps in the window, a multiple of `stride`.

    Returns:
        The state at the end and what was observed.
    """
    fold, observed = seen
    local = prepared.diffuse.local(rows)
    react = _reaction(rows, prepared)

    def short(i, carry, change):
        v, dense, observed = carry

        def join(inner, share=1.0):
            return rows.join(inner, base + share * change)

        if local is None:
            base = prepared.diffuse(v, prepared.diffuse.flux(v))
            diffused = rows.take(base)
        else:
            base = v
            diffused = local(v, join)
        dense = react(diffused, dense, step(i))
        new = join(dense.v)
        return new, dense, fold(observed, v, new, i)

    def long(j, carry):
        v, cell, dense, observed = carry
        start = v if local is None else longer.diffuse(v, longer.diffuse.flux(v))
        moved, cell = longer.react(start, cell, step(j * stride), 1.0)
        change = (moved - v) / stride
        v, dense, observed = jax.lax.fori_loop(
            j * stride,
            (j + 1) * stride,
            lambda i, c: short(i, c, change),
            (v, dense, observed),
        )
        return v, cell, dense, observed

    dense = jax.tree.map(rows.take, Dense(state.v, state.cell))
    start = (state.v, state.cell, dense, observed)
    v, cell, dense, observed = jax.lax.fori_loop(0, steps // stride, long, start)
    return State(v, jax.tree.map(rows.join, dense.cell, cell)), observed


def _reaction(rows: Subset, prepared: Prepared):
    """The ionic step of the busy nodes, chunk by chunk."""
    bare = eqx.tree_at(lambda p: p.diffuse, prepared, None, is_leaf=lambda x: x is None)
    busy = jax.tree.map(rows.take, bare)

    def react(diffused, dense, t):
        def chunk(k, dense):
            cut = piece(rows.chunks[k])
            part = jax.tree.map(cut, busy)
            before = Dense(cut(diffused), jax.tree.map(cut, dense.cell))
            after = in_memory(lambda x: Dense(*part.react(x.v, x.cell, t, 1.0)), before, rows.count)
            return write(dense, after, rows.chunks[k])

        return jax.lax.fori_loop(0, rows.count, chunk, dense)

    return react


def subset_of(neighbours: DifferenceOperator, division: Division) -> Subset:
    """The busy nodes, in dense arrays."""
    return subset(neighbours.columns, *division)
