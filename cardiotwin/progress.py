"""How far a run is: a bar on a terminal, a line now and then in a batch log."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

_SHARE = 0.1  # of the run, between two lines of a batch log
_PAUSE = 30.0  # seconds, at most, between two lines of a batch log
_BAR = "{desc} {percentage:3.0f} %|{bar:24}| {postfix[0]}"
_BLINK = 0.1  # seconds, at least, between two states of the bar


class Progress:
    """Reports simulated time, speed and time left while a solver runs.

    Use it as a context manager and call it with the simulated time reached::

        with Progress(450.0, nodes=52_210, dt=0.02) as progress:
            for t in frames:
                progress(t)

    The speed leaves out everything before the first call, which holds the compilation.

    Args:
        t1: end of the run, ms.
        nodes: nodes of the mesh; with `dt`, the speed is given in node-steps a second too.
        dt: time step, ms.
        t0: start of the run, ms.
        label: first word of the report.
        enabled: False reports nothing.
        stream: where to write; standard error by default.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        t1: float,
        *,
        nodes: int = 0,
        dt: float = 0.0,
        t0: float = 0.0,
        label: str = "beat",
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not t1 > t0:
            raise ValueError(f"the run ends at {t1} ms, which is not after its start at {t0} ms")
        self._t0, self._t1 = float(t0), float(t1)
        self._steps_per_ms = nodes / dt if dt > 0 else 0.0
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._enabled = enabled
        self._bar: Any = None
        self._first: tuple[float, float] | None = None  # simulated and real time of the first call
        self._begun = clock()
        self._shown_at = self._begun
        self._shown_t = self._t0

    def __enter__(self) -> Self:
        """Show that the run has begun."""
        self._begun = self._shown_at = self._clock()
        if self._enabled and self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._t1 - self._t0,
                desc=self._label,
                bar_format=_BAR,
                file=self._stream,
                postfix=["compiling"],  # pyright: ignore[reportArgumentType]  # shown as it is
                dynamic_ncols=True,
            )
        return self

    def __call__(self, t: float) -> None:
        """Report that the run has reached a simulated time.

        Args:
            t: simulated time, ms.
        """
        if not self._enabled:
            return
        now = self._clock()
        if self._first is None:
            self._first = (t, now)
        if self._bar is not None:
            if t >= self._t1 or now - self._shown_at >= _BLINK:
                self._shown_at = now
                self._bar.n = min(t, self._t1) - self._t0
                self._bar.postfix = [self._text(t, now)]
                self._bar.refresh()
        elif self._due(t, now):
            self._line(t, now)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _due(self, t: float, now: float) -> bool:
        share = (t - self._shown_t) / (self._t1 - self._t0)
        return t >= self._t1 or share >= _SHARE - 1e-9 or now - self._shown_at >= _PAUSE

    def _line(self, t: float, now: float) -> None:
        if t <= self._shown_t:
            return
        self._shown_t, self._shown_at = t, now
        print(f"{self._label}: {self._text(t, now)}", file=self._stream, flush=True)

    def _text(self, t: float, now: float) -> str:
        parts = [f"{t:.4g}/{self._t1:.4g} ms"]
        speed = self._speed(t, now)
        if t >= self._t1:
            parts.append(f"{_clock_text(now - self._begun)} taken")
        if speed > 0:
            parts.append(f"{speed:.3g} ms/s")
            if self._steps_per_ms > 0:
                parts.append(f"{_count(speed * self._steps_per_ms)} node-steps/s")
            if t < self._t1:
                parts.append(f"{_clock_text((self._t1 - t) / speed)} left")
        return ", ".join(parts)

    def _speed(self, t: float, now: float) -> float:
        """Simulated ms a second since the first call."""
        if self._first is None:
            return 0.0
        t_first, first = self._first
        return (t - t_first) / (now - first) if now > first and t > t_first else 0.0


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _count(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"
