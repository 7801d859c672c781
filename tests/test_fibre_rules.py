"""Angles of each wall, outflow tracts, profiles across the walls, and the picture of them."""

import numpy as np
import pytest

from cardiotwin.anatomy._frames import element_mean
from cardiotwin.anatomy._valves import points_behind, valve_rings
from cardiotwin.anatomy.coordinates import ventricular_fields
from cardiotwin.anatomy.fibre_profile import (
    LEFT,
    RIGHT,
    SEPTUM,
    WALLS,
    angle_profiles,
    helix_in,
    wall_masks,
)
from cardiotwin.anatomy.fibre_rules import (
    FibreRule,
    SeptumAngles,
    WallAngles,
    prescription,
    wall_geometry,
)
from cardiotwin.anatomy.fibres import Fibres, fibres_by_rule, ldrb
from cardiotwin.anatomy.formats import read_mesh, write_mesh
from cardiotwin.anatomy.idealised import biventricle
from cardiotwin.anatomy.naming import VALVES, standard_surface
from cardiotwin.anatomy.outflow import valve_fields
from cardiotwin.anatomy.topology import match_faces
from cardiotwin.config import build, load
from cardiotwin.results import fibre_angles
from cardiotwin.twin import Anatomy

PUBLISHED = {  # endo and epi of the left wall, left and right side of the septum, endo and epi
    "ldrb": (60, -60, 60, 60, 60, -60),
    "bayer": (40, -50, 40, 40, 40, -50),
    "rodero": (80, -60, 80, 80, 80, -60),
    "doste_base": (60, -60, 60, 90, 90, -25),
}


@pytest.fixture(scope="module")
def heart():
    """With valves: the ring around each opening, cut in two."""
    mesh = biventricle(3.2)
    base, found = mesh.surfaces["base"], {}
    centre = mesh.points[base].mean(axis=1)
    for side, names, axis in (
        ("lv", ("mitral", "aortic"), 0),
        ("rv", ("tricuspid", "pulmonary"), 1),
    ):
        ring = np.isin(base, mesh.surfaces[f"endo_{side}"]).any(axis=1)
        first = centre[:, axis] > 0.0
        found |= {names[0]: base[ring & first], names[1]: base[ring & ~first]}
    return mesh.replaced(surfaces=mesh.surfaces | found)


@pytest.fixture(scope="module")
def anatomy(heart):
    return Anatomy(heart)


@pytest.fixture(scope="module")
def profiles(anatomy):
    """Of every published rule without outflow tracts."""
    found = {}
    for name in PUBLISHED:
        rule = build(load([f"fibres={name}"]).fibres)
        fibres = rule.on(anatomy)
        wanted = rule.prescribed(anatomy)
        found[name] = angle_profiles(anatomy.mesh, fibres, anatomy.fields, wanted)
    return found


def ends(profile):
    """Prescribed angle at depth 0 and 1, by a line through the outer quarters of the depth."""
    depth, angle = profile.depth, profile.quantiles[:, 2]
    low, high = depth < 0.25, depth > 0.75
    return (
        np.polyval(np.polyfit(depth[low], angle[low], 1), 0.0),
        np.polyval(np.polyfit(depth[high], angle[high], 1), 1.0),
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rules_reach_their_angles_in_every_wall(profiles, name):
    lv_endo, lv_epi, left, right, rv_endo, rv_epi = PUBLISHED[name]
    found = {wall: ends(profiles[name][wall]["helix"]) for wall in WALLS}
    np.testing.assert_allclose(found[LEFT], (lv_endo, lv_epi), atol=2.0)
    np.testing.assert_allclose(found[SEPTUM], (left, -right), atol=2.5)  # seen from the left
    np.testing.assert_allclose(found[RIGHT], (rv_endo, rv_epi), atol=2.0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rules_meet_their_prescription(profiles, name):
    for wall in WALLS:
        for kind in ("helix", "sheet"):
            assert profiles[name][wall][kind].mean_error < 1.0, (wall, kind)
            assert profiles[name][wall][kind].elements > 1000


def test_septum_turns_where_the_ventricles_share_it(profiles):
    for name, place in (("ldrb", 0.5), ("doste_base", 2.0 / 3.0)):
        profile = profiles[name][SEPTUM]["helix"]
        zero = np.interp(0.0, -profile.quantiles[:, 2], profile.depth)
        assert zero == pytest.approx(place, abs=0.03)


def test_septum_has_angles_of_its_own(heart, anatomy):
    rule = FibreRule(septum=SeptumAngles(30.0, 80.0, 0.0, 0.0))
    geometry = wall_geometry(heart, anatomy.fields)
    fibres = fibres_by_rule(heart, rule, geometry)
    found = angle_profiles(heart, fibres, anatomy.fields, prescription(rule, geometry))
    np.testing.assert_allclose(ends(found[SEPTUM]["helix"]), (30.0, -80.0), atol=3.0)
    np.testing.assert_allclose(ends(found[LEFT]["helix"]), (60.0, -60.0), atol=4.0)
    np.testing.assert_allclose(ends(found[RIGHT]["helix"]), (60.0, -60.0), atol=4.0)
    assert geometry.septal[wall_masks(heart, anatomy.fields)[LEFT]].mean() < 0.1
    assert geometry.septal[wall_masks(heart, anatomy.fields)[SEPTUM]].mean() > 0.9


def test_right_angles_leave_the_left_ventricle_alone(heart, anatomy):
    plain = ldrb(heart, fields=anatomy.fields)
    other = ldrb(heart, rv=WallAngles(90.0, -25.0), fields=anatomy.fields)
    same = np.abs(np.einsum("ei,ei->e", plain.fibre, other.fibre)) > np.cos(np.radians(4.0))
    masks = wall_masks(heart, anatomy.fields)
    assert same[masks[LEFT]].all()
    assert not same[masks[RIGHT]].all()


def test_angles_and_shares_are_checked():
    with pytest.raises(ValueError, match="alpha_epi must lie within -90 and 90 degrees, got 120"):
        WallAngles(alpha_epi=120.0)
    with pytest.raises(ValueError, match="beta_right must lie within"):
        SeptumAngles(beta_right=-91.0)
    with pytest.raises(ValueError, match="left_share must lie between 0 and 1, got 1"):
        FibreRule(left_share=1.0)


# -- Outflow tracts --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outflow(anatomy):
    rule = build(load(["fibres=doste"]).fibres)
    return rule.on(anatomy), rule.prescribed(anatomy)


def test_valve_fields_take_their_boundary_values(heart, anatomy):
    valves = anatomy.valves
    for name in VALVES:
        height = getattr(valves, name)
        np.testing.assert_allclose(height[np.unique(heart.surfaces[name])], 1.0)
        assert height.min() == 0.0
    for body, inflow, own in (
        (valves.body_lv, "mitral", anatomy.fields.interventricular > 0.5),
        (valves.body_rv, "tricuspid", anatomy.fields.interventricular < 0.5),
    ):
        out = {"mitral": "aortic", "tricuspid": "pulmonary"}[inflow]
        lone = np.setdiff1d(heart.surfaces[out], heart.surfaces[inflow])
        np.testing.assert_allclose(body[lone], 0.0, atol=1e-12)
        assert 0.7 < (body[own] == 1.0).mean() < 0.95  # the tract is a small part


def test_outflow_tracts_run_along_inside_and_around_outside(heart, anatomy, outflow):
    fibres, wanted = outflow
    angle = helix_in(wanted.frames, fibres.fibre)
    depth = element_mean(heart, anatomy.fields.phi_epi)
    across = 1.0 - element_mean(heart, anatomy.fields.interventricular)
    tract = (element_mean(heart, anatomy.valves.body_rv) < 0.15) & (across > 0.98)
    assert np.abs(angle[tract & (depth < 0.3)]).mean() > 60.0
    assert np.abs(angle[tract & (depth > 0.75)]).mean() < 30.0
    body = (element_mean(heart, anatomy.valves.body_lv) == 1.0) & (across < 0.02)
    epi = body & (depth > 0.9)
    assert np.median(angle[epi]) == pytest.approx(-57.0, abs=3.0)


def test_longitudinal_means_towards_the_valves(heart, anatomy, outflow):
    """Under the pulmonary valve, up points to it: away from the tricuspid one."""
    _, wanted = outflow
    near = element_mean(heart, anatomy.valves.body_rv) < 0.3
    near &= element_mean(heart, anatomy.fields.interventricular) < 0.02
    height = heart.gradients(anatomy.valves.pulmonary)[near]
    along = np.einsum("ei,ei->e", height, wanted.frames[near][:, :, 1])
    assert (along > 0.8 * np.linalg.norm(height, axis=1)).mean() > 0.9


def test_outflow_fibres_meet_their_prescription(heart, anatomy, outflow):
    fibres, wanted = outflow
    found = angle_profiles(heart, fibres, anatomy.fields, wanted)
    for wall in WALLS:
        assert found[wall]["helix"].mean_error < 2.0, wall
    frame = np.stack([fibres.fibre, fibres.sheet, fibres.normal], axis=2)
    np.testing.assert_allclose(
        np.swapaxes(frame, 1, 2) @ frame, np.broadcast_to(np.eye(3), frame.shape), atol=1e-6
    )


def test_outflow_without_valves_is_refused():
    mesh = biventricle(3.2)
    with pytest.raises(
        ValueError, match=r"mitral, aortic, tricuspid, pulmonary are missing.*keep="
    ):
        ldrb(mesh, outflow=WallAngles(90.0, 0.0))
    some = mesh.replaced(surfaces=mesh.surfaces | dict.fromkeys(VALVES[1:], mesh.surfaces["base"]))
    with pytest.raises(ValueError, match="but mitral is missing"):
        valve_fields(some, ventricular_fields(mesh))


def test_valves_are_known_by_many_names():
    for name in ("Mitral valve", "mitral", "mitral-annulus", "MITRAL_RING"):
        assert standard_surface(name) == "mitral"
    ring = "interface_right-ventricle-myocardium_pulmonary-valve-plane"
    assert standard_surface(ring) == "pulmonary"
    assert standard_surface("mitral-valve-atrium") == "mitral-valve-atrium"


def test_rings_go_to_the_nearest_valve(heart):
    """Tissue set on one half of each ring stands for an atrium or an artery."""
    surfaces = {k: v for k, v in heart.surfaces.items() if k not in VALVES}
    names = dict(zip(VALVES, ("Left atrium", "aorta wall", "RA", "pulmonary-artery"), strict=True))
    removed = {}
    for valve, name in names.items():
        nodes = np.unique(heart.surfaces[valve])
        removed[name] = np.resize(nodes, (len(nodes) // 4, 4))
    behind = points_behind(heart.points, removed)
    assert set(behind) == set(VALVES)
    found = valve_rings(heart.points, surfaces, behind)
    assert set(found) == set(VALVES)
    for valve in VALVES:
        ours = np.isin(found[valve], heart.surfaces[valve]).all(axis=1)
        assert ours.mean() > 0.8, valve
    assert valve_rings(heart.points, heart.surfaces, behind) == {}  # named ones stay
    assert points_behind(heart.points, {"liver": removed["RA"]}) == {}


@pytest.mark.parametrize("name", ["heart.vtu", "heart.msh", "heart.pts"])
def test_valves_survive_files_although_they_overlap_the_base(heart, tmp_path, name):
    write_mesh(tmp_path / name, heart)
    again = read_mesh(tmp_path / name)
    assert set(again.surfaces) == set(heart.surfaces)
    for surface, faces in heart.surfaces.items():
        assert len(match_faces(again.surfaces[surface], faces)) == len(faces)
        assert (match_faces(again.surfaces[surface], faces) >= 0).all()


# -- Profiles and their picture --------------------------------------------------------------------


def test_profile_measures_an_offset(heart, anatomy):
    """Fibres turned by 20 degrees within the wall show a mean error of 20 degrees."""
    rule, geometry = FibreRule(), wall_geometry(heart, anatomy.fields)
    wanted = prescription(rule, geometry)
    alpha = np.radians(wanted.alpha + 20.0)[:, None]
    around, up, out = (wanted.frames[:, :, k] for k in range(3))
    fibre = np.cos(alpha) * around + np.sin(alpha) * up
    fibres = Fibres(-fibre, out, np.cross(-fibre, out))  # the sign must not matter
    found = angle_profiles(heart, fibres, anatomy.fields, wanted)
    for wall in (LEFT, RIGHT):
        assert found[wall]["helix"].mean_error == pytest.approx(20.0, abs=1e-6)
        off = found[wall]["helix"].quantiles[:, 2] - found[wall]["helix"].wanted
        np.testing.assert_allclose(off, 20.0, atol=1.0)


def test_profile_without_a_rule_has_angles_only(heart, anatomy):
    fibres = ldrb(heart, alpha_endo=80.0, alpha_epi=-70.0, fields=anatomy.fields)
    found = angle_profiles(heart, fibres, anatomy.fields)
    assert set(found[LEFT]) == {"helix"}
    profile = found[LEFT]["helix"]
    assert profile.wanted is None
    assert profile.mean_error is None
    np.testing.assert_allclose(ends(profile), (80.0, -70.0), atol=3.0)


def test_picture_says_the_errors(profiles, tmp_path):
    path = fibre_angles(tmp_path / "angles.svg", profiles["doste_base"])
    text = path.read_text()
    for word in (*WALLS, "mean error", "prescribed", "helix angle", "sheet angle"):
        assert word.replace(" ", "") in text.replace(" ", ""), word
    with pytest.raises(ValueError, match="no fibre angles to draw"):
        fibre_angles(tmp_path / "none.png", {LEFT: {}})
    assert not (tmp_path / "none.png").exists()


# -- A real heart ----------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:.*placeholder.*")
def test_outflow_tracts_of_a_real_heart(data):
    folder = data / "rodero-heart-01"
    mesh = read_mesh(
        folder / "rodero_01_fullheart_2.0mm.vtu.gz",
        names=folder / "rodero_01_fullheart_2.0mm.namemap.json",
        keep=["lv", "rv", "septum"],
    )
    assert set(VALVES) <= set(mesh.surfaces)
    anatomy = Anatomy(mesh)
    rule = build(load(["fibres=doste"]).fibres)
    fibres, wanted = rule.on(anatomy), rule.prescribed(anatomy)
    found = angle_profiles(mesh, fibres, anatomy.fields, wanted)
    for wall in WALLS:
        assert found[wall]["helix"].mean_error < 2.0, wall
    assert fibres.replaced < 100
