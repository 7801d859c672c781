"""The time loop: chunks of a fixed number of steps between frames, nothing asked of the host."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from cardiotwin.numerics.together import all_of_batch
from cardiotwin.tissue.stimulus import pulsing

from .adjoint import FORWARD, AbstractAdjoint, Checkpointed, Plan
from .devices import Layout, Spread, find_devices, spread
from .observe import AbstractObservable
from .problem import AbstractProblem, System
from .scheme import AbstractScheme, Godunov, Prepared, State

# Relative distance from a whole number of steps that still counts as whole.
WHOLE = 1e-6
# The tissue is quiet where no node rises faster: ten times less than a front's foot as it reaches
# threshold, more than the recovery of the notch (0.5 mV/ms).
QUIET_RISE = 1.0  # mV/ms


class NonFiniteError(RuntimeError):
    """The voltage became NaN or infinite; says when and where."""


class Checkpoint(NamedTuple):
    """Everything a run needs to go on: the step it has reached and plain arrays.

    The arrays are the leaves of state and observables in the solver's own order; a run of the same
    problem, scheme, precision and observables takes them back and goes on bit for bit.
    """

    step: int
    leaves: tuple[Any, ...]


class Frame(NamedTuple):
    """What the callback of a streaming run receives, once every `every` ms.

    `v` is in the order of the mesh and stays on the device until it is read.
    """

    t: float  # ms
    step: int
    v: Array  # [nodes] mV
    outputs: dict[str, Any]  # one entry an observable that has frames


class Solution(eqx.Module):
    """The result of a run.

    Attributes:
        ts: frame times, [frames] ms.
        frames: what each observable kept, stacked over the frames; empty for a streaming run.
        observed: final per-node arrays of each observable, in the order of the mesh.
        final: the last state, from which another run can start (`initial=`).
        stats: nodes, steps, iterations, timings in s, memory.
        finite: whether the voltage stayed finite; an array where `solve` itself is transformed.
    """

    ts: Array
    frames: dict[str, Any]
    observed: dict[str, Any]
    final: Checkpoint
    stats: dict[str, Any]
    finite: Any


def solve(
    problem: AbstractProblem,
    t1: float,
    *,
    dt: float = 0.05,
    scheme: AbstractScheme | None = None,
    observe: Mapping[str, AbstractObservable] | None = None,
    every: float = 1.0,
    quiet_dt: float | None = None,
    initial: Checkpoint | None = None,
    adjoint: AbstractAdjoint | None = None,
    precision: str = "float32",
    on_frame: Callable[[Frame], bool | None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_seconds: float = 60.0,
    throw: bool = True,
    devices: int | Sequence[Any] | None = None,
    partition: Any = "bisection",
) -> Solution:
    """Run a problem from 0 (or from a checkpoint) to `t1`.

    Without `on_frame` the whole run is one compiled program and its frames are stacked in memory.
    With it, every frame is handed to the callback while the next chunk already runs.

    Args:
        problem: what to solve, such as `Monodomain`.
        t1: end of the run, ms; a multiple of `every`.
        dt: time step, ms; `every` is a multiple of it.
        scheme: operator splitting; Godunov with an implicit parabolic step when left out.
        observe: observables by name.
        every: interval between frames, ms.
        quiet_dt: longest time step, ms, of frames in which nothing depolarises: no stimulus acts,
            and no node rose by more than 1 mV/ms in the frame before. Such a frame is advanced by
            the largest multiple of `dt` that divides `every` and is not longer. At 0.2 ms action
            potentials keep their duration to 0.1 ms. None steps by `dt` throughout.
        initial: a checkpoint to go on from.
        adjoint: what reverse mode keeps of the run; `Checkpointed()` when left out. Runs that are
            not traced do not depend on it.
        precision: "float32", or "float64" (x64 must be enabled).
        on_frame: called with every `Frame`, the first at t = 0; returning True ends the run.
        on_checkpoint: called with a `Checkpoint` about every `checkpoint_seconds` (streaming runs).
        checkpoint_seconds: see `on_checkpoint`.
        throw: raise `NonFiniteError` when the voltage becomes NaN or infinite; otherwise the
            solution says so in `finite`.
        devices: share the nodes out among so many devices, or among these; None uses one.
        partition: "bisection" or "metis", or the device of every node (0, 1, ...), [nodes].

    Raises:
        ValueError: times that do not fit together, an unknown precision, bad observables, or
            devices that do not exist or would have no nodes.
        NonFiniteError: see `throw`.
    """
    dtype = _dtype(precision)
    steps, frames = _grid(t1, dt, every, initial)
    scheme = Godunov() if scheme is None else scheme
    found = None if devices is None else find_devices(devices)
    began = time.perf_counter()
    system = problem.discretise(corrected=scheme.diffusion.corrects)
    over = None if found is None else spread(system, found, partition)
    prepared = scheme.setup(system, dt, dtype)
    stride = 1 if quiet_dt is None else _stride(quiet_dt, dt, steps)
    quiet = None if stride == 1 else scheme.setup(system, stride * dt, dtype)
    loop = _Loop(prepared, quiet, dict(observe or {}), Layout(jnp.asarray(system.pattern.rank)))
    start = fresh = _start(system, loop.observe, dtype)
    if initial is not None:
        start = _restore(initial, fresh)
    stats = _stats(system, prepared)
    if over is not None:
        loop, start = _spread(over, loop, start, fresh)
        stats |= over.stats()
    stats["setup_s"] = time.perf_counter() - began
    # a run that nothing traces is not differentiated: its loops stay whole
    plan = FORWARD
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((loop, start))):
        if on_frame is not None:
            raise ValueError(
                "A run with on_frame hands its frames to Python and cannot be traced by jax.grad, "
                "jax.jit or jax.vmap. Leave on_frame out and read the frames of the solution."
            )
        plan = (Checkpointed() if adjoint is None else adjoint).plan(frames, steps)
    run = _Run(scheme, system, loop, steps, stride, frames, dt, plan)
    if on_frame is None:
        return _whole(run, start, stats, throw)
    return _stream(run, start, stats, throw, on_frame, on_checkpoint, checkpoint_seconds)


class _Run(NamedTuple):
    """A run made ready: everything between the arguments of `solve` and its loop."""

    scheme: AbstractScheme
    system: System
    loop: "_Loop"
    steps: int  # a frame
    stride: int  # steps in one step of a quiet frame
    frames: int
    dt: float
    plan: Plan

    def constant(self, step: Any) -> "_Constant":
        """What the compiled loop needs to go on from a step."""
        return _Constant(
            self.scheme, self.steps, self.stride, self.plan, self.loop, jnp.asarray(step)
        )


class _Loop(NamedTuple):
    """What the compiled loop reads and does not change."""

    prepared: Prepared
    quiet: Prepared | None  # for the longer steps of quiet frames
    observe: dict[str, AbstractObservable]
    layout: Layout


class _Constant(NamedTuple):
    """A frame to advance by: `steps` time steps from step number `first`."""

    scheme: AbstractScheme
    steps: int
    stride: int
    plan: Plan
    loop: _Loop
    first: Array


class _Carry(NamedTuple):
    """What changes from frame to frame."""

    state: State
    observed: dict[str, Any]
    calm: Array  # whether no node depolarised in the last frame


def _advance(constant: _Constant, carry: _Carry):
    """Advance by one frame, in longer steps if the tissue is quiet."""
    _, steps, stride, _, loop, first = constant
    dt = loop.prepared.dt
    before = carry.state.v
    longer = loop.quiet
    if longer is None:
        quiet = jnp.asarray(False)
        state, observed = _frame(constant, loop.prepared, 1, carry.state, carry.observed)
    else:
        begin, end = (k.astype(dt.dtype) * dt for k in (first, first + steps))
        quiet = all_of_batch(carry.calm & ~pulsing(loop.prepared.pulses, begin, end))
        state, observed = jax.lax.cond(
            quiet,
            lambda s, o: _frame(constant, longer, stride, s, o),
            lambda s, o: _frame(constant, loop.prepared, 1, s, o),
            carry.state,
            carry.observed,
        )
    calm = jnp.max(state.v - before) <= QUIET_RISE * steps * dt
    carry = loop.layout.pin(_Carry(state, observed, calm))
    v, outputs, check = _look(loop, carry, first + steps)
    return carry, v, outputs, {**check, "quiet": quiet}


def _frame(constant: _Constant, prepared: Prepared, stride: int, state: State, carries):
    """Take the time steps of a frame, each `stride` of the shortest."""
    scheme, first = constant.scheme, constant.first
    steps = constant.steps // stride
    dt = prepared.dt

    def fold(advance, i, state, carries):
        t = (first + i * stride).astype(dt.dtype) * constant.loop.prepared.dt
        with jax.named_scope("step"):
            new = advance(prepared, state, t)
        with jax.named_scope("observe"):
            carries = {
                name: constant.loop.observe[name].update(carry, state.voltage, new.voltage, t, dt)
                for name, carry in carries.items()
            }
        return new, carries

    state = scheme.start(prepared, state, first.astype(dt.dtype) * constant.loop.prepared.dt)
    trips = steps - scheme.peels_last
    # two steps a trip: XLA then writes every other state in place of one no longer needed, and
    # copies nothing (N-version slab on two cores: 4.4 against 4.7 ms a step)
    state, carries = constant.plan.steps(
        lambda i, c: fold(scheme.step, i, *c), (state, carries), trips, unroll=2
    )
    if scheme.peels_last:
        state, carries = fold(scheme.finish, steps - 1, state, carries)
    return state._replace(flux=None), carries


def _look(loop: _Loop, carry: _Carry, step: Array):
    """The frame of a state: voltage in the order of the mesh, outputs, and checks."""
    state = carry.state
    v = loop.layout.to_mesh(state.v)
    t = step.astype(v.dtype) * loop.prepared.dt
    outputs = {
        name: loop.observe[name].frame(value, v, t)
        for name, value in loop.layout.to_rows(carry.observed).items()
    }
    outputs = {name: value for name, value in outputs.items() if value is not None}
    # only looked at: the root in it has no derivative at rest
    diffuse, resting = jax.lax.stop_gradient((loop.prepared.diffuse, state.v))
    check = {"finite": jnp.isfinite(state.v).all(), "residual": diffuse.residual(resting)}
    return v, outputs, check


_advance_jit = eqx.filter_jit(_advance, donate="all-except-first")
_look_jit = eqx.filter_jit(_look)


@eqx.filter_jit
def _scan(constant: _Constant, carry: _Carry, frames: int):
    """All frames in one program; frames after a non-finite one are not computed."""
    loop = constant.loop

    def one(carry, index):
        carry, alive = carry
        here = constant._replace(first=constant.first + index * constant.steps)

        def advance(carry):
            carry, _, outputs, check = _advance(here, carry)
            return carry, outputs, check

        def hold(carry):
            _, outputs, check = _look(loop, carry, here.first)
            return carry, outputs, {**check, "quiet": jnp.asarray(False)}

        on = ~all_of_batch(~alive) & (index < frames)
        carry, outputs, check = jax.lax.cond(on, advance, hold, carry)
        return (carry, alive & check["finite"]), (outputs, check)

    _, opening, _ = _look(loop, carry, constant.first)
    alive = jnp.asarray(True)
    (carry, _), (outputs, checks) = constant.plan.frames(one, (carry, alive), frames)
    outputs = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), opening, outputs)
    return carry, outputs, checks


class _Start(NamedTuple):
    step: int
    carry: _Carry


def _whole(run: _Run, start: _Start, stats: dict[str, Any], throw: bool) -> Solution:
    began = time.perf_counter()
    carry, outputs, checks = _scan(run.constant(start.step), start.carry, run.frames)
    step = start.step + run.frames * run.steps
    ts = (start.step + jnp.arange(run.frames + 1) * run.steps) * run.dt
    finite = checks["finite"].all()
    # under a transformation (grad, vmap) there is nothing to time and nothing to raise
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((carry, checks))):
        jax.block_until_ready(carry)
        stats["loop_s"] = time.perf_counter() - began
        stats["residual"] = float(jnp.nanmax(checks["residual"]))
        stats |= _count(run, run.frames, int(checks["quiet"].sum()))
        finite = bool(finite)
        if throw and not finite:
            bad = int(jnp.argmin(checks["finite"]))
            v = run.loop.layout.to_mesh(carry.state.v)
            raise NonFiniteError(_where(run, v, start.step + bad * run.steps))
    return Solution(
        ts=ts,
        frames=outputs,
        observed=_observed(run, carry),
        final=_checkpoint(run, step, carry),
        stats=stats,
        finite=finite,
    )


def _stream(
    run: _Run,
    start: _Start,
    stats: dict[str, Any],
    throw: bool,
    on_frame: Callable[[Frame], bool | None],
    on_checkpoint: Callable[[Checkpoint], None] | None,
    checkpoint_seconds: float,
) -> Solution:
    # the loop donates its buffers; the caller keeps the checkpoint it came with
    carry = jax.tree.map(jnp.copy, start.carry)
    began = time.perf_counter()
    first = run.constant(start.step)
    advance = _advance_jit.lower(first, carry).compile()
    stats["compile_s"] = time.perf_counter() - began
    v, outputs, check = _look_jit(run.loop, carry, first.first)
    ahead = (v, outputs, {**check, "quiet": False}, start.step)
    began = saved = time.perf_counter()
    waited, residual, finite, frames, quiet = 0.0, 0.0, True, 0, 0
    for index in range(run.frames + 1):
        v, outputs, check, step = ahead
        due = index and time.perf_counter() - saved > checkpoint_seconds
        if on_checkpoint is not None and run.loop.layout.agreed(due):
            if bool(check["finite"]):
                point = _checkpoint(run, step, carry)
                on_checkpoint(point._replace(leaves=tuple(map(np.array, point.leaves))))
            saved = time.perf_counter()
        if index < run.frames:
            carry, *look = advance(run.constant(step), carry)
            ahead = (*look, step + run.steps)
            frames += 1
        finite = bool(check["finite"])
        if not finite:
            if throw:
                raise NonFiniteError(_where(run, v, step - run.steps))
            break
        residual = max(residual, float(check["residual"]))
        quiet += bool(check["quiet"])
        tick = time.perf_counter()
        enough = on_frame(Frame(step * run.dt, step, v, outputs))
        waited += time.perf_counter() - tick
        if run.loop.layout.agreed(enough):
            break
    jax.block_until_ready(carry)
    reached = ahead[-1]
    stats["loop_s"] = time.perf_counter() - began
    stats["callback_s"] = waited
    stats["residual"] = residual
    stats |= _count(run, frames, quiet)
    return Solution(
        ts=jnp.arange(start.step, reached + 1, run.steps) * run.dt,
        frames={},
        observed=_observed(run, carry),
        final=_checkpoint(run, reached, carry),
        stats=stats,
        finite=finite,
    )


def _count(run: _Run, frames: int, quiet: int) -> dict[str, Any]:
    """Time steps taken, and the share of the frames that were quiet."""
    steps = (frames - quiet) * run.steps + quiet * (run.steps // run.stride)
    return {"steps": steps, "quiet_share": quiet / frames}


def _where(run: _Run, v: Array, good_step: int) -> str:
    bad = np.flatnonzero(~np.isfinite(np.asarray(v)))
    node = int(bad[0])
    place = np.round(run.system.points[run.system.pattern.rank[node]], 2)
    good = good_step * run.dt
    return (
        f"The voltage became non-finite between {good:g} and {good + run.steps * run.dt:g} ms at "
        f"{bad.size} of {v.shape[0]} nodes, first node {node} at {place} mm. The last good frame "
        f"is that of {good:g} ms. Shorten dt (now {run.dt} ms), or check the ionic parameters and "
        "the stimulus there."
    )


def _observed(run: _Run, carry: _Carry) -> dict[str, Any]:
    results = {name: run.loop.observe[name].result(x) for name, x in carry.observed.items()}
    return {
        name: jax.tree.map(run.loop.layout.to_mesh, value)
        for name, value in results.items()
        if value is not None
    }


def _start(system: System, observe: dict[str, AbstractObservable], dtype) -> _Start:
    # slow concentrations keep drifts below the resolution of float32
    slow = jnp.float64 if jax.config.jax_enable_x64 else None  # pyright: ignore[reportAttributeAccessIssue]
    v, cell = system.cell.initial_arrays(system.nodes, dtype=dtype, slow_dtype=slow)
    carries = {name: observable.init(v) for name, observable in observe.items()}
    return _Start(0, _Carry(State(v, cell), carries, jnp.asarray(False)))


def _spread(over: Spread, loop: _Loop, start: _Start, fresh: _Start) -> tuple[_Loop, _Start]:
    """Place what the loop reads and changes on the devices."""
    layout = over.layout()
    prepared = layout.place(over.arrange((loop.prepared, loop.quiet)))
    loop = _Loop(*prepared, *layout.copy((loop.observe, layout)))
    return loop, start._replace(carry=layout.place(over.arrange(start.carry, fresh.carry)))


def _checkpoint(run: _Run, step: int, carry: _Carry) -> Checkpoint:
    return Checkpoint(step, tuple(jax.tree.leaves(run.loop.layout.to_rows(carry))))


def _restore(checkpoint: Checkpoint, fresh: _Start) -> _Start:
    """Put the arrays of a checkpoint in the place of those of a fresh start."""
    leaves, structure = jax.tree.flatten(fresh.carry)
    expected = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
    found = [(np.shape(leaf), str(leaf.dtype)) for leaf in checkpoint.leaves]
    if expected != found:
        raise ValueError(
            f"The checkpoint holds {len(found)} arrays (first {found[:1]}), but this run needs "
            f"{len(expected)} (first {expected[:1]}). Resume with the mesh, ionic model, precision "
            "and observables that it was made with."
        )
    carry = jax.tree.unflatten(structure, [jnp.asarray(x) for x in checkpoint.leaves])
    return _Start(int(checkpoint.step), carry)


def _dtype(precision: str):
    if precision not in ("float32", "float64"):
        raise ValueError(f"precision is {precision!r}; give 'float32' or 'float64'.")
    if precision == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "precision is 'float64', but JAX runs with 64-bit types off. Call "
            "jax.config.update('jax_enable_x64', True) first, or ask for 'float32'."
        )
    return jnp.dtype(precision)


def check_times(t1: float, dt: float, every: float, quiet_dt: float | None = None) -> None:
    """Refuse times that `solve` would refuse, before anything is built.

    Raises:
        ValueError: a time is not positive, or not a multiple of the one it should be.
    """
    steps, _ = _grid(t1, dt, every, None)
    if quiet_dt is not None:
        _stride(quiet_dt, dt, steps)


def _grid(t1: float, dt: float, every: float, initial: Checkpoint | None) -> tuple[int, int]:
    """Steps a frame and frames of the run; refuses times that are not whole multiples."""
    for name, value in (("dt", dt), ("every", every), ("t1", t1)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value} ms; give a positive time.")
    steps = _multiple("every", every, "dt", dt)
    frames = _multiple("t1", t1, "every", every)
    done = 0 if initial is None else initial.step
    if done % steps or done >= frames * steps:
        raise ValueError(
            f"The run starts from step {done} ({done * dt:g} ms) and ends at {t1} ms in frames of "
            f"{every} ms. Start from a frame that lies before the end."
        )
    return steps, frames - done // steps


def _multiple(name: str, value: float, unit_name: str, unit: float) -> int:
    count = round(value / unit)
    if count < 1 or abs(count * unit - value) > WHOLE * value:
        raise ValueError(
            f"{name} = {value:g} ms is not a multiple of {unit_name} = {unit:g} ms; the nearest "
            f"that is: {max(count, 1) * unit:.10g} ms."
        )
    return count


def _stride(quiet_dt: float, dt: float, steps: int) -> int:
    """Steps in one step of a quiet frame: a divisor of `steps` that keeps to `quiet_dt`."""
    if not (np.isfinite(quiet_dt) and quiet_dt >= dt * (1 - WHOLE)):
        raise ValueError(
            f"quiet_dt is {quiet_dt} ms; it cannot be shorter than dt = {dt} ms. Give a longer "
            "step, such as 0.2 ms, or None to step by dt throughout."
        )
    longest = quiet_dt / dt * (1 + WHOLE)
    return max(k for k in range(1, steps + 1) if steps % k == 0 and k <= longest)


def _stats(system: System, prepared: Prepared) -> dict[str, Any]:
    stats = {
        "nodes": system.nodes,
        "edges": len(system.pattern.edges),
        "device": str(jax.devices()[0].device_kind),
        "precision": str(prepared.dt.dtype),
    }
    solver = getattr(prepared.diffuse, "solver", None)
    if solver is not None:
        stats["chebyshev_iterations"] = solver.iterations
        stats["chebyshev_contraction"] = solver.contraction
    stages = getattr(prepared.diffuse, "stages", None)
    if stages is not None:
        stats["explicit_stages"] = stages
    return stats
