"""Preconditioned conjugate gradients for several right sides at once, each with its own end."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Passes in float64. Each begins with the residual found anew from x, which rounding has parted from
# that of the recurrence, and does nothing more where that is small enough.
PASSES = 2
# Numbers that are summed in a row where there is no wider type to sum in.
BLOCK = 64

# Residuals below this many units of rounding mean nothing.
LEAST_TOLERANCE = 20.0

Columns = Float[Array, "nodes problems"]
Apply = Callable[[Columns], Columns]


class Iterated(NamedTuple):
    """What conjugate gradients came to; the last two are [problems].

    Attributes:
        x: the solution.
        iterations: until the column was within the tolerance, or stood still.
        residual: the 2-norm of b - A x over that of b. In float32 that of the recurrence: rounding
            x alone makes the true one larger, however good x is.
    """

    x: Columns
    iterations: Int[Array, " problems"]
    residual: Float[Array, " problems"]


class _State(NamedTuple):
    x: Columns
    r: Columns
    p: Columns
    q: Columns  # A p
    rz: Float[Array, "1 problems"]
    size: Float[Array, "1 problems"]  # norm of r
    iterations: Int[Array, "1 problems"]
    going: Bool[Array, "1 problems"]


def conjugate_gradients(
    apply: Apply,
    precondition: Apply | None,
    b: Columns,
    *,
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    restarts: bool = True,
    steps: int | None = None,
) -> Iterated:
    """Solve A x = b for every column. Source: Saad, Iterative Methods, 2nd ed., algorithm 9.1.

    A column stops at its tolerance and is left as it is while others go on. One along which the
    matrix or the preconditioner is not positive stops as well, its residual above the tolerance.

    Args:
        apply: x -> A x, A symmetric positive definite, or semi-definite with b in its range.
        precondition: r -> M r, M symmetric positive definite; None for M = 1.
        b: right sides.
        tolerance: largest residual relative to b.
        max_iterations: of each column.
        restarts: whether to go on in float64 where the true residual is not yet small enough; at
            least one more product, and three times as many as iterations are few.
        steps: take so many iterations, converged or not, and a quarter of them after the restart: a
            GPU then runs them without asking the host. None stops when all columns are done.
    """
    # Departures from the reference: (1) right sides are scaled to norm 1, so that nothing under- or
    # overflows in a preconditioner of lower precision; (2) A p is carried and A z computed, so that
    # the gathers of the product read z, which the preconditioner has stored, and it is compiled
    # once; (3) in float64 the iteration goes on where the true residual is not yet small enough.
    norm = jnp.sqrt(dot(b, b)).astype(b.dtype)
    scale = jnp.where(norm > 0, norm, 1.0)
    b = b / scale

    def step(s: _State) -> _State:
        z = s.r if precondition is None else precondition(s.r)
        rz = s.size**2 if precondition is None else dot(s.r, z)
        beta = jnp.where(s.rz > 0, rz / jnp.where(s.rz > 0, s.rz, 1.0), 0.0).astype(b.dtype)
        p, q = z + beta * s.p, apply(z) + beta * s.q
        curvature = dot(p, q)
        sound = s.going & (curvature > 0) & (rz > 0)
        alpha = jnp.where(sound, rz / jnp.where(sound, curvature, 1.0), 0.0).astype(b.dtype)
        r = s.r - alpha * q
        size = jnp.sqrt(dot(r, r))
        iterations = s.iterations + sound
        going = sound & (size > tolerance) & (iterations < max_iterations)
        return _State(s.x + alpha * p, r, p, q, rz, size, iterations, going)

    def start(x: Columns, r: Columns, iterations: Array) -> _State:
        zero, size = jnp.zeros_like(r), jnp.sqrt(dot(r, r))
        going = (size > tolerance) & (iterations < max_iterations)
        return _State(x, r, zero, zero, jnp.zeros_like(size), size, iterations, going)

    def iterate(s: _State, count: int | None = None) -> _State:
        if count is None:
            return jax.lax.while_loop(lambda s: s.going.any(), step, s)
        return jax.lax.fori_loop(0, count, lambda _, s: step(s), s)

    def restart(k: Array, s: _State) -> _State:
        first = start(s.x, b - apply(s.x), s.iterations)
        # the last time only to find the residual
        return iterate(first._replace(going=first.going & (k < PASSES)))

    end = start(jnp.zeros_like(b), b, jnp.zeros((1, b.shape[1]), jnp.int32))
    precise = restarts and b.dtype == jnp.float64
    if steps is not None:
        end = iterate(end, steps)
        for count in (max(1, steps // 4), 0) if precise else ():
            end = iterate(start(end.x, b - apply(end.x), end.iterations), count)
        return Iterated(end.x * scale, end.iterations[0], end.size[0].astype(b.dtype))
    end = jax.lax.fori_loop(0, PASSES + 1, restart, end) if precise else iterate(end)
    return Iterated(end.x * scale, end.iterations[0], end.size[0].astype(b.dtype))


def dot(a: Columns, b: Columns) -> Float[Array, "1 problems"]:
    """Scalar product of every column, in float64 where JAX has it, else summed by blocks."""
    wide = jax.dtypes.canonicalize_dtype(jnp.float64)
    product = a.astype(wide) * b.astype(wide)
    if wide == jnp.float32:
        # the error grows with the number summed in a row, not with the number of nodes
        while product.shape[0] > BLOCK:
            short = -product.shape[0] % BLOCK
            product = jnp.pad(product, ((0, short), (0, 0)))
            product = product.reshape(-1, BLOCK, product.shape[1]).sum(axis=1)
    return product.sum(axis=0, keepdims=True)
