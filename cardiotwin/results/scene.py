"""Pictures of the heart: activation maps with isochrones, seen from chosen directions."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results import _raster, _surface
from cardiotwin.results._files import atomic_path
from cardiotwin.results._palette import INK, activation_colours, look_up
from cardiotwin.results._stage import Drawing, Framing, Vector
from cardiotwin.results._stage import View as View

_PANEL_HEIGHT = 780  # px
_PANEL_INCHES = 4.2  # height of a panel on the page
_LETTERS_AN_INCH = 14  # of the notes
_SCALE_BAR_MM = 20.0
_HIDDEN_MM = 1.0  # depth behind the surface at which a line counts as hidden
_MOST_LEVELS = 25
_LINE_WIDTH = 0.6  # points
_GRAZING = 0.05  # cosine below which a face is seen edge-on: lines on it would run together


class HeartDirections(Protocol):
    """What views ask of the heart's axes: two unit vectors of the mesh."""

    @property
    def apex_to_base(self) -> np.ndarray:
        """Along the long axis."""
        ...

    @property
    def lv_to_rv(self) -> np.ndarray:
        """From the left towards the right ventricle."""
        ...


def heart_views(axes: HeartDirections) -> tuple[View, View]:
    """The anterior and the posterior view with the base up.

    Args:
        axes: the heart's axes, `cardiotwin.anatomy.coordinates.heart_axes` for instance.

    Returns:
        Two views from opposite sides, across the plane of both ventricles.
    """
    up, across = np.asarray(axes.apex_to_base), np.asarray(axes.lv_to_rv)
    front = np.cross(up, across)
    return (
        View("anterior", _vector(front), _vector(up), left="RV", right="LV"),
        View("posterior", _vector(-front), _vector(up), left="LV", right="RV"),
    )


def default_views(mesh: Mesh) -> tuple[View, View]:
    """Anterior and posterior where the surfaces tell what is where, else the two broad sides.

    Args:
        mesh: with surfaces "endo_lv" and "endo_rv" for the first kind.

    Returns:
        Two views from opposite sides.
    """
    if {"endo_lv", "endo_rv", "base"} <= set(mesh.surfaces):
        from cardiotwin.anatomy.coordinates import heart_axes

        return heart_views(heart_axes(mesh))
    centred = mesh.points - mesh.points.mean(axis=0)
    narrow, _, wide = np.linalg.eigh(centred.T @ centred)[1].T
    return (
        View("one side", _vector(narrow), _vector(wide)),
        View("other side", _vector(-narrow), _vector(wide)),
    )


def activation_map(
    path: Path | str,
    mesh: Mesh,
    activation_time: Float[np.ndarray, " nodes"],
    *,
    views: Sequence[View] | None = None,
    spacing_ms: float = 10.0,
    cut: bool = False,
    title: str = "Activation time",
    label: str = "activation time (ms)",
) -> Path:
    """Draw the activation times on the surface, with isochrones, from several directions.

    Args:
        path: the picture; its suffix chooses the format (.png, .pdf, .svg).
        mesh: points in mm.
        activation_time: ms; NaN where a node never activated, drawn grey.
        views: directions; `default_views` when left out.
        spacing_ms: between isochrones; doubled until there are at most 25.
        cut: add a picture of the half behind the plane through the middle that faces the first
            view, which shows the activation inside the walls.
        title: over the picture.
        label: of the colour bar, where other times are drawn.

    Returns:
        The path.

    Raises:
        ValueError: when the times do not fit the mesh.
        DiskFull: when the picture does not fit on the disk.
    """
    times = np.asarray(activation_time, np.float64)
    if times.shape != (len(mesh.points),):
        raise ValueError(
            f"activation times have shape {times.shape}, expected ({len(mesh.points)},): "
            "one a node of the mesh, NaN where it never activated"
        )
    views = tuple(default_views(mesh) if views is None else views)
    span = colour_span(times)
    levels, spacing_ms = round_levels(times, spacing_ms)
    surface = _surface.outer_surface(mesh)
    drawings = [Drawing.of_surface(surface, times, view) for view in views]
    if cut:
        half = replace(views[0], name=f"{views[0].name}, front half cut away")
        drawings.append(Drawing.of_half(mesh, surface, times, half))
    framing = Framing.around(mesh.points, views, _PANEL_HEIGHT)
    panels = [_panel(drawing, framing, levels, span) for drawing in drawings]
    return _compose(
        path, panels, framing, title, _notes(times, levels, spacing_ms), levels, span, label
    )


def colour_span(times: np.ndarray) -> tuple[float, float]:
    """The first and the last activation, as ends of a colour scale."""
    finite = times[np.isfinite(times)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1.0


def round_levels(times: np.ndarray, spacing_ms: float) -> tuple[np.ndarray, float]:
    """Times of the isochrones, at most 25, and their spacing, doubled until they are."""
    levels = _surface.isochrone_levels(times, spacing_ms)
    while len(levels) > _MOST_LEVELS:
        spacing_ms *= 2
        levels = _surface.isochrone_levels(times, spacing_ms)
    return levels, spacing_ms


class _Panel(NamedTuple):
    view: View
    picture: np.ndarray  # uint8 [height, width, 3]
    lines: np.ndarray  # [segments, 2, 2] px from the upper left corner


def _panel(
    drawing: Drawing,
    framing: Framing,
    levels: np.ndarray,
    span: tuple[float, float],
    scale: Any = None,
) -> _Panel:
    seen = drawing.seen(framing)
    scale = activation_colours() if scale is None else scale
    colours = look_up(scale, seen.weights @ drawing.values, span)
    picture = _raster.paint(seen, colours, *framing.samples)
    pieces = _surface.isochrones(drawing.points, drawing.facing(_GRAZING), drawing.values, levels)
    ends = framing.on_picture(pieces.reshape(-1, 3), drawing.view).reshape(-1, 2, 3)
    middle = ends.mean(axis=1)
    column, row = np.clip(middle[:, :2].astype(int), 0, np.array(framing.samples) - 1).T
    shown = middle[:, 2] <= drawing.nearest(framing)
    shown &= middle[:, 2] >= seen.depth[row, column] - _HIDDEN_MM
    lines = ends[shown, :, :2] / _raster.SAMPLES
    lines[..., 1] = framing.height - lines[..., 1]
    return _Panel(drawing.view, picture, lines - 0.5)


def _notes(times: np.ndarray, levels: np.ndarray, spacing_ms: float) -> str:
    finite = times[np.isfinite(times)]
    if not len(finite):
        return "no node activated"
    parts = [f"first {finite.min():.1f} ms, last {finite.max():.1f} ms"]
    if len(levels):
        parts.insert(0, f"isochrones every {spacing_ms:g} ms")
    never = len(times) - len(finite)
    if never:
        parts.append(f"{never:,} of {len(times):,} nodes never activated (grey)")
    return "; ".join(parts)


def _compose(
    path: Path | str,
    panels: Sequence[_Panel],
    framing: Framing,
    title: str,
    notes: str,
    levels: np.ndarray,
    span: tuple[float, float],
    label: str,
) -> Path:
    """Put the pictures side by side with names, a scale bar and a colour bar."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    inch = _PANEL_HEIGHT / _PANEL_INCHES  # px
    wide = framing.width / inch
    page = (len(panels) * wide + 0.4 * (len(panels) - 1) + 1.75, _PANEL_INCHES + 1.35)
    figure = Figure(figsize=page, dpi=inch)
    FigureCanvasAgg(figure)

    def place(x: float, y: float, width: float, height: float) -> Any:
        return figure.add_axes((x / page[0], y / page[1], width / page[0], height / page[1]))

    for k, panel in enumerate(panels):
        axes = place(0.2 + k * (wide + 0.4), 0.75, wide, _PANEL_INCHES)
        axes.imshow(panel.picture, interpolation="antialiased")
        axes.add_collection(
            LineCollection(list(panel.lines), colors=INK, linewidths=_LINE_WIDTH, capstyle="round")
        )
        axes.set_axis_off()
        axes.autoscale(enable=False)  # all panels at one scale, whatever is drawn beside them
        _label(axes, panel.view, framing, scale_bar=k == 0)
    bar = place(page[0] - 1.2, 0.75 + 0.08 * _PANEL_INCHES, 0.17, 0.84 * _PANEL_INCHES)
    _colour_bar(bar, levels, span, label)
    figure.text(0.2 / page[0], 1 - 0.34 / page[1], title, size=13, color=INK, weight="bold")
    lines = textwrap.fill(notes, int(_LETTERS_AN_INCH * (page[0] - 0.4)))
    figure.text(0.2 / page[0], 0.13 / page[1], lines, size=8.5, color=INK)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor="white")
    return Path(path)


def _label(axes: Any, view: View, framing: Framing, *, scale_bar: bool) -> None:
    style = {"size": 10, "color": INK, "transform": axes.transAxes, "va": "top"}
    axes.text(0.5, -0.035, view.name, ha="center", **style)
    axes.text(0.0, -0.035, view.left, ha="left", weight="bold", **style)
    axes.text(1.0, -0.035, view.right, ha="right", weight="bold", **style)
    if scale_bar:
        length = _SCALE_BAR_MM / framing.mm_per_px
        low = framing.height * 1.0
        axes.plot([0, length], [low, low], color=INK, lw=2, clip_on=False)
        axes.text(
            length / 2,
            low - 8,
            f"{_SCALE_BAR_MM:g} mm",
            size=7.5,
            color=INK,
            ha="center",
            va="bottom",
        )


def _colour_bar(axes: Any, levels: np.ndarray, span: tuple[float, float], label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(*span), activation_colours())
    bar = axes.figure.colorbar(mappable, cax=axes, ticks=levels)
    for level in levels:
        axes.axhline(level, color=INK, lw=0.7)
    bar.set_label(label, size=9.5, color=INK)
    bar.outline.set_edgecolor(INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=2.5)


def _vector(v: np.ndarray) -> Vector:
    x, y, z = (float(c) for c in v)
    return x, y, z
