"""Smoothed-aggregation multigrid: pyamg builds the hierarchy, JAX applies it by gathers.

One V-cycle is a fixed, symmetric positive definite linear map: as many smoothing steps upwards as
downwards, the steps of a Chebyshev polynomial in the Jacobi-scaled matrix, restriction by the
transpose of the prolongation, the coarsest level solved exactly. Nothing scatters: restriction has
rows of its own. Source: Vanek, Mandel and Brezina, Computing 56:179-196, 1996
(https://doi.org/10.1007/BF02238511); smoother: Adams et al., J. Comput. Phys. 188:593-610, 2003
(https://doi.org/10.1016/S0021-9991(03)00194-3).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyamg
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int

from .chebyshev import sparse_matrix
from .differences import gather
from .rows import RowPattern, slice_widths

# The coarsest level is solved by a dense inverse of this size at most.
COARSEST = 400
# Smoothing steps each way, and the part of the spectrum below which errors are left to the coarser
# level. On a block with a contrast of 20, and one with fibres, one step took 26 and 57 iterations,
# two 18 and 34, three 17 and 29; an iteration costs about 4, 6 and 8 products.
SMOOTHING_STEPS = 2
SMOOTHED_FROM = 0.1
# Lanczos finds the end of the spectrum to a few per cent in so many steps; the smoother still
# shrinks what lies a tenth above the end that it is told.
LANCZOS_STEPS = 12
HEADROOM = 1.05


class SlicedRows(eqx.Module):
    """Any sparse matrix, applied to several vectors at once by gathers: rows sliced by length."""

    columns: tuple[Int[Array, "width rows"], ...]
    values: tuple[Float[Array, "width rows"], ...]
    place: Int[Array, " rows"] | None = None  # where the slices hold each row; None: in order

    def __call__(self, x: Float[Array, "columns problems"]) -> Float[Array, "rows problems"]:
        """Apply the matrix to every column of x."""
        parts = [
            (value[..., None] * gather(x, column, axis=0)).sum(axis=0)
            for column, value in zip(self.columns, self.values, strict=True)
        ]
        out = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return out if self.place is None else gather(out, self.place, axis=0)


def sliced_rows(matrix: sp.csr_matrix, dtype: Any) -> SlicedRows:
    """Lay a sparse matrix out by rows; an empty row reads column 0 with weight 0."""
    matrix = sp.csr_matrix(matrix)
    length = np.diff(matrix.indptr)
    widths = slice_widths(np.maximum(length, 1))
    home = np.searchsorted(widths, length)
    order = np.argsort(home, kind="stable")
    columns, values, start = [], [], 0
    for width, count in zip(widths, np.bincount(home, minlength=len(widths)), strict=True):
        rows = order[start : start + count]
        entry = matrix.indptr[rows] + np.arange(width)[:, None]
        inside = np.arange(width)[:, None] < length[rows]
        entry = np.where(inside, entry, 0)
        columns.append(on_device(np.where(inside, matrix.indices[entry], 0), np.int32))
        values.append(on_device(np.where(inside, matrix.data[entry], 0.0), dtype))
        start += count
    place = np.argsort(order)
    sorted_already = np.array_equal(place, np.arange(len(place)))
    return SlicedRows(
        tuple(columns), tuple(values), None if sorted_already else on_device(place, np.int32)
    )


def on_device(array: np.ndarray, dtype: Any) -> Array:
    """Hand an array to JAX. The type changes before: JAX would compile that for each shape."""
    return jnp.asarray(array.astype(dtype))


class Level(eqx.Module):
    """A matrix, how its errors are smoothed, and the way to the next coarser one."""

    diagonal: Float[Array, " rows"]
    off_diagonal: SlicedRows
    steps: Float[Array, " steps"]  # of the smoother, for the matrix scaled by its diagonal
    restrict: SlicedRows
    prolong: SlicedRows

    def residual(
        self, b: Float[Array, "rows problems"], x: Float[Array, "rows problems"]
    ) -> Float[Array, "rows problems"]:
        """B - A x for every column."""
        return b - self.diagonal[:, None] * x - self.off_diagonal(x)


class Multigrid(eqx.Module):
    """One V-cycle, an approximate inverse of the matrix that it was built for."""

    levels: tuple[Level, ...]
    coarsest: Float[Array, "rows rows"]  # inverse, or pseudo-inverse, of the coarsest matrix

    def __call__(self, b: Float[Array, "nodes problems"]) -> Float[Array, "nodes problems"]:
        """Apply the cycle to every column of b, in the precision of the hierarchy."""
        return self._cycle(b.astype(self.coarsest.dtype), 0).astype(b.dtype)

    def _cycle(self, b: Array, depth: int) -> Array:
        if depth == len(self.levels):
            return self.coarsest @ b
        level = self.levels[depth]
        scaled = 1.0 / level.diagonal[:, None]
        count = level.steps.shape[0]
        # Loops, because what one gathers must lie in memory: XLA on a CPU recomputes the producer
        # of a gather for every entry that reads it, and a loop's carry is always stored. The last
        # trip down only finds the residual, its step is 0.
        steps = jnp.append(level.steps, jnp.zeros(1, b.dtype))

        def down(k, carry):
            x, _ = carry
            rest = level.residual(b, x)
            return x + steps[k] * scaled * rest, rest

        def up(k, x):
            return x + steps[count - 1 - k] * scaled * level.residual(b, x)

        start = steps[0] * scaled * b
        x, rest = jax.lax.fori_loop(1, count + 1, down, (start, b))
        x = x + level.prolong(self._cycle(level.restrict(rest), depth + 1))
        return jax.lax.fori_loop(0, count, up, x)


def multigrid(
    pattern: RowPattern,
    columns: tuple[Int[Array, "width rows"], ...],
    off_diagonal: Float[np.ndarray, " edges"],
    diagonal: Float[np.ndarray, " nodes"],
    free: Bool[np.ndarray, " nodes"],
    *,
    singular: bool,
    dtype: Any,
) -> Multigrid:
    """Build the hierarchy of the part of a symmetric matrix that belongs to the free nodes.

    Args:
        pattern: rows of the matrix.
        columns: those of the pattern on the device, shared with the operator.
        off_diagonal: entry of every edge.
        diagonal: in the order of the rows, positive.
        free: whether the solution is sought at a node; elsewhere the right side is to be 0, and so
            is what the cycle gives.
        singular: whether the constants are the null space of the matrix.
        dtype: precision of the cycle.

    Raises:
        ValueError: the matrix is not positive (semi-)definite, as far as the coarsest level shows.
    """
    inside = np.flatnonzero(free)
    first, second = pattern.edges.T
    kept = np.append(off_diagonal * (free[first] & free[second]), 0.0)
    finest = sparse_matrix(pattern, kept[:-1], diagonal)[inside][:, inside]
    grids = smoothed_aggregation(finest, COARSEST).levels
    coarsest = _inverse(grids[-1].A.toarray(), singular=singular)
    # a matrix small enough to be solved at once still passes from all nodes to the free ones
    passages = [grid.P for grid in grids[:-1]] or [sp.identity(len(inside), format="csr")]
    levels = []
    for grid, prolong in zip(grids, passages, strict=False):
        matrix = sp.csr_matrix(grid.A)
        scale = matrix.diagonal()
        if levels:
            off = sliced_rows(matrix - sp.diags(scale), dtype)
        else:
            off = SlicedRows(columns, tuple(on_device(kept[e], dtype) for e in pattern.entries))
            scale = np.where(free, diagonal, 1.0)
            prolong = _embedding(free) @ prolong
        levels.append(
            Level(
                diagonal=on_device(scale, dtype),
                off_diagonal=off,
                steps=on_device(_steps(matrix), dtype),
                restrict=sliced_rows(prolong.T, dtype),
                prolong=sliced_rows(prolong, dtype),
            )
        )
    return Multigrid(tuple(levels), on_device(coarsest, dtype))


def smoothed_aggregation(matrix: sp.csr_matrix, coarsest: int) -> Any:
    """The hierarchy of pyamg.

    Prolongation is smoothed with weights from the row sums. pyamg's default takes them from the
    spectral radius, estimated from NumPy's global random numbers: ten times the set-up time, and
    results that differ in their last digits from call to call. Improving the constant candidate
    costs as much and saves no iteration.
    """
    return pyamg.smoothed_aggregation_solver(
        matrix,
        smooth=("jacobi", {"weighting": "local"}),
        improve_candidates=None,
        max_coarse=coarsest,
        max_levels=20,
    )


def _steps(matrix: sp.csr_matrix) -> np.ndarray:
    """Steps of the smoother: inverse roots of the Chebyshev polynomial on the upper spectrum."""
    high = HEADROOM * _largest_eigenvalue(matrix)
    low = SMOOTHED_FROM * high
    angle = np.pi * (np.arange(SMOOTHING_STEPS) + 0.5) / SMOOTHING_STEPS
    return 1.0 / ((high + low) / 2 + (high - low) / 2 * np.cos(angle))


def _largest_eigenvalue(matrix: sp.csr_matrix) -> float:
    """Of the matrix scaled by its diagonal, from below, by a few steps of Lanczos."""
    scale = 1.0 / np.sqrt(matrix.diagonal())
    v = np.random.default_rng(0).standard_normal(len(scale))
    before, v, beta = np.zeros_like(v), v / np.linalg.norm(v), 0.0
    alphas, betas = [], []
    for _ in range(min(LANCZOS_STEPS, len(v))):
        w = scale * (matrix @ (scale * v)) - beta * before
        alphas.append(w @ v)
        w -= alphas[-1] * v
        beta = np.linalg.norm(w)
        betas.append(beta)
        if beta <= 1e-10 * abs(alphas[0]):
            break
        before, v = v, w / beta
    small = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    return float(np.linalg.eigvalsh(small)[-1])


def _embedding(free: np.ndarray) -> sp.csr_matrix:
    """Takes values of the free nodes to all nodes."""
    inside = np.flatnonzero(free)
    here = (np.ones(len(inside)), (inside, np.arange(len(inside))))
    return sp.csr_matrix(here, shape=(len(free), len(inside)))


def _inverse(matrix: np.ndarray, *, singular: bool) -> np.ndarray:
    """Inverse by eigenvalues; of a singular matrix the pseudo-inverse without its smallest one."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    least = 1e-12 * values[-1]
    if singular:
        values, vectors = values[1:], vectors[:, 1:]
    if len(values) and not values[0] > least:
        raise ValueError(
            f"The matrix is not positive definite: its coarsest version has an eigenvalue of "
            f"{values[0]:.3g} where the largest is {values[-1]:.3g}. Check that every conductivity "
            "is positive definite and every element has a volume."
        )
    return (vectors / values) @ vectors.T
