"""Where each lead goes on a sheet of ECG paper, in millimetres of paper."""

import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiotwin.units import MS_PER_S

ROWS = 3  # leads of a column; twelve leads make the usual 3 by 4
LARGE_BOX = 5.0  # mm
SEQUENTIAL_FROM_MS = 2500.0  # longer signals run on through the columns and get a rhythm strip
LONGEST_MS = 10_000.0
_GAINS = (10.0, 5.0, 2.5, 1.0, 0.5, 0.2, 0.1)  # mm/mV
_TALLEST_ROW = 60.0  # mm, before the gain is halved
_SHORTEST_ROW = 20.0
_GAP = 5.0  # mm between the lowest point of a row and the highest of the next
_PULSE_WIDTH = 5.0  # mm, 200 ms
_PULSE_BEFORE, _PULSE_AFTER = 2.0, 3.0  # mm around the calibration pulse
_COLUMN_GAP = 8.0  # mm between leads that stand side by side
_SHORTEST_COLUMN = 20.0
_SIDE = 8.0  # mm of margin
_FOOT = 9.0
_LABEL_HEIGHT = 4.0  # mm above a trace that its name needs
_LABEL_WIDTH = 9.0
_TITLE_SIZE, _TEXT_SIZE = 3.4, 2.7  # mm
_TOP = 4.0  # mm above the first line


class Trace(NamedTuple):
    """One lead, or a piece of one, on paper.

    Attributes:
        name: the lead.
        x: [samples] mm from the left edge.
        y: [samples] mm from the lower edge.
        label: where its name stands, (x, y) mm.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    label: tuple[float, float]


class Line(NamedTuple):
    """A line of text at the top of the page.

    Attributes:
        text: what it says.
        x: mm from the left edge.
        y: mm of its upper edge from the lower edge of the page.
        size: of the letters, mm.
        bold: how it is set.
    """

    text: str
    x: float
    y: float
    size: float
    bold: bool


class Sheet(NamedTuple):
    """A laid-out page.

    Attributes:
        width: mm.
        height: mm.
        speed: mm/s.
        gain: mm/mV.
        traces: the leads.
        over: the same leads of the ECG that is drawn over them, if any.
        pulses: outlines of the 1 mV calibration pulses, (x, y) mm each.
        lines: title and measurements.
        note: what the page leaves out, or "".
    """

    width: float
    height: float
    speed: float
    gain: float
    traces: list[Trace]
    over: list[Trace]
    pulses: list[tuple[np.ndarray, np.ndarray]]
    lines: list[Line]
    note: str


def lay_out(
    t_ms: np.ndarray,
    ecg: np.ndarray,
    names: Sequence[str],
    *,
    speed: float,
    gain: float | None,
    rhythm: str,
    text: Sequence[str],
    over: tuple[np.ndarray, np.ndarray] | None = None,
) -> Sheet:
    """Place the leads column by column, three in each, with room for their greatest deflections.

    Signals up to 2.5 s are shown whole, side by side. Longer ones run on from column to column as
    on a recorder, with one lead below in full; at most 10 s are shown.

    Args:
        t_ms: [samples] increasing.
        ecg: [samples, leads] mV.
        names: lead names.
        speed: mm/s.
        gain: mm/mV; None takes 10, or the largest of the usual smaller ones that keeps rows below
            60 mm.
        rhythm: lead of the strip below long signals.
        text: title, then other paragraphs, wrapped to the page.
        over: times and signals of an ECG with the same leads on the same axis of time.

    Returns:
        The sheet; its width and height are multiples of 5 mm.
    """
    t_ms, ecg, note = _shown(t_ms, ecg)
    duration = t_ms[-1] - t_ms[0]
    sequential = duration > SEQUENTIAL_FROM_MS
    rows = [list(range(r, len(names), ROWS)) for r in range(min(ROWS, len(names)))]
    if sequential and rhythm in names:
        rows.append([list(names).index(rhythm)])
    both = ecg if over is None else np.concatenate([ecg, over[1]])
    gain = _fitting_gain(both, rows) if gain is None else gain
    columns = math.ceil(len(names) / ROWS)
    start = _SIDE + _PULSE_BEFORE + _PULSE_WIDTH + _PULSE_AFTER
    paper = speed * duration / MS_PER_S  # mm that the signal takes
    step = 0.0 if sequential else max(paper, _SHORTEST_COLUMN) + _COLUMN_GAP
    right = start + (paper if sequential else columns * step - _COLUMN_GAP) + _SIDE
    width = LARGE_BOX * math.ceil(right / LARGE_BOX)
    lines, head = _wrapped(text, width)
    zeros, depth = _zero_lines(both, rows, gain, head)
    height = LARGE_BOX * math.ceil((depth + _FOOT) / LARGE_BOX)
    grid = _Grid(t_ms[0], t_ms[-1], start, step, speed, gain, columns, sequential)
    bases = [height - zero for zero in zeros]
    return Sheet(
        width,
        height,
        speed,
        gain,
        _traces(grid, rows, bases, t_ms, ecg, names),
        [] if over is None else _traces(grid, rows, bases, *over, names),
        [_pulse(height - zero, gain) for zero in zeros],
        [line._replace(y=height - line.y) for line in lines],
        note,
    )


class _Grid(NamedTuple):
    """How times and voltages become millimetres of paper."""

    first: float
    last: float
    start: float
    step: float
    speed: float
    gain: float
    columns: int
    sequential: bool


def _traces(
    grid: _Grid,
    rows: list[list[int]],
    bases: Sequence[float],
    t_ms: np.ndarray,
    ecg: np.ndarray,
    names: Sequence[str],
) -> list[Trace]:
    """The leads of one ECG where the sheet has them; `bases` are the rows' 0 mV."""
    placed = []
    for r, row in enumerate(rows):
        for k, lead in enumerate(row):
            first, last = grid.first, grid.last
            if grid.sequential and r < ROWS:
                first, last = np.linspace(first, last, grid.columns + 1)[k : k + 2]
            piece = _between(t_ms, first, last)
            x = grid.start + k * grid.step + grid.speed * (t_ms[piece] - grid.first) / MS_PER_S
            y = bases[r] + grid.gain * ecg[piece, lead]
            placed.append(Trace(names[lead], x, y, _label_place(x, y)))
    return placed


def _shown(t_ms: np.ndarray, ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    duration = t_ms[-1] - t_ms[0]
    if duration <= LONGEST_MS:
        return t_ms, ecg, ""
    kept = t_ms <= t_ms[0] + LONGEST_MS
    return (
        t_ms[kept],
        ecg[kept],
        f"first {LONGEST_MS / MS_PER_S:g} s of {duration / MS_PER_S:g} s",
    )


def _fitting_gain(ecg: np.ndarray, rows: list[list[int]]) -> float:
    tallest = max(float(np.nanmax(ecg[:, row]) - np.nanmin(ecg[:, row])) for row in rows)
    return next((g for g in _GAINS if g * tallest <= _TALLEST_ROW), _GAINS[-1])


def _zero_lines(
    ecg: np.ndarray, rows: list[list[int]], gain: float, head: float
) -> tuple[list[float], float]:
    """Depth of each row's 0 mV below the top of the page, and of the lowest point, mm."""
    zeros, depth = [], head
    for row in rows:
        low = gain * min(0.0, float(np.nanmin(ecg[:, row])))
        high = gain * max(1.0, float(np.nanmax(ecg[:, row])))  # the calibration pulse too
        room = max(high - low + _LABEL_HEIGHT, _SHORTEST_ROW)
        zeros.append(depth + room + low)
        depth += room + _GAP
    return zeros, depth - _GAP


def _wrapped(text: Sequence[str], width: float) -> tuple[list[Line], float]:
    """Lines that fit the page, their y counted downwards, and the depth below them, mm."""
    lines, depth = [], _TOP
    for k, paragraph in enumerate(text):
        size = _TITLE_SIZE if k == 0 else _TEXT_SIZE
        letters = int((width - 2 * _SIDE) / (0.68 * size))  # letters are about 0.6 to 0.7 wide
        for line in textwrap.wrap(paragraph, letters):
            lines.append(Line(line, _SIDE, depth, size, k == 0))
            depth += 1.5 * size
    return lines, depth + 2.0


def _label_place(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Just above the first part of the trace, which the name does not touch then."""
    if len(x) == 0:
        return 0.0, 0.0
    near = y[x <= x[0] + _LABEL_WIDTH]
    return float(x[0]) + 0.7, float(np.nanmax(near, initial=y[0])) + 0.8


def _between(times: np.ndarray, first: float, last: float) -> slice:
    return slice(
        int(np.searchsorted(times, first)), int(np.searchsorted(times, last, side="right"))
    )


def _pulse(base: float, gain: float) -> tuple[np.ndarray, np.ndarray]:
    left, right = _SIDE + _PULSE_BEFORE, _SIDE + _PULSE_BEFORE + _PULSE_WIDTH
    x = np.array([_SIDE, left, left, right, right, right + _PULSE_AFTER - 1.0])
    return x, base + gain * np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
