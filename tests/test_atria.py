"""Openings and landmarks of the atria, and the bundles that run between them."""

import numpy as np
import pytest
from biatrial import APPENDAGE, CENTRES, INNER, OPENINGS, OUTER, biatrial, opening, unit

from cardiotwin.anatomy.atria import find_atria, roof, sinus_node, tricuspid_halves
from cardiotwin.anatomy.atrial_fibres import BUNDLES, AtrialRule, atrial_fibres
from cardiotwin.anatomy.formats import read_mesh
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.anatomy.topology import element_faces
from cardiotwin.twin import (
    Anatomy,
    AtrialRuleFibres,
    BundleZone,
    Cells,
    Myocardium,
    SinusNode,
    Twin,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*walls that are one voxel thick:UserWarning")
CRISTA, BACHMANN = BUNDLES.index("crista terminalis"), BUNDLES.index("Bachmann's bundle")


def neighbours(cells):
    """Pairs of elements that share a face."""
    keys = element_faces(cells).keys
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    return order[same] % len(cells), order[same + 1] % len(cells)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return biatrial()


@pytest.fixture(scope="module")
def anatomy(mesh) -> Anatomy:
    return Anatomy(mesh)


@pytest.fixture(scope="module")
def built(anatomy):
    return anatomy.atrial_fibres()


def test_openings_are_told_by_where_they_lie(anatomy):
    left, right = anatomy.atria.left, anatomy.atria.right
    for name in ("tricuspid", "superior_cava", "inferior_cava"):
        np.testing.assert_allclose(right.centre(name), opening("ra", name), atol=4.5)
    for name in ("mitral", "appendage"):
        np.testing.assert_allclose(left.centre(name), opening("la", name), atol=4.5)
    for side in ("left", "right"):
        veins = [opening("la", f"{height} {side} vein") for height in ("upper", "lower")]
        np.testing.assert_allclose(left.centre(f"{side}_veins"), np.mean(veins, axis=0), atol=4.5)
    assert anatomy.atria.up @ [0, 0, 1] > 0.99  # z, and y runs to the back
    assert anatomy.atria.forward @ [0, -1, 0] > 0.95
    for atrium in (left, right):  # all rings reach through the wall, and share nothing
        for ring in atrium.openings.values():
            assert not np.isin(ring, atrium.epi).any()


def test_landmarks_of_the_right_atrium(anatomy, mesh):
    atria = anatomy.atria
    np.testing.assert_allclose(atria.right.centre("appendage"), APPENDAGE, atol=6.0)
    node = sinus_node(atria)
    np.testing.assert_allclose(np.linalg.norm(node - CENTRES["ra"]), OUTER, atol=2.5)
    vein = opening("ra", "superior_cava")
    assert 5.0 < np.linalg.norm(node - vein) < 25.0
    assert (node - vein) @ (APPENDAGE - vein) > 0.0
    septal, free = tricuspid_halves(atria)
    points = atria.right.mesh.points
    assert points[septal][:, 0].mean() > points[free][:, 0].mean() + 5.0  # x to the left
    assert np.array_equal(np.sort([*septal, *free]), np.sort(atria.right.openings["tricuspid"]))
    behind = points[roof(atria)] - CENTRES["ra"]  # between the veins, away from the valve
    assert (behind @ unit(OPENINGS["ra"]["tricuspid"][0])).max() < 0.0
    assert behind[:, 2].min() < -10.0
    assert behind[:, 2].max() > 10.0


def test_directions_are_frames_of_the_wall(mesh, built):
    fibres = built.fibres
    axes = np.stack([fibres.fibre, fibres.sheet, fibres.normal], axis=1)
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.eye(3)[None].repeat(len(axes), 0),
                               atol=1e-12)  # fmt: skip
    np.testing.assert_allclose(np.linalg.det(axes), 1.0)
    assert fibres.replaced < 0.01 * mesh.elements
    regions = {v: k for k, v in mesh.region_names}
    for side, centre in CENTRES.items():  # walls of spheres: the sheet direction is the radius
        own = mesh.regions == regions[side]
        radius = mesh.centroids()[own] - centre
        radius /= np.linalg.norm(radius, axis=1, keepdims=True)
        cosine = np.einsum("ei,ei->e", fibres.sheet[own], radius)
        assert np.median(cosine) > 0.95


@pytest.mark.parametrize(
    ("bundle", "side", "hole"),
    [
        ("mitral vestibule", "la", "mitral"),
        ("tricuspid vestibule", "ra", "tricuspid"),
        ("superior caval vein", "ra", "superior_cava"),
        ("inferior caval vein", "ra", "inferior_cava"),
    ],
)
def test_fibres_circle_the_openings(mesh, built, bundle, side, hole):
    own = built.bundle == BUNDLES.index(bundle)
    axis = unit(OPENINGS[side][hole][0])
    around = np.cross(axis, mesh.centroids()[own] - CENTRES[side])
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    cosine = np.abs(np.einsum("ei,ei->e", built.fibres.fibre[own], around))
    assert own.sum() > 100
    assert np.degrees(np.arccos(np.clip(np.median(cosine), 0, 1))) < 20.0


def test_crista_and_bachmann_run_along_their_ways(mesh, built, anatomy):
    middle, fibre = mesh.centroids(), built.fibres.fibre
    own = (built.bundle == CRISTA) & (np.abs(middle[:, 2]) < 10.0)  # between both veins
    assert np.median(np.abs(fibre[own] @ [0, 0, 1])) > 0.8
    assert middle[own][:, 0].mean() < CENTRES["ra"][0]  # on the side of the free wall
    own = built.bundle == BACHMANN
    both = mesh.regions[own]
    assert np.bincount(both)[1:].min() > 100  # it joins the atria
    on_left = own & (middle[:, 0] > 8.0)  # from where the spheres meet to the appendage
    out = middle[on_left] - CENTRES["la"]
    across = np.cross(out, opening("la", "appendage") - CENTRES["la"])
    along = np.cross(across, out)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    assert np.median(np.abs(np.einsum("ei,ei->e", fibre[on_left], along))) > 0.85
    without = atrial_fibres(mesh, AtrialRule(bachmann=0.0), atria=anatomy.atria)
    assert (without.bundle != BACHMANN).all()
    elsewhere = built.bundle != BACHMANN
    np.testing.assert_array_equal(without.fibres.fibre[elsewhere], fibre[elsewhere])


def test_directions_do_not_depend_on_the_frame_of_the_mesh(mesh):
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    # voxels leave ties, which rounding decides: the shortest way, the foremost node
    rule, tip = AtrialRule(bachmann=0.0), np.array([-21.0, -16.0, 16.0])
    one = atrial_fibres(mesh, rule, right_appendage=tip)
    other = mesh.replaced(points=mesh.points @ turn.T + [5.0, -7.0, 3.0])
    found = atrial_fibres(other, rule, right_appendage=tip @ turn.T + [5.0, -7.0, 3.0])
    assert (found.bundle == one.bundle).mean() > 0.995
    turned = one.fibres.fibre @ turn.T
    cosine = np.abs(np.einsum("ei,ei->e", found.fibres.fibre, turned))
    assert np.median(cosine) > 0.999999


def test_a_closed_appendage_needs_its_tip():
    holes = {name: hole for name, hole in OPENINGS["la"].items() if name != "appendage"}
    del holes["lower left vein"]
    closed = biatrial(holes)
    assert (
        "appendage" not in find_atria(closed).left.openings
    )  # the sinus node is found all the same
    with pytest.raises(ValueError, match="where that is closed, give its tip"):
        atrial_fibres(closed)
    tip = opening("la", "appendage")
    named = atrial_fibres(closed, left_appendage=tip.tolist())
    assert set(np.unique(named.bundle)) == set(range(len(BUNDLES)))
    with pytest.raises(ValueError, match=r"left_appendage is .* mm from the atrium"):
        find_atria(closed, left_appendage=[0.0, 0.0, 500.0])
    with pytest.raises(ValueError, match=r"expected the tip of the appendage, \[x, y, z\]"):
        find_atria(closed, left_appendage=[1.0, 2.0])


def test_what_is_no_pair_of_atria_is_refused(mesh):
    with pytest.raises(ValueError, match="Keep both atria and name them"):
        find_atria(mesh.select(["la"]))
    holes = {name: OPENINGS["la"][name] for name in ("mitral", "upper left vein")}
    with pytest.raises(ValueError, match="'endo_la' has 2 openings; expected at least three"):
        find_atria(biatrial(holes))
    one_side = {k: v for k, v in OPENINGS["la"].items() if "right" not in k}
    with pytest.raises(ValueError, match="2 veins on the left and 0 on the right"):
        find_atria(biatrial(one_side))
    middle = mesh.centroids()  # a patch of wall away from the openings
    regions = np.where(middle[:, 0] < CENTRES["ra"][0] - INNER, 3, mesh.regions)
    more = mesh.replaced(regions=regions, region_names={1: "la", 2: "ra", 3: "lv"})
    with pytest.raises(ValueError, match=r"lie in neither atrium \(regions \['lv'\]\)"):
        atrial_fibres(more)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mitral": 1.5}, "mitral is 1.5; expected a share"),
        ({"left_veins": 0.9}, "left_veins is 0.9 and right_veins 0.85; the former must be smaller"),
        ({"crista": (-0.1, -0.2)}, "must be rising levels"),
        ({"bachmann": -1.0}, "expected the radius of the bundle"),
    ],
)
def test_levels_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        AtrialRule(**given)


def test_a_twin_of_atria_is_assembled(mesh, anatomy):
    fast = BundleZone(["crista terminalis", "Bachmann's bundle"], (1.2, 0.5, 0.5))
    twin = Twin.assemble(
        anatomy,
        fibres=AtrialRuleFibres(),
        myocardium=Myocardium(velocity=(0.8, 0.4, 0.4), zones=[fast]),
        cells=Cells("courtemanche_1998"),
        stimulus=SinusNode(),
    )
    (pulses,) = twin.stimulus.pulses(mesh.points)
    fired = mesh.points[np.asarray(pulses.amplitude) > 0]
    assert len(fired) >= 5
    assert np.linalg.norm(fired - sinus_node(anatomy.atria), axis=1).max() <= 5.0
    layers = Myocardium(velocity=(0.8, 0.4, 0.4), zones=[fast]).layers(anatomy)
    np.testing.assert_array_equal(layers["zone 1"][0], np.isin(anatomy.bundles, [CRISTA, BACHMANN]))
    with pytest.raises(ValueError, match=r"BundleZone: bundles are .*give some of mitral"):
        BundleZone(["crista"], (1.2, 0.5, 0.5))


@pytest.mark.realdata
def test_atria_of_a_real_heart(data):
    """Openings as the file names them, the appendage where others put it by hand."""
    base = data / "rodero-heart-01" / "rodero_01_fullheart_2.0mm"
    names = base.with_name(base.name + ".namemap.json")
    mesh = read_mesh(
        base.with_name(base.name + ".vtu.gz"), names=names, keep=["la", "ra"], fibres=False
    )
    anatomy = Anatomy(mesh)
    atria = anatomy.atria
    # ansys-health-heart lists this tip of the right appendage for the case, found by eye
    assert np.linalg.norm(atria.right.centre("appendage") - [39.0, 29.0, 98.0]) < 4.0
    inlets = {
        "left_veins": ("left-superior-pulmonary-vein", "left-inferior-pulmonary-vein"),
        "right_veins": ("right-superior-pulmonary-vein", "right-inferior-pulmonary-vein"),
        "appendage": ("left-atrium-appendage",),
    }
    for name, words in inlets.items():
        for word in words:
            faces = mesh.surfaces[f"interface_left-atrium-myocardium_{word}-inlet"]
            ring = atria.left.nodes[atria.left.openings[name]]
            assert np.isin(np.unique(faces), ring).mean() > 0.8, word
    found = anatomy.atrial_fibres()
    assert found.fibres.replaced < 0.005 * mesh.elements
    share = np.bincount(found.bundle, mesh.volumes(), len(BUNDLES)) / mesh.volume()
    assert share.min() > 0.01
    assert share.max() < 0.3
    one, other = neighbours(mesh.cells)
    cosine = np.abs(np.einsum("ei,ei->e", found.fibres.fibre[one], found.fibres.fibre[other]))
    jump = cosine < np.cos(np.radians(45.0))
    assert jump.mean() < 0.05
    assert jump[found.bundle[one] == found.bundle[other]].mean() < 0.01
