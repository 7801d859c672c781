"""Observables: crossings, repolarisation, probes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.propagation.observe import (
    ActivationTime,
    Probe,
    RepolarisationTime,
    Snapshots,
    crossing,
)


def fold(observable, voltages, dt=0.5, t0=0.0):
    """Run an observable over voltages [times, nodes]."""
    voltages = jnp.asarray(voltages, jnp.float64)
    carry = observable.init(voltages[0])
    for step in range(len(voltages) - 1):
        carry = observable.update(
            carry, voltages[step], voltages[step + 1], jnp.asarray(t0 + step * dt), jnp.asarray(dt)
        )
    return observable.result(carry)


def test_activation_is_exact_for_linear_ramps():
    # V = -85 + slope (t - start), so -20 mV is crossed at start + 65 / slope
    t = 0.5 * np.arange(41)
    slope = np.array([10.0, 13.7, 200.0, 5.0])
    start = np.array([0.0, 1.3, 2.0, 3.21])
    v = np.maximum(-85.0, -85.0 + slope * (t[:, None] - start))
    # the third ramp starts on a step and crosses within its first one
    expected = start + 65.0 / slope
    np.testing.assert_allclose(fold(ActivationTime(-20.0), v), expected, rtol=1e-13)


def test_activation_holds_the_first_crossing_only():
    v = np.array([[-85.0], [15.0], [-85.0], [15.0]])
    # 65 of 100 mV into the first step
    np.testing.assert_allclose(fold(ActivationTime(-20.0), v), [0.325], rtol=1e-14)


def test_nodes_that_do_not_cross_stay_at_infinity():
    v = np.array(
        [[-85.0, -10.0, -20.0, 5.0], [-20.1, -5.0, -10.0, -30.0], [-85.0, 9.0, 0.0, -85.0]]
    )
    # below, above all along, starting on the threshold, downwards only
    result = np.asarray(fold(ActivationTime(-20.0), v))
    assert np.all(np.isposinf(result))


def test_arriving_on_the_threshold_counts_at_the_end_of_the_step_and_once():
    v = np.array([[-40.0], [-20.0], [0.0]])
    np.testing.assert_allclose(fold(ActivationTime(-20.0), v), [0.5], rtol=1e-15)


def test_share_of_activated_nodes():
    observable = ActivationTime(-20.0)
    carry = jnp.array([1.0, jnp.inf, 3.0, jnp.inf])
    assert float(observable.frame(carry, carry, jnp.asarray(1.0))) == 0.5


def test_repolarisation_is_the_last_crossing():
    # up at 0.5, down through -70 at 1.0 + 0.5 * 0.7, up again, down again for good
    v = np.array([-85.0, 0.0, 0.0, -100.0, 0.0, -85.0])[:, None]
    result = fold(RepolarisationTime(-70.0), v)
    np.testing.assert_allclose(result, [2.0 + 0.5 * 70 / 85], rtol=1e-14)


def test_a_node_that_is_excited_again_has_not_repolarised():
    v = np.array([-85.0, 0.0, -100.0, 0.0])[:, None]
    assert np.isposinf(fold(RepolarisationTime(-70.0), v))[0]
    assert np.isfinite(fold(RepolarisationTime(-70.0), v[:3]))[0]


def test_node_that_never_leaves_rest_has_no_repolarisation():
    v = np.full((4, 2), -85.0)
    assert np.isposinf(fold(RepolarisationTime(-70.0), v)).all()


@pytest.mark.parametrize("precision", [jnp.float32, jnp.float64])
def test_times_have_the_precision_of_the_solve(precision):
    v = jnp.array([-85.0, 0.0], precision)
    for observable in (ActivationTime(-20.0), RepolarisationTime(-70.0)):
        carry = observable.init(v)
        time = observable.update(
            carry, v, v[::-1], jnp.asarray(1.0, precision), jnp.asarray(0.5, precision)
        )
        assert time.dtype == precision


def test_gradients_of_crossings_are_finite_and_right():
    # the second node does not move, the third one falls and never activates
    slope = jnp.array([130.0, 0.0, -10.0])

    def total(slope, threshold):
        old = jnp.full(3, -85.0)
        new = old + slope * 0.5
        observable = ActivationTime(threshold)
        time = observable.update(observable.init(old), old, new, jnp.asarray(1.0), jnp.asarray(0.5))
        return jnp.sum(jnp.where(jnp.isfinite(time), time, 0.0))

    assert float(total(slope, -21.0)) == pytest.approx(1.0 + 64 / 130)
    by_slope, by_threshold = jax.grad(total, argnums=(0, 1))(slope, -21.0)
    # t = 1 + 64 / slope for the first node
    np.testing.assert_allclose(by_slope, [-64 / 130**2, 0.0, 0.0], rtol=1e-12)
    assert float(by_threshold) == pytest.approx(1 / 130)


def test_crossing_of_a_node_that_does_not_move():
    v = jnp.array([-85.0])
    half = jnp.asarray(0.5)
    assert float(crossing(v, v, half, half, jnp.asarray(-20.0))[0]) == 0.5
    gradient = jax.grad(lambda v: crossing(v, v, half, half, jnp.asarray(-20.0))[0])(v)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("nodes", [[0, 5], [-1], [7, 2]])
def test_probe_of_a_node_that_is_not_there(nodes):
    with pytest.raises(ValueError, match=r"indices span .* but the mesh has nodes 0 to 4"):
        Probe(nodes).init(jnp.zeros(5))


def test_probe_and_snapshots():
    v = jnp.arange(5.0)
    probe = Probe([4, 0, 4])
    assert probe.init(v) is None
    np.testing.assert_array_equal(probe.frame(None, v, jnp.asarray(0.0)), [4.0, 0.0, 4.0])
    assert probe.result(None) is None
    np.testing.assert_array_equal(Snapshots().frame(None, v, jnp.asarray(0.0)), v)
