"""The idealised heart against its formulas, the slab, and the meshes that are shipped."""

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from cardiotwin.anatomy.cavity import cavity_volume
from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle, slab
from cardiotwin.anatomy.stuffing import stuff
from cardiotwin.anatomy.topology import (
    areas,
    boundary_faces,
    component_labels,
    signed_volumes,
    unique_edges,
)
from cardiotwin.numerics.fem import p1_geometry

MESHES = Path(__file__).parent.parent / "meshes"
ML = 1000.0  # mm3


def dihedral_angles(points, cells):
    """All six of every element, in degrees."""
    normals, _ = p1_geometry(points, cells)
    normals = normals / np.linalg.norm(normals, axis=2, keepdims=True)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    cosines = np.stack([np.einsum("ei,ei->e", normals[:, i], normals[:, j]) for i, j in pairs])
    return 180.0 - np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def mean_edge(mesh):
    ends = mesh.points[unique_edges(mesh.cells)]
    return np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).mean()


def euler_characteristic(faces):
    return len(np.unique(faces)) - len(unique_edges(faces)) + len(faces)


@pytest.fixture(scope="module")
def shape():
    return BiventricleShape()


@pytest.fixture(scope="module")
def heart():
    return biventricle(2.5)


@pytest.mark.parametrize(
    ("pattern", "nodes", "elements"),
    [("kuhn", 120, 360), ("alternating", 120, 360), ("bcc", 274, 908)],
)
def test_slab_fills_its_box(pattern, nodes, elements):
    mesh = slab((2.5, 2.0, 1.5), 0.5, pattern)
    assert len(mesh.points) == nodes
    assert len(mesh.cells) == elements
    np.testing.assert_allclose(signed_volumes(mesh.points, mesh.cells).sum(), 7.5, rtol=1e-12)
    sides = {"x": 3.0, "y": 3.75, "z": 5.0}
    for letter, axis in zip("xyz", range(3), strict=True):
        for end, height in ((0, 0.0), (1, (2.5, 2.0, 1.5)[axis])):
            faces = mesh.surfaces[f"{letter}{end}"]
            np.testing.assert_allclose(areas(mesh.points, faces).sum(), sides[letter])
            np.testing.assert_allclose(mesh.points[faces][:, :, axis], height)
    assert sum(map(len, mesh.surfaces.values())) == len(boundary_faces(mesh.cells))
    np.testing.assert_array_equal(mesh.cell_data["fibre"], np.tile([1.0, 0, 0], (elements, 1)))
    np.testing.assert_array_equal(mesh.cell_data["sheet"], np.tile([0, 1.0, 0], (elements, 1)))


def test_default_slab_is_the_n_version_benchmark():
    mesh = slab(edge_length=0.5)
    assert len(mesh.points) == 41 * 15 * 7
    np.testing.assert_array_equal(mesh.points.max(axis=0), [20.0, 7.0, 3.0])


def diagonals(mesh):
    """How many edges run along each of the four space diagonals."""
    ends = mesh.points[unique_edges(mesh.cells)]
    step = np.sign(np.round(ends[:, 1] - ends[:, 0], 9))
    step = step[(step != 0).all(axis=1)]
    return np.unique(step * step[:, :1], axis=0, return_counts=True)


def test_patterns_differ_in_their_diagonals():
    directions, counts = diagonals(slab((4, 4, 4), 1.0, "kuhn"))
    np.testing.assert_array_equal(directions, [[1, 1, 1]])
    assert counts == [64]
    _, counts = diagonals(slab((4, 4, 4), 1.0, "alternating"))
    np.testing.assert_array_equal(counts, [16, 16, 16, 16])
    mesh = slab((3, 3, 3), 1.0, "bcc")
    angles = dihedral_angles(mesh.points, mesh.cells)
    assert angles.min() > 44.99
    assert angles.max() < 90.01


def test_slab_takes_the_nearest_whole_number_of_cubes():
    mesh = slab((1.0, 0.7, 0.3), 0.27)
    assert len(mesh.points) == 5 * 4 * 2
    np.testing.assert_allclose(mesh.points.max(axis=0), [1.0, 0.7, 0.3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (1.0, -1.0, 1.0)}, "three positive lengths"),
        ({"size": (1.0, 1.0)}, "three positive lengths"),
        ({"edge_length": 0.0}, "positive and at most 6 mm"),
        ({"edge_length": 9.0}, "twice the shortest side"),
        ({"pattern": "hex"}, "'kuhn', 'alternating' or 'bcc'"),
    ],
)
def test_slab_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        slab(**arguments)


def test_stuffing_a_half_ball():
    def depth(points):
        return 10.0 - np.linalg.norm(points, axis=1)

    corner = np.array([11.0, 11.0, 0.0])
    points, cells = stuff(depth, np.array([-11.0, -11.0, -11.0]), corner, 1.3)
    volumes = signed_volumes(points, cells)
    assert volumes.min() > 0.0
    np.testing.assert_allclose(volumes.sum(), 2000.0 / 3.0 * np.pi, rtol=0.01)
    faces = boundary_faces(cells)
    assert euler_characteristic(faces) == 2
    flat = (points[faces][:, :, 2] == 0.0).all(axis=1)
    np.testing.assert_allclose(areas(points, faces[flat]).sum(), 100.0 * np.pi, rtol=0.01)
    np.testing.assert_allclose(np.linalg.norm(points[faces[~flat]], axis=2), 10.0, atol=1e-6)
    assert dihedral_angles(points, cells).min() > 10.0


def test_stuffing_says_when_it_misses_the_body():
    with pytest.raises(ValueError, match="no node inside the body"):
        stuff(lambda p: 0.1 - np.linalg.norm(p - 0.3, axis=1), -np.ones(3), np.ones(3), 1.0)


def test_quadrature_matches_closed_forms(shape):
    a, _, c = shape.lv_endocardium
    top = shape.base_height
    cavity = np.pi * a * a * ((top + c) - (top**3 + c**3) / (3.0 * c * c))
    volumes = shape.volumes()
    np.testing.assert_allclose(volumes["lv_cavity"], cavity, rtol=1e-4)
    np.testing.assert_allclose(
        volumes["myocardium"], volumes["lv_wall"] + volumes["rv_wall"], rtol=1e-12
    )
    # area of a truncated prolate spheroid: 2 pi int r sqrt(1 + r'^2) dz
    e = np.sqrt(1.0 - (a / c) ** 2)

    def primitive(z):
        u = e * z / c
        return np.pi * a * c / e * (u * np.sqrt(1.0 - u * u) + np.arcsin(u))

    exact = primitive(top) - primitive(-c)
    np.testing.assert_allclose(shape.areas()["endo_lv"], exact, rtol=1e-4)


def test_the_heart_has_human_size(shape):
    volumes = shape.volumes(400)
    assert 120 * ML < volumes["lv_wall"] < 150 * ML
    assert 100 * ML < volumes["lv_cavity"] < 130 * ML
    assert 100 * ML < volumes["rv_cavity"] < 130 * ML


def test_volumes_and_areas_match_the_formula(heart, shape):
    volumes, surfaces = shape.volumes(), shape.areas()
    elements = signed_volumes(heart.points, heart.cells)
    left = heart.regions != 2
    measured = {
        "myocardium": elements.sum(),
        "lv_wall": elements[left].sum(),
        "rv_wall": elements[~left].sum(),
        "lv_cavity": cavity_volume(heart, "endo_lv"),
        "rv_cavity": cavity_volume(heart, "endo_rv"),
    }
    for name, value in measured.items():
        np.testing.assert_allclose(value, volumes[name], rtol=0.01, err_msg=name)
    for name in ("epi", "endo_lv", "base"):
        area = areas(heart.points, heart.surfaces[name]).sum()
        np.testing.assert_allclose(area, surfaces[name], rtol=0.01, err_msg=name)
    # the sharp corner of the right cavity is cut off by about an edge length
    area = areas(heart.points, heart.surfaces["endo_rv"]).sum()
    np.testing.assert_allclose(area, surfaces["endo_rv"], rtol=0.02)


def test_volume_error_falls_with_the_square_of_the_edge(shape):
    exact = shape.volumes()["lv_cavity"]
    errors = [abs(cavity_volume(biventricle(h), "endo_lv") / exact - 1.0) for h in (3.2, 2.1)]
    slope = np.log(errors[0] / errors[1]) / np.log(3.2 / 2.1)
    assert 1.6 < slope < 2.4


def test_heart_is_one_sound_piece(heart, shape):
    assert signed_volumes(heart.points, heart.cells).min() > 0.0
    assert component_labels(heart.cells, len(heart.points)).max() == 0
    angles = dihedral_angles(heart.points, heart.cells)
    assert angles.min() > 10.0
    assert angles.max() < 160.0
    boundary = boundary_faces(heart.cells)
    assert sum(map(len, heart.surfaces.values())) == len(boundary)
    assert euler_characteristic(boundary) == 2
    _, sharing = np.unique(
        np.sort(boundary[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1),
        axis=0,
        return_counts=True,
    )
    assert (sharing == 2).all()
    for name in ("epi", "endo_lv", "endo_rv"):
        labels = component_labels(heart.surfaces[name], len(heart.points))
        assert len(np.unique(labels[heart.surfaces[name]])) == 1
        distance = shape.surface_distances(heart.points[np.unique(heart.surfaces[name])])[name]
        assert np.abs(distance).max() < 1e-6
    assert (heart.points[np.unique(heart.surfaces["base"]), 2] == shape.base_height).all()
    assert heart.points[:, 2].max() == shape.base_height


def test_regions(heart, shape):
    assert dict(heart.region_names) == {1: "lv", 2: "rv", 3: "septum"}
    centres = heart.points[heart.cells].mean(axis=1)
    volumes = signed_volumes(heart.points, heart.cells)
    assert (shape.lv_epi.distance(centres[heart.regions == 2]) > 0.0).all()
    septum = heart.regions == 3
    assert (centres[septum, 0] < 0.0).all()  # the right ventricle lies at negative x
    assert 0.2 < volumes[septum].sum() / volumes[heart.regions != 2].sum() < 0.45
    probes = np.array([[30.0, 0, 0], [-30.0, 0, 0], [-62.0, 0, 0], [0, 30.0, 0], [0, 0, -70.0]])
    np.testing.assert_array_equal(shape.regions(probes), [1, 3, 2, 1, 1])


@pytest.mark.parametrize("edge_length", [2.1, 2.9, 3.2])
def test_mean_edge_is_the_one_asked_for(edge_length):
    assert abs(mean_edge(biventricle(edge_length)) / edge_length - 1.0) < 0.05


@pytest.mark.parametrize(
    ("shape", "edge_length"),
    [
        (BiventricleShape(rv_wall=5.0), 4.0),
        (BiventricleShape(lv_wall=14.0, rv_offset=34.0), 3.2),
        (
            BiventricleShape(lv_endocardium=(35, 33, 75), lv_wall=9, rv_offset=42, base_height=25),
            3.0,
        ),
        (BiventricleShape((2.5, 2.5, 6.5), 2.0, (3.0, 4.1, 5.6), 3.0, 0.8, 1.7), 0.6),
    ],
    ids=["thick right wall", "hypertrophic", "dilated", "rat"],
)
def test_other_shapes(shape, edge_length):
    mesh = biventricle(edge_length, shape=shape)
    assert euler_characteristic(boundary_faces(mesh.cells)) == 2
    assert dihedral_angles(mesh.points, mesh.cells).min() > 10.0
    total = signed_volumes(mesh.points, mesh.cells).sum()
    np.testing.assert_allclose(total, shape.volumes(600)["myocardium"], rtol=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lv_wall": 0.0}, "lv_wall must be a positive length in mm, got 0.0"),
        ({"lv_endocardium": (25.0, 25.0)}, "three positive lengths"),
        ({"rv_wall": np.nan}, "rv_wall must be a positive length"),
        ({"base_height": 60.0}, r"below the tops of both cavities \(56 mm\)"),
        ({"rv_offset": 4.0}, "lies inside the left ventricle"),
        ({"rv_offset": 6.0, "rv_endocardium": (40.0, 41.0, 56.0)}, "to one side"),
        ({"rv_endocardium": (30.0, 41.0, 73.0)}, "end above its apex"),
    ],
)
def test_shape_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        BiventricleShape(**changes)


@pytest.mark.parametrize("make", [lambda: biventricle(0.01), lambda: slab((20.0, 7.0, 3.0), 0.001)])
def test_more_nodes_than_a_mesh_can_number_are_refused_at_once(make):
    with pytest.raises(ValueError, match=r"is more than the 1.1e\+09 .* use a longer edge length"):
        make()


@pytest.mark.parametrize("edge_length", [0.0, -1.0, 4.0, np.nan])
def test_edge_too_large_names_the_largest_that_works(edge_length):
    with pytest.raises(ValueError, match="edge_length must be positive and at most") as refusal:
        biventricle(edge_length)
    found = re.search(r"at most ([\d.]+) mm", str(refusal.value))
    assert found is not None
    biventricle(float(found[1]))


def test_cavity_volume_needs_the_surface(heart):
    with pytest.raises(ValueError, match=r"no surface 'endo_la' \(it has: 'epi'"):
        cavity_volume(heart, "endo_la")


def test_shipped_mesh_is_what_its_generator_makes():
    path = MESHES / "biventricle_coarse.vtu"
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checksum in (MESHES / "README.md").read_text()
    spec = importlib.util.spec_from_file_location("generate", MESHES / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made, shipped = generate.biventricle_coarse(), read_mesh(path)
    np.testing.assert_array_equal(shipped.cells, made.cells)
    np.testing.assert_allclose(shipped.points, made.points, rtol=0.0, atol=1.1e-4)
    np.testing.assert_array_equal(shipped.regions, made.regions)
    assert shipped.region_names == made.region_names
    assert shipped.surfaces.keys() == made.surfaces.keys()
    for name, faces in made.surfaces.items():
        assert {*map(frozenset, shipped.surfaces[name].tolist())} == {
            *map(frozenset, faces.tolist())
        }
    for name in ("fibre", "sheet"):
        # where three walls meet a direction hangs on the last bits: 0.3 % move with the processor
        off = np.abs(shipped.cell_data[name] - made.cell_data[name]).max(axis=1)
        assert np.quantile(off, 0.99) < 1.1e-3
        assert off.max() < 0.05
