"""The time loop: conservation, frames, checkpoints, errors, precision and derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.special
from tissues import NEVER, SmoothStimulus, Source, passive, random_mesh, uniform_tissue

from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.voxels import Voxels
from cardiotwin.ionic import BuenoOrovio, MitchellSchaeffer, TenTusscherPanfilov2006, blend
from cardiotwin.numerics.fem import mass_matrix, stiffness_matrix
from cardiotwin.propagation.observe import (
    ActivationTime,
    Probe,
    RepolarisationTime,
    Snapshots,
)
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import (
    ExplicitDiffusion,
    Godunov,
    ImplicitDiffusion,
    Strang,
    largest_explicit_step,
)
from cardiotwin.propagation.solve import Checkpoint, NonFiniteError, solve
from cardiotwin.propagation.times import grid, stride_of
from cardiotwin.tissue.stimulus import NodalStimulus, pulsing

SLAB = slab((3.0, 0.5, 0.5), 0.5)  # compilation takes the time: few nodes, short rows
EXACT = ImplicitDiffusion(tolerance=1e-13)


def wave(cell=None, mesh=SLAB, diffusivity=0.2):
    """A wave along x."""
    tissue = uniform_tissue(mesh, (diffusivity,) * 3)
    return Monodomain(mesh, tissue, cell or MitchellSchaeffer(), SmoothStimulus())


def everything():
    return {
        "activation": ActivationTime(-20.0),
        "repolarisation": RepolarisationTime(-70.0),
        "probe": Probe([0, 5]),
        "voltage": Snapshots(),
    }


def assert_equal_trees(one, two):
    a, b = jax.tree.leaves(one), jax.tree.leaves(two)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


# the heat equation


def heat(mesh, v0, scheme, *, t1=4.0, dt=0.1, diffusivity=(0.1, 0.1, 0.1)):
    solution = solve(
        passive(mesh, v0, diffusivity),
        t1,
        dt=dt,
        scheme=scheme,
        observe={"voltage": Snapshots()},
        every=t1 / 4,
        precision="float64",
    )
    return np.asarray(solution.frames["voltage"])


@pytest.mark.parametrize(
    ("scheme", "tolerance"),
    [
        # explicit steps and converged solves conserve to rounding, a loose solve to its tolerance
        (Godunov(ExplicitDiffusion()), 1e-13),
        (Godunov(EXACT), 1e-12),
        (Godunov(ImplicitDiffusion(tolerance=1e-3)), 1e-3),
    ],
)
def test_heat_is_conserved(scheme, tolerance):
    mesh = random_mesh(14, 4)
    v0 = np.random.default_rng(0).uniform(-85.0, 40.0, len(mesh.points))
    mass = np.asarray(mass_matrix(mesh.points, mesh.cells).sum(axis=1)).ravel()
    v = heat(mesh, v0, scheme, diffusivity=(0.1, 0.05, 0.02))
    np.testing.assert_array_equal(v[0], v0)
    assert np.ptp(v[-1]) < 0.9 * np.ptp(v0)  # it does diffuse
    np.testing.assert_allclose(v @ mass, v0 @ mass, rtol=0, atol=tolerance * mass.sum() * 125.0)


def test_rest_stays_exactly_at_rest_in_single_precision():
    mesh = random_mesh(14, 4)
    problem = Monodomain(mesh, uniform_tissue(mesh), MitchellSchaeffer(), NEVER)
    for scheme in (Strang(), Godunov(ExplicitDiffusion())):
        solution = solve(problem, 5.0, dt=0.1, scheme=scheme, observe={"v": Snapshots()})
        assert np.all(np.asarray(solution.frames["v"]) == np.float32(-85.0))


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_stages_of_explicit_diffusion_are_shifted_legendre_polynomials(stages):
    # one step multiplies an eigenvector of -M^-1 K by P_s(1 + 2 z / (s^2 + s)), z = -dt lambda
    mesh = random_mesh(14, 4)
    problem = passive(mesh, np.zeros(len(mesh.points)), (0.3, 0.1, 0.05))
    system = problem.discretise()
    dt = 0.9 * largest_explicit_step(system) * (stages * stages + stages) / 2
    stiffness = stiffness_matrix(mesh.points, mesh.cells, problem.tissue.diffusion()).toarray()
    lumped = np.diag(mass_matrix(mesh.points, mesh.cells).toarray().sum(axis=1))
    values, vectors = scipy.linalg.eigh(stiffness, lumped)
    step = Godunov(ExplicitDiffusion(stages))
    v = heat(mesh, vectors.sum(axis=1), step, diffusivity=(0.3, 0.1, 0.05), t1=4 * dt, dt=dt)
    amplitudes = vectors.T @ lumped @ v[1]
    argument = 1 - 2 * dt * values / (stages * stages + stages)
    expected = scipy.special.eval_legendre(stages, argument)
    np.testing.assert_allclose(amplitudes, expected, atol=1e-11)


def test_as_few_stages_as_are_stable():
    system = passive(SLAB, np.zeros(len(SLAB.points))).discretise()
    limit = largest_explicit_step(system)
    for factor, stages in ((0.5, 1), (0.999, 1), (1.001, 2), (2.99, 2), (3.01, 3), (9.0, 4)):
        step = ExplicitDiffusion().setup(system, factor * limit, jnp.float64)
        assert step.stages == stages
    with pytest.raises(ValueError, match="stages is 0; give 1 or more"):
        ExplicitDiffusion(0)


def test_explicit_stability_limit_is_a_bound_and_not_far_off():
    mesh = random_mesh(60, 2)
    problem = passive(mesh, np.zeros(len(mesh.points)), (0.3, 0.1, 0.05))
    limit = largest_explicit_step(problem.discretise())
    stiffness = stiffness_matrix(mesh.points, mesh.cells, problem.tissue.diffusion()).toarray()
    mass = np.asarray(mass_matrix(mesh.points, mesh.cells).sum(axis=1)).ravel()
    root = 1 / np.sqrt(mass)
    exact = 2.0 / np.linalg.eigvalsh(root[:, None] * stiffness * root[None])[-1]
    # the margin is 5 % and the Ritz value is good to 1 %
    assert 0.93 * exact < limit <= exact


def test_unstable_explicit_step_names_the_largest_dt():
    problem = passive(SLAB, np.zeros(len(SLAB.points)))
    with pytest.raises(ValueError, match=r"unstable at dt = 2.0 ms: the largest dt") as error:
        solve(problem, 4.0, dt=2.0, every=2.0, scheme=Godunov(ExplicitDiffusion(1)))
    named = float(re.search(r"this mesh is ([0-9.e-]+) ms", str(error.value)).group(1))
    assert named == pytest.approx(largest_explicit_step(problem.discretise()), rel=1e-3)
    needed = int(re.search(r"stages=(\d+)", str(error.value)).group(1))
    v0 = np.random.default_rng(1).uniform(0.0, 1.0, len(SLAB.points))
    v = heat(SLAB, v0, Godunov(ExplicitDiffusion(needed)), t1=8.0, dt=2.0)
    # the method is monotone as well as stable on this mesh
    assert np.all((v >= -1e-12) & (v <= 1 + 1e-12))


# frames, streaming, checkpoints


@pytest.fixture(scope="module", params=["godunov", "strang"])
def scheme(request):
    return {"godunov": Godunov(), "strang": Strang()}[request.param]


@pytest.fixture(scope="module")
def whole(scheme):
    return solve(wave(), 12.0, dt=0.05, every=2.0, scheme=scheme, observe=everything())


def stream(scheme, t1=12.0, **options):
    frames = []
    solution = solve(
        wave(),
        t1,
        dt=0.05,
        every=2.0,
        scheme=scheme,
        observe=everything(),
        on_frame=lambda frame: frames.append(frame),
        **options,
    )
    return frames, solution


def test_whole_run(whole):
    np.testing.assert_allclose(whole.ts, np.arange(0.0, 12.1, 2.0), rtol=1e-12)
    assert whole.finite is True
    assert whole.stats["steps"] == 240
    assert whole.stats["precision"] == "float32"
    assert whole.stats["residual"] < 1e-2
    frames = whole.frames
    assert set(frames) == {"activation", "probe", "voltage"}
    assert frames["voltage"].shape == (7, len(SLAB.points))
    np.testing.assert_array_equal(frames["probe"], frames["voltage"][:, jnp.array([0, 5])])
    np.testing.assert_array_equal(frames["voltage"][0], -85.0)
    activation = np.asarray(whole.observed["activation"])
    assert frames["activation"][0] == 0.0
    assert frames["activation"][-1] == np.isfinite(activation).mean() == 1.0
    # in the order of the mesh: the wave runs along x
    x = SLAB.points[:, 0]
    assert np.corrcoef(x, activation)[0, 1] > 0.95
    for k, t in enumerate(np.asarray(whole.ts)):
        above = np.asarray(frames["voltage"][k]) >= -20.0
        np.testing.assert_array_equal(above, activation <= t)


def test_streaming_is_the_whole_run_bit_for_bit(scheme, whole):
    frames, solution = stream(scheme)
    assert solution.frames == {}
    assert [f.step for f in frames] == [0, 40, 80, 120, 160, 200, 240]
    np.testing.assert_allclose([f.t for f in frames], whole.ts, rtol=1e-12)
    np.testing.assert_array_equal(solution.ts, whole.ts)
    for k, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.v, whole.frames["voltage"][k])
        assert_equal_trees(frame.outputs, {n: values[k] for n, values in whole.frames.items()})
    assert_equal_trees(solution.observed, whole.observed)
    assert_equal_trees(solution.final, whole.final)


def test_resuming_is_bit_identical(scheme, whole):
    options = {"dt": 0.05, "every": 2.0, "scheme": scheme, "observe": everything()}
    half = solve(wave(), 6.0, **options)
    assert half.final.step == 120
    stored = Checkpoint(half.final.step, tuple(np.array(leaf) for leaf in half.final.leaves))
    rest = solve(wave(), 12.0, initial=stored, **options)
    np.testing.assert_allclose(rest.ts, [6.0, 8.0, 10.0, 12.0])
    assert_equal_trees(rest.observed, whole.observed)
    assert_equal_trees(rest.final, whole.final)
    np.testing.assert_array_equal(rest.frames["voltage"], whole.frames["voltage"][3:])


def test_resuming_from_the_checkpoint_of_a_streaming_run(whole, scheme):
    saved = []
    _, solution = stream(scheme, on_checkpoint=saved.append, checkpoint_seconds=0.0)
    assert [c.step for c in saved] == [40, 80, 120, 160, 200, 240]
    assert all(isinstance(leaf, np.ndarray) for leaf in saved[2].leaves)
    assert_equal_trees(saved[-1], solution.final)
    frames, resumed = stream(scheme, initial=saved[2])
    assert [f.step for f in frames] == [120, 160, 200, 240]
    assert_equal_trees(resumed.final, whole.final)
    assert_equal_trees(resumed.observed, whole.observed)
    # the loop gives its buffers away, but not those of the caller
    assert np.isfinite(saved[2].leaves[0]).all()
    _, again = stream(scheme, initial=saved[2])
    assert_equal_trees(again.final, whole.final)


def test_callback_that_returns_true_ends_the_run():
    seen = []

    def enough(frame):
        seen.append(frame.t)
        return frame.t >= 4.0

    solution = solve(wave(), 40.0, dt=0.05, every=2.0, on_frame=enough)
    assert seen == [0.0, 2.0, 4.0]
    # one frame is computed ahead, and the solution says so
    assert solution.final.step == 120
    assert float(solution.ts[-1]) == 6.0
    assert solution.finite is True


def test_strang_frames_do_not_depend_on_how_many_steps_they_hold():
    # joining adjacent half reactions changes the solution only within its second-order error
    options = {"dt": 0.05, "scheme": Strang(), "precision": "float64"}
    at = ActivationTime(-20.0)
    joined = solve(wave(), 12.0, every=12.0, observe={"a": at}, **options)
    split = solve(wave(), 12.0, every=0.05, observe={"a": at}, **options)
    difference = np.abs(np.asarray(joined.observed["a"]) - np.asarray(split.observed["a"]))
    assert 0 < difference.max() < 0.05


# longer steps in quiet frames


TWICE = NodalStimulus([0, 1, 2, 3], onset=1.5, period=420.0, count=2)


def paced(t1, **options):
    problem = Monodomain(SLAB, uniform_tissue(SLAB, (0.5, 0.5, 0.5)), MitchellSchaeffer(), TWICE)
    observe = {
        "activation": ActivationTime(-67.0),
        "voltage": Snapshots(),
    }
    return solve(problem, t1, dt=0.05, observe=observe, **options)


@pytest.fixture(scope="module")
def steady_and_quiet():
    return paced(460.0), paced(460.0, quiet_dt=0.25)


def test_quiet_frames_change_next_to_nothing(steady_and_quiet):
    steady, quiet = steady_and_quiet
    v, w = (np.asarray(solution.frames["voltage"]) for solution in (steady, quiet))
    rising = np.diff(v, axis=0).max(axis=1) > 1.0
    assert 5 < rising.sum() < 60  # two upstrokes
    # upstrokes are stepped as before; the second one starts from a state that differs a little
    np.testing.assert_array_equal(w[:5], v[:5])
    np.testing.assert_array_equal(quiet.observed["activation"], steady.observed["activation"])
    assert 0.0 < np.abs(w - v).max() < 0.5


def test_quiet_frames_are_counted(steady_and_quiet):
    steady, quiet = steady_and_quiet
    assert steady.stats["quiet_share"] == 0.0
    assert steady.stats["steps"] == 9200
    share = quiet.stats["quiet_share"]
    assert 0.8 < share < 0.97
    assert quiet.stats["steps"] == round(460 * (20 * (1 - share) + 4 * share))


def test_quiet_frames_resume_bit_for_bit(steady_and_quiet):
    _, quiet = steady_and_quiet
    half = paced(230.0, quiet_dt=0.25)
    rest = paced(460.0, quiet_dt=0.25, initial=half.final)
    assert_equal_trees(rest.final, quiet.final)
    streamed = paced(460.0, quiet_dt=0.25, on_frame=lambda frame: None)
    assert_equal_trees(streamed.final, quiet.final)
    assert streamed.stats["steps"] == quiet.stats["steps"]


def test_quiet_step_divides_the_frame():
    assert [stride_of(q, 0.05, 20) for q in (0.05, 0.09, 0.1, 0.2, 0.3, 1.0, 5.0)] == [
        *(1, 1, 2, 4, 5, 20, 20)
    ]
    with pytest.raises(ValueError, match=r"quiet_dt is 0.01 ms; it cannot be shorter than dt"):
        solve(wave(), 2.0, dt=0.05, quiet_dt=0.01)


@pytest.mark.parametrize(
    ("begin", "end", "acts"),
    [(0, 1, False), (1, 2, True), (3, 4, True), (3.6, 5, False), (400, 421, False),
     (421, 422, True), (423.4, 424, True), (424, 500, False), (830, 900, False)],
)  # fmt: skip
def test_when_a_train_acts(begin, end, acts):
    pulses = TWICE.pulses(SLAB.points)
    assert bool(pulsing(pulses, jnp.asarray(float(begin)), jnp.asarray(float(end)))) is acts


# errors


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"t1": 10.0, "dt": 0.03}, "every = 1 ms is not a multiple of dt = 0.03 ms.*0.99 ms"),
        ({"t1": 10.4}, "t1 = 10.4 ms is not a multiple of every = 1 ms.*: 10 ms"),
        ({"t1": 10.0, "dt": 0.05, "every": 0.01}, "every = 0.01 ms .*: 0.05 ms"),
        ({"t1": 0.2}, "t1 = 0.2 ms .*: 1 ms"),
        ({"t1": -1.0}, "t1 is -1.0 ms; give a positive time"),
        ({"t1": 1.0, "dt": 0.0}, "dt is 0.0 ms"),
        ({"t1": 1.0, "every": float("nan")}, "every is nan ms"),
        ({"t1": float("inf")}, "t1 is inf ms"),
    ],
)
def test_times_that_do_not_fit(times, message):
    with pytest.raises(ValueError, match=message):
        solve(wave(), **times)


def test_times_that_only_look_as_if_they_did_not_fit():
    # 0.1 and 0.3 have no exact binary value
    assert grid(0.9, 0.1, 0.3) == (3, 3)
    assert grid(1000.0, 0.02, 0.1) == (5, 10_000)


def test_precision():
    with pytest.raises(ValueError, match="precision is 'half'; give 'float32' or 'float64'"):
        solve(wave(), 1.0, precision="half")
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match=r"64-bit types off. Call jax.config.update"):
            solve(wave(), 1.0, precision="float64")
    finally:
        jax.config.update("jax_enable_x64", True)


def test_checkpoints_that_do_not_fit(whole, scheme):
    options = {"dt": 0.05, "every": 2.0, "scheme": scheme}
    with pytest.raises(ValueError, match=r"step 240 .12 ms. and ends at 12.0 ms"):
        solve(wave(), 12.0, initial=whole.final, observe=everything(), **options)
    with pytest.raises(ValueError, match="Start from a frame"):
        solve(
            wave(),
            30.0,
            initial=whole.final._replace(step=41),
            observe=everything(),
            **options,
        )
    with pytest.raises(ValueError, match=r"holds \d+ arrays and .* the first that differs"):
        solve(wave(), 14.0, initial=whole.final, **options)
    with pytest.raises(ValueError, match="precision and observables"):
        solve(
            wave(),
            14.0,
            initial=whole.final,
            observe=everything(),
            precision="float64",
            **options,
        )


def test_problem_whose_parts_do_not_fit():
    other = slab((2.0, 1.0, 1.0), 0.5)
    with pytest.raises(ValueError, match=r"the tissue has .* elements and the mesh"):
        Monodomain(SLAB, uniform_tissue(other), MitchellSchaeffer(), NEVER)
    cell = MitchellSchaeffer(tau_in=np.full(3, 0.3))
    with pytest.raises(ValueError, match=r"parameter tau_in has shape \(3,\)"):
        Monodomain(SLAB, uniform_tissue(SLAB), cell, NEVER)


def test_bad_probe_is_refused_before_the_run():
    with pytest.raises(ValueError, match="Probe: node indices"):
        solve(wave(), 1.0, observe={"probe": Probe([10_000])})


def exploding(node=7):
    """2 ms of 3e38 mV/ms from 4 ms on exceed the largest single-precision number in one step."""
    stimulus = NodalStimulus([node], onset=4.0, amplitude=3e38, duration=2.0)
    return Monodomain(SLAB, uniform_tissue(SLAB), Source(), stimulus)


@pytest.mark.parametrize("streaming", [False, True])
def test_voltage_that_becomes_infinite(streaming):
    seen = []
    options = {"dt": 2.0, "every": 2.0, "observe": {"v": Snapshots()}}
    if streaming:
        options["on_frame"] = lambda frame: seen.append(frame.t)
    with pytest.raises(NonFiniteError) as error:
        solve(exploding(), 12.0, **options)
    message = str(error.value)
    place = np.round(SLAB.points[7], 2)
    assert "between 4 and 6 ms at 1 of" in message
    assert f"first node 7 at {place} mm" in message
    assert "last good frame is that of 4 ms" in message
    assert "Shorten dt (now 2.0 ms)" in message
    if streaming:
        assert seen == [0.0, 2.0, 4.0]


@pytest.mark.parametrize("streaming", [False, True])
def test_voltage_that_becomes_infinite_without_an_error(streaming):
    seen = []
    options = {"dt": 2.0, "every": 2.0, "observe": {"v": Snapshots()}, "throw": False}
    if streaming:
        options["on_frame"] = lambda frame: seen.append(frame.t)
    solution = solve(exploding(), 12.0, **options)
    assert solution.finite is False
    if streaming:
        assert seen == [0.0, 2.0, 4.0]
    else:
        v = np.asarray(solution.frames["v"])
        assert v.shape[0] == 7
        assert np.isfinite(v[:3]).all()
        assert not np.isfinite(v[3:, 7]).any()
        # frames after the bad one are held, not computed on
        np.testing.assert_array_equal(v[3], v[-1])


# precision and derivatives


def test_single_precision_moves_activation_by_less_than_a_step():
    problem = wave(TenTusscherPanfilov2006.epi(), slab((4.0, 0.5, 0.5), 0.5))
    found = []
    for precision in ("float32", "float64"):
        solution = solve(
            problem,
            16.0,
            dt=0.05,
            every=16.0,
            observe={"activation": ActivationTime(-20.0)},
            precision=precision,
        )
        found.append(np.asarray(solution.observed["activation"], float))
    assert np.isfinite(found[0]).all()
    assert np.ptp(found[1]) > 3.0
    difference = np.abs(found[0] - found[1]).max()
    # the promise is 0.05 ms, one time step; zero would mean that nothing was compared
    assert 0.0 < difference < 0.05


def late_activation(tau_in):
    """Mean activation time of the far end, ms."""
    solution = solve(
        wave(MitchellSchaeffer(tau_in=tau_in)),
        10.0,
        dt=0.05,
        every=5.0,
        observe={"activation": ActivationTime(-20.0)},
        precision="float64",
    )
    return solution.observed["activation"][np.unique(SLAB.surfaces["x1"])].mean()


def test_forward_and_reverse_derivatives_through_a_run():
    value, gradient = jax.jit(jax.value_and_grad(late_activation))(0.3)
    _, tangent = jax.jit(lambda x: jax.jvp(late_activation, (x,), (1.0,)))(0.3)
    step = 1e-5
    plain = jax.jit(late_activation)
    difference = (plain(0.3 + step) - plain(0.3 - step)) / (2 * step)
    assert 3.0 < float(value) < 10.0
    assert float(gradient) > 1.0  # a slower inward current makes a slower wave
    # rounding of 10 ms over 2e-5 is 1e-10, the third derivative leaves about 1e-8; kinks where a
    # crossing passes from step to step are rarer than 2e-5 is wide
    assert float(gradient) == pytest.approx(float(difference), rel=1e-5)
    assert float(tangent) == pytest.approx(float(gradient), rel=1e-10)


def test_ensemble_by_vmap():
    taus = jnp.array([0.25, 0.3, 0.35])
    together = jax.jit(jax.vmap(late_activation))(taus)
    one = jax.jit(late_activation)(taus[2])
    assert np.all(np.diff(together) > 0)
    assert float(together[2]) == pytest.approx(float(one), rel=1e-12)


# --- numbers of nodes that the threads do not divide ------------------------------------------


def few_voxels():
    mask = np.ones((9, 4, 3), bool)
    mask[4:6, :2] = False
    return Voxels(mask, 0.5)


@pytest.mark.parametrize("mesh", [SLAB, few_voxels()], ids=["tetrahedra", "voxels"])
@pytest.mark.parametrize(
    "diffusion",
    [ExplicitDiffusion(), ImplicitDiffusion(iteration="conjugate_gradients", tolerance=1e-12)],
    ids=["explicit", "implicit"],
)
def test_slots_beyond_the_nodes_change_nothing(monkeypatch, mesh, diffusion):
    nodes = len(mesh.points)
    weights = np.linspace(0, 1, nodes)
    cell = blend([BuenoOrovio.endo(), BuenoOrovio.epi()], [weights, 1 - weights])

    def run(threads, t1=6.0, initial=None):
        monkeypatch.setattr("cardiotwin.numerics.target.threads", lambda: threads)
        return solve(
            wave(cell, mesh), t1, dt=0.05, every=2.0, quiet_dt=0.2, observe=everything(),
            scheme=Godunov(diffusion), precision="float64", initial=initial,
        )  # fmt: skip

    plain, longer = run(1), run(nodes + 3)  # nearly as many slots without a node as with one
    assert plain.stats["nodes"] == longer.stats["nodes"] == nodes
    assert np.isfinite(plain.observed["activation"]).all()
    results = [jax.tree.leaves((x.ts, x.frames, x.observed, x.final)) for x in (plain, longer)]
    for one, other in zip(*results, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    # a checkpoint of the one goes on with the other
    on = run(2 * nodes - 1, 6.0, run(1, 4.0).final)
    np.testing.assert_allclose(on.frames["voltage"][-1], plain.frames["voltage"][-1], rtol=1e-9)
