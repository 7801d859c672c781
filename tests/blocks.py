"""Small meshes for tests: a block of tetrahedra with regions, surfaces and fields."""

import itertools

import numpy as np

from cardiotwin.anatomy.mesh import Mesh, boundary_faces, oriented


def block_arrays(shape=(3, 2, 2), edge=10.0, seed=None):
    """Points and cells of a box cut into Kuhn tetrahedra; `seed` shakes the inner coordinates."""
    axes = [np.arange(n + 1) * edge for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    if seed is not None:
        points = points + np.random.default_rng(seed).uniform(-0.1, 0.1, points.shape) * edge
    index = np.arange(len(points)).reshape([n + 1 for n in shape])
    corner = {
        step: index[tuple(slice(s, s + n) for s, n in zip(step, shape, strict=True))].ravel()
        for step in itertools.product((0, 1), repeat=3)
    }
    cells = []
    for order in itertools.permutations(range(3)):
        step, path = [0, 0, 0], [corner[0, 0, 0]]
        for axis in order:
            step[axis] = 1
            path.append(corner[tuple(step)])
        cells.append(np.stack(path, axis=1))
    return points, oriented(points, np.concatenate(cells))


def block(shape=(3, 2, 2), edge=10.0, seed=0):
    """A block with two regions, four surfaces, directions and fields: one of everything."""
    points, cells = block_arrays(shape, edge, seed)
    random = np.random.default_rng(1)
    faces = boundary_faces(cells)
    centres = points[faces].mean(axis=1)
    side = np.select([centres[:, 0] < edge / 4, centres[:, 2] < edge / 4], [0, 1], 2)
    fibre = random.normal(size=(len(cells), 3))
    fibre /= np.linalg.norm(fibre, axis=1, keepdims=True)
    sheet = np.cross(fibre, [0.0, 0.0, 1.0])
    sheet /= np.linalg.norm(sheet, axis=1, keepdims=True)
    return Mesh(
        points,
        cells,
        np.where(points[cells].mean(axis=1)[:, 0] < 1.5 * edge, 1, 7),
        surfaces={"base": faces[side == 0], "endo_lv": faces[side == 1], "epi": faces[side == 2]},
        point_data={"activation": random.normal(size=len(points))},
        cell_data={"fibre": fibre, "sheet": sheet, "scar": random.normal(size=len(cells))},
        region_names={1: "lv", 7: "septum"},
    )


def assert_same(first: Mesh, second: Mesh, *, fields=True):
    """The two meshes agree bit by bit, in type too."""
    assert first.points.dtype == second.points.dtype
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.cells, second.cells)
    np.testing.assert_array_equal(first.regions, second.regions)
    assert dict(first.region_names) == dict(second.region_names)
    assert list(first.surfaces) == list(second.surfaces)
    for name, faces in first.surfaces.items():
        np.testing.assert_array_equal(faces, second.surfaces[name], err_msg=name)
    if fields:
        for one, two in (
            (first.point_data, second.point_data),
            (first.cell_data, second.cell_data),
        ):
            assert set(one) == set(two)
            for name, values in one.items():
                assert values.dtype == two[name].dtype, name
                np.testing.assert_array_equal(values, two[name], err_msg=name)
