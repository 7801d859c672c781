"""Elliptic problems in JAX: multigrid-preconditioned conjugate gradients, implicit derivatives.

The matrix is A x = m x + sum over neighbours of a_ij (x_j - x_i), as everywhere on P1 meshes.
Values may be given on some nodes (Dirichlet); with none given and no mass A is singular, its right
side must sum to zero and its solution is the one of mean zero. Right sides are columns, [nodes,
problems]: a gather then reads numbers that lie side by side, so that eight columns cost about twice
what one does.

Derivatives are those of the solution, not of the iterations: one more solve with the same matrix,
and the derivative of A x in the entries of A. Source of the iteration: Saad, Iterative Methods for
Sparse Linear Systems, 2nd ed., algorithm 9.1.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cardiotwin._types import type_array

from .chebyshev import DiagonalPlusDifference, sparse_matrix
from .concrete import known
from .conjugate import LEAST_TOLERANCE, conjugate_gradients, dot
from .differences import gather
from .elliptic import check_nodes, check_parts
from .multigrid import Multigrid, multigrid, on_device
from .rows import DifferenceOperator, RowPattern, row_sums


class EllipticSolution(NamedTuple):
    """What came out, and how well; the last three are one number for each right side.

    Attributes:
        x: [nodes] or [nodes, problems], in the order of the rows.
        iterations: of conjugate gradients.
        residual: the 2-norm of b - A x over that of b. In float32 that of the recurrence: rounding
            x alone makes the true one larger, however good x is.
        converged: whether it is within the tolerance.
    """

    x: Float[Array, "nodes *problems"]
    iterations: Int[Array, "*problems"]
    residual: Float[Array, "*problems"]
    converged: Bool[Array, "*problems"]


class EllipticSolver(eqx.Module):
    """Solves A x = b; made once by `elliptic_solver`, used for many right sides and other entries.

    Attributes:
        matrix: A itself.
        cycle: the multigrid cycle of A, in float32.
        entries: edge of each entry of each row, to lay out other entries than those of `matrix`.
        slot: [nodes] which given value holds at a node, the number of given values where none.
        edges: number of off-diagonal entries, each counted once.
        given: number of nodes whose value is given.
        singular: whether A has the constants as its null space.
    """

    matrix: DiagonalPlusDifference
    cycle: Multigrid
    entries: tuple[Int[Array, "width rows"], ...]
    slot: Int[Array, " nodes"]
    edges: int = eqx.field(static=True)
    given: int = eqx.field(static=True)
    singular: bool = eqx.field(static=True)

    def solve(
        self,
        right: Float[type_array, "nodes *problems"],
        *,
        values: Float[type_array, "given *problems"] | None = None,
        off_diagonal: Float[type_array, " edges"] | None = None,
        mass: Float[type_array, " nodes"] | None = None,
        tolerance: float = 1e-8,
        max_iterations: int = 200,
        throw: bool = True,
        steps: int | None = None,
    ) -> EllipticSolution:
        """Solve for every column of the right side.

        Differentiable, forwards and backwards, in `right`, `values`, `off_diagonal` and `mass`,
        and usable under `jax.jit` and `jax.vmap`. The cycle stays that of the set-up: entries up to
        k times those cost up to the root of k times as many iterations.

        Args:
            right: b, in the order of the rows; not read where values are given.
            values: at the nodes that were fixed at set-up, in their order; zero when left out.
            off_diagonal: other entries [edges] than those of the set-up.
            mass: other row sums [nodes] than those of the set-up.
            tolerance: largest residual relative to the right side, of which a given value's part is
                a part; in the 2-norm, for each column.
            max_iterations: of each column.
            throw: raise where a column did not converge. Under `jax.jit` or `jax.vmap` nothing can
                be raised: look at `converged`.
            steps: take so many iterations, and a quarter of them again in float64, whether they are
                needed or not: a GPU then never asks the host whether to go on. None stops when all
                columns have converged.

        Raises:
            ValueError: wrong shapes, values that are not finite, a right side that a singular
                problem cannot have, a tolerance that the precision cannot reach.
            RuntimeError: no convergence, if `throw`.
        """
        flat = np.ndim(right) == 1
        matrix = self._matrix(off_diagonal, mass)
        right, values = self._columns(right, values)
        self._check(right, values, tolerance)
        # arrays, or another tolerance would compile another program
        limits = jnp.asarray(tolerance, self.dtype), jnp.asarray(max_iterations, jnp.int32)
        found = _solve_jit(self, matrix, right, values, *limits, steps)
        if throw:
            _raise_if_failed(found, tolerance)
        found = found.solution
        return EllipticSolution(*(a[..., 0] for a in found)) if flat else found

    @property
    def dtype(self) -> Any:
        """Precision of the solution."""
        return self.matrix.mass.dtype

    def _matrix(self, off_diagonal: Any, mass: Any) -> DiagonalPlusDifference:
        """The matrix of the set-up, with other entries where given."""
        matrix = self.matrix
        if mass is not None:
            if self.singular:
                raise ValueError(
                    "The solver was set up without mass, for a singular matrix, and is now given "
                    "one: give a mass like it to elliptic_solver."
                )
            mass = jnp.asarray(mass, self.dtype)
            _check_shape("mass", mass, matrix.mass.shape)
            matrix = DiagonalPlusDifference(mass, matrix.off)
        if off_diagonal is not None:
            off_diagonal = jnp.asarray(off_diagonal, self.dtype)
            _check_shape("off_diagonal", off_diagonal, (self.edges,))
            padded = jnp.append(off_diagonal, 0.0)
            weights = tuple(padded[entry] for entry in self.entries)
            matrix = DiagonalPlusDifference(
                matrix.mass, DifferenceOperator(matrix.off.row_columns(), weights)
            )
        return matrix

    def _columns(self, right: Any, values: Any) -> tuple[Array, Array]:
        """Right sides [nodes, problems] and given values [given, problems]."""
        right = jnp.asarray(right, self.dtype)
        nodes = self.slot.shape[0]
        if right.ndim not in (1, 2) or len(right) != nodes:
            raise ValueError(
                f"The right side has shape {right.shape}; expected [{nodes}] or "
                f"[{nodes}, problems], one value for each row."
            )
        expected = (self.given, *right.shape[1:])
        values = jnp.zeros(expected, self.dtype) if values is None else jnp.asarray(values)
        _check_shape("values", values, expected)
        problems = right.shape[1] if right.ndim == 2 else 1
        return right.reshape(nodes, problems), values.astype(self.dtype).reshape(-1, problems)

    def _check(self, right: Array, values: Array, tolerance: Any) -> None:
        """Refuse what is known beforehand to fail."""
        limit, least = known(tolerance), LEAST_TOLERANCE * float(jnp.finfo(self.dtype).eps)
        if limit is not None and not least <= limit < 1:
            raise ValueError(
                f"The tolerance of the elliptic solve is {limit:.3g}; in {self.dtype} give a "
                f"number between {least:.1g} and 1, such as 1e-{'8' if least < 1e-8 else '5'}."
            )
        for name, array in (("right side", known(right)), ("given values", known(values))):
            if array is not None and not np.isfinite(array).all():
                raise ValueError(
                    f"The {name} of an elliptic problem must be finite; "
                    f"{int((~np.isfinite(array)).sum())} of {array.size} numbers are not."
                )
        b = known(right)
        if self.singular and b is not None and limit is not None:
            excess = np.abs(b.sum(axis=0)) / np.sqrt(len(b))
            wrong = np.flatnonzero(excess > limit * np.linalg.norm(b, axis=0))
            if len(wrong):
                raise ValueError(
                    f"Without given values the right side must sum to zero (what flows in flows "
                    f"out), or no solution exists; {len(wrong)} of {b.shape[1]} do not (column "
                    f"{wrong[0]} sums to {b[:, wrong[0]].sum():.3g}). Take the sink into account, "
                    "or fix a node at set-up (fixed=[node]), which then takes what is left over."
                )


class _Found(NamedTuple):
    solution: EllipticSolution
    rounding: Array  # [problems] residual that rounding alone may leave


def elliptic_solver(
    pattern: RowPattern,
    off_diagonal: Float[type_array, " edges"],
    *,
    mass: Float[type_array, " nodes"] | None = None,
    fixed: Int[np.ndarray, " given"] | tuple[int, ...] = (),
    dtype: Any = None,
) -> EllipticSolver:
    """Set a solver up: check the matrix, build the multigrid hierarchy, lay out the rows.

    Args:
        pattern: rows of the matrix.
        off_diagonal: entry of every edge; for a stiffness matrix minus what `edge_stiffness` gives,
            summed over the edges.
        mass: row sums of the matrix [nodes], not negative; zero when left out.
        fixed: rows (not mesh nodes: `pattern.rank` names those) whose value is given.
        dtype: of right sides, solution and iteration; float64 when left out. With float32 the sums
            of conjugate gradients are float64 where 64-bit types are on. The cycle is float32
            always: it only steers the iteration.

    Raises:
        ValueError: the matrix is traced, not positive (semi-)definite, or falls into parts of which
            one has neither a given value nor mass; float64 without 64-bit types.
    """
    dtype = _precision(dtype)
    edges = known(off_diagonal)
    row_mass = np.zeros(pattern.nodes) if mass is None else known(mass)
    if edges is None or row_mass is None:
        raise ValueError(
            "The matrix of an elliptic problem is traced by jax.jit or jax.vmap, so its multigrid "
            "hierarchy cannot be built here. Set the solver up outside, with entries like those to "
            "come, and pass the traced ones to solve(..., off_diagonal=...)."
        )
    edges, row_mass = edges.astype(np.float64), row_mass.astype(np.float64)
    _check_shape("off_diagonal", edges, (len(pattern.edges),))
    _check_shape("mass", row_mass, (pattern.nodes,))
    fixed = np.asarray(fixed, int)
    diagonal = row_mass - row_sums(pattern, edges)
    singular = _check_matrix(pattern, edges, row_mass, diagonal, fixed)
    slot = np.full(pattern.nodes, len(fixed))
    slot[fixed] = np.arange(len(fixed))
    columns = tuple(jnp.asarray(column) for column in pattern.columns)
    padded = np.append(edges, 0.0)
    weights = tuple(on_device(padded[entry], dtype) for entry in pattern.entries)
    return EllipticSolver(
        matrix=DiagonalPlusDifference(
            on_device(row_mass, dtype), DifferenceOperator(columns, weights)
        ),
        cycle=multigrid(
            pattern,
            columns,
            edges,
            diagonal,
            slot == len(fixed),
            singular=singular,
            dtype=jnp.float32,
        ),
        entries=tuple(jnp.asarray(entry) for entry in pattern.entries),
        slot=on_device(slot, np.int32),
        edges=len(edges),
        given=len(fixed),
        singular=singular,
    )


def _precision(dtype: Any) -> Any:
    dtype = np.dtype(np.float64 if dtype is None else dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"Elliptic problems are solved in float32 or float64, not in {dtype}.")
    if dtype == np.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "An elliptic solve in float64 needs JAX's 64-bit types: switch them on first "
            '(jax.config.update("jax_enable_x64", True)), or ask for dtype="float32".'
        )
    return dtype


def _check_shape(name: str, array: Any, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}.")


def _check_matrix(pattern, edges, mass, diagonal, fixed) -> bool:
    """Refuse a matrix without a unique solution; whether it is singular in the one way allowed."""
    check_nodes(fixed, pattern.nodes)
    if len(fixed) == pattern.nodes:
        raise ValueError("The values of all nodes are given: there is nothing to solve for.")
    if not (np.isfinite(edges).all() and np.isfinite(mass).all() and (mass >= 0).all()):
        raise ValueError(
            "The entries of an elliptic matrix must be finite and its mass not negative; "
            f"{int((~np.isfinite(edges)).sum())} entries and "
            f"{int((~(np.isfinite(mass) & (mass >= 0))).sum())} values of the mass are not."
        )
    bad = ~(diagonal > 0)
    bad[fixed] = False
    if bad.any():
        worst = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"The elliptic matrix has {int(bad.sum())} diagonal entries that are not positive "
            f"(node {pattern.order[worst]}: {diagonal[worst]:.3g}). Check that every element has a "
            "volume and every conductivity is positive, and leave out nodes of no element."
        )
    linked = sparse_matrix(pattern, edges, np.zeros(len(mass)))
    linked.eliminate_zeros()
    singular = len(fixed) == 0 and not mass.any()
    # of a singular problem any node may hold its part, as long as there is one part
    check_parts(linked, np.array([0]) if singular else np.union1d(fixed, np.flatnonzero(mass)))
    return singular


@eqx.filter_jit
def _solve_jit(
    solver, matrix, right, values, tolerance, max_iterations, steps: int | None = None
) -> _Found:
    free = (solver.slot == solver.given)[:, None]
    given = jnp.append(values, jnp.zeros_like(right[:1]), axis=0)[solver.slot]
    product = jax.vmap(matrix, in_axes=1, out_axes=1)

    def whole(x):
        """A between free nodes, the identity on the others."""
        return jnp.where(free, product(jnp.where(free, x, 0.0)), x)

    def solve(_, b):
        if solver.singular:
            b = b - b.mean(axis=0, keepdims=True)
        found = conjugate_gradients(
            lambda x: jnp.where(free, _multiply(matrix, x), 0.0),
            solver.cycle,
            jnp.where(free, b, 0.0),
            tolerance=tolerance,
            max_iterations=max_iterations,
            steps=steps,
        )
        x = jnp.where(free, found.x, b)
        return (x - x.mean(axis=0, keepdims=True) if solver.singular else x), found[1:]

    b = jnp.where(free, right - product(given), 0.0) if solver.given else right
    x, (iterations, residual) = jax.lax.custom_linear_solve(
        whole, b, solve, symmetric=True, has_aux=True
    )
    diagonal = matrix.mass - matrix.off.row_sums()
    size, below = _norms(diagonal[:, None] * x), _norms(b)
    rounding = float(jnp.finfo(b.dtype).eps) * 2 * size / jnp.where(below > 0, below, 1.0)
    if solver.singular:
        # what was taken off the right side is part of what is left of it
        missed = jnp.abs(b.mean(axis=0)) * np.sqrt(len(b)) / jnp.where(below > 0, below, 1.0)
        residual = jnp.hypot(residual, missed)
    converged = residual <= tolerance
    solution = EllipticSolution(x + given, iterations, residual, converged)
    return _Found(solution, rounding)


def _norms(x):
    return jnp.sqrt(dot(x, x))[0].astype(x.dtype)


def _multiply(matrix: DiagonalPlusDifference, x: Array) -> Array:
    """A x for columns that lie side by side; `matrix` itself wants them one after the other."""
    start, parts = 0, []
    for column, weight in zip(matrix.off.row_columns(), matrix.off.weights, strict=True):
        home = jax.lax.slice_in_dim(x, start, start + column.shape[1])
        rise = gather(x, column, axis=0) - home[None]
        parts.append((weight[..., None] * rise).sum(axis=0))
        start += column.shape[1]
    off = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
    return matrix.mass[:, None] * x + off


def _raise_if_failed(found: _Found, tolerance: Any) -> None:
    converged = known(found.solution.converged)
    if converged is None or converged.all():
        return
    residual = np.asarray(known(found.solution.residual))
    worst = int(np.argmax(np.where(np.isnan(residual), np.inf, residual)))
    iterations = np.asarray(known(found.solution.iterations))[worst]
    reachable = np.asarray(known(found.rounding))[worst]
    raise RuntimeError(
        f"{int((~converged).sum())} of {len(converged)} elliptic problems did not converge: after "
        f"{iterations} iterations problem {worst} has a relative residual of {residual[worst]:.1e} "
        f"(wanted {tolerance:.1e}; rounding alone may leave {reachable:.0e}). Look for degenerate "
        "elements with `cardiotwin info`, allow more iterations, or loosen the tolerance."
    )
