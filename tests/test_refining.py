"""Halved meshes: volumes, surfaces and data stay, elements keep their quality."""

import numpy as np
import pytest

from cardiotwin.anatomy.fibres import uniform_fibres
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.quality import quality_report
from cardiotwin.anatomy.refining import halved, mean_edge, refined
from cardiotwin.anatomy.topology import areas


def test_halved_heart_is_the_same_heart():
    mesh = biventricle(3.2)
    height = mesh.points @ np.array([0.3, -0.2, 1.0])
    mesh = mesh.replaced(
        point_data={"height": height, "number": np.arange(len(mesh.points))},
        cell_data={"parent": np.arange(len(mesh.cells))},
    )
    fine = halved(mesh)
    assert len(fine.cells) == 8 * len(mesh.cells)
    eighth = np.repeat(mesh.volumes() / 8.0, 8)
    np.testing.assert_allclose(fine.volumes(), eighth, rtol=1e-9)
    for name, faces in mesh.surfaces.items():
        assert len(fine.surfaces[name]) == 4 * len(faces)
        assert areas(fine.points, fine.surfaces[name]).sum() == pytest.approx(
            areas(mesh.points, faces).sum(), rel=1e-12
        )
    np.testing.assert_allclose(fine.point_data["height"], fine.points @ np.array([0.3, -0.2, 1.0]))
    assert fine.point_data["number"].dtype == mesh.point_data["number"].dtype
    assert np.array_equal(fine.cell_data["parent"], np.repeat(np.arange(len(mesh.cells)), 8))
    assert fine.region_names == mesh.region_names
    before, after = quality_report(mesh), quality_report(fine)
    assert after["components"] == before["components"] == 1
    assert after["overfull_faces"] == 0
    assert after["smallest_angle"]["minimum"] > 0.6 * before["smallest_angle"]["minimum"]


def test_regular_tetrahedra_keep_their_angles():
    points = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    mesh = Mesh(points, np.array([[0, 1, 3, 2]]))
    twice = halved(halved(mesh))
    assert len(twice.cells) == 64
    assert len(twice.points) == 35  # of a tetrahedron with five nodes on an edge
    report = quality_report(twice)
    assert report["smallest_angle"]["minimum"] > 50.0
    assert report["largest_angle"]["maximum"] < 110.0


def test_refined_to_a_length():
    mesh = slab((4.0, 4.0, 2.0), 2.0)
    assert refined(mesh, 10.0) is mesh
    fine = refined(mesh, 0.25 * mean_edge(mesh))
    assert mean_edge(fine) == pytest.approx(0.25 * mean_edge(mesh), rel=0.1)
    assert len(fine.cells) == 64 * len(mesh.cells)
    uniform_fibres(len(fine.cells), (1.0, 0.0, 0.0), None)
    with pytest.raises(ValueError, match="edge_length is 0 mm; give a positive one"):
        refined(mesh, 0)
    with pytest.raises(ValueError, match=r"1\d halvings.*Give a longer edge"):
        refined(mesh, 0.001)
