"""Lengths along the lines of steepest descent of a field, as wall thickness and height need them.

A line starts at a node and runs against the gradient down to where the field is lowest. From each
node it is followed through one element, to the face opposite; the length from there on is that of
the face's corners, interpolated. One step of the semi-Lagrangian solution of grad u . grad D =
|grad u| (Yezzi and Prince 2003, https://doi.org/10.1109/TMI.2003.817775), first order in the edge.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

_CORNERS = np.arange(4)
# Sweeps are as many as elements on the longest line, and some more; lengths are right to a share.
_SWEEPS, _SMALL = 10000, 1e-6


def trajectory_lengths(
    points: Float[np.ndarray, "nodes 3"],
    cells: Int[np.ndarray, "elements 4"],
    gradients: Float[np.ndarray, "elements 4 3"],
    volumes: Float[np.ndarray, " elements"],
    u: Float[np.ndarray, " nodes"],
    start: Int[np.ndarray, " start"],
) -> Float[np.ndarray, " nodes"]:
    """Length in mm of the line of steepest descent of `u` from every node to the start.

    Args:
        points: [nodes, 3] mm.
        cells: [elements, 4] indices.
        gradients: of the barycentric functions [elements, 4, 3], 1/mm (`p1_geometry`).
        volumes: of the elements, mm3.
        u: field without minima off the start, such as a solution of Laplace's equation.
        start: nodes [start] where the lines end; length 0.

    Returns:
        Lengths [nodes]; 0 at the start and at nodes of no element.
    """
    heading = _directions(cells, gradients, volumes, u)
    weights, length = _steps(points, cells, gradients, heading, u)
    stays = np.ones(len(points))
    stays[start] = 0.0
    length = length * stays
    weights = sp.diags_array(stays) @ weights
    found = np.zeros(len(u))
    for _ in range(_SWEEPS):  # each carries the lengths one element farther
        before, found = found, weights @ found + length
        if np.abs(found - before).max(initial=0.0) <= _SMALL * found.max(initial=0.0):
            break
    return found


def _directions(
    cells: np.ndarray, gradients: np.ndarray, volumes: np.ndarray, u: np.ndarray
) -> Float[np.ndarray, "nodes 3"]:
    """Unit vectors up the field at the nodes: the mean over the elements around, by volume."""
    slope = np.einsum("eai,ea->ei", gradients, u[cells])
    size = np.linalg.norm(slope, axis=1, keepdims=True)
    unit = slope / np.where(size > 0.0, size, 1.0) * volumes[:, None]
    total = np.stack([np.bincount(cells.ravel(), np.repeat(x, 4), len(u)) for x in unit.T], axis=1)
    size = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(size > 0.0, size, 1.0)


def _steps(
    points: np.ndarray,
    cells: np.ndarray,
    gradients: np.ndarray,
    heading: np.ndarray,
    u: np.ndarray,
) -> tuple[sp.csr_array, Float[np.ndarray, " nodes"]]:
    """Where a line that goes down from each node meets the next face, and how far that is."""
    count = len(points)
    node = cells.ravel()
    # shares of the opposite face's corners: rates at which barycentric coordinates grow downwards
    rate = -np.einsum("eai,eci->eca", gradients, heading[cells])  # [element, node, corner]
    rate[:, _CORNERS, _CORNERS] = 0.0
    rate = rate.reshape(-1, 4)
    inside = np.maximum(rate, 0.0)
    total = inside.sum(axis=1)
    share = inside / np.where(total > 0.0, total, 1.0)[:, None]
    corners = np.repeat(cells, 4, axis=0)
    fall = u[node] - np.einsum("kc,kc->k", share, u[corners])
    # best is an element that the line truly enters; it must lead down
    fit = rate.min(axis=1) / np.maximum(np.abs(rate).max(axis=1), 1e-300)
    fit = np.where((total > 0.0) & (fall > 0.0), fit, -np.inf)
    ranked = np.lexsort((-fit, node))
    first = ranked[np.searchsorted(node[ranked], np.unique(node))]
    chosen = first[np.isfinite(fit[first])]
    rows = node[chosen]
    met = np.einsum("kc,kci->ki", share[chosen], points[corners[chosen]])
    along = np.einsum("ki,ki->k", points[rows] - met, heading[rows])
    length = np.zeros(count)
    length[rows] = np.maximum(along, 0.0)
    weights = sp.csr_array(
        (share[chosen].ravel(), (np.repeat(rows, 4), corners[chosen].ravel())), (count, count)
    )
    return _with_descents(weights, length, points, cells, u, np.setdiff1d(node, rows)), length


def _with_descents(
    weights: sp.csr_array,
    length: np.ndarray,
    points: np.ndarray,
    cells: np.ndarray,
    u: np.ndarray,
    lost: Int[np.ndarray, " lost"],
) -> sp.csr_array:
    """Nodes whose line enters no element go along the edge to their lowest neighbour."""
    if not lost.size:
        return weights
    pairs = np.concatenate([cells[:, [a, b]] for a in _CORNERS for b in _CORNERS if a != b])
    pairs = pairs[np.isin(pairs[:, 0], lost)]
    ranked = pairs[np.lexsort((u[pairs[:, 1]], pairs[:, 0]))]
    _, first = np.unique(ranked[:, 0], return_index=True)
    here, there = ranked[first].T
    down = u[there] < u[here]  # a minimum ends its line
    here, there = here[down], there[down]
    length[here] = np.linalg.norm(points[here] - points[there], axis=1)
    more = sp.csr_array((np.ones(len(here)), (here, there)), weights.shape)
    return sp.csr_array(weights + more)
