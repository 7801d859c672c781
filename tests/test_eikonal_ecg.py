"""ECGs of activation times: against a fine mesh, against known templates, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ecg import (
    EikonalECG,
    Electrodes,
    SigmoidAction,
    TabulatedAction,
    unbounded_lead_field,
)
from cardiotwin.ecg.eikonal_ecg import resolved_upstroke

PAIR = Electrodes(["a", "b"], [[60.0, 10.0, 5.0], [20.0, 50.0, 30.0]])
SIZE = (16.0, 8.0, 6.0)
TIMES = np.arange(-10.0, 50.0)
SPEED = 0.6  # mm/ms


def turning(mesh):
    """Fibres that turn by 120 degrees through the wall."""
    angle = np.deg2rad(60.0 - 20.0 * mesh.points[mesh.cells].mean(axis=1)[:, 2])
    fibre = np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=1)
    return 0.04 * np.eye(3) + 0.26 * fibre[:, :, None] * fibre[:, None, :]


def heart(edge, *, smoothing=0.25, action=None, dtype=np.float64):
    mesh = slab(SIZE, edge, pattern="bcc")
    field = unbounded_lead_field(mesh, turning(mesh), PAIR)
    return mesh, EikonalECG(mesh, field, action, smoothing=smoothing, dtype=dtype)


@pytest.fixture(scope="module")
def coarse():
    return heart(2.0)


def transmural(mesh):
    return mesh.points[:, 2] / SPEED


def test_smoothing_helps_a_front_thinner_than_an_element():
    thin = SigmoidAction(upstroke=1.0)
    mesh, fine = heart(0.6, smoothing=0.0, action=thin)
    exact = fine(TIMES, transmural(mesh))
    error = {}
    for share in (0.0, 0.25, 1.0):
        mesh, ecg = heart(2.0, smoothing=share, action=thin)
        found = ecg(TIMES, transmural(mesh))
        error[share] = float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact))
    assert error[0.25] < 0.8 * error[0.0]
    assert error[0.25] < error[1.0]
    assert error[0.25] < 0.08
    assert resolved_upstroke(mesh, transmural(mesh)) > 1.0


def test_spread_of_a_plane_wave(coarse):
    mesh, ecg = coarse
    for axis in range(3):
        spread = ecg.spread(jnp.asarray(mesh.points[:, axis] / SPEED))
        # the second moment of a hat function on a regular lattice is near to edge^2 / 10
        assert 0.15 < float(jnp.median(spread)) * SPEED / 2.0 < 0.6
    assert float(jnp.max(ecg.spread(jnp.full(len(mesh.points), 7.0)))) < 1e-5


def test_template_at_rest_and_on_the_plateau(coarse):
    mesh, ecg = coarse
    found = ecg(np.array([-500.0, 200.0, 900.0]), transmural(mesh), np.full(len(mesh.points), 300))
    np.testing.assert_allclose(found, 0.0, atol=1e-4)  # the same everywhere shows nowhere


def test_the_sum_is_the_lead_field_times_the_template(coarse):
    mesh, _ = coarse
    _, ecg = heart(2.0, smoothing=0.0)
    activation = transmural(mesh)
    since = TIMES[:, None] - activation
    scale = 2.0 / (2.0 * np.log(9.0))
    expected = 105.0 / (1.0 + np.exp(-since / scale)) @ np.asarray(ecg.field).T
    np.testing.assert_allclose(ecg(TIMES, activation), expected, atol=1e-9)


def test_a_table_gives_what_its_formula_gives(coarse):
    mesh, formula = coarse
    t_ms = np.arange(0.0, 500.0, 0.05)
    late = np.ones(1)
    sigmoid = SigmoidAction()(jnp.asarray(t_ms - 5.0)[:, None], 300.0 * late, 0.0 * late)[:, 0]
    table = TabulatedAction(t_ms, np.asarray(sigmoid) - 85.0, duration=300.0)
    _, ecg = heart(2.0, action=table)
    activation = transmural(mesh)
    duration = np.full(len(mesh.points), 300.0)
    times = np.arange(0.0, 400.0, 2.0)
    expected = formula(times, activation + 5.0, duration)
    found = ecg(times, activation, duration)
    assert float(jnp.abs(found - expected).max()) < 0.05 * float(jnp.ptp(expected))
    # a longer action potential repolarises later, and no earlier than the table says
    since = jnp.asarray([[50.0], [340.0]])
    early, long = (table(since, d * jnp.ones(1), jnp.zeros(1))[:, 0] for d in (300.0, 360.0))
    assert float(long[1]) > float(early[1]) + 50.0
    assert float(long[0]) == pytest.approx(float(early[0]), abs=0.1)
    flat = table(since, None, jnp.zeros(1))[:, 0]
    assert float(jnp.ptp(flat)) < 1e-6
    assert float(flat[0]) == pytest.approx(105.0, rel=0.02)


def test_gradients_in_times_and_durations(coarse):
    mesh, ecg = coarse
    rng = np.random.default_rng(1)
    activation, duration = transmural(mesh), rng.uniform(250.0, 300.0, len(mesh.points))
    way = rng.normal(0.0, 1.0, (2, len(mesh.points)))
    times = np.arange(0.0, 400.0, 10.0)
    target = rng.normal(0.0, 0.1, (len(times), 2))

    def loss(activation, duration):
        return jnp.sum((ecg(times, activation, duration) - target) ** 2)

    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(activation, duration)
    found = float(sum(jnp.sum(s * w) for s, w in zip(slopes, way, strict=True)))
    h = 1e-4
    ahead = loss(activation + h * way[0], duration + h * way[1])
    behind = loss(activation - h * way[0], duration - h * way[1])
    assert found == pytest.approx(float(ahead - behind) / (2 * h), rel=1e-5)


def test_a_batch_is_its_members_and_single_precision_is_enough(coarse):
    mesh, ecg = coarse
    starts = np.array([0.0, 3.0, 7.0, 1.0, 2.0])
    activations = transmural(mesh)[None] + starts[:, None]
    durations = np.full(activations.shape, 280.0)
    times = np.arange(0.0, 60.0, 2.0)
    batch = ecg.batch(times, activations, durations)
    assert batch.shape == (5, len(times), 2)
    np.testing.assert_allclose(batch[2], ecg(times, activations[2], durations[2]), atol=1e-12)
    _, single = heart(2.0, dtype=np.float32)
    assert single.field.dtype == np.float32
    rough = single.batch(times, activations)
    np.testing.assert_allclose(rough, ecg.batch(times, activations), atol=1e-4)


def test_bad_input(coarse):
    mesh, ecg = coarse
    with pytest.raises(ValueError, match="Compute the lead field on this mesh"):
        EikonalECG(mesh, np.zeros((2, 5)))
    with pytest.raises(ValueError, match="smoothing is 2"):
        EikonalECG(mesh, ecg.field, smoothing=2.0)
    with pytest.raises(ValueError, match="upstroke is -1"):
        SigmoidAction(upstroke=-1.0)
    with pytest.raises(ValueError, match="three or more"):
        TabulatedAction([0.0, 1.0], [0.0, 1.0], duration=20.0)
    with pytest.raises(ValueError, match="equal steps"):
        TabulatedAction([0.0, 1.0, 5.0], [0.0, 1.0, 0.0], duration=20.0)
    with pytest.raises(ValueError, match="duration is 400"):
        TabulatedAction(np.arange(300.0), np.zeros(300), duration=400.0)
