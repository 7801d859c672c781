"""Muscle and Purkinje network excite each other while a run goes on."""

import json

import numpy as np
import pytest
from scipy.spatial import KDTree

from cardiotwin.anatomy.fibres import uniform_fibres
from cardiotwin.anatomy.idealised import slab
from cardiotwin.anatomy.purkinje import PurkinjeNetwork
from cardiotwin.cli import main
from cardiotwin.propagation.observe import ActivationTime, ActivationTimeAt
from cardiotwin.propagation.problem import Monodomain
from cardiotwin.propagation.scheme import ExplicitDiffusion, Godunov
from cardiotwin.propagation.solve import solve
from cardiotwin.tissue.conductivity import Conductivity, Tissue
from cardiotwin.tissue.purkinje import ConductionSystem
from cardiotwin.tissue.purkinje_stimulus import Feedback, PurkinjeStimulus
from cardiotwin.tissue.stimulus import BoxStimulus
from cardiotwin.twin import Cells


@pytest.fixture(scope="module")
def strip():
    """A strip of muscle that one network fires at its end, and a silent one along it."""
    mesh = slab((64.0, 3.0, 2.0), 1.0)
    low = np.add(mesh.points.min(axis=0), [0, 1.5, 0])
    first = PurkinjeNetwork([low, np.add(low, [2, 0, 0])], [[0, 1]], 0, junctions=[1])
    line = np.linspace([15.0, 0, 0], [60.0, 0, 0], 31) + low
    edges = np.stack([np.arange(30), np.arange(1, 31)], axis=1)
    second = PurkinjeNetwork(line, edges, 15, junctions=[0, 30])
    system = ConductionSystem([first, second], his_delay=[0.0, np.inf])
    stimulus = PurkinjeStimulus(mesh, system, radius=2.0)
    cell = Cells("mitchell_schaeffer").reference()
    tissue = Tissue.by_region(
        mesh, uniform_fibres(len(mesh.cells), (1.0, 0.0, 0.0)), {"default": Conductivity()}
    )
    return mesh, stimulus, Monodomain(mesh, tissue, cell, stimulus)


def run(strip, t1, feedback=True, initial=None, until=np.inf):
    _, stimulus, problem = strip
    answer = Feedback(stimulus)
    solution = solve(
        problem,
        t1,
        dt=0.1,
        scheme=Godunov(ExplicitDiffusion()),
        observe={
            "activation": ActivationTime(),
            "junctions": ActivationTimeAt(stimulus.nodes),
        },
        initial=initial,
        on_frame=lambda frame: frame.t >= until,
        restimulate=(lambda f: answer(np.asarray(f.outputs["junctions"]))) if feedback else None,
    )
    return solution, np.asarray(solution.observed["activation"])


def test_muscle_excites_the_network_during_a_run(strip):
    mesh, stimulus, _ = strip
    _, alone = run(strip, 80.0, feedback=False)
    _, both = run(strip, 80.0)
    junctions = stimulus.system.junctions()
    entry, exit_ = (int(KDTree(mesh.points).query(junctions[k])[1]) for k in (1, 2))
    assert both[entry] == alone[entry] < 60.0
    # in after 1 ms, 45 mm at 3 m/s, out after 3 ms, and the muscle takes a moment to fire
    expected = both[entry] + 1.0 + 15.0 + 3.0
    assert expected < both[exit_] < expected + 3.0
    assert alone[exit_] > both[exit_] + 10.0
    # behind the entry nothing has changed
    before = alone <= both[entry]
    np.testing.assert_array_equal(both[before], alone[before])


def test_the_same_stimulus_again_changes_nothing_on_any_number_of_nodes():
    """Also where rows are made up for the processor's threads and quiet steps are longer."""
    mesh = slab((20.0, 2.0, 2.0), 1.0)
    assert len(mesh.points) % 2 == 1
    stimulus = BoxStimulus((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    tissue = Tissue.by_region(mesh, uniform_fibres(len(mesh.cells), (1.0, 0.0, 0.0)))
    problem = Monodomain(mesh, tissue, Cells("mitchell_schaeffer").reference(), stimulus)
    runs = [
        solve(
            problem,
            20.0,
            dt=0.1,
            quiet_dt=0.2,
            every=2.0,
            observe={"activation": ActivationTime()},
            on_frame=lambda frame: None,
            restimulate=again,
        )
        for again in (None, lambda frame: stimulus)
    ]
    times = [np.asarray(run.observed["activation"]) for run in runs]
    assert np.isfinite(times[0]).any()
    np.testing.assert_array_equal(*times)


def test_a_coupled_run_goes_on_as_if_it_had_not_stopped(strip):
    whole, times = run(strip, 70.0)
    part, _ = run(strip, 70.0, until=44.0)
    assert 0 < part.final.step < whole.final.step
    rest, again = run(strip, 70.0, initial=part.final)
    np.testing.assert_array_equal(again, times)
    for a, b in zip(rest.final.leaves, whole.final.leaves, strict=True):
        np.testing.assert_array_equal(a, b)


def test_muscle_that_has_fired_is_not_stimulated(strip):
    _, stimulus, _ = strip
    before = stimulus.onsets()
    fired = np.full(len(before), np.inf)
    node = np.flatnonzero(np.isfinite(before))[0]
    fired[node] = before[node] - 1.0
    after = stimulus.after(fired).onsets()
    assert np.isinf(after[node])
    others = np.arange(len(before)) != node
    np.testing.assert_array_equal(after[others], before[others])
    assert Feedback(stimulus)(np.full(len(before), np.inf)) is None


def test_stimuli_of_another_kind_are_refused(strip):
    _, stimulus, problem = strip
    both = stimulus + BoxStimulus([0, 0, 0], [99, 99, 99])
    with pytest.raises(ValueError, match="2 parts in place of one of 1"):
        solve(problem, 1.0, dt=0.1, on_frame=lambda f: None, restimulate=lambda f: both)
    with pytest.raises(ValueError, match="give on_frame too"):
        solve(problem, 1.0, dt=0.1, restimulate=lambda f: None)
    with pytest.raises(ValueError, match="ActivationTimeAt: node indices span -1 to 0"):
        solve(problem, 1.0, dt=0.1, observe={"a": ActivationTimeAt([0, -1])})


@pytest.mark.slow
@pytest.mark.realdata
def test_sinus_beat_through_the_network_of_a_real_heart(data, tmp_path, monkeypatch):
    """The left ventricle takes 45 to 85 ms (Durrer et al. 1970, doi 10.1161/01.CIR.41.6.899)."""
    monkeypatch.setenv("CARDIOTWIN_DATA", str(data))
    words = ["experiment=rodero", "stimulus=purkinje", "tissue.endocardium=null", "leads=null"]
    words += ["solver=explicit", "solver.t1=130", "output=numbers"]
    assert main(["simulate", *words, f"output.folder={tmp_path / 'run'}"]) == 0
    activation = json.loads((tmp_path / "run" / "summary.json").read_text())["activation"]
    left = [activation[name] for name in ("lv", "septum")]
    assert all(part["activated_share"] == 1.0 for part in left)
    taken = max(part["last_ms"] for part in left) - min(part["first_ms"] for part in left)
    assert 45.0 < taken < 85.0
