"""Maps of the potential on the skin of a body, at instants, as a film and for ParaView."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cardiotwin.results._files import atomic_path
from cardiotwin.results._palette import INK, potential_colours
from cardiotwin.results._stage import Drawing, Framing, View
from cardiotwin.results._surface import Surface
from cardiotwin.results.film import film
from cardiotwin.results.scene import _panel, _vector
from cardiotwin.results.vtkhdf import VTKHDFWriter

_PANEL_HEIGHT = 520  # px
_PANEL_INCHES = 2.9  # height of a panel on the page
_ROUNDS = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0)  # mV between lines
_MOST_LINES = 16
_DEEP = 12.0  # mm behind the drawn skin, at which an electrode is on the other side


class BodyMaps(NamedTuple):
    """The skin of a body and its potentials.

    Attributes:
        points: [points, 3] mm.
        triangles: [triangles, 3], outward.
        frame: rows left, posterior and superior [3, 3].
        t_ms: [times].
        potentials: [times, points] mV.
    """

    points: Float[np.ndarray, "points 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    frame: Float[np.ndarray, "3 3"]
    t_ms: Float[np.ndarray, " times"]
    potentials: Float[np.ndarray, "times points"]

    def surface(self) -> Surface:
        """What is drawn."""
        return Surface(self.points, self.triangles.astype(np.int32), np.arange(len(self.points)))

    def views(self) -> tuple[View, View]:
        """From the front, where the body's left is on the right, and from the back."""
        _, back, up = self.frame
        return (
            View("front", _vector(-back), _vector(up), left="right", right="left"),
            View("back", _vector(back), _vector(up), left="left", right="right"),
        )

    def limit(self) -> float:
        """Greatest potential of either sign, mV: the ends of the colours."""
        return max(float(np.abs(self.potentials).max()), 1e-6)


def body_map(
    path: Path | str,
    maps: BodyMaps,
    instants_ms: Sequence[float],
    *,
    electrodes: Float[np.ndarray, "electrodes 3"] | None = None,
    title: str = "Body-surface potentials",
) -> Path:
    """Draw the potential of the skin at some instants, from the front and from the back.

    Args:
        path: the picture; its suffix chooses the format.
        maps: the skin and its potentials.
        instants_ms: the nearest times are shown.
        electrodes: places to mark by dots, mm.
        title: over the picture.

    Returns:
        The path.

    Raises:
        ValueError: no instants, or one outside the times.
        DiskFull: when the picture does not fit on the disk.
    """
    shown = [_nearest(maps.t_ms, t) for t in instants_ms]
    if not shown:
        raise ValueError("no instants to draw body-surface maps at; give one or more in ms")
    surface, views, scale = maps.surface(), maps.views(), potential_colours()
    framing = Framing.around(maps.points, views, _PANEL_HEIGHT)
    limit = max(float(np.abs(maps.potentials[shown]).max()), 1e-6)
    spacing = next((s for s in _ROUNDS if 2 * limit / s <= _MOST_LINES), limit / 4)
    most = np.floor(limit / spacing)
    levels = spacing * np.arange(-most, most + 1)
    figure, place = _page(len(shown), framing)
    for column, k in enumerate(shown):
        for row, view in enumerate(views):
            axes = place(column, row)
            drawing = Drawing.of_surface(surface, maps.potentials[k], view)
            panel = _panel(drawing, framing, levels, (-limit, limit), scale)
            _draw(axes, panel, drawing, framing, electrodes)
            if row == 0:
                axes.set_title(f"{maps.t_ms[k]:g} ms", size=10.5, color=INK)
            for x, side in ((0.0, view.left), (1.0, view.right)):
                style = {"size": 8, "ha": "left" if x == 0.0 else "right", "color": INK}
                axes.text(x, -0.02, side, transform=axes.transAxes, va="top", **style)
            if column == 0:
                axes.text(
                    -0.04, 0.5, view.name, size=10, color=INK, rotation=90, ha="right", va="center",
                    transform=axes.transAxes,
                )  # fmt: skip
    _bar(figure, limit, scale)
    note = f"lines every {spacing:g} mV; against the mean of the skin"
    figure.text(0.02, 0.965, title, size=12, weight="bold", color=INK, va="top")
    figure.text(0.02, 0.015, note, size=8.5, color=INK)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor="white")
    return Path(path)


def body_film(path: Path | str, maps: BodyMaps, *, rate_hz: float = 15.0) -> Path:
    """Film the potential of the skin, from the front and from the back; see `film`."""
    frames = zip(maps.t_ms.tolist(), maps.potentials, strict=True)
    limit = maps.limit()
    return film(
        path,
        maps.surface(),
        frames,
        views=maps.views(),
        rate_hz=rate_hz,
        span_mv=(-limit, limit),
        title="Body-surface potentials",
        colours=potential_colours(),
    )


def write_body_maps(path: Path | str, maps: BodyMaps) -> Path:
    """Write the skin with its potentials in time steps as a VTKHDF file, for ParaView.

    The nodal field is ``potential``, mV.
    """

    class Skin(NamedTuple):
        points: np.ndarray
        cells: np.ndarray
        regions: np.ndarray

    skin = Skin(maps.points, maps.triangles, np.zeros(len(maps.triangles), np.int32))
    with VTKHDFWriter(path, skin) as writer:
        for t, row in zip(maps.t_ms.tolist(), maps.potentials, strict=True):
            writer.append(t, {"potential": row})
    return Path(path)


def _nearest(times: np.ndarray, t: float) -> int:
    slack = np.diff(times).max(initial=0.0)
    if not times[0] - slack <= t <= times[-1] + slack:
        raise ValueError(
            f"a body-surface map at {t:g} ms is asked for, but the frames run from {times[0]:g} to "
            f"{times[-1]:g} ms; give an instant between."
        )
    return int(np.argmin(np.abs(times - t)))


def _page(columns: int, framing: Framing) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    inch = _PANEL_HEIGHT / _PANEL_INCHES
    wide = framing.width / inch
    gap, left, right, low, high = 0.15, 0.4, 1.0, 0.55, 0.75
    width = left + columns * (wide + gap) + right
    height = low + 2 * (_PANEL_INCHES + 0.2) + high
    figure = Figure(figsize=(width, height), dpi=inch)
    FigureCanvasAgg(figure)

    def place(column: int, row: int) -> Any:
        x = left + column * (wide + gap)
        y = low + (1 - row) * (_PANEL_INCHES + 0.2)
        return figure.add_axes((x / width, y / height, wide / width, _PANEL_INCHES / height))

    return figure, place


def _draw(axes: Any, panel: Any, drawing: Drawing, framing: Framing, electrodes: Any) -> None:
    from matplotlib.collections import LineCollection

    axes.imshow(panel.picture, interpolation="antialiased")
    axes.add_collection(LineCollection(list(panel.lines), colors=INK, linewidths=0.45))
    if electrodes is not None:
        seen = drawing.seen(framing)
        spots = framing.on_picture(np.asarray(electrodes, np.float64), drawing.view)
        column, row = np.clip(spots[:, :2].astype(int), 0, np.array(framing.samples) - 1).T
        spots = spots[spots[:, 2] > seen.depth[row, column] - _DEEP]
        scale = framing.samples[0] / framing.width
        axes.plot(spots[:, 0] / scale, framing.height - spots[:, 1] / scale, ".", color=INK, ms=4)
    axes.set_axis_off()
    axes.autoscale(enable=False)


def _bar(figure: Any, limit: float, scale: Any) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width = figure.get_size_inches()[0]
    axes = figure.add_axes((1 - 0.75 / width, 0.25, 0.14 / width, 0.5))
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), scale), cax=axes)
    bar.set_label("potential (mV)", size=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=2.5)
