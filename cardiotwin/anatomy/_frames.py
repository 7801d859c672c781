"""Local frames of the wall: gradients, the frames they span, their turns and interpolation.

A frame has the columns circumferential, longitudinal, transmural until it is turned by its angles,
and fibre, sheet normal, sheet afterwards.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.numerics.fem import p1_geometry

ElementVectors = Float[np.ndarray, "elements 3"]
Frames = Float[np.ndarray, "elements 3 3"]


def element_mean(mesh: Mesh, field: np.ndarray) -> Float[np.ndarray, " elements"]:
    """Mean of a nodal field over the corners of every element."""
    return field[mesh.cells].mean(axis=1)


def smooth_gradients(mesh: Mesh, *fields: np.ndarray) -> list[ElementVectors]:
    """Gradients of nodal fields, averaged to the nodes and back to the elements.

    The gradient within one element is off where the mesh is coarse or its boundary ragged (as the
    base of a segmented heart is); the volume-weighted mean at the nodes is more accurate.
    """
    shapes, volumes = p1_geometry(mesh.points, mesh.cells)
    nodes, corners = len(mesh.points), mesh.cells.ravel()
    share = sp.csr_matrix(
        (np.repeat(volumes, 4), (corners, np.repeat(np.arange(len(volumes)), 4))),
        shape=(nodes, len(volumes)),
    )
    weight = np.bincount(corners, np.repeat(volumes, 4), nodes)[:, None]
    means = []
    for field in fields:
        at_nodes = (share @ np.einsum("eai,ea->ei", shapes, field[mesh.cells])) / weight
        means.append(at_nodes[mesh.cells].mean(axis=1))
    return means


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [vectors, 3] of length one; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float64).tiny)


def axes_of(up: ElementVectors, through: ElementVectors) -> tuple[Frames, np.ndarray]:
    """Frames (circumferential, longitudinal, transmural), and how well they are defined.

    Returns:
        Columns e0 = e1 x e2, e1 along `up`, e2 the part of `through` perpendicular to it; and the
        sine of the angle between the two, zero where a gradient vanishes.
    """
    e1 = unit(up)
    across = unit(through)
    across -= e1 * np.einsum("ei,ei->e", e1, across)[:, None]
    sine = np.where(np.linalg.norm(e1, axis=1) > 0.5, np.linalg.norm(across, axis=1), 0.0)
    spare = np.eye(3)[np.argmin(np.abs(e1), axis=1)]  # any frame where there is none
    spare -= e1 * np.einsum("ei,ei->e", e1, spare)[:, None]
    e1 = np.where(np.linalg.norm(e1, axis=1, keepdims=True) > 0.5, e1, np.roll(spare, 1, axis=1))
    e2 = unit(np.where(sine[:, None] > 1e-6, across, spare))
    return np.stack([np.cross(e1, e2), e1, e2], axis=2), sine


def oriented(frames: Frames, alpha: np.ndarray, beta: np.ndarray) -> Frames:
    """Turn frames by the helix angle about e2, then by the sheet angle about the fibre; radians."""
    e0, e1, e2 = (frames[:, :, k] for k in range(3))
    cos_a, sin_a, cos_b, sin_b = (
        function(angle)[:, None] for angle in (alpha, beta) for function in (np.cos, np.sin)
    )
    fibre = cos_a * e0 + sin_a * e1
    upward = cos_a * e1 - sin_a * e0
    return np.stack([fibre, cos_b * upward - sin_b * e2, sin_b * upward + cos_b * e2], axis=2)


def between(first: Frames, second: Frames, weight: np.ndarray) -> Frames:
    """Frames on the shortest way from one to another, with the signs that their axes have."""
    start = Rotation.from_matrix(first)
    way = (start.inv() * Rotation.from_matrix(second)).as_rotvec()
    return (start * Rotation.from_rotvec(weight[:, None] * way)).as_matrix()


def bislerp(first: Frames, second: Frames, weight: np.ndarray) -> Frames:
    """Interpolate frames whose axes have no sign: Bayer's bidirectional spherical interpolation.

    Half turns about its own axes (q i, q j, q k) leave a frame the same; the one nearest to the
    second frame is interpolated to it, along the shorter of the two ways round.
    """
    x, y, z, w = (q := Rotation.from_matrix(first).as_quat()).T
    other = Rotation.from_matrix(second).as_quat()
    turned = np.stack(
        [
            q,
            np.stack([w, z, -y, -x], axis=1),
            np.stack([-z, w, x, -y], axis=1),
            np.stack([y, -x, w, -z], axis=1),
        ]
    )
    cosine = np.einsum("kei,ei->ke", turned, other)
    best = np.argmax(np.abs(cosine), axis=0)
    rows = np.arange(len(best))
    cosine = cosine[best, rows]
    start = turned[best, rows] * np.where(cosine < 0.0, -1.0, 1.0)[:, None]
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    a = np.where(near, 1.0 - weight, np.sin((1.0 - weight) * angle) / safe)
    b = np.where(near, weight, np.sin(weight * angle) / safe)
    return Rotation.from_quat(a[:, None] * start + b[:, None] * other).as_matrix()


def borrowed(mesh: Mesh, frames: Frames, defined: np.ndarray) -> Frames:
    """Give elements without a frame that of the nearest element with one."""
    if defined.all():
        return frames
    if not defined.any():
        raise ValueError(
            "no element has a fibre direction: the longitudinal and transmural gradients are "
            "parallel everywhere; check the labels of the surfaces"
        )
    centres = mesh.points[mesh.cells].mean(axis=1)
    _, nearest = KDTree(centres[defined]).query(centres[~defined])
    filled = frames.copy()
    filled[~defined] = frames[defined][nearest]
    return filled
