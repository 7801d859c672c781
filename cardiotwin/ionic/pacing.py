"""Pacing of single cells (no space), many at once: what is recorded, and the limit cycle."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ionic._base import AbstractIonicModel, default_float
from cardiotwin.ionic.stepping import IonicStep, stepper
from cardiotwin.numerics.target import evenly

Times = float | Float[np.ndarray, " cells"]


class Recording(NamedTuple):
    """Single cells over time.

    Attributes:
        t: times, ms, the first 0.
        v: membrane potential, mV.
        calcium: free calcium of the cytosol, mM; None for models without.
        currents: current's name to its value, pA/pF; empty where they were not asked for.
        upstroke: steepest rise of the potential in a time step, mV/ms.
        final: potential and state at the end.
    """

    t: Float[np.ndarray, " times"]
    v: Float[np.ndarray, "times *cells"]
    calcium: Float[np.ndarray, "times *cells"] | None
    currents: dict[str, Float[np.ndarray, "times *cells"]]
    upstroke: Float[np.ndarray, "*cells"]
    final: tuple[Any, Any]


def record(
    model: AbstractIonicModel,
    *,
    cycle_length: Times = 1000.0,
    beats: int = 1,
    length: float | None = None,
    dt: float = 0.02,
    amplitude: Times = 52.0,
    duration: float = 1.0,
    every: float | None = None,
    currents: bool = False,
    initial: tuple[Any, Any] | None = None,
    conserve_charge: bool = True,
    dtype: Any = None,
    ionic_step: IonicStep = "rush_larsen",
) -> Recording:
    """Pace single cells and record them.

    Args:
        model: any ionic model; with parameters per node, one cell for each node.
        cycle_length: time between stimuli, ms, one or one a cell; the first is at time 0.
        beats: number of stimuli.
        length: how long to record, ms; to the end of the (longest) last cycle where None.
        dt: time step, ms.
        amplitude: stimulus current over capacitance, mV/ms, one or one a cell; the default is the
            52 pA/pF of ten Tusscher's single cell and suits the other models too.
        duration: duration of one stimulus, ms.
        every: time between recorded values, ms; every step where None.
        currents: record the currents too.
        initial: potential and state to start from; the model's own where None.
        conserve_charge: count the stimulus as a current of ions (`stimulus_rates`), without which
            the concentrations of a cell that is paced for long drift for ever.
        dtype: float type; JAX's default where None.
        ionic_step: "rush_larsen", or "grl1" or "grl2" for generalised Rush-Larsen of that order.

    Raises:
        ValueError: a time is not a multiple of the time step or of the recording interval, no
            beat, or there is no such ionic step.
    """
    every = dt if every is None else every
    stride = _steps(every, dt, "every", "dt")
    cells = _Cells(
        model, cycle_length, beats, dt, amplitude, duration, initial, conserve_charge, dtype,
        ionic_step,
    )  # fmt: skip
    length = float(np.max(cycle_length)) * beats if length is None else length
    frames = _steps(length, every, "length" if beats != 1 else "cycle_length", "every")
    end, rise, seen = cells.protocol.record(cells.start, frames, stride, currents)
    opening = cells.protocol.look(cells.start, currents)
    seen = {
        name: cells.cut(np.concatenate([np.asarray(opening[name])[None], np.asarray(values)]))
        for name, values in seen.items()
    }
    v, calcium = seen.pop("V"), seen.pop("calcium", None)
    t = every * np.arange(frames + 1)
    return Recording(t, v, calcium, seen, cells.cut(np.asarray(rise)), jax.tree.map(cells.cut, end))


def single_cell(
    model: AbstractIonicModel, **protocol: Any
) -> tuple[Float[np.ndarray, "times"], Float[np.ndarray, "times *cells"]]:
    """Pace single cells and record their membrane potential; arguments as of `record`.

    Returns:
        Times in ms from 0 to beats * cycle_length, and potentials in mV at those times.
    """
    recording = record(model, **protocol)
    return recording.t, recording.v


def pace(
    model: AbstractIonicModel,
    *,
    cycle_length: Times = 1000.0,
    beats: int = 1,
    dt: float = 0.02,
    amplitude: Times = 52.0,
    duration: float = 1.0,
    initial: tuple[Any, Any] | None = None,
    conserve_charge: bool = True,
    dtype: Any = None,
    ionic_step: IonicStep = "rush_larsen",
) -> tuple[Array, Any]:
    """Pace single cells without recording; arguments as of `record`.

    Returns:
        Potential and state of each cell at the end of its last cycle, to start tissue or further
        beats from: `TenTusscherPanfilov2006.epi(start=pace(model, beats=1000))`.
    """
    cells = _Cells(
        model, cycle_length, beats, dt, amplitude, duration, initial, conserve_charge, dtype,
        ionic_step,
    )  # fmt: skip
    return jax.tree.map(cells.cut, cells.protocol.advance(cells.start))


class SteadyState(NamedTuple):
    """The end of pacing to the limit cycle.

    Attributes:
        state: potential and state at the end of a cycle, to start from.
        beats: how many were paced.
        change: largest change over the last cycle: of the potential over 100 mV, of gates, and of
            concentrations over their value.
        slowest: name of the variable that changed so.
        converged: whether that is within the tolerance.
    """

    state: tuple[Any, Any]
    beats: int
    change: float
    slowest: str
    converged: bool


def steady_state(
    model: AbstractIonicModel,
    *,
    tolerance: float = 1e-5,
    most_beats: int = 2000,
    chunk: int = 10,
    initial: tuple[Any, Any] | None = None,
    on_beats: Any = None,
    **protocol: Any,
) -> SteadyState:
    """Pace single cells until a cycle changes nothing any more.

    Args:
        model: any ionic model, of one cell or of many.
        tolerance: largest change in one cycle, see `SteadyState.change`.
        most_beats: give up after so many.
        chunk: beats between two looks.
        initial: potential and state to start from; the model's own where None.
        on_beats: called with the beats so far and the change, to show progress.
        **protocol: as of `pace`; float64 is advisable, since float32 loses slow drifts.

    Raises:
        ValueError: a tolerance or a number of beats that is not positive.
    """
    if not tolerance > 0 or most_beats < 1 or chunk < 1:
        raise ValueError(
            f"steady_state: tolerance is {tolerance}, most_beats {most_beats} and chunk {chunk}; "
            "give positive ones."
        )
    at, beats = initial, 0
    while True:
        count = min(chunk, most_beats - beats)
        if count > 1:
            at = pace(model, beats=count - 1, initial=at, **protocol)
        after = pace(model, initial=at, **protocol)
        before = _start(model, at, np.shape(after[0]), after[0].dtype)
        beats += count
        change, slowest = _largest_change(model, before, after)
        at = after
        if on_beats is not None:
            on_beats(beats, change)
        if change <= tolerance or beats >= most_beats:
            return SteadyState(at, beats, change, slowest, change <= tolerance)


def _largest_change(model: AbstractIonicModel, before: Any, after: Any) -> tuple[float, str]:
    found = [(float(np.max(np.abs(np.asarray(after[0] - before[0])))) / 100.0, "V")]
    for name in model.State._fields:
        old, new = (np.asarray(getattr(x[1], name), np.float64) for x in (before, after))
        scale = 1.0 if name in model.gates else np.maximum(np.abs(old), 1e-12)
        found.append((float(np.max(np.abs(new - old) / scale)), name))
    return max(found)


class _Cells:
    """Single cells with their protocol, made up to a number that the threads divide."""

    def __init__(
        self, model, cycle_length, beats, dt, amplitude, duration, initial, conserve_charge, dtype,
        ionic_step,
    ):  # fmt: skip
        stepper(ionic_step)
        if beats < 1:
            raise ValueError(f"beats is {beats}; give 1 or more.")
        dtype = default_float() if dtype is None else dtype
        cycle = np.vectorize(lambda x: _steps(x, dt, "cycle_length", "dt"), otypes=[int])(
            cycle_length
        )
        stimulated = _steps(duration, dt, "duration", "dt")
        if stimulated >= cycle.min():
            raise ValueError(
                f"the stimulus lasts {duration:g} ms and the shortest cycle {cycle.min() * dt:g} "
                "ms; give a stimulus that ends within the cycle."
            )
        v0, state0 = model.initial() if initial is None else initial
        parameters = [getattr(model, row.name) for row in model.parameters()]
        protocol = (cycle, amplitude)
        shapes = [np.shape(x) for x in (v0, *state0, *parameters, *protocol)]
        self.shape = np.broadcast_shapes(*shapes)
        self.count = self.shape[0] if len(self.shape) == 1 else None
        model, start = jax.tree.map(
            self._lengthened, (model.astype(dtype), _start(model, initial, self.shape, dtype))
        )
        cycle, amplitude = map(self._lengthened, protocol)
        self.start = start
        self.protocol = _Protocol(
            model=model,
            dt=jnp.asarray(dt, dtype),
            amplitude=jnp.asarray(amplitude, dtype),
            stimulated=jnp.asarray(stimulated),
            cycle=jnp.asarray(cycle),
            beats=jnp.asarray(beats),
            conserve_charge=conserve_charge,
            ionic_step=ionic_step,
        )

    def _lengthened(self, leaf: Any) -> Any:
        if self.count is None or np.shape(leaf) != self.shape:
            return leaf
        more = evenly(self.count) - self.count
        return leaf if more == 0 else jnp.concatenate([leaf, jnp.repeat(leaf[-1:], more, axis=0)])

    def cut(self, values: Any) -> Any:
        """Without the cells that were made up."""
        return values if self.count is None else values[..., : self.count]


class _Protocol(eqx.Module):
    """Cells under trains of stimuli; its numbers are arrays, so that one compilation serves."""

    model: AbstractIonicModel
    dt: Array
    amplitude: Array
    stimulated: Array
    cycle: Array  # steps, one or one a cell
    beats: Array
    conserve_charge: bool = eqx.field(static=True)
    ionic_step: IonicStep = eqx.field(static=True)

    def step(self, i: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
        """Step number i, counted from the first stimulus."""
        stimulus = jnp.where(self._on(i), self.amplitude, jnp.zeros_like(self.amplitude))
        v, state = stepper(self.ionic_step)(self.model, *carry, self.dt, stimulus)
        carried = self.model.stimulus_rates(stimulus) if self.conserve_charge else {}
        added = {name: getattr(state, name) + self.dt * rate for name, rate in carried.items()}
        return v, state._replace(**added)

    def look(self, carry: tuple[Array, Any], currents: bool) -> dict[str, Array]:
        """What is recorded of a state."""
        v, state = carry
        seen = {"V": v}
        if self.model.calcium is not None:
            seen["calcium"] = getattr(state, self.model.calcium)
        if currents:
            found = self.model.currents(v, state)
            seen |= {name: jnp.broadcast_to(x, jnp.shape(v)) for name, x in found.items()}
        return seen

    def _on(self, i: Array) -> Array:
        return (i % self.cycle < self.stimulated) & (i < self.beats * self.cycle)

    @eqx.filter_jit
    def advance(self, carry: tuple[Array, Any]) -> tuple[Array, Any]:
        """To the end of the last cycle of each cell."""
        end = self.beats * self.cycle
        if end.ndim == 0:
            return jax.lax.fori_loop(0, end, lambda i, c: self.step(i, c), carry)

        def while_paced(i: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
            new = self.step(i, carry)
            return jax.tree.map(lambda a, b: jnp.where(i < end, a, b), new, carry)

        return jax.lax.fori_loop(0, end.max(), while_paced, carry)

    @eqx.filter_jit
    def record(self, carry: tuple[Array, Any], frames: int, stride: int, currents: bool) -> Any:
        """State at the end, steepest rise, and what is seen after every `stride` steps."""

        def step(i: Array, both: Any) -> Any:
            carry, rise = both
            new = self.step(i, carry)
            return new, jnp.maximum(rise, (new[0] - carry[0]) / self.dt)

        def frame(both: Any, j: Array) -> tuple[Any, dict[str, Array]]:
            both = jax.lax.fori_loop(j * stride, (j + 1) * stride, step, both)
            return both, self.look(both[0], currents)

        still = jnp.full(jnp.shape(carry[0]), -jnp.inf, carry[0].dtype)
        (end, rise), seen = jax.lax.scan(frame, (carry, still), jnp.arange(frames))
        return end, rise, seen


def _start(
    model: AbstractIonicModel, initial: tuple[Any, Any] | None, shape: tuple[int, ...], dtype: Any
) -> tuple[Array, Any]:
    v0, state0 = model.initial() if initial is None else initial
    v0, *values = (jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in (v0, *state0))
    return v0, model.State(*values)


def _steps(length: float, step: float, name: str, step_name: str) -> int:
    count = round(length / step) if step > 0 else 0
    if count < 1 or abs(count * step - length) > 1e-6 * length:
        nearest = max(count, 1) * step
        raise ValueError(
            f"{name} is {length:g} ms and {step_name} {step:g} ms; expected a positive multiple, "
            f"such as {nearest:g} ms."
        )
    return count
