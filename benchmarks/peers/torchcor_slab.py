"""The N-version slab in TorchCor 1.0.6: `python torchcor_slab.py job.json result.json`.

Runs in an environment of its own that holds torch and torchcor and need not hold cardiotwin. The
job names a folder with the slab in CARP files; `benchmarks/slab.py` writes both. TorchCor is used
as it comes: its matrices, its ionic model with look-up tables, its `step`, in the order in which
its `Monodomain.solve` calls them, and the tolerances of its README. Only the loop itself is here,
because `solve` offers no point between its steps from which to read a clock.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

# Attribute of TorchCor's ionic model -> name of the same variable in the job's initial state.
STATE_NAMES = {
    "Xr1": "Xr1", "Xr2": "Xr2", "Xs": "Xs", "M": "m", "H": "h", "J": "j", "D": "d", "F": "f",
    "F2": "f2", "FCaSS": "fCass", "S": "s", "R": "r", "R_": "R_prime", "CaSR": "Ca_SR",
    "CaSS": "Ca_ss", "Nai": "Na_i", "Ki": "K_i",
}  # fmt: skip
MICROMOLAR_PER_MILLIMOLAR = 1e3  # between steps TorchCor keeps Ca_i in uM, all else in mM
TOLERANCE = 1e-5  # absolute and relative, of its README
MOST_ITERATIONS = 100


def build(job: dict):
    """The simulator with mesh, stimulus, matrices and initial state, and the first potential."""
    import torch
    from torchcor.ionic import TenTusscherPanfilov
    from torchcor.simulator import Monodomain

    torch.set_num_threads(job["threads"])
    dt, dtype = job["dt"], getattr(torch, job["precision"])
    device = torch.device("cpu")
    ionic = TenTusscherPanfilov(cell_type="EPI", dt=dt, device=device, dtype=dtype)
    simulator = Monodomain([ionic], T=job["until"], dt=dt, device=device, dtype=dtype)
    simulator.load_mesh(job["mesh"], unit_conversion=1000)  # um to mm
    sigma = job["conductivity"]
    simulator.add_conductivity(None, il=sigma[0], it=sigma[1], el=sigma[2], et=sigma[3])
    # A step that ends at t gets the stimulus when t lies between start and start + duration, so
    # half a step of offset gives it to the same steps however t was rounded.
    simulator.add_stimulus(
        job["stimulus"]["nodes"],
        start=0.5 * dt,
        duration=job["stimulus"]["duration"],
        intensity=job["stimulus"]["amplitude"],
        period=2.0 * job["until"],
    )
    simulator.assemble()
    potential = ionic.initialize(simulator.n_nodes)
    potential.fill_(job["initial"]["V"])
    for theirs, ours in STATE_NAMES.items():
        getattr(ionic, theirs).fill_(job["initial"][ours])
    ionic.Cai.fill_(job["initial"]["Ca_i"] * MICROMOLAR_PER_MILLIMOLAR)
    simulator.cg.initialize(x=potential, linear_guess=True)
    return simulator, potential


def march(simulator, potential, job: dict) -> dict:
    """Run to the end; clocks once a millisecond, activation times of the probes every step."""
    dt, steps = job["dt"], round(1.0 / job["dt"])
    activation = [None] * len(job["probes"])
    before = potential[job["probes"]].tolist()
    clocks, iterations, t = [], 0, 0.0
    for step in range(1, round(job["until"] / dt) + 1):
        t += dt
        potential, count, *_ = simulator.step(potential, t, TOLERANCE, TOLERANCE, MOST_ITERATIONS)
        iterations += count
        if count >= MOST_ITERATIONS:
            raise RuntimeError(f"TorchCor's solver did not converge at {t:g} ms")
        now = potential[job["probes"]].tolist()
        for k, (old, new) in enumerate(zip(before, now, strict=True)):
            if activation[k] is None and old < job["threshold"] <= new:
                activation[k] = (step - 1 + (job["threshold"] - old) / (new - old)) * dt
        before = now
        if step % steps == 0:
            clocks.append((step // steps, time.perf_counter(), time.process_time()))
    return {"clocks": clocks, "activation_ms": activation, "iterations": iterations / step}


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # not what `resource` says: that may be the parent's
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main(job_file: str, result_file: str) -> None:
    """Read the job, run it, write the result."""
    job = json.loads(Path(job_file).read_text())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cpus"])
    import torch

    began = time.perf_counter()
    simulator, potential = build(job)
    ready = time.perf_counter()
    result = march(simulator, potential, job)
    result |= {
        "nodes": simulator.n_nodes,
        "setup_s": ready - began,
        "began": ready,
        "compile_s": None,  # inside the first steps, see `first_ms_s`
        "peak_mib": peak_memory_mib(),
        "versions": {"torch": torch.__version__, "torchcor": job["peer_versions"]["torchcor"]},
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
