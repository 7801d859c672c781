"""Derivatives of a run: against differences, against each other, and what they cost in memory."""

import re
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.fibres import fibres_from_mesh
from cardiotwin.anatomy.idealised import slab
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.adjoint import Checkpointed, Stored
from cardiotwin.propagation.corrected import CorrectedDiffusion
from cardiotwin.propagation.ensemble import ensemble
from cardiotwin.propagation.observe import ActivationTime, Snapshots
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov, ImplicitDiffusion, Strang
from cardiotwin.propagation.solve import Checkpoint, solve
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.stimulus import BoxStimulus, FocalStimulus, NodalStimulus

MESH = slab((3.0, 0.5, 0.5), 0.5)
NODES = len(MESH.points)
FIBRES = fibres_from_mesh(MESH)
CORNER = np.unique(MESH.surfaces["x0"])
FAR = np.unique(MESH.surfaces["x1"])
DT = 0.05


def theta():
    """All that a run depends on; edges of the stimulus lie within steps."""
    return {
        "conductivity": jnp.array([0.4, 0.04]),
        "tau_in": jnp.array(0.3),
        "tau_out": jnp.full(NODES, 6.0),
        "onset": jnp.array(0.52),
        "amplitude": jnp.array(80.0),
        "duration": jnp.array(2.01),
        "displacement": jnp.zeros((NODES, 3)),
        "initial": jnp.zeros(NODES),
    }


def problem(p):
    """Nodes of one face are stimulated, wherever they lie."""
    sigma = Conductivity(intra_fibre=p["conductivity"][0], intra_sheet=p["conductivity"][1])
    # the paper's hard switch of the gate has kinks, which differences stumble over
    cell = MitchellSchaeffer(tau_in=p["tau_in"], tau_out=p["tau_out"], smoothing=0.05)
    pulse = NodalStimulus(CORNER, p["onset"], p["amplitude"], p["duration"])
    made = Monodomain(MESH, Tissue.by_region(MESH, FIBRES, sigma), cell, pulse)
    return eqx.tree_at(lambda m: m.mesh.points, made, MESH.points + p["displacement"])


CONCRETE = jax.tree.map(np.asarray, theta())
SCHEME = Godunov().frozen(problem(CONCRETE), DT)


def run(p, t1=8.0, precision="float64", scheme=SCHEME, **options):
    made = problem(p)
    system = made.discretise()
    v = system.to_rows(-85.0 + p["initial"], precision)
    h = jnp.ones(NODES, precision)
    never = jnp.full(NODES, jnp.inf, precision)
    return solve(
        made,
        t1,
        dt=DT,
        scheme=scheme,
        observe={"activation": ActivationTime(-20.0), "v": Snapshots()},
        every=1.0,
        initial=Checkpoint(0, (v, h, never, jnp.ones(NODES, bool), jnp.asarray(True))),
        precision=precision,
        **options,
    )


def outcome(p, **options):
    """Mean activation time of the far face, and a little of the voltages at the end."""
    solution = run(p, **options)
    late = solution.observed["activation"][FAR].mean()
    weights = np.linspace(0.0, 1e-2, NODES)
    return late + jnp.vdot(weights, solution.frames["v"][-1])


value = jax.jit(outcome)
slope = jax.jit(jax.grad(outcome))


def directions(seed=0):
    """One random change for each of the things that a run depends on, of its own size."""
    random = np.random.default_rng(seed)
    size = {"tau_out": 1.0, "onset": 0.1, "amplitude": 5.0, "displacement": 0.05, "initial": 1.0}
    base = theta()
    for name, x in base.items():
        step = random.uniform(0.5, 1.0, x.shape) * size.get(name, 0.1 * np.abs(x))
        yield name, {k: jnp.asarray(step if k == name else 0.0 * v) for k, v in base.items()}


def moved(p, direction, h):
    return jax.tree.map(lambda x, d: x + h * d, p, direction)


def dot(a, b):
    return float(sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)))


def test_gradients_are_central_differences():
    found = slope(theta())
    for name, d in directions():
        h = 1e-4
        difference = float(value(moved(theta(), d, h)) - value(moved(theta(), d, -h))) / (2 * h)
        assert abs(difference) > 1e-4, name
        assert dot(found, d) == pytest.approx(difference, rel=1e-4), name


def test_gradients_in_single_precision():
    found = jax.jit(jax.grad(partial(outcome, precision="float32")))(theta())
    for name, d in directions():
        h = 1e-3
        difference = float(value(moved(theta(), d, h)) - value(moved(theta(), d, -h))) / (2 * h)
        assert dot(found, d) == pytest.approx(difference, rel=1e-2), name


def test_remainder_of_taylor_is_of_second_order():
    gradient, base = slope(theta()), float(value(theta()))
    for name, d in directions(1):
        steps = np.array([0.04, 0.02, 0.01, 0.005])
        rest = [
            abs(float(value(moved(theta(), d, h))) - base - h * dot(gradient, d)) for h in steps
        ]
        order = np.polyfit(np.log(steps), np.log(rest), 1)[0]
        assert order == pytest.approx(2.0, abs=0.1), (name, rest)


def test_forward_and_reverse_are_transposes():
    def all_results(p):
        solution = run(p)
        return solution.observed["activation"], solution.frames["v"]

    random = np.random.default_rng(4)
    u = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)) * 0.1, theta())
    results, pushed = jax.jit(lambda p, u: jax.jvp(all_results, (p,), (u,)))(theta(), u)
    w = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), results)
    (pulled,) = jax.jit(lambda p, w: jax.vjp(all_results, p)[1](w))(theta(), w)
    assert np.isfinite(dot(u, pulled))
    scale = np.sqrt(dot(pushed, pushed) * dot(w, w))
    assert abs(dot(pushed, w) - dot(u, pulled)) <= 1e-10 * scale


def everywhere(seed):
    """All changes at once."""
    return jax.tree.map(lambda *parts: sum(parts), *(d for _, d in directions(seed)))


@pytest.mark.parametrize(
    "scheme",
    [
        pytest.param(Strang(), marks=pytest.mark.slow),
        Godunov(ExplicitDiffusion()),
        Godunov(CorrectedDiffusion()),
        pytest.param(Strang(ionic_step="grl2"), marks=pytest.mark.slow),
    ],
)
def test_gradients_of_other_schemes(scheme):
    scheme = scheme.frozen(problem(CONCRETE), DT)
    forward = jax.jit(partial(outcome, scheme=scheme))
    found = jax.jit(jax.grad(partial(outcome, scheme=scheme)))(theta())
    d, h = everywhere(2), 1e-4
    ahead, back = (float(forward(moved(theta(), d, s))) for s in (h, -h))
    assert dot(found, d) == pytest.approx((ahead - back) / (2 * h), rel=1e-4)


CONVERGED = Godunov(ImplicitDiffusion(tolerance=1e-12))


def by_conductivity(sigma, scheme=None):
    made = problem({**CONCRETE, "displacement": np.zeros((NODES, 3)), "conductivity": sigma})
    solution = solve(made, 2.0, dt=DT, scheme=scheme or CONVERGED, precision="float64")
    return solution.final.leaves[0].mean()


def test_without_jit_the_bounds_come_from_the_values_themselves():
    # and no scheme has to be frozen beforehand
    sigma = theta()["conductivity"]
    found = jax.grad(by_conductivity)(sigma)
    scheme = CONVERGED.frozen(problem(CONCRETE), DT)
    frozen = jax.jit(jax.grad(partial(by_conductivity, scheme=scheme)))(sigma)
    # bounds that differ change the solve by its tolerance
    np.testing.assert_allclose(found, frozen, rtol=1e-7)


def test_traced_conductivities_need_a_frozen_scheme():
    base = theta()
    for scheme in (Godunov(), Strang(), Godunov(ExplicitDiffusion())):
        with pytest.raises(ValueError, match=r"traced by jax.jit.*\.frozen\(problem, dt\)"):
            jax.jit(lambda p, scheme=scheme: outcome(p, scheme=scheme))(base)
    with pytest.raises(ValueError, match=r"headroom is 0.5; give a factor of 1 or more"):
        Godunov().frozen(problem(CONCRETE), DT, headroom=0.5)


def test_a_frozen_scheme_covers_its_headroom():
    weaker, stronger = (
        problem({**CONCRETE, "conductivity": s * CONCRETE["conductivity"]}) for s in (0.05, 1.45)
    )
    middle = problem(CONCRETE)
    low, high = Godunov().frozen(middle, DT, headroom=1.5).diffusion.bounds
    for other, dt in ((weaker, DT), (stronger, DT), (stronger, DT / 5)):
        own = Godunov().frozen(other, dt, headroom=1.0).diffusion.bounds
        # Lanczos values are good to 1 %, and widened by 5 %
        assert low <= 1.01 * own[0]
        assert high >= 0.99 * own[1]


# stimulus edges


def late(onset):
    pulse = NodalStimulus(CORNER, onset, 80.0, 2.0)
    solution = solve(
        eqx.tree_at(lambda m: m.stimulus, problem(CONCRETE), pulse),
        10.0,
        dt=DT,
        scheme=SCHEME,
        observe={"a": ActivationTime(-20.0)},
        precision="float64",
    )
    return solution.observed["a"][FAR].mean()


def test_derivative_of_an_onset_shifts_everything():
    # a later onset is a later activation by as much: exactly so by whole steps, and within a step
    # but for what the grid of steps spoils; on a step the mean of both sides is taken
    both = jax.jit(jax.value_and_grad(late))
    (first, on_step), (second, _), (_, within) = both(1.0), both(1.0 + DT), both(1.02)
    # the smooth gate drifts a little at rest
    assert float(second - first) == pytest.approx(DT, abs=1e-4)
    assert float(on_step) == pytest.approx(1.0, abs=0.05)
    assert float(within) == pytest.approx(1.0, abs=0.05)


def test_mean_of_a_pulse_over_a_step():
    (pulse,) = NodalStimulus(
        [0], onset=0.3, amplitude=2.0, duration=0.5, period=10.0, count=2
    ).pulses(np.zeros((2, 3)))
    pulse = jax.tree.map(jnp.asarray, pulse)
    step = jnp.asarray(0.25)
    means = np.array([pulse.mean(k * step, step)[0] for k in range(60)])
    expected = np.zeros(60)
    expected[[1, 2, 3]] = expected[[41, 42, 43]] = 2.0 * np.array([0.8, 1.0, 0.2])
    np.testing.assert_allclose(means, expected, atol=1e-12)
    # edges on steps are exact in single precision too, however late
    for onset in (0.0, 700.05, 2999.95):
        (late,) = NodalStimulus([0], onset=onset, amplitude=2.0, duration=2.0).pulses(
            np.zeros((1, 3))
        )
        late = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), late)
        dt = jnp.float32(0.05)
        first = round(onset / 0.05)
        k = np.arange(max(first - 3, 0), first + 50)
        found = np.array([late.mean(jnp.float32(i) * dt, dt)[0] for i in k])
        np.testing.assert_array_equal(found, np.where((k >= first) & (k < first + 40), 2.0, 0.0))


def test_stimuli_take_traced_values():
    points = jnp.asarray(MESH.points)

    def energy(x):
        train = {"amplitude": x[0], "duration": x[1], "period": 10.0 * x[1], "count": 2}
        parts = (
            BoxStimulus(onset=x[2], **train)
            + NodalStimulus([0, 1], [x[2], 1.0], **train)
            + FocalStimulus([[0.0, 0.0, 0.0]], onset=[x[2]], **train)
        )
        return sum(jnp.sum(p.amplitude * (p.onset + p.duration)) for p in parts.pulses(points))

    x = jnp.array([2.0, 1.5, 0.5])
    found = jax.jit(jax.grad(energy))(x)
    h = 1e-6 * np.eye(3)
    expected = [(float(energy(x + e)) - float(energy(x - e))) / 2e-6 for e in h]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"duration is -1.0; give a positive number"):
        jax.grad(lambda d: NodalStimulus([0], duration=d).duration)(-1.0)


# nodes that are never activated


def test_nodes_that_are_never_activated_do_not_poison_a_gradient():
    def loss(p):
        times = run(p, t1=4.0).observed["activation"]
        reached = jnp.isfinite(times)
        return jnp.where(reached, times, 0.0).sum(), reached

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, reached), found = both(theta())
    assert 0 < reached.sum() < NODES
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    d, h = everywhere(5), 1e-4
    ahead, back = (float(both(moved(theta(), d, s))[0][0]) for s in (h, -h))
    assert dot(found, d) == pytest.approx((ahead - back) / (2 * h), rel=1e-4)


# batches


def test_batch_of_parameters_is_a_loop_and_shares_the_matrix():
    cases = jnp.array([0.25, 0.28, 0.3, 0.33, 0.36])
    concrete = problem(CONCRETE)

    def one(tau_in):
        made = eqx.tree_at(lambda m: m.cell.tau_in, concrete, tau_in)
        solution = solve(
            made,
            6.0,
            dt=DT,
            observe={"a": ActivationTime(-20.0)},
            quiet_dt=0.1,
            precision="float64",
        )
        times = solution.observed["a"]
        return jnp.where(jnp.isfinite(times), times, 0.0).mean()

    both = jax.value_and_grad(one)
    many = jax.jit(jax.vmap(both))
    values, slopes = many(cases)
    alone = jax.jit(both)
    for k, tau in enumerate(cases):
        expected = alone(tau)
        assert float(values[k]) == pytest.approx(float(expected[0]), rel=1e-12)
        assert float(slopes[k]) == pytest.approx(float(expected[1]), rel=1e-9)
    # rows of the matrix are there once, not once a case
    pattern = concrete.discretise().pattern
    shapes = set(_shapes(jax.make_jaxpr(jax.vmap(both))(cases).jaxpr))
    assert all(column.shape in shapes for column in pattern.columns)
    assert (len(cases), NODES) in shapes
    assert not any((len(cases), *column.shape) in shapes for column in pattern.columns)


def _shapes(jaxpr):
    for equation in jaxpr.eqns:
        for variable in (*equation.invars, *equation.outvars):
            yield tuple(getattr(variable.aval, "shape", ()))
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _shapes(inner)


def test_batch_of_conductivities():
    sigmas = theta()["conductivity"][None] * jnp.array([[0.9], [1.0], [1.15]])

    def one(sigma):
        return outcome({**theta(), "conductivity": sigma})

    together = jax.jit(jax.vmap(one))(sigmas)
    alone = [float(value({**theta(), "conductivity": sigma})) for sigma in sigmas]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert np.abs(np.diff(together)).min() > 0.01


# what is kept


def decay(plan, x, frames, steps):
    """A loop like that of a run: counts, and forgets what happens after the last frame."""

    def step(i, carry):
        return jnp.sin(carry) + 0.1 * i

    def frame(carry, k):
        def go(c):
            return plan.steps(step, c, steps, unroll=2)

        carry = jax.lax.cond(k < frames, go, lambda c: c, carry)
        return carry, carry

    last, kept = plan.frames(frame, x, frames)
    return last.sum() + (kept**2).sum()


@pytest.mark.parametrize(
    ("frames", "steps", "interval"),
    [(1, 12, None), (6, 4, None), (7, 1, None), (7, 2, 6), (2, 23, 5), (3, 8, 8), (4, 6, 100)],
)
def test_keeping_little_changes_nothing(frames, steps, interval):
    x = jnp.linspace(0.0, 1.0, 3)

    def both(adjoint):
        plan = adjoint.plan(frames, steps)
        return jax.jit(jax.value_and_grad(lambda x: decay(plan, x, frames, steps)))(x)

    for a, b in zip(both(Checkpointed(interval)), both(Stored()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_adjoints_agree_on_a_run_and_differ_in_memory():
    stored = jax.jit(jax.grad(partial(outcome, adjoint=Stored()))).lower(theta()).compile()
    kept = slope.lower(theta()).compile()
    for a, b in zip(*map(jax.tree.leaves, (stored(theta()), kept(theta()))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert temporary(stored) > 3.0 * temporary(kept)


def test_memory_grows_with_the_square_root_of_the_steps():
    long = jax.jit(jax.grad(partial(outcome, t1=128.0))).lower(theta()).compile()
    short = slope.lower(theta()).compile()
    # sixteen times the steps: four times the states, and the frames that are handed back
    frames = 120 * NODES * 8
    assert temporary(long) - 2 * frames < 5.0 * temporary(short)


@pytest.mark.parametrize(("frames", "steps"), [(16, 20), (4, 20), (150, 20), (9, 5), (30, 31)])
def test_no_more_states_are_kept_than_twice_the_root_of_the_steps(frames, steps):
    plan = Checkpointed().plan(frames, steps)
    if plan.group:  # states of groups of frames, then those of the steps of a group
        kept = frames / plan.group + plan.group * steps
    else:
        kept = frames * steps / plan.segment + plan.segment
    assert kept <= 3.0 * np.sqrt(frames * steps)


def temporary(program):
    return program.memory_analysis().temp_size_in_bytes


def test_bad_interval():
    with pytest.raises(ValueError, match="interval is 0; give 1 step or more"):
        Checkpointed(0)


def test_a_streaming_run_cannot_be_traced():
    with pytest.raises(ValueError, match="on_frame"):
        jax.grad(lambda p: outcome(p, on_frame=lambda frame: None))(theta())


# batches that are too large


def squares(case):
    """16 KB a case, and 80 KB that all cases share."""
    shared = jnp.arange(10_000.0)
    return jnp.cumsum(jnp.sin(case["x"] * jnp.arange(2_000.0)) + shared[0])


def test_ensemble_is_a_loop_whatever_the_size_of_its_batches():
    cases = {"x": np.linspace(0.0, 1.0, 7)}
    expected = np.stack([squares({"x": x}) for x in cases["x"]])
    for at_once in (None, 1, 3, 7):
        np.testing.assert_allclose(ensemble(squares, cases, at_once=at_once), expected, rtol=1e-12)


def test_a_batch_that_does_not_fit_says_what_does():
    cases = {"x": np.linspace(0.0, 1.0, 64)}
    memory = 0.5e6
    with pytest.raises(ValueError, match=r"A batch of 64 cases needs .* GiB a case") as error:
        ensemble(squares, cases, memory=memory)
    fits = int(re.search(r"(\d+) cases fit; give at_once=\1\.", str(error.value)).group(1))
    assert 1 <= fits < 64
    assert ensemble(squares, cases, at_once=fits, memory=memory).shape == (64, 2_000)
    with pytest.raises(ValueError, match="A batch of"):
        ensemble(squares, cases, at_once=fits + 3, memory=memory)
    with pytest.raises(ValueError, match="one case alone is too large"):
        ensemble(squares, cases, at_once=1, memory=1e4)


def test_bad_batches():
    with pytest.raises(ValueError, match=r"first axes of lengths \[\(2,\), \(3,\)\]"):
        ensemble(squares, {"x": np.zeros(2), "y": np.zeros(3)})
    with pytest.raises(ValueError, match="at least one case"):
        ensemble(squares, {"x": np.zeros(0)})
    with pytest.raises(ValueError, match="at_once is 5; give 1 to 2"):
        ensemble(squares, {"x": np.zeros(2)}, at_once=5)
