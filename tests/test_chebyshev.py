"""The Chebyshev solver keeps its promise, and refuses what it cannot solve."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tissues import passive, random_mesh

from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.numerics.chebyshev import chebyshev_solver, fewest_iterations, jacobi_bounds
from cardiotwin.propagation.scheme import ImplicitDiffusion

MESHES = {
    "random": lambda: random_mesh(40, 1),
    "slab": lambda: slab((3.0, 2.0, 1.0), 0.5),
    "few nodes": lambda: slab((2.0, 1.0, 1.0), 1.0),  # the dense branch of the spectrum
}


@pytest.fixture(scope="module", params=sorted(MESHES))
def system(request):
    mesh = MESHES[request.param]()
    return passive(mesh, np.zeros(len(mesh.points)), (0.3, 0.1, 0.05)).discretise()


def off_diagonal(system, dt, share=2 / 3):
    return share * system.mass_edges - 0.5 * dt * np.asarray(system.diffusion_edges)


def dense(system, off):
    first, second = system.pattern.edges.T
    matrix = np.zeros((system.nodes, system.nodes))
    matrix[first, second] = matrix[second, first] = off
    return matrix + np.diag(system.mass - matrix.sum(axis=1))


@eqx.filter_jit
def apply(solver, b):
    return solver(b)


def scaled(matrix):
    root = np.sqrt(np.diag(matrix))
    return matrix / root[:, None] / root[None]


@pytest.mark.parametrize("dt", [0.02, 1.0, 20.0])
def test_spectrum_is_enclosed_and_not_by_much(system, dt):
    off = off_diagonal(system, dt)
    low, high = jacobi_bounds(system.pattern, system.mass, off)
    values = np.linalg.eigvalsh(scaled(dense(system, off)))
    assert low <= values[0]
    assert values[-1] <= high
    # the margin is 5 % and the Ritz values are good to 1 %
    assert low >= 0.93 * values[0]
    assert high <= 1.07 * values[-1]
    solver = chebyshev_solver(system.pattern, system.mass, off, tolerance=1e-3, dtype=jnp.float64)
    np.testing.assert_allclose(1 / solver.inverse_diagonal, np.diag(dense(system, off)), rtol=1e-12)


@pytest.mark.parametrize(("dt", "tolerance"), [(5.0, 0.3), (5.0, 1e-3), (5.0, 1e-10), (0.05, 1e-3)])
def test_error_is_below_the_promised_contraction(system, dt, tolerance):
    off = off_diagonal(system, dt)
    solver = chebyshev_solver(
        system.pattern, system.mass, off, tolerance=tolerance, dtype=jnp.float64
    )
    assert solver.contraction <= tolerance
    matrix = dense(system, off)
    root = np.sqrt(np.diag(matrix))
    random = np.random.default_rng(0)
    # the error of every mode of the scaled matrix shrinks by the contraction at least, so its
    # 2-norm does; 1e-13 allows for rounding at the tightest tolerance
    for _ in range(3):
        x = random.normal(size=system.nodes)
        found = np.asarray(apply(solver, jnp.asarray(matrix @ x)))
        error = np.linalg.norm(root * (found - x))
        assert error <= (solver.contraction + 1e-13) * np.linalg.norm(root * x)


def test_error_is_not_far_below_the_contraction():
    # an end of the spectrum is damped least: the bound is sharp but for the margin, or the solver
    # would do more iterations than it needs
    mesh = slab((3.0, 2.0, 1.0), 0.5)
    system = passive(mesh, np.zeros(len(mesh.points)), (0.3, 0.1, 0.05)).discretise()
    off = off_diagonal(system, 5.0)
    solver = chebyshev_solver(system.pattern, system.mass, off, tolerance=1e-2, dtype=jnp.float64)
    matrix = dense(system, off)
    root = np.sqrt(np.diag(matrix))
    _, vectors = np.linalg.eigh(scaled(matrix))
    x = vectors[:, 0] / root
    error = np.linalg.norm(root * (np.asarray(apply(solver, jnp.asarray(matrix @ x))) - x))
    assert error > 0.1 * solver.contraction


def test_solution_is_a_symmetric_linear_map_of_the_right_side():
    mesh = slab((2.0, 1.0, 1.0), 1.0)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    solver = chebyshev_solver(
        system.pattern, system.mass, off_diagonal(system, 1.0), tolerance=1e-2, dtype=jnp.float64
    )
    random = np.random.default_rng(1)
    b, c = (jnp.asarray(random.normal(size=system.nodes)) for _ in range(2))
    of_b, of_c = apply(solver, b), apply(solver, c)
    rounding = 1e-12 * float(abs(of_b).max())
    np.testing.assert_allclose(apply(solver, 2.0 * b - c), 2.0 * of_b - of_c, atol=rounding)
    assert float(c @ of_b) == pytest.approx(float(b @ of_c), rel=1e-10)
    pulled = jax.jit(lambda b, c: jax.vjp(solver, b)[1](c)[0])(b, c)
    np.testing.assert_allclose(pulled, of_c, atol=rounding)


def test_number_of_iterations_is_the_smallest_that_will_do():
    # T_n at the outer point, without the formula in the source: cosh(n arccosh(x))
    for condition in (1.2, 3.0, 50.0, 1e4):
        outer = (condition + 1) / (condition - 1)
        for tolerance in (0.3, 1e-3, 1e-6):
            count, contraction = fewest_iterations(1.0, condition, tolerance)
            assert contraction == pytest.approx(1 / np.cosh(count * np.arccosh(outer)), rel=1e-6)
            assert contraction <= tolerance
            assert count == 1 or 1 / np.cosh((count - 1) * np.arccosh(outer)) > tolerance


def test_iterations_grow_with_time_step_and_tolerance():
    mesh = biventricle(3.2)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()

    def iterations(dt, tolerance):
        solver = chebyshev_solver(
            system.pattern,
            system.mass,
            off_diagonal(system, dt),
            tolerance=tolerance,
            dtype=jnp.float32,
        )
        assert solver.iterations == len(solver.gain) + 1
        return solver.iterations

    assert iterations(0.05, 1e-3) < iterations(0.05, 1e-6)
    assert iterations(0.05, 1e-3) < iterations(500.0, 1e-3)


def test_one_iteration_is_enough_for_a_loose_tolerance():
    mesh = slab((3.0, 2.0, 1.0), 0.5)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    off = np.zeros(len(system.pattern.edges))
    solver = chebyshev_solver(system.pattern, system.mass, off, tolerance=0.1, dtype=jnp.float64)
    assert solver.iterations == 1
    # the matrix is the lumped mass, the centre of the widened spectrum 1
    np.testing.assert_allclose(apply(solver, jnp.asarray(system.mass)), 1.0, rtol=1e-12)


def test_residual_of_the_parabolic_step_is_of_the_order_of_the_tolerance():
    mesh = slab((2.0, 1.0, 1.0), 1.0)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    v = jnp.asarray(np.random.default_rng(0).normal(size=system.nodes))
    residual_of = eqx.filter_jit(lambda step, v: step.check(v)["residual"])
    before = np.inf
    for tolerance in (1e-1, 1e-3, 1e-5):
        step = ImplicitDiffusion(tolerance=tolerance).setup(system, 1.0, jnp.float64)
        residual = float(residual_of(step, v))
        # the condition number of the unscaled matrix, under 100 here, stands between the two
        assert 0 < residual < 100 * tolerance
        assert residual < before
        before = residual
    assert float(residual_of(step, jnp.full(system.nodes, -85.0))) == 0.0


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-3, float("nan")])
def test_tolerance_out_of_range(tolerance):
    mesh = slab((1.0, 1.0, 1.0), 1.0)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    with pytest.raises(ValueError, match=r"tolerance of the parabolic solve .* between 0 and 1"):
        chebyshev_solver(
            system.pattern,
            system.mass,
            off_diagonal(system, 1.0),
            tolerance=tolerance,
            dtype=jnp.float32,
        )


def test_matrix_that_is_not_positive_definite(system):
    options = {"tolerance": 1e-3, "dtype": jnp.float32}
    with pytest.raises(ValueError, match="diagonal entries that are not positive"):
        chebyshev_solver(
            system.pattern, system.mass, 1e3 * np.ones(len(system.pattern.edges)), **options
        )
    # positive diagonal, yet negative along the difference of two neighbours: a_ij > sqrt(a_ii a_jj)
    off = np.zeros(len(system.pattern.edges))
    i, j = system.pattern.edges[0]
    off[0] = 0.9 * min(system.mass[i], system.mass[j])
    with pytest.raises(ValueError, match=r"not positive definite \(smallest scaled eigenvalue"):
        chebyshev_solver(system.pattern, system.mass, off, **options)


def test_hopeless_condition():
    with pytest.raises(ValueError, match=r"more than 1000 iterations .* Shorten dt"):
        fewest_iterations(1e-9, 1.0, 1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theta": 0.4}, "theta is 0.4"),
        ({"theta": 1.1}, "theta is 1.1"),
        ({"consistent_mass": -0.1}, "consistent_mass is -0.1"),
        ({"consistent_mass": 1.5}, "consistent_mass is 1.5"),
    ],
)
def test_options_of_the_implicit_step(options, message):
    with pytest.raises(ValueError, match=message):
        ImplicitDiffusion(**options)
