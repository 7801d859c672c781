"""A left ventricle alone: surfaces, fibres and layers, and what needs the right one."""

import numpy as np
import pytest

from cardiotwin.anatomy.coordinates import heart_axes, ventricular_fields
from cardiotwin.anatomy.fibre_rules import prescription, wall_geometry
from cardiotwin.anatomy.fibres import helix_angle, ldrb
from cardiotwin.anatomy.finding import find_surfaces
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.heart_checks import check_heart
from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import areas, match_faces
from cardiotwin.anatomy.ventricular import ventricular_coordinates
from cardiotwin.tissue.stimulus import FocalStimulus
from cardiotwin.twin import Cells, FastEndocardium, Myocardium, RuleBasedFibres, SinusRhythm, Twin


@pytest.fixture(scope="module")
def whole() -> Mesh:
    return biventricle(3.0)


@pytest.fixture(scope="module")
def left(whole) -> Mesh:
    """The left part of the idealised heart: two ellipsoids, with the septum as a region."""
    part = whole.select(["lv", "septum"])
    faces = part.boundary_faces()
    kept = {name: part.surfaces[name] for name in ("endo_lv", "base")}
    inner = np.concatenate(list(kept.values()))
    outside = faces[match_faces(faces, inner) < 0]  # where the right ventricle was
    return part.replaced(surfaces=kept | {"epi": outside})


@pytest.fixture(scope="module")
def unsided(left) -> Mesh:
    """The same without a word about where the septum is."""
    return left.replaced(regions=np.ones(left.elements, int), region_names={1: "lv"})


def test_fields_of_a_left_ventricle(left):
    check_heart(left)
    fields = ventricular_fields(left)
    assert (fields.phi_rv == 0.0).all()
    assert (fields.interventricular == 1.0).all()
    np.testing.assert_allclose(fields.phi_epi + fields.phi_lv, 1.0, atol=1e-12)
    # between the ellipsoids (25, 25, 65) and (35, 35, 75) at the equator
    equator = np.abs(left.points[:, 2]) < 2.0
    radius = np.hypot(*left.points[equator, :2].T)
    depth = np.log(radius / 25.0) / np.log(35.0 / 25.0)
    assert np.abs(fields.transmural[equator] - depth).mean() < 0.03


def test_fibres_are_the_prescribed_helix(left):
    fields = ventricular_fields(left)
    fibres = ldrb(left, fields=fields)
    angle = helix_angle(left, fibres.fibre, fields, heart_axes(left))
    depth = fields.transmural[left.cells].mean(axis=1)
    height = fields.apicobasal[left.cells].mean(axis=1)
    wanted = 60.0 - 120.0 * depth
    error = np.abs((angle - wanted + 90.0) % 180.0 - 90.0)[height > 0.15]
    assert error.mean() < 2.0
    assert fibres.replaced < 0.005 * left.elements
    assert prescription(RuleBasedFibres().rule, wall_geometry(left, fields)).from_left.all()


def test_the_septum_gives_the_directions(left, whole, unsided):
    ours, both = heart_axes(left), heart_axes(whole)
    np.testing.assert_allclose(ours.apex_to_base, both.apex_to_base, atol=1e-9)
    assert ours.lv_to_rv @ both.lv_to_rv > 0.99
    with pytest.raises(ValueError, match=r"alone, and where its septum is.*leads=null"):
        heart_axes(unsided)
    with pytest.raises(ValueError, match="ventricular coordinates are those of both ventricles"):
        ventricular_coordinates(left)


def test_a_twin_without_a_right_ventricle(unsided):
    """Fibres, cell layers and the fast endocardium do without it; sites around it do not."""
    twin = Twin.assemble(
        unsided,
        cells=Cells("ten_tusscher_2006"),
        myocardium=Myocardium(endocardium=FastEndocardium()),
        stimulus=FocalStimulus([[0.0, 0.0, -70.0]], radius=6.0),
    )
    assert len(np.unique(np.asarray(twin.cell.g_to))) > 1  # endocardium, middle and epicardium
    layers = Myocardium(endocardium=FastEndocardium()).layers(twin.anatomy)
    assert 0.05 < layers["endocardium"][0].mean() < 0.5
    with pytest.raises(ValueError, match="where its septum is"):
        Twin.assemble(unsided, stimulus=SinusRhythm())


def test_surfaces_found_by_shape(left, tmp_path):
    bare = left.replaced(surfaces={})
    found = find_surfaces(bare, alone=True)
    assert found.doubts == ()
    for name, faces in left.surfaces.items():
        same = match_faces(found.surfaces[name], faces) >= 0
        shared = areas(left.points, found.surfaces[name][same]).sum()
        assert shared > 0.95 * areas(left.points, faces).sum(), name
    write_mesh(tmp_path / "left.vtu", bare)
    assert set(read_mesh(tmp_path / "left.vtu", find_surfaces="lv").surfaces) == set(left.surfaces)
    assert not read_mesh(tmp_path / "left.vtu", find_surfaces=True).surfaces
    with pytest.raises(ValueError, match=r"1 of them large.*say find_surfaces=lv"):
        find_surfaces(bare)


def test_what_is_no_left_ventricle_alone(whole, tmp_path):
    write_mesh(tmp_path / "both.vtu", whole.replaced(surfaces={}))
    with pytest.raises(ValueError, match=r"both\.vtu: the boundary has 2 large patches"):
        read_mesh(tmp_path / "both.vtu", find_surfaces="lv")
    # both ventricles with a name missing are not taken for one
    forgotten = {k: v for k, v in whole.surfaces.items() if k != "endo_rv"}
    with pytest.raises(ValueError, match="no surface 'endo_rv'"):
        check_heart(whole.replaced(surfaces=forgotten))
