"""Regular lattices of tetrahedra that fill a box.

Three patterns, all conforming and with flat faces on the six sides:

- ``kuhn``: six tetrahedra a cube, all around the diagonal from corner (0,0,0) to (1,1,1)
  (Kuhn 1960). The diagonal direction is preferred, so a wave runs faster along it.
- ``alternating``: the same six, mirrored from cube to cube (the union-jack or J1 triangulation,
  Todd 1976), so that the eight diagonal directions occur equally often.
- ``bcc``: the body-centred cubic lattice, cut flat at the sides; congruent, nearly regular
  tetrahedra whose dihedral angles are 60 and 90 degrees.
"""

import itertools
import math
from typing import Literal

import numpy as np

LARGEST = 2**30  # cubes: up to two nodes each, numbered by int32

Pattern = Literal["kuhn", "alternating", "bcc"]

# The six orders of walking from corner 000 to corner 111 along the axes.
_KUHN_CORNERS = np.array(
    [
        np.concatenate([np.zeros((1, 3), int), np.eye(3, dtype=int)[list(order)].cumsum(axis=0)])
        for order in itertools.permutations(range(3))
    ]
)


def box_lattice(counts: tuple[int, int, int], pattern: Pattern) -> tuple[np.ndarray, np.ndarray]:
    """Tetrahedra that fill a box of unit cubes.

    Args:
        counts: number of cubes along x, y and z.
        pattern: "kuhn", "alternating" or "bcc".

    Returns:
        Points float64 [nodes, 3] in units of the cube edge, corner (0, 0, 0) at the origin, and
        cells int32 [elements, 4] of positive volume.

    Raises:
        ValueError: more cubes than a mesh can number.
    """
    check_counts(counts)
    if pattern == "bcc":
        points, cells = _body_centred(counts)
    else:
        points, cells = _kuhn(counts, mirrored=pattern == "alternating")
    return points, orient_positive(points, cells)


def check_counts(counts: tuple[int, int, int]) -> None:
    """Refuse a lattice whose nodes 32-bit numbers cannot count, before any of it is made."""
    cubes = math.prod(int(n) for n in counts)
    if cubes > LARGEST:
        raise ValueError(
            f"a lattice of {' x '.join(map(str, counts))} = {cubes:.2g} cubes is more than the "
            f"{LARGEST:.2g} that a mesh can hold: use a longer edge length"
        )


def orient_positive(points: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Cells int32 [elements, 4] with two nodes swapped wherever the volume was negative."""
    corners = points[cells]
    edges = corners[:, 1:] - corners[:, :1]
    negative = np.einsum("ei,ei->e", edges[:, 0], np.cross(edges[:, 1], edges[:, 2])) < 0.0
    oriented = np.array(cells, dtype=np.int32)
    oriented[negative, 2:] = oriented[negative, :1:-1]
    return oriented


def _grid(counts: tuple[int, int, int]) -> np.ndarray:
    """Integer coordinates [product of counts, 3] with x running fastest."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in counts[::-1]), indexing="ij")
    return np.stack([x, y, z], axis=-1).reshape(-1, 3)


def _flat(index: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Position in ``_grid(counts)`` of integer coordinates [..., 3]."""
    return index[..., 0] + counts[0] * (index[..., 1] + counts[1] * index[..., 2])


def _kuhn(counts: tuple[int, int, int], *, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    cubes = _grid(counts)
    corners = np.broadcast_to(_KUHN_CORNERS, (len(cubes), *_KUHN_CORNERS.shape))
    if mirrored:
        odd = (cubes % 2)[:, None, None, :]
        corners = np.where(odd == 1, 1 - corners, corners)
    nodes = np.asarray(counts) + 1
    cells = _flat(cubes[:, None, None, :] + corners, nodes).reshape(-1, 4)
    return _grid(tuple(nodes)).astype(np.float64), cells


def _body_centred(counts: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    points = body_centred_points(counts)
    return points, body_centred_cells(counts, np.ones(len(points), bool))


def body_centred_points(counts: tuple[int, int, int]) -> np.ndarray:
    """Nodes of the body-centred lattice in a box of unit cubes.

    Args:
        counts: number of cubes along x, y and z.

    Returns:
        float64 [nodes, 3]: cube corners, then cube centres, then the centres of the cubes' faces
        on the low and high side of x, y and z.
    """
    points = [_grid(tuple(np.asarray(counts) + 1)).astype(np.float64), _grid(counts) + 0.5]
    for axis in range(3):
        side = np.array(counts)
        side[axis] = 1
        centres = _grid(tuple(side)) + np.where(np.arange(3) == axis, 0.0, 0.5)
        points += [centres, centres + counts[axis] * np.eye(3)[axis]]
    return np.concatenate(points)


def body_centred_cells(counts: tuple[int, int, int], wanted: np.ndarray) -> np.ndarray:
    """Tetrahedra of the body-centred lattice that touch a wanted node.

    Every face of a cube carries four tetrahedra, one for each of its edges: the edge with the
    centres of the two cubes, or on a side of the box with the cube's and the face's centre.

    Args:
        counts: number of cubes along x, y and z.
        wanted: bool [nodes] over ``body_centred_points(counts)``.

    Returns:
        int32 [elements, 4], of either orientation.
    """
    size = np.asarray(counts)
    corners, centres = int((size + 1).prod()), int(size.prod())
    offset = corners + centres
    cells = []
    for axis in range(3):
        faces = _grid(tuple(size + (np.arange(3) == axis)))
        u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
        ring = _flat(faces[:, None] + np.stack([0 * u, u, u + v, v]), size + 1)
        first, last = faces[:, axis] == 0, faces[:, axis] == size[axis]
        low = corners + _flat(faces - np.eye(3, dtype=int)[axis], size)
        high = corners + _flat(faces, size)
        on_side = centres // counts[axis]
        low[first] = offset + np.arange(on_side)
        high[last] = offset + on_side + np.arange(on_side)
        offset += 2 * on_side
        for k in range(4):
            tetrahedra = np.stack([ring[:, k], ring[:, (k + 1) % 4], low, high], axis=1)
            cells.append(tetrahedra[wanted[tetrahedra].any(axis=1)].astype(np.int32))
    return np.concatenate(cells)
