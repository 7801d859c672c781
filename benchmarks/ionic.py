"""Cell-steps a second of every ionic model, and what a step costs in transcendental functions.

    python -m benchmarks.ionic

Many cells at once take Rush-Larsen steps of 0.02 ms, all cores, float32 and float64; models take
turns, and the shortest time of each counts, since other work on the machine can only lengthen it.
The functions are counted in the compiled program of one step in float32: a count above that of the
model's own text means that XLA works something out more than once. The yardstick is SciPy: one beat
of one cell by BDF at its default tolerance (1e-3), with the same rates, compiled.
"""

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks._machine import BUSY, RESULTS, cpus, load, processor, store

DT, BEAT = 0.02, 400.0  # ms
FUNCTIONS = ("exponential", "exponential-minus-one", "log", "log-plus-one", "tanh", "power", "sqrt")


def main() -> None:
    args = _arguments()
    import jax

    jax.config.update("jax_enable_x64", True)
    models = _models(args.models)
    entry: dict[str, Any] = {
        "settings": {"cells": args.cells, "dt": DT, "threads": len(cpus())},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [load()],
    }
    kinds = ("float32", "float64")
    rows = {name: {"functions": functions(model)} for name, model in models.items()}
    for kind in kinds:
        runs = {name: _run(model, args.cells, kind) for name, model in models.items()}
        best = dict.fromkeys(runs, np.inf)
        for _ in range(args.rounds):
            for name, run in runs.items():
                best[name] = min(best[name], run())
        for name, seconds in best.items():
            rows[name][kind] = args.cells / seconds
            print(
                f"{name:28} {kind}: {1e-6 * args.cells / seconds:8.2f} M cell-steps/s", flush=True
            )
    if args.scipy == "on":
        for name, model in models.items():
            rows[name]["scipy_beat_s"] = scipy_beat(model)
            rows[name]["our_beat_s"] = BEAT / DT / rows[name]["float64"]
    entry |= {"rows": rows}
    entry["load"].append(load())
    path = store(entry, args.output, "ionic")
    print("\n" + table(entry) + f"\n\nwritten: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ionic", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--models", nargs="*", help="names, as in configs/ionic; all if left out")
    parser.add_argument("--cells", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scipy", choices=("on", "off"), default="on")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.cells < 2 or args.rounds < 1:
        parser.error("--cells is at least 2, --rounds at least 1")
    return args


def _models(names: list[str] | None) -> dict[str, Any]:
    """One cell of each model, epicardial where there are types."""
    from cardiotwin.twin import MODELS, Cells

    unknown = set(names or ()) - MODELS.keys()
    if unknown:
        raise SystemExit(f"no model {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    return {name: Cells(name, uniform="epi").reference() for name in names or MODELS}


def _run(model: Any, cells: int, kind: str):
    """A function that takes some steps and gives the seconds of one."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from cardiotwin.ionic.stepping import rush_larsen

    steps = 10
    v, state = model.initial()
    model = model.under_way().astype(kind)
    v = jnp.full(cells, v, kind) + jnp.linspace(0.0, 60.0, cells, dtype=kind)
    state = model.State(*(jnp.full(cells, x, kind) for x in state))

    @eqx.filter_jit(donate="none")
    def go(model, v, state):
        def step(_, carry):
            return rush_larsen(model, *carry, DT)

        return jax.lax.fori_loop(0, steps, step, (v, state))

    jax.block_until_ready(go(model, v, state))

    def run() -> float:
        began = perf_counter()
        jax.block_until_ready(go(model, v, state))
        return (perf_counter() - began) / steps

    return run


def functions(model: Any) -> dict[str, int]:
    """Transcendental functions, roots and quotients in the compiled program of a step."""
    import jax
    import jax.numpy as jnp

    from cardiotwin.ionic.stepping import rush_larsen

    v, state = model.initial_arrays(4096, dtype=jnp.float32)
    model = model.astype(jnp.float32)
    text = jax.jit(rush_larsen).lower(model, v, state, jnp.float32(DT)).compile().as_text()
    found = {name: len(re.findall(rf" {name}\(", text)) for name in (*FUNCTIONS, "divide")}
    return {name: count for name, count in found.items() if count}


def scipy_beat(model: Any) -> float:
    """Seconds of one beat of one cell by SciPy's BDF, rates compiled beforehand."""
    import jax
    import jax.numpy as jnp
    from scipy.integrate import solve_ivp

    model64 = model.astype(jnp.float64)

    @jax.jit
    def rate(y, stimulus):
        i_ion, rates = model64(y[0], model64.State(*y[1:]))
        return jnp.stack([stimulus - i_ion, *(jnp.asarray(x) for x in rates)])

    v0, state0 = model.initial()
    start = np.array([v0, *state0], float)
    rate(start, 0.0)
    began, y = perf_counter(), start
    for begin, end, stimulus in ((0.0, 1.0, 52.0), (1.0, BEAT, 0.0)):
        done = solve_ivp(
            lambda _, y, s=stimulus: np.asarray(rate(y, s)), (begin, end), y, method="BDF"
        )
        y = done.y[:, -1]
    return perf_counter() - began


def table(entry: dict[str, Any]) -> str:
    """A Markdown table."""
    lines = [
        f"{processor()}, {entry['settings']['threads']} cores, load {entry['load'][0]} to "
        f"{entry['load'][1]}; {entry['settings']['cells']:,} cells, dt {DT} ms",
        "",
        "| model | variables | million cell-steps/s, float32 | float64 "
        "| functions a step | quotients | a beat by SciPy, over ours |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    models = _models(list(entry["rows"]))
    for name, row in entry["rows"].items():
        counts = dict(row["functions"])
        quotients = counts.pop("divide", 0)
        over = f"{row['scipy_beat_s'] / row['our_beat_s']:,.0f}" if "scipy_beat_s" in row else ""
        lines.append(
            f"| {name} | {1 + len(models[name].State._fields)} | {1e-6 * row['float32']:.1f} "
            f"| {1e-6 * row['float64']:.1f} | {sum(counts.values())} | {quotients} | {over} |"
        )
    if max(x or 0.0 for x in entry["load"][:1]) > BUSY:
        lines.append("\nThe machine was busy with other work: the times say less.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
