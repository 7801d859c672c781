"""The parts of a twin laid out over a mesh: fibres, conductivities, cells across the wall.

Root nodes, the fast endocardium and cells on the idealised heart are in test_sites.py.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from tissues import NEVER

from cardiotwin.anatomy.fibres import fibres_from_mesh, ldrb
from cardiotwin.anatomy.idealised import biventricle, slab
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.ionic import BuenoOrovio, MitchellSchaeffer, TenTusscherPanfilov2006
from cardiotwin.propagation.observe import ActivationTime
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Conductivity
from cardiotwin.tissue.stimulus import BoxStimulus
from cardiotwin.twin import (
    Anatomy,
    Cells,
    MeshFibres,
    Myocardium,
    RuleBasedFibres,
    SinusRhythm,
    Twin,
)
from cardiotwin.twin.cells import _beyond

BLOCK = slab((3.0, 2.0, 2.0), 1.0)
TYPES = ("endo", "mid", "epi")


@pytest.fixture(scope="module")
def heart():
    return Anatomy(biventricle(3.2))


def wall(transmural, apicobasal: Any = 0.5) -> Any:
    """An anatomy that is nothing but its coordinates."""
    depth = np.asarray(transmural, float)
    height = np.broadcast_to(np.asarray(apicobasal, float), depth.shape)
    return SimpleNamespace(fields=SimpleNamespace(transmural=depth, apicobasal=height))


def laid_out(cells: Cells, anatomy) -> Any:
    """The model, whichever it is."""
    return cells.on(anatomy)


# fibres


def test_fibres_by_rule_take_their_angles(heart):
    rule = RuleBasedFibres(alpha_endo=40.0, alpha_epi=-30.0, beta_endo=-10.0, beta_epi=5.0)
    found = rule.on(heart)
    expected = ldrb(
        heart.mesh,
        alpha_endo=40.0,
        alpha_epi=-30.0,
        beta_endo=-10.0,
        beta_epi=5.0,
        fields=heart.fields,
    )
    for name in ("fibre", "sheet", "normal"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    # every angle counts
    for name in ("alpha_endo", "alpha_epi", "beta_endo", "beta_epi"):
        angles = {"alpha_endo": 40.0, "alpha_epi": -30.0, "beta_endo": -10.0, "beta_epi": 5.0}
        other = RuleBasedFibres(**{**angles, name: angles[name] + 15.0}).on(heart)
        moved = other.fibre if name.startswith("alpha") else other.sheet
        still = found.fibre if name.startswith("alpha") else found.sheet
        assert np.abs(moved - still).max() > 0.1


def test_angle_that_is_none(heart):
    with pytest.raises(ValueError, match="alpha_epi must lie within -90 and 90"):
        RuleBasedFibres(alpha_epi=-120.0).on(heart)


def test_fibres_of_the_mesh():
    turned = np.tile([0.0, 3.0, 4.0], (len(BLOCK.cells), 1))
    mesh = Mesh(BLOCK.points, BLOCK.cells, cell_data={"fibre": turned})
    fibres = MeshFibres().on(Anatomy(mesh))
    np.testing.assert_allclose(fibres.fibre, turned / 5.0)
    bare = Mesh(BLOCK.points, BLOCK.cells)
    with pytest.raises(ValueError, match=r"no cell data 'fibre' .* build fibres by rule"):
        MeshFibres().on(Anatomy(bare))


def test_laplace_problems_are_solved_once(heart):
    assert heart.fields is heart.fields


# tissue


def test_myocardium_by_region(heart):
    stiff = Conductivity(0.1, 0.05, 0.02, 0.3, 0.2, 0.1)
    names = dict(heart.mesh.region_names)
    identifier, name = next(iter(names.items()))
    myocardium = Myocardium({name: stiff, "default": Conductivity()}, chi=100.0, c_m=0.02)
    fibres = fibres_of_any(heart.mesh)
    tissue = myocardium.on(heart, fibres)
    here = heart.mesh.regions == identifier
    assert 0 < here.sum() < len(here)
    assert np.all(tissue.intracellular[here] == stiff.intracellular)
    assert np.all(tissue.extracellular[~here] == Conductivity().extracellular)
    assert (tissue.chi, tissue.c_m) == (100.0, 0.02)
    # targets wait for the tuning, which knows the mesh, the cell and the time step
    assert myocardium.velocity is not None
    assert np.all(tissue.tuning == 1.0)


def fibres_of_any(mesh):
    along = np.tile(np.eye(3), (len(mesh.cells), 1, 1))
    data = {"fibre": along[:, 0], "sheet": along[:, 1]}
    return fibres_from_mesh(Mesh(mesh.points, mesh.cells, cell_data=data))


def test_myocardium_of_a_region_that_is_not_there(heart):
    with pytest.raises(ValueError, match=r"given for \['scar'\], but the mesh has the regions"):
        Myocardium({"scar": Conductivity(), "default": Conductivity()}).on(
            heart, fibres_of_any(heart.mesh)
        )


# cells


def shares(cells, depths):
    """Weights of the three types at some depths, from a parameter that differs between them."""
    values = [float(getattr(BuenoOrovio, kind)().tau_so1) for kind in TYPES]
    other = [float(getattr(BuenoOrovio, kind)().u_u) for kind in TYPES]
    cell = laid_out(cells, wall(depths))
    # three equations: both parameters, and a sum of one
    matrix = np.array([values, other, np.ones(3)])
    found = np.array([cell.tau_so1, cell.u_u, np.ones(len(depths))])
    return np.linalg.solve(matrix, found)


def test_shares_of_the_wall():
    cells = Cells("bueno_orovio", endo=0.4, mid=0.2, width=0.1)
    depths = [0.0, 0.34, 0.4, 0.425, 0.46, 0.54, 0.6, 0.66, 1.0]
    expected = [
        [1, 1, 0.5, 0.25, 0, 0, 0, 0, 0],
        [0, 0, 0.5, 0.75, 1, 1, 0.5, 0, 0],
        [0, 0, 0, 0, 0, 0, 0.5, 1, 1],
    ]
    np.testing.assert_allclose(shares(cells, depths), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("endo", "mid", "expected"),
    [
        (0.0, 0.4, [[0, 0, 0], [1, 0, 0], [0, 1, 1]]),
        (0.6, 0.4, [[1, 0, 0], [0, 1, 1], [0, 0, 0]]),
        (0.0, 1.0, [[0, 0, 0], [1, 1, 1], [0, 0, 0]]),
        (1.0, 0.0, [[1, 1, 1], [0, 0, 0], [0, 0, 0]]),
        (0.02, 0.0, [[1, 0, 0], [0, 0, 0], [0, 1, 1]]),
        (0.97, 0.02, [[1, 1, 0], [0, 0, 0], [0, 0, 1]]),
    ],
)
def test_layers_at_the_ends_of_the_wall_are_whole(endo, mid, expected):
    cells = Cells("bueno_orovio", endo=endo, mid=mid, width=0.1)
    depths = [0.0, 0.6, 1.0] if endo < 0.6 else [0.0, 0.8, 1.0]
    np.testing.assert_allclose(shares(cells, depths), expected, atol=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_layers_never_overlap_by_more_than_all(first, second, width):
    near, far = sorted((first, second))
    depth = np.linspace(0.0, 1.0, 101)
    beyond = _beyond(depth, near, width), _beyond(depth, far, width)
    assert np.all((beyond[1] >= 0.0) & (beyond[0] <= 1.0))
    assert np.all(beyond[0] >= beyond[1] - 1e-9)  # no share of the cells between is negative


def test_coordinates_beyond_the_wall_are_those_of_its_surface():
    # Laplace solutions may overshoot by rounding
    gradients: Any = {"endo_to_epi": {"tau_fi": (1.0, 3.0)}, "apex_to_base": {"tau_si": (0.5, 1.0)}}
    cells = Cells("bueno_orovio", **gradients)
    inside = laid_out(cells, wall([0.0, 1.0], [1.0, 0.0]))
    outside = laid_out(cells, wall([-0.01, 1.01], [1.01, -0.01]))
    for name in ("tau_fi", "tau_so1", "tau_si"):
        values = np.asarray(getattr(outside, name))
        np.testing.assert_array_equal(values, getattr(inside, name))
        assert values[0] != values[1]


def test_initial_state_goes_with_the_type():
    cells = Cells("ten_tusscher_2006")
    cell = laid_out(cells, wall([0.0, 0.6, 1.0]))
    v, state = cell.initial_arrays(3, dtype=np.float64)
    for node, kind in enumerate(TYPES):
        rest, alone = getattr(TenTusscherPanfilov2006, kind)().initial_arrays(1, dtype=np.float64)
        assert v[node] == pytest.approx(float(rest[0]), rel=1e-12)
        for name, value in state._asdict().items():
            expected = float(getattr(alone, name)[0])
            assert float(value[node]) == pytest.approx(expected, rel=1e-12), name


def test_gradients_multiply_the_layers():
    cells = Cells(
        "ten_tusscher_2006",
        endo_to_epi={"g_Ks": (1.0, 2.0), "g_Na": (0.5, 1.0)},
        apex_to_base={"g_Ks": (1.5, 0.5)},
    )
    depth, height = np.array([0.0, 0.6, 1.0]), np.array([0.0, 0.25, 1.0])
    cell = laid_out(cells, wall(depth, height))
    layered = [float(getattr(TenTusscherPanfilov2006, kind)().g_Ks) for kind in TYPES]
    np.testing.assert_allclose(cell.g_Ks, layered * (1 + depth) * (1.5 - height), rtol=1e-12)
    g_na = float(TenTusscherPanfilov2006.epi().g_Na)
    np.testing.assert_allclose(cell.g_Na, g_na * (0.5 + 0.5 * depth), rtol=1e-12)
    assert np.ndim(cell.g_CaL) == 0


def test_gradient_multiplies_the_parameter_that_was_given():
    cells = Cells(
        "mitchell_schaeffer", parameters={"tau_close": 100.0}, apex_to_base={"tau_close": (1, 2)}
    )
    cell = laid_out(cells, wall([0.5, 0.5], [0.0, 1.0]))
    np.testing.assert_allclose(cell.tau_close, [100.0, 200.0])
    # the cell whose velocity is tuned has no place in the heart
    reference: Any = cells.reference()
    assert float(reference.tau_close) == 100.0


@pytest.mark.parametrize("factors", [(1.0,), (1.0, np.nan), (np.inf, 1.0), (1.0, -0.1)])
@pytest.mark.parametrize("where", ["apex_to_base", "endo_to_epi"])
def test_gradients_that_make_no_sense(where, factors):
    gradient: Any = {where: {"tau_close": factors}}
    with pytest.raises(ValueError, match=rf"Cells: {where}.tau_close is .* give two factors"):
        Cells("mitchell_schaeffer", **gradient)


# the twin


def test_twin_of_a_block_needs_no_labelled_surfaces():
    stimulus = BoxStimulus([-1, -1, -1], [0, 2, 2])
    twin = Twin.assemble(
        BLOCK,
        fibres=MeshFibres(),
        myocardium=Myocardium({"default": Conductivity(0.3, 0.1, 0.1, 0.3, 0.1, 0.1)}),
        cells=Cells("bueno_orovio", uniform="mid"),
        stimulus=stimulus,
    )
    assert twin.mesh is BLOCK
    assert twin.stimulus is stimulus
    assert isinstance(twin.cell, BuenoOrovio)
    assert float(twin.cell.tau_so1) == float(BuenoOrovio.mid().tau_so1)
    problem = twin.problem()
    # 0.15 S/m over chi C_m = 1.4 uF/mm3
    np.testing.assert_allclose(problem.tissue.principal_diffusivity()[:, 0], 0.15 / 1.4)
    np.testing.assert_array_equal(problem.tissue.fibres.fibre[:, 0], 1.0)


@pytest.mark.parametrize(
    "parts",
    [
        {"cells": Cells(uniform="epi"), "stimulus": NEVER},  # fibres by rule
        {"fibres": MeshFibres(), "cells": Cells(), "stimulus": NEVER},  # layers
        {"fibres": MeshFibres(), "cells": Cells(uniform="epi")},  # sinus rhythm
        {
            "fibres": MeshFibres(),
            "cells": Cells("mitchell_schaeffer", endo_to_epi={"tau_in": (1, 2)}),
            "stimulus": NEVER,
        },
    ],
    ids=["rules", "layers", "sinus rhythm", "gradient"],
)
def test_parts_that_need_labelled_surfaces_say_so(parts):
    with pytest.raises(ValueError, match=r"surface.*'(epi|endo_lv)'"):
        Twin.assemble(BLOCK, **parts)


def test_defaults(heart):
    twin = Twin.assemble(heart.mesh)
    assert isinstance(twin.cell, TenTusscherPanfilov2006)
    nodes = len(heart.mesh.points)
    assert np.shape(twin.cell.g_Ks) == (nodes,)  # three layers
    np.testing.assert_allclose(twin.tissue.principal_diffusivity()[0, 0], 0.1334 / 1.4, rtol=2e-3)
    np.testing.assert_array_equal(
        twin.tissue.fibres.fibre, ldrb(heart.mesh, fields=twin.anatomy.fields).fibre
    )
    (pulses,) = twin.stimulus.pulses(heart.mesh.points)
    (expected,) = SinusRhythm().on(twin.anatomy).pulses(heart.mesh.points)
    np.testing.assert_array_equal(pulses.amplitude, expected.amplitude)
    np.testing.assert_array_equal(pulses.onset, expected.onset)


def upstroke_of_a_cell(stimulus):
    """Time in ms that Mitchell and Schaeffer's cell takes from rest to -20 mV."""

    def rate(t, u):
        return u**2 * (1 - u) / 0.3 - u / 6.0 + stimulus / 125.0

    def crossed(t, u):
        return u[0] - 65.0 / 125.0

    crossed.terminal = True
    return solve_ivp(rate, (0.0, 10.0), [0.0], events=crossed, rtol=1e-8).t[-1]


def test_twin_beats_where_it_is_stimulated(heart):
    twin = Twin.assemble(
        heart.mesh, cells=Cells("mitchell_schaeffer"), stimulus=SinusRhythm(delay=1.0)
    )
    assert isinstance(twin.cell, MitchellSchaeffer)
    solution = solve(twin.problem(), 4.0, dt=0.1, observe={"activation": ActivationTime()})
    times = np.asarray(solution.observed["activation"])
    (pulses,) = twin.stimulus.pulses(heart.mesh.points)
    on = pulses.amplitude > 0
    begun = np.flatnonzero(on & (pulses.onset == 1.0))
    # as a cell alone under 50 mV/ms, within a time step; neighbours draw little current so soon
    alone = 1.0 + upstroke_of_a_cell(50.0)
    np.testing.assert_allclose(times[begun], alone, atol=0.1)
    later = on & (pulses.onset > 4.0)
    assert later.any()
    assert not np.isfinite(times[later]).any()
