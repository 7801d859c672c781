"""From a file to a beat: every heart of the real data with one command, and what that takes.

    CARDIOTWIN_DATA=/path/to/data python -m benchmarks.hearts

Every row is a process of its own that does what a user does: it reads the file, names surfaces,
builds fibres, tunes the velocity on the mesh, solves a beat of 450 ms and writes figures, film and
report.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._machine import RESULTS, ROOT, load, store

MASK = "${oc.env:CARDIOTWIN_DATA}"
RODERO = f"{MASK}/rodero-heart-01/rodero_01_fullheart"
HEARTS = {
    "ct-labels, voxels": [
        "mesh=image_voxels", f"mesh.image={MASK}/ct-labels/wh.nii.gz", "mesh.spacing=1.5 mm",
    ],
    "ct-labels, tetrahedra": [
        "mesh=image", f"mesh.image={MASK}/ct-labels/wh.nii.gz", "mesh.edge_length=2 mm",
    ],
    "cobiveco-geo1": [
        "mesh=surface", f"mesh.path={MASK}/cobiveco-geo1/heart.vtp", "mesh.edge_length=2 mm",
    ],
    "rodero-heart-01, 2.0 mm": ["experiment=rodero"],
    "rodero-heart-01, 1.5 mm": [
        "experiment=rodero",
        f"mesh.path={RODERO}_1.5mm.vtu.gz", f"mesh.names={RODERO}_1.5mm.namemap.json",
    ],
    "crtdemo": [
        "mesh=file", f"mesh.path={MASK}/crtdemo/crtdemo_mesh_oriented.vtk",
        "mesh.edge_length=2.5 mm", f"leads.electrodes={MASK}/crtdemo/electrodes_mm.json",
    ],
}  # fmt: skip


def main() -> None:
    args = _arguments()
    if "CARDIOTWIN_DATA" not in os.environ:
        sys.exit("CARDIOTWIN_DATA is unset; it names the folder of the real hearts")
    entry = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "hearts": {}}
    for name in args.only or HEARTS:
        entry["hearts"][name] = row = run(HEARTS[name], args.output / name.replace(", ", "-"))
        print(f"{name}: {json.dumps(row)}", flush=True)
    print(table(entry["hearts"]))
    print(store(entry, RESULTS, "hearts"))


def run(overrides: list[str], folder: Path) -> dict:
    """One command; what it took and found."""
    command = [sys.executable, "-m", "cardiotwin", "simulate", *overrides]
    command += [f"output.folder={folder}", "output.overwrite=true"]
    before, began, busy = resource.getrusage(resource.RUSAGE_CHILDREN), time.time(), load()
    subprocess.run(command, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads((folder / "summary.json").read_text())
    timings, times = found["timings_s"], found["activation"]["all"]
    return {
        "nodes": found["mesh"]["nodes"],
        "elements": found["mesh"]["elements"],
        "wall_s": round(time.time() - began),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime),
        "solve_s": round(timings["solve"]),
        "memory_mib": round(found["solver"]["peak_memory_mib"]),
        "load_before": busy,
        "activated_share": times["activated_share"],
        "last_ms": round(times["last_ms"], 1),
        "qrs_ms": found["ecg"]["qrs_duration_ms"],
        "axis_deg": found["ecg"]["qrs_axis_deg"],
        "warnings": found["warnings"],
    }


def table(rows: dict[str, dict]) -> str:
    """Markdown."""
    lines = [
        "| heart | nodes | minutes | of processors | GiB | QRS, ms |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['nodes']:,} | {row['wall_s'] / 60:.1f} | {row['cpu_s'] / 60:.1f} "
        f"| {row['memory_mib'] / 1024:.1f} | {row['qrs_ms']:.0f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=HEARTS, help="these hearts alone")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/hearts"), help="folder of the runs"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
