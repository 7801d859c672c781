"""Conduction velocity: the curve against the exact wave of a cubic membrane, strips, tuning."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cardiotwin.anatomy.fibres import Fibres, fibres_from_mesh
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.scheme import Godunov, ImplicitDiffusion
from cardiotwin.propagation.strip import cut_strip
from cardiotwin.propagation.velocity import (
    VelocityCurve,
    VelocityTarget,
    mean_edge_length,
    measured_velocity,
    plane_wave_velocity,
    strip_velocity,
    tune,
    velocity_curve,
)
from cardiotwin.tissue.conductivity import Tissue

# Mitchell and Schaeffer's membrane is a cubic while its gate stays open,
#     du/dt = D u'' - u (u - u1) (u - u2) / tau_in,
# and the wave u2 / (1 + exp(u2 s / sqrt(2 tau_in D))), s = x - c t, solves that exactly for
# c = sqrt(D / (2 tau_in)) (u2 - 2 u1). What follows has c at D = 1.
CUBIC = MitchellSchaeffer(tau_close=1e6)
ROOT = np.sqrt(1 - 4 * 0.3 / 6.0)
EXACT = np.sqrt(1 / (2 * 0.3)) * ((1 + ROOT) / 2 - (1 - ROOT))


def curve_of(consistent, dt, ratios=(0.4, 0.6, 1.0, 2.0)):
    scheme = Godunov(ImplicitDiffusion(consistent_mass=consistent, tolerance=1e-6))
    return velocity_curve(CUBIC, dt=dt, scheme=scheme, precision="float64", ratios=ratios)


@pytest.fixture(scope="module")
def lumped():
    return curve_of(0.0, 0.04)


@pytest.fixture(scope="module")
def consistent():
    return curve_of(1.0, 0.04)


# the curve, measured


def test_continuum_is_that_of_the_exact_wave(lumped):
    half = curve_of(0.0, 0.02)
    # first order in dt: half a per cent at 0.04 ms, and next to nothing once it is extrapolated
    assert lumped.continuum == pytest.approx(EXACT, rel=0.006)
    assert 2 * half.continuum - lumped.continuum == pytest.approx(EXACT, rel=3e-4)


def test_mass_decides_the_sign_of_the_error_and_not_the_continuum(lumped, consistent):
    assert consistent.continuum == pytest.approx(lumped.continuum, rel=1e-4)
    diffusivity = 1.0 / np.array([0.4, 1.0, 2.0]) ** 2
    slow, fast = (curve.error(diffusivity, 1.0) for curve in (lumped, consistent))
    assert np.all(np.diff(slow) < 0)
    assert np.all(slow < 0)
    assert np.all(np.diff(fast) > 0)
    assert np.all(fast > 0)
    # a resolved wave is off by the square of the ratio
    assert slow[0] / 0.16 == pytest.approx(slow[1], rel=0.1)
    assert fast[0] / 0.16 == pytest.approx(fast[1], rel=0.1)


def test_only_the_ratio_matters(lumped):
    # lengths in units of sqrt(D) make the discrete equations the same, to rounding
    edge = 0.2
    diffusivities = (edge / lumped.ratios[1:]) ** 2
    scheme = Godunov(ImplicitDiffusion(consistent_mass=0.0, tolerance=1e-6))
    velocity = plane_wave_velocity(
        CUBIC, diffusivities, edge, dt=0.04, scheme=scheme, precision="float64"
    )
    np.testing.assert_allclose(velocity, np.sqrt(diffusivities) * lumped.g[1:], rtol=1e-6)
    np.testing.assert_allclose(velocity, lumped.velocity(diffusivities, edge), rtol=1e-6)


def test_ratios_at_which_the_wave_fails_are_left_out():
    # lumped mass blocks waves on edges far longer than the front
    curve = curve_of(0.0, 0.1, ratios=(2.0, 40.0, 1.0))
    np.testing.assert_array_equal(curve.ratios, [1.0, 2.0])
    assert np.all(curve.g > 0)


def test_membrane_that_carries_no_wave():
    # 4 tau_in > tau_out: nothing but rest is a root of the current
    dead = MitchellSchaeffer(tau_in=2.0)
    with pytest.raises(ValueError, match=r"MitchellSchaeffer carried no wave .* at dt = 0.1 ms"):
        velocity_curve(dead, dt=0.1, ratios=(1.0, 2.0))


# the curve, given


LOSS = 0.02
RATIOS = np.linspace(0.2, 4.0, 39)
# CV = sqrt(D) (1 - LOSS r^2): slow where it is coarse, to 1.08 at r = 0
GIVEN = VelocityCurve(RATIOS, 1.08 * (1 - LOSS * RATIOS**2), 1.08)


@pytest.mark.parametrize("edge", [0.2, 1.0])
@pytest.mark.parametrize("velocity", [0.4, 0.6, 3.0])
def test_diffusivity_is_the_inverse_of_velocity(velocity, edge):
    diffusivity = GIVEN.diffusivity(velocity, edge)
    # interpolated between 4000 ratios
    assert GIVEN.velocity(diffusivity, edge) == pytest.approx(velocity, rel=1e-5)
    # sqrt(D) = x solves x (1 - LOSS (edge / x)^2) = velocity / 1.08
    c = velocity / 1.08
    root = (c + np.sqrt(c**2 + 4 * LOSS * edge**2)) / 2
    assert diffusivity == pytest.approx(root**2, rel=1e-3)


def test_error_and_slope_of_a_given_curve():
    edge = 0.5
    ratio = np.array([0.1, 0.5, 1.0, 2.0, 3.0])
    diffusivity = (edge / ratio) ** 2
    np.testing.assert_allclose(GIVEN.error(diffusivity, edge), -LOSS * ratio**2, atol=2e-4)
    # ln CV = ln(D) / 2 + ln(1 - LOSS edge^2 / D)
    loss = LOSS * ratio**2
    np.testing.assert_allclose(GIVEN.slope(diffusivity, edge), 0.5 + loss / (1 - loss), rtol=0.01)


def test_beyond_the_last_ratio_the_wave_fails():
    diffusivity = (0.5 / 4.01) ** 2
    assert GIVEN.velocity(diffusivity, 0.5) == 0.0
    assert GIVEN.error(diffusivity, 0.5) == -1.0


def test_wave_too_slow_for_the_mesh():
    # the slowest wave travels g(4) / 4 = 0.1836 edges a ms
    slowest = 1.08 * (1 - LOSS * 16) / 4
    with pytest.raises(ValueError, match=r"0\.1 m/s cannot be reached on edges of 1 mm") as caught:
        GIVEN.diffusivity(0.1, 1.0)
    assert f"slower than {slowest:.3g} m/s fail there" in str(caught.value)
    assert f"Refine the mesh to {0.1 / slowest:.2g} mm" in str(caught.value)
    # which is right: that mesh carries it
    assert GIVEN.velocity(GIVEN.diffusivity(0.1, 0.54), 0.54) == pytest.approx(0.1, rel=1e-4)


# strips


def test_strip_of_a_slab_lies_along_its_longest_axis():
    mesh = slab((8.0, 20.0, 3.0), 0.5)
    edge = mean_edge_length(mesh)
    strip = cut_strip(mesh, edge)
    np.testing.assert_array_equal(strip.along, [0, 1, 0])
    np.testing.assert_array_equal(strip.across, [1, 0, 0])
    low, high = strip.mesh.points.min(axis=0), strip.mesh.points.max(axis=0)
    # as long as 24 edges and as wide as 7, to whole cubes; as thick as the slab
    np.testing.assert_allclose(high - low, [7 * edge, 24 * edge, 3.0], atol=1.0)
    np.testing.assert_allclose((high + low) / 2, [4.0, 10.0, 1.5], atol=0.5)
    np.testing.assert_allclose(strip.position, strip.mesh.points[:, 1] - low[1])
    side = np.minimum(strip.mesh.points[:, 0] - low[0], high[0] - strip.mesh.points[:, 0])
    assert side[strip.inside].min() > edge
    assert np.ptp(strip.mesh.points[strip.inside, 0]) > 2 * edge


def test_strip_of_a_heart_lies_in_the_lateral_wall():
    heart = biventricle(3.2)
    edge = mean_edge_length(heart)
    strip = cut_strip(heart, edge)
    # long axis along z, right ventricle at negative x
    np.testing.assert_allclose(strip.along, [0, 0, 1], atol=0.01)
    assert abs(strip.across[1]) > 0.99
    assert np.ptp(strip.position) > 14 * edge
    points = strip.mesh.points
    assert np.all(np.abs(points[:, 1]) < 0.5 * 7 * edge + 2 * edge)
    # past the apex the strip reaches the axis, but not the septum
    assert points[points[:, 2] > -30.0, 0].min() > 10.0


def test_strip_is_one_piece():
    thin, thick = slab((20.0, 6.0, 1.0), 0.5), slab((20.0, 6.0, 2.0), 0.5)
    mesh = Mesh(
        np.concatenate([thin.points, thick.points + np.array([0, 0, 5.0])]),
        np.concatenate([thin.cells, thick.cells + len(thin.points)]),
        allow_components=True,
    )
    strip = cut_strip(mesh, mean_edge_length(mesh))
    assert strip.mesh.points[:, 2].min() == 5.0


def test_mesh_too_short_for_a_strip():
    mesh = slab((9.0, 2.0, 2.0), 0.5)
    edge = mean_edge_length(mesh)
    with pytest.raises(ValueError, match=rf"no straight stretch of {14 * edge:.0f} mm \(14 edges"):
        cut_strip(mesh, edge)


@pytest.fixture(scope="module")
def strip():
    mesh = slab((16.0, 6.0, 3.0), 0.5)
    return cut_strip(mesh, mean_edge_length(mesh))


@pytest.fixture(scope="module")
def speeds(strip):
    principal = np.array([[0.4, 0.4, 0.4], [0.4, 0.2, 0.1], [0.1, 0.4, 0.1]])
    edge = mean_edge_length(strip.mesh)
    return principal, strip_velocity(CUBIC, strip, principal, edge, dt=0.04)


def test_strip_velocity_is_that_of_the_exact_wave(speeds):
    principal, velocity = speeds
    # at h / sqrt(D) of 1 to 2 the blended mass is up to 0.7 % fast, the time step 0.5 % slow
    np.testing.assert_allclose(velocity, EXACT * np.sqrt(principal), rtol=0.01)


def test_equal_diffusivities_have_equal_velocities(speeds):
    _, velocity = speeds
    assert len(set(velocity[0])) == 1
    assert velocity[2, 0] == velocity[2, 2]


def test_strip_velocity_of_one_set(strip, speeds):
    _, velocity = speeds
    edge = mean_edge_length(strip.mesh)
    alone = strip_velocity(CUBIC, strip, np.array([0.4, 1e-4, 0.4]), edge, dt=0.04)
    assert alone.shape == (3,)
    # so small a diffusivity carries no wave across an element
    assert alone[1] == 0.0
    # it shifts that along the fibre a little, where the nodes of unaligned elements couple both
    assert alone[0] == alone[2] == pytest.approx(velocity[0, 0], rel=0.01)


# activation maps

MESH = slab((4.0, 3.0, 2.0), 0.5)
COUNT = len(MESH.cells)


def at_angle(degrees):
    """Activation by a plane wave of 0.5 m/s, so many degrees from the fibre."""
    angle = np.radians(degrees)
    return MESH.points @ [np.cos(angle), 0.6 * np.sin(angle), 0.8 * np.sin(angle)] / 0.5


@pytest.mark.parametrize(
    ("degrees", "kind"),
    [(0, "fibre"), (24, "fibre"), (26, None), (45, None), (64, None), (66, "cross"), (90, "cross")],
)
@pytest.mark.parametrize("turn", [0, 180])
def test_plane_wave_has_its_speed_and_its_kind(degrees, kind, turn):
    found = measured_velocity(MESH, fibres_from_mesh(MESH), at_angle(degrees + turn))
    if kind is None:
        assert found == {}
    else:
        assert list(found) == [kind]
        assert found[kind]["elements"] == COUNT
        for name in ("median", "lower_quartile", "upper_quartile"):
            assert found[kind][name] == pytest.approx(0.5, rel=1e-12)


def test_speed_does_not_depend_on_the_frame():
    turned = Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix()
    mesh = Mesh(MESH.points @ turned.T, MESH.cells)
    axes = np.tile(turned, (COUNT, 1, 1))
    fibres = Fibres(axes[..., 0], axes[..., 1], axes[..., 2])
    found = measured_velocity(mesh, fibres, at_angle(10))
    assert found["fibre"]["median"] == pytest.approx(0.5, rel=1e-12)


def test_quartiles_of_two_speeds():
    # 0.5 m/s in the first quarter of the slab, 1 m/s in the rest
    x = MESH.points[:, 0]
    times = np.where(x < 1.0, x / 0.5, 2.0 + (x - 1.0) / 1.0)
    found = measured_velocity(MESH, fibres_from_mesh(MESH), times)["fibre"]
    centre = MESH.points[MESH.cells].mean(axis=1)[:, 0]
    mean = np.where(centre < 1.0, 0.5, 1.0)
    expected = np.percentile(mean, [25, 50, 75])
    found = [found[name] for name in ("lower_quartile", "median", "upper_quartile")]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_elements_left_out_of_a_map():
    fibres = fibres_from_mesh(MESH)
    times = at_angle(0)
    mask = MESH.points[MESH.cells].mean(axis=1)[:, 0] < 2.0
    assert measured_velocity(MESH, fibres, times, mask)["fibre"]["elements"] == mask.sum()
    for value in (np.nan, np.inf):
        never = times.copy()
        never[0] = value
        touching = (MESH.cells == 0).any(axis=1).sum()
        found = measured_velocity(MESH, fibres, never)["fibre"]
        assert found["elements"] == COUNT - touching
        assert found["median"] == pytest.approx(0.5, rel=1e-12)
    # everything at once is no wave, and nothing activated neither
    assert measured_velocity(MESH, fibres, np.full(len(times), 3.0)) == {}
    assert measured_velocity(MESH, fibres, np.full(len(times), np.nan)) == {}


# edges


def test_mean_edge_length():
    regular = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.5
    tetrahedron = Mesh.repaired(regular, np.array([[0, 1, 2, 3]]))
    assert mean_edge_length(tetrahedron) == pytest.approx(np.sqrt(2), rel=1e-14)
    # a cube in six: 12 edges, 6 diagonals of faces, 1 of the cube; every edge counts once
    cube = slab((1.0, 1.0, 1.0), 1.0)
    assert mean_edge_length(cube) == pytest.approx((12 + 6 * 2**0.5 + 3**0.5) / 19, rel=1e-14)


# tuning

BLOCK = slab((16.0, 6.0, 3.0), 0.5)
EVERYWHERE = np.ones(len(BLOCK.cells), bool)
TISSUE = Tissue.by_region(BLOCK, fibres_from_mesh(BLOCK))
TARGET = VelocityTarget(0.6, 0.4, 0.3)
# 15 % too optimistic, so that the first guess is far too slow
WRONG = VelocityCurve(np.array([0.4, 1.0, 2.0, 3.0]), np.full(4, 1.15 * EXACT), 1.15 * EXACT)


@pytest.fixture(scope="module")
def tuned():
    half = BLOCK.points[BLOCK.cells].mean(axis=1)[:, 0] > 8.0
    targets = {"all": (EVERYWHERE, TARGET), "half": (half, VelocityTarget(0.8, 0.8, 0.8))}
    return half, tune(BLOCK, TISSUE, targets, CUBIC, dt=0.04, curve=WRONG, tolerance=0.01)


def test_tuning_meets_its_targets(tuned):
    _, (_, table) = tuned
    assert [(row["layer"], row["axis"]) for row in table] == [
        (layer, axis) for layer in ("all", "half") for axis in ("fibre", "sheet", "normal")
    ]
    targets = [row["target_m_per_s"] for row in table]
    assert targets == [0.6, 0.4, 0.3, 0.8, 0.8, 0.8]
    np.testing.assert_allclose([row["measured_m_per_s"] for row in table], targets, rtol=0.01)
    # what the exact wave needs: twice the velocity's tolerance, and the mesh's own error
    needed = (np.array(targets) / EXACT) ** 2
    found = [row["diffusivity_mm2_per_ms"] for row in table]
    np.testing.assert_allclose(found, needed, rtol=0.05)


def test_tuning_scales_the_diffusivity_and_nothing_else(tuned):
    half, (tissue, table) = tuned
    np.testing.assert_array_equal(tissue.intracellular, TISSUE.intracellular)
    np.testing.assert_array_equal(tissue.extracellular, TISSUE.extracellular)
    assert np.all(TISSUE.tuning == 1.0)  # the first tissue is left as it was
    found = np.array([row["diffusivity_mm2_per_ms"] for row in table]).reshape(2, 3)
    principal = tissue.principal_diffusivity()
    # the later layer lies on top
    np.testing.assert_allclose(principal[half], np.tile(found[1], (half.sum(), 1)), rtol=1e-12)
    np.testing.assert_allclose(principal[~half], np.tile(found[0], ((~half).sum(), 1)), rtol=1e-12)
    factor = [row["factor"] for row in table[:3]]
    np.testing.assert_allclose(factor, found[0] / TISSUE.principal_diffusivity()[0], rtol=1e-12)


def test_tuning_twice_is_tuning_once(tuned):
    half, (tissue, table) = tuned
    targets = {"all": (EVERYWHERE, TARGET), "half": (half, VelocityTarget(0.8, 0.8, 0.8))}
    again = tune(BLOCK, tissue, targets, CUBIC, dt=0.04, curve=WRONG, tolerance=0.01)
    np.testing.assert_allclose(again.tissue.tuning, tissue.tuning, rtol=1e-12)
    # the factor still compares with the conductivities, not with the tuning before
    assert again.table[0]["factor"] == pytest.approx(table[0]["factor"], rel=1e-12)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"scar": (~EVERYWHERE, TARGET)}, "target 'scar' covers no element"),
        (
            {"all": (EVERYWHERE, VelocityTarget(0.6, 0.0, 0.3))},
            "target velocity of 'all' along the sheet is 0.0 m/s",
        ),
        ({"all": (EVERYWHERE, VelocityTarget(np.nan, 0.3, 0.3))}, "along the fibre is nan m/s"),
        ({"all": (EVERYWHERE, VelocityTarget(0.6, 0.3, np.inf))}, "along the normal is inf m/s"),
        (
            {"all": (EVERYWHERE, VelocityTarget(0.6, 0.3, 0.05))},
            "0.05 m/s cannot be reached on edges of 0.63",
        ),
    ],
)
def test_targets_that_make_no_sense(targets, message):
    with pytest.raises(ValueError, match=message):
        tune(BLOCK, TISSUE, targets, CUBIC, dt=0.04, curve=WRONG)


def test_tuning_needs_a_stretch_of_tissue():
    mesh = slab((4.0, 2.0, 2.0), 0.5)
    tissue = Tissue.by_region(mesh, fibres_from_mesh(mesh))
    targets = {"all": (np.ones(len(mesh.cells), bool), TARGET)}
    with pytest.raises(ValueError, match=r"no straight stretch .*velocity: null"):
        tune(mesh, tissue, targets, CUBIC, dt=0.04, curve=WRONG)
