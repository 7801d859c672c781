"""Calibration: priors, what may move, losses, descents, and how sure an answer is.

Most of it is held to a model that is linear in its parameters, whose posterior is known exactly.
"""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
from cardiotwin.ecg.eikonal_ecg import EikonalECG
from cardiotwin.ecg.leadfield import unbounded_lead_field
from cardiotwin.ecg.leads import LEAD_NAMES, twelve_leads
from cardiotwin.ecg.thorax import place_electrodes
from cardiotwin.inference import (
    Correlation,
    EikonalBeat,
    Free,
    InDisc,
    LogNormal,
    Method,
    Noise,
    Normal,
    Objective,
    SoftDTW,
    Uniform,
    Unknowns,
    Wasserstein,
    Waveform,
    calibrate,
    calibrate_qrs,
    ensemble,
    first_order,
    information,
    laplace,
    least_squares,
    nuts,
)
from cardiotwin.inference.losses import amplitude
from cardiotwin.inference.objective import jacobian, slopes
from cardiotwin.inference.optimise import screen, spread_out
from cardiotwin.inference.qrs import with_places
from cardiotwin.inference.roots import CANDIDATES, with_roots
from cardiotwin.inference.search import endocardial_candidates, search_roots, travel_times
from cardiotwin.inference.uncertainty import (
    field_spread,
    most_ambiguous,
    null_field,
)
from cardiotwin.tissue.places import VentricularSite
from cardiotwin.twin import Anatomy, FastEndocardium, Myocardium, RuleBasedFibres
from cardiotwin.twin.eikonal import EikonalHeart

TIMES = np.arange(0.0, 60.0, 2.0)
NAMES = ("V1", "V2", "V3")
BASIS = np.stack(
    [
        np.exp(-0.5 * ((TIMES[:, None] - centre - shift) / 6.0) ** 2) * [1.0, 0.5, -0.7]
        for centre, shift in ((15.0, 0.0), (25.0, 3.0), (40.0, -2.0))
    ],
    axis=2,
)
TRUTH = np.array([0.8, -0.5, 0.6])


class Linear(eqx.Module):
    """An ECG that is linear in its strengths; the fourth does nothing."""

    strength: jax.Array
    idle: jax.Array

    def __call__(self):
        return jnp.asarray(BASIS) @ self.strength


class Shifted(eqx.Module):
    """A deflection that moves in time; not a number where it would begin before zero."""

    when: jax.Array

    def __call__(self):
        wave = jnp.exp(-0.5 * ((TIMES[:, None] - self.when) / 5.0) ** 2)
        return jnp.where(self.when > 0.0, wave, jnp.nan) * jnp.array([[1.0, -0.5, 0.3]])


NOISE = Noise(0.02, 0.05)
FREE = (
    Free("strength", lambda m: m.strength, Normal(0.0, 1.0), unit="mV"),
    Free("idle", lambda m: m.idle, Normal(2.0, 0.5)),
)


@pytest.fixture(scope="module")
def linear():
    """A model, its recorded ECG and the objective."""
    model = Linear(jnp.zeros(3), jnp.asarray(2.0))
    clean = BASIS @ TRUTH
    observed = clean + NOISE.sample(TIMES, 0.4, len(NAMES), seed=1)
    loss = Waveform(TIMES, observed, NAMES, noise=NOISE, gain="none")
    return model, observed, Objective(model, Unknowns(model, FREE), loss)


def exact(objective):
    """Mean and covariance of the posterior of a linear model, by plain linear algebra."""
    here = jnp.zeros(objective.unknowns.size)
    slope, residual = np.asarray(jacobian(objective, here)), np.asarray(objective.residual(here))
    covariance = np.linalg.inv(slope.T @ slope)
    return -covariance @ slope.T @ residual, covariance


@pytest.mark.parametrize(
    ("prior", "values"),
    [
        (Normal(1.0, 2.0), [-3.0, 1.0, 7.0]),
        (LogNormal(0.6, 0.2), [0.3, 0.6, 1.1]),
        (Uniform(0.0, 40.0), [0.5, 20.0, 39.0]),
        (InDisc(0.9), [[0.0, 0.0], [0.4, -0.2], [0.1, 0.85]]),
    ],
)
def test_priors_go_there_and_back_and_have_their_distribution(prior, values):
    values = np.array(values)
    np.testing.assert_allclose(prior.value(jnp.asarray(prior.latent(values))), values, atol=1e-7)
    slope = jax.grad(lambda z: jnp.sum(prior.value(z)))(jnp.zeros(2))
    assert np.isfinite(slope).all()
    drawn = jnp.asarray(np.random.default_rng(0).standard_normal((40_000, 2)))
    found = np.asarray(prior.value(drawn))
    if isinstance(prior, InDisc):
        share = (np.linalg.norm(found, axis=1) / prior.radius) ** 2  # uniform in area
        np.testing.assert_allclose(np.quantile(share, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    elif isinstance(prior, Uniform):
        np.testing.assert_allclose(np.quantile(found, [0.1, 0.9]), [4.0, 36.0], atol=0.5)
    else:
        middle = prior.mean if isinstance(prior, Normal) else prior.median
        assert np.median(found) == pytest.approx(float(middle), rel=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0.0, 0.0), "sd"),
        (lambda: LogNormal(-1.0, 0.1), "median"),
        (lambda: Uniform(3.0, 1.0), "rising"),
        (lambda: InDisc(1.5), "radius"),
        (lambda: LogNormal(1.0, 0.1).latent(np.array(-2.0)), "positive"),
        (lambda: Uniform(0.0, 1.0).latent(np.array(2.0)), "outside"),
        (lambda: InDisc(0.5).latent(np.array([0.6, 0.0])), "above"),
        (lambda: Noise(sd=0.0), "positive"),
    ],
)
def test_priors_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_are_tied_scaled_and_chosen():
    model = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.asarray(0.5), "c": jnp.asarray(0.25)}
    free = [
        Free("part", lambda m: m["a"], Normal(0.0, 1.0), index=[0, 2]),
        Free("tied", lambda m: (m["b"], m["c"]), LogNormal(1.0, 0.1), factor=True, unit="m/s"),
    ]
    unknowns = Unknowns(model, free)
    assert unknowns.labels == ["part 1", "part 2", "tied"]
    assert unknowns.units == ["", "", "m/s"]
    latent = unknowns.latent({"part": [5.0, 6.0], "tied": 2.0})
    put = unknowns.put(model, jnp.asarray(latent))
    np.testing.assert_allclose(put["a"], [5.0, 2.0, 6.0])
    assert (float(put["b"]), float(put["c"])) == pytest.approx((1.0, 0.5))
    np.testing.assert_allclose(unknowns.start(model), [1.0, 3.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("free", "message"),
    [
        ([], "at least one"),
        ([Free("x", lambda m: m["z"], Normal(0.0, 1.0))], "not in the model"),
        ([Free("x", lambda m: m["name"], Normal(0.0, 1.0))], "no real numbers"),
        ([Free("x", lambda m: (m["a"], m["b"]), Normal(0.0, 1.0))], "shapes"),
        ([Free("x", lambda m: m["b"], Normal(0.0, 1.0))] * 2, "twice"),
    ],
)
def test_parameters_that_lead_nowhere_are_refused(free, message):
    model = {"a": jnp.zeros(3), "b": jnp.asarray(0.0), "name": "heart"}
    with pytest.raises(ValueError, match=message):
        Unknowns(model, free)


def wave(shift, gain=1.0):
    first = np.exp(-0.5 * ((TIMES[:, None] - 25.0 - shift) / 5.0) ** 2)
    return jnp.asarray(gain * (first - 0.4 * np.roll(first, 5, axis=0)) * [1.0, 0.5, -0.7])


@pytest.mark.parametrize(
    "make",
    [
        lambda o: Waveform(TIMES, o, NAMES),
        Correlation,
        lambda o: Wasserstein(TIMES, o, NAMES),
        SoftDTW,
    ],
)
def test_losses_are_least_at_the_recording_and_grow_with_a_shift(make):
    loss = make(np.asarray(wave(0.0)))
    costs = [float(loss(wave(shift))) for shift in (0.0, 2.0, 4.0, 8.0)]
    assert costs[0] < 0.05 * costs[1]
    assert costs == sorted(costs)
    assert np.isfinite(jax.grad(loss)(wave(2.0))).all()


def test_wasserstein_still_grows_where_voltages_have_nothing_in_common():
    far, farther = (
        [float(loss(wave(shift))) for shift in (14.0, 20.0)]
        for loss in (Wasserstein(TIMES, wave(0.0), NAMES), Correlation(np.asarray(wave(0.0))))
    )
    assert far[1] > 1.3 * far[0]
    assert farther[1] < 1.3 * farther[0]


@pytest.mark.parametrize("gain", ["none", "global", "groups", "leads"])
def test_gain_makes_up_for_amplitude_and_never_turns_a_lead_round(gain):
    observed = np.asarray(wave(0.0))
    loss = Waveform(TIMES, observed, NAMES, gain=gain)
    scaled = float(loss(wave(0.0, 0.5)))
    assert (scaled < 1.0) == (gain != "none")
    upside_down = loss.gains(wave(0.0, -1.0))
    assert (np.asarray(upside_down) > 0.0).all()
    if gain != "none":
        np.testing.assert_allclose(loss.gains(wave(0.0, 0.5)), 2.0, rtol=0.01)


def test_chest_and_limb_leads_have_gains_of_their_own():
    names = ("I", "II", "III", "V1", "V2")
    observed = np.repeat(np.asarray(wave(0.0))[:, :1], 5, axis=1)
    simulated = jnp.asarray(observed / np.array([2.0, 2.0, 2.0, 0.5, 0.5]))
    loss = Waveform(TIMES, observed, names, gain="groups")
    np.testing.assert_allclose(loss.gains(simulated), [2.0, 2.0, 2.0, 0.5, 0.5], rtol=0.01)
    assert float(loss(simulated)) < 0.01 * float(Waveform(TIMES, observed, names)(simulated))


def test_limb_leads_that_follow_from_others_are_not_counted_twice():
    names = ("I", "II", "III", "aVR", "aVL", "aVF", "V1")
    observed = np.tile(np.asarray(wave(0.0))[:, :1], (1, 7))
    loss = Waveform(TIMES, observed, names)
    assert len(loss.residual(jnp.asarray(observed))) == 3 * len(TIMES)


def test_whitened_noise_is_white():
    drawn = NOISE.sample(TIMES, 0.8, 4000, seed=0)
    white = NOISE.whitener(TIMES, 0.8) @ drawn
    covariance = white @ white.T / drawn.shape[1]
    np.testing.assert_allclose(covariance, np.eye(len(TIMES)), atol=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, o: (t, o[:, :2]), "a name a lead"),
        (lambda t, o: (t, 0.0 * o), "flat"),
        (lambda t, o: (t, np.where(o > 0.3, np.nan, o)), "finite"),
        (lambda t, o: (t**1.1, o), "equal steps"),
    ],
)
def test_recordings_that_cannot_be_fitted_are_refused(change, message):
    times, observed = change(TIMES, np.asarray(wave(0.0)))
    with pytest.raises(ValueError, match=message):
        Waveform(times, observed, NAMES)


def test_descents_find_the_exact_minimum(linear):
    _, _, objective = linear
    mean, _ = exact(objective)
    found = least_squares(objective, np.ones((2, 4)), at_once=2, tolerance=1e-8)
    assert found.converged.all()
    np.testing.assert_allclose(found.latents, [mean, mean], atol=1e-6)
    downhill = first_order(objective, np.zeros(4), steps=300, rate=0.05)
    np.testing.assert_allclose(downhill.latents[0], mean, atol=0.02)


def test_gradient_agrees_with_differences_and_jacobian(linear):
    _, _, objective = linear
    here = jnp.asarray(np.random.default_rng(2).standard_normal(4))
    cost, gradient = slopes(objective, here)
    forward = jacobian(objective, here).T @ objective.residual(here)
    np.testing.assert_allclose(gradient, forward, rtol=1e-9)
    for k in range(4):
        step = 1e-5 * jnp.eye(4)[k]
        slope = (objective.cost(here + step) - objective.cost(here - step)) / 2e-5
        assert float(gradient[k]) == pytest.approx(float(slope), rel=1e-4)
    assert float(cost) == pytest.approx(float(objective.cost(here)))


def test_laplace_is_exact_for_a_linear_model(linear):
    _, _, objective = linear
    mean, covariance = exact(objective)
    found = information(objective, mean)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-10)
    assert found.told() == 3
    assert found.shrinkage()[3] == pytest.approx(1.0)  # nothing is told of what does nothing
    drawn = laplace(objective, mean, draws=20_000)
    np.testing.assert_allclose(np.cov(drawn.latents.T), covariance, atol=0.02)
    low, high = drawn.interval()
    assert (low[:3] < TRUTH).all()
    assert (high[:3] > TRUTH).all()
    # the evidence against the integral over the prior of the likelihood, by sampling around it
    weight = (
        np.random.default_rng(0).standard_normal((20_000, 4))
        @ np.linalg.cholesky(1.5 * covariance).T
    )
    inverse = np.linalg.inv(1.5 * covariance)
    log_q = -0.5 * np.einsum("di,ij,dj->d", weight, inverse, weight)
    log_q += 0.5 * np.linalg.slogdet(inverse)[1]
    log_p = -np.asarray(jax.vmap(objective.cost)(jnp.asarray(mean + weight)))
    integral = np.log(np.mean(np.exp(log_p - log_q - (log_p - log_q).max())))
    assert found.log_evidence == pytest.approx(integral + (log_p - log_q).max(), abs=0.05)


def test_ensemble_draws_the_posterior_of_a_linear_model(linear):
    _, _, objective = linear
    mean, covariance = exact(objective)
    drawn, found = ensemble(objective, mean[None], members=300, at_once=50, tolerance=1e-6)
    assert drawn.diagnostics == {"members": 300, "lost": 0}
    assert found.evaluations > 0
    np.testing.assert_allclose(drawn.latents.mean(axis=0), mean, atol=4 * np.sqrt(1 / 300))
    np.testing.assert_allclose(drawn.latents.std(axis=0), np.sqrt(np.diag(covariance)), rtol=0.15)


def test_nuts_draws_the_posterior_of_a_linear_model(linear):
    _, _, objective = linear
    mean, covariance = exact(objective)
    starts = laplace(objective, mean, draws=2).latents
    drawn = nuts(objective, starts, known=information(objective, mean), warmup=150, draws=400)
    assert drawn.diagnostics["r_hat"] < 1.02
    assert drawn.diagnostics["divergent"] < 0.01
    np.testing.assert_allclose(drawn.latents.std(axis=0), np.sqrt(np.diag(covariance)), rtol=0.2)
    with pytest.raises(ValueError, match="two chains"):
        nuts(objective, starts[:1])


def test_calibration_finds_the_truth_and_says_what_it_cannot_tell(linear):
    model, observed, _ = linear
    loss = Waveform(TIMES, observed, NAMES, noise=NOISE, gain="none")
    found = calibrate(model, TIMES, observed, NAMES, FREE, loss=loss, method=Method(screened=20))
    np.testing.assert_allclose(found.values()["strength"], TRUTH, atol=0.1)
    assert found.correlation() > 0.98
    assert min(found.lead_correlations().values()) > 0.95
    assert found.warnings == ()
    assert float(found.model.idle) == pytest.approx(2.0)
    spread = field_spread(
        found.objective,
        laplace(found.objective, found.latent, draws=50).latents,
        lambda m: jnp.stack([m.strength[0], m.idle]),
    )
    assert spread.sd[0] < 0.1 < spread.sd[1]
    blind = null_field(
        found.objective,
        found.latent,
        found.information,
        lambda m: jnp.stack([m.strength[0], m.idle]),
    )
    np.testing.assert_allclose(blind, [0.0, 0.5], atol=1e-6)


def test_a_stopped_calibration_goes_on_and_another_problem_is_refused(linear, tmp_path):
    model, observed, _ = linear
    loss = Waveform(TIMES, observed, NAMES, noise=NOISE, gain="none")
    method = Method(screened=10, starts=3)
    whole = calibrate(model, TIMES, observed, NAMES, FREE, loss=loss, method=method)

    class Stopped(Exception):
        pass

    def stop(entry):
        if entry.get("start") == 1:
            raise Stopped

    how = {"loss": loss, "method": method, "folder": tmp_path}
    with pytest.raises(Stopped):
        calibrate(model, TIMES, observed, NAMES, FREE, log=stop, **how)
    seen = []
    again = calibrate(model, TIMES, observed, NAMES, FREE, resume=True, log=seen.append, **how)
    assert {entry.get("start") for entry in seen} == {1, 2}  # the first was kept
    np.testing.assert_array_equal(again.minima.latents, whole.minima.latents)
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) > len(seen)
    with pytest.raises(ValueError, match="another problem"):
        calibrate(model, TIMES, 1.1 * observed, NAMES, FREE, resume=True, folder=tmp_path)


def test_evaluations_that_are_not_numbers_do_not_end_a_fit():
    observed = np.asarray(Shifted(jnp.asarray(12.0))())
    free = [Free("when", lambda m: m.when, Normal(30.0, 20.0), unit="ms")]
    model = Shifted(jnp.asarray(30.0))
    assert not np.isfinite(Shifted(jnp.asarray(-3.0))()).any()
    found = calibrate(model, TIMES, observed, NAMES, free, method=Method(screened=60, starts=2))
    assert float(found.model.when) == pytest.approx(12.0, abs=0.5)
    never = Unknowns(model, [Free("when", lambda m: m.when, Normal(-50.0, 1.0))])
    hopeless = Objective(model, never, found.objective.loss)
    with pytest.raises(ValueError, match="none of 3 draws"):
        screen(hopeless, 3)


def test_a_hopeless_fit_is_told():
    observed = np.random.default_rng(0).standard_normal((len(TIMES), 3))  # noise, no ECG
    free = [Free("when", lambda m: m.when, Normal(30.0, 10.0))]
    found = calibrate(
        Shifted(jnp.asarray(30.0)), TIMES, observed, NAMES, free, method=Method(screened=5)
    )
    assert any("not to be used" in message for message in found.warnings)


def test_shapes_that_differ_are_refused_at_once(linear):
    model, observed, _ = linear
    with pytest.raises(ValueError, match="sample the model"):
        calibrate(model, TIMES[:-1], observed[:-1], NAMES, FREE)


def test_two_maps_with_one_ecg_are_found():
    random = np.random.default_rng(0)
    ecgs = np.repeat(random.standard_normal((1, 40, 3)), 4, axis=0)
    ecgs += 1e-3 * random.standard_normal(ecgs.shape)
    ecgs[3] = random.standard_normal((40, 3))
    maps = np.array([[0.0, 0.0], [1.0, 1.0], [20.0, 10.0], [90.0, 0.0]])
    pair = most_ambiguous(ecgs, maps)
    assert {pair.first, pair.second} == {0, 2}
    assert pair.correlation > 0.99
    assert pair.rmse == pytest.approx(np.sqrt(250.0))
    assert most_ambiguous(ecgs[[0, 1, 3]], maps[[0, 1, 3]]) is None


def test_starts_lie_apart():
    latents = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 1.0], [0.0, 0.05]])
    np.testing.assert_array_equal(spread_out(latents, 2), latents[[0, 2]])
    assert len(spread_out(latents, 3)) == 3


@pytest.fixture(scope="module")
def small_beat():
    """A small heart of 1,700 nodes with three root nodes, in two electrodes of an open space."""
    k = 0.5
    shape = BiventricleShape(
        (25.0 * k, 25.0 * k, 65.0 * k), 7.0, (30.0 * k, 41.0 * k, 56.0 * k), 30.0 * k, 4.5, 17.0 * k
    )
    anatomy = Anatomy(biventricle(3.5, shape=shape))
    fibres = RuleBasedFibres().on(anatomy)
    layers = Myocardium(endocardium=FastEndocardium(velocity=1.2)).layers(anatomy)
    heart = EikonalHeart.of(anatomy, fibres, layers, CANDIDATES[:3]).astype(jnp.float32)
    electrodes = place_electrodes(anatomy.mesh)
    axis = np.asarray(fibres.fibre)
    sigma = 0.04 * np.eye(3) + 0.26 * axis[:, :, None] * axis[:, None, :]
    field = np.asarray(unbounded_lead_field(anatomy.mesh, sigma, electrodes))
    leads = np.asarray(twelve_leads(field.T, electrodes.names)).T
    times = jnp.arange(-4.0, 60.0, 2.0, dtype=jnp.float32)
    return EikonalBeat(heart, EikonalECG(anatomy.mesh, leads), jnp.float32(0.0), None, times)


@pytest.fixture(scope="module")
def searched(small_beat):
    """Candidates, travel times, and the ECG of two of them with slower velocities."""
    candidates = endocardial_candidates(24)
    travel = travel_times(small_beat, candidates)
    times = jnp.minimum(travel[3] / 0.8 + 6.0, travel[17] / 0.8)
    observed = np.asarray(small_beat.ecg(small_beat.t_ms, times), float)
    return candidates, travel, observed


def test_travel_times_are_those_of_one_root_node(small_beat, searched):
    candidates, travel, _ = searched
    one = jax.tree.map(lambda x: x[4:5], candidates)
    np.testing.assert_allclose(with_places(small_beat, one).activation(), travel[4], atol=1e-3)


def test_search_finds_the_root_nodes_and_the_speed_among_candidates(small_beat, searched):
    candidates, travel, observed = searched
    t_ms = np.asarray(small_beat.t_ms, float)
    loss = Waveform(t_ms, observed, LEAD_NAMES).softened(0.3, 10.0)
    how = {"candidates": candidates, "travel": travel, "onsets": (0.0, 6.0), "speeds": (0.8, 1.0)}
    found = search_roots(small_beat, loss, 2, attempts=4, **how)
    best = found.places[0]
    assert found.costs[0] < 0.05  # rounding of float32; one place off costs tens
    assert found.speeds[0] == 0.8
    np.testing.assert_allclose(best.disc, candidates.disc[jnp.array([3, 17])])
    np.testing.assert_allclose(best.onset, [6.0, 0.0])
    assert list(found.costs) == sorted(found.costs)
    with pytest.raises(ValueError, match="among 24"):
        search_roots(small_beat, loss, 25, **how)


@pytest.mark.slow
def test_a_qrs_complex_gives_back_its_map(small_beat, tmp_path):
    """Truth off the candidates, with noise and model error; evidence chooses two root nodes."""
    sites = [
        VentricularSite("lv", 0.5, 20.0, onset=3.0),
        VentricularSite("rv", 0.4, 150.0, onset=8.0),
    ]
    truth = with_roots(small_beat, sites)
    clean = np.asarray(truth(), float)
    t_ms, noise = np.asarray(small_beat.t_ms, float), Noise(0.01, 0.03)
    observed = clean + noise.sample(t_ms, amplitude(clean), 12, seed=1)
    how = {"counts": (1, 2, 3), "noise": noise, "folder": tmp_path}
    found = calibrate_qrs(small_beat, t_ms, observed, LEAD_NAMES, **how)
    assert found.best.correlation() > 0.97
    assert len(found.best.model.roots.onset) in (2, 3)
    assert found.log_evidence[1] < -10.0
    exact = np.asarray(truth.activation(), float)
    error = np.asarray(found.best.model.activation(), float) - exact
    assert np.sqrt(np.mean(error**2)) < 6.0
    again = calibrate_qrs(small_beat, t_ms, observed, LEAD_NAMES, resume=True, **how)
    np.testing.assert_array_equal(again.best.latent, found.best.latent)
