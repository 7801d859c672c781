"""Elliptic solves: against dense algebra and exact derivatives, and what they refuse."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.numerics.chebyshev import sparse_matrix
from cardiotwin.numerics.conjugate import conjugate_gradients, dot
from cardiotwin.numerics.elliptic import solve_laplace
from cardiotwin.numerics.fem import edge_stiffness, p1_geometry
from cardiotwin.numerics.linear import elliptic_solver
from cardiotwin.numerics.multigrid import COARSEST, sliced_rows
from cardiotwin.numerics.rows import edge_sums, row_pattern, row_sums

NODES = 729
RANDOM = np.random.default_rng(0)
TIGHT = {"tolerance": 1e-13}


def stiffness_edges(mesh, tensor):
    """The pattern of a mesh and the off-diagonal entries of its stiffness matrix."""
    pattern = row_pattern(mesh.cells, len(mesh.points))
    tensor = np.broadcast_to(tensor, (len(mesh.cells), 3, 3))
    geometry = p1_geometry(mesh.points, mesh.cells)
    return pattern, -edge_sums(pattern, edge_stiffness(tensor, *geometry))


def twisted(mesh):
    """Fibres that turn by 120 degrees over 1 mm, conducting nine times as well as across them."""
    angle = np.deg2rad(120.0) * mesh.points[mesh.cells].mean(axis=1)[:, 2]
    fibre = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    return 0.019 * np.eye(3) + 0.151 * fibre[:, :, None] * fibre[:, None, :]


def ball(mesh):
    """A ball in the unit cube that conducts 20 times as well as the rest."""
    centres = mesh.points[mesh.cells].mean(axis=1)
    inside = np.linalg.norm(centres - [0.4, 0.5, 0.5], axis=1) < 0.25
    return np.where(inside, 20.0, 1.0)[:, None, None] * np.eye(3)


@pytest.fixture(scope="module")
def cube():
    mesh = slab((1.0, 1.0, 1.0), 0.125)
    assert len(mesh.points) == NODES > COARSEST
    pattern, off = stiffness_edges(mesh, twisted(mesh))
    return mesh, pattern, off


PROBLEMS = ("given values", "mass", "singular")


def setting(cube, name):
    """Arguments of `elliptic_solver`, the dense matrix, and which nodes are free."""
    mesh, pattern, off = cube
    arguments, mass, free = {}, np.zeros(NODES), np.ones(NODES, bool)
    if name == "given values":
        fixed = pattern.rank[np.unique(np.concatenate([mesh.surfaces["x0"], mesh.surfaces["y1"]]))]
        arguments, free[fixed] = {"fixed": fixed}, False
    elif name == "mass":
        mass = RANDOM.uniform(0.0, 1e-3, NODES)
        arguments = {"mass": mass}
    dense = sparse_matrix(pattern, off, mass - row_sums(pattern, off)).toarray()
    return arguments, dense, free


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request, cube):
    arguments, dense, free = setting(cube, request.param)
    return elliptic_solver(cube[1], cube[2], **arguments), dense, free


def right_sides(problems, solver=None):
    b = np.random.default_rng(1).normal(size=(NODES, problems))
    return b - b.mean(axis=0) if solver is None or solver.singular else b


# -- Solutions -------------------------------------------------------------------------------------


def test_solution_is_that_of_dense_algebra(problem):
    solver, dense, free = problem
    b = right_sides(3, solver)
    values = np.random.default_rng(2).normal(size=(solver.given, 3))
    expected = np.zeros_like(b)
    expected[solver.slot != len(values)] = values[solver.slot[solver.slot != len(values)]]
    rest = (b - dense @ expected)[free]
    block = dense[np.ix_(free, free)]
    expected[free] = (np.linalg.pinv(block) if solver.singular else np.linalg.inv(block)) @ rest
    found = solver.solve(b, values=values, **TIGHT)
    assert found.x.shape == b.shape
    assert found.residual.shape == found.iterations.shape == found.converged.shape == (3,)
    np.testing.assert_allclose(found.x, expected, atol=1e-10 * np.abs(expected).max())
    if solver.singular:
        np.testing.assert_allclose(found.x.mean(axis=0), 0.0, atol=1e-12 * np.abs(expected).max())


def test_residual_is_the_true_one(problem):
    solver, dense, free = problem
    b = right_sides(3, solver)
    found = solver.solve(b, tolerance=1e-9)
    rest = np.linalg.norm((b - dense @ found.x)[free], axis=0) / np.linalg.norm(b[free], axis=0)
    assert (rest < 1e-9).all()
    np.testing.assert_allclose(found.residual, rest, rtol=1e-4)


def test_cycle_is_symmetric_positive_definite_and_close_to_the_inverse(problem):
    solver, dense, free = problem
    cycle = np.asarray(eqx.filter_jit(solver.cycle)(jnp.eye(NODES, dtype=jnp.float32)), np.float64)
    assert (cycle[np.ix_(~free, free)] == 0.0).all()
    cycle = cycle[np.ix_(free, free)]
    assert np.abs(cycle - cycle.T).max() < 1e-5 * np.abs(cycle).max()
    assert np.linalg.eigvalsh((cycle + cycle.T) / 2)[0] > 0.0
    # eigenvalues of the cycle times A: at most 1, as of every symmetric V-cycle whose smoother
    # converges, up to the rounding of float32; condition 20 would be 40 iterations to 1e-8
    values, vectors = np.linalg.eigh(dense[np.ix_(free, free)])
    values, vectors = values[solver.singular :], vectors[:, solver.singular :]
    half = vectors * np.sqrt(values)
    both = np.linalg.eigvalsh(half.T @ cycle @ half)
    assert both[-1] < 1.0 + 1e-4
    assert both[-1] / both[0] < 20.0


def test_each_column_stops_by_itself(cube):
    solver = elliptic_solver(cube[1], cube[2], mass=np.full(NODES, 1e-4))
    b = right_sides(3)
    b[:, 1] = 0.0
    b[:, 2] = 1e-35  # a smooth solution, which needs fewer
    found = solver.solve(b)
    assert found.converged.all()
    assert found.iterations[1] == 0
    assert (found.x[:, 1] == 0.0).all()
    assert found.residual[1] == 0.0
    for k in (0, 2):
        alone = solver.solve(b[:, k])
        assert alone.x.shape == (NODES,)
        assert alone.residual.shape == alone.iterations.shape == alone.converged.shape == ()
        assert alone.iterations == found.iterations[k]
        np.testing.assert_allclose(found.x[:, k], alone.x, atol=1e-9 * float(abs(alone.x).max()))
    assert found.iterations[2] < found.iterations[0]  # or nothing had to wait


def test_small_matrices_are_solved_at_once():
    mesh = slab((1.0, 1.0, 1.0), 0.25)
    pattern, off = stiffness_edges(mesh, twisted(mesh))
    assert pattern.nodes < COARSEST
    fixed = pattern.rank[np.unique(mesh.surfaces["x0"])]
    for given in ((), fixed):
        solver = elliptic_solver(pattern, off, fixed=given)
        b = np.random.default_rng(1).normal(size=pattern.nodes)
        # the cycle is exact to the rounding of float32
        assert solver.solve(b - b.mean()).iterations <= 3


def test_transfer_resistance_is_reciprocal(cube):
    """Current in at one place and out at a reference, potential at another: the same exchanged."""
    solver = elliptic_solver(cube[1], cube[2])
    b = np.zeros((NODES, 3))
    b[700] = -1.0
    b[[10, 200, 500], range(3)] = 1.0
    resistance = b.T @ np.asarray(solver.solve(b, tolerance=1e-12).x)
    np.testing.assert_allclose(resistance, resistance.T, rtol=1e-10)
    grounded = elliptic_solver(cube[1], cube[2], fixed=[700])
    other = b.T @ np.asarray(grounded.solve(b, tolerance=1e-12).x)
    np.testing.assert_allclose(resistance, other, rtol=1e-10)


def test_agrees_with_the_solver_of_the_set_up(cube):
    mesh, pattern, off = cube
    ends = [np.unique(mesh.surfaces[name]) for name in ("x0", "x1")]
    nodes = np.setdiff1d(np.concatenate(ends), [])
    values = (mesh.points[nodes, 0] > 0.5).astype(float)
    solver = elliptic_solver(pattern, off, fixed=pattern.rank[nodes])
    found = np.asarray(solver.solve(np.zeros(NODES), values=values, tolerance=1e-12).x)
    matrix = sparse_matrix(pattern, off, -row_sums(pattern, off))
    expected = solve_laplace(matrix, pattern.rank[nodes], values, tolerance=1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(("tensor", "most", "growth"), [(ball, 20, 3), (twisted, 40, 10)])
def test_iterations_hardly_grow_with_the_mesh(tensor, most, growth, tabulate):
    """Acceptance test 10 for a ball that conducts 20 times as well as the rest: at most 20.

    Fibres that conduct nine times as well as what lies across them take more.
    """
    counts = []
    for cubes in (16, 32):
        mesh = slab((1.0, 1.0, 1.0), 1.0 / cubes)
        pattern, off = stiffness_edges(mesh, tensor(mesh))
        b = np.zeros(pattern.nodes)
        b[pattern.rank[[0, -1]]] = 1.0, -1.0
        counts.append(int(elliptic_solver(pattern, off).solve(b).iterations))
        title = "Iterations of multigrid CG to 1e-8"
        tabulate(title, case=tensor.__name__, nodes=pattern.nodes, iterations=counts[-1])
    assert counts[-1] <= most
    assert counts[-1] - counts[0] <= growth


# -- Derivatives -----------------------------------------------------------------------------------


class Differentiable(NamedTuple):
    """A solution as a function of what it depends on, a point, and a direction.

    One program each for its two derivatives, since every program takes seconds to compile.
    """

    solution: Callable
    point: dict
    direction: dict
    forwards: Callable  # (point, tangent) -> tangent of the solution
    backwards: Callable  # (point, weight) -> gradient of weight . solution


@pytest.fixture(scope="module")
def differentiable(cube):
    made = {}
    for name in PROBLEMS:
        solver = elliptic_solver(cube[1], cube[2], **setting(cube, name)[0])
        random = np.random.default_rng(3)
        point = {"right": right_sides(3), "off_diagonal": cube[2]}
        if solver.given:
            point["values"] = random.normal(size=(solver.given, 3))
        elif not solver.singular:
            point["mass"] = np.asarray(solver.matrix.mass)
        direction = {
            k: random.normal(size=v.shape) * (np.abs(v) if k in ("off_diagonal", "mass") else 1.0)
            for k, v in point.items()
        }
        direction["right"] -= direction["right"].mean(axis=0)

        def solution(theta, solver=solver):
            theta = dict(theta)
            return solver.solve(theta.pop("right"), **theta, **TIGHT).x

        made[name] = Differentiable(
            solution,
            *jax.tree.map(jnp.asarray, (point, direction)),
            jax.jit(lambda p, d, f=solution: jax.jvp(f, (p,), (d,))[1]),
            jax.jit(lambda p, w, f=solution: jax.vjp(f, p)[1](w)[0]),
        )
    return made


@pytest.mark.parametrize("name", PROBLEMS)
def test_derivative_is_that_of_central_differences(differentiable, name):
    solution, point, direction, forwards, _ = differentiable[name]
    for key, along in direction.items():
        along = {k: along if k == key else jnp.zeros_like(v) for k, v in direction.items()}
        slope = forwards(point, along)
        step = 1e-4 if key in ("off_diagonal", "mass") else 1.0
        moved = [
            solution(jax.tree.map(lambda p, d, h=h: p + h * d, point, along)) for h in (step, -step)
        ]
        difference = (moved[0] - moved[1]) / (2 * step)
        error = float(jnp.linalg.norm(difference - slope) / jnp.linalg.norm(slope))
        assert error < 1e-5, key


@pytest.mark.parametrize("name", PROBLEMS)
def test_forward_and_reverse_mode_are_adjoint(differentiable, name):
    _, point, direction, forwards, backwards = differentiable[name]
    weight = jnp.asarray(np.random.default_rng(4).normal(size=point["right"].shape))
    forward, back = forwards(point, direction), backwards(point, weight)
    one = float(jnp.vdot(weight, forward))
    other = sum(float(jnp.vdot(back[k], direction[k])) for k in direction)
    scale = float(jnp.linalg.norm(weight) * jnp.linalg.norm(forward))
    assert abs(one - other) < 1e-10 * scale
    assert abs(one) > 1e-4 * scale  # or the comparison would say nothing


def test_second_derivative(differentiable):
    """In the scale of the conductivity: x = x1 / s, so x'' = 2 x1 / s^3."""
    problem = differentiable["singular"]
    solution, point = problem.solution, problem.point

    def scaled(s):
        return solution(point | {"off_diagonal": s * point["off_diagonal"]})

    def slope(s):
        return jax.jvp(scaled, (s,), (one,))[1]

    one = jnp.ones(())
    second = jax.jit(lambda s: jax.jvp(slope, (s,), (one,))[1])(one)
    x = scaled(one)
    np.testing.assert_allclose(second, 2 * x, atol=1e-9 * float(abs(second).max()))
    summed = jax.jit(jax.grad(jax.grad(lambda s: (scaled(s) ** 2).sum())))(one)
    np.testing.assert_allclose(summed, 6 * (x**2).sum(), rtol=1e-9)


def test_conductivity_of_a_region_has_its_derivative(cube):
    """Through assembly: the dissipated power of a given current falls as the conductivity rises."""
    mesh, pattern, off = cube
    solver = elliptic_solver(pattern, off)
    right = np.zeros(NODES)
    right[[0, 700]] = 1.0, -1.0
    tensor, half = twisted(mesh), mesh.points[mesh.cells].mean(axis=1)[:, 0] < 0.5

    def power(sigma):
        factor = jnp.where(half, sigma[0], sigma[1])[:, None, None]
        geometry = p1_geometry(mesh.points, mesh.cells)
        edges = -edge_sums(pattern, edge_stiffness(factor * tensor, *geometry))
        return jnp.vdot(right, solver.solve(right, off_diagonal=edges, **TIGHT).x)

    both = jax.jit(jax.value_and_grad(power))
    sigma = jnp.array([1.0, 1.3])
    value, slope = both(sigma)
    assert (slope < 0).all()
    # homogeneous of degree -1
    np.testing.assert_allclose(jnp.vdot(slope, sigma), -value, rtol=1e-9)
    for k in range(2):
        h = jnp.zeros(2).at[k].set(1e-4)
        difference = (both(sigma + h)[0] - both(sigma - h)[0]) / 2e-4
        np.testing.assert_allclose(slope[k], difference, rtol=1e-6)


# -- Under transformations -------------------------------------------------------------------------


def test_batches_of_matrices_and_right_sides(cube):
    _, pattern, off = cube
    solver = elliptic_solver(pattern, off)
    scales = jnp.array([0.5, 1.0, 3.0])
    b = jnp.asarray(right_sides(3)).T

    def alone(scale, right):
        return solver.solve(right, off_diagonal=scale * off, **TIGHT)

    def fifth(scale, right):
        found = alone(scale, right)
        return found.x[5], found

    both = jax.jit(jax.vmap(jax.value_and_grad(fifth, has_aux=True)))
    (_, together), slopes = both(scales, b)
    for k, found in enumerate(map(alone, scales, b)):
        np.testing.assert_allclose(together.x[k], found.x, atol=1e-10 * float(abs(found.x).max()))
        assert together.iterations[k] == found.iterations
    np.testing.assert_allclose(slopes, -together.x[:, 5] / scales, rtol=1e-9)


def test_a_fixed_number_of_steps_gives_the_same_solution(cube):
    solver, b = elliptic_solver(cube[1], cube[2]), right_sides(3)
    usual, found = solver.solve(b), solver.solve(b, steps=40)
    assert found.converged.all()
    np.testing.assert_allclose(found.x, usual.x, atol=1e-7 * float(abs(usual.x).max()))
    assert not solver.solve(b, steps=2, throw=False).converged.any()
    with pytest.raises(RuntimeError, match="did not converge"):
        solver.solve(b, steps=2)
    # loops with a known number of trips are scans; a while asks whether to go on
    traced = [
        str(jax.make_jaxpr(lambda b, n=n: solver.solve(b, steps=n).x)(jnp.asarray(b)))
        for n in (40, None)
    ]
    assert ["while[" in text for text in traced] == [False, True]


def test_solving_scatters_nothing(cube):
    solver = elliptic_solver(cube[1], cube[2], fixed=[3])
    program = jax.jit(lambda b: solver.solve(b).x).lower(jnp.asarray(right_sides(3))).as_text()
    assert "stablehlo.gather" in program
    assert "stablehlo.scatter" not in program


def test_other_entries_take_few_more_iterations(cube):
    """Conductivities up to four times those that the cycle was built for."""
    mesh, pattern, off = cube
    solver, b = elliptic_solver(pattern, off), right_sides(3)
    factor = np.random.default_rng(5).uniform(1.0, 4.0, len(mesh.cells))[:, None, None]
    _, other = stiffness_edges(mesh, factor * twisted(mesh))
    few, more = solver.solve(b), solver.solve(b, off_diagonal=other)
    assert (few.iterations < more.iterations).all()
    assert (more.iterations <= 2 * few.iterations).all()
    dense = sparse_matrix(pattern, other, -row_sums(pattern, other)).toarray()
    rest = np.linalg.norm(b - dense @ more.x, axis=0)
    assert (rest < 1e-8 * np.linalg.norm(b, axis=0)).all()


# -- Precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [True, False])
def test_single_precision(cube, wide):
    _, pattern, off = cube
    b = right_sides(3)
    expected = elliptic_solver(pattern, off).solve(b, **TIGHT).x
    with jax.enable_x64(wide):
        solver = elliptic_solver(pattern, off, dtype=np.float32)
        found = solver.solve(b.astype(np.float32), tolerance=1e-5)
        assert found.x.dtype == jnp.float32
        assert found.converged.all()
    error = np.abs(np.asarray(found.x) - expected).max() / np.abs(expected).max()
    assert error < 2e-5


def test_sums_are_accurate_without_64_bit_types():
    """A million numbers near one: summed in a row the error would be about 3e-5."""
    values = np.random.default_rng(0).uniform(1.0, 1.001, (1_000_000, 1)).astype(np.float32)
    exact = (values.astype(float) ** 2).sum()
    with jax.enable_x64(False):
        narrow = float(dot(jnp.asarray(values), jnp.asarray(values))[0, 0])
    assert abs(narrow / exact - 1.0) < 1e-6


# -- What is refused -------------------------------------------------------------------------------


def test_set_up_refuses(cube):
    _, pattern, off = cube
    with pytest.raises(ValueError, match="different indices"):
        elliptic_solver(pattern, off, fixed=[1, 1])
    with pytest.raises(ValueError, match="different indices"):
        elliptic_solver(pattern, off, fixed=[NODES])
    with pytest.raises(ValueError, match="nothing to solve"):
        elliptic_solver(pattern, off, fixed=np.arange(NODES))
    with pytest.raises(ValueError, match=r"off_diagonal has shape \(5,\)"):
        elliptic_solver(pattern, off[:5])
    with pytest.raises(ValueError, match="1 entries and 0 values"):
        elliptic_solver(pattern, np.where(np.arange(len(off)) == 7, np.nan, off))
    with pytest.raises(ValueError, match="0 entries and 729 values"):
        elliptic_solver(pattern, off, mass=np.full(NODES, -1.0))
    with pytest.raises(ValueError, match="729 diagonal entries that are not positive"):
        elliptic_solver(pattern, -off)
    with pytest.raises(ValueError, match="not in int32"):
        elliptic_solver(pattern, off, dtype=np.int32)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda e: elliptic_solver(pattern, e).solve(np.zeros(NODES)).x)(jnp.asarray(off))
    with jax.enable_x64(False), pytest.raises(ValueError, match="64-bit types"):
        elliptic_solver(pattern, off)


def test_indefinite_matrices_are_refused(cube):
    """Conductivity below zero along one axis only, so that the diagonal stays positive."""
    pattern, off = stiffness_edges(cube[0], np.diag([1.0, 1.0, -0.2]))
    assert (row_sums(pattern, off) < 0).all()
    with pytest.raises(ValueError, match="not positive definite"):
        elliptic_solver(pattern, off)


def test_parts_without_a_value_are_refused():
    part = slab((1.0, 1.0, 1.0), 0.5)
    n = len(part.points)
    pattern, off = stiffness_edges(
        Mesh(
            np.concatenate([part.points, part.points + 5.0]),
            np.concatenate([part.cells, part.cells + n]),
            allow_components=True,
        ),
        np.eye(3),
    )
    one, other = pattern.rank[[0, n]]
    for fixed in ((), [one]):
        with pytest.raises(ValueError, match="1 of 2 connected parts"):
            elliptic_solver(pattern, off, fixed=fixed)
    mass = (np.arange(2 * n) == one) * 1.0
    elliptic_solver(pattern, off, fixed=[one, other])
    assert elliptic_solver(pattern, off, fixed=[other], mass=mass).solve(np.ones(2 * n)).converged


def test_solve_refuses(cube):
    solver = elliptic_solver(cube[1], cube[2])
    b = right_sides(2)
    for right, match in (
        (b[:-1], "expected \\[729\\]"),
        (b[:, :, None], "expected \\[729\\]"),
        (np.where(b > 2.0, np.inf, b), r"right side .* must be finite"),
        (b + 1.0, "2 of 2 do not"),
    ):
        with pytest.raises(ValueError, match=match):
            solver.solve(right)
    for tolerance in (0.0, 1e-16, 1.0, np.nan):
        with pytest.raises(ValueError, match="between 4e-15 and 1"):
            solver.solve(b, tolerance=tolerance)
    with pytest.raises(ValueError, match="values has shape"):
        solver.solve(b, values=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="off_diagonal has shape"):
        solver.solve(b, off_diagonal=cube[2][:3])
    with pytest.raises(ValueError, match="set up without mass"):
        solver.solve(b, mass=np.ones(NODES))
    with pytest.raises(ValueError, match="between 2e-06 and 1"):
        elliptic_solver(cube[1], cube[2], dtype=np.float32).solve(b, tolerance=1e-8)
    held = elliptic_solver(cube[1], cube[2], fixed=[0])
    with pytest.raises(ValueError, match=r"given values .* must be finite"):
        held.solve(b, values=np.full((1, 2), np.nan))


def test_failure_is_raised_or_flagged(cube):
    solver, b = elliptic_solver(cube[1], cube[2]), right_sides(3)
    with pytest.raises(RuntimeError, match=r"3 of 3 elliptic problems .* after 2 iterations"):
        solver.solve(b, max_iterations=2)
    found = solver.solve(b, max_iterations=2, throw=False)
    assert not found.converged.any()
    assert (found.iterations == 2).all()
    assert (found.residual > 1e-8).all()
    # traced: nothing can be raised, the flag says it, for a right side without solution too
    solve = jax.jit(lambda b: solver.solve(b))
    assert solve(b).converged.all()
    assert not solve(b + 1.0).converged.any()
    # entries that are not those of a positive matrix
    assert not solver.solve(b, off_diagonal=-cube[2], throw=False).converged.any()


def test_tolerance_below_rounding_is_said_to_be(cube):
    """A mass of nearly nothing: x is large beside b."""
    _, pattern, off = cube
    solver = elliptic_solver(pattern, off, mass=np.full(NODES, 1e-9))
    with pytest.raises(RuntimeError, match=r"rounding alone may leave \de-0[89]") as raised:
        solver.solve(np.ones(NODES), tolerance=1e-14)
    assert "loosen the tolerance" in str(raised.value)


# -- Parts -----------------------------------------------------------------------------------------


def test_conjugate_gradients_alone():
    random = np.random.default_rng(0)
    factor = random.normal(size=(30, 30))
    dense = jnp.asarray(factor @ factor.T + np.eye(30))
    b = jnp.asarray(random.normal(size=(30, 2)))
    found = conjugate_gradients(
        lambda x: dense @ x,
        lambda r: r / jnp.diag(dense)[:, None],
        b,
        tolerance=jnp.asarray(1e-12),
        max_iterations=jnp.asarray(500),
    )
    np.testing.assert_allclose(found.x, np.linalg.solve(dense, b), rtol=1e-9, atol=1e-9)
    assert (found.residual < 1e-12).all()


def test_sliced_rows_hold_any_matrix():
    dense = np.where(RANDOM.uniform(size=(40, 25)) < 0.15, RANDOM.normal(size=(40, 25)), 0.0)
    dense[7] = 0.0
    dense[11] = 1.0
    rows = sliced_rows(dense, jnp.float64)
    x = RANDOM.normal(size=(25, 3))
    np.testing.assert_allclose(rows(jnp.asarray(x)), dense @ x, atol=1e-14)
