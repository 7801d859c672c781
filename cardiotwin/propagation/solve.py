"""The time loop: chunks of a fixed number of steps between frames, nothing asked of the host."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from cardiotwin.numerics.shared import Shared, share
from cardiotwin.numerics.together import all_of_batch
from cardiotwin.tissue.stimulus import AbstractStimulus

from .adjoint import FORWARD, AbstractAdjoint, Checkpointed, Plan
from .devices import Layout, Spread, evened, find_devices, spread
from .observe import AbstractObservable
from .problem import AbstractProblem, System
from .restimulation import Restimulate, ready_for_another, restimulated
from .scheme import AbstractScheme, Godunov, Prepared, State
from .times import check_multirate, grid
from .timing import Taken, time_of_parts
from .windows import (
    TALLIED,
    Carry,
    Loop,
    Span,
    Windows,
    advance_frame,
    look_at,
    no_tally,
    windows_of,
)


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
    multirate: bool = False,
    initial: Checkpoint | None = None,
    adjoint: AbstractAdjoint | None = None,
    precision: str = "float32",
    on_frame: Callable[[Frame], bool | None] | None = None,
    restimulate: Restimulate | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_seconds: float = 60.0,
    throw: bool = True,
    profile: bool = False,
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
        quiet_dt: longest time step, ms, where nothing depolarises: in windows of about 1 ms in
            which no stimulus acts, after one in which no node rose by more than 1 mV/ms. Such a
            window is advanced by the largest multiple of `dt` that divides it and is not longer.
            At 0.2 ms action potentials keep their duration to 0.1 ms. None steps by `dt`
            throughout.
        multirate: let also the cells away from a wave take the longer steps while others take
            `dt`. Pays on a CPU; needs `quiet_dt` and Godunov splitting. Runs that are traced (by
            jax.grad, jax.vmap) do without.
        initial: a checkpoint to go on from.
        adjoint: what reverse mode keeps of the run; `Checkpointed()` when left out. Runs that are
            not traced do not depend on it.
        precision: "float32", or "float64" (x64 must be enabled).
        on_frame: called with every `Frame`, the first at t = 0; returning True ends the run, at the
            frame after it, which is computed by then.
        restimulate: called with every `Frame` of a streaming run, before `on_frame`; a stimulus
            that it returns takes the place of the problem's from there on. The next chunk waits
            for it. One device only.
        on_checkpoint: called with a `Checkpoint` about every `checkpoint_seconds` (streaming runs).
        checkpoint_seconds: see `on_checkpoint`.
        throw: raise `NonFiniteError` when the voltage becomes NaN or infinite; otherwise the
            solution says so in `finite`.
        profile: find out, after the run, what diffusion, observables and the ionic step took of
            it; costs some seconds. One device only.
        devices: share the nodes out among so many devices, or among these; None uses one.
        partition: "bisection" or "metis", or the device of every node (0, 1, ...), [nodes].

    Raises:
        ValueError: times that do not fit together, an unknown precision, bad observables,
            devices that do not exist or would have no nodes, or `multirate` where it cannot be.
        NonFiniteError: see `throw`.
    """
    dtype = _dtype(precision)
    steps, frames = grid(t1, dt, every, 0 if initial is None else initial.step)
    scheme = Godunov() if scheme is None else scheme
    found = None if devices is None else find_devices(devices)
    _check_observables(observe)
    if multirate:
        check_multirate(scheme, quiet_dt, devices)
    if restimulate is not None and (on_frame is None or found is not None):
        raise ValueError(
            "restimulate changes the stimulus between the frames of a streaming run on one device: "
            "give on_frame too, and leave devices out."
        )
    began = time.perf_counter()
    system = problem.discretise(corrected=scheme.diffusion.corrects)
    over = None if found is None else spread(system, found, partition)
    prepared = scheme.setup(system, dt, dtype)
    plan = windows_of(system, steps, dt, quiet_dt, multirate)
    quiet = None
    if plan.stride > 1:
        calm = scheme if plan.hops is None else scheme.calm()
        quiet = calm.setup(system, plan.stride * dt, dtype).beside(prepared, plan.stride)
    loop = Loop(prepared, quiet, dict(observe or {}), Layout(jnp.asarray(system.pattern.rank)))
    start = fresh = _start(system, loop.observe, dtype)
    if initial is not None:
        start = _restore(initial, fresh)
    stats = _stats(system, prepared)
    if over is not None:
        loop, start = _spread(over, loop, start, fresh)
        stats |= over.stats()
    elif (even := evened(system.nodes)) is not None:
        prepared, quiet = even.arrange((prepared, quiet))
        loop = loop._replace(
            prepared=prepared, quiet=quiet, layout=even.layout(system.pattern.rank)
        )
        start = start._replace(carry=even.arrange(start.carry, fresh.carry))
        fresh = fresh._replace(carry=even.arrange(fresh.carry))
    stats["setup_s"] = time.perf_counter() - began
    # a run that nothing traces is not differentiated: its loops stay whole
    reverse = FORWARD
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((loop, start))):
        if on_frame is not None:
            raise ValueError(
                "A run with on_frame hands its frames to Python and cannot be traced by jax.grad, "
                "jax.jit or jax.vmap. Leave on_frame out and read the frames of the solution."
            )
        reverse = (Checkpointed() if adjoint is None else adjoint).plan(frames, plan.steps)
        plan = plan._replace(hops=None)
    if restimulate is not None:
        loop = ready_for_another(loop)
    # unpacked again, the run holds no array twice
    shared = share(loop)
    run = _Run(scheme, system, shared.unpack(), shared, plan, frames, dt, reverse)
    if on_frame is None:
        solution = _whole(run, start, stats, throw)
    else:
        calls = _Calls(on_frame, restimulate, on_checkpoint, checkpoint_seconds)
        solution = _stream(run, start, stats, throw, calls)
    if profile and over is None and reverse is FORWARD:
        stats |= _profile(run, fresh, stats)
    return solution


def _profile(run: "_Run", fresh: "_Start", stats: dict[str, Any]) -> dict[str, float]:
    """What the parts of the loop took."""
    loop, plan = run.loop, run.plan
    windows = stats["windows"]
    quiet = round(stats["quiet_share"] * windows)
    taken = Taken(
        short=(windows - quiet) * plan.steps,
        quiet=quiet * (plan.steps // plan.stride),
        stride=plan.stride,
        busy=stats.get("busy_share"),
    )
    seconds = stats["loop_s"] - stats.get("callback_s", 0.0)
    # of a fresh start: the buffers of the run are handed on from frame to frame
    v, observed = fresh.carry.state.v, fresh.carry.observed
    return time_of_parts(loop.prepared, loop.quiet, loop.observe, v, observed, taken, seconds)


class _Run(NamedTuple):
    """A run made ready: everything between the arguments of `solve` and its loop."""

    scheme: AbstractScheme
    system: System
    loop: "Loop"
    shared: Shared  # the loop as a compiled program takes it
    plan: "Windows"
    frames: int
    dt: float
    reverse: Plan  # what reverse mode keeps

    @property
    def steps(self) -> int:
        """Time steps of a frame."""
        return self.plan.steps * self.plan.windows

    def span(self, step: Any) -> "Span":
        """What the compiled loop needs to go on from a step."""
        return Span(self.scheme, self.plan, self.reverse, self.shared, jnp.asarray(step))


def _advance_shared(span: Span, carry: Carry):
    return advance_frame(span.unpacked(), carry)


_advance_jit = eqx.filter_jit(_advance_shared, donate="all-except-first")
_look_jit = eqx.filter_jit(look_at)


@eqx.filter_jit
def _scan(span: Span, carry: Carry, frames: int):
    """All frames in one program; frames after a non-finite one are not computed."""
    span = span.unpacked()
    loop = span.loop

    def one(carry, index):
        carry, alive = carry
        steps = span.plan.steps * span.plan.windows
        here = span._replace(first=span.first + index * steps)

        def advance(carry):
            carry, _, outputs, check = advance_frame(here, carry)
            return carry, outputs, check

        def hold(carry):
            _, outputs, check = look_at(loop, carry, here.first)
            return carry, outputs, {**check, **no_tally(carry.state.v)}

        on = ~all_of_batch(~alive) & (index < frames)
        carry, outputs, check = jax.lax.cond(on, advance, hold, carry)
        return (carry, alive & check["finite"]), (outputs, check)

    _, opening, _ = look_at(loop, carry, span.first)
    alive = jnp.asarray(True)
    (carry, _), (outputs, checks) = span.reverse.frames(one, (carry, alive), frames)
    outputs = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), opening, outputs)
    return carry, outputs, checks


class _Start(NamedTuple):
    step: int
    carry: Carry


def _whole(run: _Run, start: _Start, stats: dict[str, Any], throw: bool) -> Solution:
    began = time.perf_counter()
    carry, outputs, checks = _scan(run.span(start.step), start.carry, run.frames)
    step = start.step + run.frames * run.steps
    ts = (start.step + jnp.arange(run.frames + 1) * run.steps) * run.dt
    finite = checks["finite"].all()
    # under a transformation (grad, vmap) there is nothing to time and nothing to raise
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((carry, checks))):
        jax.block_until_ready(carry)
        stats["loop_s"] = time.perf_counter() - began
        stats["residual"] = float(jnp.nanmax(checks["residual"]))
        stats["iterations"] = int(checks["iterations"].max())
        stats |= _count(run, run.frames, jax.tree.map(np.sum, {k: checks[k] for k in TALLIED}))
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


class _Calls(NamedTuple):
    """What a streaming run calls."""

    on_frame: Callable[[Frame], bool | None]
    restimulate: Restimulate | None
    on_checkpoint: Callable[[Checkpoint], None] | None
    checkpoint_seconds: float


def _stream(
    run: _Run, start: _Start, stats: dict[str, Any], throw: bool, calls: _Calls
) -> Solution:
    # the loop donates its buffers; the caller keeps the checkpoint it came with
    carry = jax.tree.map(jnp.copy, start.carry)
    began = time.perf_counter()
    first = run.span(start.step)
    advance = _advance_jit.lower(first, carry).compile()
    stats["compile_s"] = time.perf_counter() - began
    stats |= _memory(advance)
    v, outputs, check = _look_jit(run.loop, carry, first.first)
    ahead = (v, outputs, check, start.step)
    began = saved = time.perf_counter()
    waited, residual, iterations, finite, frames, tallies = 0.0, 0.0, 0, True, 0, []
    for index in range(run.frames + 1):
        v, outputs, check, step = ahead
        due = index and time.perf_counter() - saved > calls.checkpoint_seconds
        if calls.on_checkpoint is not None and run.loop.layout.agreed(due):
            if bool(check["finite"]):
                point = _checkpoint(run, step, carry)
                calls.on_checkpoint(point._replace(leaves=tuple(map(np.array, point.leaves))))
            saved = time.perf_counter()
        frame = Frame(step * run.dt, step, v, outputs)
        if calls.restimulate is not None:
            run = _restimulated(run, calls.restimulate(frame))
        if index < run.frames:
            carry, *look = advance(run.span(step), carry)
            ahead = (*look, step + run.steps)
            tallies.append({k: look[2][k] for k in TALLIED})
            frames += 1
        finite = bool(check["finite"])
        if not finite:
            if throw:
                raise NonFiniteError(_where(run, v, step - run.steps))
            break
        residual = max(residual, float(check["residual"]))
        iterations = max(iterations, int(check["iterations"]))
        tick = time.perf_counter()
        enough = calls.on_frame(frame)
        waited += time.perf_counter() - tick
        if run.loop.layout.agreed(enough):
            break
    jax.block_until_ready(carry)
    reached = ahead[-1]
    stats["loop_s"] = time.perf_counter() - began
    stats["callback_s"] = waited
    stats["residual"], stats["iterations"] = residual, iterations
    stats |= _count(run, frames, jax.tree.map(lambda *x: sum(np.asarray(y) for y in x), *tallies))
    return Solution(
        ts=jnp.arange(start.step, reached + 1, run.steps) * run.dt,
        frames={},
        observed=_observed(run, carry),
        final=_checkpoint(run, reached, carry),
        stats=stats,
        finite=finite,
    )


def _restimulated(run: _Run, stimulus: AbstractStimulus | None) -> _Run:
    if stimulus is None:
        return run
    loop = restimulated(run.loop, run.system, stimulus)
    return run._replace(loop=loop, shared=share(loop))


def _memory(program: Any) -> dict[str, float]:
    """Bytes a run holds on its device: what the loop reads and changes, and its scratch space."""
    found = program.compiled.memory_analysis()
    if found is None:  # a backend that does not say
        return {}
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {"device_memory_mib": (held + found.temp_size_in_bytes) / 2**20}


def _count(run: _Run, frames: int, tally: dict[str, Any]) -> dict[str, Any]:
    """Time steps taken, and how much of the work was saved."""
    windows = frames * run.plan.windows
    quiet = int(tally["quiet"])
    counted = {
        "steps": (windows - quiet) * run.plan.steps + quiet * (run.plan.steps // run.plan.stride),
        "windows": windows,
        "quiet_share": quiet / windows,
    }
    if run.plan.hops is not None:
        # of the nodes in windows that were not quiet
        counted["busy_share"] = float(tally["busy"]) / max(windows - quiet, 1)
        counted["repeated_windows"] = int(tally["repeated"])
    return counted


def _where(run: _Run, v: Array, good_step: int) -> str:
    bad = np.flatnonzero(~np.isfinite(np.asarray(v)))
    node = int(bad[0])
    place = np.round(run.system.points[run.system.pattern.rank[node]], 2)
    good = good_step * run.dt
    if good < 0:
        return (
            f"The voltage is non-finite at the start, at {bad.size} of {v.shape[0]} nodes, first "
            f"node {node} at {place} mm. Check the initial state of the cell there."
        )
    return (
        f"The voltage became non-finite between {good:g} and {good + run.steps * run.dt:g} ms at "
        f"{bad.size} of {v.shape[0]} nodes, first node {node} at {place} mm. The last good frame "
        f"is that of {good:g} ms. Shorten dt (now {run.dt} ms), or check the ionic parameters and "
        "the stimulus there."
    )


def _observed(run: _Run, carry: Carry) -> dict[str, Any]:
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
    return _Start(0, Carry(State(v, cell), carries, jnp.ones(v.shape, bool), jnp.asarray(True)))


def _spread(over: Spread, loop: Loop, start: _Start, fresh: _Start) -> tuple[Loop, _Start]:
    """Place what the loop reads and changes on the devices."""
    layout = over.layout()
    prepared = layout.place(over.arrange((loop.prepared, loop.quiet)))
    loop = Loop(*prepared, *layout.copy((loop.observe, layout)))
    return loop, start._replace(carry=layout.place(over.arrange(start.carry, fresh.carry)))


def _checkpoint(run: _Run, step: int, carry: Carry) -> Checkpoint:
    return Checkpoint(step, tuple(jax.tree.leaves(run.loop.layout.to_rows(carry))))


def _restore(checkpoint: Checkpoint, fresh: _Start) -> _Start:
    """Put the arrays of a checkpoint in the place of those of a fresh start."""
    leaves, structure = jax.tree.flatten(fresh.carry)
    expected = [(leaf.shape, str(leaf.dtype)) for leaf in leaves]
    found = [(np.shape(leaf), str(leaf.dtype)) for leaf in checkpoint.leaves]
    if expected != found:
        pairs = zip_longest(found, expected)
        place, (have, want) = next((k, p) for k, p in enumerate(pairs) if p[0] != p[1])
        raise ValueError(
            f"The checkpoint holds {len(found)} arrays and this run needs {len(expected)}; the "
            f"first that differs is number {place}, {have} for {want}. Resume with the mesh, ionic "
            "model, precision and observables that it was made with."
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


def _check_observables(observe: Any) -> None:
    for name, value in dict(observe or {}).items():
        if not isinstance(value, AbstractObservable):
            raise ValueError(
                f"observe[{name!r}] is {value!r}; give an observable, such as ActivationTime()."
            )


def _stats(system: System, prepared: Prepared) -> dict[str, Any]:
    stats = {
        "nodes": system.nodes,
        "edges": len(system.pattern.edges),
        "device": str(jax.devices()[0].device_kind),
        "precision": str(prepared.dt.dtype),
    }
    stats |= prepared.diffuse.stats()
    stages = getattr(prepared.diffuse, "stages", None)
    if stages is not None:
        stats["explicit_stages"] = stages
    return stats
