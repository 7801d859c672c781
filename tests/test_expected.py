"""What `cardiotwin info` lets one expect, against the scheme's own bound and measured waves."""

import json

import numpy as np
import pytest

from cardiotwin.anatomy.fibres import uniform_fibres
from cardiotwin.anatomy.formats import write_mesh
from cardiotwin.anatomy.idealised import slab
from cardiotwin.cli import main
from cardiotwin.ionic import MitchellSchaeffer
from cardiotwin.propagation.observe import Probe
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov
from cardiotwin.propagation.solve import NonFiniteError, solve
from cardiotwin.propagation.velocity import plane_wave_velocity
from cardiotwin.run.expected import DEFAULT_CURVE, expected_of, format_expected
from cardiotwin.tissue.conductivity import Tissue
from cardiotwin.tissue.stimulus import NodalStimulus
from cardiotwin.twin import Cells


def test_step_is_where_forward_euler_turns_unstable():
    mesh = slab((8.0, 4.0, 4.0), 0.5, pattern="bcc")
    step = expected_of(mesh)["explicit_step_ms"]["myocardium"]
    wanted = DEFAULT_CURVE.diffusivity(0.6, mean_edge(mesh))
    sigma = np.full((mesh.elements, 3), 2.0 * wanted)
    fibres = uniform_fibres(mesh.elements, [1.0, 0.0, 0.0])
    tissue = Tissue(fibres, sigma, sigma, chi=1.0, c_m=1.0)
    problem = Monodomain(mesh, tissue, MitchellSchaeffer(), NodalStimulus([0]))

    def run(dt):
        scheme = Godunov(ExplicitDiffusion(stages=1))
        observe = {"probe": Probe(np.array([0]))}
        return solve(problem, 40 * dt, dt=dt, scheme=scheme, observe=observe, every=40 * dt)

    run(0.97 * step)
    with pytest.raises((ValueError, NonFiniteError), match="unstable"):
        run(1.06 * step)


def mean_edge(mesh):
    first, second = mesh.unique_edges().T
    return float(np.linalg.norm(mesh.points[first] - mesh.points[second], axis=1).mean())


def test_errors_grow_with_the_edges():
    errors = []
    for edge in (0.25, 0.5, 1.0):
        rows = expected_of(slab((12.0, 3.0, 3.0), edge, pattern="bcc"))["velocity"]
        assert [row["axis"] for row in rows] == ["fibre", "sheet", "normal"]
        assert all(row["tunable"] for row in rows)
        errors.append([row["error"] for row in rows])
    assert np.all(np.diff(np.array(errors), axis=0) < 0.0)
    assert errors[0][0] == pytest.approx(-0.052, abs=0.005)  # 0.23 mm, of the curve by hand
    coarse = expected_of(slab((40.0, 20.0, 20.0), 5.0, pattern="bcc"))
    assert not coarse["velocity"][1]["tunable"]
    assert "cannot be tuned: refine the mesh" in format_expected(coarse)
    assert "no wave propagates" in format_expected(coarse)


def test_command(tmp_path, capsys):
    write_mesh(tmp_path / "slab.vtu", slab((20.0, 8.0, 8.0), 1.0))
    assert main(["info", str(tmp_path / "slab.vtu")]) == 0
    text = capsys.readouterr().out
    assert "largest stable explicit step" in text
    assert "sheet   0.30 m/s:" in text
    assert main(["info", str(tmp_path / "slab.vtu"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["expected"]["velocity"][0]["target_m_per_s"] == 0.6


@pytest.mark.slow
def test_default_curve_is_that_of_the_default_cell_and_solver():
    ratios = DEFAULT_CURVE.ratios[[2, 5, 8]]
    scheme = Godunov(ExplicitDiffusion())
    found = plane_wave_velocity(
        Cells().reference(), 1.0 / ratios**2, 1.0, dt=0.05, scheme=scheme, precision="float32"
    )
    # the number of stages follows the finest bar of a run, which moves others by half a per cent
    np.testing.assert_allclose(found * ratios, DEFAULT_CURVE.g[[2, 5, 8]], rtol=0.01)
