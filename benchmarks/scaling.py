"""Does the cost grow linearly? Time of a step and memory of a node, against the number of nodes.

    python -m benchmarks.scaling --sizes 4000 16000 64000 250000 1000000 4000000

Slabs of the proportions of the N-version benchmark, with its spacing of 0.2 mm, its cell and its
stimulus, from some thousand nodes to some million. Every size is a process of its own. After a
frame that warms up, frames are timed until `--seconds` have passed, and the shortest counts, since
other work on the machine can only lengthen it; compilation and set-up are apart.

Memory is given three times: what the compiled program holds (arguments, results and its scratch
space), what the process holds beyond its libraries while it steps, and the most it ever held, which
is while the matrices are assembled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import slab
from benchmarks._machine import BUSY, RESULTS, ROOT, cpus, load, store
from benchmarks.peers.torchcor_slab import peak_memory_mib

SIZES = (4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000)
DX, DT = 0.2, 0.05  # mm, ms
T1 = 40.0  # ms; the clock ends a run before
MOST_BYTES = 600  # a node, what the program may hold in float32
MIB = 2**20


def main() -> None:
    args = _arguments()
    if args.alone:
        job, result = map(Path, args.alone)
        result.write_text(json.dumps(measure(json.loads(job.read_text()))))
        return
    entry: dict[str, Any] = {
        "settings": {k: getattr(args, k) for k in ("precision", "scheme", "multirate", "threads")},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [load()],
        "rows": [],
    }
    for nodes in sorted(args.sizes):
        job = entry["settings"] | {"nodes": nodes, "seconds": args.seconds}
        entry["rows"].append(_alone(job) | {"load": load()})
        print(_line(entry["rows"][-1]), flush=True)
    entry["load"].append(load())
    entry["slope"] = slope(entry["rows"]) if len(args.sizes) > 1 else None
    path = store(entry, args.output, "scaling")
    print("\n" + table(entry))
    draw(entry, path.with_suffix(".png"))
    print(f"\nwritten: {path} and its plot beside it")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="about so many nodes")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--scheme", choices=slab.SCHEMES, default="explicit")
    parser.add_argument(
        "--multirate", choices=("on", "off"), default="off", help="short steps only at the wave"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of timed frames, each size")
    parser.add_argument("--threads", type=int, default=len(cpus()))
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--alone", nargs=2, metavar=("JOB", "RESULT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.sizes) < 100 or not 1 <= args.threads <= len(cpus()):
        parser.error(f"--sizes are at least 100, --threads 1 to {len(cpus())}")
    return args


def _alone(job: dict[str, Any]) -> dict[str, Any]:
    """One size in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("job.json", "result.json")]
        files[0].write_text(json.dumps(job))
        words = [sys.executable, "-m", "benchmarks.scaling", "--alone", *map(str, files)]
        finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise SystemExit(f"{job['nodes']} nodes failed:\n{finished.stderr[-4000:]}")
        return json.loads(files[1].read_text())


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Run one size in this process: seconds of a step, and bytes of a node.

    Args:
        job: about how many `nodes`, `precision`, `scheme`, `multirate` ("on" or "off"), `threads`,
            and the `seconds` to time.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus()[: job["threads"]])
    import jax

    jax.config.update("jax_enable_x64", True)
    import cardiotwin as ct

    before = peak_memory_mib() or 0.0
    mesh = ct.slab(box(job["nodes"]), DX)
    divided = job["multirate"] == "on"
    every = 1.0 if divided else 0.25  # a frame of a million nodes takes seconds
    clocks: list[float] = []

    def look(frame) -> bool:
        jax.block_until_ready(frame.v)
        clocks.append(time.perf_counter())
        # from the second on, the first being warm-up
        return len(clocks) > 4 and clocks[-1] - clocks[2] > job["seconds"]

    solution = ct.solve(
        slab.problem(mesh),
        T1,
        dt=DT,
        every=every,
        scheme=slab.scheme(job["scheme"]),
        **(slab.MULTIRATE if divided else {}),
        observe={"activation": ct.ActivationTime(threshold=slab.THRESHOLD)},
        precision=job["precision"],
        on_frame=look,
    )
    nodes = solution.stats["nodes"]
    taken = np.diff(clocks)[1:]
    return {
        "nodes": nodes,
        "step_s": float(taken.min()) * DT / every,
        "median_step_s": float(np.median(taken)) * DT / every,
        "frames": len(taken),
        "setup_s": solution.stats["setup_s"],
        "compile_s": solution.stats["compile_s"],
        "bytes": {
            "program": solution.stats["device_memory_mib"] * MIB / nodes,
            "resident": (resident_mib() - before) * MIB / nodes,
            "peak": ((peak_memory_mib() or 0.0) - before) * MIB / nodes,
        },
    }


def box(nodes: int) -> tuple[float, float, float]:
    """Sides (mm) of a slab of the usual proportions with about so many nodes."""
    cubes = np.array(slab.SIZE) / DX
    scale = np.cbrt(nodes / cubes.prod())
    for _ in range(50):  # the nodes of a grid are one more than its cubes along every side
        scale *= np.cbrt(nodes / (scale * cubes + 1).prod())
    x, y, z = np.maximum(np.round(scale * cubes), 1) * DX
    return float(x), float(y), float(z)


def resident_mib() -> float:
    """Memory this process holds now; its peak where the system does not say."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return peak_memory_mib() or 0.0
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def slope(rows: list[dict[str, Any]]) -> float:
    """Exponent of the number of nodes in the time of a step, fitted to all rows."""
    nodes, seconds = (np.log([row[key] for row in rows]) for key in ("nodes", "step_s"))
    return float(np.polyfit(nodes, seconds, 1)[0])


def table(entry: dict[str, Any]) -> str:
    """A Markdown table, the slope and the memory in one line, and a note on a busy machine."""
    chosen, rows = entry["settings"], entry["rows"]
    divided = ", multirate" if chosen["multirate"] == "on" else ""
    lines = [
        f"TTP06, {chosen['scheme']}{divided}, {chosen['precision']}, {chosen['threads']} threads",
        "",
        "| nodes | a step, ms | a node and step, ns | set-up, s | compile, s "
        "| program, B/node | resident, B/node | peak, B/node |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        *map(_line, rows),
        "",
    ]
    if entry["slope"] is not None:
        held = rows[-1]["bytes"]["program"]
        lines.append(f"slope {entry['slope']:.2f}, memory {held:.0f} B/node (at most {MOST_BYTES})")
    if max(x or 0.0 for x in entry["load"][:1]) > BUSY:
        lines.append(f"The machine was busy (load {entry['load'][0]}): times may be longer.")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    held = row["bytes"]
    cells = [f"{row['nodes']:,}", f"{1e3 * row['step_s']:.3g}"]
    cells += [f"{1e9 * row['step_s'] / row['nodes']:.1f}"]
    cells += [f"{row['setup_s']:.1f}", f"{row['compile_s']:.1f}"]
    cells += [f"{held[key]:,.0f}" for key in ("program", "resident", "peak")]
    return "| " + " | ".join(cells) + " |"


def draw(entry: dict[str, Any], path: Path) -> None:
    """Time of a step and memory of a node against the nodes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = entry["rows"]
    nodes = np.array([row["nodes"] for row in rows])
    steps = np.array([row["step_s"] for row in rows])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.loglog(nodes, steps, "o")
    if entry["slope"] is not None:
        middle = np.exp(np.log(nodes).mean()), np.exp(np.log(steps).mean())
        fit = middle[1] * (nodes / middle[0]) ** entry["slope"]
        left.loglog(nodes, fit, "k:", label=f"slope {entry['slope']:.2f}")
        left.legend()
    left.set(xlabel="nodes", ylabel="s", title="Time of a step")
    for key, label in (("program", "compiled program"), ("resident", "process, stepping")):
        right.loglog(nodes, [row["bytes"][key] for row in rows], "o-", label=label)
    right.axhline(MOST_BYTES, color="k", linestyle=":", label=f"{MOST_BYTES} bytes")
    right.set(xlabel="nodes", ylabel="bytes a node", title="Memory")
    right.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
