"""The commands. Each checks its input, hands the work to the library, and says where results are.

Nothing heavy is imported before a command needs it, so that ``--help`` is immediate.
"""

import argparse
import difflib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardiotwin import _help

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its name and arguments; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    # XLA takes features of its own ("prefer-no-gather") for the processor's, misses them in its own
    # cached programs, and prints a page for each; what does go wrong is raised in Python
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("CARDIOTWIN_DEBUG", "0") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        # The film's encoder is started by a fork that executes another program at once.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        try:
            return _dispatch(words)
        except KeyboardInterrupt:
            print("cardiotwin: interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _report(error)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help.overview())
        return 0
    if words[0] == "--version":
        from cardiotwin._version import __version__

        print(f"cardiotwin {__version__}")
        return 0
    if words[0] not in _COMMANDS:
        near = difflib.get_close_matches(words[0], _COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no command {words[0]!r}{hint} (see cardiotwin --help)")
    return _COMMANDS[words[0]](words[1:])


def _report(error: Exception) -> int:
    """Print an error as one message; what a user can mend and what is ours look different."""
    again = "run again with --debug for the traceback"
    ours = type(error).__module__.startswith("cardiotwin.")  # such as a run that became NaN
    if ours or isinstance(error, (ValueError, OSError)):
        print(f"cardiotwin: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT if isinstance(error, ValueError) else EXIT_FAILED
    if isinstance(error, MemoryError):
        advice = "use longer edges (fewer nodes), output.frames_every=0 or a larger machine"
        print(f"cardiotwin: error: not enough memory: {error}; {advice}", file=sys.stderr)
        return EXIT_FAILED
    print(f"cardiotwin: error: {type(error).__name__}: {error}\n{again}", file=sys.stderr)
    return EXIT_FAILED


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"cardiotwin: warning: {message}", file=sys.stderr)


def simulate(words: Sequence[str]) -> int:
    """``cardiotwin simulate``: solve a beat and write its results.

    Args:
        words: options and overrides.

    Returns:
        The exit code.
    """
    options = _help.job_parser("simulate").parse_intermixed_args(words)
    return _launch(options, _simulate_job, prefix="")


def tune(words: Sequence[str]) -> int:
    """``cardiotwin tune``: find conductivities that give the wanted velocity on the mesh in use.

    Args:
        words: options and overrides.

    Returns:
        The exit code.
    """
    options = _help.job_parser("tune").parse_intermixed_args(words)
    return _launch(options, _tune_job, prefix="tune_")


def calibrate(words: Sequence[str]) -> int:
    """``cardiotwin calibrate``: fit a heart to a recorded ECG, and say how sure the answer is.

    Args:
        words: options and overrides; `ecg=FILE` and `twin=FOLDER` stand for the longer ones.

    Returns:
        The exit code.
    """
    options = _help.job_parser("calibrate").parse_intermixed_args(words)
    if not options.config:
        from cardiotwin._calibration_options import calibration_overrides

        options.overrides = calibration_overrides(options.overrides)
    return _launch(options, _calibrate_job, prefix="calibrate_")


def cell(words: Sequence[str]) -> int:
    """``cardiotwin cell``: pace a single cell; its beat, restitution, drugs and populations.

    Args:
        words: the model, parameters and options.

    Returns:
        The exit code.
    """
    options = _help.cell_parser().parse_intermixed_args(words)
    from cardiotwin import session

    session.start()
    from cardiotwin.ionic.imported import describe_cell_model, is_cell_file
    from cardiotwin.run.cell import study_cell

    study, folder = _cell_study(options)
    if is_cell_file(options.model) and not options.json:
        print(describe_cell_model(options.model) + "\n")
    found = study_cell(study, folder, say=_nothing if options.json else print)
    print(_json(found) if options.json else f"results: {folder}")
    return 0


def mesh(words: Sequence[str]) -> int:
    """``cardiotwin mesh``: a heart of an image of labels or of a closed surface.

    Args:
        words: options and the file's name.

    Returns:
        The exit code.
    """
    options = _help.mesh_parser().parse_args(words)
    from cardiotwin import session

    session.start()
    from cardiotwin._mesh_options import mesh_task
    from cardiotwin.run.mesh import make_heart

    task = mesh_task(options)
    found = make_heart(task, _nothing if options.json else print)
    print(_json(found) if options.json else f"heart: {task.output}")
    return 0


def twin(words: Sequence[str]) -> int:
    """``cardiotwin twin``: a folder with a heart and all that belongs to it.

    Args:
        words: options and the file's name.

    Returns:
        The exit code.
    """
    options = _help.twin_parser().parse_args(words)
    from cardiotwin import session

    session.start()
    from cardiotwin._twin_options import twin_task
    from cardiotwin.run.twin import make_twin

    found = make_twin(twin_task(options), _nothing if options.json else print)
    print(_json(found) if options.json else f"twin: {found['folder']}")
    return 0


def ecg(words: Sequence[str]) -> int:
    """``cardiotwin ecg``: read, check, measure and draw an ECG.

    Args:
        words: options and the file's name.

    Returns:
        The exit code.
    """
    options = _help.ecg_parser().parse_args(words)
    from datetime import datetime

    from cardiotwin.run.ecg import ECGTask, study_ecg

    name = f"ecg_{Path(options.file).stem}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    task = ECGTask(**{name: getattr(options, name) for name in ECGTask.__dataclass_fields__})
    folder = Path(options.output or Path("runs", name))
    found = study_ecg(task, folder, say=_nothing if options.json else print)
    print(_json(found) if options.json else f"results: {folder}")
    return 0


def info(words: Sequence[str]) -> int:
    """``cardiotwin info``: say what a mesh holds and what it lacks.

    Args:
        words: options and the file's name.

    Returns:
        The exit code.
    """
    options = _help.info_parser().parse_args(words)
    from cardiotwin import session

    session.start()
    from cardiotwin.anatomy.formats import read_mesh
    from cardiotwin.anatomy.quality import format_report, quality_report
    from cardiotwin.run.expected import expected_of, format_expected
    from cardiotwin.run.look import look_at_surfaces

    keep = options.keep.split(",") if options.keep else None
    mesh = read_mesh(options.file, unit=options.unit, names=options.names, keep=keep)
    report = quality_report(mesh) | {"expected": expected_of(mesh)}
    seen = look_at_surfaces(Path(options.file), mesh, options.picture)
    text = [format_report(report), "", format_expected(report["expected"]), *seen]
    print(_json(report) if options.json else "\n".join(text))
    return 0


def doctor(words: Sequence[str]) -> int:
    """``cardiotwin doctor``: say what works on this machine.

    Args:
        words: options.

    Returns:
        The exit code: 1 where something failed that runs need.
    """
    options = _help.doctor_parser().parse_args(words)
    from dataclasses import asdict

    from cardiotwin.doctor import examine, format_findings, works

    findings = examine()
    print(_json([asdict(f) for f in findings]) if options.json else format_findings(findings))
    return 0 if works(findings) else EXIT_FAILED


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "simulate": simulate,
    "calibrate": calibrate,
    "tune": tune,
    "cell": cell,
    "mesh": mesh,
    "twin": twin,
    "ecg": ecg,
    "info": info,
    "doctor": doctor,
}


def _cell_study(options: argparse.Namespace) -> tuple[Any, Path]:
    """What the options of ``cardiotwin cell`` ask for, and where results go."""
    from datetime import datetime

    from cardiotwin.ionic import protocols
    from cardiotwin.ionic.population import HUMAN_VENTRICLE
    from cardiotwin.propagation import restitution
    from cardiotwin.run.cell import CellStudy, read_ranges
    from cardiotwin.twin import Cells

    values = dict(_assignment(word) for word in options.parameters)
    cells = Cells(model=options.model, uniform=options.type or "epi", parameters=values)
    study = CellStudy(
        cells,
        cycle_length=options.cycle_length,
        beats=options.beats,
        dt=options.dt,
        precision=options.precision,
        limit_cycle=options.pace,
        tolerance=options.tolerance,
        most_beats=options.most_beats,
        drug=options.drug,
        multiples=_numbers("--multiples", options.multiples),
        ignore=tuple(filter(None, options.ignore.split(","))),
        s1s1=_numbers("--s1s1", options.s1s1, protocols.CYCLE_LENGTHS),
        s1s2=_numbers("--s1s2", options.s1s2, protocols.INTERVALS),
        refractory=options.refractory,
        velocity=_numbers("--velocity", options.velocity, restitution.INTERVALS),
        cells_varied=options.population,
        spread=options.spread,
        seed=options.seed,
        ranges=HUMAN_VENTRICLE if options.ranges == "human" else read_ranges(options.ranges),
    )
    name = f"cell_{Path(options.model).stem}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return study, Path(options.output or Path("runs", name))


def _assignment(word: str) -> tuple[str, float]:
    name, equals, value = word.partition("=")
    try:
        return name, float(value)
    except ValueError:
        given = f"{word!r}" if equals else f"{word!r} without a value"
        raise ValueError(f"got {given}; set a parameter as name=number, such as g_Kr=0.1") from None


def _numbers(option: str, text: str | None, usual: Sequence[float] = ()) -> tuple[float, ...]:
    """The numbers of an option's list: none without the option, the usual ones without a list."""
    if text is None:
        return ()
    try:
        return tuple(float(x) for x in text.split(",")) if text else tuple(usual)
    except ValueError:
        raise ValueError(f"{option} is {text!r}; give numbers such as 1000,600,300") from None


def _nothing(line: str) -> None:
    """Say nothing."""
    del line


def _launch(options: argparse.Namespace, job: Callable[..., None], *, prefix: str) -> int:
    """Show, check or run what the options and overrides describe."""
    from cardiotwin.config.launch import launch_one, launch_sweep

    if options.config and (options.config_dir or options.multirun):
        raise ValueError("--config is a whole configuration: leave out --config-dir and -m")
    if options.cfg or options.keys or options.check:
        return _show(options)
    placed = options.multirun or options.config or _given(options, "output.folder")
    if options.resume and not placed:
        raise ValueError("--resume needs the folder to go on with: output.folder=FOLDER")
    ready = partial(job, progress=options.progress, resume=options.resume, cache=options.cache)
    if options.multirun:
        launch_sweep(partial(_named, ready), options.overrides, options.config_dir)
    else:
        where = {"config_file": options.config, "prefix": prefix}
        launch_one(ready, options.overrides, options.config_dir, **where)
    return 0


def _named(job: Callable[["DictConfig"], None], config: "DictConfig") -> None:
    """Run a job of a sweep; where it fails, say which one."""
    try:
        job(config)
    except Exception as error:
        print(f"cardiotwin: {config.output.folder}: {error}", file=sys.stderr)
        raise


def _given(options: argparse.Namespace, key: str) -> bool:
    return any(line.lstrip("+").startswith(f"{key}=") for line in options.overrides)


def _show(options: argparse.Namespace) -> int:
    """Print the composed configuration or its keys; then check it."""
    from omegaconf import OmegaConf, open_dict

    from cardiotwin.config.compose import compose, read_file
    from cardiotwin.config.tree import check, describe_keys

    if options.config:
        config = read_file(options.config, options.overrides)
    else:
        config = compose(options.overrides, options.config_dir)
    with open_dict(config):
        hydra = config.pop("hydra", {})
    if options.cfg in ("hydra", "all"):
        print(OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})), end="")
    if options.cfg in ("job", "all"):
        print(OmegaConf.to_yaml(config), end="")
    check(config)
    if options.keys:
        print(describe_keys(config))
    if options.check:
        print("the configuration is valid")
    return 0


def _simulate_job(config: "DictConfig", **how: bool) -> None:
    folder, _ = _job("simulate", config, **how)
    report = folder / "report.html"
    print(f"results: {folder}" + (f" (open {report})" if report.exists() else ""))


def _tune_job(config: "DictConfig", **how: bool) -> None:
    folder, tuned = _job("tune", config, **how)
    print(_json(tuned))
    print(f"results: {folder}")


def _calibrate_job(config: "DictConfig", **how: bool) -> None:
    folder, found = _job("calibrate", config, **how)
    fit, sure = found["fit"], found["activation"]
    print(
        f"QRS correlation {fit['correlation']:.3f} with {fit['root_nodes']} root nodes; activation "
        f"times +- {sure['median_sd_ms']:.1f} ms (median over the nodes)"
    )
    print(f"results: {folder} (open {folder / 'report.html'})")


def _job(
    command: str, config: "DictConfig", *, progress: bool, resume: bool, cache: bool
) -> tuple[Path, Any]:
    """One job, in this process or in a worker of a cluster launcher."""
    from omegaconf import OmegaConf

    from cardiotwin import run, session
    from cardiotwin.config import build

    devices = OmegaConf.select(config, "solver.devices")
    session.start(cache=cache, devices=devices if isinstance(devices, int) else 1)
    folder = Path(config.output.folder)
    experiment = build(config)
    text = OmegaConf.to_yaml(config, resolve=True)
    work = getattr(run, command)
    return folder, work(experiment, folder, text, progress=progress, resume=resume)


def _json(value: Any) -> str:
    import json

    import numpy as np

    def plain(item: Any) -> Any:
        if isinstance(item, (np.ndarray, np.generic)):
            return item.tolist()
        return str(item)

    return json.dumps(value, indent=2, default=plain)
