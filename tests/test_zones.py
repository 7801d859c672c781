"""Regions in ventricular coordinates: the same part of every heart, its cells and conduction."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
from cardiotwin.config import build
from cardiotwin.run.experiment import Output
from cardiotwin.run.probes import choose_probes
from cardiotwin.tissue.places import VentricularRegion, VentricularSite
from cardiotwin.twin import Anatomy, Cells, CellZone, ConductionZone, FastEndocardium, Myocardium

LATERAL = VentricularRegion("lv", apicobasal=[0.3, 0.7], rotational=[120, -120])


@pytest.fixture(scope="module")
def heart():
    return Anatomy(biventricle(3.2))


@pytest.fixture(scope="module")
def other():
    """A dilated heart in another pose."""
    mesh = biventricle(3.2, shape=BiventricleShape(lv_endocardium=(33, 33, 72), rv_offset=38))
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    return Anatomy(mesh.replaced(points=mesh.points @ turn.T + [50.0, -20.0, 10.0]))


def share(anatomy, region):
    """Share of the volume of the left ventricle's half that a region fills."""
    volumes, half = anatomy.mesh.volumes(), anatomy.map.coordinates.side == 0
    return volumes[region.elements(anatomy.map)].sum() / volumes[half].sum()


def test_nodes_lie_within_the_ranges(heart):
    here = LATERAL.nodes(heart.map)
    height, angle = heart.map.coordinates.values[0, here, 1:].T
    assert height.min() >= 0.3
    assert height.max() <= 0.7
    assert np.abs(np.degrees(angle)).min() >= 120.0  # the arc through 180 degrees
    front = VentricularRegion("lv", rotational=[60, 120]).nodes(heart.map)
    assert np.all(heart.map.coordinates.values[0, front, 2] > 1.0)
    assert not (front & here & (np.abs(np.degrees(heart.map.coordinates.rotational)) > 121)).any()


def test_elements_are_those_of_the_nodes(heart):
    nodes, elements = LATERAL.nodes(heart.map), LATERAL.elements(heart.map)
    corners = nodes[heart.mesh.cells].sum(axis=1)
    assert elements[corners == 4].all()
    # none of four corners lies in the region, and their mean does: at its own corners only
    assert 0 < elements[corners == 0].sum() < 0.02 * elements.sum()


def test_region_is_the_same_part_of_another_heart(heart, other):
    first, second = share(heart, LATERAL), share(other, LATERAL)
    assert first == pytest.approx(second, rel=0.15)
    assert 0.05 < first < 0.3
    lower = VentricularRegion(apicobasal=[0.0, 0.5])
    upper = VentricularRegion(apicobasal=[0.5, 1.0])
    for one in (heart, other):
        both = lower.elements(one.map).sum() + upper.elements(one.map).sum()
        assert both == one.mesh.elements


def test_inner_and_outer_half_meet_in_the_wall(heart):
    inner = VentricularRegion(transmural=[0.0, 0.5]).elements(heart.map)
    outer = VentricularRegion(transmural=[0.5, 1.0]).elements(heart.map)
    assert np.all(inner ^ outer)


def test_segments(heart):
    region = VentricularRegion(segments=[7, 8])
    found = heart.map.segments()
    np.testing.assert_array_equal(region.nodes(heart.map), np.isin(found, [7, 8]))
    corners = np.isin(found[heart.mesh.cells], [7, 8]).sum(axis=1)
    assert region.elements(heart.map)[corners == 4].all()
    assert not region.elements(heart.map)[corners == 0].any()


def test_cells_of_a_zone(heart):
    cells = Cells(
        uniform="epi",
        zones=[
            CellZone(LATERAL, {"g_Kr": 0.5, "g_Ks": 3.0}),
            CellZone(VentricularRegion(), {"g_Ks": 2}),
        ],
    )
    cell, plain = cells.on(heart), cells.reference()
    here = LATERAL.nodes(heart.map)
    np.testing.assert_allclose(cell.g_Kr, plain.g_Kr * np.where(here, 0.5, 1.0))
    np.testing.assert_allclose(cell.g_Ks, plain.g_Ks * np.where(here, 6.0, 2.0))


def test_left_to_right(heart):
    cells = Cells(uniform="epi", lv_to_rv={"g_Ks": (1.0, 1.5)})
    factor = cells.on(heart).g_Ks / cells.reference().g_Ks
    on = {name: np.unique(faces) for name, faces in heart.mesh.surfaces.items()}
    np.testing.assert_allclose(factor[np.setdiff1d(on["endo_lv"], on["base"])], 1.0)
    np.testing.assert_allclose(factor[np.setdiff1d(on["endo_rv"], on["base"])], 1.5)


def test_zone_conducts_on_top_of_the_fast_layer(heart):
    zone = ConductionZone(LATERAL, (0.4, 0.2, 0.2))
    layers = Myocardium(endocardium=FastEndocardium(), zones=[zone]).layers(heart)
    assert list(layers) == ["myocardium", "endocardium", "zone 1"]
    mask, target = layers["zone 1"]
    np.testing.assert_array_equal(mask, LATERAL.elements(heart.map))
    assert tuple(target) == (0.4, 0.2, 0.2)


def test_probes_in_coordinates(heart, other):
    probes = [VentricularSite("lv", 0.5, 180.0, 1.0), VentricularSite("rv", 0.2, 180.0, 0.0)]
    for one in (heart, other):
        nodes, labels = choose_probes(one, Output(probes=probes).probes)
        place = one.map.at(one.mesh.points[nodes])
        assert place.ventricle.tolist() == [0, 1]
        np.testing.assert_allclose(place.apicobasal, [0.5, 0.2], atol=0.06)
        np.testing.assert_allclose(place.transmural, [1.0, 0.0], atol=0.05)
        assert len(labels) == 2
    mixed = [probes[0], one.mesh.points[7].tolist()]
    assert choose_probes(one, mixed)[0][1] == 7
    with pytest.raises(ValueError, match=r"give \[x, y, z\] in mm or a site"):
        choose_probes(heart, [[1.0, 2.0]])


def test_zones_of_a_configuration(heart):
    region = {
        "_target_": "cardiotwin.tissue.places.VentricularRegion",
        "ventricle": "lv",
        "rotational": ["2.0943951 rad", -120],
        "apicobasal": [0.3, 0.7],
    }
    config = {
        "cells": {
            "_target_": "cardiotwin.twin.Cells",
            "zones": [
                {"_target_": "cardiotwin.twin.CellZone", "region": region, "factors": {"g_Kr": 0.5}}
            ],
        },
        "tissue": {
            "_target_": "cardiotwin.twin.Myocardium",
            "zones": [
                {
                    "_target_": "cardiotwin.twin.ConductionZone",
                    "region": region,
                    "velocity": ["40 cm/s", 0.2, 0.2],
                }
            ],
        },
    }
    made = build(OmegaConf.create(config))
    here = made["cells"].zones[0].region.nodes(heart.map)
    np.testing.assert_array_equal(here, LATERAL.nodes(heart.map))
    assert made["tissue"].zones[0].velocity.fibre == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ventricle": "la"}, "ventricle is 'la'"),
        ({"apicobasal": [0.5, 0.2]}, "two rising numbers from 0 to 1"),
        ({"transmural": [0.5, 1.2]}, "two rising numbers from 0 to 1"),
        ({"rotational": [1.0]}, "two angles in degrees"),
        ({"segments": [0]}, "AHA segments from 1 to 17"),
        ({"segments": []}, "AHA segments from 1 to 17"),
    ],
)
def test_regions_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        VentricularRegion(**arguments)


def test_zones_that_cannot_be(heart):
    with pytest.raises(ValueError, match="no node of this heart lies in it"):
        VentricularRegion("lv", apicobasal=[0.5, 0.5001], rotational=[10, 10.001]).nodes(heart.map)
    with pytest.raises(ValueError, match="give a factor"):
        CellZone(LATERAL, {"g_Kr": -1.0})
    with pytest.raises(ValueError, match="no factors"):
        CellZone(LATERAL, {})
    with pytest.raises(ValueError, match="three velocities"):
        ConductionZone(LATERAL, (0.5, 0.3))
    with pytest.raises(ValueError, match="no parameter 'g_X'"):
        Cells(zones=[CellZone(LATERAL, {"g_X": 1.0})])
    with pytest.raises(ValueError, match="zones are tuned"):
        Myocardium(velocity=None, zones=[ConductionZone(LATERAL, (0.5, 0.3, 0.3))])
