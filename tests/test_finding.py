"""Surfaces found by shape: on the idealised heart, on real ones, and where there are none."""

import numpy as np
import pytest

from cardiotwin.anatomy.finding import find_surfaces, with_found_surfaces
from cardiotwin.anatomy.formats import read_mesh, surface_from_file, write_mesh
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle, slab
from cardiotwin.anatomy.topology import areas, boundary_faces, face_keys


def share(mesh, found, expected):
    """Area that two surfaces have in common over the area of either."""
    both = np.isin(face_keys(found), face_keys(expected))
    union = np.unique(np.concatenate([face_keys(found), face_keys(expected)]))
    every = boundary_faces(mesh.cells)
    whole = every[np.isin(face_keys(every), union)]
    return areas(mesh.points, found[both]).sum() / areas(mesh.points, whole).sum()


def turned(mesh):
    """The mesh in another pose, without its surfaces."""
    axis, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    axis *= np.sign(np.linalg.det(axis))
    return mesh.replaced(points=mesh.points @ axis.T + [100.0, -40.0, 7.0], surfaces={})


def test_surfaces_of_the_idealised_heart_in_any_pose():
    mesh = biventricle(3.2)
    found = find_surfaces(turned(mesh))
    assert found.doubts == ()
    for name, least in (("epi", 0.99), ("endo_lv", 0.98), ("endo_rv", 0.98), ("base", 0.93)):
        assert share(mesh, found.surfaces[name], mesh.surfaces[name]) > least, name
    faces = np.concatenate(list(found.surfaces.values()))
    assert np.array_equal(np.sort(face_keys(faces)), np.sort(face_keys(boundary_faces(mesh.cells))))


def test_walls_that_are_alike_are_a_doubt():
    mesh = biventricle(3.2, shape=BiventricleShape(rv_wall=9.0))
    assert any("left and right are a guess" in x for x in find_surfaces(turned(mesh)).doubts)


def test_no_cavities():
    with pytest.raises(ValueError, match="0 patches that look into a cavity"):
        find_surfaces(slab((6.0, 6.0, 4.0), 1.0))
    mesh = biventricle(3.2)
    left = mesh.select(["lv"])
    with pytest.raises(ValueError, match="expected two, the endocardia"):
        find_surfaces(left)


def test_files_get_surfaces_where_they_have_none(tmp_path):
    mesh = biventricle(3.2)
    write_mesh(tmp_path / "bare.vtu", mesh.replaced(surfaces={}))
    write_mesh(tmp_path / "named.vtu", mesh.replaced(surfaces={"epi": mesh.surfaces["epi"]}))
    assert read_mesh(tmp_path / "bare.vtu").surfaces == {}
    found = read_mesh(tmp_path / "bare.vtu", find_surfaces=True).surfaces
    assert found.keys() == {"epi", "endo_lv", "endo_rv", "base"}
    assert read_mesh(tmp_path / "named.vtu", find_surfaces=True).surfaces.keys() == {"epi"}
    block = slab((6.0, 6.0, 4.0), 1.0)
    assert with_found_surfaces("x", block).surfaces == block.surfaces


@pytest.mark.realdata
def test_real_endocardia_are_found(data):
    folder = data / "crtdemo"
    mesh = read_mesh(folder / "crtdemo_mesh_oriented.vtk", fibres=False)
    found = find_surfaces(mesh)
    assert found.doubts == ()
    for name, file in (("endo_lv", "LVendo"), ("endo_rv", "RVendo")):
        expected = surface_from_file(mesh, folder / f"crtdemo_{file}_heart_cut.obj")
        assert share(mesh, found.surfaces[name], expected) > 0.99


@pytest.mark.realdata
def test_ragged_base_is_a_doubt(data):
    file = data / "rodero-heart-01" / "rodero_01_fullheart_2.0mm"
    mesh = read_mesh(
        f"{file}.vtu.gz", names=f"{file}.namemap.json", keep=["lv", "rv", "septum"], fibres=False
    )
    with pytest.warns(UserWarning, match="found by shape, .* border on the epicardium"):
        found = with_found_surfaces(file, mesh.replaced(surfaces={})).surfaces
    for name in ("endo_lv", "endo_rv"):
        assert share(mesh, found[name], mesh.surfaces[name]) > 0.9
