"""Conjugate gradients for the parabolic step: as many iterations as each right side needs.

The matrix is scaled by its diagonal from both sides beforehand, A' = D^-1/2 A D^-1/2. That is the
Jacobi preconditioner, at no cost in the loop: the gathers read the residual itself, which lies in
memory, and its 2-norm is what decides when to stop.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiotwin._types import type_array

from .chebyshev import DiagonalPlusDifference, fewest_iterations, jacobi_bounds
from .concrete import known, library
from .conjugate import LEAST_TOLERANCE, Iterated, conjugate_gradients
from .rows import AbstractPattern, difference_operator, row_sums

# Rounding may cost iterations that theory does not count; and the most where the matrix is traced,
# so that nothing is known of its spectrum.
ROUNDING_ALLOWANCE = 2
MOST_ITERATIONS = 1000


class ConjugateSolver(eqx.Module):
    """Solves A x = b for a symmetric positive definite A by Jacobi-scaled conjugate gradients.

    The derivative is that of the solution, forwards and backwards: one more solve with the same
    matrix, and the derivative of A x in the entries of A.
    """

    matrix: DiagonalPlusDifference  # A', of unit diagonal
    root: Float[Array, " nodes"]  # D^-1/2
    tolerance: Float[Array, ""]
    most: int = eqx.field(static=True)  # iterations

    def __call__(self, b: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Return x, with a scaled residual at most `tolerance` times that of x = 0."""
        return self.root * self._solve(self.root * b)[0]

    def check(self, b: Float[Array, " nodes"]) -> dict[str, Array]:
        """True residual of the solve with a right side, scaled and relative, and its iterations."""
        b = self.root * b
        x, iterations = self._solve(b)
        r = b - self.matrix(x)
        below = jnp.maximum(jnp.sum(b * b), jnp.finfo(b.dtype).tiny)
        return {"residual": jnp.sqrt(jnp.sum(r * r) / below), "iterations": iterations}

    def stats(self) -> dict[str, float]:
        """What is fixed before the run."""
        return {"conjugate_gradients_most": self.most}

    def _solve(self, b: Array) -> tuple[Array, Array]:
        """Solution and iterations of the scaled system."""

        def solve(_, b) -> tuple[Array, Array]:
            found: Iterated = conjugate_gradients(
                lambda x: self.matrix(x[:, 0])[:, None],
                None,
                b[:, None],
                tolerance=self.tolerance,
                max_iterations=jnp.asarray(self.most, jnp.int32),
                restarts=False,
            )
            return found.x[:, 0], found.iterations[0]

        return jax.lax.custom_linear_solve(self.matrix, b, solve, symmetric=True, has_aux=True)


def conjugate_solver(
    pattern: AbstractPattern,
    mass: Float[type_array, " nodes"],
    off_diagonal: Float[type_array, " edges"],
    *,
    tolerance: float,
    dtype: Any,
    bounds: tuple[float, float] | None = None,
) -> ConjugateSolver:
    """Set a solver up: check the tolerance and the matrix, scale it, lay out the rows.

    Args:
        pattern: rows of the matrix.
        mass: row sums of the matrix, [nodes] in the order of the rows, positive.
        off_diagonal: off-diagonal entry of every edge, [edges].
        tolerance: largest residual relative to the right side, both scaled by D^-1/2. The error in
            the norm of D is at most the condition number of A' times as large, and usually smaller.
        dtype: precision of the solve.
        bounds: of the eigenvalues of A', from which the most iterations follow; found by Lanczos
            iteration when left out, or `MOST_ITERATIONS` where the matrix is traced.

    Raises:
        ValueError: the precision cannot reach the tolerance, the matrix is not positive definite,
            or would need more than `MOST_ITERATIONS`.
    """
    least = LEAST_TOLERANCE * float(jnp.finfo(dtype).eps)
    if not least <= tolerance < 1:
        raise ValueError(
            f"The tolerance of the parabolic solve by conjugate gradients is {tolerance}; in "
            f"{jnp.dtype(dtype)} give a number between {least:.1g} and 1, such as 1e-4."
        )
    if bounds is None and known(mass) is not None and known(off_diagonal) is not None:
        bounds = jacobi_bounds(pattern, mass, off_diagonal)
    # by theory as many as Chebyshev iteration takes, whose error is measured in another norm
    most = MOST_ITERATIONS
    if bounds is not None:
        low, high = bounds
        stricter = tolerance / math.sqrt(high / low)
        most = min(ROUNDING_ALLOWANCE * fewest_iterations(low, high, stricter)[0], most)
    root = 1.0 / library(mass, off_diagonal).sqrt(mass - row_sums(pattern, off_diagonal))
    first, second = pattern.edges.T
    scaled = off_diagonal * root[first] * root[second]
    return ConjugateSolver(
        matrix=DiagonalPlusDifference(
            jnp.asarray(1.0 + row_sums(pattern, scaled), dtype),
            difference_operator(pattern, jnp.asarray(scaled, dtype)),
        ),
        root=jnp.asarray(root, dtype),
        tolerance=jnp.asarray(tolerance, dtype),
        most=most,
    )
