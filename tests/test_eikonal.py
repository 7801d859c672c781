"""Activation times of the eikonal equation: exact solutions, derivatives, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.fibres import ldrb, uniform_fibres
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.propagation.eikonal import EikonalMesh, activation_times, around_sites

FIBRE, SHEET = (0.6, 0.8, 0.0), (-0.8, 0.6, 0.0)
VELOCITY = np.array([0.6, 0.35, 0.2])  # m/s
SIDES = (10.0, 8.0, 6.0)  # mm


def straight(points, origin, velocity=VELOCITY):
    """Travel times from `origin` in homogeneous tissue, ms: exact in a convex block."""
    axes = np.array([FIBRE, SHEET, (0.0, 0.0, 1.0)])
    return np.linalg.norm((points - origin) @ axes.T / velocity, axis=1)


@pytest.fixture(scope="module")
def heart():
    mesh = biventricle(3.2)
    return EikonalMesh.of(mesh), ldrb(mesh)


@pytest.fixture(scope="module")
def block():
    mesh = slab(SIDES, 1.0, pattern="bcc")
    return EikonalMesh.of(mesh), uniform_fibres(mesh.elements, FIBRE, SHEET), mesh.points


def test_point_source_is_exact_to_a_percent_at_half_a_millimetre(tabulate):
    errors = []
    origin = np.array([3.0, 3.0, 2.0])
    for edge in (1.0, 0.5):
        mesh = slab(SIDES, edge, pattern="bcc")  # the lattice that hearts are made of
        metric = EikonalMesh.of(mesh).metric(uniform_fibres(mesh.elements, FIBRE, SHEET), VELOCITY)
        exact = straight(mesh.points, origin)
        # the ball keeps its size: a point's own neighbourhood has no order of convergence
        initial = np.where(exact <= 7.5, exact, np.inf)
        found = activation_times(EikonalMesh.of(mesh), metric, initial)
        assert found.converged
        outside = ~np.isfinite(initial)
        error = np.abs(np.asarray(found.times) - exact)[outside]
        errors.append(np.sqrt(np.mean(error**2)))
        worst = np.max(error / exact[outside])
        tabulate("Eikonal: point source", edge=edge, rms_ms=errors[-1], worst=float(worst))
    assert worst < 0.01
    assert np.log2(errors[0] / errors[1]) > 1.5


def test_plane_front_is_exact(block):
    """A plane front is linear in every element: nothing is left to the size of the mesh."""
    mesh, fibres, points = block
    initial = np.where(points[:, 0] == 0.0, 0.0, np.inf)
    found = activation_times(mesh, mesh.metric(fibres, (0.5, 0.5, 0.5)), initial)
    np.testing.assert_allclose(found.times, points[:, 0] / 0.5, atol=1e-9)


def test_two_fronts_meet(block):
    mesh, fibres, _ = block
    metric = mesh.metric(fibres, VELOCITY)
    first, second = np.full((2, mesh.nodes), np.inf)
    first[0], second[-1] = 0.0, 4.0
    alone = [
        activation_times(mesh, metric, initial, curved=False).times for initial in (first, second)
    ]
    both = activation_times(mesh, metric, np.minimum(first, second), curved=False).times
    assert np.all(both <= np.minimum(*alone) + 1e-9)
    # elements in which the fronts meet mix them; that is at most an edge's worth of time
    assert np.max(np.minimum(*alone) - both) < 1.0 / VELOCITY.min()


def test_faster_tissue_is_nowhere_later(heart):
    """Of the plane fronts: the correction of curved ones is not monotone to the last bit."""
    mesh, fibres = heart
    initial = np.full(mesh.nodes, np.inf)
    initial[7] = 0.0
    slow, fast = (
        activation_times(mesh, mesh.metric(fibres, v), initial, curved=False).times
        for v in ((0.6, 0.3, 0.3), (0.6, 0.3, 0.4))
    )
    assert np.all(fast <= slow + 1e-3)
    assert np.max(slow - fast) > 10.0


def test_voxels_are_their_tetrahedra():
    voxels = Voxels(np.ones((6, 5, 4), bool), spacing=1.0)
    cut = voxels.tetrahedra()
    frames = [uniform_fibres(len(m.cells), FIBRE, SHEET) for m in (voxels, cut)]
    initial = np.full(len(voxels.points), np.inf)
    initial[0] = 0.0
    times = []
    for mesh, fibres in zip((voxels, cut), frames, strict=True):
        prepared = EikonalMesh.of(mesh)
        times.append(activation_times(prepared, prepared.metric(fibres, VELOCITY), initial).times)
    np.testing.assert_array_equal(*times)


def test_float32_agrees_with_float64(heart):
    mesh, fibres = heart
    metric = mesh.metric(fibres, (0.6, 0.3, 0.2))
    sites, onsets = mesh.points[[5, 5000]], np.array([0.0, 20.0])
    initial = around_sites(mesh, metric, sites, onsets, radius=8.0)
    double = activation_times(mesh, metric, initial).times
    single = activation_times(mesh, jnp.asarray(metric, jnp.float32), initial).times
    assert single.dtype == jnp.float32
    error = np.abs(single - double)
    # of two ways that take as long, each precision may choose its own, and bend it as it bends
    assert np.quantile(error, 0.99) < 0.05
    assert error.max() < 1.0


def test_batch_of_parameters_is_each_of_them(block):
    mesh, fibres, _ = block
    initial = np.full(mesh.nodes, np.inf)
    initial[3] = 0.0

    def arrive(velocity):
        return activation_times(mesh, mesh.metric(fibres, velocity), initial).times

    velocities = jnp.array([[0.6, 0.3, 0.3], [0.9, 0.4, 0.1], [0.3, 0.3, 0.3]])
    together = jax.vmap(arrive)(velocities)
    for one, velocity in zip(together, velocities, strict=True):
        np.testing.assert_allclose(one, arrive(velocity), rtol=1e-12, atol=1e-3)


# --- derivatives ------------------------------------------------------------------------------


def settled(mesh, metric, initial):
    return activation_times(mesh, metric, initial, tolerance=1e-11).times


def test_times_scale_with_slowness(heart):
    """From zero, times are of degree -1 in the velocities: Euler's identity, at every node."""
    mesh, fibres = heart
    initial = np.full(mesh.nodes, np.inf)
    initial[7] = 0.0
    velocity = jnp.array([0.6, 0.3, 0.2])
    times, change = jax.jvp(
        lambda v: settled(mesh, mesh.metric(fibres, v), initial), (velocity,), (velocity,)
    )
    np.testing.assert_allclose(change, -times, rtol=1e-8, atol=1e-8)


def test_gradient_agrees_with_central_differences(heart):
    mesh, fibres = heart
    weights = np.random.default_rng(3).normal(size=mesh.nodes) / mesh.nodes
    nodes = np.array([7, 3000, 9000])

    def loss(velocity, onset):
        initial = jnp.full(mesh.nodes, jnp.inf).at[nodes].set(onset)
        times = settled(mesh, mesh.metric(fibres, velocity), initial)
        return jnp.sum(weights * times)

    at = (jnp.array([0.61, 0.33, 0.27]), jnp.array([0.0, 11.0, 23.0]))
    along = (jnp.array([0.3, -0.4, 0.5]), jnp.array([0.7, -0.5, 0.4]))
    slopes = jax.grad(loss, (0, 1))(*at)
    expected = sum(jnp.vdot(slope, way) for slope, way in zip(slopes, along, strict=True))
    best = np.inf
    for step in (1e-4, 1e-5, 1e-6):  # where fronts meet the winner changes: a kink, not an error
        ends = [loss(*[x + s * w for x, w in zip(at, along, strict=True)]) for s in (step, -step)]
        best = min(best, abs((ends[0] - ends[1]) / (2 * step) / expected - 1.0))
    assert best < 1e-4


def test_gradient_in_single_precision(heart):
    mesh, fibres = heart
    initial = np.full(mesh.nodes, np.inf)
    initial[[7, 3000]] = 0.0

    def mean(velocity, dtype):
        metric = mesh.metric(fibres, velocity).astype(dtype)
        return activation_times(mesh, metric, initial).times.mean()

    velocity = jnp.array([0.6, 0.3, 0.2])
    single, double = (jax.grad(mean)(velocity, dtype) for dtype in (jnp.float32, jnp.float64))
    np.testing.assert_allclose(single, double, rtol=1e-2)


def test_backwards_is_the_transpose_of_forwards(heart):
    mesh, fibres = heart
    rng = np.random.default_rng(5)
    initial = np.full(mesh.nodes, np.inf)
    initial[[7, 3000]] = 0.0
    metric = mesh.metric(fibres, (0.6, 0.3, 0.2))
    change = metric * rng.normal(size=metric.shape)
    _, forwards = jax.jvp(lambda t: settled(mesh, t, initial), (metric,), (change,))
    _, pull = jax.vjp(lambda t: settled(mesh, t, initial), metric)
    seed = rng.normal(size=mesh.nodes)
    backwards = jnp.vdot(pull(jnp.asarray(seed))[0], change)
    assert abs(jnp.vdot(forwards, seed) / backwards - 1.0) < 1e-10


def test_sites_move_and_wait(block):
    """In homogeneous tissue the derivative in a site's position is the front's slowness there."""
    mesh, fibres, points = block
    origin = jnp.array([4.2, 3.7, 2.6])

    def arrive(site, onset):
        initial = around_sites(
            mesh, mesh.metric(fibres, VELOCITY), site[None], onset[None], radius=2.0
        )
        return settled(mesh, mesh.metric(fibres, VELOCITY), initial)

    times = arrive(origin, jnp.array(3.0))
    exact = straight(points, np.asarray(origin)) + 3.0
    error = np.abs(times - exact)
    assert np.median(error) < 0.005 * exact.max()
    assert error.max() < 0.03 * exact.max()
    position, onset = jax.jacfwd(arrive, (0, 1))(origin, jnp.array(3.0))
    np.testing.assert_allclose(onset, 1.0, atol=1e-9)
    axes = np.array([FIBRE, SHEET, (0.0, 0.0, 1.0)])
    slowness = ((np.asarray(origin) - points) @ axes.T / VELOCITY**2) @ axes
    slowness /= straight(points, np.asarray(origin))[:, None]
    error = np.linalg.norm(position - slowness, axis=1)
    assert np.median(error) < 0.1 * np.linalg.norm(slowness, axis=1).mean()


# --- what is refused --------------------------------------------------------------------------


def test_no_beginning_is_refused(block):
    mesh, fibres, _ = block
    metric = mesh.metric(fibres, VELOCITY)
    with pytest.raises(ValueError, match="no node fires by itself"):
        activation_times(mesh, metric, np.full(mesh.nodes, np.inf))
    with pytest.raises(ValueError, match=r"initial has shape \(3,\), expected \(\d+,\)"):
        activation_times(mesh, metric, np.zeros(3))
    with pytest.raises(ValueError, match="initial has 1 times that are NaN"):
        activation_times(mesh, metric, np.r_[np.nan, np.zeros(mesh.nodes - 1)])


@pytest.mark.parametrize("velocity", [(0.6, 0.0, 0.3), (0.6, -0.1, 0.3), (0.6, np.nan, 0.3)])
def test_velocities_that_cannot_be_are_refused(block, velocity):
    mesh, fibres, _ = block
    with pytest.raises(ValueError, match="velocities must be positive"):
        mesh.metric(fibres, velocity)


def test_fibres_of_another_mesh_are_refused(block):
    mesh, _, _ = block
    with pytest.raises(ValueError, match="fibres of 5 elements"):
        mesh.metric(uniform_fibres(5, FIBRE, SHEET), VELOCITY)


def test_sites_off_the_mesh_are_refused(block):
    mesh, fibres, _ = block
    with pytest.raises(ValueError, match=r"site 0 at .* reaches no node"):
        around_sites(
            mesh, mesh.metric(fibres, VELOCITY), np.array([[50.0, 0, 0]]), np.zeros(1), radius=2.0
        )
