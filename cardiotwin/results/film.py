"""A short film of a voltage on a surface: that of the heart, or the skin."""

import errno
import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results._files import atomic_path
from cardiotwin.results._palette import INK, VOLTAGE_RANGE, look_up, voltage_colours
from cardiotwin.results._raster import paint
from cardiotwin.results._stage import Drawing, Framing, View
from cardiotwin.results._surface import Surface, outer_surface
from cardiotwin.results.scene import default_views
from cardiotwin.units import MS_PER_S

_VIEW_HEIGHT = 460  # px
_TOP, _BOTTOM, _SIDE, _BAR, _GAP = 44, 40, 16, 104, 32  # px around and between the views
_DPI = 100


def film(
    path: Path | str,
    mesh: Mesh | Surface,
    frames: Iterable[tuple[float, np.ndarray]],
    *,
    views: Sequence[View] | None = None,
    rate_hz: float = 15.0,
    span_mv: tuple[float, float] = VOLTAGE_RANGE,
    title: str = "Transmembrane voltage",
    colours: Any = None,
) -> Path:
    """Film a voltage on a surface, in fixed colours and with the time.

    Args:
        path: .mp4 (H.264), or .gif. Where ffmpeg does not run, a .gif takes the place of an .mp4.
        mesh: points in mm; of tetrahedra the boundary is shown.
        frames: (time in ms, voltage [nodes] in mV), one after the other; about 90
            make a film of 6 s. They are drawn as they come, none is kept.
        views: one or more directions; `default_views` when left out, which only a mesh has.
        rate_hz: frames a second.
        span_mv: voltages at the ends of the colour scale.
        title: over the picture.
        colours: a colour map of `_palette`; that of the transmembrane voltage when left out.

    Returns:
        The path written.

    Raises:
        ValueError: when there is no frame, or one does not fit the mesh.
        DiskFull: when the film does not fit on the disk.
    """
    path = Path(path)
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise ValueError(f"no frame for the film {path}; expected one or more")
    if path.suffix != ".gif" and not _ffmpeg_runs():
        path = path.with_suffix(".gif")
    if isinstance(mesh, Surface):
        surface, views = mesh, tuple(views or ())
    else:
        surface = outer_surface(mesh)
        views = tuple(default_views(mesh) if views is None else views)
    if not views:
        raise ValueError(f"no view for the film {path}; give one or more")
    framing = Framing.around(mesh.points, views, _VIEW_HEIGHT)
    nothing = np.zeros(len(mesh.points))
    seen = [Drawing.of_surface(surface, nothing, view).seen(framing) for view in views]
    colours = voltage_colours() if colours is None else colours
    card = _Card(views, framing, span_mv, title, colours)
    with atomic_path(path) as temporary, _encoder(temporary, card.size, rate_hz) as add:
        for time, v in itertools.chain([first], stream):
            values = np.asarray(v, np.float32)
            if values.shape != (len(mesh.points),):
                raise ValueError(
                    f"frame at {time} ms has shape {values.shape}, expected "
                    f"({len(mesh.points)},): one voltage a node of the mesh"
                )
            values = values[surface.nodes]
            pictures = [
                paint(s, look_up(colours, s.weights @ values, span_mv), *framing.samples)
                for s in seen
            ]
            add(card.with_pictures(pictures, float(time)))
    return path


class _Card:
    """What stands around the views: drawn once, then only the time changes."""

    def __init__(
        self,
        views: Sequence[View],
        framing: Framing,
        span_mv: tuple[float, float],
        title: str,
        colours: Any,
    ):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        wide = len(views) * (framing.width + _GAP) - _GAP
        width = 2 * ((_SIDE + wide + _BAR + 1) // 2)  # H.264 wants even sizes
        height = 2 * ((_TOP + framing.height + _BOTTOM + 1) // 2)
        self.size = (width, height)
        self._lefts = [_SIDE + k * (framing.width + _GAP) for k in range(len(views))]
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self._figure = figure
        self._canvas = FigureCanvasAgg(figure)
        figure.text(
            _SIDE / width, 1 - 14 / height, title, size=11, weight="bold", color=INK, va="top"
        )
        for view, left in zip(views, self._lefts, strict=True):
            for place, text, align in (
                (0.0, view.left, "left"),
                (0.5, view.name, "center"),
                (1.0, view.right, "right"),
            ):
                figure.text(
                    (left + place * framing.width) / width,
                    12 / height,
                    text,
                    size=9,
                    weight="normal" if place == 0.5 else "bold",
                    color=INK,
                    ha=align,
                )
        _colour_bar(figure, (width - 84) / width, span_mv, framing.height, height, colours)
        self._time = figure.text(
            1 - _BAR / width,
            1 - 14 / height,
            "",
            size=11,
            color=INK,
            ha="right",
            va="top",
            family="DejaVu Sans Mono",
            animated=True,
        )
        self._canvas.draw()
        self._empty = self._canvas.copy_from_bbox(figure.bbox)

    def with_pictures(self, pictures: Sequence[np.ndarray], time: float) -> np.ndarray:
        """The whole frame as uint8 [height, width, 3]."""
        self._canvas.restore_region(self._empty)
        self._time.set_text(f"{time:6.1f} ms")
        self._figure.draw_artist(self._time)
        frame = np.asarray(self._canvas.buffer_rgba())[..., :3].copy()
        for picture, left in zip(pictures, self._lefts, strict=True):
            frame[_TOP : _TOP + picture.shape[0], left : left + picture.shape[1]] = picture
        return frame


def _colour_bar(
    figure: Any,
    left: float,
    span_mv: tuple[float, float],
    tall: int,
    height: int,
    colours: Any,
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_axes((left, (_BOTTOM + 0.08 * tall) / height, 0.018, 0.84 * tall / height))
    spacing = 20.0 if np.ptp(span_mv) > 40.0 else 0.5 if np.ptp(span_mv) > 2.0 else 0.1
    whole = np.arange(np.ceil(span_mv[0] / spacing), np.floor(span_mv[1] / spacing) + 1)
    bar = figure.colorbar(ScalarMappable(Normalize(*span_mv), colours), axes, ticks=spacing * whole)
    bar.set_label("mV", size=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=2.5)


def _ffmpeg_runs() -> bool:
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return False
    return True


@contextmanager
def _encoder(
    path: Path, size: tuple[int, int], rate_hz: float
) -> Iterator[Callable[[np.ndarray], Any]]:
    """Yield a function that adds a frame to the film."""
    if path.suffix == ".gif":
        from imageio.v3 import imopen

        show: dict[str, Any] = {"duration": MS_PER_S / rate_hz, "loop": 0}
        with imopen(path, "w", plugin="pillow") as file:
            yield lambda frame: file.write(frame, **show)
        return
    with _ffmpeg(path, size, rate_hz) as pipe:
        yield lambda frame: pipe.write(np.ascontiguousarray(frame).data)


@contextmanager
def _ffmpeg(path: Path, size: tuple[int, int], rate_hz: float) -> Iterator[Any]:
    """Yield a pipe that takes frames as raw bytes and makes H.264 of them."""
    from imageio_ffmpeg import get_ffmpeg_exe

    raw = f"-f rawvideo -pix_fmt rgb24 -s {size[0]}x{size[1]} -r {rate_hz:g} -i -".split()
    film = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
    command = [get_ffmpeg_exe(), "-v", "error", "-y", *raw, *film, str(path)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        broken = False
        try:
            with process:  # closes the pipe and waits
                yield process.stdin
        except BrokenPipeError:
            broken = True  # ffmpeg gave up, and says why below
        if broken or process.returncode:
            said.seek(0)
            reason = said.read().decode(errors="replace").strip()
            if os.strerror(errno.ENOSPC) in reason:
                raise OSError(errno.ENOSPC, reason)
            raise RuntimeError(f"ffmpeg ended with {process.returncode} on {path}: {reason}")
