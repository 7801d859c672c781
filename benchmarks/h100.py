"""What does the time loop launch and move on an H100? Asked of its compiler, without the GPU.

    python -m benchmarks.h100 --case default

The loop that `solve` compiles is compiled ahead of time for an H100 and its program read: kernels
launched a time step, loops and whether their trip counts are known, host transfers, scatters, bytes
read and written, temporary memory. From the bytes follows the time that a memory bandwidth of
3.35 TB/s allows, taking every kernel's operands from memory and its results to memory. Nothing is
run, so nothing here is a measured time.

It needs the CUDA compiler in the environment (benchmarks/README.md says how).
"""

import argparse
import importlib
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import gpu_program, step_report
from benchmarks._machine import commit
from benchmarks.slab import C_M, CHI, CONDUCTIVITY, CORNER, CURRENT, DURATION, SIZE

RESULTS = Path(__file__).parent / "results"
ELECTRODES = 9


@dataclass
class Run:
    """The arguments of `solve`."""

    problem: Any
    t1: float
    how: dict[str, Any]


@dataclass
class Case:
    """A run to compile, and how to call it."""

    title: str
    build: Callable[[argparse.Namespace], Run]
    streams: bool  # whether frames are handed out; otherwise the whole run is one program


def main(words: list[str] | None = None) -> int:
    args = _arguments(words)
    gpu_program.prepare(args.devices)
    import jax

    jax.config.update("jax_enable_x64", args.x64 == "on")
    gpu_program.h100s(args.devices)  # before any work: is there a compiler?
    began = time.perf_counter()
    report = study(CASES[args.case], args)
    print(table(report))
    variant = ("" if args.scheme == "default" else f"-{args.scheme}") + (
        "" if args.devices == 1 else f"-{args.devices}-devices"
    )
    path = args.output / f"h100-{args.case}{variant}.json"
    if args.keep_hlo:
        args.keep_hlo.write_text(report.pop("hlo"))
    report.pop("hlo", None)
    args.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(report) + "\n")
    print(f"\nwritten: {path} and .md ({time.perf_counter() - began:.0f} s)")
    return 0


def study(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Compile the loop of a case and describe it."""
    from cardiotwin.numerics.target import written_for

    run = case.build(args)
    if args.devices > 1:
        run.how["devices"] = args.devices
    function, arguments = intercepted(run, streams=case.streams)
    constant, carry = arguments[:2]
    began = time.perf_counter()
    donate = (1,) if case.streams else ()
    with written_for("gpu"):
        program = gpu_program.compile_ahead(
            function, arguments, devices=args.devices, donate=donate
        )
    compile_s = time.perf_counter() - began
    step_report.check_count(program)
    peeled = int(constant.scheme.peels_last)
    plan = getattr(constant, "plan", constant)  # who divides a frame into windows keeps a plan
    # two steps a trip; an odd one comes after the loop
    counts = (n - peeled - (n - peeled) % 2 for n in (plan.steps, plan.steps // plan.stride))
    loops = step_report.step_loops(program, *counts)
    nodes = carry.state.v.shape[0]
    share = nodes / args.devices  # the program is that of one device
    steps = round(run.t1 / run.how["dt"])
    report: dict[str, Any] = {
        "case": args.case,
        "title": case.title,
        "nodes": nodes,
        "times_ms": {k: run.how[k] for k in ("dt", "every")} | {"t1": run.t1},
        "steps": steps,
        "scheme": _describe(constant),
        "precision": run.how.get("precision", "float32"),
        "x64": args.x64 == "on",
        "devices": args.devices,
        "program": "one frame" if case.streams else "the whole run",
        "commit": commit(),
        "versions": {n: version(n) for n in ("jax", "jaxlib", "jax-cuda12-pjrt")},
        "compile_s": round(compile_s, 1),
        "loops": [step_report.describe_loop(program, loop, share) for loop in loops],
        "frame": step_report.describe_rest(program, loops, share, whole=not case.streams),
        "all_loops": step_report.all_loops(program),
        "memory": program.memory | {"temp_per_node": program.memory["temp"] / share},
        "hlo": program.text,
    }
    step, frame = report["loops"][0], report["frame"]
    frames = run.t1 / run.how["every"]
    moved = (steps * step["bytes"] + frames * frame["bytes"]) * share
    report["bandwidth_limit_s"] = moved / gpu_program.BANDWIDTH
    report["verdicts"] = step_report.verdicts(report)
    return report


class _Intercepted(Exception):
    """Carries the arguments of a call that was not made."""


def intercepted(run: Run, *, streams: bool) -> tuple[Callable, tuple]:
    """The function that `solve` would compile on a GPU, and what it would call it with."""
    from cardiotwin.numerics.target import written_for

    module = importlib.import_module("cardiotwin.propagation.solve")
    name = "_advance_jit" if streams else "_scan"
    function = getattr(module, name).__wrapped__
    stop = mock.Mock(side_effect=lambda *arguments: _raise(_Intercepted(arguments)))
    stop.lower = stop
    how = run.how | ({"on_frame": lambda frame: None} if streams else {})
    if unknown := how.keys() - inspect.signature(module.solve).parameters.keys():
        raise ValueError(f"This version of solve does not take {', '.join(sorted(unknown))}.")
    with mock.patch.object(module, name, stop), written_for("gpu"):
        try:
            module.solve(run.problem, run.t1, **how)
        except _Intercepted as call:
            return function, call.args[0]
    raise RuntimeError(f"solve did not call {name}; benchmarks/h100.py must follow its changes.")


def table(report: dict[str, Any]) -> str:
    """A short Markdown page."""
    times = report["times_ms"]
    lines = [
        f"# {report['title']}",
        "",
        f"{report['nodes']:,} nodes, {report['scheme']}, dt {times['dt']:g} ms, {times['t1']:g} ms "
        f"= {report['steps']:,} steps, {report['precision']}, x64 "
        f"{'on' if report['x64'] else 'off'}, {report['devices']} x H100; program of "
        f"{report['program']}, jax {report['versions']['jax']}, commit {report['commit']}. "
        "Read from the compiled program; nothing was run.",
        "",
        "| a time step | " + " | ".join(loop["name"] for loop in report["loops"]) + " |",
        "|---|" + "---:|" * len(report["loops"]),
    ]
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "kernels": lambda s: f"{s['kernels']:.4g}",
        "of which": lambda s: ", ".join(f"{v:g} {k}" for k, v in s["launches"].items()),
        "submissions by the host (a command buffer is one)": lambda s: f"{s['submissions']:.4g}",
        "bytes a node": lambda s: f"{s['bytes']:.0f}",
        "read, written": lambda s: f"{s['read']:.0f}, {s['written']:.0f}",
        "bytes a node, every gathered entry fetched": lambda s: (
            f"{s['bytes_if_every_entry_is_fetched']:.0f}"
        ),
        "findings": lambda s: ", ".join(f"{v:g} {k}" for k, v in s["findings"].items()) or "none",
        "bytes of collectives": lambda s: (
            ", ".join(f"{v:g} {k}" for k, v in s["collective_bytes"].items()) or "none"
        ),
        "bandwidth limit, µs": lambda s: f"{s['bandwidth_limit_us']:.1f}",
    }
    for name, form in rows.items():
        lines.append(f"| {name} | " + " | ".join(form(s) for s in report["loops"]) + " |")
    frame, memory = report["frame"], report["memory"]
    found = ", ".join(f"{v:g} {k}" for k, v in frame["findings"].items()) or "nothing to report"
    loops = ", ".join(f"{x['where']}: {x['trips']}" for x in report["all_loops"])
    lines += [
        "",
        f"Beside the steps a frame takes {frame['kernels']:g} kernels and {frame['bytes']:.0f} "
        f"bytes a node: {found}. Temporary memory: {memory['temp'] / 2**20:.1f} MiB, "
        f"{memory['temp_per_node']:.0f} bytes a node. Loops and their trips: {loops}.",
        "",
        f"At 3.35 TB/s the bytes of all {report['steps']:,} steps (none of them quiet) take "
        f"{report['bandwidth_limit_s']:.2f} s.",
        "",
        "| threshold | value | at most | aim | |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {v['what']} | {v['value']:g} | {v['threshold']} | {v['aim']} | "
        f"{'met' if v['met'] else 'missed'} |"
        for v in report["verdicts"]
    ]
    return "\n".join(lines)


def _describe(constant: Any) -> str:
    """Scheme and parabolic step in words."""
    diffuse = constant.unpacked().loop.prepared.diffuse
    stages = getattr(diffuse, "stages", None)
    solver = getattr(diffuse, "solver", None)
    how = f"{stages} stages" if stages else f"{solver.iterations} iterations" if solver else ""
    names = [type(constant.scheme).__name__, type(constant.scheme.diffusion).__name__, how]
    return ", ".join(name for name in names if name)


def _default(args: argparse.Namespace) -> Run:
    """What `cardiotwin simulate` solves, velocities tuned."""
    from cardiotwin.config import build, load
    from cardiotwin.run import simulate
    from cardiotwin.run.journal import Journal

    experiment = build(load())
    ready = simulate.__globals__["_prepare"](experiment, Journal(False), {})
    solver = experiment.solver
    how = {k: getattr(solver, k) for k in ("dt", "every", "quiet_dt", "precision")}
    how |= {"observe": ready.observe, "scheme": _scheme(args.scheme) or solver.scheme}
    return Run(ready.twin.problem(), solver.t1, how)


def _slab(args: argparse.Namespace) -> Run:
    return _block(args, SIZE, args.dx or 0.2, t1=40.0, dt=0.05)


def _published(args: argparse.Namespace) -> Run:
    # 100 x 75 x 85 = 637,500 nodes at the spacing of a human heart's mesh
    return _block(args, (49.5, 37.0, 42.0), args.dx or 0.5, t1=600.0, dt=0.01)


def _block(args: argparse.Namespace, size, dx: float, *, t1: float, dt: float) -> Run:
    import numpy as np

    import cardiotwin as ct

    mesh = ct.slab(size, dx)
    along, across, extra_along, extra_across = CONDUCTIVITY
    conductivity = ct.Conductivity(
        intra_fibre=along, intra_sheet=across, extra_fibre=extra_along, extra_sheet=extra_across
    )
    tissue = ct.Tissue.by_region(mesh, ct.fibres_from_mesh(mesh), conductivity, chi=CHI, c_m=C_M)
    stimulus = ct.BoxStimulus(
        (0.0, 0.0, 0.0), (CORNER,) * 3, amplitude=CURRENT / (CHI * C_M), duration=DURATION
    )
    cell = ct.TenTusscherPanfilov2006.epi()
    observe = {
        "activation": ct.ActivationTime(),
        "repolarisation": ct.RepolarisationTime(),
        "leads": ct.Leads(np.zeros((ELECTRODES, len(mesh.points)))),
    }
    how = {
        "dt": dt,
        "every": 1.0,
        "precision": args.precision,
        "observe": observe,
        "scheme": _scheme(args.scheme),
    }
    return Run(ct.Monodomain(mesh, tissue, cell, stimulus), t1, how)


def _scheme(name: str) -> Any:
    """A scheme by name; None for that of the case."""
    import cardiotwin as ct

    schemes = {
        "default": lambda: None,
        "implicit": lambda: ct.Godunov(ct.ImplicitDiffusion()),
        "explicit": lambda: ct.Godunov(ct.ExplicitDiffusion()),
        "corrected": lambda: ct.Godunov(ct.CorrectedDiffusion()),
        "strang": lambda: ct.Strang(ct.ImplicitDiffusion()),
    }
    return schemes[name]()


CASES = {
    "default": Case("One beat of the default experiment on an H100", _default, streams=True),
    "slab": Case("The slab of Niederer et al. 2011 on an H100", _slab, streams=False),
    "published": Case(
        "A block the size of a published heart (637,480 nodes) on an H100",
        _published,
        streams=False,
    ),
}


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.h100", description=__doc__)
    parser.add_argument("--case", choices=CASES, default="default")
    parser.add_argument("--devices", type=int, choices=range(1, 9), default=1, metavar="1..8")
    parser.add_argument(
        "--scheme",
        choices=("default", "implicit", "explicit", "corrected", "strang"),
        default="default",
    )
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--x64", choices=("on", "off"), default="on", help="JAX's 64-bit types, on in simulate"
    )
    parser.add_argument("--dx", type=float, help="edge of the cubes of a slab, mm")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--keep-hlo", type=Path, help="write the compiled program there")
    return parser.parse_args(words)


def _raise(error: Exception):
    raise error


if __name__ == "__main__":
    raise SystemExit(main())
