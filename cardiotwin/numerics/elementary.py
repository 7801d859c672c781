"""Exponentials and logarithms for the ionic step, which spends most of its time in them.

XLA's own in float64 cost several times more on a CPU than its arithmetic explains. Here the
argument is reduced by a multiple of ln 2, as everywhere, the rest is a polynomial of the lowest
degree that does (interpolation at Chebyshev points), and the power of two is put in through the
bits. `phi1` falls out of the same reduction without cancellation and without a second branch.
Values hold to one unit in the last place, those of `log` to one and a half.
"""

import math
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float


class _Format(NamedTuple):
    """Of a float type: what the reduction needs to know, and the polynomial."""

    integer: Any
    mantissa: int  # bits stored
    bias: int  # of the exponent
    low: float  # arguments below count as this one: its exponential is the smallest normal one
    high: float  # and above as this
    ln2: tuple[float, float]  # a part with trailing zeros, so that multiples are exact, and a rest
    cubic: tuple[float, ...]  # (exp(r) - 1 - r - r^2/2) / r^3 for |r| <= ln(2)/2


_FLOAT32 = _Format(
    jnp.int32, 23, 127, -87.0, 88.3, (0.693359375, -2.12194440e-4),
    (0.16666630825172435, 0.0416666218797458, 0.008357200153226002, 0.001391871370322494),
)  # fmt: skip
_FLOAT64 = _Format(
    jnp.int64, 52, 1023, -708.0, 709.4, (0.6931471803691238, 1.9082149292705877e-10),
    (
        0.16666666666666666, 0.041666666666651364, 0.008333333333332157, 0.0013888888905871355,
        0.00019841269854330778, 2.4801536409043718e-05, 2.755728008266902e-06,
        2.761379556582631e-07, 2.5095545990395195e-08,
    ),
)  # fmt: skip
# (2 atanh(s)/s - 2) / s^2 as a polynomial in s^2, for |s| <= (sqrt(2) - 1)/(sqrt(2) + 1)
_LOG = (
    0.6666666666666666, 0.4000000000000088, 0.2857142857080361, 0.22222222391714783,
    0.18181795640040438, 0.15386239707844115, 0.1326877300396345, 0.13086627556452163,
)  # fmt: skip
_ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)


def exp(x: Float[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
    """E to the x; above 709.5 as there, below -708 as there, in float64. Others are JAX's own."""
    return _exp64(x) if _is_float64(x) else jnp.exp(x)


def log(x: Float[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
    """Natural logarithm of positive normal numbers in float64. Others are JAX's own."""
    return _log64(x) if _is_float64(x) else jnp.log(x)


@jax.custom_jvp
def phi1(z: Float[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
    """(exp(z) - 1) / z, with its limit 1 at z = 0, to rounding error as its derivatives are."""
    z = jnp.asarray(z)
    z = z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(jnp.zeros(0).dtype)
    r, multiple, power = _reduced(z)
    rest = _relative(r)
    at_zero = multiple == 0.0
    # exp(z) - 1 = (2^k - 1) + 2^k (exp(r) - 1), and neither part cancels the other
    away = ((power - 1.0) + power * (r * rest)) / jnp.where(at_zero, 1.0, z)
    return jnp.where(at_zero, rest, away)


@phi1.defjvp
def _phi1_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    value = phi1(z)
    return value, _phi1_slope(z, value) * dz


def _phi1_slope(z: Array, value: Array) -> Array:
    """Derivative of phi1, (exp(z) - phi1(z)) / z; a Taylor series where that cancels."""
    small = jnp.abs(z) < 0.5
    away = jnp.where(small, 1.0, z)  # the branch not taken must stay finite, also in derivatives
    near = jnp.where(small, z, 0.0)
    terms = 9 if z.dtype.itemsize <= 4 else 15
    series = _horner([k / math.factorial(k + 1) for k in range(1, terms)], near)
    return jnp.where(small, series, (exp(away) - value) / away)


@jax.custom_jvp
def _exp64(x: Array) -> Array:
    r, _, power = _reduced(x)
    return power + power * (r * _relative(r))


@_exp64.defjvp
def _exp64_jvp(primals, tangents):
    value = _exp64(*primals)
    return value, value * tangents[0]


@jax.custom_jvp
def _log64(x: Array) -> Array:
    bits = lax.bitcast_convert_type(x, jnp.uint64)
    above = bits - jnp.uint64(_ROOT_HALF) + (jnp.uint64(1024) << jnp.uint64(52))
    power = above >> jnp.uint64(52)  # x = 2^(power - 1024) m, m from sqrt(1/2) to sqrt(2)
    m = lax.bitcast_convert_type(bits - ((power - jnp.uint64(1024)) << jnp.uint64(52)), jnp.float64)
    # a whole number written into the mantissa of 2^52, which spares the slow conversion
    shifted = lax.bitcast_convert_type(power | jnp.uint64(0x4330000000000000), jnp.float64)
    multiple = shifted - (2.0**52 + 1024.0)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    high, low = _FLOAT64.ln2
    value = multiple * high + (s * (2.0 + square * _horner(_LOG, square)) + multiple * low)
    return jnp.where(x > 0.0, value, jnp.where(x == 0.0, -jnp.inf, jnp.nan))


@_log64.defjvp
def _log64_jvp(primals, tangents):
    return _log64(*primals), tangents[0] / primals[0]


def _is_float64(x: Any) -> bool:
    # Python's numbers take the float type of what they meet: leave them to JAX
    return getattr(x, "dtype", None) == jnp.float64 and not getattr(x, "weak_type", False)


def _reduced(x: Array) -> tuple[Array, Array, Array]:
    """r, k and 2^k with x = r + k ln 2, |r| <= ln(2)/2."""
    kind = _FLOAT32 if x.dtype.itemsize <= 4 else _FLOAT64
    x = jnp.clip(x, kind.low, kind.high)
    multiple = lax.round(x * (1.0 / math.log(2.0)), lax.RoundingMethod.TO_NEAREST_EVEN)
    r = (x - multiple * kind.ln2[0]) - multiple * kind.ln2[1]
    # added to 1.5 * 2^mantissa, k stands in the lowest bits: biased, they become the exponent
    bits = lax.bitcast_convert_type(multiple + 1.5 * 2.0**kind.mantissa, kind.integer)
    power = (bits + kind.integer(kind.bias)) << kind.integer(kind.mantissa)
    return r, multiple, lax.bitcast_convert_type(power, x.dtype)


def _relative(r: Array) -> Array:
    """(exp(r) - 1) / r for |r| <= ln(2)/2."""
    kind = _FLOAT32 if r.dtype.itemsize <= 4 else _FLOAT64
    return 1.0 + r * (0.5 + r * _horner(kind.cubic, r))


def _horner(coefficients, x: Array) -> Array:
    *lower, last = coefficients
    return reduce(lambda total, c: total * x + c, lower[::-1], jnp.full_like(x, last))
