"""Exponentials and logarithms of the ionic step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiotwin.numerics.elementary import exp, log, phi1

jax.config.update("jax_enable_x64", True)
EPS = np.finfo(np.float64).eps


def relative_error(found, exact):
    return float(np.max(np.abs(np.asarray(found, np.longdouble) / exact - 1)))


def test_exponential_to_a_unit_in_the_last_place():
    x = np.concatenate([np.linspace(-707.9, 709.3, 200_001), np.geomspace(1e-300, 1.0, 1000)])
    assert relative_error(jax.jit(exp)(x), np.exp(x.astype(np.longdouble))) < EPS
    assert exp(jnp.float64(0)) == 1


def test_exponential_at_its_ends():
    x = jnp.array([-jnp.inf, -1e300, -709.0, jnp.inf, jnp.nan])
    low, lower, lowest, high, nothing = np.asarray(exp(x))
    assert low == lower == lowest == pytest.approx(math.exp(-708), rel=1e-12)
    assert high == pytest.approx(math.exp(709.4), rel=1e-12)
    assert np.isnan(nothing)


def test_logarithm_to_two_units_in_the_last_place():
    x = np.concatenate([np.geomspace(1e-307, 1e308, 200_001), np.linspace(0.5, 2.0, 10_001)])
    x = np.append(x, [math.sqrt(0.5), math.sqrt(2.0), np.nextafter(1, 0), np.nextafter(1, 2)])
    x = x[x != 1]
    assert relative_error(jax.jit(log)(x), np.log(x.astype(np.longdouble))) < 2 * EPS
    assert log(jnp.float64(1)) == 0


def test_logarithm_where_there_is_none():
    found = np.asarray(log(jnp.array([0.0, -1.0, jnp.nan])))
    assert found[0] == -np.inf
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("function", [exp, log])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])
def test_other_types_are_left_to_jax(function, dtype):
    x = jnp.asarray([0.1, 1.0, 7.5], dtype)
    assert function(x).dtype == dtype
    np.testing.assert_array_equal(function(x), getattr(jnp, function.__name__)(x))


@pytest.mark.parametrize("function", [exp, log])
def test_a_python_number_takes_the_type_of_what_it_meets(function):
    assert (function(2.5) * jnp.float32(1)).dtype == jnp.float32
    weak = jnp.asarray(2.5)
    assert weak.weak_type
    assert (function(weak) * jnp.float32(1)).dtype == jnp.float32


@pytest.mark.parametrize(("function", "known"), [(exp, jnp.exp), (log, jnp.log)])
def test_derivatives(function, known):
    x = jnp.asarray(np.geomspace(1e-3, 5.0, 30))

    def nest(f):
        return jax.vmap(jax.grad(jax.grad(f)))(x), jax.vmap(jax.jacfwd(f))(x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), nest(function), nest(known)
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 3e-7), (jnp.float64, 4e-15)])
def test_phi1_value_and_derivative(dtype, tolerance):
    z = np.concatenate([[0.0], *(s * np.geomspace(1e-12, 30.0, 400) for s in (-1, 1))])
    z = np.append(z, [-0.5, 0.5, np.nextafter(0.5, 1), -300.0]).astype(dtype)
    wide = z.astype(np.longdouble)
    near = np.abs(wide) < 1
    safe, small = np.where(wide == 0, 1, wide), np.where(near, wide, 0)
    value = np.where(wide == 0, 1, np.expm1(safe) / safe)
    series = sum(k * small ** (k - 1) / math.factorial(k + 1) for k in range(1, 25))
    slope = np.where(near, series, ((safe - 1) * np.exp(safe) + 1) / safe**2)
    np.testing.assert_allclose(phi1(z), value, rtol=tolerance)
    derivative = jax.jit(jax.vmap(jax.grad(phi1)))(z)
    assert derivative.dtype == dtype
    np.testing.assert_allclose(derivative, slope, rtol=20 * tolerance)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_phi1_far_out(dtype):
    z = jnp.asarray([-1e6, -500.0, -100.0, jnp.nan], dtype)
    found = np.asarray(phi1(z))
    np.testing.assert_allclose(found[:3], -1 / np.asarray(z)[:3], rtol=1e-6)
    assert np.isnan(found[3])


def test_second_derivative_of_phi1():
    z = jnp.asarray([-3.0, -0.7, -0.2, 0.0, 0.3, 2.0])
    # phi1'' = (e^z (z^2 - 2 z + 2) - 2) / z^3, sum of k (k - 1) z^(k-2) / (k + 1)! near 0
    terms = (k * (k - 1) / math.factorial(k + 1) * z ** (k - 2.0) for k in range(2, 40))
    exact = sum(terms)
    np.testing.assert_allclose(jax.vmap(jax.grad(jax.grad(phi1)))(z), exact, rtol=1e-11)
