"""Ventricular coordinates: depth, height and angle, the way there and back, and AHA segments."""

import numpy as np
import pytest

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle, slab
from cardiotwin.anatomy.trajectories import trajectory_lengths
from cardiotwin.anatomy.ventricular import (
    INSERTION,
    VentricularCoordinates,
    in_ventricle,
    ventricular_coordinates,
)
from cardiotwin.anatomy.ventricular_map import VentricularMap
from cardiotwin.anatomy.winding import around_axis, harmonic_angle, wrapped
from cardiotwin.numerics.fem import p1_geometry
from cardiotwin.tissue.places import VentricularSite
from cardiotwin.twin import Anatomy, PlacedStimulus


def inside(mesh, count, seed=0):
    """Points of the tissue, evenly spread over its volume."""
    rng = np.random.default_rng(seed)
    volumes = p1_geometry(mesh.points, mesh.cells)[1]
    chosen = rng.choice(len(mesh.cells), count, p=volumes / volumes.sum())
    share = rng.dirichlet(np.ones(4), count)
    return np.einsum("kc,kci->ki", share, mesh.points[mesh.cells[chosen]])


def handedness(mesh, coordinates, which):
    """Sign of every element of a ventricle in the space of its coordinates."""
    values = coordinates.values[which][mesh.cells[coordinates.side == which]]
    edges = values[:, 1:] - values[:, :1]
    edges[:, :, 2] = wrapped(edges[:, :, 2])
    return np.sign(np.linalg.det(edges))


# --- pieces -----------------------------------------------------------------------------------


def test_trajectories_of_a_block_are_straight():
    mesh = slab((10.0, 4.0, 4.0), 1.0)
    start = np.flatnonzero(mesh.points[:, 0] == 0.0)
    shape = p1_geometry(mesh.points, mesh.cells)
    found = trajectory_lengths(mesh.points, mesh.cells, *shape, mesh.points[:, 0], start)
    np.testing.assert_allclose(found, mesh.points[:, 0], atol=1e-4)
    # lines that lean by 16.7 degrees; those that would leave through the side follow it
    u = mesh.points @ np.array([1.0, 0.3, 0.0])
    found = trajectory_lengths(mesh.points, mesh.cells, *shape, u, start)
    straight = mesh.points[:, 0] * np.hypot(1.0, 0.3)
    free = mesh.points[:, 1] > 0.3 * mesh.points[:, 0]
    np.testing.assert_allclose(found[free], straight[free], rtol=0.03)
    assert np.all(found[start] == 0.0)


def test_harmonic_angle_of_a_ring_is_the_polar_one():
    mesh = slab((12.0, 12.0, 1.0), 0.5)
    middle = mesh.points[mesh.cells].mean(axis=1)[:, :2] - 6.0
    radius = np.hypot(*middle.T)
    mesh = mesh.submesh((radius > 2.0) & (radius < 5.0))[0]
    offset = mesh.points[:, :2] - 6.0
    polar = np.arctan2(offset[:, 1], offset[:, 0])
    bent = wrapped(polar + 0.6 * np.sin(2.0 * polar))  # winds alike, elsewhere different
    found = harmonic_angle(bent, mesh.cells, *p1_geometry(mesh.points, mesh.cells))
    off = wrapped(found - polar)
    off = wrapped(off - np.angle(np.exp(1j * off).mean()))
    assert np.abs(off).mean() < 0.02
    assert np.abs(off).max() < 0.12  # on the ring's rim, which is stepped
    assert not around_axis(found, mesh.cells).any()


def test_axis_is_found_where_an_angle_turns():
    mesh = slab((4.0, 4.0, 1.0), 0.5)
    offset = mesh.points[:, :2] - np.array([2.1, 1.83])
    turning = around_axis(np.arctan2(offset[:, 1], offset[:, 0]), mesh.cells)
    centres = mesh.points[mesh.cells].mean(axis=1)[turning]
    assert turning.any()
    assert np.hypot(*(centres[:, :2] - [2.1, 1.83]).T).max() < 0.5


# --- the idealised heart ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def heart():
    mesh = biventricle(3.0)
    return VentricularMap(mesh, ventricular_coordinates(mesh))


def test_coordinates_of_the_idealised_heart(heart):
    mesh, found = heart.mesh, heart.coordinates
    has = in_ventricle(found)
    assert has.any(axis=0).all()
    for which in (0, 1):
        depth, height, angle = found.values[which, has[which]].T
        assert depth.min() == height.min() == 0.0
        assert depth.max() == height.max() == 1.0
        assert np.all(np.abs(angle) <= np.pi)
        signs = handedness(mesh, found, which)
        right = 1.0 if which else -1.0  # seen from their septum the ventricles mirror each other
        assert np.mean(signs == -right) < 1e-3
    endo = np.unique(mesh.surfaces["endo_lv"])
    assert np.all(found.transmural[endo] == 0.0)
    epi = np.setdiff1d(np.unique(mesh.surfaces["epi"]), np.unique(mesh.surfaces["endo_lv"]))
    assert np.mean(found.transmural[epi] == 1.0) > 0.97  # but on the rims of the right endocardium


def test_depth_and_height_are_shares_of_lengths(heart):
    # at the equator of the left free wall: 10 mm thick from 25 mm off the axis
    angle = np.linspace(1.5, 2.5, 5)
    depth = np.linspace(0.1, 0.9, 5)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (25.0 + 10.0 * depth)[:, None]
    points = np.column_stack([-place[:, 0], -place[:, 1], np.zeros(5)])
    found = heart.at(points)
    assert np.all(found.ventricle == 0)
    np.testing.assert_allclose(found.transmural, depth, atol=0.04)
    # a meridian of the left endocardium: 25 by 65 mm, from the tip to the base at 17 mm
    z = np.linspace(-50.0, 10.0, 7)
    around = np.linspace(-np.pi / 2, np.arcsin(17.0 / 65.0), 4001)
    length = np.concatenate(
        [[0.0], np.cumsum(np.hypot(np.diff(25.0 * np.cos(around)), np.diff(65.0 * np.sin(around))))]
    )
    share = np.interp(np.arcsin(z / 65.0), around, length / length[-1])
    inner = 25.0 * np.cos(np.arcsin(z / 65.0)) + 0.5
    found = heart.at(np.column_stack([inner, np.zeros(7), z]))
    np.testing.assert_allclose(found.apicobasal, share, atol=0.05)


def test_right_ventricle_joins_at_sixty_degrees(heart):
    mesh, found = heart.mesh, heart.coordinates
    both = in_ventricle(found).all(axis=0)
    seam = both & np.isin(np.arange(len(mesh.points)), mesh.surfaces["epi"])
    high = seam & (found.values[0, :, 1] > 0.4)
    for which in (0, 1):
        angle = found.values[which, high, 2]
        assert np.abs(np.abs(angle) - INSERTION).max() < 0.15
        front = (mesh.points[high] - heart_axes(mesh).origin) @ heart_axes(mesh).third
        assert np.all(np.sign(angle) == np.sign(front))


def test_way_there_and_back(heart):
    points = inside(heart.mesh, 2000)
    place = heart.at(points)
    assert place.distance.max() < 1e-9
    away = np.linalg.norm(heart.points(*place[:4]) - points, axis=1)
    assert np.median(away) < 1e-6
    assert np.percentile(away, 95) < 1.0
    assert np.percentile(away, 99.5) < 3.0


def test_no_two_nodes_have_the_same_coordinates(heart):
    values = heart.coordinates.values
    seam = in_ventricle(heart.coordinates).all(axis=0)
    for which, has in enumerate(in_ventricle(heart.coordinates)):
        off_axis = has & (values[which, :, 1] > 0.0)  # where an angle is
        for chosen, least in ((off_axis & ~seam, 1.0), (off_axis, 0.9995)):  # the seam is stepped
            rows = np.round(values[which, chosen], 9)
            assert len(np.unique(rows, axis=0)) >= least * len(rows)


def test_places_carry_over_to_another_heart(heart):
    dilated = BiventricleShape(lv_endocardium=(33, 33, 72), rv_offset=38)
    other = VentricularMap(biventricle(3.2, shape=dilated))
    for ventricle in ("lv", "rv"):
        for height, angle in ((0.3, -2.5), (0.6, 0.2), (0.8, 2.0)):
            here = heart.points(ventricle, 0.0, height, angle)
            there = other.points(ventricle, 0.0, height, angle)
            back = other.at(there)
            assert back.apicobasal[0] == pytest.approx(height, abs=0.02)
            assert wrapped(back.rotational[0] - angle) == pytest.approx(0.0, abs=0.05)
            # the same direction from the long axis
            ways = []
            for which, point in ((heart, here), (other, there)):
                axes = heart_axes(which.mesh)
                offset = (point - axes.origin)[0]
                ways.append(np.array([offset @ axes.lv_to_rv, offset @ axes.third]))
            cosine = ways[0] @ ways[1] / np.prod([np.linalg.norm(x) for x in ways])
            assert cosine > 0.8


def test_segments(heart):
    mesh = heart.mesh
    found = heart.segments()
    assert set(np.unique(found)) == set(range(18))
    axes = heart_axes(mesh)
    centre = {k: mesh.points[found == k].mean(axis=0) - axes.origin for k in range(1, 18)}
    up, right, front = (
        {k: x @ way for k, x in centre.items()}
        for way in (axes.apex_to_base, axes.lv_to_rv, axes.third)
    )
    assert min(up[k] for k in range(1, 7)) > max(up[k] for k in range(7, 13))
    assert min(up[k] for k in range(7, 13)) > max(up[k] for k in range(13, 17)) > up[17]
    for anterior, inferior in ((1, 4), (2, 3), (7, 10), (8, 9), (13, 15)):
        assert front[anterior] > 5.0 > -5.0 > front[inferior]
    for septal, lateral in ((2, 6), (3, 5), (8, 12), (9, 11), (14, 16)):
        assert right[septal] > 5.0 > -5.0 > right[lateral]
    free = np.setdiff1d(np.flatnonzero(found == 0), mesh.surfaces["endo_lv"])
    assert np.all(np.isnan(heart.coordinates.values[0, free, 0]))


def test_places_are_paced(heart):
    anatomy = Anatomy(heart.mesh)
    anatomy.__dict__["map"] = heart
    lateral = VentricularSite("lv", 0.6, 180.0, transmural=1.0)
    apex = VentricularSite("rv", 0.15, 0.0, onset=20.0)
    placed = PlacedStimulus([lateral, apex], radius=5.0).on(anatomy)
    axes = heart_axes(heart.mesh)
    offset = placed.sites - axes.origin
    assert offset[0] @ axes.lv_to_rv == pytest.approx(-33.5, abs=2.0)  # the left epicardium
    assert offset[1] @ axes.lv_to_rv > 0.0 > offset[1] @ axes.apex_to_base
    (pulses,) = placed.pulses(heart.mesh.points)
    near = np.linalg.norm(heart.mesh.points[:, None] - placed.sites, axis=2) <= 5.0
    assert np.array_equal(np.asarray(pulses.amplitude) > 0, near.any(axis=1))
    assert np.all(np.asarray(pulses.onset)[near[:, 1]] == 20.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ventricle": "left"}, "ventricle is 'left'; give 'lv' or 'rv'"),
        ({"apicobasal": 1.2}, r"apicobasal is 1\.2; it runs from 0 to 1"),
        ({"transmural": np.nan}, "transmural is nan"),
        ({"rotational": np.inf}, "must be finite"),
        ({"onset": -1.0}, "the onset not negative"),
    ],
)
def test_places_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        VentricularSite(**{"ventricle": "lv", "apicobasal": 0.5, "rotational": 0.0, **change})
    with pytest.raises(ValueError, match="no sites"):
        PlacedStimulus([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("left", 0.0, 0.5, 0.0), "ventricle is 'left'; give 'lv' or 'rv'"),
        ((2, 0.0, 0.5, 0.0), "point 0: ventricle 2.*expected 0 or 1"),
        (("lv", 0.0, [0.5, 1.5], 0.0), r"point 1: ventricle 0.*apicobasal 1\.5"),
        (("lv", 0.0, 0.5, np.nan), "a finite angle in radians"),
    ],
)
def test_coordinates_that_no_point_has(heart, arguments, message):
    with pytest.raises(ValueError, match=message):
        heart.points(*arguments)


def test_other_bad_input(heart):
    with pytest.raises(ValueError, match=r"points have shape \(2,\)"):
        heart.at([1.0, 2.0])
    with pytest.raises(ValueError, match=r"coordinates are of a mesh with 5 nodes"):
        VentricularMap(heart.mesh, VentricularCoordinates(np.zeros((2, 5, 3)), np.zeros(3, int)))
    surfaces = {k: x for k, x in heart.mesh.surfaces.items() if k != "endo_rv"}
    bare = heart.mesh.replaced(surfaces=surfaces)
    with pytest.raises(ValueError, match="no surface 'endo_rv'"):
        ventricular_coordinates(bare)


# --- a real heart -----------------------------------------------------------------------------


@pytest.mark.realdata
def test_real_heart_agrees_with_its_file(data, tabulate):
    """The file has coordinates of its own, with other definitions; docs/anatomy.md explains."""
    file = data / "rodero-heart-01" / "rodero_01_fullheart_2.0mm"
    mesh = read_mesh(
        f"{file}.vtu.gz", names=f"{file}.namemap.json", keep=["lv", "rv", "septum"], fibres=False
    )
    heart = VentricularMap(mesh)
    left, right = heart.coordinates.values
    theirs = {k: mesh.point_data[k] for k in ("transmural", "apico-basal", "rotational")}
    region = {
        k: np.isin(np.arange(len(mesh.points)), mesh.cells[mesh.regions == label])
        for label, k in mesh.region_names
    }
    free = (
        region["lv"] & (np.abs(left[:, 2]) > INSERTION),
        region["rv"] & (np.abs(right[:, 2]) > INSERTION),
    )
    septum = region["septum"] & ~region["rv"] & ~region["lv"]

    def compare(what, ours, file, least):
        known = np.isfinite(ours) & np.isfinite(file)
        ours, file = ours[known], file[known]
        r = np.corrcoef(ours, file)[0, 1]
        tabulate(
            "coordinates of Rodero's heart against the file's", coordinate=what,
            correlation=r, mean_difference=float(np.mean(ours - file)), nodes=len(ours),
        )  # fmt: skip
        assert r > least

    compare("transmural, left free wall", left[free[0], 0], theirs["transmural"][free[0]], 0.97)
    compare("transmural, right wall", right[free[1], 0], theirs["transmural"][free[1]], 0.95)
    across = np.where(np.isnan(left[:, 0]), 1.0 - right[:, 0] / 2.0, left[:, 0] / 2.0)
    compare("transmural, septum", across[septum], theirs["transmural"][septum], 0.98)
    compare("apicobasal, left", left[free[0], 1], theirs["apico-basal"][free[0]], 0.92)
    compare("apicobasal, right", right[free[1], 1], theirs["apico-basal"][free[1]], 0.95)
    # the right wall's angle is seen from the septum's side in the file
    mirrored = np.sign(right[:, 2]) * (np.pi - np.abs(right[:, 2])) / 2.0
    for what, ours, where in (
        ("left free wall", left[:, 2], free[0]),
        ("septum", left[:, 2], septum),
        ("right wall", mirrored, free[1]),
    ):
        off = (ours - theirs["rotational"])[where]
        mean = np.exp(1j * off[np.isfinite(off)]).mean()
        tabulate(
            "coordinates of Rodero's heart against the file's", coordinate=f"rotational, {what}",
            correlation=abs(mean), mean_difference=float(np.angle(mean)),
            nodes=int(np.isfinite(off).sum()),
        )  # fmt: skip
        assert abs(mean) > 0.95
    points = inside(mesh, 5000)
    away = np.linalg.norm(heart.points(*heart.at(points)[:4]) - points, axis=1)
    tabulate(
        "round trip from points to coordinates and back (mm)",
        median=np.median(away), p95=np.percentile(away, 95),
    )  # fmt: skip
    assert np.median(away) < 1.0
    assert np.percentile(away, 95) < 3.0
