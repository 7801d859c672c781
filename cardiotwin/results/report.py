"""A run's report: one HTML file that needs nothing else, not even a network."""

import base64
import datetime
import struct
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from cardiotwin._version import __version__
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results import _report_tables as shown
from cardiotwin.results._files import atomic_path
from cardiotwin.results._report_map import map_json
from cardiotwin.results._stage import View
from cardiotwin.results.scene import default_views
from cardiotwin.results.tables import plain
from cardiotwin.units import MM_PER_M

REPORT = "report.html"
_TYPES = {
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
}
_CAPTIONS = {
    "ecg": "12-lead ECG",
    "activation": "Activation map",
    "action_potentials": "Action potentials",
    "fibre_angles": "Fibre angles across the walls",
    "vcg": "Vectorcardiogram",
    "body_surface": "Body-surface potentials",
}
# Keys of the summary with a place of their own; every other one gets a table further down.
_PLACED = {"name", "status", "error", "warnings", "ecg", "environment", "timings_s", "command"}
_TITLES = {
    "activation": "Activation and repolarisation",
    "measured_velocity_m_per_s": "Conduction velocity in this beat (m/s)",
    "velocity": "Conduction velocity on this mesh",
    "mesh": "Mesh",
    "fibres": "Fibre angles against the rule (degrees)",
    "solver": "Solver",
}
_HEADLINES = (  # label, path in the summary, unit, digits
    ("QRS duration", ("ecg", "qrs_duration_ms"), "ms", 0),
    ("QRS axis", ("ecg", "qrs_axis_deg"), "°", 0),
    ("QT", ("ecg", "qt_ms"), "ms", 0),
    ("Last activation", ("activation", "all", "last_ms"), "ms", 0),
    ("Nodes", ("mesh", "nodes"), "", 0),
    ("Solved in", ("timings_s", "solve"), "s", 1),
)


# Long tables that only programs read; they stay in summary.json.
_UNSHOWN = {"velocity": {"curve"}}
_PNG_HEAD = 512  # bytes in which a PNG says its resolution
_WIDE = 1.6  # pictures at least this much wider than tall take the whole page


class _Figure(NamedTuple):
    key: str
    caption: str
    uri: str
    wide: bool
    width_mm: float


def write_report(
    folder: Path | str,
    summary: Mapping[str, Any],
    *,
    figures: Mapping[str, Path] | None = None,
    film: Path | None = None,
    mesh: Mesh | None = None,
    activation_time: Float[np.ndarray, " nodes"] | None = None,
    views: Sequence[View] | None = None,
    config_text: str = "",
) -> Path:
    """Write ``report.html``: self-contained, opened with a double click, offline.

    Warnings come first, then the figures, the rotatable activation map, the film, and every number
    of the summary in a table. A content-security policy in the file keeps browsers from asking
    anything of the network, whatever texts the summary holds. Where plotly fails, the report says
    why in the place of the rotatable map.

    Args:
        folder: where the report goes.
        summary: as in ``summary.json``. ``name``, ``status``, ``error``, ``warnings`` (texts),
            ``ecg`` (from `cardiotwin.ecg.features.measurements`), ``environment``, ``timings_s``
            and ``command`` have their own places; any other key becomes a table.
        figures: pictures in the order in which they appear, .png or .svg; the keys "ecg",
            "activation", "action_potentials", "fibre_angles", "vcg" and "body_surface" have
            captions, others are captions themselves.
        film: .mp4 or .gif.
        mesh: for the rotatable map, together with `activation_time`.
        activation_time: ms; NaN where a node never activated.
        views: the first is the rotatable map's first view; `default_views` when left out.
        config_text: the resolved configuration.

    Returns:
        The path of the report.

    Raises:
        ValueError: when a figure is of an unknown kind or the times do not fit the mesh.
        FileNotFoundError: when a figure or the film does not exist.
        DiskFull: when it does not fit on the disk.
    """
    page = {
        "summary": plain(summary),
        "figures": [_figure(key, Path(path)) for key, path in (figures or {}).items()],
        "film": None if film is None else _figure("film", Path(film)),
        "config_text": config_text,
        **_rotatable(mesh, activation_time, views),
    }
    html = _template().render(page | _tables(page["summary"]))
    path = Path(folder) / REPORT
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("cardiotwin.results").joinpath("report.html.j2")
    return environment.from_string(source.read_text(encoding="utf-8"))


def _figure(key: str, path: Path) -> _Figure:
    kind = _TYPES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path} is of no kind that a report shows; expected {', '.join(_TYPES)}")
    data = path.read_bytes()
    uri = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    shape, width_mm = _png_size(data) if kind == "image/png" else (1.0, 0.0)
    return _Figure(key, _CAPTIONS.get(key, key), uri, shape >= _WIDE, width_mm)


def _png_size(data: bytes) -> tuple[float, float]:
    """Width over height, and width in mm (0 when the file does not say)."""
    width, height = struct.unpack(">II", data[16:24])
    chunk = data.find(b"pHYs", 0, _PNG_HEAD)
    per_metre = struct.unpack(">I", data[chunk + 4 : chunk + 8])[0] if chunk > 0 else 0
    return width / height, MM_PER_M * width / per_metre if per_metre else 0.0


def _rotatable(
    mesh: Mesh | None, activation_time: Any, views: Sequence[View] | None
) -> dict[str, Any]:
    nothing = {"map_json": "", "map_note": "", "plotly_js": "", "map_failure": ""}
    if mesh is None or activation_time is None:
        return nothing
    times = np.asarray(activation_time)
    if times.shape != (len(mesh.points),):
        raise ValueError(
            f"activation times have shape {times.shape}, expected ({len(mesh.points)},)"
        )
    views = tuple(default_views(mesh) if views is None else views)
    try:
        from plotly.offline import get_plotlyjs

        figure, drawn, whole = map_json(mesh, times, views)
        script = get_plotlyjs()
    except Exception as error:  # plotly missing or broken costs the map, not the report
        return nothing | {"map_failure": f"{type(error).__name__}: {error}"}
    note = f"{drawn:,} triangles"
    if drawn < whole:
        note += f", merged from {whole:,} so that browsers turn them smoothly"
    return nothing | {
        # no "<" may end the script elements that hold them
        "map_json": figure.replace("<", "\\u003c"),
        "map_note": note,
        "plotly_js": script.replace("</script", "<\\/script"),
    }


def _tables(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template shows of the summary, as text."""
    failed = summary.get("status") in ("failed", "interrupted")
    others = {k: v for k, v in summary.items() if k not in _PLACED and v not in (None, {}, [])}
    single = {k: v for k, v in others.items() if not isinstance(v, Mapping | list)}
    results = []
    for key, value in others.items():
        if key in single:
            continue
        if isinstance(value, Mapping):
            value = {k: v for k, v in value.items() if k not in _UNSHOWN.get(key, ())}
        results += shown.tables(_TITLES.get(key, _capital(shown.label(key))), value)
    results += shown.tables("Further", single)
    ecg = summary.get("ecg") or {}
    leads = shown.tables("Waves in each lead", ecg.get("leads") or {})
    return {
        "title": str(summary.get("name") or "cardiotwin run"),
        "version": __version__,
        "written": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "command": str(summary.get("command") or ""),
        "failure": str(summary.get("error") or summary.get("status")) if failed else "",
        "warnings": [str(w) for w in summary.get("warnings") or []],
        "headlines": _headlines(summary),
        "measured": shown.measured(ecg),
        "progression": shown.text((ecg.get("r_wave_progression") or {}).get("pattern")),
        "leads": leads if ecg.get("leads") else [],
        "results": results,
        "timings": shown.tables("Timings (s)", summary.get("timings_s") or {}),
        "environment": shown.tables("Versions and machine", summary.get("environment") or {}),
    }


def _headlines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few numbers that one looks for first, where the run has them."""
    found = []
    for name, path, unit, digits in _HEADLINES:
        value: Any = summary
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float):
            number = f"{value:,.{digits}f}".replace("-", "−")
            found.append((name, shown.with_unit(number, unit)))
    return found


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
