"""Measures of meshes against what is known of them, and what `info` says is missing."""

import json
import time

import numpy as np
import pytest
from blocks import block, block_arrays

from cardiotwin.anatomy.mesh import Mesh, boundary_faces, unique_edges
from cardiotwin.anatomy.quality import (
    dihedral_angles,
    edge_lengths,
    format_report,
    quality,
    quality_report,
    radius_ratios,
)

REGULAR = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def single(points):
    mesh = Mesh.repaired(np.asarray(points, float), [[0, 1, 2, 3]])
    return mesh


def test_regular_tetrahedron():
    mesh = single(REGULAR)
    np.testing.assert_allclose(edge_lengths(mesh), np.sqrt(8))
    np.testing.assert_allclose(dihedral_angles(mesh), np.degrees(np.arccos(1 / 3)))
    np.testing.assert_allclose(radius_ratios(mesh), 1.0)


def test_corner_of_a_cube():
    mesh = single([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    angles = np.sort(dihedral_angles(mesh)[0])
    np.testing.assert_allclose(angles, [*[np.degrees(np.arccos(1 / np.sqrt(3)))] * 3, 90, 90, 90])
    inscribed = 1 / (3 + np.sqrt(3))  # three times the volume over the surface
    np.testing.assert_allclose(radius_ratios(mesh), 3 * inscribed / (np.sqrt(3) / 2))


@pytest.mark.parametrize("height", [1.0, 0.1, 0.001])
def test_measures_do_not_depend_on_place_size_or_order(height):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, 0.3, height]])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    first, second = single(points), single((points @ rotation * 7 + 100)[[2, 0, 3, 1]])
    np.testing.assert_allclose(radius_ratios(first), radius_ratios(second), rtol=1e-6)
    np.testing.assert_allclose(
        np.sort(dihedral_angles(first)), np.sort(dihedral_angles(second)), rtol=1e-5
    )


def test_angles_of_a_sliver():
    flat = single([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.02]])
    measured = quality(flat)
    assert measured.slivers == 1
    assert measured.smallest_angle.minimum < 3
    assert measured.largest_angle.maximum > 175
    assert measured.radius_ratio.maximum < 0.05


def test_block():
    mesh = Mesh(*block_arrays((4, 3, 2), 2.0))
    measured = quality(mesh)
    assert (measured.nodes, measured.elements) == (60, 144)
    assert measured.volume == pytest.approx(4 * 3 * 2 * 8 / 1000)
    assert measured.size == pytest.approx((8, 6, 4))
    assert measured.edge_length.minimum == pytest.approx(2)
    assert measured.edge_length.maximum == pytest.approx(2 * np.sqrt(3))
    assert measured.smallest_angle.median == pytest.approx(45)
    assert measured.largest_angle.median == pytest.approx(90)
    assert (measured.components, measured.face_components, measured.overfull_faces) == (1, 1, 0)
    assert measured.surface_areas == pytest.approx({"(no surface)": 2 * (48 + 32 + 24) / 100})
    edges = unique_edges(mesh.cells)
    assert measured.edges == len(edges) == len(edge_lengths(mesh))
    assert measured.bandwidth == np.abs(np.diff(edges, axis=1)).max()
    assert measured.neighbours[0] == pytest.approx(2 * len(edges) / 60)
    assert measured.fibres == "none"


def test_regions_surfaces_and_fields():
    mesh = block()
    measured = quality(mesh)
    assert sum(measured.region_volumes.values()) == pytest.approx(measured.volume)
    assert set(measured.region_volumes) == {"lv", "septum"}
    assert list(measured.surface_areas) == ["base", "endo_lv", "epi"]  # all of the boundary
    assert sum(measured.surface_faces.values()) == len(boundary_faces(mesh.cells))
    assert measured.fields == {"node": ["activation"], "element": ["fibre", "scar", "sheet"]}
    assert measured.fibres == "fibre and sheet"


def test_pieces_and_pinches_are_told():
    points = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    apart = Mesh(
        np.concatenate([points, points + 20]),
        [[0, 1, 2, 3], [4, 5, 6, 7]],
        allow_components=True,
    )
    assert quality(apart).components == 2
    assert any("2 pieces share no node" in text for text in quality_report(apart)["warnings"])
    pinched = Mesh.repaired(np.concatenate([points, -points[1:]]), [[0, 1, 2, 3], [0, 4, 5, 6]])
    report = quality_report(pinched)
    assert (report["components"], report["face_components"]) == (1, 2)
    assert any("meet in single nodes or edges only" in text for text in report["warnings"])


def test_overlapping_elements_are_told():
    points = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9], [1, 1, 8], [1, 1, -9]])
    mesh = Mesh.repaired(points, [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 5]])
    assert quality(mesh).overfull_faces == 1
    assert any("elements overlap" in text for text in quality_report(mesh)["warnings"])


def test_report_says_what_is_missing():
    mesh = block()
    report = quality_report(mesh)
    json.dumps(report, allow_nan=False)
    assert report["missing"][0].startswith("surfaces endo_rv: needed for fibres by rule")
    bare = mesh.replaced(surfaces={}, cell_data={})
    missing = quality_report(bare)["missing"]
    assert missing[0].startswith("fibres: read them with read_mesh")
    assert missing[1].startswith("surfaces epi, endo_lv, endo_rv, base")
    whole = mesh.replaced(surfaces=mesh.surfaces | {"endo_rv": []}, cell_data={})
    assert quality_report(whole)["missing"][0].startswith("fibres: build them by rule")
    ready = mesh.replaced(surfaces=mesh.surfaces | {"endo_rv": []})
    assert "nothing is missing" in format_report(quality_report(ready))


@pytest.mark.parametrize(
    ("edge", "text"),
    [(0.2, "within the 0.3 mm recommended"), (0.5, "coarser than 0.3 mm"), (2.0, "wider than the")],
)
def test_resolution_verdict(edge, text):
    mesh = Mesh(*block_arrays((3, 3, 3), edge / 1.277))
    assert text in quality_report(mesh)["resolution"]


def test_report_doubts_the_size_of_no_heart():
    mesh = block(edge=30_000.0)
    assert any("unit='um' would make it" in text for text in quality_report(mesh)["warnings"])


def test_text_of_the_report():
    text = format_report(quality_report(block()))
    for part in (
        "nodes 36, elements 72",
        "edge length",
        "smallest dihedral angle",
        "  septum ",
        "  endo_lv ",
        "fibres: fibre and sheet",
        "fields per node: activation",
        "resolution: edges of",
        "missing: surfaces endo_rv",
    ):
        assert part in text
    plain = Mesh(*block_arrays())
    assert "surfaces:\n  (no surface)" in format_report(quality_report(plain))


def test_bad_numbering_of_a_large_mesh_is_told():
    points, cells = block_arrays((40, 20, 14), 1.0)
    order = np.random.default_rng(0).permutation(len(points))
    mesh = Mesh(points[order], np.argsort(order)[cells])
    assert any("without locality" in text for text in quality_report(mesh)["warnings"])
    assert not any("locality" in t for t in quality_report(Mesh(points, cells))["warnings"])


def test_a_large_mesh_is_measured_quickly():
    mesh = Mesh(*block_arrays((100, 50, 20), 1.0))
    start = time.process_time()
    assert quality_report(mesh)["elements"] == 600_000
    assert time.process_time() - start < 8.0  # about 3 s, shared


@pytest.mark.realdata
def test_real_heart(data):
    from cardiotwin.anatomy.formats import read_mesh

    folder = data / "crtdemo"
    mesh = read_mesh(
        folder / "crtdemo_mesh_oriented.vtk", fibres=folder / "crtdemo_f0_oriented.vtk"
    )
    report = quality_report(mesh)
    assert report["volume"] == pytest.approx(226.5, abs=0.1)
    assert report["edge_length"]["mean"] == pytest.approx(4.81, abs=0.01)
    assert report["slivers"] == 3
    assert "wider than the excitation front" in report["resolution"]
