"""How accurate is the solver, and at what cost? The N-version benchmark, at every resolution.

    python -m benchmarks.niederer --quick                # 0.5 and 0.2 mm, dt 0.05 ms: minutes
    python -m benchmarks.niederer                        # 0.5, 0.2, 0.1 mm, three dt: hours
    python -m benchmarks.niederer --reference            # 0.05 mm, dt 0.005 ms; can be resumed
    python -m benchmarks.niederer --peers-python PYTHON  # TorchCor and Finitewave besides
    python -m benchmarks.niederer --show                 # table and plots of what is stored

The problem of Niederer et al. 2011 (https://doi.org/10.1098/rsta.2011.0139): a slab of
20 x 7 x 3 mm with fibres along x, ten Tusscher-Panfilov 2006 epicardial cells, stimulated in a
corner cube of 1.5 mm. A node is activated when its voltage passes 0 mV. Nine points, the eight
corners and the centre, are compared with our own converged run, and P8, the corner that is reached
last, with the published consensus. The mesh is made three times: by Kuhn's tetrahedra, whose
diagonals all run from P1 to P8, by tetrahedra of alternating orientation, and unstructured. Every
run is a process of its own. Its cost is the processor time of the loop alone, over both cores and
scaled to 50 ms, which other work on the machine changes little.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import slab
from benchmarks._machine import RESULTS, ROOT, commit, cpus, processor

STORE = RESULTS / "niederer.json"
REFERENCE = RESULTS / "niederer-reference.json"
EDGES = (0.5, 0.2, 0.1)  # mm
TIME_STEPS = (0.05, 0.01, 0.005)  # ms
PATTERNS = ("kuhn", "alternating", "unstructured")
SCHEMES = ("corrected", "implicit", "explicit")
PEERS = {
    "torchcor": {"pattern": "kuhn"},
    "finitewave": {"pattern": "grid", "precision": "float64"},  # it has no other
}
LINE = 101  # points from P1 to P8
UNTIL = 150  # ms
MARKS = {
    "kuhn": ("o", "-"), "alternating": ("s", "--"), "unstructured": ("^", ":"), "grid": ("D", "-"),
}  # fmt: skip
CONSENSUS = (42.5, 43.0)  # ms, P8, of the codes of the paper at their finest
ROUNDS = 80  # of mending an unstructured mesh
FLATTEST = 0.3  # mean ratio of its worst tetrahedron
SPREAD = (37.8, 48.7)  # ms, P8, of the eleven codes at 0.1 mm and 0.005 ms


def main() -> None:
    args = _arguments()
    if args.alone:
        job, result = map(Path, args.alone)
        result.write_text(json.dumps(run_alone(json.loads(job.read_text()))))
        return
    if not args.show:
        for case in _cases(args):
            _do(case, args)
    _print_table(_stored())
    if REFERENCE.exists():
        for path in _plot(_stored(), args.figures):
            print(f"drawn: {path}")
    else:
        print("No converged run is stored; errors and plots need it (--reference).")


def run_alone(case: dict) -> dict:
    """One run of ours, in this process; the points, the line and what the loop took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, case["cpus"])
    import jax

    jax.config.update("jax_enable_x64", True)
    import cardiotwin as ct

    mesh = make_mesh(case["dx"], case["pattern"])
    problem = slab.problem(mesh)
    options = {"quiet_dt": case["quiet_dt"], "multirate": True} if case["quiet_dt"] else {}
    checkpoint = Path(case["checkpoint"]) if case.get("checkpoint") else None
    clocks: list[tuple[float, float]] = []  # simulated ms, processor s
    solution = ct.solve(
        problem,
        UNTIL,
        dt=case["dt"],
        scheme=slab.scheme(case["scheme"]),
        observe={"activation": ct.ActivationTime(threshold=slab.THRESHOLD)},
        precision=case["precision"],
        on_frame=_watch(case, clocks),
        initial=None if checkpoint is None else _load(checkpoint),
        on_checkpoint=None if checkpoint is None else lambda point: _save(checkpoint, point),
        checkpoint_seconds=300.0,
        **options,
    )
    activation = np.asarray(solution.observed["activation"], float)
    return {
        "points": dict(zip(slab.POINTS, _finite(at_points(mesh, activation)), strict=True)),
        "line": _finite(along_diagonal(mesh, activation)),
        "simulated_ms": float(solution.ts[-1]),
        "cpu_s": _scaled(clocks),
        "elements": len(mesh.cells),
        **{k: v for k, v in solution.stats.items() if isinstance(v, int | float | str)},
        "peak_mib": slab.peak_memory_mib(),
    }


def make_mesh(dx: float, pattern: str):
    """The slab, of one of the three kinds."""
    import cardiotwin as ct

    if pattern == "unstructured":
        return unstructured_slab(dx)
    return ct.slab(slab.SIZE, dx, pattern=pattern)


def unstructured_slab(dx: float, *, seed: int = 0):
    """Delaunay tetrahedra of a jittered lattice: no direction is preferred.

    Nodes move by up to a third of an edge, those of a face within it, those of a side along it;
    corners stay. Where that leaves a tetrahedron flatter than a mesh generator would, one of its
    nodes is moved anew, until there is none.
    """
    from scipy.spatial import Delaunay

    import cardiotwin as ct

    size = np.array(slab.SIZE)
    counts = np.round(size / dx).astype(int)
    axes = [np.linspace(0.0, s, n + 1) for s, n in zip(size, counts, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = (lattice > 1e-9) & (lattice < size - 1e-9)
    random = np.random.default_rng(seed)
    points = lattice + np.where(inside, random.uniform(-dx / 3, dx / 3, lattice.shape), 0.0)
    near = np.arange(len(lattice))  # nodes around which tetrahedra may be flat
    for _ in range(ROUNDS):
        around = _within(lattice, near, 3.5 * dx)  # their tetrahedra are those of all nodes
        cells = around[Delaunay(points[around]).simplices]
        corners = points[cells]
        volume = np.linalg.det(corners[:, 1:] - corners[:, :1]) / 6.0
        full = np.abs(volume) > 1e-9 * dx**3  # four nodes of one face make none
        flat = cells[full & (mean_ratio(corners, volume) < FLATTEST)]
        flat = flat[np.isin(flat, near).any(axis=1)]
        if flat.size:
            moved = np.unique(flat[np.arange(len(flat)), random.integers(0, 4, len(flat))])
            jitter = random.uniform(-dx / 3, dx / 3, (len(moved), 3))
            points[moved] = lattice[moved] + np.where(inside[moved], jitter, 0.0)
            near = _within(lattice, moved, 1.5 * dx)
        elif len(around) == len(points):
            break
        else:
            near = np.arange(len(lattice))  # none is left: look at all of them once more
    else:
        raise RuntimeError(f"{len(flat)} flat tetrahedra are left after {ROUNDS} rounds")
    cells[volume < 0] = cells[volume < 0][:, [0, 2, 1, 3]]
    cells = cells[full]
    fibre = np.tile([1.0, 0.0, 0.0], (len(cells), 1))
    sheet = np.tile([0.0, 1.0, 0.0], (len(cells), 1))
    return ct.Mesh(points, cells, cell_data={"fibre": fibre, "sheet": sheet})


def _within(lattice: np.ndarray, some: np.ndarray, radius: float) -> np.ndarray:
    """Numbers of the nodes no further than a radius from some."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(lattice[some]).query(lattice, distance_upper_bound=radius)
    return np.flatnonzero(distance < np.inf)


def mean_ratio(corners: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """Quality of tetrahedra from their corners [cells, 4, 3]: 1 where regular, 0 where flat."""
    edges = corners[:, [0, 0, 0, 1, 1, 2]] - corners[:, [1, 2, 3, 2, 3, 3]]
    return 12.0 * np.abs(3.0 * volume) ** (2 / 3) / (edges**2).sum(axis=(1, 2))


def at_points(mesh, values: np.ndarray) -> np.ndarray:
    """A value per node at the nine points, from the nearest node."""
    places = np.array(list(slab.POINTS.values())) * slab.SIZE
    return values[[np.linalg.norm(mesh.points - p, axis=1).argmin() for p in places]]


def along_diagonal(mesh, values: np.ndarray) -> np.ndarray:
    """A value per node at equal distances from P1 to P8, linear within the elements."""
    from scipy.spatial import cKDTree

    places = np.linspace(0.0, 1.0, LINE)[:, None] * np.array(slab.SIZE)
    centres = mesh.points[mesh.cells].mean(axis=1)
    _, near = cKDTree(centres).query(places, k=min(64, len(centres)))
    corners = mesh.points[mesh.cells[near]]  # [line, candidates, 4, 3]
    sides = np.swapaxes(corners[..., 1:, :] - corners[..., :1, :], -1, -2)
    local = np.linalg.solve(sides, (places[:, None] - corners[..., 0, :])[..., None])[..., 0]
    weights = np.concatenate([1.0 - local.sum(-1, keepdims=True), local], axis=-1)
    best = weights.min(axis=-1).argmax(axis=1)  # the element that holds the place
    rows = np.arange(LINE)
    return (weights[rows, best] * values[mesh.cells[near[rows, best]]]).sum(axis=1)


def errors(points: dict[str, float | None], reference: dict[str, float]) -> np.ndarray:
    """Relative errors at P2 to P9, infinite where a point is not reached.

    P1 lies in the stimulated corner and says nothing of the wave.
    """
    found = np.array([np.inf if points[p] is None else points[p] for p in slab.POINTS])
    return (found / np.array([reference[p] for p in slab.POINTS]) - 1.0)[1:]


COST_MS = 50.0  # that the cost is given for


def _scaled(clocks: list[tuple[float, float]]) -> float:
    """Processor seconds for `COST_MS`, from those between the second frame and the last."""
    (t0, begin), (t1, end) = clocks[1], clocks[-1]
    return COST_MS * (end - begin) / (t1 - t0)


def _watch(case: dict, clocks: list[tuple[float, float]]):
    def on_frame(frame) -> bool:
        share = float(frame.outputs["activation"])
        clocks.append((float(frame.t), time.process_time()))
        if case.get("verbose") and frame.step:
            print(f"{frame.t:g} ms: {100 * share:.1f} % activated", flush=True)
        return share >= 1.0

    return on_frame


def _save(path: Path, point) -> None:
    partial = path.with_suffix(".tmp.npz")
    np.savez(partial, *point.leaves, step=point.step)
    os.replace(partial, path)


def _load(path: Path):
    from cardiotwin.propagation.solve import Checkpoint

    if not path.exists():
        return None
    with np.load(path) as file:
        leaves = tuple(file[f"arr_{k}"] for k in range(len(file.files) - 1))
        return Checkpoint(int(file["step"]), leaves)


def _finite(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.niederer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="0.5 and 0.2 mm at dt 0.05 ms")
    parser.add_argument("--reference", action="store_true", help="the converged run, resumable")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--dx", type=float, nargs="+", default=None, help="edges, mm")
    parser.add_argument("--dt", type=float, nargs="+", default=None, help="time steps, ms")
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=PATTERNS)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES)
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--again", action="store_true", help="repeat what is stored already")
    parser.add_argument("--peers-python", help="Python of an environment that holds the peers")
    parser.add_argument("--figures", type=Path, default=RESULTS, help="folder for the plots")
    parser.add_argument("--alone", nargs=2, metavar=("JOB", "RESULT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ("dx", "dt"):
        if any(not value > 0 for value in getattr(args, name) or ()):
            parser.error(f"--{name}: give positive lengths and times")
    args.dx = args.dx or ((0.5, 0.2) if args.quick else EDGES)
    args.dt = args.dt or ((0.05,) if args.quick else TIME_STEPS)
    return args


def _cases(args: argparse.Namespace) -> list[dict]:
    """What is to be run, the cheap ones first."""
    common = {"precision": args.precision, "quiet_dt": slab.MULTIRATE["quiet_dt"]}
    if args.reference:
        return [
            {"solver": "cardiotwin", "scheme": "corrected", "pattern": "alternating", **common}
            | {"dx": 0.05, "dt": 0.005, "quiet_dt": 0.05}
        ]
    ours = [
        {"solver": "cardiotwin", "scheme": scheme, "pattern": pattern, "dx": dx, "dt": dt, **common}
        for dx in args.dx
        for dt in args.dt
        for pattern in args.patterns
        for scheme in args.schemes
    ]
    peers = [
        {"solver": peer, "scheme": "", "dx": dx, "dt": dt, **common, **what, "quiet_dt": None}
        for dx in args.dx
        for dt in args.dt
        for peer, what in PEERS.items()
        if args.peers_python
    ]
    return ours + peers


def _do(case: dict, args: argparse.Namespace) -> None:
    """Run a case that is not stored yet, and store it."""
    key = _key(case)
    if not args.again and any(_key(entry) == key for entry in _stored()):
        return
    print(f"{key} ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if case["solver"] == "cardiotwin":
            found = _run_ours(case, Path(folder), args)
        else:
            found = _run_peer(case, Path(folder), args.peers_python)
    found |= {"processor": processor(), "cores": len(cpus()), "commit": commit()}
    if args.reference:
        _write(REFERENCE, case | found)
    else:
        _write(STORE, [e for e in _stored() if _key(e) != key] + [case | found])
    points = " ".join("-" if t is None else f"{t:.2f}" for t in found["points"].values())
    print(f"    {points}   {found['cpu_s']:.1f} s", flush=True)


def _run_ours(case: dict, folder: Path, args: argparse.Namespace) -> dict:
    job = case | {"cpus": cpus(), "verbose": args.reference}
    if args.reference:
        job["checkpoint"] = str(RESULTS / "niederer-reference.checkpoint.npz")
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "benchmarks.niederer", "--alone"]
    command += [str(folder / name) for name in ("job.json", "result.json")]
    done = subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{_key(case)} failed:\n{done.stderr[-4000:]}")
    return json.loads((folder / "result.json").read_text())


def _run_peer(case: dict, folder: Path, python: str) -> dict:
    until = UNTIL if case["dx"] > 0.3 else 70  # ms, enough for the slowest of them
    chosen = argparse.Namespace(
        dx=case["dx"], dt=case["dt"], t1=until, precision=case["precision"], scheme="corrected",
        pattern="kuhn", multirate="off", x64="on", threads=len(cpus()),
    )  # fmt: skip
    versions = slab.peer_versions(python)
    job = slab.make_job(chosen, folder, versions) | {"until": until}
    found = slab.measure(case["solver"], job, folder, python)
    return {
        "points": dict(zip(slab.POINTS, found["activation_ms"], strict=True)),
        "cpu_s": COST_MS * found["cpu_s"] / (until - slab.WARM_UP),
        "simulated_ms": until,
        **{k: found[k] for k in ("nodes", "setup_s", "peak_mib", "versions")},
    }


def _key(case: dict) -> str:
    words = [case["solver"], case["scheme"], case["pattern"], case["precision"]]
    return " ".join(w for w in words if w) + f" dx {case['dx']:g} dt {case['dt']:g}"


def _stored() -> list[dict]:
    return json.loads(STORE.read_text()) if STORE.exists() else []


def _write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def _reference() -> dict | None:
    return json.loads(REFERENCE.read_text()) if REFERENCE.exists() else None


def _print_table(entries: list[dict]) -> None:
    reference = _reference()
    names = list(slab.POINTS)
    print("\nactivation times, ms; largest error over P2 to P9 against the converged run")
    print(f"{'':52}" + "".join(f"{n:>8}" for n in names) + f"{'error':>9}{'cost, s':>10}")
    if reference:
        print(_row("converged, dx 0.05 dt 0.005", reference, None))
    order = sorted(entries, key=lambda e: (-e["dx"], -e["dt"], e["solver"], e["scheme"]))
    for entry in order:
        print(_row(_key(entry), entry, reference))
    print(f"published: P8 converges to {CONSENSUS[0]} to {CONSENSUS[1]} ms; eleven codes at 0.1 mm "
          f"and 0.005 ms lie between {SPREAD[0]} and {SPREAD[1]} ms")  # fmt: skip


def _row(label: str, entry: dict, reference: dict | None) -> str:
    times = "".join(
        f"{'-' if t is None else format(t, '.2f'):>8}" for t in entry["points"].values()
    )
    error = ""
    if reference:
        worst = np.abs(errors(entry["points"], reference["points"])).max()
        error = f"{100 * worst:.1f} %" if np.isfinite(worst) else "not all"
    return f"{label:52}{times}{error:>9}{entry['cpu_s']:>10.1f}"


def _plot(entries: list[dict], folder: Path) -> list[Path]:
    """P1-P8 line, and error against time, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    reference = _reference()
    assert reference is not None
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(9.5, 5.0), layout="constrained")
    colours: dict[str, str] = {}
    for solver, scheme, pattern in dict.fromkeys(
        (e["solver"], e["scheme"], e["pattern"]) for e in entries
    ):
        shown = sorted(
            (e["cpu_s"], 100 * np.abs(errors(e["points"], reference["points"])).max(), e["dx"])
            for e in entries
            if (e["solver"], e["scheme"], e["pattern"], e["dt"]) == (solver, scheme, pattern, 0.05)
        )
        shown = [case for case in shown if np.isfinite(case[1])]
        if not shown:
            continue
        name = f"{solver} {scheme}".strip()
        colour = colours.setdefault(name, f"C{len(colours)}")
        costs, worst, _ = zip(*shown, strict=True)
        marker, style = MARKS[pattern]
        axes.loglog(costs, worst, style, marker=marker, color=colour, label=f"{name}, {pattern}")
        for cost, error, edge in shown:
            axes.annotate(f" {edge:g}", (cost, error), fontsize=7, color=colour)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("processor time of the loop for 50 ms, s")
    axes.set_ylabel("largest error of P2 to P9, %")
    axes.set_title("N-version slab, dt 0.05 ms, 2 cores; figures are the edges in mm")
    axes.grid(True, which="both", alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    cost = folder / "niederer-cost.png"
    figure.savefig(cost, dpi=130)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(7.5, 5.0), layout="constrained")
    distance = np.linspace(0.0, np.linalg.norm(slab.SIZE), LINE)
    lines = [e for e in entries if e.get("line") and e["dt"] == min(x["dt"] for x in entries)]
    for entry in sorted(lines, key=lambda e: e["dx"]):
        if entry["scheme"] == "corrected":
            values = [np.nan if t is None else t for t in entry["line"]]
            axes.plot(distance, values, lw=1, label=f"{entry['pattern']}, {entry['dx']:g} mm")
    axes.plot(distance, reference["line"], "k--", lw=1.5, label="converged, 0.05 mm")
    axes.axhspan(*SPREAD, xmin=0.97, color="0.8", label="P8 of eleven codes at 0.1 mm")
    axes.axhspan(*CONSENSUS, xmin=0.97, color="0.4", label="P8, consensus")
    axes.set_xlabel("distance from P1 to P8, mm")
    axes.set_ylabel("activation time, ms")
    axes.set_title("N-version slab: along the diagonal, corrected diffusion")
    axes.legend(fontsize=8)
    line = folder / "niederer-line.png"
    figure.savefig(line, dpi=130)
    plt.close(figure)
    return [cost, line]


if __name__ == "__main__":
    main()
