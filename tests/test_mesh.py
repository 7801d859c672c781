"""What a mesh promises, and what it says when a promise does not hold."""

import time

import equinox as eqx
import numpy as np
import pytest
from blocks import assert_same, block, block_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiotwin.anatomy.mesh import Mesh, boundary_faces, oriented, outward, unique_edges
from cardiotwin.anatomy.topology import (
    areas,
    element_faces,
    face_component_count,
    match_faces,
    signed_volumes,
)


@pytest.fixture(scope="module")
def mesh():
    return block()


@pytest.fixture
def arrays():
    return block_arrays()


def test_a_good_mesh_keeps_types_and_sizes(mesh):
    assert mesh.points.dtype == np.float64
    assert mesh.cells.dtype == np.int32
    assert mesh.regions.dtype == np.int32
    assert all(faces.dtype == np.int32 for faces in mesh.surfaces.values())
    assert mesh.nodes == 36
    assert mesh.elements == 72
    assert (mesh.volumes() > 0).all()
    np.testing.assert_allclose(mesh.volume(), mesh.volumes().sum())
    assert mesh.centroids().shape == (72, 3)


def test_block_volume_is_exact(arrays):
    np.testing.assert_allclose(Mesh(*arrays).volume(), 30 * 20 * 20)


def test_a_mesh_is_a_pytree(mesh):
    import jax

    leaves, structure = jax.tree_util.tree_flatten(mesh)
    assert eqx.tree_equal(jax.tree_util.tree_unflatten(structure, leaves), mesh)


def test_boundary_faces_point_outward(arrays):
    points, cells = arrays
    faces = boundary_faces(cells)
    a, b, c = (points[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    away = (a + b + c) / 3 - points.mean(axis=0)
    assert (np.einsum("ij,ij->i", normals, away) > 0).all()
    assert len(faces) == 4 * (3 * 2 + 3 * 2 + 2 * 2)
    np.testing.assert_allclose(areas(points, faces).sum(), 2 * (600 + 600 + 400))
    np.testing.assert_allclose(normals.sum(axis=0), 0, atol=1e-9)  # a closed surface


def test_edges_match_a_plain_count(arrays):
    _, cells = arrays
    plain = {
        tuple(sorted((int(c[i]), int(c[j])))) for c in cells for i in range(4) for j in range(i)
    }
    edges = unique_edges(cells)
    assert [tuple(edge) for edge in edges.tolist()] == sorted(plain)


def test_matching_faces_works_for_millions_of_nodes(arrays):
    _, cells = arrays
    far = cells.astype(np.int64) + 3_000_000
    faces = boundary_faces(far)
    np.testing.assert_array_equal(faces, boundary_faces(cells) + 3_000_000)
    np.testing.assert_array_equal(
        match_faces(faces[::-1, [1, 0, 2]], faces), np.arange(len(faces))[::-1]
    )
    assert (match_faces(faces + 1, faces - 1) < len(faces)).all()
    assert match_faces(faces[:0], faces).shape == (0,)
    assert (match_faces(faces, faces[:0]) == -1).all()


def test_a_large_mesh_is_checked_quickly():
    points, cells = block_arrays((100, 50, 20), 1.0)
    surfaces = {"epi": boundary_faces(cells)}
    start = time.process_time()
    mesh = Mesh(points, cells, surfaces=surfaces)
    assert time.process_time() - start < 4.0  # about 1 s, shared
    assert mesh.elements == 600_000


# -- invariants -------------------------------------------------------------------------------


def test_nan_coordinates_are_named(arrays):
    points, cells = arrays
    points[4, 1] = np.nan
    points[9] = np.inf
    with pytest.raises(ValueError, match=r"2 of 36 nodes have NaN .* node 4 at \(.*nan.*correct"):
        Mesh(points, cells)


@pytest.mark.parametrize(("value", "text"), [(99, r"row 5 .*99"), (-1, r"row 5 .*-1")])
def test_indices_out_of_range_are_named(arrays, value, text):
    points, cells = arrays
    cells[5, 2] = value
    with pytest.raises(ValueError, match=f"cells: 1 of 72 rows point to nodes .*{text}"):
        Mesh(points, cells)


def test_indices_from_one_are_recognised(arrays):
    points, cells = arrays
    with pytest.raises(ValueError, match="count from 1: subtract 1"):
        Mesh(points, cells + 1)


def test_inverted_elements_are_named_and_mended(arrays):
    points, cells = arrays
    bad = cells.copy()
    bad[[3, 8]] = bad[[3, 8]][:, [1, 0, 2, 3]]
    with pytest.raises(
        ValueError, match=r"2 of 72 elements are inverted .*element (3|8) .*orient=True"
    ):
        Mesh(points, bad)
    mended = Mesh.repaired(points, bad)
    np.testing.assert_allclose(mended.volume(), 12000)
    with pytest.raises(ValueError, match="all of them"):
        Mesh(points, cells[:, [1, 0, 2, 3]])
    assert (signed_volumes(points, oriented(points, bad)) > 0).all()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_flat_elements_are_told_apart_from_small_ones(scale):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]) * scale
    assert Mesh(points[:4], [[0, 1, 2, 3]]).elements == 1  # small is not flat
    with pytest.raises(
        ValueError, match=r"1 of 2 elements have no volume, such as element 1 .*drop_degenerate"
    ):
        Mesh(points, [[0, 1, 2, 3], [0, 1, 4, 2]])
    assert Mesh.repaired(points, [[0, 1, 2, 3], [0, 1, 4, 2]]).elements == 1


def test_isolated_nodes_are_named_and_dropped(arrays):
    points, cells = arrays
    more = np.concatenate([points[:7], [[500.0, 0, 0]], points[7:]])
    shifted = cells + (cells >= 7)
    with pytest.raises(
        ValueError, match=r"1 of 37 nodes belong to no element, such as node 7: .*drop_isolated"
    ):
        Mesh(more, shifted)
    assert_same(Mesh.repaired(more, shifted), Mesh(points, cells))


def test_pieces_are_named_and_must_be_asked_for(arrays):
    points, cells = arrays
    more = np.concatenate([cells, [[36, 37, 38, 39]]])
    far = np.concatenate([points, [[200.0, 0, 0], [201, 0, 0], [200, 1, 0], [200, 0, 1]]])
    with pytest.raises(
        ValueError, match=r"2 pieces .*72 elements of 1\.2e\+04 mm3 .*1 elements .*allow_components"
    ):
        Mesh(far, more)
    assert Mesh(far, more, allow_components=True).elements == 73
    assert_same(Mesh.repaired(far, more, largest_component=True), Mesh(points, cells))


def test_repeated_elements_are_named_and_dropped(arrays):
    points, cells = arrays
    twice = np.concatenate([cells, cells[[10]][:, [1, 2, 0, 3]]])
    with pytest.raises(ValueError, match=r"1 of 73 elements repeat .*element 72 .*drop_duplicates"):
        Mesh(points, twice)
    assert_same(Mesh.repaired(points, twice), Mesh(points, cells))


@pytest.mark.parametrize(("kind", "length"), [("point_data", 35), ("cell_data", 71)])
def test_fields_have_the_right_length(arrays, kind, length):
    with pytest.raises(ValueError, match=rf"{kind}\['v'\] has shape \({length},\): its first axis"):
        Mesh(*arrays, **{kind: {"v": np.zeros(length)}})


def test_fields_are_numbers(arrays):
    with pytest.raises(ValueError, match="only numbers can be a field"):
        Mesh(*arrays, point_data={"v": np.array(["a"] * 36)})


def test_regions_are_one_integer_per_element(arrays):
    with pytest.raises(ValueError, match=r"regions have shape \(71,\).*\(72,\)"):
        Mesh(*arrays, np.ones(71))
    with pytest.raises(ValueError, match="no integers"):
        Mesh(*arrays, np.full(72, 0.5))
    with pytest.raises(ValueError, match="no integers"):
        Mesh(*arrays, np.full(72, np.nan))


def test_two_regions_do_not_share_a_name(arrays):
    with pytest.raises(ValueError, match="several regions are called"):
        Mesh(*arrays, region_names={1: "lv", 2: "lv"})


@pytest.mark.parametrize(
    ("points", "cells", "text"),
    [
        (np.zeros((4, 2)), [[0, 1, 2, 3]], r"points have shape \(4, 2\)"),
        (np.zeros((0, 3)), [[0, 1, 2, 3]], r"points have shape \(0, 3\)"),
        (np.zeros((4, 3)), [[0, 1, 2]], r"cells: shape \(1, 3\).*tetrahedra"),
        (np.zeros((4, 3)), np.zeros((0, 4), int), r"cells: shape \(0, 4\)"),
        (np.zeros((4, 3)), [[0.0, 1, 2, 3]], "cells: type float64"),
        (np.zeros((4, 3)), [[0, 1, 2, 2**40]], "does not fit 32 bits"),
    ],
)
def test_wrong_shapes_are_named(points, cells, text):
    with pytest.raises(ValueError, match=text):
        Mesh(points, cells)


def test_surfaces_are_boundary_faces_outward_and_once(mesh):
    epi = mesh.surfaces["epi"]
    with pytest.raises(
        ValueError, match=r"surface 'epi': 2 of 2 triangles are not faces of the boundary"
    ):
        mesh.replaced(surfaces={"epi": [[0, 1, 35], [0, 2, 35]]})
    with pytest.raises(
        ValueError, match=rf"surface 'epi': the normals of {len(epi)} of {len(epi)} .*Mesh.repaired"
    ):
        mesh.replaced(surfaces={"epi": epi[:, ::-1]})
    with pytest.raises(ValueError, match=r"1 of \d+ triangles occur twice"):
        mesh.replaced(surfaces={"epi": np.concatenate([epi, epi[:1, [1, 2, 0]]])})
    with pytest.raises(ValueError, match=r"surface 'epi': 1 of 1 rows point to nodes"):
        mesh.replaced(surfaces={"epi": [[0, 1, 99]]})
    with pytest.raises(ValueError, match=r"surface 'epi': shape \(1, 4\)"):
        mesh.replaced(surfaces={"epi": [[0, 1, 2, 3]]})
    assert mesh.replaced(surfaces={"none": []}).surfaces["none"].shape == (0, 3)


def test_repair_turns_surfaces_outward_and_drops_inner_faces(mesh):
    epi = mesh.surfaces["epi"]
    mended = Mesh.repaired(
        mesh.points,
        mesh.cells,
        surfaces={"epi": np.concatenate([epi[:, ::-1], mesh.cells[:1, :3]])},
    )
    np.testing.assert_array_equal(np.sort(mended.surfaces["epi"][: len(epi)], 1), np.sort(epi, 1))


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_outward_undoes_any_shuffle(random):
    _, cells = block_arrays()
    boundary = boundary_faces(cells)
    shuffled = np.array([random.sample(face, 3) for face in boundary.tolist()])
    back = outward(shuffled, boundary)
    np.testing.assert_array_equal(np.sort(back, 1), np.sort(boundary, 1))
    first = np.argmin(back, 1), np.argmin(boundary, 1)
    rolled = [
        np.take_along_axis(f, (k[:, None] + np.arange(3)) % 3, 1)
        for f, k in zip((back, boundary), first, strict=True)
    ]
    np.testing.assert_array_equal(*rolled)


# -- parts ------------------------------------------------------------------------------------


def test_submesh_carries_fields_surfaces_and_the_node_map(mesh):
    part, nodes = mesh.submesh(mesh.regions == 7)
    np.testing.assert_array_equal(part.points, mesh.points[nodes])
    np.testing.assert_array_equal(nodes[part.cells], mesh.cells[mesh.regions == 7])
    np.testing.assert_array_equal(
        part.point_data["activation"], mesh.point_data["activation"][nodes]
    )
    np.testing.assert_array_equal(part.cell_data["scar"], mesh.cell_data["scar"][mesh.regions == 7])
    assert part.region_names == ((7, "septum"),)
    assert set(part.surfaces) == {"epi", "endo_lv"}  # the base lies on the other part
    assert part.volume() + mesh.submesh(mesh.regions == 1)[0].volume() == pytest.approx(
        mesh.volume()
    )


def test_select_takes_names_and_labels(mesh):
    assert_same(mesh.select(["septum"]), mesh.submesh(mesh.regions == 7)[0])
    assert_same(mesh.select("septum"), mesh.select([7]))
    assert_same(mesh.select(["lv", 7]), mesh)
    assert mesh.region_id("septum") == 7
    with pytest.raises(
        ValueError, match=r"no region 'rv': its named regions are 'lv' \(1\), 'septum' \(7\)"
    ):
        mesh.region_id("rv")
    with pytest.raises(ValueError, match=r"region label \[3\]: the labels are \[1, 7\]"):
        mesh.select([3])


def test_submesh_refuses_masks_that_are_none(mesh):
    with pytest.raises(ValueError, match="keeps no element"):
        mesh.submesh(np.zeros(72, bool))
    with pytest.raises(ValueError, match=r"one boolean per element, shape \(72,\)"):
        mesh.submesh(np.zeros(71, bool))
    with pytest.raises(ValueError, match="type int"):
        mesh.submesh(np.ones(72, int))
    ends = np.flatnonzero((mesh.cells == 0).any(1) | (mesh.cells == 35).any(1))
    apart = np.isin(np.arange(72), ends)
    with pytest.raises(ValueError, match="2 pieces"):
        mesh.submesh(apart)
    assert mesh.submesh(apart, allow_components=True)[0].elements == len(ends)


def test_pinches_are_seen_through_faces():
    points = np.array(
        [[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    )
    cells = oriented(points, np.array([[0, 1, 2, 3], [0, 4, 5, 6]]))
    assert Mesh(points, cells).elements == 2  # one piece: they share a node
    assert face_component_count(element_faces(cells)) == 2
    assert face_component_count(element_faces(block_arrays()[1])) == 1
