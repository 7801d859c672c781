"""Fibres of another mesh, of a file on other points, and of another heart."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from cardiotwin.anatomy._fibre_files import read_directions
from cardiotwin.anatomy.fibre_profile import LEFT, RIGHT, wall_masks
from cardiotwin.anatomy.fibre_transfer import FibreSamples, fibres_at, fibres_of_heart
from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle, slab
from cardiotwin.anatomy.ventricular_map import VentricularMap
from cardiotwin.config import build, load
from cardiotwin.twin import Anatomy, FibresFromFile, FibresFromHeart

THICK = BiventricleShape(rv_wall=5.0)  # so that coarse meshes do


def angle_between_lines(a, b):
    """Degrees from 0 to 90 between directions without a sign."""
    return np.degrees(np.arccos(np.clip(np.abs(np.einsum("ei,ei->e", a, b)), 0.0, 1.0)))


def signs(count, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(count, 1))


def turning(places):
    """Fibres that turn by 10 degrees a mm along z, sheets along z."""
    angle = np.radians(10.0 * places[:, 2])
    fibre = np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=1)
    return fibre, np.tile([0.0, 0.0, 1.0], (len(places), 1))


@pytest.fixture(scope="module")
def samples():
    """Random points of a block of 10 mm, of any sign and length."""
    rng = np.random.default_rng(1)
    places = rng.uniform(0.0, 10.0, size=(8000, 3))
    fibre, sheet = turning(places)
    sign = signs(len(places))
    return FibreSamples(places, 20.0 * sign * fibre, sign * sheet)


def test_a_turning_field_is_followed_up_to_the_surface(samples):
    places = np.random.default_rng(2).uniform(0.0, 10.0, size=(3000, 3))
    found = fibres_at(samples, places)
    fibre, sheet = turning(places)
    off = angle_between_lines(found.fibre, fibre)
    assert off.mean() < 0.3
    edge = np.minimum(places, 10.0 - places).min(axis=1) < 0.2
    assert off[edge].mean() < 0.6  # averages alone are off by degrees there
    assert angle_between_lines(found.sheet, sheet).max() < 1.0
    frames = np.stack([found.fibre, found.sheet, found.normal], axis=2)
    np.testing.assert_allclose(
        np.swapaxes(frames, 1, 2) @ frames, np.broadcast_to(np.eye(3), frames.shape), atol=1e-6
    )
    assert found.replaced == 0
    assert found.note.startswith("3000 of 3000 elements within")


def test_samples_are_met_where_they_lie(samples):
    found = fibres_at(samples, samples.places)
    assert angle_between_lines(found.fibre, turning(samples.places)[0]).max() < 0.5


def test_signs_do_not_matter(samples):
    places = samples.places[:500] + 0.1
    turned = FibreSamples(samples.places, signs(len(samples.places), 5) * samples.fibre)
    one, other = fibres_at(samples, places), fibres_at(turned, places)
    assert angle_between_lines(one.fibre, other.fibre).max() < 1e-5


def test_smoothing_averages_noise(samples):
    rng = np.random.default_rng(3)
    fibre, _ = turning(samples.places)
    noisy = FibreSamples(samples.places, fibre + 0.25 * rng.normal(size=fibre.shape))
    inside = samples.places[(np.abs(samples.places - 5.0) < 4.0).all(axis=1)]
    wanted, _ = turning(inside)
    raw = angle_between_lines(fibres_at(noisy, inside).fibre, wanted).mean()
    smooth = angle_between_lines(fibres_at(noisy, inside, smoothing=1.0).fibre, wanted).mean()
    assert raw > 10.0
    assert smooth < 4.0


def test_places_beyond_the_samples_take_the_nearest_or_are_refused(samples):
    places = np.concatenate([np.full((97, 3), 5.0), np.full((3, 3), 20.0)])
    found = fibres_at(samples, places, tolerance=1.0)
    assert found.replaced == 3
    with pytest.raises(ValueError, match=r"does not cover the heart: 6 of 100 .* register"):
        fibres_at(samples, np.concatenate([places, places[-3:]])[3:], tolerance=1.0)


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "m"), (0.1, "cm"), (1e3, "um")])
def test_a_wrong_unit_is_named(samples, factor, unit):
    scaled = FibreSamples(factor * samples.places, samples.fibre)
    with pytest.raises(ValueError, match=f"give unit={unit}$"):
        fibres_at(scaled, samples.places)


def test_bad_samples_are_refused(samples):
    fibre = samples.fibre.copy()
    fibre[7, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"1 of 8000 samples .* not finite, the first being sample 7"
    ):
        fibres_at(FibreSamples(samples.places, fibre), samples.places)
    with pytest.raises(ValueError, match="length zero"):
        fibres_at(FibreSamples(samples.places, 0.0 * fibre[:, [0, 0, 0]]), samples.places)
    with pytest.raises(ValueError, match=r"expected .samples, 3. alike"):
        fibres_at(FibreSamples(samples.places, fibre[:5]), samples.places)
    with pytest.raises(ValueError, match="smoothing is -1"):
        fibres_at(samples, samples.places, smoothing=-1.0)


def test_a_file_on_other_points_becomes_the_fibres_of_a_mesh(tmp_path):
    """Written in metres, on a mesh of another resolution."""
    fine, coarse = slab((4.0, 4.0, 4.0), 0.5, "bcc"), slab((4.0, 4.0, 4.0), 1.0)
    fibre, sheet = turning(fine.centroids())
    fields = {"fibre": signs(len(fibre)) * fibre, "sheet": sheet}
    other = fine.replaced(points=fine.points / 1000.0, cell_data=fields)
    write_mesh(tmp_path / "field.vtu", other)
    config = load(["fibres=from_file", f"fibres.path={tmp_path}/field.vtu", "fibres.unit=m"])
    found = build(config.fibres).on(Anatomy(coarse))
    wanted, out = turning(coarse.centroids())
    assert angle_between_lines(found.fibre, wanted).mean() < 1.0
    assert angle_between_lines(found.sheet, out).mean() < 0.5
    with pytest.raises(ValueError, match=r"give unit=m$"):
        FibresFromFile(str(tmp_path / "field.vtu")).on(Anatomy(coarse))
    write_mesh(tmp_path / "none.vtu", fine.replaced(cell_data={}))
    with pytest.raises(ValueError, match=r"none.vtu: no fibre direction among its fields"):
        FibresFromFile(str(tmp_path / "none.vtu")).on(Anatomy(coarse))
    with pytest.raises(ValueError, match="tolerance is 0"):
        FibresFromFile("x.vtu", tolerance=0.0)


@pytest.fixture(scope="module")
def heart():
    mesh = biventricle(4.0, shape=THICK)
    fibres = ldrb(mesh)
    sign = signs(mesh.elements)
    return mesh.replaced(cell_data={"fibre": sign * fibres.fibre, "sheet": fibres.sheet})


def test_interpolation_beats_the_nearest_sample(heart):
    finer = biventricle(3.0, shape=THICK)
    wanted = ldrb(finer).fibre
    known = FibreSamples(heart.centroids(), heart.cell_data["fibre"])
    off = angle_between_lines(fibres_at(known, finer.centroids()).fibre, wanted)
    nearest = known.fibre[KDTree(known.places).query(finer.centroids())[1]]
    assert off.mean() < 3.0
    assert off.mean() < 0.4 * angle_between_lines(nearest, wanted).mean()


def test_fibres_are_carried_to_another_heart(heart):
    """A dilated one: against the rule that made them, applied there."""
    dilated = biventricle(
        4.0, shape=BiventricleShape(lv_endocardium=(33.0, 33.0, 72.0), rv_offset=38.0, rv_wall=5.0)
    )
    anatomy = Anatomy(dilated)
    found = FibresFromHeart(heart).on(anatomy)
    wanted = ldrb(dilated, fields=anatomy.fields)
    off = angle_between_lines(found.fibre, wanted.fibre)
    masks = wall_masks(dilated, anatomy.fields)
    assert off.mean() < 4.0
    assert off[masks[LEFT]].mean() < 2.0
    assert off[masks[RIGHT]].mean() < 3.0
    assert angle_between_lines(found.sheet, wanted.sheet).mean() < 3.0
    assert "ventricular coordinates" in found.note


def test_a_heart_carried_to_itself_keeps_its_fibres(heart):
    there = VentricularMap(heart)
    found = fibres_of_heart(there, there)
    off = angle_between_lines(found.fibre, heart.cell_data["fibre"])
    assert np.median(off) < 0.5
    assert np.quantile(off, 0.95) < 6.0


def test_a_heart_without_fibres_is_refused():
    with pytest.raises(ValueError, match="no cell data 'fibre'"):
        FibresFromHeart(slab((1.0, 1.0, 1.0), 0.5).replaced(cell_data={}))


@pytest.mark.realdata
def test_a_real_field_on_points_in_another_order(data):
    """crtdemo: vectors of length 20 at the nodes of the mesh, in another order."""
    folder = data / "crtdemo"
    file = folder / "crtdemo_f0_oriented.vtk"
    mesh = read_mesh(folder / "crtdemo_mesh_oriented.vtk", fibres=file)
    samples = FibreSamples(*read_directions(file, None))
    np.testing.assert_allclose(np.linalg.norm(samples.fibre, axis=1), 20.0, rtol=1e-3)
    found = fibres_at(samples, mesh.centroids())
    off = angle_between_lines(found.fibre, mesh.cell_data["fibre"])
    assert np.median(off) < 1.5  # of the mean of each element's nodes
    assert off.mean() < 4.0
    finer = read_mesh(folder / "crtdemo_mesh_oriented.vtk", edge_length=2.6)
    found = fibres_at(samples, finer.centroids())
    assert found.replaced == 0
