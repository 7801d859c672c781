import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cup import LEADS, activation, cup, synthetic_ecg, voltage

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.results import (
    DiskFull,
    View,
    _raster,
    _surface,
    action_potentials,
    activation_map,
    default_views,
    ecg_paper,
    film,
    heart_views,
)
from cardiotwin.results import film as film_function
from cardiotwin.results._ecg_sheet import lay_out
from cardiotwin.results._palette import NEVER, activation_colours, look_up
from cardiotwin.results._stage import Drawing, Framing

FRONT = View("front", (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), left="left", right="right")


@pytest.fixture(scope="module")
def mesh():
    return cup(64, 40, 2)


@pytest.fixture(scope="module")
def times(mesh):
    return activation(mesh)


def read_png(path):
    from matplotlib.image import imread

    return imread(path)[..., :3]


def sheet_of(t, ecg, **options):
    settings = {"speed": 25.0, "gain": None, "rhythm": "II", "text": ["title"]} | options
    return lay_out(t, ecg, LEADS, **settings)


# --- ECG paper


def test_a_short_beat_is_shown_whole_in_every_lead_true_to_scale():
    t, ecg = synthetic_ecg(np.arange(0.0, 451.0))
    sheet = sheet_of(t, ecg)
    assert [trace.name for trace in sheet.traces] == [
        *("I", "aVR", "V1", "V4"),
        *("II", "aVL", "V2", "V5"),
        *("III", "aVF", "V3", "V6"),
    ]
    for trace in sheet.traces:
        lead = ecg[:, LEADS.index(trace.name)]
        assert np.ptp(trace.x) == pytest.approx(25.0 * 0.450)  # 25 mm/s
        assert np.ptp(trace.y) == pytest.approx(10.0 * np.ptp(lead))  # 10 mm/mV
    assert len(sheet.pulses) == 3
    for x, y in sheet.pulses:
        assert np.ptp(y) == pytest.approx(10.0)  # 1 mV
        assert np.ptp(x[y > y[0]]) == pytest.approx(5.0)  # 200 ms
    assert sheet.width % 5 == 0
    assert sheet.height % 5 == 0


@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("duration", [450.0, 10_000.0])
def test_no_wave_is_clipped_and_no_rows_overlap(scale, duration):
    t, ecg = synthetic_ecg(np.arange(0.0, duration), 800.0)
    sheet = sheet_of(t, scale * ecg)
    assert sheet.gain == (10.0 if scale <= 1 else sheet.gain)
    for trace in sheet.traces:
        assert trace.y.min() > 4.0
        assert trace.y.max() < min(line.y for line in sheet.lines)
        assert trace.x.max() < sheet.width
        assert trace.label[1] >= trace.y[trace.x <= trace.x[0] + 9].max()
    rows = [sheet.traces[first : first + 4] for first in range(0, len(sheet.traces), 4)]
    assert len(rows) == len(sheet.pulses) == (3 if duration < 2500 else 4)
    for above, below in itertools.pairwise(rows):
        lowest = min(trace.y.min() for trace in above)
        assert lowest > max(trace.y.max() for trace in below) + 4.0


def test_a_long_record_runs_on_through_the_columns_with_a_rhythm_strip():
    t, ecg = synthetic_ecg(np.arange(0.0, 12_000.0, 2.0), 800.0)
    sheet = sheet_of(t, ecg)
    assert sheet.note == "first 10 s of 11.998 s"
    assert len(sheet.traces) == 13
    assert np.ptp(sheet.traces[-1].x) == pytest.approx(250.0)
    for trace in sheet.traces[:4]:
        assert np.ptp(trace.x) == pytest.approx(62.5, abs=0.1)
    assert sheet.traces[1].x[0] == pytest.approx(sheet.traces[0].x[-1], abs=0.06)


def test_the_printed_picture_has_the_right_size(tmp_path):
    t, ecg = synthetic_ecg(np.arange(0.0, 451.0))
    path = ecg_paper(
        tmp_path / "ecg.png", t, ecg, LEADS, dpi=254, measurements={"QRS": "92 ms"}
    )  # 10 px/mm
    picture = read_png(path)
    assert picture.shape[1] % 50 == 0  # whole 5 mm boxes
    dark = (picture.mean(axis=2) < 0.35)[:, 98:152].any(axis=1)  # where the pulses stand
    rows = np.flatnonzero(dark)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    pulses = [run for run in runs if 98 <= len(run) <= 108]
    assert len(pulses) == 3  # 10 mm and the width of a line
    strong = picture[2:8, :, 1].mean(axis=0) < 0.75
    boxes = np.arange(50, picture.shape[1] - 1, 50)
    assert (strong[boxes] | strong[boxes - 1]).all()
    assert strong.mean() < 0.06


def test_ecg_paper_refuses_what_does_not_fit(tmp_path):
    t, ecg = synthetic_ecg(np.arange(0.0, 451.0))
    with pytest.raises(ValueError, match="one column a lead"):
        ecg_paper(tmp_path / "e.png", t, ecg[:, :5], LEADS)
    with pytest.raises(ValueError, match="must increase"):
        ecg_paper(tmp_path / "e.png", t[::-1], ecg, LEADS)
    with pytest.raises(ValueError, match="finite value"):
        ecg_paper(tmp_path / "e.png", t, np.full_like(ecg, np.nan), LEADS)
    assert not list(tmp_path.iterdir())


def test_action_potentials_as_vector_graphics(tmp_path):
    t = np.arange(0.0, 450.0)
    path = action_potentials(tmp_path / "ap.svg", t, np.full((450, 2), -85.0), ["apex", "base"])
    assert "<svg" in path.read_text()
    with pytest.raises(ValueError, match="expected \\(times, labels\\)"):
        action_potentials(path, t, np.zeros((450, 2)), ["apex"])


# --- the rasteriser and what it stands on


def square_sheet(n=40):
    """A flat square [0, 1]^2 of triangles, facing +z."""
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    i = np.arange(n * n).reshape(n, n)
    a, b, c, d = (s.ravel() for s in (i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return np.stack([x, y, 0 * x], -1).reshape(-1, 3), triangles


def test_raster_covers_interpolates_and_hides():
    points, triangles = square_sheet()
    behind = points * (1, 1, 0) + (0, 0, -1)
    xy = 10.0 + 80.0 * np.concatenate([points, behind])[:, :2]
    depth = np.concatenate([points, behind])[:, 2]
    both = np.concatenate([triangles + len(points), triangles])
    facets = _raster.Facets(xy, depth, both, np.ones(both.shape))
    seen = _raster.visible(facets, 100, 100)
    assert len(seen.sample) == 80 * 80
    column, row = seen.sample % 100, seen.sample // 100
    np.testing.assert_allclose(seen.weights @ xy[:, 0], column + 0.5, atol=1e-4)
    np.testing.assert_allclose(seen.weights @ xy[:, 1], row + 0.5, atol=1e-4)
    assert seen.weights.indices.max() < len(points)  # only the front sheet
    cut = _raster.visible(facets, 100, 100, nearest=-0.5)
    assert cut.weights.indices.min() >= len(points)
    away = facets._replace(triangles=both[:, ::-1])
    assert len(_raster.visible(away, 100, 100).sample) == 0


def test_paint_averages_samples_on_white():
    facets = _raster.Facets(
        np.array([[0.0, 0], [4, 0], [0, 4]]), np.zeros(3), np.array([[0, 1, 2]]), np.ones((1, 3))
    )
    seen = _raster.visible(facets, 4, 4)
    picture = _raster.paint(seen, np.zeros((len(seen.sample), 3)), 4, 4)
    assert picture.shape == (2, 2, 3)
    assert picture[1, 0, 0] == 0  # lower left: covered
    assert picture[0, 1, 0] == 255  # upper right: white
    assert 0 < picture[0, 0, 0] < 255


def test_colours_run_from_the_first_to_the_last_and_grey_for_nan():
    colours = activation_colours()
    first, last, below, above, never = look_up(
        colours, np.array([0.0, 1.0, -5.0, 9.0, np.nan]), (0.0, 1.0)
    )
    np.testing.assert_allclose(first, colours.colors[0, :3], atol=1e-6)
    np.testing.assert_allclose(last, colours.colors[-1, :3], atol=1e-6)
    np.testing.assert_array_equal(below, first)
    np.testing.assert_array_equal(above, last)
    assert never[0] == pytest.approx(int(NEVER[1:3], 16) / 255)
    assert first.mean() > last.mean() + 0.3  # early bright, late dark, also in grey print


def test_isochrones_lie_where_the_value_is_the_level():
    points, triangles = square_sheet()
    values = points[:, 0] + 0.5 * points[:, 1]
    pieces = _surface.isochrones(points, triangles, values, np.array([0.31, 0.77]))
    at = pieces[..., 0] + 0.5 * pieces[..., 1]
    assert np.minimum(np.abs(at - 0.31), np.abs(at - 0.77)).max() < 1e-12
    length = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1).sum()
    exact = np.hypot(0.31, 0.62) + np.hypot(0.5, 1.0)
    assert length == pytest.approx(exact, rel=1e-9)
    values[points[:, 0] > 0.9] = np.nan
    assert _surface.isochrones(points, triangles, values, np.array([1.4])).shape == (0, 2, 3)
    np.testing.assert_array_equal(
        _surface.isochrone_levels(np.array([-3.0, 40.0, np.nan]), 10.0), [0.0, 10.0, 20.0, 30.0]
    )


def test_cross_section_has_the_area_of_the_wall():
    mesh = cup(96, 60, 2)
    height = mesh.points[:, 2] + 0.1234
    points, triangles, values = _surface.cross_section(
        mesh.points, mesh.cells, height, mesh.points[:, 0]
    )
    np.testing.assert_allclose(points[:, 2], -0.1234, atol=1e-12)
    np.testing.assert_allclose(values, points[:, 0], atol=1e-12)
    area = np.linalg.norm(_surface.face_areas(points, triangles), axis=1).sum() / 2
    assert area == pytest.approx(np.pi * (32**2 - 22**2), rel=5e-3)


def test_coarsening_keeps_the_shape_and_nodes_of_the_mesh(mesh):
    whole = _surface.outer_surface(mesh)
    coarse = _surface.coarsened(whole, 3000)
    assert 1000 < len(coarse.triangles) <= 3000 < len(whole.triangles)
    np.testing.assert_array_equal(mesh.points[coarse.nodes], coarse.points)
    area = [
        np.linalg.norm(_surface.face_areas(s.points, s.triangles), axis=1).sum()
        for s in (whole, coarse)
    ]
    assert area[1] == pytest.approx(area[0], rel=0.06)
    outward = np.einsum(
        "px,px->p", _surface.point_normals(whole.points, whole.triangles), whole.points
    )
    outer = np.linalg.norm(whole.points[:, :2], axis=1) > 30
    assert (outward[outer] > 0).all()
    assert _surface.coarsened(coarse, 3000) is coarse


# --- views and maps


def test_anterior_view_has_the_right_ventricle_on_the_left():
    axes = SimpleNamespace(
        apex_to_base=np.array([0.0, 0.0, 1.0]), lv_to_rv=np.array([-1.0, 0.0, 0.0])
    )  # seen from -y the right ventricle, at -x, is on the left
    front, back = heart_views(axes)
    np.testing.assert_allclose(front.frame(), [[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert (front.left, front.right) == ("RV", "LV")
    assert (back.left, back.right) == ("LV", "RV")
    np.testing.assert_allclose(back.direction, -np.array(front.direction))
    with pytest.raises(ValueError, match="not parallel"):
        View("x", (0.0, 0.0, 1.0), (0.0, 0.0, 2.0)).frame()


def test_views_of_a_mesh_without_surfaces_show_its_broad_sides(mesh):
    one, other = default_views(mesh)
    assert abs(one.up[2]) > 0.9  # the long axis stands upright
    np.testing.assert_allclose(one.direction, -np.array(other.direction))


def test_framing_holds_every_view_at_one_scale(mesh):
    views = (FRONT, View("top", (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)))
    framing = Framing.around(mesh.points, views, 300)
    for view in views:
        place = framing.on_picture(mesh.points, view)[:, :2]
        assert (place >= 0).all()
        assert (place <= np.array(framing.samples)).all()
    tall = np.ptp(framing.on_picture(mesh.points, FRONT)[:, 1]) / _raster.SAMPLES
    assert tall * framing.mm_per_px == pytest.approx(np.ptp(mesh.points[:, 2]))


def test_the_half_shows_the_inner_wall(mesh, times):
    surface = _surface.outer_surface(mesh)
    framing = Framing.around(mesh.points, (FRONT,), 200)
    whole = Drawing.of_surface(surface, times, FRONT).seen(framing)
    half = Drawing.of_half(mesh, surface, times, FRONT).seen(framing)
    middle = (framing.height, framing.width)  # of the samples
    gap = whole.depth[middle] - half.depth[middle]
    level = (mesh.points[:, 2].min() + mesh.points[:, 2].max()) / 2
    outer, inner = 32 * np.sqrt(1 - (level / 52) ** 2), 22 * np.sqrt(1 - (level / 42) ** 2)
    assert gap == pytest.approx(outer + inner, abs=0.3)  # outer front wall to inner back wall
    inside_wall = np.array([[27.0, 0.0, 0.0]])
    column, row, plane = framing.on_picture(inside_wall, FRONT)[0]
    assert half.depth[int(row), int(column)] == pytest.approx(plane, abs=0.2)


def test_activation_map_shows_times_isochrones_and_what_never_activated(tmp_path, mesh, times):
    path = activation_map(tmp_path / "map.png", mesh, times, views=(FRONT,), cut=True)
    picture = read_png(path)
    assert picture.shape[1] > 1.3 * picture.shape[0]
    saturation = np.ptp(picture, axis=2)
    assert (saturation > 0.2).mean() > 0.2
    left, right = (picture[:, int(f * picture.shape[1])] for f in (0.12, 0.33))
    colourful = [half[np.ptp(half, axis=1) > 0.2].mean() for half in (left, right)]
    assert colourful[1] > colourful[0]  # early and bright on the right, where the wave starts
    with pytest.raises(ValueError, match="one a node"):
        activation_map(path, mesh, times[1:])


def test_all_panels_have_one_scale(tmp_path, mesh, times):
    back = View("back", (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    picture = read_png(activation_map(tmp_path / "m.png", mesh, times, views=(FRONT, back)))
    coloured = np.ptp(picture, axis=2) > 0.1
    runs = np.flatnonzero(np.diff(coloured.any(axis=0).astype(int)))
    widths = [np.flatnonzero(coloured[:, a:b].any(axis=1)) for a, b in runs.reshape(-1, 2)[:2]]
    assert abs(np.ptp(widths[0]) - np.ptp(widths[1])) <= 2
    assert abs(widths[0][0] - widths[1][0]) <= 2


def test_activation_map_of_nothing_and_of_one_instant(tmp_path, mesh):
    for value in (np.nan, 3.0):
        times = np.full(len(mesh.points), value)
        activation_map(tmp_path / "map.png", mesh, times, views=(FRONT,))


def test_activation_map_of_a_slab(tmp_path):
    points, cells = np.array([[0.0, 0, 0], [9, 0, 0], [0, 5, 0], [0, 0, 2]]), [[0, 1, 2, 3]]
    slab = Mesh(points, cells)
    assert activation_map(tmp_path / "slab.pdf", slab, np.arange(4.0)).stat().st_size > 1000


HEADLESS = """
    import sys
    sys.path.insert(0, {tests!r})
    from cup import activation, cup, voltage
    from cardiotwin.results import activation_map, film
    mesh = cup()
    times = activation(mesh)
    activation_map("map.png", mesh, times)
    print(film("film.mp4", mesh, ((t, voltage(times, t)) for t in (10.0, 50.0, 90.0))))
    assert not [m for m in sys.modules if m.startswith(("vtk", "pyvista"))]
    assert "matplotlib.pyplot" not in sys.modules
"""


def test_pictures_need_neither_vtk_nor_a_display(tmp_path):
    script = textwrap.dedent(HEADLESS.format(tests=str(Path(__file__).parent)))
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted(["map.png", done.stdout.strip()])


# --- film


def frames(times, count=6):
    return ((t, voltage(times, t)) for t in np.linspace(0.0, 120.0, count))


def test_film_has_every_frame_and_turns_yellow(tmp_path, mesh, times):
    from imageio_ffmpeg import get_ffmpeg_exe

    path = film(tmp_path / "film.mp4", mesh, frames(times), views=(FRONT,))
    assert os.listdir(tmp_path) == ["film.mp4"]
    command = [get_ffmpeg_exe(), "-v", "error", "-i", path, "-vf", "crop=100:100:150:200"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, capture_output=True, check=True).stdout
    middle = np.frombuffer(pixels, np.uint8).reshape(6, -1, 3).mean(axis=1)
    assert middle[0, 2] > middle[0, 1] + 40  # violet at rest
    assert middle[-1, 1] > middle[-1, 2] + 60  # yellow when depolarised


def test_film_becomes_a_gif_without_ffmpeg(tmp_path, mesh, times, monkeypatch):
    import imageio.v3 as iio

    module = sys.modules[film_function.__module__]
    monkeypatch.setattr(module, "_ffmpeg_runs", lambda: False)
    path = film(tmp_path / "film.mp4", mesh, frames(times, 3), views=(FRONT,))
    assert path.name == "film.gif"
    assert len(iio.imread(path)) == 3


def test_film_refuses_what_does_not_fit_and_leaves_nothing(tmp_path, mesh):
    with pytest.raises(ValueError, match="no frame"):
        film(tmp_path / "film.mp4", mesh, [])
    wrong = [(0.0, np.zeros(len(mesh.points))), (1.0, np.zeros(3))]
    with pytest.raises(ValueError, match=r"frame at 1\.0 ms"):
        film(tmp_path / "film.mp4", mesh, wrong, views=(FRONT,))
    assert os.listdir(tmp_path) == []


def test_film_says_why_ffmpeg_gave_up(tmp_path, mesh, times, monkeypatch):
    import imageio_ffmpeg

    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no encoder >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(broken))
    with pytest.raises(RuntimeError, match=r"ffmpeg ended with 3 .*no encoder"):
        film(tmp_path / "film.mp4", mesh, frames(times), views=(FRONT,))
    broken.write_text("#!/bin/sh\necho No space left on device >&2\nexit 1\n")
    with pytest.raises(DiskFull, match=r"cannot write .*film\.mp4"):
        film(tmp_path / "film.mp4", mesh, frames(times), views=(FRONT,))
    assert os.listdir(tmp_path) == ["ffmpeg"]
