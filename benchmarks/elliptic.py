"""Elliptic solves: iterations against the size of the mesh, and time beside SciPy with pyamg.

    python -m benchmarks.elliptic

Currents into some nodes and out of another, no given values, to a relative residual of 1e-8, on
three kinds of tissue: a block with a ball that conducts 20 times as well as the rest (acceptance
test 10), a block whose fibres turn by 120 degrees and conduct nine times as well along as across,
and the ventricles with the fibres of the default experiment. SciPy's conjugate gradients with
pyamg's V-cycle (`solve_laplace`) and ours take turns on the same matrix, and the shortest time of
each counts, since other work on the machine can only lengthen it. Compilation is what the first
call takes beyond the later ones, without JAX's cache of compiled programs.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._machine import BUSY, RESULTS, load, store

TOLERANCE = 1e-8
ALONG, ACROSS = 0.17, 0.019  # S/m
CASES = ("ball", "fibres", "heart")
SIZES = {"ball": (16, 32, 64), "fibres": (16, 32, 64), "heart": (3.0, 1.5, 0.85)}


def main() -> None:
    args = _arguments()
    import jax

    jax.config.update("jax_enable_x64", True)
    entry: dict[str, Any] = {
        "settings": {k: getattr(args, k) for k in ("case", "size", "columns")},
        "tolerance": TOLERANCE,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [load()],
        "jax": jax.__version__,
        "rows": [],
    }
    for case in args.case:
        for size in args.size or SIZES[case]:
            entry["rows"].append(row(case, size, args))
            print(_line(entry["rows"][-1]), flush=True)
    entry["load"].append(load())
    path = store(entry, args.output, "elliptic")
    print("\n" + table(entry) + f"\n\nwritten: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elliptic", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--size",
        type=float,
        nargs="+",
        help="cubes along a side of a block, or edge of the heart's mesh in mm; three by default",
    )
    parser.add_argument("--columns", type=int, default=8, help="right sides solved at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-host", action="store_true", help="leave SciPy out")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.columns < 1 or args.repeats < 1:
        parser.error("--columns and --repeats are at least 1")
    return args


def row(case: str, size: float, args: argparse.Namespace) -> dict[str, Any]:
    """Both solvers on one mesh."""
    pattern, off = _matrix(case, size)
    right = _right(pattern.nodes, args.columns)
    ours, solve = _ours(pattern, off, right)
    found: dict[str, Any] = {"case": case, "size": size, "nodes": pattern.nodes, "ours": ours}
    programs = {"ours": solve}
    if not args.no_host:
        found["host"], programs["host"] = _host(pattern, off, right)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(args.repeats):
        for name, program in programs.items():
            seconds[name].append(_timed(program))
    for name, taken in seconds.items():
        found[name]["solve_s"] = round(min(taken), 4)
        found[name]["per_column_s"] = round(min(taken) / args.columns, 4)
    if "first_s" in ours:
        ours["compile_s"] = round(ours.pop("first_s") - ours["solve_s"], 2)
    return found


def _matrix(case: str, size: float) -> tuple[Any, np.ndarray]:
    import cardiotwin as ct
    from cardiotwin.numerics.fem import edge_stiffness, p1_geometry
    from cardiotwin.numerics.rows import edge_sums, row_pattern

    mesh = ct.biventricle(size) if case == "heart" else ct.slab((1.0, 1.0, 1.0), 1.0 / size)
    centres = mesh.points[mesh.cells].mean(axis=1)
    if case == "ball":
        inside = np.linalg.norm(centres - [0.4, 0.5, 0.5], axis=1) < 0.25
        tensor = np.where(inside, 20.0, 1.0)[:, None, None] * np.eye(3)
    else:
        if case == "fibres":
            angle = np.deg2rad(120.0) * centres[:, 2]
            fibre = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
        else:
            fibre = ct.ldrb(mesh).fibre
        tensor = ACROSS * np.eye(3) + (ALONG - ACROSS) * fibre[:, :, None] * fibre[:, None, :]
    pattern = row_pattern(mesh.cells, len(mesh.points))
    geometry = p1_geometry(mesh.points, mesh.cells)
    return pattern, -edge_sums(pattern, edge_stiffness(tensor, *geometry))


def _right(nodes: int, columns: int) -> np.ndarray:
    """A unit current into one node of each column, out of one that all share."""
    right = np.zeros((nodes, columns))
    places = np.random.default_rng(0).choice(nodes, columns + 1, replace=False)
    right[places[1:], np.arange(columns)] = 1.0
    right[places[0]] = -1.0
    return right


def _ours(pattern, off, right):
    import jax

    from cardiotwin.numerics.linear import elliptic_solver

    began = time.perf_counter()
    solver = elliptic_solver(pattern, off)
    jax.block_until_ready(solver)
    found: dict[str, Any] = {"setup_s": round(time.perf_counter() - began, 3)}

    def solve():
        return jax.block_until_ready(solver.solve(right, tolerance=TOLERANCE))

    began = time.perf_counter()
    solution = solve()
    found["first_s"] = time.perf_counter() - began
    found["iterations"] = int(solution.iterations.max())
    found["residual"] = float(solution.residual.max())
    return found, solve


def _host(pattern, off, right):
    from scipy.sparse.linalg import cg

    from cardiotwin.numerics.chebyshev import sparse_matrix
    from cardiotwin.numerics.multigrid import smoothed_aggregation
    from cardiotwin.numerics.rows import row_sums

    matrix = sparse_matrix(pattern, off, -row_sums(pattern, off))
    began = time.perf_counter()
    cycle = smoothed_aggregation(matrix, 100).aspreconditioner()
    found: dict[str, Any] = {"setup_s": round(time.perf_counter() - began, 3), "iterations": 0}

    def solve():
        for column in right.T:
            counted: list[int] = []
            _, failed = cg(
                matrix,
                column,
                rtol=TOLERANCE,
                atol=0.0,
                maxiter=500,
                M=cycle,
                callback=lambda x, counted=counted: counted.append(1),
            )
            if failed:
                raise RuntimeError("SciPy's conjugate gradients did not converge")
            found["iterations"] = max(found["iterations"], len(counted))

    return found, solve


def _timed(program) -> float:
    began = time.perf_counter()
    program()
    return time.perf_counter() - began


def table(entry: dict[str, Any]) -> str:
    """A Markdown table, with a note where the machine was busy."""
    columns = entry["settings"]["columns"]
    lines = [
        f"{columns} right sides at once, to {TOLERANCE:g}; seconds",
        "",
        "| case | size | nodes | iterations | set-up | compile | a right side "
        "| iterations, SciPy | set-up | a right side | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *map(_line, entry["rows"]),
    ]
    if any(x is not None and x > BUSY for x in entry["load"][:1]):
        lines += ["", f"The machine was busy (load {entry['load'][0]}): read the ratios."]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ours, host = row["ours"], row.get("host")
    cells = [row["case"], f"{row['size']:g}", f"{row['nodes']:,}", ours["iterations"]]
    cells += [f"{ours['setup_s']:.2f}", f"{ours['compile_s']:.1f}", f"{ours['per_column_s']:.3f}"]
    if host:
        cells += [host["iterations"], f"{host['setup_s']:.2f}", f"{host['per_column_s']:.3f}"]
        cells.append(f"{host['per_column_s'] / ours['per_column_s']:.1f}")
    else:
        cells += [""] * 4
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
