"""Pacing of a single cell (no space), and the duration of its action potential."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ionic._base import AbstractIonicModel, default_float
from cardiotwin.ionic.stepping import IonicStep, stepper


def single_cell(
    model: AbstractIonicModel,
    *,
    cycle_length: float = 1000.0,
    beats: int = 1,
    dt: float = 0.02,
    amplitude: float = 52.0,
    duration: float = 1.0,
    every: float | None = None,
    initial: tuple[Any, Any] | None = None,
    conserve_charge: bool = True,
    dtype: Any = None,
    ionic_step: IonicStep = "rush_larsen",
) -> tuple[Float[np.ndarray, "times"], Float[np.ndarray, "times *cells"]]:
    """Pace single cells and record their membrane potential.

    Args:
        model: any ionic model; with parameters per node, one cell for each node.
        cycle_length: time between stimuli, ms; the first is at time 0.
        beats: number of stimuli.
        dt: time step, ms.
        amplitude: stimulus current over capacitance, mV/ms; the default is the 52 pA/pF of ten
            Tusscher's single cell and suits the other models too.
        duration: duration of one stimulus, ms.
        every: time between recorded values, ms; every step where None.
        initial: potential and state to start from; the model's own where None.
        conserve_charge: count the stimulus as a current of ions (`stimulus_rates`), without which
            the concentrations of a cell that is paced for long drift for ever.
        dtype: float type; JAX's default where None.
        ionic_step: "rush_larsen", or "grl1" or "grl2" for generalised Rush-Larsen of that order.

    Returns:
        Times in ms from 0 to beats * cycle_length, and potentials in mV at those times.

    Raises:
        ValueError: a time is not a multiple of the time step or of the recording interval, or
            there is no such ionic step.
    """
    every = dt if every is None else every
    stride = _steps(every, dt, "every", "dt")
    frames = _steps(cycle_length, every, "cycle_length", "every")
    stimulated = _steps(duration, dt, "duration", "dt")
    dtype = default_float() if dtype is None else dtype
    start = _start(model, initial, dtype)
    protocol = _Protocol(
        model, dt, amplitude, stimulated, frames * stride, conserve_charge, dtype, ionic_step
    )
    v = np.asarray(protocol.record(start, beats * frames, stride))
    return every * np.arange(len(v) + 1), np.concatenate([np.asarray(start[0])[None], v])


def pace(
    model: AbstractIonicModel,
    *,
    cycle_length: float = 1000.0,
    beats: int = 1,
    dt: float = 0.02,
    amplitude: float = 52.0,
    duration: float = 1.0,
    initial: tuple[Any, Any] | None = None,
    conserve_charge: bool = True,
    dtype: Any = None,
    ionic_step: IonicStep = "rush_larsen",
) -> tuple[Array, Any]:
    """Pace single cells without recording; arguments as in `single_cell`.

    Returns:
        Potential and state at the end of the last cycle, to start tissue or further beats from:
        `TenTusscherPanfilov2006.epi(start=pace(model, beats=1000))`.
    """
    cycle = _steps(cycle_length, dt, "cycle_length", "dt")
    stimulated = _steps(duration, dt, "duration", "dt")
    dtype = default_float() if dtype is None else dtype
    start = _start(model, initial, dtype)
    protocol = _Protocol(
        model, dt, amplitude, stimulated, cycle, conserve_charge, dtype, ionic_step
    )
    return protocol.advance(start, jnp.asarray(0), jnp.asarray(beats * cycle))


def action_potential_duration(
    t: Float[np.ndarray, "times"], v: Float[np.ndarray, "times *cells"], fraction: float = 0.9
) -> float | Float[np.ndarray, "*cells"]:
    """Duration of one action potential from its steepest upstroke to a fraction repolarised.

    Args:
        t: times, ms, of one beat: from rest through one action potential.
        v: potentials at those times, mV; the first is taken as the resting potential.
        fraction: how far the potential must come back from its peak to rest, 0.9 for APD90.

    Returns:
        The duration in ms, between samples by linear interpolation; NaN where the potential does
        not repolarise that far. An array where `v` holds several cells.

    Raises:
        ValueError: times and potentials differ in length.
    """
    t, v = np.asarray(t, np.float64), np.asarray(v, np.float64)
    if t.ndim != 1 or v.shape[:1] != t.shape or len(t) < 3:
        raise ValueError(
            f"action_potential_duration got times of shape {t.shape} and potentials of shape "
            f"{v.shape}; expected [times] and [times, ...] of one beat, three samples or more."
        )
    if v.ndim == 1:
        return _duration(t, v, fraction)
    columns = v.reshape(len(t), -1).T
    return np.array([_duration(t, column, fraction) for column in columns]).reshape(v.shape[1:])


def _duration(t: np.ndarray, v: np.ndarray, fraction: float) -> float:
    steepest = int(np.argmax(np.diff(v) / np.diff(t)))
    onset = 0.5 * (t[steepest] + t[steepest + 1])
    peak = steepest + int(np.argmax(v[steepest:]))
    level = v[peak] - fraction * (v[peak] - v[0])
    below = np.flatnonzero(v[peak:] < level)
    if len(below) == 0:
        return float("nan")
    after = peak + int(below[0])
    share = (v[after - 1] - level) / (v[after - 1] - v[after])
    return float(t[after - 1] + share * (t[after] - t[after - 1]) - onset)


class _Protocol(eqx.Module):
    """A cell under a train of stimuli; its numbers are arrays, so that one compilation serves."""

    model: AbstractIonicModel
    dt: Array
    amplitude: Array
    stimulated: Array
    cycle: Array
    conserve_charge: bool = eqx.field(static=True)
    ionic_step: IonicStep = eqx.field(static=True)

    def __init__(
        self,
        model: AbstractIonicModel,
        dt: float,
        amplitude: float,
        stimulated: int,
        cycle: int,
        conserve_charge: bool,
        dtype: Any,
        ionic_step: IonicStep,
    ):
        stepper(ionic_step)
        self.model = model.astype(dtype)
        self.dt, self.amplitude = jnp.asarray(dt, dtype), jnp.asarray(amplitude, dtype)
        self.stimulated, self.cycle = jnp.asarray(stimulated), jnp.asarray(cycle)
        self.conserve_charge, self.ionic_step = conserve_charge, ionic_step

    def step(self, i: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
        """Step number i, counted from the first stimulus."""
        on = i % self.cycle < self.stimulated
        stimulus = jnp.where(on, self.amplitude, jnp.zeros_like(self.amplitude))
        v, state = stepper(self.ionic_step)(self.model, *carry, self.dt, stimulus)
        carried = self.model.stimulus_rates(stimulus) if self.conserve_charge else {}
        added = {name: getattr(state, name) + self.dt * rate for name, rate in carried.items()}
        return v, state._replace(**added)

    @eqx.filter_jit
    def advance(self, carry: tuple[Array, Any], begin: Array, end: Array) -> tuple[Array, Any]:
        """From step `begin` to step `end`."""
        return jax.lax.fori_loop(begin, end, lambda i, c: self.step(i, c), carry)

    @eqx.filter_jit
    def record(self, carry: tuple[Array, Any], frames: int, stride: int) -> Array:
        """The potential after every `stride` steps."""

        def frame(carry: tuple[Array, Any], j: Array) -> tuple[tuple[Array, Any], Array]:
            begin, end = j * stride, (j + 1) * stride
            carry = jax.lax.fori_loop(begin, end, lambda i, c: self.step(i, c), carry)
            return carry, carry[0]

        return jax.lax.scan(frame, carry, jnp.arange(frames))[1]


def _start(
    model: AbstractIonicModel, initial: tuple[Any, Any] | None, dtype: Any
) -> tuple[Array, Any]:
    v0, state0 = model.initial() if initial is None else initial
    parameters = [getattr(model, row.name) for row in model.parameters()]
    shape = np.broadcast_shapes(*(np.shape(x) for x in (v0, *state0, *parameters)))
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
