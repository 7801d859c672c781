"""Flat figures: the twelve-lead ECG on ECG paper, and action potentials."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cardiotwin.results._ecg_sheet import LARGE_BOX, Sheet, lay_out
from cardiotwin.results._files import atomic_path
from cardiotwin.results._palette import INK, LINES
from cardiotwin.results.film import film as film
from cardiotwin.results.scene import activation_map as activation_map

_MM_PER_INCH = 25.4
_PAPER = "#fffafa"
_SMALL_GRID, _LARGE_GRID = "#f7c9cb", "#ec9a9f"
_TRACE_MM = 0.3
_POINTS_PER_MM = 72.0 / _MM_PER_INCH


def ecg_paper(
    path: Path | str,
    t_ms: Float[np.ndarray, " samples"],
    ecg: Float[np.ndarray, "samples leads"],
    names: Sequence[str],
    *,
    title: str = "12-lead ECG",
    measurements: Mapping[str, str] | None = None,
    speed: float = 25.0,
    gain: float | None = None,
    rhythm: str = "II",
    dpi: int = 300,
    over: tuple[np.ndarray, np.ndarray] | None = None,
    labels: tuple[str, str] = ("simulated", "recorded"),
) -> Path:
    """Draw an ECG on ECG paper, true to scale when printed at 100 %.

    Three leads stand in each column. A signal of up to 2.5 s is shown whole in every lead; a
    longer one runs on through the columns, with a rhythm strip below. Rows are as tall as their
    leads need, so that no wave is clipped or crosses another.

    Args:
        path: the picture; its suffix chooses the format (.png, .pdf, .svg).
        t_ms: increasing times in ms.
        ecg: [samples, leads] mV.
        names: lead names, such as `cardiotwin.ecg.leads.LEAD_NAMES`.
        title: in the upper left corner.
        measurements: name -> text, below the title ({"QRS": "92 ms"}).
        speed: of the paper, mm/s.
        gain: mm/mV; None takes 10, or less where a row would be taller than 60 mm.
        rhythm: lead of the strip below long signals.
        dpi: dots an inch of a .png.
        over: times and signals of a second ECG with the same leads, such as a recording, drawn
            over the first in blue on the same axis of time.
        labels: what the first and the second ECG are.

    Returns:
        The path.

    Raises:
        ValueError: when shapes do not fit or a lead has no finite value.
        DiskFull: when the picture does not fit on the disk.
    """
    t_ms, ecg = _finite_leads(t_ms, ecg, names)
    if over is not None:
        over = _finite_leads(*over, names)
    text = [title, "   ".join(f"{name} {value}" for name, value in (measurements or {}).items())]
    sheet = lay_out(t_ms, ecg, names, speed=speed, gain=gain, rhythm=rhythm, text=text, over=over)
    figure, axes = _page(sheet, dpi)
    _draw_leads(axes, sheet)
    if over is not None:
        for k, (label, colour) in enumerate(zip(labels, (INK, LINES[0]), strict=True)):
            place = sheet.width - 8.0, 6.8 - 3.3 * k
            axes.text(*place, label, size=7.5, color=colour, weight="bold", ha="right")
    _write_text(axes, sheet)
    return _save(figure, path, dpi)


def action_potentials(
    path: Path | str,
    t_ms: Float[np.ndarray, " samples"],
    v: Float[np.ndarray, "samples probes"],
    labels: Sequence[str],
    *,
    title: str = "Action potentials",
) -> Path:
    """Plot the transmembrane voltage at probes over time.

    Args:
        path: the picture; its suffix chooses the format.
        t_ms: [samples] ms.
        v: [samples, probes] mV.
        labels: one a probe.
        title: over the picture.

    Returns:
        The path.

    Raises:
        ValueError: when the shapes do not fit.
        DiskFull: when the picture does not fit on the disk.
    """
    t_ms, v = np.asarray(t_ms, np.float64), np.asarray(v, np.float64)
    if v.shape != (len(t_ms), len(labels)):
        raise ValueError(
            f"voltages have shape {v.shape}, expected (times, labels) = {len(t_ms), len(labels)}"
        )
    figure = _figure(7.0, 3.8)
    axes = figure.add_axes((0.095, 0.135, 0.68, 0.765))
    styles = ("-", "--", "-.", ":")
    for k, label in enumerate(labels):
        style = styles[k // len(LINES) % len(styles)]
        axes.plot(t_ms, v[:, k], style, color=LINES[k % len(LINES)], lw=1.5, label=label)
    axes.set_xlim(t_ms[0], t_ms[-1])
    low, high = np.nanmin(v, initial=-90.0), np.nanmax(v, initial=40.0)
    axes.set_ylim(10 * np.floor(low / 10), 10 * np.ceil(high / 10))
    axes.set_xlabel("time (ms)")
    axes.set_ylabel("transmembrane voltage (mV)")
    axes.grid(color="#e3e3e6", lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(title, loc="left", size=11, weight="bold", color=INK)
    if labels:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=8.5)
    return _save(figure, path, 160, tight=True)


def _figure(width: float, height: float) -> Any:
    """A matplotlib figure of so many inches, free of pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path | str, dpi: int, *, tight: bool = False) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, bbox_inches="tight" if tight else None)
    return Path(path)


def _page(sheet: Sheet, dpi: int) -> tuple[Any, Any]:
    """A page whose data coordinates are millimetres, with the 1 mm and 5 mm grid."""
    from matplotlib.collections import LineCollection

    figure = _figure(sheet.width / _MM_PER_INCH, sheet.height / _MM_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, sheet.width)
    axes.set_ylim(0, sheet.height)
    axes.set_axis_off()
    figure.set_facecolor(_PAPER)
    for spacing, colour, width in ((1.0, _SMALL_GRID, 0.1), (LARGE_BOX, _LARGE_GRID, 0.18)):
        lines = [[(x, 0), (x, sheet.height)] for x in np.arange(0, sheet.width + 1e-9, spacing)]
        lines += [[(0, y), (sheet.width, y)] for y in np.arange(0, sheet.height + 1e-9, spacing)]
        width_pt = max(width * _POINTS_PER_MM, 72.0 / dpi)
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width_pt, zorder=0))
    return figure, axes


def _finite_leads(t_ms: Any, ecg: Any, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Times and signals that can be drawn."""
    t_ms, ecg = np.asarray(t_ms, np.float64), np.asarray(ecg, np.float64)
    if ecg.shape != (len(t_ms), len(names)) or len(t_ms) < 2:
        raise ValueError(
            f"ECG has shape {ecg.shape} for {len(t_ms)} times and {len(names)} leads; expected "
            "two times or more and one row a time, one column a lead"
        )
    if not (np.diff(t_ms) > 0).all() or not np.isfinite(ecg).any(axis=0).all():
        raise ValueError("ECG times must increase, and every lead needs a finite value to draw")
    return t_ms, ecg


def _draw_leads(axes: Any, sheet: Sheet) -> None:
    """Calibration pulses, the leads with their names, and the second ECG in blue."""
    width = _TRACE_MM * _POINTS_PER_MM
    for x, y in sheet.pulses:
        axes.plot(x, y, color=INK, lw=width, solid_joinstyle="miter")
    for k, trace in enumerate(sheet.traces):
        axes.plot(trace.x, trace.y, color=INK, lw=width)
        x, y = trace.label
        high = max(y, sheet.over[k].label[1]) if sheet.over else y
        axes.text(x, high, trace.name, size=7.5, weight="bold", color=INK, va="bottom")
    for trace in sheet.over:
        axes.plot(trace.x, trace.y, color=LINES[0], lw=width)


def _write_text(axes: Any, sheet: Sheet) -> None:
    for line in sheet.lines:
        axes.text(
            line.x,
            line.y,
            line.text,
            size=line.size * _POINTS_PER_MM,
            weight="bold" if line.bold else "normal",
            color=INK,
            va="top",
        )
    usual = sheet.speed == 25.0 and sheet.gain == 10.0
    scale = f"{sheet.speed:g} mm/s   {sheet.gain:g} mm/mV   {sheet.note}"
    axes.text(8.0, 3.5, scale, size=7.5, color=INK if usual else "#b00020", weight="bold")
