"""Short time steps where a wave passes, longer ones everywhere else.

A wavefront fills a small part of the tissue, and only there does the cell need a time step of
hundredths of a millisecond. For a window of about a millisecond the nodes are divided: those that
rose in the window before, those that a stimulus reaches, and those whose turn may come (within a
number of neighbours of such a node, and not yet depolarised) take every time step; the cells of all
others take one step in several, and hold their current in between. Diffusion acts on all nodes in
every step. What was left out of the short steps and depolarised nevertheless is found at the end of
the window, which is then repeated with all nodes in short steps: the division can cost time, and
never a wave.

The cells in short steps are gathered into dense arrays once a window, and advanced in chunks, as
many as are needed: a loop whose length depends on the data. That suits a CPU. A GPU would ask the
host in every trip; there the whole tissue takes the short step, or none of it does.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiotwin.numerics.rows import DifferenceOperator
from cardiotwin.tissue.stimulus import pulsing_nodes

from .scheme import Prepared, State

# Beyond this share of the nodes the gathering costs more than it saves.
MOST_BUSY = 0.5
# Nodes advanced at a time: enough for every core, few enough that little is computed in vain.
CHUNK = 4096


class Division(NamedTuple):
    """Which nodes take the short steps of a window, and where they lie in the dense arrays."""

    busy: Bool[Array, " nodes"]
    place: Int[Array, " nodes"]  # in the dense arrays, where busy
    nodes: Int[Array, " dense"]  # row of each entry of the dense arrays; padding repeats a row
    count: Int[Array, ""]


def room(nodes: int) -> int:
    """Length of the dense arrays."""
    chunk = min(CHUNK, nodes)
    return -(-int(MOST_BUSY * nodes) // chunk) * chunk


def busy_nodes(
    neighbours: DifferenceOperator,
    prepared: Prepared,
    v: Float[Array, " nodes"],
    rising: Bool[Array, " nodes"],
    begin: Array,
    end: Array,
    hops: int,
) -> Bool[Array, " nodes"]:
    """Nodes that need short steps from `begin` to `end` (ms).

    Args:
        neighbours: any operator on the edges of the mesh.
        prepared: has the cell and the stimuli.
        v: voltage at `begin`, mV.
        rising: nodes that depolarised in the window before.
        begin: of the window, ms.
        end: of the window, ms.
        hops: neighbours of neighbours that a wave may reach within the window.
    """
    seeds = rising | pulsing_nodes(prepared.pulses, begin, end)
    # nodes that have just depolarised still follow their neighbours; further behind all is slow
    beside = neighbours.touched(seeds)
    near = jax.lax.fori_loop(1, hops, lambda _, x: neighbours.touched(x), beside)
    return beside | (near & (v < prepared.cell.activation_threshold))


def divide(busy: Bool[Array, " nodes"]) -> Division:
    """Number the busy nodes through."""
    n = busy.shape[0]
    rank = jnp.cumsum(busy, dtype=jnp.int32)
    # the k-th busy node is the first whose rank is k + 1
    nodes = jnp.searchsorted(rank, jnp.arange(1, room(n) + 1, dtype=jnp.int32))
    return Division(busy, rank - 1, jnp.minimum(nodes, n - 1).astype(jnp.int32), rank[-1])


class Dense(NamedTuple):
    """The cells in short steps, in dense arrays."""

    v: Float[Array, " dense"]
    cell: Any


def mixed_steps(
    division: Division,
    prepared: Prepared,
    longer: Prepared,
    state: State,
    step: Any,
    seen: Any,
    stride: int,
    steps: int,
):
    """Advance a window of `steps` time steps, the idle cells once every `stride` of them.

    Args:
        division: which cells are busy.
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
    here = _take(division.nodes)
    cell, pulses = jax.tree.map(here, (prepared.cell, prepared.pulses))
    local = Prepared(None, cell, pulses, prepared.dt)
    dense = jax.tree.map(here, Dense(state.v, state.cell))
    chunk = min(CHUNK, state.v.shape[0])
    chunks = -(-division.count // chunk)

    def react(k, carry, diffused, t):
        dense, *_ = carry
        piece = _slice(k * chunk, chunk)
        cell, pulses = jax.tree.map(piece, (local.cell, local.pulses))
        part = Prepared(None, cell, pulses, prepared.dt)
        v = diffused[piece(division.nodes)]
        new = Dense(*part.react(v, jax.tree.map(piece, dense.cell), t, 1.0))
        dense = jax.tree.map(
            lambda whole, x: jax.lax.dynamic_update_slice(whole, x, (k * chunk,)), dense, new
        )
        return (dense,)

    def short(i, carry, change):
        v, flux, dense, observed = carry
        diffused = prepared.diffuse(v, flux)
        t = step(i)
        (dense,) = jax.lax.fori_loop(0, chunks, lambda k, c: react(k, c, diffused, t), (dense,))
        new = jnp.where(division.busy, dense.v[division.place], diffused + change)
        observed = fold(observed, v, new, i)
        return new, prepared.diffuse.flux(new), dense, observed

    def long(j, carry):
        v, cell, flux, dense, observed = carry
        moved, cell = longer.react(v, cell, step(j * stride), 1.0)
        change = (moved - v) / stride
        v, flux, dense, observed = jax.lax.fori_loop(
            j * stride,
            (j + 1) * stride,
            lambda i, c: short(i, c, change),
            (v, flux, dense, observed),
        )
        return v, cell, flux, dense, observed

    start = (state.v, state.cell, prepared.diffuse.flux(state.v), dense, observed)
    v, cell, _, dense, observed = jax.lax.fori_loop(0, steps // stride, long, start)
    cell = jax.tree.map(
        lambda idle, busy: jnp.where(division.busy, busy[division.place], idle), cell, dense.cell
    )
    return State(v, cell), observed


def _take(nodes: Int[Array, " dense"]):
    """Entries of the leaves that have one per node; the others as they are."""
    return lambda leaf: leaf[nodes] if jnp.ndim(leaf) == 1 else leaf


def _slice(start: Array, length: int):
    def piece(leaf):
        return jax.lax.dynamic_slice(leaf, (start,), (length,)) if jnp.ndim(leaf) == 1 else leaf

    return piece
