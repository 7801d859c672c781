"""Linear (P1) finite elements on tetrahedra: geometry, and matrices for set-up work on the host."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from .concrete import library, of_jax
from .rows import TETRAHEDRON_EDGES


def p1_geometry(points: Any, cells: np.ndarray) -> tuple[Any, Any]:
    """Gradients of the four barycentric functions, and the volume, of every tetrahedron.

    Args:
        points: [nodes, 3] mm.
        cells: [elements, 4] node indices, positively oriented.

    Returns:
        Gradients [elements, 4, 3] in 1/mm and volumes [elements] in mm3. NumPy in, NumPy (float64)
        out; JAX in, JAX out, differentiable.
    """
    xp = library(points)
    corners = (points if of_jax(points) else np.asarray(points, np.float64))[cells]
    edges = corners[:, 1:] - corners[:, :1]
    opposite = xp.stack(
        [xp.cross(edges[:, (k + 1) % 3], edges[:, (k + 2) % 3]) for k in range(3)], axis=1
    )
    six_volumes = xp.einsum("ei,ei->e", edges[:, 0], opposite[:, 0])
    inner = opposite / six_volumes[:, None, None]
    gradients = xp.concatenate([-inner.sum(axis=1, keepdims=True), inner], axis=1)
    return gradients, six_volumes / 6.0


def edge_stiffness(tensor: Any, gradients: Any, volumes: Any) -> Any:
    """Minus the stiffness of every corner pair of every element, [elements, 6].

    Args:
        tensor: symmetric [elements, 3, 3].
        gradients: of the barycentric functions [elements, 4, 3], 1/mm.
        volumes: of the elements [elements], mm3.
    """
    first, second = TETRAHEDRON_EDGES.T
    xp = library(tensor, gradients, volumes)
    flux = gradients @ tensor
    return -volumes[:, None] * xp.einsum("eai,eai->ea", gradients[:, first], flux[:, second])


def stiffness_matrix(
    points: np.ndarray, cells: np.ndarray, tensor: np.ndarray | None = None
) -> sp.csr_matrix:
    """Stiffness matrix K_ij = sum over elements of V grad_i . T grad_j.

    Args:
        points: [nodes, 3] mm.
        cells: [elements, 4].
        tensor: symmetric [elements, 3, 3]; the identity when left out.

    Returns:
        A symmetric positive semi-definite float64 matrix [nodes, nodes].
    """
    gradients, volumes = p1_geometry(points, cells)
    flux = gradients if tensor is None else np.einsum("eij,eaj->eai", tensor, gradients)
    local = np.einsum("e,eai,ebi->eab", volumes, gradients, flux)
    return _assemble(local, cells, len(points))


def mass_matrix(points: np.ndarray, cells: np.ndarray) -> sp.csr_matrix:
    """Consistent mass matrix [nodes, nodes] in mm3; its row sums are the lumped mass."""
    _, volumes = p1_geometry(points, cells)
    local = volumes[:, None, None] * ((np.ones((4, 4)) + np.eye(4)) / 20.0)
    return _assemble(local, cells, len(points))


def _assemble(local: np.ndarray, cells: np.ndarray, nodes: int) -> sp.csr_matrix:
    rows = np.repeat(cells, 4, axis=1).ravel()
    columns = np.tile(cells, (1, 4)).ravel()
    return sp.csr_matrix((local.ravel(), (rows, columns)), shape=(nodes, nodes))
