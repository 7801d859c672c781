"""Loops of the vectorcardiogram in the three planes of the body."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cardiotwin.results._palette import INK, LINES
from cardiotwin.results.figures import _figure, _save

# title, horizontal axis and its ends, vertical axis and its ends; signs of X left, Y down, Z back
_PLANES = (
    ("frontal", (0, 1.0, "right", "left"), (1, -1.0, "down", "up")),
    ("transverse, from above", (0, 1.0, "right", "left"), (2, 1.0, "front", "back")),
    ("sagittal, from the right", (2, -1.0, "back", "front"), (1, -1.0, "down", "up")),
)
TICK_MS = 10.0  # between the dots on the QRS loop


def vcg_loops(
    path: Path | str,
    t_ms: Float[np.ndarray, " samples"],
    loop: Float[np.ndarray, "samples 3"],
    *,
    qrs: tuple[float, float],
    t_wave: tuple[float, float] | None = None,
    title: str = "Vectorcardiogram",
) -> Path:
    """Draw the QRS and T loops of a vectorcardiogram in three planes of the body.

    Dots stand 10 ms apart on the QRS loop; an arrow says which way it turns.

    Args:
        path: the picture; its suffix chooses the format.
        t_ms: [samples] increasing ms.
        loop: [samples, 3] mV from the baseline, X left, Y down, Z back, as
            `cardiotwin.ecg.vectorcardiogram` gives it.
        qrs: onset and offset in ms.
        t_wave: beginning and end of the T wave in ms; None leaves it out.
        title: over the picture.

    Returns:
        The path.

    Raises:
        ValueError: when the shapes do not fit or the QRS lies outside the times.
        DiskFull: when the picture does not fit on the disk.
    """
    t_ms, loop = np.asarray(t_ms, np.float64), np.asarray(loop, np.float64)
    if loop.shape != (len(t_ms), 3):
        raise ValueError(f"the loop has shape {loop.shape}; expected {(len(t_ms), 3)}")
    inside = (t_ms >= qrs[0]) & (t_ms <= qrs[1])
    if inside.sum() < 3:
        raise ValueError(f"the QRS from {qrs[0]:g} to {qrs[1]:g} ms holds fewer than three samples")
    late = np.zeros(len(t_ms), bool)
    if t_wave is not None:
        late = (t_ms >= t_wave[0]) & (t_ms <= t_wave[1])
    ticks = np.arange(qrs[0], qrs[1], TICK_MS)
    dots = np.stack([np.interp(ticks, t_ms, axis) for axis in loop.T], axis=1)
    reach = 1.15 * max(float(np.abs(loop[inside | late]).max()), 1e-3)
    figure = _figure(10.2, 3.9)
    for k, (name, across, upward) in enumerate(_PLANES):
        axes = figure.add_axes((0.055 + 0.325 * k, 0.13, 0.27, 0.71))
        _draw_plane(axes, loop[inside], loop[late], dots, across, upward)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_title(name, fontsize=9.5, color=INK)
    figure.text(0.02, 0.95, title, fontsize=11, weight="bold", color=INK)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncol=3, frameon=False, fontsize=8.5)
    return _save(figure, path, 160)


def _draw_plane(axes: Any, early: Any, late: Any, dots: Any, across: Any, upward: Any) -> None:
    (i, sign_i, low, high), (j, sign_j, bottom, top) = across, upward

    def flat(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return sign_i * points[:, i], sign_j * points[:, j]

    axes.axhline(0.0, color="#d0d0d4", lw=0.7, zorder=0)
    axes.axvline(0.0, color="#d0d0d4", lw=0.7, zorder=0)
    x, y = flat(early)
    axes.plot(x, y, color=LINES[0], lw=1.4, label="QRS")
    axes.plot(*flat(dots), "o", color=LINES[0], ms=2.6, label="every 10 ms")
    if len(late):
        axes.plot(*flat(late), color=LINES[1], lw=1.4, label="T")
    # halfway out to the tip of the loop, so that the two limbs are told apart
    size = np.hypot(x, y)
    far = int(np.argmax(size))
    at = int(np.argmax(size[: far + 1] >= 0.5 * size[far]))
    last, first = min(at + 2, len(x) - 1), max(at - 2, 0)
    way = np.array([x[last] - x[first], y[last] - y[first]])
    way *= 0.02 * size[far] / max(float(np.hypot(*way)), 1e-12)
    style = {"arrowstyle": "-|>", "color": LINES[0], "lw": 0, "mutation_scale": 15}
    style |= {"shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x[at] + way[0], y[at] + way[1]), (x[at], y[at]), arrowprops=style)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{abs(value):g}")  # the ends are named instead
    axes.set_aspect("equal")
    axes.set_xlabel(f"{low}  ←  mV  →  {high}", fontsize=8.5)
    axes.set_ylabel(f"{bottom}  ←  mV  →  {top}", fontsize=8.5)
    axes.tick_params(labelsize=7.5)
