"""What eikonal times and their ECG cost, and what their gradient costs beside them.

An idealised heart with a fast endocardium and four root nodes; activation times, the twelve-lead
ECG of the QRS complex at every millisecond, and the gradient of a mean square of it with respect to
velocities, places and onsets, in float32. The programs take turns, and the shortest time of each
counts; where processor seconds exceed seconds, both cores worked, and where they fall short,
something else did.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import BUSY, RESULTS, load, store

LENGTH = 120  # ms


def main() -> None:
    args = _arguments()
    programs, theta, nodes = _programs(args)
    busy = [load()]
    best: dict[str, dict[str, float]] = {}
    for _ in range(args.repeats):
        for name, program in programs.items():
            found = _timed(program, theta)
            kept = best.setdefault(name, found)
            best[name] = {key: min(kept[key], found[key]) for key in found}
    busy.append(load())
    entry: dict[str, Any] = {"nodes": nodes, "edge_mm": args.edge, "load": busy, "rows": best}
    path = store(entry, args.output, "eikonal")
    print(f"\n{nodes} nodes, load {busy[0]} to {busy[1]}\n\n| | s | processor s |\n|---|---|---|")
    for name, row in best.items():
        print(f"| {name} | {row['seconds']:.3f} | {row['cpu_seconds']:.3f} |")
    if max(x or 0.0 for x in busy) > BUSY:
        print("The machine was busy with other work: the times are upper bounds.")
    print(f"\nwritten: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eikonal", description=__doc__)
    parser.add_argument("--edge", type=float, default=3.2, help="edge length of the heart, mm")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats is at least 1")
    return args


def _programs(args: argparse.Namespace) -> tuple[dict[str, Any], Any, int]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    heart, ecg = _parts(args.edge)
    t_ms = np.arange(LENGTH, dtype=np.float32)

    def free(heart):
        return heart.velocity, heart.roots.disc, heart.roots.depth, heart.roots.onset

    def times(theta, heart, ecg):
        return eqx.tree_at(free, heart, theta).times()

    def beat(theta, heart, ecg):
        return ecg(t_ms, times(theta, heart, ecg))

    def loss(theta, heart, ecg):
        return jnp.mean(beat(theta, heart, ecg) ** 2)

    programs = {}
    for name, function in (
        ("activation times", times),
        ("with the ECG", beat),
        ("with the gradient", jax.value_and_grad(loss)),
    ):
        compiled = jax.jit(function).lower(free(heart), heart, ecg).compile()
        programs[name] = lambda theta, compiled=compiled: compiled(theta, heart, ecg)
    return programs, free(heart), heart.mesh.nodes


def _parts(edge: float) -> tuple[Any, Any]:
    import numpy as np

    import cardiotwin as ct
    from cardiotwin.ecg.eikonal_ecg import EikonalECG
    from cardiotwin.ecg.leadfield import UnboundedConductor
    from cardiotwin.ecg.leads import twelve_leads
    from cardiotwin.tissue.places import VentricularSite
    from cardiotwin.twin import Anatomy, FastEndocardium, Myocardium
    from cardiotwin.twin.eikonal import EikonalHeart

    anatomy = Anatomy(ct.biventricle(edge))
    fibres = ct.ldrb(anatomy.mesh)
    muscle = Myocardium(endocardium=FastEndocardium())
    sites = [
        VentricularSite("lv", 0.45, 10.0, 0.05, 0.0),
        VentricularSite("lv", 0.65, 110.0, 0.05, 0.0),
        VentricularSite("lv", 0.35, 250.0, 0.05, 0.0),
        VentricularSite("rv", 0.25, 160.0, 0.05, 10.0),
    ]
    heart = EikonalHeart.of(anatomy, fibres, muscle.layers(anatomy), sites).astype(np.float32)
    conductor = UnboundedConductor()
    electrodes = conductor.place_electrodes(anatomy.mesh)
    sigma = muscle.on(anatomy, fibres).intracellular_tensor()
    field = conductor.lead_field(anatomy.mesh, sigma, electrodes)
    return heart, EikonalECG(anatomy.mesh, twelve_leads(field.field.T, field.names).T)


def _timed(program: Any, theta: Any) -> dict[str, float]:
    import jax

    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(theta))
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


if __name__ == "__main__":
    main()
