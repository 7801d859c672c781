"""Whole runs: what they write, how they fail, how they go on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from cardiotwin.anatomy.idealised import slab
from cardiotwin.ecg.electrodes import TWELVE_LEAD_ELECTRODES
from cardiotwin.ecg.leadfield import UnboundedConductor
from cardiotwin.propagation.solve import NonFiniteError
from cardiotwin.results.vtkhdf import read_steps
from cardiotwin.run import Experiment, Output, Recording, Solver, simulate, tune
from cardiotwin.run.memory import remembered
from cardiotwin.tissue.stimulus import BoxStimulus, FocalStimulus
from cardiotwin.twin import Cells, MeshFibres, Myocardium, SinusRhythm

WORK = sys.modules["cardiotwin.run.simulate"]  # the function of that name hides the module
MESH = slab((16.0, 4.0, 2.0), 1.0, pattern="bcc")


def experiment(*, t1=30.0, amplitude=35.7, dt=0.1, velocity=None, **output) -> Experiment:
    chosen = {"figures": False, "film": False, "report": False, "frames_every": 5.0, **output}
    return Experiment(
        MESH,
        fibres=MeshFibres(),
        ionic=Cells("mitchell_schaeffer"),
        tissue=Myocardium(velocity=velocity),
        stimulus=BoxStimulus([0, 0, 0], [2, 4, 2], amplitude=amplitude),
        solver=Solver(t1=t1, dt=dt, every=1.0),
        output=Output(**chosen),
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOTWIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def finished(tmp_path):
    with pytest.warns(UserWarning, match="Along the"):
        summary = simulate(experiment(t1=60.0), tmp_path / "run", "name: test\n", progress=False)
    return tmp_path / "run", summary


def test_a_run_writes_what_it_says(finished):
    folder, summary = finished
    kept = json.loads((folder / "summary.json").read_text())
    assert kept["status"] == summary["status"] == "finished"
    assert kept["mesh"]["nodes"] == len(MESH.points)
    quiet = kept["solver"]["quiet_share"] * 60  # frames of 5 steps in place of 10
    assert kept["solver"]["steps"] == round(600 - 5 * quiet)
    assert 5 < quiet < 55
    assert kept["activation"]["all"]["activated_share"] == 1.0
    assert (folder / "config.yaml").read_text() == "name: test\n"
    assert not (folder / "checkpoint.npz").exists()
    with read_steps(folder / "beat.vtkhdf") as steps:
        np.testing.assert_allclose(steps.times, np.arange(0.0, 61.0, 5.0))
        first, last = steps.frame(0), steps.frame(len(steps.times) - 1)
    assert first.max() < -80.0
    assert last.max() > -80.0
    probes = np.loadtxt(folder / "probes.csv", delimiter=",", skiprows=3)
    assert probes.shape == (61, 4)


def test_untuned_velocities_are_warned_about_with_their_size(finished):
    _, summary = finished
    text = " ".join(summary["warnings"])
    assert "% off on this mesh" in text or "no wave propagates" in text
    for row in summary["velocity"]["layers"]:
        exact = row["continuum_m_per_s"]
        assert row["error"] == pytest.approx(row["measured_m_per_s"] / exact - 1)


def test_a_finished_run_is_not_overwritten(finished, capsys):
    folder, summary = finished
    with pytest.raises(ValueError, match="holds a finished run"):
        simulate(experiment(), folder, progress=False)
    again = simulate(experiment(), folder, progress=True, resume=True)
    assert again["timings_s"] == summary["timings_s"]
    assert "is finished: nothing to go on with" in capsys.readouterr().err


def test_a_blow_up_keeps_what_was_good(tmp_path):
    bad = experiment(t1=20.0, amplitude=1e30)
    with (
        pytest.warns(UserWarning, match="Along the"),
        pytest.raises(NonFiniteError, match="last good frame is that of"),
    ):
        simulate(bad, tmp_path, progress=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "non-finite" in summary["error"]
    with read_steps(tmp_path / "beat.vtkhdf") as steps:
        assert len(steps.times) >= 1
        assert np.isfinite(steps.frame(len(steps.times) - 1)).all()
    assert (tmp_path / "probes.csv").exists()


def test_frames_must_fall_on_samples():
    with pytest.raises(ValueError, match=r"not a multiple of solver\.every"):
        experiment(frames_every=2.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": Output(probes=[[500.0, 0.0, 0.0]])}, "probe 0 at .* Move it into the tissue"),
        ({"leads": "inside"}, "Electrode V1 at .* is inside the heart"),
        ({"leads": "absent.json"}, "absent.json"),
        ({"stimulus": BoxStimulus([50, 0, 0], [51, 1, 1])}, "no node lies between"),
    ],
)
def test_what_can_be_refused_is_refused_before_velocities_are_measured(
    tmp_path, monkeypatch, change, message
):
    monkeypatch.setattr(WORK, "tuned_twin", lambda *_: pytest.fail("too late"))
    made = experiment()
    if "leads" in change:
        file = tmp_path / "inside.json"
        places = {name: [-200.0, 0.0, 0.0] for name in TWELVE_LEAD_ELECTRODES}
        places["V1"] = [2.0, 2.0, 1.0]
        file.write_text(json.dumps(places))
        change = {"leads": Recording(str(file.with_stem(Path(change["leads"]).stem)))}
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises((ValueError, OSError), match=message):
        simulate(made, tmp_path / "run", progress=False)


def test_electrodes_may_be_as_near_as_the_conductor_says(tmp_path):
    file = tmp_path / "near.json"
    file.write_text(json.dumps({n: [-3.0, 0.0, 0.0] for n in TWELVE_LEAD_ELECTRODES}))
    with pytest.raises(ValueError, match="too near the heart"):
        Recording(str(file)).electrodes(MESH)
    for clearance in (2.0, None):
        near = Recording(str(file), conductor=UnboundedConductor(clearance=clearance))
        assert len(near.electrodes(MESH)) == 9


def test_a_fresh_run_does_not_keep_the_checkpoint_of_an_earlier_one(tmp_path, monkeypatch):
    np.savez(tmp_path / "checkpoint.npz", physics=np.array("other"), step=np.array(10))
    monkeypatch.setattr(WORK, "tuned_twin", lambda _, twin, __: (twin, {}))

    def kill(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(WORK, "solve", kill)
    with pytest.raises(KeyboardInterrupt):
        simulate(experiment(), tmp_path, progress=False)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "checkpoint.npz").exists()


def test_damaged_leftovers_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(WORK, "tuned_twin", lambda _, twin, __: (twin, {}))
    (tmp_path / "summary.json").write_text('{"status": "fin')
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(ValueError, match=r"checkpoint.npz is damaged .* Delete it"):
        simulate(experiment(), tmp_path, progress=False, resume=True)
    with pytest.raises(ValueError, match=r"summary.json is a file; name a folder"):
        simulate(experiment(), tmp_path / "summary.json", progress=False)


def test_results_kept_between_runs_survive_damage_and_a_cache_that_cannot_be_written(
    tmp_path, monkeypatch
):
    calls = []

    def compute():
        calls.append(1)
        return {"answer": 42}

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax" / "compiled"))
    for expected in (1, 1):
        assert remembered("kind", ("key",), compute) == {"answer": 42}
        assert len(calls) == expected
    (kept,) = (tmp_path / "cache" / "kind").iterdir()
    assert not (tmp_path / "jax").exists()  # JAX's own folder is left to JAX
    kept.write_text("{")
    assert remembered("kind", ("key",), compute) == {"answer": 42}
    assert json.loads(kept.read_text()) == {"answer": 42}
    (tmp_path / "file").touch()
    monkeypatch.setenv("CARDIOTWIN_CACHE", str(tmp_path / "file"))
    assert remembered("kind", ("key",), compute) == {"answer": 42}
    assert len(calls) == 3


def test_tune_reports_and_writes(tmp_path):
    result = tune(experiment(velocity=(0.7, 0.5, 0.5)), tmp_path, progress=False)
    assert json.loads((tmp_path / "tuning.json").read_text())["layers"]
    for row in result["layers"]:
        assert row["measured_m_per_s"] == pytest.approx(row["target_m_per_s"], rel=0.05)
    with pytest.raises(ValueError, match="nothing to tune"):
        tune(experiment(), progress=False)


COMMAND = [
    *(sys.executable, "-m", "cardiotwin", "simulate"),
    *("experiment=niederer", "mesh.edge_length=0.5", "ionic=mitchell_schaeffer"),
    *("tissue.velocity=null", "solver.t1=60", "output=numbers"),
    *("output.frames_every=1.0", "output.checkpoint_seconds=0.001"),
]


def run_command(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, f"output.folder={folder}", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_leaves_files_that_open_and_goes_on(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = run_command(whole)
    _, errors = first.communicate(timeout=240)
    assert first.returncode == 0, errors

    process = run_command(killed)
    deadline = time.monotonic() + 240
    while not (killed / "checkpoint.npz").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"

    with h5py.File(killed / "beat.vtkhdf", "r") as file:
        assert 1 <= file["VTKHDF/Steps"].attrs["NSteps"] < 61
    assert json.loads((killed / "summary.json").read_text())["status"] == "running"

    second = run_command(killed, "--resume")
    _, errors = second.communicate(timeout=240)
    assert second.returncode == 0, errors
    assert "going on from the checkpoint" in errors
    with read_steps(whole / "beat.vtkhdf") as a, read_steps(killed / "beat.vtkhdf") as b:
        np.testing.assert_array_equal(a.times, b.times)
        np.testing.assert_array_equal(a.frame(60), b.frame(60))
    assert (whole / "probes.csv").read_text() == (killed / "probes.csv").read_text()


def test_a_checkpoint_of_other_physics_is_refused(tmp_path):
    np.savez(tmp_path / "checkpoint.npz", physics=np.array("other"), step=np.array(10))
    with (
        pytest.warns(UserWarning, match="Along the"),
        pytest.raises(ValueError, match="made with other physics"),
    ):
        simulate(experiment(), tmp_path, progress=False, resume=True)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"t1": 10.03}, r"t1 = 10.03 ms is not a multiple of every = 1 ms"),
        ({"every": 0.12}, r"every = 0.12 ms is not a multiple of dt = 0.05 ms"),
        ({"quiet_dt": 0.01}, r"quiet_dt is 0.01 ms; it cannot be shorter than dt"),
        ({"dt": -0.05}, r"dt is -0.05 ms; give a positive time"),
    ],
)
def test_times_that_do_not_fit_are_refused_before_any_work(times, message):
    with pytest.raises(ValueError, match=message):
        Solver(**times)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Output(frames_every=float("nan")), "frames_every"),
        (lambda: Output(checkpoint_seconds=-1.0), "checkpoint_seconds"),
        (lambda: Recording(rr=-5.0), r"rr is -5.0 ms; give a positive interval"),
        (lambda: SinusRhythm(count=0), "SinusRhythm: count is 0"),
        (lambda: SinusRhythm(radius=-1.0), "SinusRhythm: radius is -1.0 mm"),
        (lambda: SinusRhythm(delay=-1.0), "SinusRhythm: onset is"),
        (lambda: FocalStimulus([[0, 0, 0]], radius=float("nan")), "FocalStimulus: radius is nan"),
        (lambda: Myocardium(velocity=(0.6, -0.3, 0.3)), "Myocardium: velocity is"),
        (lambda: Myocardium(velocity=(0.6, float("nan"), 0.3)), "Myocardium: velocity is"),
    ],
)
def test_parts_that_cannot_be_are_refused_when_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()
