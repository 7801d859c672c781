"""A closed, labelled surface to tetrahedra: distances, names, regions, bad surfaces."""

import numpy as np
import pytest
import pyvista as pv
from scipy.spatial import KDTree

from cardiotwin.anatomy.closed_surface import (
    COBIVECO,
    ClosedSurface,
    Nearest,
    mesh_of_surface,
    read_surface,
)
from cardiotwin.anatomy.fibres import ldrb
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
from cardiotwin.anatomy.quality import quality
from cardiotwin.anatomy.topology import areas
from cardiotwin.cli import main


@pytest.fixture(scope="module")
def heart():
    return biventricle(3.2)


def polydata(mesh, labels=COBIVECO):
    """The boundary of a mesh with the label of its surface on each triangle."""
    faces = np.concatenate([mesh.surfaces[name] for name in labels])
    values = np.concatenate([np.full(len(mesh.surfaces[k]), v) for k, v in labels.items()])
    made = pv.PolyData.from_regular_faces(mesh.points, faces)
    made.cell_data["class"] = values
    return made


@pytest.fixture(scope="module")
def path(heart, tmp_path_factory):
    file = tmp_path_factory.mktemp("surface") / "heart.vtp"
    polydata(heart).save(file)
    return file


def test_distance_to_a_box_is_exact():
    box = pv.Box((-3.0, 3.0, -2.0, 2.0, -1.0, 1.0)).triangulate().subdivide(2)
    surface = ClosedSurface(box.points.astype(float), box.regular_faces, np.array([]))
    assert surface.volume() == pytest.approx(48.0)
    place = np.random.default_rng(1).uniform(-5.0, 5.0, (4000, 3))
    beyond = np.abs(place) - [3.0, 2.0, 1.0]
    exact = -np.linalg.norm(np.maximum(beyond, 0.0), axis=1) - np.minimum(beyond.max(axis=1), 0.0)
    found = Nearest(surface).depth(place)
    np.testing.assert_array_equal(np.sign(found), np.sign(exact))
    near = np.abs(exact) < 1.0
    np.testing.assert_allclose(found[near], exact[near], atol=1e-9)


def test_surface_becomes_the_mesh_it_came_from(heart, path):
    surface = read_surface(path)
    assert surface.volume() == pytest.approx(heart.volume(), rel=1e-5)
    mesh = mesh_of_surface(surface, 2.8)
    assert quality(mesh).slivers == 0
    assert mesh.volume() == pytest.approx(heart.volume(), rel=0.02)
    for name, faces in heart.surfaces.items():
        exact = areas(heart.points, faces).sum()
        assert areas(mesh.points, mesh.surfaces[name]).sum() == pytest.approx(
            exact, rel=0.3 if name == "base" else 0.05
        )
    for name in ("lv", "rv", "septum"):
        volumes = [m.volumes()[m.regions == m.region_id(name)].sum() for m in (mesh, heart)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.2), name
    np.testing.assert_allclose(np.linalg.norm(ldrb(mesh).fibre, axis=1), 1.0, atol=1e-9)


def test_open_surface_is_refused_with_its_edges(heart, tmp_path):
    whole = polydata(heart)
    whole.extract_cells(np.arange(2, whole.n_cells)).extract_surface(algorithm=None).save(
        tmp_path / "open.vtp"
    )
    with pytest.raises(ValueError, match=r"[3-6] of \d+ edges are open, such as .*fill_holes"):
        read_surface(tmp_path / "open.vtp")


def test_swapped_sides_are_refused(path, capsys):
    swapped = COBIVECO | {"endo_lv": 4, "endo_rv": 3}
    with pytest.raises(ValueError, match=r"left and right seem swapped.*--surfaces"):
        read_surface(path, labels=swapped)
    words = ["mesh", str(path), "-o", str(path.with_suffix(".vtu"))]
    assert main([*words, "--surfaces", "base=1,epi=2,endo_lv=4,endo_rv=3"]) == 2
    assert "seem swapped" in capsys.readouterr().err
    assert main(["mesh", str(path), "-o", str(path.with_suffix(".nii"))]) == 2
    assert "write .vtu" in capsys.readouterr().err


def test_labels_that_miss_or_are_too_many(heart, path, tmp_path):
    plain = polydata(heart)
    plain.clear_data()
    plain.save(tmp_path / "plain.vtp")
    with pytest.raises(ValueError, match=r"no labels part \(arrays: none\)"):
        read_surface(tmp_path / "plain.vtp", array="part")
    with pytest.raises(ValueError, match=r"have no labels.*ask for no labels"):
        read_surface(tmp_path / "plain.vtp", labels=COBIVECO)
    with pytest.raises(ValueError, match=r"labels are \[1, 2, 3, 4\]"):
        read_surface(path, labels=COBIVECO | {"base": 7})
    with pytest.raises(ValueError, match="edge_length must be a positive"):
        mesh_of_surface(read_surface(path), 0.0)


@pytest.mark.parametrize("suffix", [".vtp", ".stl"])
def test_shape_tells_the_parts_of_a_surface_without_labels(heart, path, tmp_path, suffix):
    plain = polydata(heart)
    plain.clear_data()
    plain.save(tmp_path / f"plain{suffix}")
    found, labelled = read_surface(tmp_path / f"plain{suffix}"), read_surface(path)
    same = KDTree(labelled.points[labelled.triangles].mean(axis=1)).query(
        found.points[found.triangles].mean(axis=1)
    )[1]
    size = areas(found.points, found.triangles)
    agreed = found.names == labelled.names[same]
    assert size[agreed].sum() > 0.97 * size.sum()
    mesh = mesh_of_surface(found, 2.8)
    assert set(mesh.surfaces) == set(COBIVECO)
    assert dict(mesh.region_names) == {1: "lv", 2: "rv", 3: "septum"}


def test_a_surface_whose_shape_does_not_tell(heart, tmp_path):
    pv.Sphere(radius=30.0).triangulate().save(tmp_path / "ball.stl")
    with pytest.raises(ValueError, match=r"ball\.stl: the triangles have no labels, and"):
        read_surface(tmp_path / "ball.stl")
    alike = BiventricleShape(rv_wall=9.0)
    plain = polydata(biventricle(3.2, shape=alike))
    plain.clear_data()
    plain.save(tmp_path / "alike.vtp")
    with pytest.warns(UserWarning, match=r"left and right are a guess.*label them 1 base"):
        read_surface(tmp_path / "alike.vtp")


@pytest.mark.realdata
def test_cobiveco_without_its_labels(data, tmp_path):
    labelled = read_surface(data / "cobiveco-geo1" / "heart.vtp")
    plain = pv.PolyData.from_regular_faces(labelled.points, labelled.triangles)
    plain.save(tmp_path / "plain.vtp")
    found = read_surface(tmp_path / "plain.vtp")
    size = areas(found.points, found.triangles)
    # the file's base is the narrow rim; where the epicardium turns inwards is base too here
    agreed = found.names == labelled.names
    assert size[agreed].sum() > 0.97 * size.sum()
    for endo in ("endo_lv", "endo_rv"):
        own = labelled.names == endo
        assert size[own & agreed].sum() > 0.99 * size[own].sum()


@pytest.mark.realdata
def test_cobiveco_mean_heart(data):
    surface = read_surface(data / "cobiveco-geo1" / "heart.vtp")
    assert surface.volume() == pytest.approx(144_764, rel=1e-4)
    centre = surface.points[surface.triangles].mean(axis=1)
    assert centre[surface.names == "endo_lv"][:, 0].mean() < -30.0
    triangles = surface.points[surface.triangles]
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    depth = Nearest(surface).depth(np.concatenate([centre - 0.1 * normal, centre + 0.1 * normal]))
    inner, outer = np.split(depth, 2)
    assert np.mean(np.abs(inner - 0.1) < 0.02) > 0.98
    assert np.mean(np.abs(outer + 0.1) < 0.02) > 0.98
