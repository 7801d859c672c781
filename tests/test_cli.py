"""The commands: what they print, what they refuse, and their exit codes."""

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from cardiotwin import session
from cardiotwin.cli import main

SLAB = "cardiotwin.anatomy.idealised.slab"
ROOT = """
defaults:
  - mesh: slab
  - _self_
  - experiment: small
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
output:
  folder: null
hydra:
  output_subdir: null
  run:
    dir: ${output.folder}
  sweep:
    dir: ${output.folder}
    subdir: ""
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A small tree of configurations and a library whose work only records its arguments."""
    configs = tmp_path / "configs"
    for name, text in {
        "config.yaml": ROOT,
        "mesh/slab.yaml": f"_target_: {SLAB}\nsize: [1.0, 1.0, 1.0]\nedge_length: 0.5\n",
        "experiment/small.yaml": "# @package _global_\n",
    }.items():
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text(text)
    done: list[dict] = []

    def record(experiment, folder, text, *, progress, resume):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").touch()
        done.append(
            {
                "mesh": experiment["mesh"],
                "folder": folder,
                "text": text,
                "progress": progress,
                "resume": resume,
            }
        )
        return {"velocity": 0.6}

    fake = types.ModuleType("cardiotwin.run")
    fake.simulate = fake.tune = record  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cardiotwin.run", fake)
    monkeypatch.setattr("cardiotwin.run", fake, raising=False)
    monkeypatch.setattr("cardiotwin.config.compose.resource", lambda name: configs)
    monkeypatch.setattr(session, "start", lambda **options: None)
    monkeypatch.chdir(tmp_path)
    return done


def test_simulate_builds_runs_and_says_where(work, capsys):
    assert main(["simulate", "output.folder=here", "mesh.edge_length=1", "--no-progress"]) == 0
    (done,) = work
    assert done["folder"] == Path("here")
    assert done["mesh"].points.max() == pytest.approx(1.0)
    assert "edge_length: 1" in done["text"]
    assert (done["progress"], done["resume"]) == (False, False)
    assert "results: here (open here/report.html)" in capsys.readouterr().out


def test_tune_prints_what_it_found(work, capsys):
    assert main(["tune"]) == 0
    assert work[0]["folder"].parts[:2] == ("runs", "small")
    assert work[0]["folder"].name.startswith("tune_20")
    assert '"velocity": 0.6' in capsys.readouterr().out


def test_kept_configuration_runs_again(work, tmp_path, capsys):
    text = f"_target_: {SLAB}\nsize: [1.0, 1.0, 1.0]\nedge_length: 0.5\n"
    kept = tmp_path / "config.yaml"
    kept.write_text(text)
    assert main(["simulate", "--config", str(kept), "--check", "edge_length=1.0"]) == 0
    assert main(["simulate", "--config", str(kept), "--cfg", "job", "edge_length=1.0"]) == 0
    assert "edge_length: 1.0" in capsys.readouterr().out
    for bad in (
        "hydra: {}\n" + text,
        "size: 1\n",
        "- 1\n",
        "a: [\n",
        "a: !!python/name:os.system\n",
    ):
        kept.write_text(bad)
        assert main(["simulate", "--config", str(kept), "--check"]) == 2
    assert main(["simulate", "--config", "absent.yaml"]) == 2
    assert main(["simulate", "--config", str(kept), "-m"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not work


def test_sweep_runs_every_job(work):
    assert main(["simulate", "-m", "mesh.edge_length=0.5,1.0"]) == 0
    assert [str(done["folder"]) for done in work] == [
        "runs/small/sweep/mesh.edge_length=0.5",
        "runs/small/sweep/mesh.edge_length=1.0",
    ]


def test_failing_job_of_a_sweep_is_named(work, capsys, monkeypatch):
    def fail(experiment, folder, *_, **__):
        raise ValueError("no stimulus")

    monkeypatch.setattr(sys.modules["cardiotwin.run"], "simulate", fail)
    assert main(["simulate", "-m", "mesh.edge_length=0.5,1.0", "output.folder=all"]) == 2
    error = capsys.readouterr().err
    for value in ("0.5", "1.0"):
        assert f"cardiotwin: all/mesh.edge_length={value}: no stimulus" in error


def test_looking_runs_nothing(work, capsys):
    assert main(["simulate", "--cfg", "job", "mesh.edge_length=1"]) == 0
    assert "edge_length: 1" in capsys.readouterr().out
    assert main(["simulate", "--check"]) == 0
    assert "valid" in capsys.readouterr().out
    assert main(["simulate", "--keys"]) == 0
    assert "mesh.pattern=kuhn" in capsys.readouterr().out
    assert not work


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulat"], "did you mean 'simulate'"),
        (["simulate", "mesh.edge_lenght=1"], "did you mean 'mesh.edge_length'"),
        (["simulate", "mesh.edge_length=long"], "which is not a quantity"),
        (["simulate", "mesh=slob"], "did you mean 'slab'"),
        (["simulate", "+thing={_target_: os.system, command: 'true'}"], "cannot be built"),
        (["simulate", "--resume"], "output.folder=FOLDER"),
        (
            ["simulate", "mesh.edge_length=1,2"],
            "error: mesh.edge_length=1,2: several values; add -m",
        ),
        (["simulate", "mesh=5"], "mesh is a group; choose one of its options: slab"),
        (["simulate", "--config-dir", "absent"], "no such folder"),
        (["simulate", "--cfg", "job", "mesh.edge_lenght=1"], "did you mean"),
        (["simulate", "-m", "mesh.edge_length=1,long"], "which is not a quantity"),
    ],
)
def test_bad_input_ends_with_one_message(work, capsys, words, message):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("cardiotwin: error: ")
    assert message in error
    assert "Traceback" not in error
    assert not work


def test_traceback_only_when_asked_for(work, capsys, monkeypatch):
    assert main(["simulate", "--debug", "mesh=slob"]) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("CARDIOTWIN_DEBUG", "1")
    assert main(["simulate", "mesh=slob"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (RuntimeError("lost"), 1, "RuntimeError: lost"),
        (MemoryError("37 GiB"), 1, "not enough memory: 37 GiB; use longer edges"),
        (ValueError("bad"), 2, "error: bad"),
    ],
)
def test_exit_codes(work, capsys, monkeypatch, error, code, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["cardiotwin.run"], "simulate", fail)
    assert main(["simulate"]) == code
    assert message in capsys.readouterr().err


def test_warnings_are_printed_plainly(work, capsys, monkeypatch):
    import warnings

    def warn(*_, **__):
        warnings.warn("coarse mesh", stacklevel=2)

    monkeypatch.setattr(sys.modules["cardiotwin.run"], "simulate", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["simulate"]) == 0
    assert capsys.readouterr().err == "cardiotwin: warning: coarse mesh\n"


def test_help_names_every_group_and_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["simulate", "--help"])
    text = capsys.readouterr().out
    for expected in ("mesh=", "biventricle", "experiment=", "--multirun", "mm"):
        assert expected in text


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cardiotwin", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_help_is_immediate_and_imports_nothing_heavy():
    begin = time.perf_counter()
    done = run("--help")
    assert time.perf_counter() - begin < 5.0  # 0.1 s on an idle machine
    assert done.returncode == 0
    assert "cardiotwin simulate experiment=rodero" in done.stdout
    code = (
        "import sys, cardiotwin.cli as c; c.main(['--help']); c.main(['--version']);"
        "print([m for m in ('jax', 'hydra', 'vtk', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert listed.stdout.splitlines()[-1] == "[]"


def test_package_runs_as_a_module_and_refuses_cleanly():
    done = run("simulate", "mesh=no_such_mesh")
    assert done.returncode == 2
    assert done.stderr.startswith("cardiotwin: error: mesh=no_such_mesh: no such option")


def test_info_describes_a_mesh(tmp_path, capsys):
    from cardiotwin.anatomy.formats import write_mesh
    from cardiotwin.anatomy.idealised import slab

    file = tmp_path / "slab.vtu"
    write_mesh(file, slab((20.0, 7.0, 3.0), edge_length=1.0))
    assert main(["info", str(file)]) == 0
    assert "nodes" in capsys.readouterr().out
    assert main(["info", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["info", str(tmp_path / "absent.vtu")]) in (1, 2)
    assert "absent.vtu" in capsys.readouterr().err
    assert main(["info", str(tmp_path)]) == 2
    assert "this is a folder: name a mesh file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["info", str(tmp_path / "empty" / "a.vtu")]) == 2
    assert "its folder holds nothing" in capsys.readouterr().err


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    for name in ("CARDIOTWIN_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = session.cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "cardiotwin"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/chosen")
    assert session.cache_folder() == Path("/chosen")
    monkeypatch.setenv("CARDIOTWIN_CACHE", "/mine")
    folder = session.cache_folder()
    assert folder is not None
    assert folder.parent == Path("/mine")
    monkeypatch.setenv("CARDIOTWIN_CACHE", "off")
    assert session.cache_folder() is None


def test_session_switches_x64_and_the_cache_on(tmp_path):
    code = (
        "from cardiotwin import session; session.start(); import jax, jax.numpy as jnp;"
        "print(jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.ones((50, 50))).dtype,"
        "jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache)"
    )

    def start(**environment: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        return done.stdout.split() + done.stderr.split()

    on = start(CARDIOTWIN_CACHE=str(tmp_path / "cache"))
    assert on[0] == "float64"
    assert on[1].startswith(str(tmp_path / "cache"))
    assert on[2] == "True"
    assert start(CARDIOTWIN_CACHE="off")[2] == "False"
