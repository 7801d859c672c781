"""Hexahedra, prisms and pyramids cut into tetrahedra that fit their neighbours' cuts.

Every quadrilateral is cut from its node of smallest index, so the two elements at a face cut it
alike without asking each other: each element is a cone from its own smallest node over the faces
that do not touch it. See Dompierre et al. 1999, "How to subdivide pyramids, prisms and hexahedra
into tetrahedra", 8th International Meshing Roundtable. Node orders are those of VTK.
"""

import numpy as np

from cardiotwin.anatomy.topology import signed_volumes

# Faces of each kind, normals outward, as VTK numbers the nodes.
FACES = {
    "tetra": ((1, 2, 3), (0, 3, 2), (0, 1, 3), (0, 2, 1)),
    "pyramid": ((0, 3, 2, 1), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)),
    "wedge": ((0, 2, 1), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    "hexahedron": (
        (0, 3, 2, 1),
        (4, 5, 6, 7),
        (0, 1, 5, 4),
        (1, 2, 6, 5),
        (2, 3, 7, 6),
        (3, 0, 4, 7),
    ),
}
# Quadratic kinds are read as their linear ones: kind -> (linear kind, corner nodes).
QUADRATIC = {
    "tetra10": ("tetra", 4),
    "pyramid13": ("pyramid", 5),
    "pyramid14": ("pyramid", 5),
    "wedge15": ("wedge", 6),
    "wedge18": ("wedge", 6),
    "hexahedron20": ("hexahedron", 8),
    "hexahedron27": ("hexahedron", 8),
    "triangle6": ("triangle", 3),
    "quad8": ("quad", 4),
    "quad9": ("quad", 4),
}
VOLUMES = tuple(FACES)
SURFACES = ("triangle", "quad")


def split_volumes(
    kind: str, nodes: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut elements of one kind into tetrahedra.

    Args:
        kind: "tetra", "pyramid", "wedge" or "hexahedron".
        nodes: node indices in VTK order [elements, nodes of the kind].
        points: coordinates [nodes, 3], to turn elements numbered the other way round.

    Returns:
        Tetrahedra [t, 4], and the index of the element each came from [t]. Tetrahedra of input
        pass unchanged, even inverted ones; pieces that a collapsed element loses are left out.
    """
    if kind == "tetra":
        return nodes, np.arange(len(nodes))
    pieces, owners = [], []
    apex = np.argmin(nodes, axis=1)
    for corner in range(nodes.shape[1]):
        rows = np.flatnonzero(apex == corner)
        for face in FACES[kind]:
            if corner in face or len(rows) == 0:
                continue
            for triangle in _triangles(nodes[rows][:, face]):
                pieces.append(np.column_stack([nodes[rows, corner], triangle]))
                owners.append(rows)
    cells, owner = np.concatenate(pieces), np.concatenate(owners)
    distinct = (np.diff(np.sort(cells, axis=1), axis=1) > 0).all(axis=1)
    order = np.flatnonzero(distinct)[np.argsort(owner[distinct], kind="stable")]
    cells, owner = cells[order], owner[order]
    total = np.bincount(owner, signed_volumes(points, cells), minlength=len(nodes))
    turned = total[owner] < 0
    cells[turned] = cells[turned][:, [0, 1, 3, 2]]
    return cells, owner


def split_surfaces(kind: str, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut quadrilaterals into triangles as `split_volumes` cuts the faces of elements.

    Returns:
        Triangles [t, 3], and the index of the face each came from [t].
    """
    if kind == "triangle":
        return nodes, np.arange(len(nodes))
    first, second = _triangles(nodes)
    rows = np.arange(len(nodes))
    return np.concatenate([first, second]), np.concatenate([rows, rows])


def _triangles(face: np.ndarray) -> list[np.ndarray]:
    if face.shape[1] == 3:
        return [face]
    odd = np.argmin(face, axis=1) % 2 == 1
    from_even = face[:, [0, 1, 2]], face[:, [0, 2, 3]]
    from_odd = face[:, [1, 2, 3]], face[:, [1, 3, 0]]
    return [np.where(odd[:, None], b, a) for a, b in zip(from_even, from_odd, strict=True)]
