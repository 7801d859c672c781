"""How fast is the time loop? The N-version slab, ours and its peers in turn on the same cores.

    python -m benchmarks.slab --peers-python /path/to/venv/bin/python

The slab of Niederer et al. 2011 (https://doi.org/10.1098/rsta.2011.0139): 20 x 7 x 3 mm, fibres
along x, ten Tusscher-Panfilov 2006 epicardial cells, stimulated in a corner of 1.5 mm. Every run is
a process of its own. Its first millisecond warms up and is not counted; the clock runs from 1 ms to
`--t1`, over the time loop alone. The first run of each solver goes on to `--until`, uncounted, so
that the wave reaches all nine points.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks._machine import BUSY, RESULTS, ROOT, cpus, load, store
from benchmarks.peers.torchcor_slab import peak_memory_mib

PEERS = {
    name: Path(__file__).parent / "peers" / f"{name}_slab.py" for name in ("torchcor", "finitewave")
}
SIZE = (20.0, 7.0, 3.0)  # mm
CORNER = 1.5  # mm
CONDUCTIVITY = (0.17, 0.019, 0.62, 0.24)  # intra along, across, extra along, across; S/m
CHI = 140.0  # 1/mm
C_M = 0.01  # uF/mm2
CURRENT = 50.0  # uA/mm3
DURATION = 2.0  # ms
THRESHOLD = 0.0  # mV
WARM_UP = 1  # ms
SCHEMES = ("corrected", "implicit", "explicit")
MULTIRATE = {"quiet_dt": 0.2, "multirate": True}
POINTS = {
    "P1": (0, 0, 0), "P2": (0, 1, 0), "P3": (1, 0, 0), "P4": (1, 1, 0), "P5": (0, 0, 1),
    "P6": (0, 1, 1), "P7": (1, 0, 1), "P8": (1, 1, 1), "P9": (0.5, 0.5, 0.5),
}  # in units of the sides  # fmt: skip
OURS = "cardiotwin"


def main() -> None:
    args = _arguments()
    if args.alone:
        job_file, result_file = map(Path, args.alone)
        result_file.write_text(json.dumps(run_ours(json.loads(job_file.read_text()))))
        return
    peers = peer_versions(args.peers_python)
    entry = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "load": [load()]}
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(args, Path(folder), peers)
        runs: dict[str, list[dict]] = {name: [] for name in (OURS, *peers)}
        for repeat in range(args.repeats):
            for solver, done in runs.items():
                until = max(args.t1, args.until) if repeat == 0 else args.t1
                python = sys.executable if solver == OURS else args.peers_python
                done.append(measure(solver, job | {"until": until}, Path(folder), python))
                _progress(solver, repeat, done[-1])
    entry["load"].append(load())
    settings = ("dx", "dt", "t1", "precision", "scheme", "multirate", "x64", "threads", "pattern")
    entry["settings"] = {k: job[k] for k in settings}
    entry["solvers"] = {solver: _summary(done) for solver, done in runs.items()}
    ours = entry["solvers"][OURS]
    entry["ratios"] = {
        peer: {
            key: ours[key] / entry["solvers"][peer][key]
            for key in ("node_steps_per_s", "node_steps_per_cpu_s")
        }
        for peer in peers
    }
    path = store(entry, args.output)
    _print_table(entry)
    print(f"\nwritten: {path}")


def run_ours(job: dict) -> dict:
    """One run of ours in this process, which must not have imported JAX yet."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cpus"])
    import jax

    jax.config.update("jax_enable_x64", job["x64"])
    import cardiotwin as ct

    mesh = ct.slab(SIZE, job["dx"], pattern=job["pattern"])
    clocks = []
    solution = ct.solve(
        problem(mesh),
        job["until"],
        dt=job["dt"],
        scheme=scheme(job["scheme"]),
        **(MULTIRATE if job["multirate"] else {}),
        observe={"activation": ct.ActivationTime(threshold=THRESHOLD)},
        precision=job["precision"],
        on_frame=lambda frame: clocks.append(
            (round(frame.t), time.perf_counter(), time.process_time())
        ),
    )
    stats = solution.stats
    times = [float(solution.observed["activation"][node]) for node in job["probes"]]
    return {
        "clocks": clocks[1:],
        "activation_ms": [t if t < job["until"] else None for t in times],
        "iterations": stats.get("chebyshev_iterations"),
        "busy_share": stats.get("busy_share"),
        "nodes": stats["nodes"],
        "setup_s": stats["setup_s"],
        "began": clocks[0][1],
        "compile_s": stats["compile_s"],
        "peak_mib": peak_memory_mib(),
        "versions": {"cardiotwin": ct.__version__} | {n: version(n) for n in ("jax", "jaxlib")},
    }


def problem(mesh):
    """The monodomain problem of the benchmark on a mesh of the slab."""
    import cardiotwin as ct

    stimulus = ct.BoxStimulus(
        (0.0, 0.0, 0.0), (CORNER,) * 3, amplitude=CURRENT / (CHI * C_M), duration=DURATION
    )
    tissue = ct.Tissue.by_region(
        mesh,
        ct.fibres_from_mesh(mesh),
        ct.Conductivity(
            intra_fibre=CONDUCTIVITY[0],
            intra_sheet=CONDUCTIVITY[1],
            extra_fibre=CONDUCTIVITY[2],
            extra_sheet=CONDUCTIVITY[3],
        ),
        chi=CHI,
        c_m=C_M,
    )
    return ct.Monodomain(mesh, tissue, _cell(), stimulus)


def scheme(name: str):
    """A splitting by the name of its parabolic step."""
    import cardiotwin as ct

    steps = {
        "corrected": ct.CorrectedDiffusion,
        "implicit": ct.ImplicitDiffusion,
        "explicit": ct.ExplicitDiffusion,
    }
    return ct.Godunov(steps[name]())


def _cell():
    from cardiotwin.ionic.ten_tusscher_2006 import NIEDERER_STATE, TenTusscherPanfilov2006

    return TenTusscherPanfilov2006.epi(start=NIEDERER_STATE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slab", description=__doc__)
    parser.add_argument("--peers-python", help="Python of an environment that holds the peers")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--dx", type=float, default=0.2, help="edge of the cubes, mm")
    parser.add_argument("--dt", type=float, default=0.05, help="time step, ms")
    parser.add_argument("--t1", type=int, default=40, help="end of the timed part, ms")
    parser.add_argument("--until", type=int, default=60, help="end of the first runs, ms")
    parser.add_argument("--scheme", choices=SCHEMES, default="corrected")
    parser.add_argument(
        "--multirate", choices=("on", "off"), default="on", help="short steps where a wave is"
    )
    parser.add_argument("--pattern", choices=("kuhn", "alternating", "bcc"), default="kuhn")
    parser.add_argument(
        "--x64",
        choices=("on", "off"),
        default="on",
        help="JAX's 64-bit types, on in the command line; keeps slow concentrations in float64",
    )
    parser.add_argument("--threads", type=int, default=len(cpus()))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--alone", nargs=2, metavar=("JOB", "RESULT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not 1 <= args.threads <= len(cpus()):
        parser.error(f"--threads is {args.threads}; this process may use {len(cpus())} cores")
    if args.threads < len(cpus()) and not hasattr(os, "sched_setaffinity"):
        parser.error("--threads: this system cannot bind a process to fewer cores than it has")
    if args.t1 <= WARM_UP or args.repeats < 1:
        parser.error(f"--t1 must be above {WARM_UP} ms and --repeats at least 1")
    if args.precision == "float64" and args.x64 == "off":
        parser.error("--precision float64 needs --x64 on")
    return args


def make_job(args: argparse.Namespace, folder: Path, peers: dict[str, str]) -> dict:
    """What every solver is told; writes the mesh and the stimulated nodes for the peers."""
    import numpy as np

    import cardiotwin as ct
    from cardiotwin.anatomy.carp import write_vtx

    mesh = ct.slab(SIZE, args.dx, pattern=args.pattern)
    nearest = [
        int(np.linalg.norm(mesh.points - np.multiply(place, SIZE), axis=1).argmin())
        for place in POINTS.values()
    ]
    if peers:
        # TorchCor normalises all columns of .lon together, so it is given the fibre alone
        bare = ct.Mesh(mesh.points, mesh.cells, cell_data={"fibre": mesh.cell_data["fibre"]})
        (folder / "slab").mkdir()
        ct.write_mesh(folder / "slab" / "slab.pts", bare)
        write_vtx(folder / "corner.vtx", np.flatnonzero((mesh.points <= CORNER + 1e-9).all(axis=1)))
    v0, state = _cell().initial()
    return {
        **{k: getattr(args, k) for k in ("precision", "dx", "dt", "t1", "scheme", "pattern")},
        "x64": args.x64 == "on",
        "multirate": args.multirate == "on",
        "size": SIZE,
        "corner": CORNER,
        "places": list(POINTS.values()),
        "diffusivity": [_harmonic(*CONDUCTIVITY[k::2]) / (CHI * C_M) for k in (0, 1)],
        "threads": args.threads,
        "cpus": cpus()[: args.threads],
        "mesh": str(folder / "slab"),
        "conductivity": CONDUCTIVITY,
        "stimulus": {
            "nodes": str(folder / "corner.vtx"),
            "amplitude": CURRENT / (CHI * C_M),  # mV/ms
            "duration": DURATION,
        },
        "initial": {"V": v0, **state._asdict()},
        "probes": nearest,
        "threshold": THRESHOLD,
        "peer_versions": peers,
    }


def _harmonic(one: float, other: float) -> float:
    return one * other / (one + other)


def measure(solver: str, job: dict, folder: Path, python: str) -> dict:
    """One run in a fresh process."""
    job_file, result_file = folder / "job.json", folder / "result.json"
    job_file.write_text(json.dumps(job))
    script = ["-m", "benchmarks.slab", "--alone"] if solver == OURS else [str(PEERS[solver])]
    # one number of threads for every library that reads one from the environment
    threads = {k: str(job["threads"]) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = os.environ | threads | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [python, *script, str(job_file), str(result_file)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"{solver} failed:\n{finished.stdout[-2000:]}{finished.stderr[-4000:]}")
    result = json.loads(result_file.read_text())
    clocks = {ms: (wall, cpu) for ms, wall, cpu in result.pop("clocks")}
    first, last = clocks[WARM_UP], clocks[job["t1"]]
    work = result["nodes"] * (job["t1"] - WARM_UP) / job["dt"]
    wall, cpu = last[0] - first[0], last[1] - first[1]
    return result | {
        "wall_s": wall,
        "cpu_s": cpu,
        "first_ms_s": first[0] - result.pop("began"),
        "node_steps_per_s": work / wall,
        # what as many undisturbed cores would give if the program kept them all busy
        "node_steps_per_cpu_s": work * job["threads"] / cpu,
    }


def _summary(runs: list[dict]) -> dict:
    """Medians over the runs; points and peak memory from the first, which is the longest."""
    timed = (
        "wall_s", "cpu_s", "first_ms_s", "setup_s", "compile_s", "node_steps_per_s",
        "node_steps_per_cpu_s",
    )  # fmt: skip
    medians = {
        key: statistics.median(run[key] for run in runs) if runs[0][key] is not None else None
        for key in timed
    }
    points = dict(zip(POINTS, runs[0]["activation_ms"], strict=True))
    kept = {key: runs[0][key] for key in ("nodes", "iterations", "versions", "peak_mib")}
    return (
        kept | medians | {"activation_ms": points, "runs": [{k: r[k] for k in timed} for r in runs]}
    )


def peer_versions(python: str | None) -> dict[str, str]:
    """Versions of the peers in another environment; a word about each that is not there."""
    hint = "How to make the environment of the peers: benchmarks/README.md."
    if python is None:
        print(f"no --peers-python given: ours runs alone. {hint}")
        return {}
    found = {}
    for name in PEERS:
        ask = f"from importlib.metadata import version; import {name}; print(version('{name}'))"
        try:
            answer = subprocess.run(
                [python, "-c", ask], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise SystemExit(f"--peers-python cannot be run: {error}. {hint}") from error
        if answer.returncode:
            reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
            print(f"{name} is missing from {python}: {reason}. {hint}")
        else:
            found[name] = answer.stdout.split()[-1]
    return found


def _progress(solver: str, repeat: int, run: dict) -> None:
    rate = run["node_steps_per_s"] / 1e6
    print(
        f"run {repeat + 1} {solver}: {run['wall_s']:.2f} s, {rate:.2f} M node-steps/s", flush=True
    )


def _print_table(entry: dict) -> None:
    chosen, solvers = entry["settings"], entry["solvers"]
    nodes = solvers[OURS]["nodes"]
    print(
        f"\nN-version slab, {chosen['dx']:g} mm ({nodes} nodes, {chosen['pattern']}), dt "
        f"{chosen['dt']:g} ms, {chosen['scheme']}{', multirate' if chosen['multirate'] else ''}, "
        f"{chosen['precision']}, {chosen['threads']} threads; {WARM_UP} to "
        f"{chosen['t1']} ms timed; load {entry['load'][0]} to {entry['load'][1]}"
    )
    rows = {
        "million node-steps/s": ("node_steps_per_s", 1e-6, ".2f"),
        "the same by CPU time": ("node_steps_per_cpu_s", 1e-6, ".2f"),
        "loop, s": ("wall_s", 1, ".2f"),
        "loop, CPU s": ("cpu_s", 1, ".2f"),
        "set-up, s": ("setup_s", 1, ".2f"),
        "compilation, s": ("compile_s", 1, ".2f"),
        "first ms, s": ("first_ms_s", 1, ".2f"),
        "iterations a step": ("iterations", 1, ".1f"),
        "peak memory, MiB": ("peak_mib", 1, ".0f"),
    }
    print(f"{'':24}" + "".join(f"{name:>12}" for name in solvers))
    for label, (key, factor, form) in rows.items():
        print(f"{label:24}" + "".join(_cell_text(s[key], factor, form) for s in solvers.values()))
    for point in POINTS:
        texts = (_cell_text(s["activation_ms"][point], 1, ".2f") for s in solvers.values())
        print(f"{point + ', ms':24}" + "".join(texts))
    for peer, ratio in entry["ratios"].items():
        print(
            f"ours over {peer}: {ratio['node_steps_per_s']:.2f} by the clock, "
            f"{ratio['node_steps_per_cpu_s']:.2f} by CPU time"
        )
    if max(x or 0.0 for x in entry["load"][:1]) > BUSY:
        print("The machine was busy with other work: by the clock these figures say little.")


def _cell_text(value: float | None, factor: float, form: str) -> str:
    return f"{'-' if value is None else format(value * factor, form):>12}"


if __name__ == "__main__":
    main()
