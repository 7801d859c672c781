"""Chebyshev iteration: a fixed number of steps, no dot products, no question to the host."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float
from scipy.sparse.linalg import eigsh

from cardiotwin._types import type_array

from .concrete import known
from .rows import AbstractOperator, AbstractPattern, difference_operator, row_sums
from .target import in_memory, repeat

# Ritz values lie inside the spectrum; this widens their interval so that it covers it.
SPECTRUM_MARGIN = 0.05


class DiagonalPlusDifference(eqx.Module):
    """A x = m x + sum over neighbours of a_ij (x_j - x_i): the shape of every P1 matrix here."""

    mass: Float[Array, " nodes"]
    off: AbstractOperator

    def __call__(self, x: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Apply the matrix."""
        return self.mass * x + self.off(x)


class ChebyshevSolver(eqx.Module):
    """Solves A x = b for a symmetric positive definite A by Jacobi-scaled Chebyshev iteration.

    The solution is a fixed linear map of b, the same cost forwards and backwards. Source: Saad,
    Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 12.1.
    """

    matrix: DiagonalPlusDifference
    inverse_diagonal: Float[Array, " nodes"]
    decay: Float[Array, " iterations"]  # rho_k rho_{k-1}
    gain: Float[Array, " iterations"]  # 2 rho_k / half-width of the spectrum
    first: Float[Array, ""]
    contraction: float = eqx.field(static=True)

    @property
    def iterations(self) -> int:
        """Number of iterations of every solve, the first one included."""
        return self.decay.shape[0] + 1

    def __call__(self, b: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Return x, with the error at most `contraction` times that of x = 0 in the scaled norm."""

        # Departures from the reference: (1) the iterates themselves are carried, not residual and
        # direction, so that exactly one array depends on the multiplication and XLA cannot repeat
        # it in several fused kernels; (2) the vector that is multiplied is a carried one, so the
        # gathers read stored memory instead of recomputing it once a neighbour.
        def iterate(k, carry):
            x, before = carry
            correction = self.gain[k] * self.inverse_diagonal * (b - self.matrix(x))
            return x + self.decay[k] * (x - before) + correction, x

        start = (in_memory(self.first * self.inverse_diagonal * b), jnp.zeros_like(b))
        # no loop over nothing: its body would index empty arrays
        if self.iterations == 1:
            return start[0]
        x, _ = repeat(self.decay.shape[0], iterate, start)
        return x

    def check(self, b: Float[Array, " nodes"]) -> dict[str, Array]:
        """Relative residual of the solve with a right side, and its iterations."""
        r = b - self.matrix(self(b))
        scale = jnp.sqrt(jnp.sum(b * b))
        residual = jnp.sqrt(jnp.sum(r * r)) / jnp.maximum(scale, jnp.finfo(b.dtype).tiny)
        return {"residual": residual, "iterations": jnp.asarray(self.iterations, jnp.int32)}

    def stats(self) -> dict[str, float]:
        """What is fixed before the run."""
        return {
            "chebyshev_iterations": self.iterations,
            "chebyshev_contraction": self.contraction,
        }


def chebyshev_solver(
    pattern: AbstractPattern,
    mass: Float[type_array, " nodes"],
    off_diagonal: Float[type_array, " edges"],
    *,
    tolerance: float,
    dtype: jnp.dtype,
    bounds: tuple[float, float] | None = None,
) -> ChebyshevSolver:
    """Set a solver up: bound the spectrum, choose the number of iterations, lay out the rows.

    Args:
        pattern: rows of the matrix.
        mass: row sums of the matrix, [nodes] in the order of the rows, positive.
        off_diagonal: off-diagonal entry of every edge, [edges].
        tolerance: error of the solution relative to that of zero, in (0, 1).
        dtype: precision of the solve.
        bounds: of the eigenvalues of the Jacobi-scaled matrix; found by Lanczos iteration when left
            out. They have no derivative: the solve is differentiated as the fixed map that it is.

    Raises:
        ValueError: the matrix is not positive definite, the tolerance is out of range, or the
            matrix is traced (by `jax.jit` or `jax.vmap`) and no bounds are given.
    """
    if not 0 < tolerance < 1:
        raise ValueError(
            f"The tolerance of the parabolic solve is {tolerance}; give a number between 0 and 1, "
            "such as 1e-4."
        )
    diagonal = mass - row_sums(pattern, off_diagonal)
    low, high = bounds or jacobi_bounds(pattern, mass, off_diagonal)
    iterations, contraction = fewest_iterations(low, high, tolerance)
    centre, half = (high + low) / 2, (high - low) / 2
    rho, decay, gain = half / centre, [], []
    for _ in range(iterations - 1):
        following = 1.0 / (2.0 * centre / half - rho)
        decay.append(following * rho)
        gain.append(2.0 * following / half)
        rho = following
    weights = jnp.asarray(off_diagonal, dtype)
    return ChebyshevSolver(
        matrix=DiagonalPlusDifference(
            jnp.asarray(mass, dtype), difference_operator(pattern, weights)
        ),
        inverse_diagonal=jnp.asarray(1.0 / diagonal, dtype),
        decay=jnp.asarray(np.array(decay), dtype),
        gain=jnp.asarray(np.array(gain), dtype),
        first=jnp.asarray(1.0 / centre, dtype),
        contraction=contraction,
    )


def spectrum(
    pattern: AbstractPattern,
    off_diagonal: Float[np.ndarray, " edges"],
    diagonal: Float[np.ndarray, " nodes"],
    *,
    lowest: bool = True,
) -> tuple[float, float]:
    """Lower and upper bound of the eigenvalues of a symmetric matrix on the nodes.

    Lanczos iteration, widened by `SPECTRUM_MARGIN`. Without `lowest` the lower bound is 0.
    """
    matrix = sparse_matrix(pattern, off_diagonal, diagonal)
    if pattern.nodes < 20:
        values = np.linalg.eigvalsh(matrix.toarray())
        low, high = float(values[0]), float(values[-1])
    else:
        start = np.random.default_rng(0).standard_normal(pattern.nodes)
        options = {"k": 1, "return_eigenvectors": False, "tol": 1e-2, "v0": start}
        high = float(eigsh(matrix, which="LA", **options)[0])
        low = float(eigsh(matrix, which="SA", **options)[0]) if lowest else 0.0
    return (1 - SPECTRUM_MARGIN) * low, (1 + SPECTRUM_MARGIN) * high


def sparse_matrix(
    pattern: AbstractPattern,
    off_diagonal: Float[np.ndarray, " edges"],
    diagonal: Float[np.ndarray, " nodes"],
) -> sp.csr_matrix:
    """The symmetric matrix on the nodes with these entries, for set-up work on the host."""
    first, second = pattern.edges.T
    upper = sp.coo_matrix((off_diagonal, (first, second)), shape=(pattern.nodes,) * 2)
    return (upper + upper.T + sp.diags(diagonal)).tocsr()


def jacobi_bounds(
    pattern: AbstractPattern,
    mass: Float[type_array, " nodes"],
    off_diagonal: Float[type_array, " edges"],
) -> tuple[float, float]:
    """Bounds of the eigenvalues of a matrix scaled by its diagonal from both sides.

    Raises:
        ValueError: it is not positive definite, or traced.
    """
    row_mass, edges = known(mass), known(off_diagonal)
    if row_mass is None or edges is None:
        raise ValueError(
            "The matrix of the parabolic step is traced by jax.jit or jax.vmap, so its spectrum "
            "cannot be bounded here. Fix the bounds beforehand, at values like those to come: "
            "scheme = Godunov().frozen(problem, dt); or take jax.grad without jax.jit around it "
            "(the time loop is compiled all the same)."
        )
    diagonal = row_mass - row_sums(pattern, edges)
    if not np.all(diagonal > 0):
        worst = int(np.argmin(diagonal))
        raise ValueError(
            f"The matrix of the parabolic step has {int((diagonal <= 0).sum())} diagonal entries "
            f"that are not positive (node {pattern.order[worst]}: {diagonal[worst]:.3g}). Check "
            "the element volumes and that every conductivity is positive definite."
        )
    first, second = pattern.edges.T
    root = np.sqrt(diagonal)
    low, high = spectrum(pattern, edges / (root[first] * root[second]), np.ones(pattern.nodes))
    if low <= 0:
        raise ValueError(
            f"The matrix of the parabolic step is not positive definite (smallest scaled "
            f"eigenvalue {low:.3g}). Check that every conductivity is positive definite."
        )
    return low, high


def fewest_iterations(low: float, high: float, tolerance: float) -> tuple[int, float]:
    """Smallest number of iterations whose Chebyshev polynomial is below the tolerance, and that.

    Raises:
        ValueError: it would be more than 1000.
    """
    root = math.sqrt(high / low)
    rate = (root - 1) / (root + 1)
    for count in range(1, 1001):
        contraction = 2 * rate**count / (1 + rate ** (2 * count))
        if contraction <= tolerance:
            return count, contraction
    raise ValueError(
        f"The parabolic solve would need more than 1000 iterations (condition {high / low:.3g}). "
        "Shorten dt, remove slivers from the mesh, or loosen the tolerance."
    )
