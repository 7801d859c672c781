"""From the potential of the heart's surface to the skin's, by finite elements."""

import numpy as np
from jaxtyping import Float

from cardiotwin.anatomy.closed_surface import ClosedSurface, Nearest
from cardiotwin.anatomy.graded import graded_tetrahedra
from cardiotwin.anatomy.sampled_depth import SampledDepth
from cardiotwin.anatomy.topology import boundary_faces
from cardiotwin.ecg.volume_elements import COLUMNS, surface_interpolation
from cardiotwin.numerics.fem import edge_stiffness, p1_geometry
from cardiotwin.numerics.linear import elliptic_solver
from cardiotwin.numerics.rows import edge_sums, row_pattern

_AROUND = 10.0  # mm of fine elements around the heart


def element_transfer(
    heart: ClosedSurface,
    body: ClosedSurface,
    *,
    fine: float = 4.0,
    coarse: float = 12.0,
    tolerance: float = 1e-8,
) -> Float[np.ndarray, "body heart"]:
    """The matrix of `epicardial_transfer`, by finite elements between both surfaces.

    Args:
        heart: closed surface around the heart, normals outward.
        body: the skin, normals outward.
        fine: edge of the lattice of elements around the heart, mm.
        coarse: largest edge of that lattice, mm.
        tolerance: of the elliptic solves.

    Returns:
        [nodes of the body, nodes of the heart], pure numbers.
    """
    outer, inner = SampledDepth(body, coarse / 2.0), Nearest(heart)
    low, high = heart.points.min(axis=0) - _AROUND, heart.points.max(axis=0) + _AROUND

    def depth(places: np.ndarray) -> np.ndarray:
        found = outer(places)
        near = ((places > low) & (places < high)).all(axis=1)
        found[near] = np.minimum(found[near], -inner.depth(places[near]))
        return found

    bounds = np.stack([body.points.min(axis=0), body.points.max(axis=0)])
    focus = np.stack([low, high])
    points, cells = graded_tetrahedra(depth, bounds, focus, fine, coarse, hollow=True)
    skin = boundary_faces(cells)
    nodes = np.unique(skin)
    # surface nodes belong to the heart where that is nearer than the skin
    fixed = nodes[np.abs(inner.depth(points[nodes])) < np.abs(outer(points[nodes]))]
    given = surface_interpolation(points[fixed][:, None], heart.points, heart.triangles).toarray()
    pattern = row_pattern(cells, len(points))
    tensors = np.broadcast_to(np.eye(3), (len(cells), 3, 3))
    stiffness = edge_stiffness(tensors, *p1_geometry(points, cells))
    solver = elliptic_solver(pattern, -edge_sums(pattern, stiffness), fixed=pattern.rank[fixed])
    of_skin = skin[~np.isin(skin, fixed).any(axis=1)]
    read = surface_interpolation(body.points[:, None], points, of_skin)
    transfer = np.empty((len(body.points), len(heart.points)))
    for start in range(0, len(heart.points), COLUMNS):
        values = given[:, start : start + COLUMNS]
        width = values.shape[1]
        values = np.pad(values, ((0, 0), (0, COLUMNS - width)))  # one program for all batches
        x = solver.solve(np.zeros((len(points), COLUMNS)), values=values, tolerance=tolerance).x
        transfer[:, start : start + width] = (read @ np.asarray(x)[pattern.rank])[:, :width]
    return transfer
