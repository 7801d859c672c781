"""Meshes that are no heart that can be used: each found and named before anything is solved."""

import numpy as np
import pytest

from cardiotwin.anatomy.finding import find_surfaces
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.heart_checks import check_heart, heart_doubts
from cardiotwin.anatomy.idealised import BiventricleShape, biventricle, slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.quality import quality_report
from cardiotwin.anatomy.stuffing import stuff
from cardiotwin.anatomy.topology import component_labels
from cardiotwin.cli import main
from cardiotwin.run.look import look_at_surfaces
from cardiotwin.twin import Anatomy

LV, RV = np.array([-14.0, 0.0, 0.0]), np.array([20.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def heart():
    return biventricle(3.2)


@pytest.fixture(scope="module")
def pierced(heart):
    """A heart with a hole of 14 mm through the septum; the wall of the hole has no name."""
    septum = heart.centroids()[heart.regions == heart.region_id("septum")]
    middle = septum[np.argmin(np.abs(septum[:, 1]) + np.abs(septum[:, 2] + 25.0))]
    away = np.linalg.norm((heart.centroids() - middle)[:, 1:], axis=1)
    near = np.abs(heart.centroids()[:, 0] - middle[0]) < 14.0
    return heart.submesh(~((away < 7.0) & near))[0]


def swapped(mesh):
    surfaces = dict(mesh.surfaces)
    surfaces["endo_lv"], surfaces["endo_rv"] = surfaces["endo_rv"], surfaces["endo_lv"]
    return mesh.replaced(surfaces=surfaces)


def test_a_sound_heart_passes(heart):
    check_heart(heart)
    assert heart_doubts(heart) == []
    assert heart_doubts(heart.replaced(surfaces={})) == []


def test_swapped_ventricles_are_refused(heart, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"left and right seem swapped; exchange the names"):
        _ = Anatomy(swapped(heart)).fields
    write_mesh(tmp_path / "heart.vtu", swapped(heart))
    assert main(["twin", str(tmp_path / "heart.vtu"), "-o", str(tmp_path / "patient")]) == 2
    assert "seem swapped" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "heart.vtu")]) == 0
    assert "seem swapped" in capsys.readouterr().out


def test_hole_in_the_septum_is_refused(pierced):
    with pytest.raises(ValueError, match=r"septum has a hole: .* joined by a patch of \d+ nodes"):
        check_heart(pierced)
    # the same with the wall of the hole shared out between both endocardia
    boundary = pierced.boundary_faces()
    named = {tuple(sorted(f)) for faces in pierced.surfaces.values() for f in faces.tolist()}
    bare = boundary[[tuple(sorted(f)) not in named for f in boundary.tolist()]]
    left = pierced.points[bare].mean(axis=1)[:, 0] > pierced.points[bare].mean(axis=(0, 1))[0]
    surfaces = dict(pierced.surfaces)
    surfaces["endo_lv"] = np.concatenate([surfaces["endo_lv"], bare[left]])
    surfaces["endo_rv"] = np.concatenate([surfaces["endo_rv"], bare[~left]])
    with pytest.raises(ValueError, match=r"septum has a hole: .* share \d+ edges, around"):
        check_heart(pierced.replaced(surfaces=surfaces))


def test_hole_in_the_septum_of_a_bare_mesh(pierced):
    with pytest.raises(ValueError, match=r"a hole in the septum makes one cavity of both"):
        find_surfaces(pierced.replaced(surfaces={}))


def test_base_that_is_not_cut_is_refused():
    def depth(points):
        def inside(centre, axes):
            away = np.linalg.norm((points - centre) / axes, axis=1)
            return (1.0 - away) * np.min(axes)

        outer = inside(np.zeros(3), np.array([46.0, 30.0, 34.0]))
        holes = [inside(c, np.array(a)) for c, a in ((LV, (16, 16, 20)), (RV, (14, 20, 24)))]
        return np.minimum(outer, -np.maximum(*holes))

    box = np.array([50.0, 34.0, 38.0])
    points, cells = stuff(depth, -box, box, 4.0, open_top=False)
    mesh = Mesh(points, cells)
    with pytest.raises(
        ValueError, match=r"2 cavities have no opening.*Cut the ventricles open below"
    ):
        find_surfaces(mesh)
    faces = mesh.boundary_faces()
    piece = component_labels(faces, mesh.nodes)[faces[:, 0]]
    parts = sorted((faces[piece == k] for k in np.unique(piece)), key=len)
    assert len(parts) == 3
    sides = sorted(parts[:2], key=lambda f: points[f][:, :, 0].mean())
    surfaces = {"endo_lv": sides[0], "endo_rv": sides[1], "epi": parts[2][:-9]}
    with pytest.raises(ValueError, match=r"no surface 'base'"):
        check_heart(mesh.replaced(surfaces=surfaces))
    with pytest.raises(ValueError, match=r"'endo_lv' is closed: expected an opening"):
        check_heart(mesh.replaced(surfaces=surfaces | {"base": parts[2][-9:]}))


def test_surfaces_that_do_not_close_are_told(heart):
    epi = heart.surfaces["epi"]
    low = heart.points[epi].mean(axis=1)[:, 2] < -40.0
    torn = heart.replaced(surfaces=heart.surfaces | {"epi": epi[~low]})
    (doubt,) = heart_doubts(torn)
    assert "belongs to no surface: together they do not close" in doubt
    assert doubt in quality_report(torn)["warnings"]


def test_two_hearts_are_refused(heart):
    away = np.array([200.0, 0.0, 0.0])
    points = np.concatenate([heart.points, heart.points + away])
    cells = np.concatenate([heart.cells, heart.cells + heart.nodes])
    with pytest.raises(ValueError, match=r"2 pieces"):
        Mesh(points, cells)


@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz", "labels.nrrd"])
def test_image_in_place_of_a_mesh(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(400))
    with pytest.raises(ValueError, match=rf"is an image.*cardiotwin mesh {name}"):
        read_mesh(tmp_path / name)


def test_dicom_in_place_of_a_mesh(tmp_path, capsys):
    series = tmp_path / "series"
    series.mkdir()
    (series / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(20))
    (tmp_path / "one.dcm").write_bytes(b"")
    for path in (series, tmp_path / "one.dcm"):
        with pytest.raises(ValueError, match=r"is DICOM.*3D Slicer.*dcm2niix"):
            read_mesh(path)
        assert main(["twin", str(path), "-o", str(tmp_path / "patient")]) == 2
        assert "is DICOM" in capsys.readouterr().err


def test_doubtful_surfaces_are_drawn(heart, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thick = biventricle(3.2, shape=BiventricleShape(rv_wall=9.0))
    write_mesh("thick.vtu", thick.replaced(surfaces={}))
    assert main(["info", "thick.vtu"]) == 0
    text = capsys.readouterr().out
    assert "uncertain: the free walls of both cavities are alike" in text
    assert "look at them: thick_surfaces.png" in text
    assert (tmp_path / "thick_surfaces.png").stat().st_size > 20_000
    assert look_at_surfaces(tmp_path / "x.vtu", heart) == []
    assert look_at_surfaces(tmp_path / "x.vtu", heart, tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()
    block = slab((6.0, 6.0, 4.0), 1.0).replaced(surfaces={})
    assert "look into a cavity" in look_at_surfaces(tmp_path / "x.vtu", block)[0]
    with pytest.raises(ValueError, match="nothing to draw"):
        look_at_surfaces(tmp_path / "x.vtu", block, tmp_path / "y.png")
