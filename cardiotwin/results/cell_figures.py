"""Figures of single cells: a beat, restitution, doses of a drug, a population."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from cardiotwin.ionic.biomarkers import MEASURES
from cardiotwin.ionic.pacing import Recording
from cardiotwin.ionic.protocols import S1S1, S1S2
from cardiotwin.propagation.restitution import VelocityRestitution
from cardiotwin.results._palette import INK, LINES, NEVER
from cardiotwin.results.figures import _figure, _save

_GRID = "#e3e3e6"
_NM_PER_MM = 1e6
# Currents whose peaks differ so much that they share no axis: the upstroke's, and the others.
_FAST = ("I_Na",)
# The first currents of a beat are ten times those of the plateau.
_EARLY = 20.0  # ms
_STYLES = ("-", "--", ":")


def draw_beat(path: Path | str, recording: Recording, *, title: str) -> Path:
    """Draw a beat of one cell: potential, calcium where there is any, and currents.

    Args:
        path: the picture; its suffix chooses the format.
        recording: of one cell, with or without currents.
        title: over the picture.

    Returns:
        The path.
    """
    rows = [_draw_potential]
    rows += [_draw_calcium] if recording.calcium is not None else []
    rows += [_draw_currents] if recording.currents else []
    figure = _figure(7.2, 1.1 + 2.3 * len(rows))
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for draw, axes in zip(rows, panels, strict=True):
        draw(axes, recording)
        _tidy(axes)
    panels[-1].set_xlabel("time (ms)")
    panels[-1].set_xlim(0, recording.t[-1])
    panels[0].set_title(title, loc="left", size=11, weight="bold", color=INK)
    return _save(figure, path, 160, tight=True)


def draw_restitution(
    path: Path | str,
    *,
    dynamic: S1S1 | None = None,
    standard: S1S2 | None = None,
    velocity: VelocityRestitution | None = None,
    title: str,
) -> Path:
    """Draw restitution curves, those that are given.

    Args:
        path: the picture.
        dynamic: APD90 over cycle length, the last two beats of each (they part in alternans).
        standard: APD90 over the diastolic interval.
        velocity: conduction velocity over the interval from S1 to S2.
        title: over the picture.

    Returns:
        The path.
    """
    given: list[Callable[[Any], None]] = []
    given += [] if dynamic is None else [partial(_dynamic, found=dynamic)]
    given += [] if standard is None else [partial(_standard, found=standard)]
    given += [] if velocity is None else [partial(_velocity, found=velocity)]
    figure = _figure(4.2 * len(given) + 0.4, 3.6)
    panels = figure.subplots(1, len(given), squeeze=False)[0]
    for draw, axes in zip(given, panels, strict=True):
        draw(axes)
        _tidy(axes)
    figure.suptitle(title, x=0.02, ha="left", size=11, weight="bold", color=INK)
    figure.subplots_adjust(top=0.84, wspace=0.34, bottom=0.16)
    return _save(figure, path, 160, tight=True)


def draw_doses(
    path: Path | str,
    recording: Recording,
    multiples: Sequence[float],
    measures: Mapping[str, Float[np.ndarray, " doses"]],
    *,
    title: str,
) -> Path:
    """Draw beats at several concentrations of a drug, and APD90 over the concentration.

    Args:
        path: the picture.
        recording: one cell a concentration.
        multiples: of the therapeutic concentration.
        measures: biomarkers of the cells.
        title: over the picture.

    Returns:
        The path.
    """
    figure = _figure(9.2, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1.0))
    colours = _shades(len(multiples))
    for k, (multiple, colour) in enumerate(zip(multiples, colours, strict=True)):
        left.plot(recording.t, recording.v[:, k], color=colour, lw=1.4, label=f"{multiple:g} x")
    left.set(xlabel="time (ms)", ylabel="membrane potential (mV)", xlim=(0, recording.t[-1]))
    left.legend(frameon=False, fontsize=8, title="therapeutic", title_fontsize=8)
    right.plot(multiples, measures["apd90"], "o-", color=LINES[0], lw=1.4, ms=4)
    right.set(xlabel="multiple of the therapeutic concentration", ylabel="APD90 (ms)")
    for axes in (left, right):
        _tidy(axes)
    left.set_title(title, loc="left", size=11, weight="bold", color=INK)
    return _save(figure, path, 160, tight=True)


def draw_population(
    path: Path | str,
    t: Float[np.ndarray, " times"],
    v: Float[np.ndarray, "times cells"],
    kept: Bool[np.ndarray, " cells"],
    measures: Mapping[str, Float[np.ndarray, " cells"]],
    ranges: Mapping[str, tuple[float, float]],
    *,
    title: str,
) -> Path:
    """Draw the beats of a population, accepted cells over the others, and two biomarkers.

    Args:
        path: the picture.
        t: times, ms.
        v: potentials, mV.
        kept: which cells are accepted.
        measures: biomarkers of all cells.
        ranges: biomarker to the range it was held to.
        title: over the picture.

    Returns:
        The path.
    """
    figure = _figure(9.2, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1.0))
    for chosen, colour, label in ((~kept, NEVER, "rejected"), (kept, LINES[0], "accepted")):
        shown = np.flatnonzero(chosen)[:300]
        lines = left.plot(t, v[:, shown], color=colour, lw=0.5, alpha=0.6)
        if lines:
            lines[0].set_label(f"{label} ({int(chosen.sum())})")
        right.plot(
            measures["apd90"][chosen], measures["peak"][chosen], ".", color=colour, ms=4, alpha=0.7
        )
    left.set(xlabel="time (ms)", ylabel="membrane potential (mV)", xlim=(0, t[-1]))
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="APD90 (ms)", ylabel="peak (mV)")
    for name, line in (("apd90", right.axvline), ("peak", right.axhline)):
        for end in ranges.get(name, ()):
            line(end, color=INK, lw=0.8, ls=":")
    for axes in (left, right):
        _tidy(axes)
    left.set_title(title, loc="left", size=11, weight="bold", color=INK)
    return _save(figure, path, 160, tight=True)


def _draw_potential(axes: Any, recording: Recording) -> None:
    axes.plot(recording.t, recording.v, color=INK, lw=1.5)
    axes.set_ylabel("potential (mV)")


def _draw_calcium(axes: Any, recording: Recording) -> None:
    assert recording.calcium is not None
    axes.plot(recording.t, _NM_PER_MM * recording.calcium, color=LINES[1], lw=1.5)
    axes.set_ylabel("free calcium (nM)")


def _draw_currents(axes: Any, recording: Recording) -> None:
    slow = {name: x for name, x in recording.currents.items() if name not in _FAST}
    # the largest first, so that colours go to what can be seen
    order = sorted(slow, key=lambda name: -float(np.nanmax(np.abs(slow[name]))))
    for k, name in enumerate(order):
        style = _STYLES[k // len(LINES) % len(_STYLES)]
        axes.plot(recording.t, slow[name], style, color=LINES[k % len(LINES)], lw=1.2, label=name)
    left_out = ", ".join(
        f"{name} (peak {np.nanmin(recording.currents[name]):.0f} pA/pF)"
        for name in _FAST
        if name in recording.currents and slow
    )
    early = recording.t < _EARLY
    late = (
        np.stack(list(slow.values()))[:, ~early] if slow and not early.all() else np.zeros((1, 1))
    )
    low, high = min(late.min(), 0.0), max(late.max(), 0.0)
    axes.set_ylim(low - 0.15 * (high - low) - 1e-3, high + 0.15 * (high - low) + 1e-3)
    axes.set_ylabel("current (pA/pF)")
    axes.set_title(f"scaled to what comes after {_EARLY:g} ms", size=8, loc="right")
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=8,
        title=f"not drawn: {left_out}" if left_out else None, title_fontsize=7,
    )  # fmt: skip


def _dynamic(axes: Any, found: S1S1) -> None:
    for beat, marker, label in ((0, "s", "last but one"), (1, "o", "last")):
        axes.plot(
            found.cycle_length, found.apd90[beat], marker, color=LINES[beat], ms=4, label=label
        )
    lost = found.cycle_length[~found.follows]
    if lost.size:
        axes.plot(
            lost, np.full(lost.size, np.nanmin(found.apd90)), "x", color=NEVER, label="not followed"
        )
    axes.set(xlabel="cycle length (ms)", ylabel="APD90 (ms)")
    axes.set_title(f"S1-S1, steepest slope {found.steepest:.2f}", size=9)
    axes.legend(frameon=False, fontsize=8, title="beat", title_fontsize=8)


def _standard(axes: Any, found: S1S2) -> None:
    axes.plot(found.diastolic_interval, found.apd90, "o-", color=LINES[0], ms=4, lw=1.2)
    axes.set(xlabel="diastolic interval (ms)", ylabel="APD90 (ms)")
    axes.set_title(f"S1-S2 at {found.s1:g} ms, steepest slope {found.steepest:.2f}", size=9)


def _velocity(axes: Any, found: VelocityRestitution) -> None:
    on = found.conducted
    axes.plot(found.interval[on], found.velocity[on], "o-", color=LINES[0], ms=4, lw=1.2)
    if (~on).any():
        axes.plot(found.interval[~on], found.velocity[~on], "x", color=NEVER, label="blocked")
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel="S1-S2 interval (ms)", ylabel="conduction velocity (m/s)")
    axes.set_ylim(0, None)
    axes.set_title(f"conduction, S1 at {found.s1:g} ms", size=9)


def _shades(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](x) for x in np.linspace(0.0, 0.85, count)]


def _tidy(axes: Any) -> None:
    axes.grid(color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def measures_table(measures: Mapping[str, Any]) -> str:
    """Biomarkers of one cell as lines of text with their units."""
    lines = []
    for name, (unit, meaning) in MEASURES.items():
        if name in measures:
            value = float(measures[name])
            shown = "none" if np.isnan(value) else f"{value:.4g} {unit}"
            lines.append(f"  {name:<21} {shown:<16} {meaning}")
    return "\n".join(lines)
