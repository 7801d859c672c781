"""The rotatable activation map of the report: a plotly figure as JSON."""

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results import _surface
from cardiotwin.results._palette import INK, NEVER, activation_colours, colour_stops
from cardiotwin.results._stage import View
from cardiotwin.results.scene import colour_span, round_levels

LARGEST = 60_000  # triangles that browsers turn smoothly
_LIFT = 0.25  # mm that isochrones stand off the surface
_DISTANCE = 1.75  # of the eye, in units of the scene
_NAME_AT = 1.18  # distance of the names from the middle, in units of the heart's extent
_HIDDEN = {"visible": False, "showspikes": False}


def map_json(
    mesh: Mesh,
    activation_time: Float[np.ndarray, " nodes"],
    views: tuple[View, ...],
    *,
    spacing_ms: float = 10.0,
    largest: int = LARGEST,
) -> tuple[str, int, int]:
    """The figure, with the surface merged to fewer triangles where it is too fine.

    Args:
        mesh: points in mm.
        activation_time: ms, NaN where never.
        views: the first is where one looks from at first.
        spacing_ms: between isochrones.
        largest: triangles that are few enough.

    Returns:
        JSON for `Plotly.newPlot`, the triangles shown, and those of the whole surface.
    """
    import plotly.graph_objects as go

    whole = _surface.outer_surface(mesh)
    surface = _surface.coarsened(whole, largest)
    times = np.asarray(activation_time, np.float64)[surface.nodes]
    span = colour_span(times)
    levels, _ = round_levels(times, spacing_ms)
    active = np.asarray(np.isfinite(times[surface.triangles]).all(axis=1))
    figure = go.Figure()
    if active.any():
        figure.add_trace(
            go.Mesh3d(
                **_triangles(surface, active),
                intensity=np.nan_to_num(times).astype(np.float32),
                customdata=np.nan_to_num(times).astype(np.float32),
                hovertemplate="%{customdata:.1f} ms<extra></extra>",
                colorscale=colour_stops(activation_colours()),
                cmin=span[0],
                cmax=span[1],
                colorbar=_colour_bar(levels),
                **_MATERIAL,
            )
        )
    if not active.all():
        figure.add_trace(
            go.Mesh3d(
                **_triangles(surface, ~active),
                color=NEVER,
                hovertemplate="not activated<extra></extra>",
                **_MATERIAL,
            )
        )
    figure.add_trace(_lines(surface, times, levels))
    figure.add_trace(_names(surface.points, views[0]))
    figure.update_layout(_layout(views[0]))
    return str(figure.to_json()), len(surface.triangles), len(whole.triangles)


_MATERIAL = {
    "flatshading": False,
    "lighting": {"ambient": 0.72, "diffuse": 0.4, "specular": 0.03, "roughness": 0.9},
    "lightposition": {"x": 0, "y": 0, "z": 100_000},
    "showlegend": False,
}


def _triangles(surface: _surface.Surface, chosen: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = surface.points.T.astype(np.float32)
    i, j, k = surface.triangles[chosen].T.astype(np.int32)
    return {"x": x, "y": y, "z": z, "i": i, "j": j, "k": k}


def _lines(surface: _surface.Surface, times: np.ndarray, levels: np.ndarray):
    import plotly.graph_objects as go

    lifted = surface.points + _LIFT * _surface.point_normals(surface.points, surface.triangles)
    pieces = _surface.isochrones(lifted, surface.triangles, times, levels)
    gap = np.full((len(pieces), 1, 3), np.nan)
    x, y, z = np.concatenate([pieces, gap], axis=1).reshape(-1, 3).T.astype(np.float32)
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        line={"color": INK, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def _names(points: np.ndarray, view: View):
    """Base, apex and the ventricles written around a heart."""
    import plotly.graph_objects as go

    right, up, _ = view.frame()
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    named = [(view.left, -right), (view.right, right)]
    if view.left and view.right:
        named += [("base", up), ("apex", -up)]
    places = [
        middle + _NAME_AT * ((points - middle) @ direction).max() * direction
        for _, direction in named
    ]
    x, y, z = np.array(places).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="text",
        text=[name for name, _ in named],
        textfont={"size": 14, "color": INK},
        hoverinfo="skip",
        showlegend=False,
    )


def _colour_bar(levels: np.ndarray) -> dict:
    return {
        "title": {"text": "ms", "side": "top"},
        "tickvals": levels.tolist(),
        "ticktext": [f"{level:g}" for level in levels],
        "thickness": 16,
        "len": 0.82,
        "outlinewidth": 1,
        "outlinecolor": INK,
    }


def _layout(view: View) -> dict:
    _, up, towards = view.frame()

    def xyz(vector):
        return dict(zip("xyz", (float(c) for c in vector), strict=True))

    return {
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "paper_bgcolor": "white",
        "font": {"color": INK, "size": 13},
        "scene": {
            "aspectmode": "data",
            "dragmode": "orbit",
            "xaxis": _HIDDEN,
            "yaxis": _HIDDEN,
            "zaxis": _HIDDEN,
            "camera": {
                "eye": xyz(_DISTANCE * towards),
                "up": xyz(up),
                "center": xyz(0 * up),
            },
        },
    }
