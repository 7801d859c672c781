"""Halving steps and edges moves the solution at the rate that theory gives."""

import numpy as np
import pytest
import scipy.linalg
from tissues import SmoothStimulus, passive, uniform_tissue
from verification import joined, slope

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import MitchellSchaeffer, TenTusscherPanfilov2006
from cardiotwin.numerics.fem import mass_matrix, stiffness_matrix
from cardiotwin.propagation.observe import ActivationTime, Snapshots
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion, Strang
from cardiotwin.propagation.solve import solve

pytestmark = pytest.mark.convergence

CONVERGED = ImplicitDiffusion(tolerance=1e-13)


def final_voltage(problem, t1, dt, scheme):
    solution = solve(
        problem,
        t1,
        dt=dt,
        scheme=scheme,
        observe={"v": Snapshots()},
        every=t1,
        precision="float64",
    )
    return np.asarray(solution.frames["v"][-1])


# time: a linear problem whose semi-discrete solution is known

TIME_MESH = slab((2.0, 0.5, 0.5), 0.5)
TIME_STEPS = np.array([0.2, 0.1, 0.05])
TIME_END = 2.0


def source_problem():
    """Diffusion of V, and a decaying source that feeds it: the two do not commute."""
    x = TIME_MESH.points[:, 0]
    v0, w0 = np.cos(np.pi * x / 2.0), 3.0 * np.sin(x)
    return passive(TIME_MESH, v0, (0.3, 0.3, 0.3), w0=w0, k=1.0), v0, w0


def exact_source(consistent):
    """V at the end by the exponential of the matrix of d(V, w)/dt, no time steps at all."""
    problem, v0, w0 = source_problem()
    full = mass_matrix(TIME_MESH.points, TIME_MESH.cells).toarray()
    mass = consistent * full + (1 - consistent) * np.diag(full.sum(axis=1))
    stiffness = stiffness_matrix(
        TIME_MESH.points, TIME_MESH.cells, np.asarray(problem.tissue.diffusion())
    ).toarray()
    n = len(v0)
    matrix = np.block(
        [
            [-np.linalg.solve(mass, stiffness), np.eye(n)],
            [np.zeros((n, n)), -1.0 * np.eye(n)],
        ]
    )
    return (scipy.linalg.expm(TIME_END * matrix) @ np.concatenate([v0, w0]))[:n]


@pytest.mark.parametrize(
    ("scheme", "consistent", "order", "within"),
    [
        (Godunov(CONVERGED), 2 / 3, 1.0, 0.15),
        (Strang(CONVERGED), 2 / 3, 2.0, 0.2),
        # Strang cannot make up for a parabolic step of first order
        (Strang(ImplicitDiffusion(theta=1.0, tolerance=1e-13)), 2 / 3, 1.0, 0.15),
        (Godunov(ExplicitDiffusion()), 0.0, 1.0, 0.15),
    ],
    ids=["godunov", "strang", "strang with backward Euler", "explicit"],
)
def test_order_in_time(scheme, consistent, order, within, tabulate, request):
    problem, v0, _ = source_problem()
    exact = exact_source(consistent)
    errors = [
        np.abs(final_voltage(problem, TIME_END, dt, scheme) - exact).max() for dt in TIME_STEPS
    ]
    assert errors[-1] < 0.05 * np.abs(exact - v0).max()  # it converges to that solution
    found = slope(TIME_STEPS, errors)
    tabulate(
        "2b. Order in time with a decaying source, against the exponential of the matrix",
        scheme=request.node.callspec.id,
        **{f"error, dt {dt:g}": error for dt, error in zip(TIME_STEPS, errors, strict=True)},
        order=found,
        theory=order,
    )
    assert found == pytest.approx(order, abs=within)


# space: a cosine decays at a rate that is known

LENGTH, DIFFUSIVITY = 4.0, 0.4


def decay_error(edge, dt, consistent):
    """Relative error of the amplitude of a cosine along the slab, against the continuum."""
    mesh = slab((LENGTH, 1.0, 1.0), edge, "kuhn")
    mode = np.cos(np.pi * mesh.points[:, 0] / LENGTH)
    diffusion = ImplicitDiffusion(consistent_mass=consistent, tolerance=1e-10)
    principal = (DIFFUSIVITY, 0.1, 0.1)
    end = 4.0
    v = final_voltage(passive(mesh, mode, principal), end, dt, Godunov(diffusion))
    mass = mass_matrix(mesh.points, mesh.cells)
    amplitude = (mode @ (mass @ v)) / (mode @ (mass @ mode))
    return amplitude / np.exp(-DIFFUSIVITY * (np.pi / LENGTH) ** 2 * end) - 1.0


@pytest.mark.parametrize("consistent", [0.0, 1.0])
def test_cosine_decays_at_the_analytic_rate(consistent, tabulate):
    edges = np.array([0.25, 0.125])
    errors = np.array([decay_error(edge, 0.5 * edge, consistent) for edge in edges])
    # along a line linear elements have the rate 1 -+ (k h)^2 / 12: slow where the mass is lumped,
    # fast where it is consistent. The layer of elements at the sides of the slab adds a part of
    # third order, which is the rest.
    decay = DIFFUSIVITY * (np.pi / LENGTH) ** 2 * 4.0
    expected = (1 - 2 * consistent) * decay * (np.pi / LENGTH * edges) ** 2 / 12
    for edge, error, known in zip(edges, errors, expected, strict=True):
        tabulate(
            "6. Decay of a cosine: relative error of its amplitude",
            **{"consistent mass": consistent, "h": edge, "error": error, "on a line": known},
        )
    assert errors[0] == pytest.approx(expected[0], rel=0.06)
    assert errors[1] == pytest.approx(expected[1], rel=0.015)
    assert slope(edges, np.abs(errors)) == pytest.approx(2.0, abs=0.1)


# activation times: no exact solution, but successive differences shrink at the order


def travel_times(cell, edges, dt, scheme, end):
    """Time in ms from 2 to 4 mm along a cable of each edge length, all in one run.

    The time between two places leaves the start of the wave out, whose error is another one.
    """
    cables = [slab((5.0, edge, edge), edge) for edge in edges]
    mesh, starts = joined(cables)
    problem = Monodomain(mesh, uniform_tissue(mesh, (0.15,) * 3), cell, SmoothStimulus())
    steps = round(end / dt) | 1  # loops over an odd number are not unrolled: they compile faster
    solution = solve(
        problem,
        steps * dt,
        dt=dt,
        scheme=scheme,
        observe={"activation": ActivationTime(-20.0)},
        every=steps * dt,
        precision="float64",
    )
    times = np.split(np.asarray(solution.observed["activation"]), starts[1:-1])
    result = []
    for cable, t in zip(cables, times, strict=True):
        here, there = (
            np.flatnonzero(np.all(np.abs(cable.points - [x, 0, 0]) < 1e-9, axis=1))[0]
            for x in (2.0, 4.0)
        )
        result.append(t[there] - t[here])
    return np.array(result)


def ratios(values):
    """How much each difference of successive values is smaller than the one before."""
    differences = np.diff(values)
    return differences[:-1] / differences[1:]


@pytest.mark.parametrize(
    ("cell", "edges", "end"),
    [
        (MitchellSchaeffer(), (0.1, 0.05, 0.025), 10.5),
        # a steeper upstroke: on edges twice as long the ratios are 4.3 and 3.4
        (TenTusscherPanfilov2006.epi(), (0.05, 0.025, 0.0125), 6.2),
    ],
    ids=["Mitchell-Schaeffer", "ten Tusscher-Panfilov"],
)
def test_activation_is_of_second_order_in_the_edge(cell, edges, end, tabulate):
    # crossings are interpolated within a step; a longer one would scatter the times by as much as
    # the two finest meshes differ
    lumped, consistent = (
        travel_times(
            cell, edges, 0.005, Godunov(ImplicitDiffusion(consistent_mass=c, tolerance=1e-7)), end
        )
        for c in (0.0, 1.0)
    )
    limits = []
    for mass, times in (("lumped", lumped), ("consistent", consistent)):
        tabulate(
            "5b. Travel time over 2 mm, ms: halving the edge divides the differences by 4",
            cell=type(cell).__name__,
            mass=mass,
            **{"coarsest edge": edges[0], "ms": times[0], "ms, half": times[1]},
            **{"ms, quarter": times[2], "ratio": ratios(times)[0]},
        )
        # what is left of 4 is of fourth order in the edge: it falls fourfold a halving
        assert ratios(times) == pytest.approx(4.0, abs=0.2)
        limits.append(times[-1] + (times[-1] - times[-2]) / 3)
    # lumped mass slows waves and consistent mass speeds them, and both have the same limit
    assert np.all(np.diff(lumped) < 0)
    assert np.all(np.diff(consistent) > 0)
    assert limits[0] == pytest.approx(limits[1], rel=2e-5)


@pytest.mark.parametrize("scheme", [Godunov, Strang])
def test_activation_is_of_first_order_in_the_time_step(scheme):
    # forward Euler in the voltage is of first order whatever the splitting
    diffusion = ImplicitDiffusion(tolerance=1e-7)
    steps = (0.02, 0.01, 0.005)
    times = np.array(
        [travel_times(MitchellSchaeffer(), (0.1,), dt, scheme(diffusion), 10.5)[0] for dt in steps]
    )
    # crossings are interpolated within a step, which scatters the times by about dt^2
    assert ratios(times) == pytest.approx(2.0, abs=0.1)


def test_activation_with_centred_gates_is_of_first_order_with_a_small_coefficient():
    # gates at the middle of the step take most of the first order away: the travel time is
    # T + a dt + b dt^2 with a = -0.9 and b = 9 /ms, so that the ratio is 2 only where dt is far
    # below a / b = 0.1 ms. With old gates a is 2.7, and the ratio is 2 from 0.04 ms on.
    scheme = Godunov(ImplicitDiffusion(tolerance=1e-7))
    cell = TenTusscherPanfilov2006.epi()
    steps = np.array([0.01, 0.005, 0.0025, 0.00125])
    times = np.array([travel_times(cell, (0.1,), dt, scheme, 6.2)[0] for dt in steps])
    far, near = ratios(times) - 2.0
    assert abs(near) < 0.1
    # what is left of 2 is itself of first order
    assert far / near == pytest.approx(2.0, abs=0.3)
    a = (times[-2] - times[-1]) / (steps[-2] - steps[-1])
    assert -1.0 < a < 0.0
