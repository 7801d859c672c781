"""Elliptic problems solved once at set-up, on the host in float64."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg

from .multigrid import smoothed_aggregation


def solve_laplace(
    stiffness: sp.csr_matrix,
    nodes: np.ndarray,
    values: np.ndarray,
    *,
    source: np.ndarray | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 500,
) -> np.ndarray:
    """Solve K u = f with u given on some nodes, zero flux on the rest of the boundary.

    Conjugate gradients, preconditioned by smoothed-aggregation algebraic multigrid (pyamg). Several
    problems with the same fixed nodes share one set-up. For two right sides that are solved once
    this beats `linear.elliptic_solver`, whose program is compiled anew for every mesh and every
    number of fixed nodes: on the default heart (103,494 nodes, two cores) 0.5 s all in all against
    7 s, of which 5 compile and 0.4 solve. Use that one for many right sides, for derivatives, or on
    a GPU.

    Args:
        stiffness: symmetric positive semi-definite [nodes, nodes], as from `stiffness_matrix`.
        nodes: indices [fixed] of the nodes whose value is given, each once.
        values: their values [fixed], or [fixed, problems].
        source: right side f [nodes]; zero (Laplace's equation) when left out.
        tolerance: largest residual relative to the right side.
        max_iterations: conjugate-gradient steps before giving up.

    Returns:
        u [nodes], or [nodes, problems].

    Raises:
        ValueError: no fixed nodes, repeated ones, a wrong number of values, or a part of the mesh
            without any, where the solution is not unique.
        RuntimeError: no convergence.
    """
    nodes, values = np.asarray(nodes), np.asarray(values, np.float64)
    total = stiffness.indptr.size - 1
    _check_fixed(stiffness, nodes, values)
    free = np.ones(total, bool)
    free[nodes] = False
    columns = values.reshape(len(nodes), -1)
    solution = np.zeros((total, columns.shape[1]))
    solution[nodes] = columns
    if free.any():
        rows = stiffness[free]
        matrix = rows[:, free].tocsr()
        right = -(rows[:, nodes] @ columns)
        if source is not None:
            right += np.asarray(source, np.float64)[free, None]
        solution[free] = _solve_positive(matrix, right, tolerance, max_iterations)
    return solution.reshape(total, *values.shape[1:])


def _check_fixed(stiffness: sp.csr_matrix, nodes: np.ndarray, values: np.ndarray) -> None:
    total = stiffness.indptr.size - 1
    if len(nodes) == 0:
        raise ValueError("no node has a given value: the solution is not unique; give at least one")
    check_nodes(nodes, total)
    if values.shape[0] != len(nodes) or not np.isfinite(values).all():
        raise ValueError(
            f"expected one finite value for each of {len(nodes)} fixed nodes, got {values.shape}"
        )
    check_parts(stiffness, nodes)


def check_nodes(nodes: np.ndarray, total: int) -> None:
    """Raise a ValueError unless the fixed nodes are different indices below `total`."""
    distinct = len(np.unique(nodes)) == len(nodes)
    if len(nodes) and not (distinct and nodes.min() >= 0 and nodes.max() < total):
        raise ValueError(f"the fixed nodes must be different indices from 0 to {total - 1}")


def check_parts(matrix: sp.csr_matrix, held: np.ndarray) -> None:
    """Raise a ValueError unless every connected part of the mesh has one of the nodes `held`."""
    count, label = connected_components(matrix, directed=False)
    missing = np.setdiff1d(np.arange(count), label[held])
    if len(missing):
        example = int(np.flatnonzero(label == missing[0])[0])
        raise ValueError(
            f"{len(missing)} of {count} connected parts of the mesh have no node with a given "
            f"value (one holds node {example}): keep the largest part, or fix a node in each"
        )


def _solve_positive(
    matrix: sp.csr_matrix, right: np.ndarray, tolerance: float, max_iterations: int
) -> np.ndarray:
    """Solve a symmetric positive definite system for every column of the right side."""
    preconditioner = smoothed_aggregation(matrix, 100).aspreconditioner()
    solution = np.zeros_like(right)
    for k, column in enumerate(right.T):
        x, failed = cg(
            matrix, column, rtol=tolerance, atol=0.0, maxiter=max_iterations, M=preconditioner
        )
        if failed:
            residual = np.linalg.norm(matrix @ x - column) / np.linalg.norm(column)
            raise RuntimeError(
                f"conjugate gradients stopped after {max_iterations} iterations at a relative "
                f"residual of {residual:.1e} (wanted {tolerance:.1e}): look for degenerate "
                "elements with `cardiotwin info`, or allow more iterations"
            )
        solution[:, k] = x
    return solution
