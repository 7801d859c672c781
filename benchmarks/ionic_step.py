"""Ionic steps: error against cost, of one cell and of a wave (python -m benchmarks.ionic_step).

Ten Tusscher-Panfilov, epicardial. One beat of a single cell beside a run of second order in steps
of a microsecond; a wave along a cable whose diffusion is exact in time, so that no other error in
time is left; and the time of one step, all kinds in turns, least of many.
"""

import argparse
from functools import partial
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from benchmarks._machine import commit, cpus, load, processor
from cardiotwin.ionic import TenTusscherPanfilov2006, action_potential_duration, single_cell
from cardiotwin.ionic.stepping import stepper

KINDS = ("rush_larsen", "grl1", "grl2")
TIME_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1)  # ms
FINE = 0.001  # ms
SPACING, DIFFUSIVITY, LENGTH = 0.1, 0.0953, 7.0  # mm, mm2/ms, mm
CELL = TenTusscherPanfilov2006.epi()


def beat(kind: str, dt: float):
    """One beat, at every tenth of a millisecond."""
    options = {"cycle_length": 480.0, "every": 0.1, "conserve_charge": False, "dtype": "float64"}
    return single_cell(CELL, dt=dt, ionic_step=kind, **options)


def cell_errors(kind: str, dt: float, exact: np.ndarray) -> tuple[float, float, float]:
    """Of the potential (relative, in L2), the peak (mV) and APD90 (ms)."""
    t, v = beat(kind, dt)
    if not np.isfinite(v).all():
        return (np.nan,) * 3
    durations = [action_potential_duration(t, x) for x in (v, exact)]
    return (
        float(np.linalg.norm(v - exact) / np.linalg.norm(exact)),
        float(v.max() - exact.max()),
        float(durations[0] - durations[1]),
    )


def velocity(kind: str, dt: float) -> float:
    """Velocity on the cable, mm/ms.

    That of a steady wave is the same for Godunov and Strang splitting: their steps are conjugate.
    """
    nodes = round(LENGTH / SPACING) + 1
    laplacian = np.diag(np.full(nodes, -2.0))
    laplacian += np.diag(np.ones(nodes - 1), 1) + np.diag(np.ones(nodes - 1), -1)
    laplacian[0, 1] = laplacian[-1, -2] = 2.0
    propagator = scipy.linalg.expm(dt * DIFFUSIVITY / SPACING**2 * laplacian)
    stimulus = np.where(np.arange(nodes) * SPACING < 1.0, 60.0, 0.0)
    times = np.asarray(_activation(kind, propagator, stimulus, dt, round(15 / dt)))
    near, far = round(0.4 * LENGTH / SPACING), round(0.8 * LENGTH / SPACING)
    return float((far - near) * SPACING / (times[far] - times[near]))


@partial(jax.jit, static_argnames="kind")
def _activation(kind, propagator, stimulus, dt, steps):
    def advance(i, carry):
        v, state, times = carry
        on = (i * dt < 1.0 - 1e-9) * stimulus
        new, state = stepper(kind)(CELL, propagator @ v, state, dt, on)
        crosses = jnp.isnan(times) & (new >= -20)
        return new, state, jnp.where(crosses, dt * (i + (-20 - v) / (new - v)), times)

    start = (*CELL.initial_arrays(len(stimulus)), jnp.full(len(stimulus), jnp.nan))
    return jax.lax.fori_loop(0, steps, advance, start)[2]


def step_times(dtype: str, nodes: int, rounds: int) -> dict[str, float]:
    """Nanoseconds a node and step, of every kind; the kinds take turns."""
    steps = 20
    v, state = CELL.initial_arrays(nodes, dtype=dtype)
    v = v + jnp.asarray(np.random.default_rng(0).uniform(-5, 5, nodes), dtype)
    programs = {}
    for kind in KINDS:

        def run(v, state, kind=kind):
            advance = partial(stepper(kind), CELL)
            return jax.lax.fori_loop(0, steps, lambda _, c: advance(*c, 0.05), (v, state))

        programs[kind] = jax.jit(run).lower(v, state).compile()
        jax.block_until_ready(programs[kind](v, state))
    least = dict.fromkeys(KINDS, np.inf)
    for _ in range(rounds):
        for kind, program in programs.items():
            begin = perf_counter()
            jax.block_until_ready(program(v, state))
            least[kind] = min(least[kind], perf_counter() - begin)
    return {kind: 1e9 * time / steps / nodes for kind, time in least.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20_000, help="cells of the timing")
    parser.add_argument("--rounds", type=int, default=20, help="turns of the timing")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"{processor()}, {len(cpus())} cores, load {load()}, jax {jax.__version__}, {commit()}")
    print("\n| ionic step | dt (ms) | error of V | peak (mV) | APD90 (ms) | velocity (mm/ms) |")
    print("|---|---|---|---|---|---|")
    _, exact = beat("grl2", FINE)
    for kind in KINDS:
        for dt in TIME_STEPS:
            error, peak, duration = cell_errors(kind, dt, exact)
            print(
                f"| {kind} | {dt:g} | {100 * error:.4f} % | {peak:+.3f} | {duration:+.3f} | "
                f"{velocity(kind, dt):.4f} |",
                flush=True,
            )
    print("\n| ns a node and step | " + " | ".join(KINDS) + " |")
    print("|---|" + "---|" * len(KINDS))
    for dtype in ("float32", "float64"):
        found = step_times(dtype, options.nodes, options.rounds)
        ratios = [f"{t:.0f} ({t / found[KINDS[0]]:.2f})" for t in found.values()]
        print(f"| {dtype} | " + " | ".join(ratios) + " |", flush=True)


if __name__ == "__main__":
    main()
