"""What lead fields and ECGs of activation times cost.

    python -m benchmarks.lead_fields

The lead field of the nine electrodes of the twelve leads and of a vest of 252, in a body of about
282,000 nodes with lungs and blood around the idealised heart, meshing, set-up and compilation
included; then a thousand ECGs of the QRS from activation times on about 12,000 nodes, compilation
left out. Seconds are by the clock and of the processor: where they differ much from each other,
something else used the cores.
"""

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._machine import BUSY, RESULTS, load, store

SIGMA = (0.17, 0.05, 0.05)  # mS/mm along fibre, sheet and normal
LIMITS = {"nine electrodes": 60.0, "vest of 252": 480.0, "1000 eikonal ECGs": 10.0}  # s, two cores


def main() -> None:
    args = _arguments()
    import jax

    jax.config.update("jax_enable_x64", True)
    entry: dict[str, Any] = {
        "settings": {"vest": not args.no_vest, "fine": args.fine, "coarse": args.coarse},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": [load()],
        "jax": jax.__version__,
        "rows": [*_fields(args), _eikonal()],
    }
    entry["load"].append(load())
    path = store(entry, args.output, "lead-fields")
    print("\n" + table(entry) + f"\n\nwritten: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lead_fields", description=__doc__)
    parser.add_argument("--no-vest", action="store_true", help="leave the 252 electrodes out")
    parser.add_argument("--fine", type=float, default=4.0, help="mm around the heart")
    parser.add_argument("--coarse", type=float, default=10.0, help="mm elsewhere")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def _fields(args: argparse.Namespace) -> list[dict[str, Any]]:
    from cardiotwin.anatomy.fibres import ldrb
    from cardiotwin.anatomy.idealised import biventricle
    from cardiotwin.ecg import TorsoConductor, vest

    heart = biventricle(2.5)
    fibres = ldrb(heart)
    frames = np.stack([fibres.fibre, fibres.sheet, fibres.normal], axis=1)
    sigma_i = np.einsum("k,eki,ekj->eij", SIGMA, frames, frames)
    conductor = TorsoConductor(fine=args.fine, coarse=args.coarse, keep=False)
    sets = {"nine electrodes": conductor.place_electrodes(heart)}
    if not args.no_vest:
        sets["vest of 252"] = vest(conductor.torso.around(heart))
    rows = []
    for name, electrodes in sets.items():
        found, clock, processor = _timed(
            lambda placed=electrodes: conductor.lead_field(heart, sigma_i, placed)
        )
        nodes = int(found.method.split(";")[1].split()[0])
        rows.append(_row(name, nodes, clock, processor))
    return rows


def _eikonal() -> dict[str, Any]:
    import equinox as eqx

    from cardiotwin.anatomy.idealised import biventricle
    from cardiotwin.ecg import EikonalECG, place_electrodes, twelve_leads, unbounded_lead_field

    heart = biventricle(3.25)
    sigma_i = np.broadcast_to(np.diag(SIGMA), (heart.elements, 3, 3))
    electrodes = place_electrodes(heart)
    field = unbounded_lead_field(heart, sigma_i, electrodes)
    model = EikonalECG(heart, twelve_leads(field.T, electrodes.names).T)
    # fronts in a thousand directions; what they are does not change the cost
    ways = np.random.default_rng(0).normal(size=(1000, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    times = ways @ (heart.points - heart.points.min(axis=0)).T
    times = (times - times.min(axis=1, keepdims=True)).astype(np.float32)
    instants = np.arange(150.0)
    batch = eqx.filter_jit(model.batch)
    batch(instants, times).block_until_ready()
    _, clock, processor = _timed(lambda: batch(instants, times).block_until_ready())
    return _row("1000 eikonal ECGs", heart.nodes, clock, processor)


def _row(name: str, nodes: int, clock: float, processor: float) -> dict[str, Any]:
    row = {"what": name, "nodes": nodes, "clock_s": clock, "processor_s": processor}
    print(row, flush=True)
    return row


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """A result, seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    found = work()
    return (
        found,
        round(time.perf_counter() - clock, 2),
        round(time.process_time() - processor, 2),
    )


def table(entry: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "| | nodes | clock, s | processor, s | limit, s |",
        "|---|---|---|---|---|",
    ]
    for row in entry["rows"]:
        limit = LIMITS[row["what"]]
        cells = (row["what"], f"{row['nodes']:,}", row["clock_s"], row["processor_s"], limit)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    busy = max((x for x in entry["load"] if x is not None), default=0.0)
    if busy > BUSY:
        lines.append(f"\nThe machine did other work (load up to {busy:g}): the clock says little.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
