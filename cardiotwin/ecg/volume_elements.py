"""Finite elements of a volume conductor: potentials of currents, and their gradients elsewhere."""

from typing import NamedTuple

import jax
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from cardiotwin.anatomy.closed_surface import closest_points
from cardiotwin.anatomy.topology import areas, boundary_faces
from cardiotwin.numerics.fem import edge_stiffness, p1_geometry
from cardiotwin.numerics.linear import EllipticSolver, elliptic_solver
from cardiotwin.numerics.rows import RowPattern, edge_sums, row_pattern

# Right sides solved together: eight columns cost about twice what one does.
COLUMNS = 16
GPU_STEPS = 48  # iterations on a GPU, which then need not ask the host whether to go on
_DISC_POINTS = 61
_GOLDEN = np.pi * (3.0 - np.sqrt(5.0))
_CANDIDATES = 12  # cells with the nearest centroids, among which the one around a point is sought
_CHUNK = 50_000
_DEEP = 5.0  # mm; nearer to the surface an electrode lies on it


class ConductorMesh(NamedTuple):
    """A volume conductor as tetrahedra.

    Attributes:
        points: [nodes, 3] mm.
        cells: [elements, 4].
        sigma: conductivity of every element [elements, 3, 3], mS/mm.
        tissue: number of the tissue of every element [elements].
    """

    points: Float[np.ndarray, "nodes 3"]
    cells: Int[np.ndarray, "elements 4"]
    sigma: Float[np.ndarray, "elements 3 3"]
    tissue: Int[np.ndarray, " elements"]


class VolumeElements:
    """The elliptic problem of a conductor whose surface is insulated, set up once.

    Args:
        mesh: the conductor.
    """

    mesh: ConductorMesh
    skin: Int[np.ndarray, "faces 3"]
    _pattern: RowPattern
    _solver: EllipticSolver

    def __init__(self, mesh: ConductorMesh):
        self.mesh = mesh
        self.skin = boundary_faces(mesh.cells)
        self._pattern = row_pattern(mesh.cells, len(mesh.points))
        stiffness = edge_stiffness(mesh.sigma, *p1_geometry(mesh.points, mesh.cells))
        self._solver = elliptic_solver(self._pattern, -edge_sums(self._pattern, stiffness))

    def uniform_sink(self) -> Float[np.ndarray, " nodes"]:
        """Weights [nodes] of the mean over the outer surface; they sum to one."""
        area = np.repeat(areas(self.mesh.points, self.skin) / 3.0, 3)
        weights = np.bincount(self.skin.ravel(), area, minlength=len(self.mesh.points))
        return weights / weights.sum()

    def potentials(
        self, currents: Float[np.ndarray, "nodes problems"], tolerance: float = 1e-8
    ) -> Float[np.ndarray, "nodes problems"]:
        """Potentials in mV of currents in uA fed in at the nodes; every column sums to zero.

        The potential is relative to its mean over the outer surface.
        """
        currents = np.asarray(currents, np.float64)
        found = np.empty_like(currents)
        sink = self.uniform_sink()
        steps = GPU_STEPS if jax.default_backend() == "gpu" else None
        for start in range(0, currents.shape[1], COLUMNS):
            part = currents[self._pattern.order, start : start + COLUMNS]
            # one program for all batches
            width = min(COLUMNS, currents.shape[1])
            padded = np.pad(part, ((0, 0), (0, width - part.shape[1])))
            solved = self._solver.solve(
                padded, tolerance=tolerance, steps=steps, throw=steps is None
            )
            if not np.asarray(solved.converged).all():  # more iterations than expected
                solved = self._solver.solve(padded, tolerance=tolerance)
            x = np.asarray(solved.x)
            found[:, start : start + COLUMNS] = x[self._pattern.rank, : part.shape[1]]
        return found - sink @ found

    def surface_weights(
        self, positions: Float[np.ndarray, "electrodes 3"], radius: float
    ) -> sp.csr_matrix:
        """Means over discs on the surface around the points nearest to electrodes.

        Args:
            positions: of the electrodes, mm.
            radius: of the discs, mm; 0 for points.

        Returns:
            Weights [electrodes, nodes]; rows sum to one.
        """
        corners = self.mesh.points[self.skin]
        places = disc_points(positions, corners, radius)
        return surface_interpolation(places, self.mesh.points, self.skin)

    def electrode_weights(
        self, positions: Float[np.ndarray, "electrodes 3"], radius: float
    ) -> sp.csr_matrix:
        """As `surface_weights`, but points where an electrode lies deeper than `radius` and 5 mm.

        Returns:
            Weights [electrodes, nodes]; rows sum to one.
        """
        mesh = self.mesh
        nearest, _ = nearest_on_surface(positions, mesh.points[self.skin])
        weights = self.surface_weights(positions, radius)
        far = np.flatnonzero(np.linalg.norm(nearest - positions, axis=1) > max(_DEEP, radius))
        if len(far) == 0:
            return weights
        element, share, least = locate(positions[far], mesh.points, mesh.cells)
        weights = weights.tolil()
        for k in np.flatnonzero(least >= -1e-9):
            weights[far[k]] = 0.0
            weights[far[k], mesh.cells[element[k]]] = share[k]
        return sp.csr_matrix(weights)


def surface_interpolation(
    places: Float[np.ndarray, "rows samples 3"],
    points: Float[np.ndarray, "nodes 3"],
    faces: Int[np.ndarray, "faces 3"],
) -> sp.csr_matrix:
    """Mean over samples of the linear interpolation on the surface, at the points nearest to them.

    Returns:
        Weights [rows, nodes]; rows sum to one.
    """
    rows, samples = places.shape[:2]
    flat = places.reshape(-1, 3)
    nearest, triangle = nearest_on_surface(flat, points[faces])
    weights = barycentric(nearest, points[faces[triangle]])
    row = np.repeat(np.arange(rows), 3 * samples)
    entries = (weights.ravel() / samples, (row, faces[triangle].ravel()))
    return sp.csr_matrix(entries, shape=(rows, len(points)))


def disc_points(
    positions: Float[np.ndarray, "electrodes 3"],
    corners: Float[np.ndarray, "faces 3 3"],
    radius: float,
) -> Float[np.ndarray, "electrodes samples 3"]:
    """Points spread evenly over a disc that touches the surface next to each electrode."""
    places, triangle = nearest_on_surface(positions, corners)
    if radius == 0.0:
        return places[:, None]
    a, b, c = (corners[triangle, k] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    u = (b - a) / np.linalg.norm(b - a, axis=1, keepdims=True)
    v = np.cross(normal, u)
    k = np.arange(_DISC_POINTS)
    r, angle = radius * np.sqrt((k + 0.5) / _DISC_POINTS), _GOLDEN * k
    x, y = r * np.cos(angle), r * np.sin(angle)
    return places[:, None] + x[:, None] * u[:, None] + y[:, None] * v[:, None]


def nearest_on_surface(
    positions: Float[np.ndarray, "n 3"], corners: Float[np.ndarray, "faces 3 3"]
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Nearest points of a triangulated surface [n, 3] and their triangles [n]."""
    tree = KDTree(corners.mean(axis=1))
    count = min(4 * _CANDIDATES, len(corners))
    _, near = tree.query(positions, k=count)
    near = near.reshape(len(positions), count)
    places = closest_points(positions[:, None], corners[near])
    best = np.argmin(np.linalg.norm(places - positions[:, None], axis=2), axis=1)
    rows = np.arange(len(positions))
    return places[rows, best], near[rows, best]


def barycentric(
    places: Float[np.ndarray, "n 3"], corners: Float[np.ndarray, "n 3 3"]
) -> Float[np.ndarray, "n 3"]:
    """Barycentric coordinates of points in the planes of triangles."""
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    w = places - a
    uu, uv, vv = (np.einsum("ni,ni->n", x, y) for x, y in ((u, u), (u, v), (v, v)))
    wu, wv = np.einsum("ni,ni->n", w, u), np.einsum("ni,ni->n", w, v)
    area = uu * vv - uv * uv
    s, t = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    return np.stack([1.0 - s - t, s, t], axis=1)


def locate(
    places: Float[np.ndarray, "n 3"],
    points: Float[np.ndarray, "nodes 3"],
    cells: Int[np.ndarray, "elements 4"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
    """Which tetrahedra hold points.

    Returns:
        Element [n] with the largest least barycentric coordinate among those with the nearest
        centroids, the coordinates [n, 4], and the least of them [n]: negative where the point lies
        outside all of those.
    """
    gradients, _ = p1_geometry(points, cells)
    centres = points[cells].mean(axis=1)
    tree = KDTree(centres)
    count = min(_CANDIDATES, len(cells))
    element = np.empty(len(places), np.int64)
    share, least = np.empty((len(places), 4)), np.empty(len(places))
    for start in range(0, len(places), _CHUNK):
        part = slice(start, start + _CHUNK)
        here = places[part]
        near = tree.query(here, k=count, workers=-1)[1].reshape(len(here), count)
        offset = here[:, None] - centres[near]
        shares = 0.25 + np.einsum("ncai,nci->nca", gradients[near], offset)
        worst = shares.min(axis=2)
        best, rows = np.argmax(worst, axis=1), np.arange(len(here))
        element[part], share[part] = near[rows, best], shares[rows, best]
        least[part] = worst[rows, best]
    return element, share, least


def gradient_operator(
    mesh: ConductorMesh,
    places: Float[np.ndarray, "n 3"],
    tissue: int | None = None,
    *,
    smooth: bool = True,
) -> sp.csr_matrix:
    """The matrix [3 n, nodes] that takes nodal potentials to their gradients at points.

    The gradient of linear elements is constant in each; averaged over the elements around a node,
    by volume, and interpolated, it is an order more accurate. Only elements of the tissue that the
    points lie in take part where a node has any, since the gradient jumps between tissues.

    Args:
        mesh: the conductor.
        places: the points, mm.
        tissue: number of the tissue that the points lie in; None to average over all elements.
        smooth: whether to average; without, the gradient is that of the element around the point.
    """
    numbers = _cells_near(mesh, places)
    cells, count = mesh.cells[numbers], len(numbers)
    element, share, _ = locate(places, mesh.points, cells)
    gradients, volumes = p1_geometry(mesh.points, cells)
    rows = np.broadcast_to(3 * np.arange(count)[:, None, None] + np.arange(3), gradients.shape)
    columns = np.broadcast_to(cells[:, :, None], gradients.shape)
    per_element = sp.csr_matrix(
        (gradients.ravel(), (rows.ravel(), columns.ravel())), shape=(3 * count, len(mesh.points))
    )
    here = np.arange(len(places))
    if not smooth:
        of_element = _blocks(here, element, np.ones(len(places)), (len(places), count))
        return sp.csr_matrix(of_element @ per_element)
    own = np.ones(count, bool) if tissue is None else mesh.tissue[numbers] == tissue
    weight = _shares_of_cells(cells, volumes, own, len(mesh.points))
    used, local = np.unique(cells, return_inverse=True)
    local = local.reshape(cells.shape)
    at_nodes = _blocks(
        local.ravel(), np.repeat(np.arange(count), 4), weight.ravel(), (len(used), count)
    )
    # a point just outside all elements takes the value of the nearest one's side
    share = np.clip(share, 0.0, None)
    share = share / share.sum(axis=1, keepdims=True)
    at_places = _blocks(
        np.repeat(here, 4), local[element].ravel(), share.ravel(), (len(places), len(used))
    )
    return sp.csr_matrix(at_places @ (at_nodes @ per_element))


def _cells_near(mesh: ConductorMesh, places: np.ndarray) -> Int[np.ndarray, " cells"]:
    """Elements within two edges of the box around points."""
    corners = mesh.points[mesh.cells]
    low, high = corners.min(axis=1), corners.max(axis=1)
    first, last = places.min(axis=0), places.max(axis=0)
    touching = ((high >= first) & (low <= last)).all(axis=1)
    edge = (high - low).max(axis=1)
    reach = 2.0 * edge[touching if touching.any() else slice(None)].max()
    return np.flatnonzero(((high >= first - reach) & (low <= last + reach)).all(axis=1))


def _shares_of_cells(
    cells: np.ndarray, volumes: np.ndarray, own: np.ndarray, nodes: int
) -> Float[np.ndarray, "cells 4"]:
    """Weight of every element at each of its nodes: by volume, over its tissue's own elements."""
    touched = np.zeros(nodes, bool)
    touched[cells[own]] = True
    # a node that the tissue does not touch counts all its elements
    weight = np.where(own[:, None] | ~touched[cells], volumes[:, None], 0.0)
    total = np.bincount(cells.ravel(), weight.ravel(), minlength=nodes)
    return weight / np.where(total > 0, total, 1.0)[cells]


def _blocks(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> sp.csr_matrix:
    """A sparse matrix of multiples of the identity of three dimensions."""
    scalar = sp.csr_matrix((values, (rows, columns)), shape=shape)
    return sp.csr_matrix(sp.kron(scalar, sp.identity(3), format="csr"))
