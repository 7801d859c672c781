"""Faces, edges, volumes and connected components of tetrahedra, on the host in NumPy."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

# The four faces of a positive tetrahedron, each opposite the vertex of its place, seen from
# outside counter-clockwise: the normal points out of the element.
TETRA_FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
TETRA_EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])


class Faces(NamedTuple):
    """All element faces: `nodes` [4 elements, 3] outward, sorted `keys`, and `count` per face.

    Face number i belongs to element i % elements. `count` says how many elements share it.
    """

    nodes: np.ndarray
    keys: np.ndarray
    count: np.ndarray


def signed_volumes(
    points: Float[np.ndarray, "nodes 3"], cells: Int[np.ndarray, "elements 4"]
) -> Float[np.ndarray, " elements"]:
    """Volumes in mm3, negative where an element is inverted.

    Args:
        points: [nodes, 3] mm.
        cells: [elements, 4] node indices.
    """
    a, b, c = (points[cells[:, k]] - points[cells[:, 0]] for k in (1, 2, 3))
    return np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0


def unique_edges(cells: Int[np.ndarray, "elements vertices"]) -> Int[np.ndarray, "edges 2"]:
    """Every edge once, lower node first, sorted.

    Args:
        cells: [elements, 4] tetrahedra or [faces, 3] triangles.
    """
    local = TETRA_EDGES if cells.shape[1] == 4 else np.array([[0, 1], [1, 2], [2, 0]])
    starts, ends = cells[:, local[:, 0]].ravel(), cells[:, local[:, 1]].ravel()
    low, high = np.minimum(starts, ends).astype(np.int64), np.maximum(starts, ends)
    keys = np.sort((low << 32) | high)  # np.unique of NumPy 2.4 hashes: twenty times slower here
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1).astype(np.int32)


def face_keys(faces: Int[np.ndarray, "faces 3"]) -> np.ndarray:
    """One sortable key a face, the same for every order of its three nodes.

    The three sorted indices are packed into 63 bits where they fit (below 2,097,152), so that
    finding faces is a sort of integers; otherwise a key is the 24 bytes of the row. Keys of two
    lists compare only when they were made in one call.
    """
    ordered = np.sort(np.asarray(faces), axis=1).astype(np.int64)
    if ordered[:, 2].max(initial=0) >= 1 << 21:
        big_endian = np.ascontiguousarray(ordered.astype(">i8"))  # bytes then sort as numbers do
        return big_endian.view("S24").ravel()
    return (ordered[:, 0] << 42) | (ordered[:, 1] << 21) | ordered[:, 2]


def element_faces(cells: Int[np.ndarray, "elements 4"]) -> Faces:
    """All faces of all elements, with how many elements share each."""
    nodes = np.concatenate([cells[:, local] for local in TETRA_FACES])
    keys = face_keys(nodes)
    _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    return Faces(nodes, keys, count[inverse])


def boundary_faces(cells: Int[np.ndarray, "elements 4"]) -> Int[np.ndarray, "faces 3"]:
    """Faces that belong to one element only, their normals pointing out of the tissue.

    Args:
        cells: [elements, 4] tetrahedra of positive volume.

    Returns:
        [faces, 3] node indices, counter-clockwise seen from outside.
    """
    faces = element_faces(cells)
    return np.ascontiguousarray(faces.nodes[faces.count == 1])


def match_faces(
    faces: Int[np.ndarray, "faces 3"], reference: Int[np.ndarray, "reference 3"]
) -> Int[np.ndarray, " faces"]:
    """For each face the index of the same face in `reference` (any node order), or -1."""
    if len(reference) == 0 or len(faces) == 0:
        return np.full(len(faces), -1)
    keys, wanted = np.split(face_keys(np.concatenate([reference, faces])), [len(reference)])
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found = order[place]
    return np.where(keys[found] == wanted, found, -1)


def same_winding(
    faces: Int[np.ndarray, "faces 3"], others: Int[np.ndarray, "faces 3"]
) -> np.ndarray:
    """Whether two lists of the same faces run round them in the same sense, face by face."""
    first = np.argmax(others == faces[:, :1], axis=1)
    rows = np.arange(len(faces))
    return others[rows, (first + 1) % 3] == faces[:, 1]


def component_labels(cells: Int[np.ndarray, "elements vertices"], nodes: int) -> np.ndarray:
    """Connected component of every node (elements that share a node are connected) [nodes]."""
    starts = np.repeat(cells[:, 0], cells.shape[1] - 1)
    ends = cells[:, 1:].ravel()
    links = sp.coo_matrix((np.ones(len(ends)), (starts, ends)), shape=(nodes, nodes))
    return connected_components(links, directed=False)[1]


def face_component_count(faces: Faces) -> int:
    """Number of groups of elements joined through faces: a pinch at an edge or node separates.

    Args:
        faces: what `element_faces` returns.
    """
    return int(face_components(faces).max(initial=-1)) + 1


def face_components(faces: Faces) -> Int[np.ndarray, " elements"]:
    """Group of every element, where elements are joined through faces.

    Args:
        faces: what `element_faces` returns.
    """
    keys, count = faces.keys, len(faces.keys) // 4
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    left, right = order[same] % count, order[same + 1] % count
    links = sp.coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1])


def areas(
    points: Float[np.ndarray, "nodes 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, " faces"]:
    """Areas of triangles in mm2."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
