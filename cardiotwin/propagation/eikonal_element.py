"""Arrival of a front at one corner of a tetrahedron through the opposite face.

All from the squared travel times along the six edges, so a metric of its own for every element
costs nothing. Everything works on arrays of elements at once.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
EDGE_OF = {frozenset(edge): k for k, edge in enumerate(EDGES)}
FACES = ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2))  # opposite to each corner
# edges as a corner sees them: to the three others, then between those
SEEN_FROM = tuple(
    tuple(EDGE_OF[frozenset(edge)] for edge in ((k, i), (k, j), (k, m), (i, j), (i, m), (j, m)))
    for k, (i, j, m) in enumerate(FACES)
)
FACE_EDGES = ((0, 1, 3), (0, 2, 4), (1, 2, 5))  # two corners of the face and the edge between


def arrival(squares: Sequence[Array] | Array, late: Sequence[Array] | Array) -> Array:
    """Arrival at a node through the opposite face: through its inside or along its edges.

    Args:
        squares: [6, ...] squared travel times, of the node's own edges first (see `SEEN_FROM`).
        late: [3, ...] times of the face's corners.
    """
    inside, _, valid = through_face(squares, late)
    along = [along_edge(squares, late, *edge)[0] for edge in FACE_EDGES]
    least = jnp.minimum(jnp.minimum(along[0], along[1]), along[2])
    return jnp.where(valid, jnp.minimum(inside, least), least)


def through_face(squares, late):
    """Arrival through the inside of a face, its weights, and whether the way does lead through it.

    With the slowness s of the plane front, E s = T - t for the edges E from the face's corners to
    the node: (T - t) . inverse(E E^T) (T - t) = 1, whose greater root is the arrival. The weights
    of the corners, where the way crosses the face, are proportional to inverse(E E^T) (T - t).
    """
    g11, g22, g33 = squares[0], squares[1], squares[2]
    g12 = 0.5 * (g11 + g22 - squares[3])
    g13 = 0.5 * (g11 + g33 - squares[4])
    g23 = 0.5 * (g22 + g33 - squares[5])
    a12, a13, a23 = g13 * g23 - g12 * g33, g12 * g23 - g13 * g22, g12 * g13 - g11 * g23
    a11, a22, a33 = g22 * g33 - g23 * g23, g11 * g33 - g13 * g13, g11 * g22 - g12 * g12
    determinant = g11 * a11 + g12 * a12 + g13 * a13
    least = jnp.minimum(jnp.minimum(late[0], late[1]), late[2])
    t1, t2, t3 = late[0] - least, late[1] - least, late[2] - least  # small: float32 suffices
    sums = (a11 + a12 + a13, a12 + a22 + a23, a13 + a23 + a33)
    turned = (
        a11 * t1 + a12 * t2 + a13 * t3,
        a12 * t1 + a22 * t2 + a23 * t3,
        a13 * t1 + a23 * t2 + a33 * t3,
    )
    a, b = sum(sums), sum(turned)
    root = b * b - a * (t1 * turned[0] + t2 * turned[1] + t3 * turned[2] - determinant)
    after = (b + root_of(root)) / a
    weights = [total * after - shift for total, shift in zip(sums, turned, strict=True)]
    valid = (root >= 0.0) & (weights[0] >= 0.0) & (weights[1] >= 0.0) & (weights[2] >= 0.0)
    return least + after, weights, valid


def along_edge(squares, late, a: int, b: int, opposite: int):
    """Arrival by way of a point of the edge a-b of the face, and the share of b in that point."""
    length, own = squares[opposite], squares[a]
    foot = 0.5 * (own + length - squares[b]) / length  # of the perpendicular from the node
    height = jnp.maximum(own - foot * foot * length, 0.0)
    difference = late[b] - late[a]
    slack = length - difference * difference
    beside = jnp.where(slack > 0.0, slack, length)  # any number: not chosen, nor differentiated
    inner = foot - difference * root_of(height / (length * beside))
    end = jnp.where(difference < 0.0, 1.0, 0.0).astype(length.dtype)
    share = jnp.where(slack > 0.0, jnp.clip(inner, 0.0, 1.0), end)
    off = share - foot
    return late[a] + share * difference + root_of(height + off * off * length), share


def root_of(square: Array) -> Array:
    """Square root, zero below zero, whose derivative at zero is zero instead of infinite."""
    return jnp.where(square > 0.0, jnp.sqrt(jnp.where(square > 0.0, square, 1.0)), 0.0)
