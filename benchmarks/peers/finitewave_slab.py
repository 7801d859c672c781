"""The N-version slab in Finitewave 0.9.3: `python finitewave_slab.py job.json result.json`.

Runs in an environment of its own that holds finitewave and need not hold cardiotwin. Finitewave
solves on a regular grid by explicit finite differences; its points are the corners of the cubes of
our slab. Stencil, ionic kernel and the order of its `run` are its own; only the loop itself is
here, because `run` offers no point between its steps from which to read a clock.
"""

import json
import os
import sys
import time
from pathlib import Path

from torchcor_slab import peak_memory_mib

# Finitewave's variable -> name of the same variable in the job's initial state.
STATE_NAMES = {
    "u": "V", "cai": "Ca_i", "casr": "Ca_SR", "cass": "Ca_ss", "nai": "Na_i", "ki": "K_i",
    "m": "m", "h": "h", "j": "j", "xr1": "Xr1", "xr2": "Xr2", "xs": "Xs", "r": "r", "s": "s",
    "d": "d", "f": "f", "f2": "f2", "fcass": "fCass", "rr": "R_prime",
}  # fmt: skip


def build(job: dict):
    """The model, initialised, with its grid framed by a layer of empty cells."""
    import finitewave as fw
    import numpy as np

    counts = [round(length / job["dx"]) + 1 for length in job["size"]]
    tissue = fw.CardiacTissue3D([n + 2 for n in counts])
    tissue.fibers = np.zeros([n + 2 for n in counts] + [3])
    tissue.fibers[..., 0] = 1.0
    along, across = job["diffusivity"]
    corner = [int(job["corner"] / job["dx"] + 1e-9) + 2 for _ in range(3)]
    stimulus = job["stimulus"]
    sequence = fw.StimSequence()
    box = [bound for last in corner for bound in (1, last)]
    sequence.add_stim(fw.StimCurrentCoord(0.0, stimulus["amplitude"], stimulus["duration"], *box))
    model = fw.TenTusscherPanfilov2006()
    model.npfloat = job["precision"]
    model.dt, model.dr, model.t_max = job["dt"], job["dx"], job["until"]
    model.cardiac_tissue, model.stim_sequence, model.prog_bar = tissue, sequence, False
    model.D_model = along
    model.stencil = model.select_stencil(tissue)
    model.stencil.D_al, model.stencil.D_ac = 1.0, across / along
    model.initialize()
    for theirs, ours in STATE_NAMES.items():
        getattr(model, theirs)[...] = job["initial"][ours]
    model.u_new[...] = model.u
    return model, counts


def march(model, counts, job: dict) -> dict:
    """Run to the end; clocks once a millisecond, activation times of the probes every step."""
    import numpy as np

    dt, steps = job["dt"], round(1.0 / job["dt"])
    last = np.array(counts) - 1
    probes = [tuple(1 + np.round(np.multiply(place, last)).astype(int)) for place in job["places"]]
    activation = [None] * len(probes)
    before = [float(model.u[place]) for place in probes]
    clocks = []
    for step in range(1, round(job["until"] / dt) + 1):
        model.stim_sequence.stimulate_next()
        model.run_diffusion_kernel()
        model.run_ionic_kernel()
        model.t += dt
        model.step += 1
        model.u_new, model.u = model.u, model.u_new
        now = [float(model.u[place]) for place in probes]
        for k, (old, new) in enumerate(zip(before, now, strict=True)):
            if activation[k] is None and old < job["threshold"] <= new:
                activation[k] = (step - 1 + (job["threshold"] - old) / (new - old)) * dt
        before = now
        if step % steps == 0:
            clocks.append((step // steps, time.perf_counter(), time.process_time()))
    return {"clocks": clocks, "activation_ms": activation, "iterations": None}


def main(job_file: str, result_file: str) -> None:
    """Read the job, run it, write the result."""
    job = json.loads(Path(job_file).read_text())
    os.environ["NUMBA_NUM_THREADS"] = str(job["threads"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cpus"])
    from importlib.metadata import version

    began = time.perf_counter()
    model, counts = build(job)
    ready = time.perf_counter()
    result = march(model, counts, job)
    result |= {
        "nodes": counts[0] * counts[1] * counts[2],
        "setup_s": ready - began,
        "began": ready,
        "compile_s": None,  # inside the first steps, see `first_ms_s`
        "peak_mib": peak_memory_mib(),
        "versions": {name: version(name) for name in ("finitewave", "numba")},
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
