"""Times of a run that fit together: whole steps in a frame, whole windows, whole frames."""

from typing import Any

import numpy as np

from .scheme import AbstractScheme, Godunov

# Relative distance from a whole number of steps that still counts as whole.
WHOLE = 1e-6
# Longest window over which it is decided who takes longer steps.
WINDOW = 1.5  # ms


def check_times(t1: float, dt: float, every: float, quiet_dt: float | None = None) -> None:
    """Refuse times that `solve` would refuse, before anything is built.

    Raises:
        ValueError: a time is not positive, or not a multiple of the one it should be.
    """
    steps, _ = grid(t1, dt, every)
    if quiet_dt is not None:
        stride_of(quiet_dt, dt, window_steps(steps, dt))


def check_multirate(scheme: AbstractScheme, quiet_dt: float | None, devices: Any = None) -> None:
    """Refuse `multirate` where it cannot be.

    Raises:
        ValueError: without `quiet_dt`, with another splitting than Godunov's, or on many devices.
    """
    if devices is not None:
        raise ValueError(
            "multirate gathers the cells of one device; the run is spread over several. Leave out "
            "multirate or devices."
        )
    if quiet_dt is None:
        raise ValueError(
            "multirate lets cells away from a wave take the step quiet_dt, which is None. Give a "
            "quiet_dt, such as 0.2 ms, or leave multirate out."
        )
    if not isinstance(scheme, Godunov):
        raise ValueError(
            f"multirate divides the reaction of Godunov splitting; the scheme is "
            f"{type(scheme).__name__}. Take Godunov, or leave multirate out."
        )


def window_steps(steps: int, dt: float) -> int:
    """Time steps of a window: a divisor of those of a frame, of about a millisecond."""
    return max(k for k in range(1, steps + 1) if steps % k == 0 and (k == 1 or k * dt <= WINDOW))


def grid(t1: float, dt: float, every: float, done: int = 0) -> tuple[int, int]:
    """Steps a frame and frames of the run; refuses times that are not whole multiples."""
    for name, value in (("dt", dt), ("every", every), ("t1", t1)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value} ms; give a positive time.")
    steps = _multiple("every", every, "dt", dt)
    frames = _multiple("t1", t1, "every", every)
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


def stride_of(quiet_dt: float, dt: float, steps: int) -> int:
    """Steps in one step of a quiet frame: a divisor of `steps` that keeps to `quiet_dt`."""
    if not (np.isfinite(quiet_dt) and quiet_dt >= dt * (1 - WHOLE)):
        raise ValueError(
            f"quiet_dt is {quiet_dt} ms; it cannot be shorter than dt = {dt} ms. Give a longer "
            "step, such as 0.2 ms, or None to step by dt throughout."
        )
    longest = quiet_dt / dt * (1 + WHOLE)
    return max(k for k in range(1, steps + 1) if steps % k == 0 and k <= longest)
