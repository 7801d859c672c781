"""Pictures of the heart: activation maps with isochrones, seen from chosen directions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results import _raster, _surface
from cardiotwin.results._files import atomic_path
from cardiotwin.results._palette import INK, activation_colours, look_up

_PANEL_HEIGHT = 780  # px
_PANEL_INCHES = 4.2  # height of a panel on the page
_MARGIN = 1.06  # of the heart's extent
_SCALE_BAR_MM = 20.0
_HIDDEN_MM = 1.0  # depth behind the surface at which a line counts as hidden
_LINE_WIDTH = 0.6  # points

Vector = tuple[float, float, float]


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


@dataclass(frozen=True)
class View:
    """A direction to look from.

    Attributes:
        name: shown under the picture.
        direction: from the heart towards the eye.
        up: upward in the picture.
        left: what lies on the left of the picture, such as "RV".
        right: what lies on its right.
    """

    name: str
    direction: Vector
    up: Vector
    left: str = ""
    right: str = ""

    def frame(self) -> Float[np.ndarray, "3 3"]:
        """Rows: unit vectors to the right, upward and towards the eye.

        Raises:
            ValueError: when direction and up are parallel or zero.
        """
        towards, up = (np.asarray(v, np.float64) for v in (self.direction, self.up))
        right = np.cross(up, towards)
        if not np.linalg.norm(right) > 1e-6 * np.linalg.norm(up) * np.linalg.norm(towards):
            raise ValueError(
                f"view {self.name!r} looks along {self.direction} with {self.up} up; expected two "
                "directions that are not parallel"
            )
        up = np.cross(towards, right)
        return np.stack([v / np.linalg.norm(v) for v in (right, up, towards)])


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
    span = _span(times)
    levels = _surface.isochrone_levels(times, spacing_ms)
    while len(levels) > 25:
        spacing_ms *= 2
        levels = _surface.isochrone_levels(times, spacing_ms)
    surface = _surface.outer_surface(mesh)
    drawings = [Drawing.of_surface(surface, times, view) for view in views]
    if cut:
        half = replace(views[0], name=f"{views[0].name}, front half cut away")
        drawings.append(Drawing.of_half(mesh, surface, times, half))
    framing = Framing.around(mesh.points, views, _PANEL_HEIGHT)
    panels = [_panel(drawing, framing, levels, span) for drawing in drawings]
    return _compose(path, panels, framing, title, _notes(times, levels, spacing_ms), levels, span)


class Framing(NamedTuple):
    """One scale for all views of some points, in parallel projection.

    Attributes:
        width: px.
        height: px.
        half_height: mm from the middle to the upper edge.
        points: [points, 3] mm, what is to be seen.
    """

    width: int
    height: int
    half_height: float
    points: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, views: Sequence[View], height: int) -> "Framing":
        """The tightest picture that holds the points in every view, both sizes even."""
        extents = np.stack([np.ptp(points @ view.frame().T, axis=0) for view in views])
        wide, tall = _MARGIN * extents[:, :2].max(axis=0)
        width = int(np.clip(height * wide / tall, height / 4, height * 4))
        return cls(
            2 * (width // 2), 2 * (height // 2), max(tall, wide * height / width) / 2, points
        )

    @property
    def mm_per_px(self) -> float:
        """Size of a pixel."""
        return 2 * self.half_height / self.height

    def on_picture(self, points: Float[np.ndarray, "points 3"], view: View) -> np.ndarray:
        """Samples from the lower left corner, and mm towards the eye [points, 3]."""
        frame = view.frame()
        extent = self.points @ frame.T
        middle = (extent.min(axis=0) + extent.max(axis=0)) / 2
        scale = _raster.SAMPLES / self.mm_per_px
        corner = np.array([self.width, self.height, 0]) * _raster.SAMPLES / 2
        return (points @ frame.T - middle) * (scale, scale, 1.0) + corner

    @property
    def samples(self) -> tuple[int, int]:
        """Width and height in samples."""
        return _raster.SAMPLES * self.width, _raster.SAMPLES * self.height


class Drawing(NamedTuple):
    """What one view shows.

    Attributes:
        view: where it is seen from.
        points: [points, 3] mm.
        triangles: [triangles, 3].
        light: [triangles, 3] brightness of the corners.
        values: [points].
        plane: a point of the plane before which nothing is drawn, or None.
    """

    view: View
    points: np.ndarray
    triangles: np.ndarray
    light: np.ndarray
    values: np.ndarray
    plane: np.ndarray | None = None

    @classmethod
    def of_surface(cls, surface: _surface.Surface, values: np.ndarray, view: View) -> "Drawing":
        """The boundary of the mesh; values are those of all its nodes."""
        light = _raster.corner_light(surface.points, surface.triangles, view.frame()[2])
        return cls(view, surface.points, surface.triangles, light, values[surface.nodes])

    @classmethod
    def of_half(
        cls, mesh: Mesh, surface: _surface.Surface, values: np.ndarray, view: View
    ) -> "Drawing":
        """What lies behind the plane through the middle, and the cross-section itself."""
        whole = cls.of_surface(surface, values, view)
        towards = view.frame()[2]
        depth = mesh.points @ towards
        middle = (depth.min() + depth.max()) / 2
        points, triangles, across = _surface.cross_section(
            mesh.points, mesh.cells, depth - middle, values
        )
        corners = points[triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        away = normals @ towards < 0
        triangles[away] = triangles[away][:, ::-1]
        return cls(
            view,
            np.concatenate([whole.points, points]),
            np.concatenate([whole.triangles, triangles + len(whole.points)]),
            np.concatenate([whole.light, np.ones(triangles.shape)]),
            np.concatenate([whole.values, across]),
            middle * towards,
        )

    def seen(self, framing: Framing) -> _raster.Visible:
        """What is visible of it."""
        place = framing.on_picture(self.points, self.view)
        facets = _raster.Facets(place[:, :2], place[:, 2], self.triangles, self.light)
        return _raster.visible(facets, *framing.samples, nearest=self.nearest(framing))

    def nearest(self, framing: Framing) -> float:
        """Depth of the cutting plane on the picture."""
        if self.plane is None:
            return np.inf
        return float(framing.on_picture(self.plane[None], self.view)[0, 2]) + 1e-6


class _Panel(NamedTuple):
    view: View
    picture: np.ndarray  # uint8 [height, width, 3]
    lines: np.ndarray  # [segments, 2, 2] px from the upper left corner


def _panel(
    drawing: Drawing, framing: Framing, levels: np.ndarray, span: tuple[float, float]
) -> _Panel:
    seen = drawing.seen(framing)
    colours = look_up(activation_colours(), seen.weights @ drawing.values, span)
    picture = _raster.paint(seen, colours, *framing.samples)
    pieces = _surface.isochrones(drawing.points, drawing.triangles, drawing.values, levels)
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
        _label(axes, panel.view, framing, scale_bar=k == 0)
    bar = place(page[0] - 1.2, 0.75 + 0.08 * _PANEL_INCHES, 0.17, 0.84 * _PANEL_INCHES)
    _colour_bar(bar, levels, span)
    figure.text(0.2 / page[0], 1 - 0.34 / page[1], title, size=13, color=INK, weight="bold")
    figure.text(0.2 / page[0], 0.16 / page[1], notes, size=8.5, color=INK)
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


def _colour_bar(axes: Any, levels: np.ndarray, span: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(*span), activation_colours())
    bar = axes.figure.colorbar(mappable, cax=axes, ticks=levels)
    for level in levels:
        axes.axhline(level, color=INK, lw=0.7)
    axes.invert_yaxis()  # early on top
    bar.set_label("activation time (ms)", size=9.5, color=INK)
    bar.outline.set_edgecolor(INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=2.5)


def _vector(v: np.ndarray) -> Vector:
    x, y, z = (float(c) for c in v)
    return x, y, z


def _span(times: np.ndarray) -> tuple[float, float]:
    finite = times[np.isfinite(times)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1.0
