"""Potentials of the whole skin: exact against the lead field, drawn, filmed, and for ParaView."""

from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import pyvista

from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.ecg import Electrodes, TorsoConductor, skin_potentials
from cardiotwin.results._surface import Surface
from cardiotwin.results.body_maps import BodyMaps, body_film, body_map, write_body_maps
from cardiotwin.results.film import film
from cardiotwin.results.vtkhdf import read_steps
from cardiotwin.run import Experiment, Output, Recording


@pytest.fixture(scope="module")
def heart():
    return biventricle(3.2)


@pytest.fixture(scope="module")
def conductor():
    return TorsoConductor(fine=8.0, coarse=20.0, keep=False)


@pytest.fixture(scope="module")
def sigma_i(heart):
    return np.broadcast_to(np.diag([0.17, 0.05, 0.05]), (heart.elements, 3, 3))


@pytest.fixture(scope="module")
def voltage(heart):
    """Fronts that run along three directions of the mesh."""
    centred = heart.points - heart.points.mean(axis=0)
    return -85.0 + 100.0 / (1.0 + np.exp(centred.T / 3.0))


@pytest.fixture(scope="module")
def found(conductor, heart, sigma_i, voltage):
    return skin_potentials(conductor, heart, sigma_i, voltage)


@pytest.fixture(scope="module")
def maps(found):
    skin = found.torso.skin
    times = np.array([10.0, 20.0, 30.0])
    return BodyMaps(skin.points, skin.triangles, found.torso.frame, times, found.potentials)


def test_the_skin_shows_what_the_lead_field_gives(found, conductor, heart, sigma_i, voltage):
    nine = conductor.place_electrodes(heart)
    # electrodes moved to points of the skin: the same discs on the same elements
    skin = found.torso.skin.points
    nearest = [int(np.argmin(np.linalg.norm(skin - p, axis=1))) for p in nine.positions]
    exact = conductor.lead_field(heart, sigma_i, Electrodes(nine.names, skin[nearest]))
    exact = exact.field @ voltage.T
    at = found.potentials[:, nearest].T
    np.testing.assert_allclose(at, exact, atol=1e-6 * np.abs(exact).max())


def test_voltages_must_fit_the_heart(conductor, heart, sigma_i):
    with pytest.raises(ValueError, match=r"voltages of shape \(3,\)"):
        skin_potentials(conductor, heart, sigma_i, np.zeros(3))


def test_maps_from_front_and_back(tmp_path, maps, found):
    front, back = maps.views()
    assert (front.left, back.left) == ("right", "left")  # of the body, as one looks at it
    left, posterior, superior = found.torso.frame
    np.testing.assert_allclose(front.frame(), [left, superior, -posterior], atol=1e-12)
    np.testing.assert_allclose(back.frame(), [-left, superior, posterior], atol=1e-12)
    path = body_map(tmp_path / "map.png", maps, [11.0, 30.0], electrodes=maps.points[:9])
    picture = iio.imread(path)[..., :3].astype(int)
    red = picture[..., 0] - picture[..., 2]
    assert (red > 60).mean() > 0.01  # positive skin
    assert (red < -60).mean() > 0.01  # negative skin
    for instants, message in (([], "no instants"), ([200.0], "run from 10 to 30 ms")):
        with pytest.raises(ValueError, match=message):
            body_map(tmp_path / "none.png", maps, instants)


def test_film_and_file(tmp_path, maps):
    frames = iio.imread(body_film(tmp_path / "skin.gif", maps))
    assert len(frames) == 3
    assert np.abs(frames[0].astype(int) - frames[2]).max() > 50
    path = write_body_maps(tmp_path / "skin.vtkhdf", maps)
    with read_steps(path) as steps:
        np.testing.assert_allclose(steps.times, maps.t_ms)
        np.testing.assert_allclose(steps.frame(1, "potential"), maps.potentials[1], rtol=1e-6)
    reader: Any = pyvista.get_reader(path)
    reader.reader.SetStep(2)
    seen = reader.read()
    assert seen.n_cells == len(maps.triangles)
    assert set(seen.celltypes) == {pyvista.CellType.TRIANGLE}
    np.testing.assert_allclose(seen.point_data["potential"], maps.potentials[2], rtol=1e-6)
    assert 'TopologyType="Triangle"' in path.with_suffix(".xdmf").read_text()
    surface = Surface(maps.points, maps.triangles, np.arange(len(maps.points)))
    with pytest.raises(ValueError, match="no view for the film"):
        film(tmp_path / "none.gif", surface, [(0.0, maps.potentials[0])])


def test_a_skin_is_asked_for_where_there_is_none():
    with pytest.raises(ValueError, match="frames_every is 0"):
        Output(body_surface=True, frames_every=0.0)
    with pytest.raises(ValueError, match="leads=torso"):
        Experiment(slab((4.0, 4.0, 4.0), 2.0), leads=Recording(), output=Output(body_surface=True))
