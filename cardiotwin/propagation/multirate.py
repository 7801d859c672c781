"""Short time steps where a wave passes, longer ones everywhere else.

A wavefront fills a small part of the tissue, and only there are time steps of hundredths of a
millisecond needed. For a window of about a millisecond the nodes are divided: those that rose in
the window before, and be it as little as the foot of a wave does, those that a stimulus reaches,
and their neighbours take every time step. The others take one step in several, and move evenly in
between. What was left out of the short steps and depolarised nevertheless is found at the end of
the window, which is then repeated with all nodes in short steps: the division can cost time, and
never a wave.

The nodes in short steps are gathered into dense arrays once a window (`numerics.subset`), with
their rows of the matrices where the parabolic step can do with some of the rows; an implicit one,
and any on a voxel grid, goes on diffusing on all nodes in every step. There the whole tissue takes
the short step, or none of it does, on a GPU.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from cardiotwin.numerics.rows import AbstractOperator
from cardiotwin.numerics.subset import Subset, fits, subset
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
    neighbours: AbstractOperator,
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


def pays(neighbours: AbstractOperator, division: Division) -> Bool[Array, ""]:
    """Whether the busy nodes are few enough to be gathered."""
    return fits(neighbours.row_columns(), division.rim)


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
    bare = eqx.tree_at(lambda p: p.diffuse, prepared, None, is_leaf=lambda x: x is None)
    busy = jax.tree.map(rows.take, bare)

    def short_steps(level, first, v, dense, change, observed):
        """`stride` short steps, in arrays of the room of a level."""
        here, cut = rows.at(level), partial(rows.cut, level=level)
        near, cells = None if local is None else local.at(level), jax.tree.map(cut, busy)

        def short(i, carry):
            v, dense, observed = carry
            base = v if near is not None else prepared.diffuse(v, prepared.diffuse.flux(v))

            def join(inner, share=1.0):
                return here.join(inner, base + share * change)

            diffused = here.take(base) if near is None else near(v, join)
            dense = Dense(*cells.react(diffused, dense.cell, step(i), 1.0))
            new = join(dense.v)
            return new, dense, fold(observed, v, new, i)

        carry = (v, jax.tree.map(cut, dense), observed)
        v, part, observed = jax.lax.fori_loop(first, first + stride, short, carry)
        return v, jax.tree.map(partial(rows.put, level=level), dense, part), observed

    def long(j, carry):
        v, cell, dense, observed = carry
        start = v if local is None else longer.diffuse(v, longer.diffuse.flux(v))
        moved, cell = longer.react(start, cell, step(j * stride), 1.0)
        v, dense, observed = jax.lax.switch(
            rows.level,
            [partial(short_steps, level) for level in range(rows.largest + 1)],
            j * stride,
            v,
            dense,
            (moved - v) / stride,
            observed,
        )
        return v, cell, dense, observed

    dense = jax.tree.map(rows.take, Dense(state.v, state.cell))
    start = (state.v, state.cell, dense, observed)
    v, cell, dense, observed = jax.lax.fori_loop(0, steps // stride, long, start)
    return State(v, jax.tree.map(rows.join, dense.cell, cell)), observed


def subset_of(neighbours: AbstractOperator, division: Division) -> Subset:
    """The busy nodes, in dense arrays."""
    return subset(neighbours.row_columns(), *division)
