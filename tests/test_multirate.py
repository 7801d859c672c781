"""Short steps only where a wave passes: same waves, less work."""

import jax.numpy as jnp
import numpy as np
import pytest
from tissues import NEVER, SmoothStimulus, passive, random_mesh, uniform_tissue

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic.mitchell_schaeffer import MitchellSchaeffer
from cardiotwin.propagation import multirate
from cardiotwin.propagation import solve as solve_module
from cardiotwin.propagation.corrected import CorrectedDiffusion
from cardiotwin.propagation.observe import ActivationTime, RepolarisationTime
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion, Strang
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.stimulus import BoxStimulus

MESH = slab((24.0, 3.0, 3.0), 0.5)  # 2401 nodes, a wave of 0.5 m/s crosses it in 50 ms
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def small_tissue_counts(monkeypatch):
    monkeypatch.setattr(solve_module, "FEWEST_NODES", 100)
    monkeypatch.setattr(multirate, "CHUNK", 256)


def run(t1=30.0, *, mesh=MESH, stimulus=None, cell=None, diffusion=None, **options):
    tissue = uniform_tissue(mesh, (0.2, 0.05, 0.05))
    problem = Monodomain(
        mesh, tissue, cell or MitchellSchaeffer(), stimulus or SmoothStimulus(width=1.0)
    )
    solution = solve(
        problem,
        t1,
        dt=0.05,
        scheme=Godunov(diffusion or ExplicitDiffusion()),
        observe={"activation": ActivationTime(), "repolarisation": RepolarisationTime()},
        quiet_dt=0.2,
        **options,
    )
    return solution, np.asarray(solution.observed["activation"])


# the division


def test_nodes_are_numbered_through():
    busy = RNG.random(1000) < 0.2
    division = multirate.divide(jnp.asarray(busy))
    rows = np.flatnonzero(busy)
    assert division.count == len(rows)
    np.testing.assert_array_equal(np.asarray(division.nodes)[: len(rows)], rows)
    np.testing.assert_array_equal(np.asarray(division.place)[rows], np.arange(len(rows)))
    assert len(division.nodes) == multirate.room(1000) == 512
    none = multirate.divide(jnp.zeros(1000, bool))
    assert none.count == 0
    assert np.all(np.asarray(none.nodes) < 1000)


def test_touched_are_the_marked_and_their_neighbours():
    mesh = random_mesh(60, 5)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    rate = ExplicitDiffusion().setup(system, 1e-3, jnp.float64).rate
    marked = RNG.random(system.nodes) < 0.1
    expected = marked.copy()
    first, second = system.pattern.edges.T
    np.logical_or.at(expected, first, marked[second])
    np.logical_or.at(expected, second, marked[first])
    np.testing.assert_array_equal(rate.touched(jnp.asarray(marked)), expected)


# waves


@pytest.mark.parametrize(
    "diffusion",
    [ExplicitDiffusion(), CorrectedDiffusion(), ImplicitDiffusion(tolerance=1e-6)],
    ids=["explicit", "corrected", "implicit"],
)
def test_wave_arrives_at_the_same_times(diffusion):
    whole, expected = run(diffusion=diffusion)
    divided, found = run(diffusion=diffusion, multirate=True)
    assert 0.4 < np.isfinite(expected).mean() < 0.9
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    reached = np.isfinite(expected)
    assert np.abs(found[reached] - expected[reached]).max() < 1e-3
    assert divided.stats["busy_share"] < 0.4
    assert divided.stats["repeated_windows"] == 0
    assert "busy_share" not in whole.stats


def test_wave_that_was_not_expected_costs_time_and_nothing_else(monkeypatch):
    _, expected = run()
    # a number of its own, or the program compiled before would serve
    monkeypatch.setattr(solve_module, "_hops", lambda system, time: 15)
    monkeypatch.setattr(multirate, "busy_nodes", lambda *_, hops: jnp.zeros(len(MESH.points), bool))
    hasty, found = run(multirate=True)
    assert hasty.stats["repeated_windows"] > 5
    reached = np.isfinite(expected)
    assert np.abs(found[reached] - expected[reached]).max() < 1e-3


def test_parameters_of_every_node_go_with_it():
    n = len(MESH.points)
    cell = MitchellSchaeffer(tau_in=np.where(MESH.points[:, 0] < 9.0, 0.3, 0.4))
    _, plain = run()
    _, expected = run(cell=cell)
    _, found = run(cell=cell, multirate=True)
    reached = np.isfinite(expected)
    assert reached.sum() > n / 3
    assert np.abs(found[reached] - expected[reached]).max() < 1e-3
    assert np.nanmax(expected[reached] - plain[reached]) > 2.0


def test_stimulus_far_from_the_wave_captures():
    end = BoxStimulus((22.0, 0.0, 0.0), (24.0, 3.0, 3.0), onset=12.0)
    both = SmoothStimulus(width=1.0) + end
    _, expected = run(stimulus=both)
    _, found = run(stimulus=both, multirate=True)
    late = MESH.points[:, 0] > 22.0
    assert np.all((found[late] > 12.0) & (found[late] < 16.0))
    reached = np.isfinite(expected)
    assert np.abs(found[reached] - expected[reached]).max() < 1e-3


def test_beat_ends_at_the_same_times():
    first, _ = run(400.0, every=2.0)
    second, _ = run(400.0, every=2.0, multirate=True)
    ends = (np.asarray(s.observed["repolarisation"]) for s in (first, second))
    assert np.abs(np.subtract(*ends)).max() < 0.1
    assert second.stats["quiet_share"] > 0.5
    assert second.stats["steps"] == first.stats["steps"]


def test_rest_stays_exactly_at_rest():
    solution, found = run(5.0, stimulus=NEVER, multirate=True)
    assert np.all(np.isinf(found))
    assert np.all(np.asarray(solution.final.leaves[0]) == np.float32(-85.0))


def test_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="quiet_dt, which is None"):
        solve(passive(MESH, np.zeros(len(MESH.points))), 1.0, multirate=True)
    with pytest.raises(ValueError, match="the scheme is Strang"):
        solve(
            passive(MESH, np.zeros(len(MESH.points))),
            1.0,
            scheme=Strang(),
            quiet_dt=0.2,
            multirate=True,
        )
    with pytest.raises(ValueError, match=r"observe\['v'\] is 3; give an observable"):
        solve(passive(MESH, np.zeros(len(MESH.points))), 1.0, observe={"v": 3})
