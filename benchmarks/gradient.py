"""What the gradient of a run costs beside the run: time, and memory against the number of steps.

A slab with the cell and the stimulus of the N-version benchmark; the gradient of the mean voltage
with respect to the conductivity of every element and to one ionic parameter. Forward run and
gradient take turns, and the shortest of each counts, since other work on the machine can only
lengthen them. Memory is that which the compiler reserves beside arguments and results.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._machine import BUSY, RESULTS, load, store

SIZE = (6.0, 3.0, 2.0)  # mm
DT = 0.05  # ms
FRAME = 1.0  # ms
ADJOINTS = ("checkpointed", "stored")


def main() -> None:
    args = _arguments()
    began = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "load": [load()]}
    problem, scheme = _problem(args)
    rows = [
        _row(problem, scheme, ms, adjoint, args)
        for ms in args.ms
        for adjoint in ADJOINTS
        if adjoint == "checkpointed" or ms <= args.stored_up_to
    ]
    import jax

    entry: dict[str, Any] = began | {
        "settings": {k: getattr(args, k) for k in ("precision", "scheme", "dx", "model", "ms")},
        "nodes": len(problem.mesh.points),
        "jax": jax.__version__,
        "rows": rows,
    }
    entry["load"].append(load())
    path = store(entry, args.output, "gradient")
    _print_table(entry)
    _draw(entry, path.with_suffix(".png"))
    print(f"\nwritten: {path} and its plot beside it")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradient", description=__doc__)
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--scheme", choices=("implicit", "explicit"), default="implicit")
    parser.add_argument("--model", choices=("ttp06", "ms"), default="ttp06")
    parser.add_argument("--dx", type=float, default=0.25, help="edge of the cubes, mm")
    parser.add_argument("--ms", type=int, nargs="+", default=[1, 4, 16, 64], help="lengths of runs")
    parser.add_argument("--stored-up-to", type=int, default=4, help="longest run that stores all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if min(args.ms) < 1 or args.repeats < 1:
        parser.error("--ms and --repeats are at least 1")
    return args


def _problem(args: argparse.Namespace):
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    import cardiotwin as ct

    mesh = ct.slab(SIZE, args.dx)
    tissue = ct.Tissue.by_region(mesh, ct.fibres_from_mesh(mesh), ct.Conductivity())
    cell = ct.TenTusscherPanfilov2006.epi() if args.model == "ttp06" else ct.MitchellSchaeffer()
    problem = ct.Monodomain(mesh, tissue, cell, ct.BoxStimulus())
    diffusion = ct.ExplicitDiffusion() if args.scheme == "explicit" else ct.ImplicitDiffusion()
    return problem, ct.Godunov(diffusion).frozen(problem, DT)


def _row(problem, scheme, ms: int, adjoint: str, args: argparse.Namespace) -> dict[str, Any]:
    """Forward run and gradient of one length: steps, seconds and bytes."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    import cardiotwin as ct

    name = "g_Na" if args.model == "ttp06" else "tau_in"
    method = ct.Stored() if adjoint == "stored" else ct.Checkpointed()

    def outcome(theta):
        tuning, parameter = theta
        made = eqx.tree_at(
            lambda p: (p.tissue.tuning, getattr(p.cell, name)), problem, (tuning, parameter)
        )
        solution = ct.solve(
            made,
            float(ms),
            dt=DT,
            every=FRAME,
            scheme=scheme,
            observe={"activation": ct.ActivationTime()},
            adjoint=method,
            precision=args.precision,
        )
        return solution.final.leaves[0].mean()

    theta = (
        jnp.ones(problem.tissue.tuning.shape, args.precision),
        jnp.asarray(getattr(problem.cell, name), args.precision),
    )
    programs = {
        "forward": jax.jit(outcome).lower(theta).compile(),
        "gradient": jax.jit(jax.value_and_grad(outcome)).lower(theta).compile(),
    }
    seconds: dict[str, list[float]] = {key: [] for key in programs}
    for _ in range(args.repeats + 1):
        for key, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(theta))
            seconds[key].append(time.perf_counter() - began)
    row: dict[str, Any] = {"adjoint": adjoint, "ms": ms, "steps": round(ms / DT)}
    for key, program in programs.items():
        row[f"{key}_s"] = min(seconds[key][1:])
        row[f"{key}_bytes"] = program.memory_analysis().temp_size_in_bytes
    row["ratio"] = row["gradient_s"] / row["forward_s"]
    print(f"{adjoint:>14} {row['steps']:>6} steps: {row['ratio']:.2f} runs", flush=True)
    return row


def _print_table(entry: dict[str, Any]) -> None:
    nodes, chosen = entry["nodes"], entry["settings"]
    print(
        f"\n{chosen['model']}, {chosen['scheme']}, {chosen['precision']}, {nodes} nodes, load "
        f"{entry['load'][0]} to {entry['load'][1]}\n\n"
        "| adjoint | steps | forward, s | gradient, s | ratio | forward, B/node "
        "| gradient, B/node |\n"
        "|---|---|---|---|---|---|---|"
    )
    for row in entry["rows"]:
        print(
            f"| {row['adjoint']} | {row['steps']} | {row['forward_s']:.2f} | "
            f"{row['gradient_s']:.2f} | {row['ratio']:.2f} | "
            f"{row['forward_bytes'] / nodes:.0f} | {row['gradient_bytes'] / nodes:.0f} |"
        )
    if max(x or 0.0 for x in entry["load"]) > BUSY:
        print("The machine was busy with other work: the times say less than the memory.")


def _draw(entry: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for adjoint, marker in zip(ADJOINTS, "os", strict=True):
        rows = [row for row in entry["rows"] if row["adjoint"] == adjoint]
        if not rows:
            continue
        steps = [row["steps"] for row in rows]
        per_node = [row["gradient_bytes"] / entry["nodes"] for row in rows]
        left.loglog(steps, per_node, marker=marker, label=adjoint)
        right.semilogx(steps, [row["ratio"] for row in rows], marker=marker, label=adjoint)
        if adjoint == "checkpointed":
            root = [per_node[-1] * (n / steps[-1]) ** 0.5 for n in steps]
            left.loglog(steps, root, "k:", label="square root of the steps")
    left.set(xlabel="time steps", ylabel="bytes a node", title="Memory of the gradient")
    right.axhline(5.0, color="k", linestyle=":", label="five runs")
    right.set(xlabel="time steps", ylabel="time over the forward run", ylim=(0, None), title="Time")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
