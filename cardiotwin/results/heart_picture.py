"""A picture to check a heart by: its named surfaces from outside, and sections through it."""

from pathlib import Path
from typing import Any

import numpy as np

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.imaging import HeartImage
from cardiotwin.anatomy.label_table import Part
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.results import _raster
from cardiotwin.results._palette import INK
from cardiotwin.results._stage import Framing, View
from cardiotwin.results._surface import cross_section
from cardiotwin.results.figures import _figure, _save
from cardiotwin.results.scene import heart_views

SURFACES = {"epi": "#e69f00", "endo_lv": "#d55e00", "endo_rv": "#0072b2", "base": "#009e73"}
_UNNAMED = "#b4b4b4"
_PARTS = {
    Part.OUTSIDE: "#ffffff",
    Part.LV_WALL: "#f3c9a8",
    Part.RV_WALL: "#a9cdea",
    Part.SEPTUM: "#cfcfcf",
    Part.LV_CAVITY: "#fbe9e4",
    Part.RV_CAVITY: "#e6f1fa",
    Part.LA: "#e8d5e6",
    Part.RA: "#d9d3ea",
    Part.AORTA: "#f6d6dc",
    Part.PULMONARY_ARTERY: "#d4e6d2",
    Part.REMOVED: "#f4f4f4",
}
_HEIGHT = 420  # px of a view
_SAMPLES = 400  # across a section
_DPI = 130


def draw_heart(path: Path | str, mesh: Mesh | Voxels, heart: HeartImage | None = None) -> Path:
    """Draw three views of the surfaces and three sections, with the parts of the image behind.

    Args:
        path: of the picture, .png.
        mesh: with the surfaces "endo_lv" and "endo_rv".
        heart: the image that it was made of.

    Returns:
        The path.
    """
    axes = heart_axes(mesh)
    figure = _figure(12.5, 9.0)
    up, across = axes.apex_to_base, axes.lv_to_rv
    above = View("from the base", _tuple(up), _tuple(axes.third), left="LV", right="RV")
    views = (*heart_views(axes), above)
    points, colours = _coloured(mesh)
    framing = Framing.around(mesh.points, views, _HEIGHT)
    for column, view in enumerate(views):
        panel = figure.add_axes((0.01 + 0.33 * column, 0.52, 0.32, 0.45))
        panel.imshow(_render(points, colours, framing, view))
        panel.set_title(view.name, size=10, color=INK)
        panel.set_axis_off()
    frame = np.stack([up, across, axes.third])
    low, high = (f((mesh.points - axes.origin) @ frame.T, axis=0) for f in (np.min, np.max))
    half = 0.54 * float((high - low).max())
    shift = 0.5 * (low + high) @ frame
    sections = (
        ("long axis, both ventricles", across, up),
        ("long axis, across the septum", axes.third, up),
        ("short axis", across, axes.third),
    )
    for column, (name, right, upward) in enumerate(sections):
        panel = figure.add_axes((0.01 + 0.33 * column, 0.05, 0.32, 0.44))
        _section(panel, mesh, heart, (axes.origin, shift), right, upward, half)
        panel.set_title(name, size=10, color=INK)
    _legend(figure, mesh, heart)
    return _save(figure, path, _DPI)


def _coloured(mesh: Mesh | Voxels) -> tuple[np.ndarray, np.ndarray]:
    """Corners [faces, 3, 3] of all boundary faces, and their colours [faces, 3]."""
    from matplotlib.colors import to_rgb

    faces = [mesh.surfaces[name] for name in SURFACES if name in mesh.surfaces]
    names = [name for name in SURFACES if name in mesh.surfaces]
    colours = [np.tile(to_rgb(SURFACES[n]), (len(f), 1)) for n, f in zip(names, faces, strict=True)]
    return mesh.points[np.concatenate(faces)], np.concatenate(colours)


def _render(corners: np.ndarray, colours: np.ndarray, framing: Framing, view: View) -> np.ndarray:
    points = corners.reshape(-1, 3)
    triangles = np.arange(len(points)).reshape(-1, 3)
    merged, number = np.unique(points, axis=0, return_inverse=True)
    light = _raster.corner_light(merged, number.reshape(-1, 3), view.frame()[2])
    place = framing.on_picture(points, view)
    seen = _raster.visible(
        _raster.Facets(place[:, :2], place[:, 2], triangles, light), *framing.samples
    )
    return _raster.paint(seen, seen.weights @ np.repeat(colours, 3, axis=0), *framing.samples)


def _section(
    panel: Any,
    mesh: Mesh | Voxels,
    heart: HeartImage | None,
    middle: tuple[np.ndarray, np.ndarray],
    right: np.ndarray,
    upward: np.ndarray,
    half: float,
) -> None:
    """One plane through the middle of the heart: parts as areas, surfaces as lines."""
    from matplotlib.collections import LineCollection, PolyCollection

    frame, normal = np.stack([right, upward]), np.cross(right, upward)
    origin = middle[0] + middle[1] @ frame.T @ frame  # in the plane through the first
    height = (mesh.points - origin) @ normal
    if heart is not None:
        grid = np.linspace(-half, half, _SAMPLES)
        place = origin + grid[None, :, None] * right + grid[:, None, None] * upward
        panel.imshow(_parts_at(heart, place), origin="lower", extent=(-half, half, -half, half))
    elif isinstance(mesh, Mesh):
        points, triangles, _ = cross_section(mesh.points, mesh.cells, height, height)
        flat = (points - origin) @ frame.T
        panel.add_collection(
            PolyCollection(list(flat[triangles]), facecolors="#dddddd", edgecolors="none")
        )
    for name, colour in SURFACES.items():
        if name in mesh.surfaces:
            lines = _crossings(mesh.points, mesh.surfaces[name], height)
            flat = (lines - origin) @ frame.T
            panel.add_collection(LineCollection(list(flat), colors=colour, linewidths=1.6))
    panel.set_xlim(-half, half)
    panel.set_ylim(-half, half)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])


def _parts_at(heart: HeartImage, place: np.ndarray) -> np.ndarray:
    """Colours [rows, columns, 3] of the parts at places."""
    from matplotlib.colors import to_rgb

    table = np.ones((len(Part), 3))
    for part, colour in _PARTS.items():
        table[part] = to_rgb(colour)
    index = np.rint(heart.to_index(place.reshape(-1, 3))).astype(int)
    inside = ((index >= 0) & (index < heart.parts.shape)).all(axis=1)
    parts = np.zeros(len(index), int)
    parts[inside] = heart.parts[tuple(index[inside].T)]
    return table[parts].reshape(*place.shape[:-1], 3)


def _crossings(points: np.ndarray, faces: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Segments [n, 2, 3] in which triangles cross the plane of height zero."""
    above = height[faces] >= 0.0
    lone = above ^ (above.sum(axis=1, keepdims=True) == 2)
    cut = lone.any(axis=1) & ~lone.all(axis=1)
    faces, corner = faces[cut], np.argmax(lone[cut], axis=1)
    rows = np.arange(len(faces))
    ends = []
    for step in (1, 2):
        a, b = faces[rows, corner], faces[rows, (corner + step) % 3]
        share = (height[a] / (height[a] - height[b]))[:, None]
        ends.append(points[a] + share * (points[b] - points[a]))
    return np.stack(ends, axis=1)


def _legend(figure: Any, mesh: Mesh | Voxels, heart: HeartImage | None) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=c, label=n) for n, c in SURFACES.items() if n in mesh.surfaces]
    if heart is not None:
        present = np.unique(heart.parts)
        handles += [
            Patch(facecolor=c, edgecolor="#888888", label=part.name.lower().replace("_", " "))
            for part, c in _PARTS.items()
            if part in present and part is not Part.OUTSIDE
        ]
    figure.legend(handles=handles, loc="lower center", ncol=len(handles), fontsize=7, frameon=False)


def _tuple(vector: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in vector)
    return x, y, z
