"""Short steps only where a wave passes: same waves, less work."""

import jax.numpy as jnp
import numpy as np
import pytest
from tissues import NEVER, SmoothStimulus, passive, random_mesh, uniform_tissue

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic.mitchell_schaeffer import MitchellSchaeffer
from cardiotwin.numerics import subset as subset_module
from cardiotwin.numerics.differences import gather
from cardiotwin.propagation import multirate, windows
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
    monkeypatch.setattr(windows, "FEWEST_NODES", 100)


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


def operator(mesh):
    system = passive(mesh, np.zeros(len(mesh.points))).discretise()
    return ExplicitDiffusion().setup(system, 1e-3, jnp.float64).rate, system


def marks(system, share):
    inside = RNG.random(system.nodes) < share
    around = inside.copy()
    first, second = system.pattern.edges.T
    np.logical_or.at(around, first, inside[second])
    np.logical_or.at(around, second, inside[first])
    return inside, around


def test_rows_are_numbered_through(monkeypatch):
    monkeypatch.setattr(subset_module, "LINE", 4)
    rate, system = operator(random_mesh(400, 5))
    assert len(rate.columns) > 1
    x = jnp.asarray(RNG.normal(size=system.nodes))
    expected = np.asarray(rate(x))
    levels = set()
    for share in (0.005, 0.03):
        inside, around = marks(system, share)
        assert subset_module.fits(rate.columns, jnp.asarray(around))
        rows = subset_module.subset(rate.columns, jnp.asarray(inside), jnp.asarray(around))
        weights = rows.weights(rate.weights)
        levels.add(int(rows.level))
        for level in range(int(rows.level), len(subset_module.LEVELS)):
            here = rows.at(level)
            nodes, position = np.asarray(here.nodes), np.asarray(here.position)
            np.testing.assert_array_equal(nodes[position[around]], np.flatnonzero(around))
            dense = here.take(x)
            np.testing.assert_array_equal(rows.cut(rows.take(x), level), dense)
            for found in (
                here.differences(x, dense, weights),
                here.differences(dense, dense, weights, dense=True),
            ):
                found = np.asarray(found)[position[inside]]
                np.testing.assert_allclose(found, expected[inside], rtol=1e-12)
            doubled = rows.put(rows.take(x), 2 * dense, level)
            found = np.asarray(rows.join(doubled, jnp.zeros(system.nodes)))
            np.testing.assert_array_equal(found, np.where(inside, 2 * x, 0.0))
    assert len(levels) == 2


def test_too_many_rows_do_not_fit():
    rate, system = operator(random_mesh(400, 5))
    assert not subset_module.fits(rate.columns, jnp.ones(system.nodes, bool))
    assert subset_module.fits(rate.columns, jnp.zeros(system.nodes, bool))


def test_dense_arrays_are_no_powers_of_two():
    for rows in (1, 100, 163_840, 1_000_000):
        for level, share in enumerate(subset_module.LEVELS):
            length = subset_module.room(rows, level)
            assert share * rows - 1 < length < share * rows + 3 * subset_module.LINE
            assert length % (2 * subset_module.LINE) == subset_module.LINE


def test_gather_is_numpy_indexing():
    x = jnp.asarray(RNG.normal(size=(3, 50)))
    places = jnp.asarray(RNG.integers(0, 50, (4, 7)), jnp.int32)
    np.testing.assert_array_equal(gather(x, places), np.asarray(x)[:, np.asarray(places)])
    np.testing.assert_array_equal(gather(x[0], places[0]), np.asarray(x)[0, np.asarray(places[0])])


def test_touched_are_the_marked_and_their_neighbours():
    rate, system = operator(random_mesh(60, 5))
    inside, around = marks(system, 0.1)
    np.testing.assert_array_equal(rate.touched(jnp.asarray(inside)), around)


# waves


@pytest.mark.parametrize(
    "diffusion",
    [
        ExplicitDiffusion(),
        pytest.param(ExplicitDiffusion(stages=3), marks=pytest.mark.slow),
        CorrectedDiffusion(),
        pytest.param(CorrectedDiffusion(substeps=2), marks=pytest.mark.slow),
        ImplicitDiffusion(tolerance=1e-6),
    ],
    ids=["explicit", "stages", "corrected", "substeps", "implicit"],
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
    monkeypatch.setattr(windows, "_hops", lambda system, time: 15)

    def nobody(edges, prepared, rising, *_, hops):
        return multirate.Division(*[jnp.zeros_like(rising)] * 2)

    monkeypatch.setattr(multirate, "divide", nobody)
    hasty, found = run(multirate=True)
    assert hasty.stats["repeated_windows"] > 5
    reached = np.isfinite(expected)
    assert np.abs(found[reached] - expected[reached]).max() < 1e-3


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("shorter", [ExplicitDiffusion(), CorrectedDiffusion(substeps=2)])
def test_longer_step_keeps_no_operator_of_its_own(shorter, stages):
    mesh = random_mesh(40, 4)
    system = passive(mesh, np.zeros(len(mesh.points))).discretise(corrected=True)
    own = ExplicitDiffusion(stages).setup(system, 4e-4, jnp.float64)
    other = shorter.setup(system, 1e-4, jnp.float64)
    beside = own.beside(other, 4)
    assert beside.rate is other.rate
    v = jnp.asarray(RNG.normal(size=system.nodes))
    np.testing.assert_allclose(beside(v), own(v), rtol=1e-12)


def test_memory_of_a_node():
    # weights and columns of 14 neighbours (112 bytes) once, and for 0.4 of the nodes in dense
    # arrays (45); what changes (17) as it was at the beginning of a window, as it is, and in the
    # making; pulses, masses, numbers of nodes, the frame (24); room that XLA leaves between them
    solution, _ = run(1.0, multirate=True, on_frame=lambda frame: None)
    per_node = solution.stats["device_memory_mib"] * 2**20 / len(MESH.points)
    assert 230 < per_node < 275


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
