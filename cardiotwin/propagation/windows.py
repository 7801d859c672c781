"""A frame of the time loop: windows of about a millisecond, each in steps that suit it."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cardiotwin.numerics.rows import row_sums
from cardiotwin.numerics.target import on_gpu
from cardiotwin.numerics.together import all_of_batch
from cardiotwin.tissue.stimulus import pulsing

from . import multirate
from .adjoint import FORWARD, Plan
from .devices import Layout
from .observe import AbstractObservable
from .problem import System
from .scheme import AbstractScheme, Prepared, State
from .times import stride_of, window_steps

# What is counted over the windows (`tally`).
TALLIED = ("quiet", "busy", "repeated")
# On fewer nodes than these dividing them saves nothing.
FEWEST_NODES = 4000
# A wave that is thought to run further than this many edges in a window is not divided off.
MOST_HOPS = 16


class Loop(NamedTuple):
    """What the compiled loop reads and does not change."""

    prepared: Prepared
    quiet: Prepared | None  # for the longer steps of quiet windows
    observe: dict[str, AbstractObservable]
    layout: Layout


class Windows(NamedTuple):
    """How a frame is divided: all of it fixed before the loop is compiled."""

    steps: int  # time steps of a window
    windows: int  # of a frame
    stride: int  # time steps in one step of a quiet window
    hops: int | None  # how far a wave comes in a window, if only part of the nodes goes on in short


def windows_of(
    system: System, steps: int, dt: float, quiet_dt: float | None, dividing: bool
) -> Windows:
    """Divide the frames of a run of `steps` time steps each."""
    if quiet_dt is None:
        return Windows(steps, 1, 1, None)
    window = window_steps(steps, dt)
    stride = stride_of(quiet_dt, dt, window)
    hops = None
    if dividing and stride > 1 and system.nodes >= FEWEST_NODES:
        hops = _hops(system, window * dt)
    return Windows(window, steps // window, stride, hops)


class Span(NamedTuple):
    """A frame to advance by, from step number `first`."""

    scheme: AbstractScheme
    plan: Windows
    reverse: Plan
    loop: Any  # a `Loop`; shared where it enters a compiled program
    first: Array

    def unpacked(self) -> "Span":
        """With the loop itself."""
        return self._replace(loop=self.loop.unpack())


class Carry(NamedTuple):
    """What changes from frame to frame."""

    state: State
    observed: dict[str, Any]
    rising: Array  # which nodes a wave was reaching in the last window
    wave: Array  # whether there was one


def advance_frame(span: Span, carry: Carry):
    """Advance by one frame, window by window."""
    plan, loop, first = span.plan, span.loop, span.first

    def window(i, so_far):
        carry, tally = so_far
        carry, more = _window(span._replace(first=first + i * plan.steps), carry)
        return carry, jax.tree.map(jnp.add, tally, more)

    tally = no_tally(carry.state.v)
    if plan.windows == 1:
        carry, tally = window(0, (carry, tally))
    else:
        carry, tally = jax.lax.fori_loop(0, plan.windows, window, (carry, tally))
    v, outputs, check = look_at(loop, carry, first + plan.windows * plan.steps)
    return carry, v, outputs, {**check, **tally}


def no_tally(v: Array) -> dict[str, Array]:
    """What is counted over the windows of a frame: nothing yet."""
    return {
        "quiet": jnp.zeros((), jnp.int32),  # windows in longer steps
        "busy": jnp.zeros((), v.dtype),  # share of the nodes in short steps, summed
        "repeated": jnp.zeros((), jnp.int32),  # windows that had to be repeated
    }


def _window(span: Span, carry: Carry):
    """Advance by one window: in longer steps where nothing depolarises, by dt where a wave is."""
    plan, loop, first = span.plan, span.loop, span.first
    dt = loop.prepared.dt
    before = carry.state.v
    one = jnp.ones((), before.dtype)
    start = (carry.state, carry.observed)

    def all_nodes(prepared, stride):
        return lambda state, observed: _frame(span, prepared, stride, state, observed)

    short = all_nodes(loop.prepared, 1)
    if loop.quiet is None:
        state, observed = short(*start)
        tally = {"quiet": jnp.int32(0), "busy": one, "repeated": jnp.int32(0)}
    else:
        begin, end = (k.astype(dt.dtype) * dt for k in (first, first + plan.steps))
        quiet = ~carry.wave & ~pulsing(loop.prepared.pulses, begin, end)
        quiet = all_of_batch(quiet)
        longer = all_nodes(loop.quiet, plan.stride)
        if plan.hops is None:
            state, observed = jax.lax.cond(quiet, longer, short, *start)
            busy, repeated = jnp.where(quiet, 0 * one, one), jnp.asarray(False)
        else:
            (state, observed), busy, repeated = _divided(
                span, quiet, (begin, end), carry, longer, short
            )
        tally = {
            "quiet": quiet.astype(jnp.int32),
            "busy": busy,
            "repeated": repeated.astype(jnp.int32),
        }
    threshold = loop.prepared.cell.activation_threshold
    found = multirate.rising(state.v, before, plan.steps * dt, threshold)
    return loop.layout.pin(Carry(state, observed, *found)), tally


# How a window is advanced where nodes can be divided.
LONGER, DIVIDED, SHORT, DONE = range(4)


def _divided(span: Span, quiet, times, carry: Carry, longer, short):
    """Advance a window: a quiet one in longer steps, any other with the nodes divided if that pays.

    Where a division has left a rising node out, the window is advanced again from its beginning,
    with all nodes in short steps. Each way is compiled once, and all leave what they find in the
    same memory: beside the window's beginning there is one more state, not one for each way.
    """
    plan, loop = span.plan, span.loop
    prepared, dt = loop.prepared, loop.prepared.dt
    assert plan.hops is not None
    edges = prepared.diffuse.rate
    start = (carry.state, carry.observed)
    division = jax.lax.cond(
        quiet,
        lambda rising, *_: multirate.Division(*[jnp.zeros_like(rising)] * 2),
        partial(multirate.divide, edges, prepared, hops=plan.hops),
        carry.rising,
        *times,
    )
    pays = ~quiet & multirate.pays(edges, division)
    resting = carry.state.v < prepared.cell.activation_threshold

    ways = (longer, partial(_mixed, span, division), short)

    def attempt(so_far):
        way, tries, *_ = so_far
        state, observed = jax.lax.switch(way, ways, *start)
        left_out = ~(state.v - carry.state.v <= multirate.QUIET_RISE * plan.steps * dt)
        missed = jnp.any(~division.busy & resting & left_out)
        way = jnp.where((way == DIVIDED) & missed, SHORT, DONE)
        return way, tries + 1, state, observed

    way = jnp.where(quiet, LONGER, jnp.where(pays, DIVIDED, SHORT))
    first_try = (way, jnp.int32(0), *start)
    done = jax.lax.while_loop(lambda so_far: so_far[0] != DONE, attempt, first_try)
    _, tries, state, observed = done
    repeated = tries > 1
    share = jnp.mean(division.busy, dtype=dt.dtype)
    busy = jnp.where(pays, share + repeated, 1.0)
    return (state, observed), jnp.where(quiet, 0.0, busy), repeated


def _mixed(span: Span, division: multirate.Division, state: State, observed: dict[str, Any]):
    """Advance a window with the nodes divided."""
    plan, loop, first = span.plan, span.loop, span.first
    assert loop.quiet is not None
    dt = loop.prepared.dt

    def time(i):
        return (first + i).astype(dt.dtype) * dt

    def fold(observed, v_old, v_new, i):
        return {
            name: loop.observe[name].update(value, v_old, v_new, time(i), dt)
            for name, value in observed.items()
        }

    return multirate.mixed_steps(
        multirate.subset_of(loop.prepared.diffuse.rate, division),
        loop.prepared,
        loop.quiet,
        state,
        time,
        (fold, observed),
        plan.stride,
        plan.steps,
    )


def _frame(span: Span, prepared: Prepared, stride: int, state: State, carries):
    """Take the time steps of a window, each `stride` of the shortest."""
    scheme, first = span.scheme, span.first
    steps = span.plan.steps // stride
    dt = prepared.dt

    def fold(advance, i, state, carries):
        t = (first + i * stride).astype(dt.dtype) * span.loop.prepared.dt
        with jax.named_scope("step"):
            new = advance(prepared, state, t)
        with jax.named_scope("observe"):
            carries = {
                name: span.loop.observe[name].update(carry, state.voltage, new.voltage, t, dt)
                for name, carry in carries.items()
            }
        return new, carries

    state = scheme.start(prepared, state, first.astype(dt.dtype) * span.loop.prepared.dt)
    trips = steps - scheme.peels_last
    # Two steps a trip: XLA then writes every other state in place of one no longer needed, and
    # copies nothing (N-version slab on two cores: 4.4 against 4.7 ms a step). But where the step
    # gathers a flux, that has to lie in memory before (5 against 20 ms), and so has the voltage of
    # the first step where the second is differentiated with it.
    alone = state.flux is not None or span.reverse != FORWARD
    unroll = 1 if alone and not on_gpu() else 2
    state, carries = span.reverse.steps(
        lambda i, c: fold(scheme.step, i, *c), (state, carries), trips, unroll=unroll
    )
    if scheme.peels_last:
        state, carries = fold(scheme.finish, steps - 1, state, carries)
    return state._replace(flux=None), carries


def look_at(loop: Loop, carry: Carry, step: Array):
    """The frame of a state: voltage in the order of the mesh, outputs, and checks."""
    state = carry.state
    v = loop.layout.to_mesh(state.v)
    t = step.astype(v.dtype) * loop.prepared.dt
    outputs = {
        name: loop.observe[name].frame(value, v, t)
        for name, value in loop.layout.tree_to_mesh(carry.observed).items()
    }
    outputs = {name: value for name, value in outputs.items() if value is not None}
    # only looked at: the root in it has no derivative at rest
    diffuse, resting = jax.lax.stop_gradient((loop.prepared.diffuse, state.v))
    check = {"finite": jnp.isfinite(state.v).all(), **diffuse.check(resting)}
    return v, outputs, check


def _hops(system: System, time: float) -> int:
    """Neighbours of neighbours to take along, beyond the foot of a wave.

    A front runs at about 2 sqrt(D) (mm/ms, D in mm2/ms), so over 2 sqrt(D / h^2) edges in 1 ms; on
    a line of nodes the diagonal of M^-1 K is 2 D / h^2. The foot is about half as far ahead.
    """
    diagonal = row_sums(system.pattern, np.asarray(system.diffusion_edges)) / system.mass
    edges = np.sqrt(np.quantile(diagonal, 0.99) / 2.0) * time
    return int(min(np.ceil(edges) + 1, MOST_HOPS))
