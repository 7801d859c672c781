"""How often the intervals of a calibration hold the truth.

    python -m benchmarks.interval_coverage --cases 100

Truths are drawn from the priors of a small heart with one root node in each ventricle: places,
onsets, start and velocities. Noise and model error are drawn as the loss believes them, and the
heart is fitted: a search over candidates, then descents. Intervals of 90 % should hold 85 to 95 %
of the truths. Where the fit ends in another minimum than the truth's, both kinds of interval miss
it; the table says in how many cases the cost at the truth is well below that of the fit.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._machine import RESULTS, load, store

LEVEL = 0.9
NOISE = (0.02, 0.05, 8.0)  # mV, share of the amplitude, ms


def main() -> None:
    args = _arguments()
    import jax

    jax.config.update("jax_enable_x64", True)
    beat = small_beat(args.edge)
    entry: dict[str, Any] = {
        "settings": {"cases": args.cases, "members": args.members, "edge": args.edge},
        "nodes": int(beat.heart.mesh.nodes),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [load()],
        "jax": jax.__version__,
        "rows": [],
    }
    for case in range(args.cases):
        began = time.perf_counter()
        row = one_case(beat, case, args.members) | {"seconds": time.perf_counter() - began}
        entry["rows"].append(row)
        print(
            f"case {case}: correlation {row['correlation']:.3f}, cost {row['cost']:.0f} against "
            f"{row['cost_at_truth']:.0f} at the truth, held {np.mean(row['laplace']):.2f}, "
            f"{row['seconds']:.0f} s",
            flush=True,
        )
    entry["load"].append(load())
    path = store(entry, args.output, "interval-coverage")
    print("\n" + table(entry) + f"\n\nwritten: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interval_coverage", description=__doc__
    )
    parser.add_argument("--cases", type=int, default=100, help="truths")
    parser.add_argument("--members", type=int, default=0, help="of the ensemble; 0 for none")
    parser.add_argument("--edge", type=float, default=3.5, help="mm; 3.5 makes about 2,000 nodes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def small_beat(edge: float) -> Any:
    """A heart of half the human size with one root node in each ventricle, and its twelve leads."""
    import jax.numpy as jnp

    from cardiotwin.anatomy.idealised import BiventricleShape, biventricle
    from cardiotwin.ecg import EikonalECG, place_electrodes, twelve_leads, unbounded_lead_field
    from cardiotwin.inference import EikonalBeat
    from cardiotwin.inference.roots import CANDIDATES
    from cardiotwin.twin import Anatomy, FastEndocardium, Myocardium, RuleBasedFibres
    from cardiotwin.twin.eikonal import EikonalHeart

    half = 0.5
    shape = BiventricleShape(
        (25.0 * half, 25.0 * half, 65.0 * half),
        7.0,
        (30.0 * half, 41.0 * half, 56.0 * half),
        30.0 * half,
        4.5,
        17.0 * half,
    )
    anatomy = Anatomy(biventricle(edge, shape=shape))
    fibres = RuleBasedFibres().on(anatomy)
    layers = Myocardium(endocardium=FastEndocardium(velocity=1.2)).layers(anatomy)
    heart = EikonalHeart.of(anatomy, fibres, layers, CANDIDATES[:2], curved=False)
    electrodes = place_electrodes(anatomy.mesh)
    axis = np.asarray(fibres.fibre)
    sigma = 0.05 * np.eye(3) + 0.12 * axis[:, :, None] * axis[:, None, :]
    field = np.asarray(unbounded_lead_field(anatomy.mesh, sigma, electrodes))
    ecg = EikonalECG(anatomy.mesh, twelve_leads(field.T, electrodes.names).T)
    times = jnp.arange(-20.0, 90.0, 2.0, dtype=jnp.float32)
    return EikonalBeat(heart.astype(jnp.float32), ecg, jnp.float32(0.0), None, times)


def one_case(beat: Any, case: int, members: int) -> dict[str, Any]:
    """Draw a truth, fit it, and say which intervals hold it."""
    import jax.numpy as jnp

    from cardiotwin.ecg.leads import LEAD_NAMES
    from cardiotwin.inference import Noise, Unknowns, Waveform, calibrate_qrs, ensemble, laplace
    from cardiotwin.inference.losses import amplitude
    from cardiotwin.inference.roots import qrs_parameters

    random = np.random.default_rng(1000 + case)
    free = qrs_parameters(beat)
    unknowns = Unknowns(beat, free)
    truth = random.standard_normal(unknowns.size)
    clean = np.asarray(unknowns.put(beat, jnp.asarray(truth))(), float)
    t_ms, noise = np.asarray(beat.t_ms, float), Noise(*NOISE)
    observed = clean + noise.sample(t_ms, amplitude(clean), len(LEAD_NAMES), seed=case)
    loss = Waveform(t_ms, observed, LEAD_NAMES, noise=noise)
    found = calibrate_qrs(
        beat, t_ms, observed, LEAD_NAMES, counts=[2], loss=loss, parameters=lambda _: free
    ).best
    exact = np.asarray(unknowns.flat(jnp.asarray(truth)))
    # root nodes have no order of their own: take the one that is nearer to the truth
    order = _order(found, unknowns, truth)
    near = laplace(found.objective, found.latent, draws=1000)
    row = {
        "correlation": found.correlation(),
        "cost": float(found.minima.costs[0]),
        "cost_at_truth": float(_matched(found, unknowns, truth, order)),
        "labels": unknowns.labels,
        "laplace": _held(near.interval(LEVEL), exact, order),
        "same_ventricles": bool(order is not None),
    }
    if members:
        drawn, _ = ensemble(found.objective, found.minima.latents[:1], members=members)
        row["ensemble"] = _held(drawn.interval(LEVEL), exact, order)
    return row


def _order(found: Any, unknowns: Any, truth: np.ndarray) -> list[int] | None:
    """Rows of the fit's parameters in the order of the truth's; None in other ventricles."""
    del truth
    which = np.asarray(found.model.roots.ventricle)
    rows = list(range(unknowns.size))
    if sorted(which.tolist()) != [0, 1]:
        return None
    if which[0] == 0:
        return rows
    # two places of two numbers, then two onsets, stand first
    return [2, 3, 0, 1, 5, 4, *rows[6:]]


def _matched(found: Any, unknowns: Any, truth: np.ndarray, order: list[int] | None) -> float:
    import jax.numpy as jnp

    if order is None:
        return float("nan")
    return float(found.objective.cost(jnp.asarray(truth[np.argsort(order)])))


def _held(interval: np.ndarray, exact: np.ndarray, order: list[int] | None) -> list[float]:
    if order is None:
        return [0.0] * len(exact)
    low, high = interval[:, order]
    return ((low <= exact) & (exact <= high)).astype(float).tolist()


def table(entry: dict[str, Any]) -> str:
    """Shares of the truths that the intervals hold, by parameter."""
    rows = entry["rows"]
    kinds = [kind for kind in ("laplace", "ensemble") if kind in rows[0]]
    held = {kind: np.array([row[kind] for row in rows]) for kind in kinds}
    lost = np.mean([not row["cost"] < row["cost_at_truth"] + 5.0 for row in rows])
    lines = [
        f"{len(rows)} cases on {entry['nodes']:,} nodes; median correlation "
        f"{np.median([row['correlation'] for row in rows]):.3f}; in {100 * lost:.0f} % of the "
        "cases the fit ended in another minimum",
        "",
        "| parameter | " + " | ".join(kinds) + " |",
        "|---" * (1 + len(kinds)) + "|",
    ]
    for k, label in enumerate(rows[0]["labels"]):
        shares = " | ".join(f"{100 * held[kind][:, k].mean():.0f} %" for kind in kinds)
        lines.append(f"| {label} | {shares} |")
    shares = " | ".join(f"{100 * held[kind].mean():.0f} %" for kind in kinds)
    lines.append(f"| all | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
