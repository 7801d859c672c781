"""Root nodes, the fast endocardium and cell types on the idealised heart."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from cardiotwin.anatomy.coordinates import heart_axes
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.ionic import BuenoOrovio, MitchellSchaeffer, TenTusscherPanfilov2006
from cardiotwin.run.summary import lost_stimuli
from cardiotwin.tissue.sites import (
    DURRER_SITES,
    EndocardialSite,
    endocardial_layer,
    rotation,
    sinus_rhythm,
)
from cardiotwin.twin import (
    Anatomy,
    Cells,
    FastEndocardium,
    Myocardium,
    RuleBasedFibres,
    SinusRhythm,
    Twin,
)

EDGE = 3.2  # mm, the coarsest heart there is


@pytest.fixture(scope="module")
def heart():
    return Anatomy(biventricle(EDGE))


@pytest.fixture(scope="module")
def axes(heart):
    return heart_axes(heart.mesh)


def nodes_of(mesh, *surfaces):
    return np.unique(np.concatenate([mesh.surfaces[name] for name in surfaces]))


# The idealised heart: long axis along z, right ventricle at negative x, front at negative y.


def test_angles_are_positive_towards_the_front(axes):
    points = axes.origin + 10.0 * np.array(
        [[-1.0, 0, 0], [0, -1.0, 0], [0, 1.0, 0], [-1.0, -1.0, 5.0]]
    )
    # right, front, back, between right and front however high; 2 degrees for the axes of the mesh
    np.testing.assert_allclose(rotation(points, axes), [0.0, 90.0, -90.0, 45.0], atol=2.0)


@pytest.mark.parametrize(
    ("ventricle", "angle"),
    # the right cavity covers only the angles beside the septum
    [("lv", -100.0), ("lv", 0.0), ("lv", 80.0), ("rv", -45.0), ("rv", 0.0), ("rv", 45.0)],
)
@pytest.mark.parametrize("height", [0.35, 0.7])
def test_site_lies_where_it_was_asked_for(heart, axes, ventricle, angle, height):
    mesh = heart.mesh
    node = EndocardialSite(ventricle, height, angle).locate(mesh, heart.fields, axes)
    assert node in nodes_of(mesh, f"endo_{ventricle}")
    # no nearer than the mesh has nodes: an edge is 0.04 of the long axis, and 9 degrees at 20 mm
    assert abs(heart.fields.apicobasal[node] - height) < 0.08
    turn = (rotation(mesh.points[[node]], axes)[0] - angle + 180) % 360 - 180
    assert abs(turn) < 15.0
    if angle:
        assert np.sign(-(mesh.points[node] - axes.origin)[1]) == np.sign(angle)


def test_walls(heart, axes):
    mesh, fields = heart.mesh, heart.fields
    epi = mesh.points[nodes_of(mesh, "epi")]

    def nearest(node, surface):
        there = mesh.points[nodes_of(mesh, surface)]
        return np.linalg.norm(there - mesh.points[node], axis=1).min()

    for ventricle, other in (("lv", "endo_rv"), ("rv", "endo_lv")):
        septal = EndocardialSite(ventricle, 0.5, 0.0, "septum").locate(mesh, fields, axes)
        free = EndocardialSite(ventricle, 0.5, 0.0 if ventricle == "rv" else 180.0, "free").locate(
            mesh, fields, axes
        )
        # the septum is 10 mm thick and far from the outside; a free wall is not near the other side
        assert nearest(septal, other) < 10.0 + EDGE
        assert np.linalg.norm(epi - mesh.points[septal], axis=1).min() > 10.0 + EDGE
        assert nearest(free, other) > 10.0 + EDGE
        assert nearest(free, "epi") < 10.0 + EDGE
    # at the same angle the wall decides: septum and free wall of the right ventricle are opposite
    wall = {
        w: mesh.points[EndocardialSite("rv", 0.5, 0.0, w).locate(mesh, fields, axes)][0]
        for w in ("septum", "free")
    }
    assert wall["septum"] - wall["free"] > 10.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("atrium", 0.5, 0.0), "ventricle is 'atrium'; give 'lv' or 'rv'"),
        (("lv", 1.2, 0.0), "apicobasal is 1.2; it runs from 0"),
        (("lv", -0.1, 0.0), "apicobasal is -0.1"),
        (("lv", float("nan"), 0.0), "apicobasal is nan"),
        (("lv", 0.5, float("inf")), "angle inf"),
        (("lv", 0.5, 0.0, "roof"), "wall is 'roof'"),
        (("lv", 0.5, 0.0, None, -1.0), "onset -1.0"),
    ],
)
def test_sites_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        EndocardialSite(*arguments)


def test_site_where_there_is_no_endocardium(heart, axes):
    # on the far side of the left ventricle
    with pytest.raises(ValueError, match=r"no endocardium of the rv near .*180.* mm off"):
        EndocardialSite("rv", 0.9, 180.0, "free").locate(heart.mesh, heart.fields, axes)


def test_site_on_a_mesh_without_surfaces(heart, axes):
    block = slab((2.0, 1.0, 1.0), 1.0)
    with pytest.raises(ValueError, match=r"need the surfaces .*'endo_lv'"):
        EndocardialSite("lv", 0.5, 0.0).locate(block, heart.fields, axes)


def test_sinus_rhythm(heart, axes):
    stimulus = sinus_rhythm(heart.mesh, heart.fields, radius=5.0, delay=20.0)
    (pulses,) = stimulus.pulses(heart.mesh.points)
    on = pulses.amplitude > 0
    # no deeper than the middle of the wall
    points = heart.mesh.points
    inner = KDTree(points[nodes_of(heart.mesh, "endo_lv", "endo_rv")]).query(points)[0]
    outer = KDTree(points[nodes_of(heart.mesh, "epi")]).query(points)[0]
    assert np.all(inner[on] < outer[on])
    assert inner[on].max() > 1.5  # but deeper than the surface
    for site in DURRER_SITES:
        node = site.locate(heart.mesh, heart.fields, axes)
        assert pulses.onset[node] == 20.0 + site.onset
        near = np.linalg.norm(heart.mesh.points - heart.mesh.points[node], axis=1) <= 5.0
        wall = np.isin(np.arange(len(on)), nodes_of(heart.mesh, f"endo_{site.ventricle}"))
        assert np.all(on[near & wall])
    assert set(pulses.onset[on]) == {20.0 + site.onset for site in DURRER_SITES}
    with pytest.raises(ValueError, match="no sites"):
        SinusRhythm(sites=[])


def test_endocardial_layer(heart):
    mesh = heart.mesh
    endocardium = nodes_of(mesh, "endo_lv", "endo_rv")
    touching = np.isin(mesh.cells, endocardium).any(axis=1)
    thin = endocardial_layer(mesh, heart.fields, thickness=0.0)
    np.testing.assert_array_equal(thin, touching)
    thick = endocardial_layer(mesh, heart.fields, thickness=6.0)
    assert np.all(thick[thin])
    added = thick & ~thin
    assert added.any()
    assert not thick.all()
    centroid = mesh.points[mesh.cells].mean(axis=1)
    distance = np.array(
        [np.linalg.norm(mesh.points[endocardium] - c, axis=1).min() for c in centroid[added][:200]]
    )
    assert distance.max() <= 6.0
    half = endocardial_layer(mesh, heart.fields, thickness=6.0, up_to=0.5)
    height = heart.fields.apicobasal[mesh.cells].mean(axis=1)
    np.testing.assert_array_equal(half, thick & (height <= 0.5))
    with pytest.raises(ValueError, match="the mesh lacks"):
        endocardial_layer(slab((2.0, 1.0, 1.0), 1.0), heart.fields)


# cells


def test_layers_of_cell_types(heart):
    cell = Cells("ten_tusscher_2006", endo=0.4, mid=0.3, width=0.1).on(heart)
    depth = heart.fields.transmural
    kinds = {k: getattr(TenTusscherPanfilov2006, k)() for k in ("endo", "mid", "epi")}
    places = {
        "endo": depth < 0.34,
        "mid": (depth > 0.46) & (depth < 0.64),
        "epi": depth > 0.76,
    }
    for name in ("g_Ks", "g_to"):
        values = np.asarray(getattr(cell, name))
        assert values.shape == depth.shape
        for kind, here in places.items():
            assert here.any()
            np.testing.assert_allclose(
                values[here], float(getattr(kinds[kind], name)), rtol=1e-12, err_msg=kind
            )
    # what all types share stays a scalar
    assert np.ndim(cell.g_Na) == 0
    # halfway through the transition the mean of both, and monotone in between
    between = (depth > 0.35) & (depth < 0.45)
    low, high = sorted((float(kinds["endo"].g_Ks), float(kinds["mid"].g_Ks)))
    values = np.asarray(cell.g_Ks)[between]
    assert np.all((values >= low) & (values <= high))
    share = (depth[between] - 0.35) / 0.1
    expected = (1 - share) * float(kinds["endo"].g_Ks) + share * float(kinds["mid"].g_Ks)
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_uniform_cells(heart):
    for kind in ("endo", "mid", "epi"):
        cell = Cells("bueno_orovio", uniform=kind).on(heart)
        assert float(cell.tau_so1) == float(getattr(BuenoOrovio, kind)().tau_so1)
        assert np.ndim(cell.tau_so1) == 0


def test_gradients(heart):
    cells = Cells(
        "ten_tusscher_2006",
        uniform="epi",
        apex_to_base={"g_Ks": (2.0, 1.0)},
        endo_to_epi={"g_Ks": (1.0, 0.5), "g_to": (0.0, 1.0)},
    )
    cell = cells.on(heart)
    epi = TenTusscherPanfilov2006.epi()
    height, depth = np.clip(heart.fields.apicobasal, 0, 1), np.clip(heart.fields.transmural, 0, 1)
    np.testing.assert_allclose(
        cell.g_Ks, float(epi.g_Ks) * (2 - height) * (1 - 0.5 * depth), rtol=1e-12
    )
    np.testing.assert_allclose(cell.g_to, float(epi.g_to) * depth, atol=1e-15)


def test_parameters_reach_every_type_and_the_reference(heart):
    cells = Cells("ten_tusscher_2006", parameters={"g_Na": 7.0})
    assert float(cells.on(heart).g_Na) == 7.0
    assert float(cells.reference().g_Na) == 7.0
    assert float(cells.reference().g_Ks) == float(TenTusscherPanfilov2006.epi().g_Ks)
    assert float(Cells(uniform="mid").reference().g_Ks) == float(TenTusscherPanfilov2006.mid().g_Ks)


def test_mitchell_schaeffer_has_no_types(heart):
    cells = Cells(
        "mitchell_schaeffer", parameters={"tau_in": 0.25}, apex_to_base={"tau_close": (1, 2)}
    )
    cell = cells.on(heart)
    assert isinstance(cell, MitchellSchaeffer)
    assert float(cell.tau_in) == 0.25
    height = np.clip(heart.fields.apicobasal, 0, 1)
    np.testing.assert_allclose(cell.tau_close, 150.0 * (1 + height), rtol=1e-12)
    # asked for a type it does not have, it is the one it is
    assert float(Cells("mitchell_schaeffer", uniform="endo").on(heart).tau_in) == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "luo_rudy"}, "no model 'luo_rudy'; give one of"),
        ({"parameters": {"g_K": 1.0}}, "ten_tusscher_2006 has no parameter 'g_K'; it has .*g_Ks"),
        ({"apex_to_base": {"nothing": (1, 2)}}, "no parameter 'nothing'"),
        ({"endo_to_epi": {"g_Ks": (1, 2, 3)}}, r"endo_to_epi.g_Ks is \(1, 2, 3\)"),
        ({"endo_to_epi": {"g_Ks": (-1, 2)}}, "not negative"),
        ({"model": "mitchell_schaeffer", "parameters": {"g_Ks": 1.0}}, "has no parameter 'g_Ks'"),
        ({"endo": 0.8, "mid": 0.4}, "at most 1 together"),
        ({"width": 0.0}, "positive width"),
    ],
)
def test_cells_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cells(**arguments)


# the twin


def test_twin(heart):
    twin = Twin.assemble(
        heart.mesh,
        fibres=RuleBasedFibres(alpha_endo=50.0),
        cells=Cells("mitchell_schaeffer"),
        stimulus=SinusRhythm(delay=10.0),
    )
    problem = twin.problem()
    assert problem.mesh is heart.mesh
    assert len(problem.tissue.fibres.fibre) == len(heart.mesh.cells)
    assert problem.stimulus.onset.min() == 10.0
    assert np.all(problem.tissue.tuning == 1.0)
    system = problem.discretise()
    assert system.nodes == len(heart.mesh.points)
    # the stimulus follows the nodes when they are renumbered
    amplitude = np.asarray(system.to_mesh(system.pulses[0].amplitude))
    np.testing.assert_array_equal(np.flatnonzero(amplitude), np.unique(problem.stimulus.nodes))


def test_twin_without_surfaces_for_its_rules():
    with pytest.raises(ValueError, match="surface"):
        Twin.assemble(slab((2.0, 1.0, 1.0), 1.0))


def test_layers_of_velocity(heart):
    fast = FastEndocardium(velocity=2.5, thickness=1.0)
    layers = Myocardium(velocity=(0.6, 0.4, 0.2), endocardium=fast).layers(heart)
    assert list(layers) == ["myocardium", "endocardium"]
    everywhere, target = layers["myocardium"]
    assert everywhere.all()
    assert tuple(target) == (0.6, 0.4, 0.2)
    here, target = layers["endocardium"]
    np.testing.assert_array_equal(here, endocardial_layer(heart.mesh, heart.fields, thickness=1.0))
    assert tuple(target) == (2.5, 2.5, 2.5)
    assert Myocardium(velocity=None).layers(heart) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Myocardium(velocity=(0.6, 0.3)), "give three velocities"),
        (lambda: Myocardium(velocity=None, endocardium=FastEndocardium()), "velocity is null"),
        (lambda: FastEndocardium(velocity=-1.0), "velocity -1.0"),
        (lambda: FastEndocardium(up_to=1.5), "up_to"),
    ],
)
def test_myocardium_that_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_stimulus_that_did_not_capture_is_reported(heart):
    twin = Twin.assemble(heart.mesh)
    (pulses,) = twin.stimulus.pulses(heart.mesh.points)
    on = pulses.amplitude > 0
    activation = np.where(on, pulses.onset + 1.0, 40.0)
    assert lost_stimuli(twin, activation, 100.0) == []
    late = DURRER_SITES[-1].onset
    activation = np.where(on & (pulses.onset == late), np.nan, activation)
    (message,) = lost_stimuli(twin, activation, 100.0)
    assert f"{int((on & (pulses.onset == late)).sum())} nodes, {late:g} ms) did not" in message
    assert lost_stimuli(twin, activation, late + 5.0) == []  # too early to tell
