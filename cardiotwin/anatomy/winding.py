"""Angles around a hole: the smoothest one that winds round it as a given one does."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int

from cardiotwin.numerics.elliptic import solve_laplace

# Weight of elements that hold the axis: enough that their nodes hang together with the rest.
_AXIS = 1e-2
_PAIRS = ((1, 2), (1, 3), (2, 3))


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles in radians, brought to -pi to pi."""
    return np.remainder(angle + np.pi, 2.0 * np.pi) - np.pi


def around_axis(
    angle: Float[np.ndarray, " nodes"], cells: Int[np.ndarray, "elements 4"]
) -> Bool[np.ndarray, " elements"]:
    """Elements around which an angle turns once: the ones that its axis passes through."""
    steps = wrapped(angle[cells] - angle[cells[:, :1]])
    turns = np.zeros(len(cells), bool)
    for a, b in _PAIRS:
        direct = wrapped(angle[cells[:, b]] - angle[cells[:, a]])
        turns |= np.abs(steps[:, b] - steps[:, a] - direct) > 1e-6
    return turns


def harmonic_angle(
    angle: Float[np.ndarray, " nodes"],
    cells: Int[np.ndarray, "elements 4"],
    gradients: Float[np.ndarray, "elements 4 3"],
    volumes: Float[np.ndarray, " elements"],
) -> Float[np.ndarray, " nodes"]:
    """The angle of least gradient among those that wind around the axis as the given one does.

    The mean square of the gradient is least: around a wall of even thickness equal lengths are
    equal angles, whatever the shape of the hole. Only how the given angle winds matters, and its
    mean.

    Args:
        angle: radians [nodes], jumps by 2 pi allowed.
        cells: [elements, 4] indices; every node in some element.
        gradients: of the barycentric functions [elements, 4, 3], 1/mm.
        volumes: of the elements, mm3.

    Returns:
        Angle in radians, -pi to pi [nodes].
    """
    weight = volumes * np.where(around_axis(angle, cells), _AXIS, 1.0)
    local = np.einsum("e,eai,ebi->eab", weight, gradients, gradients)
    rows, columns = np.repeat(cells, 4, axis=1).ravel(), np.tile(cells, (1, 4)).ravel()
    stiffness = sp.csr_matrix((local.ravel(), (rows, columns)), shape=(len(angle), len(angle)))
    steps = wrapped(angle[cells] - angle[cells[:, :1]])
    steps[around_axis(angle, cells)] = 0.0
    pull = np.bincount(cells.ravel(), np.einsum("eab,eb->ea", local, steps).ravel(), len(angle))
    smoother = solve_laplace(stiffness, np.array([0]), np.zeros(1), source=-pull)
    return wrapped(angle + smoother - smoother.mean())
