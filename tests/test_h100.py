"""The loop of `solve` compiled for an H100, where XLA's CUDA compiler is installed.

How to install it in an environment of its own: benchmarks/README.md. `.ci/run` does so.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_program

# where the compiler was installed for the purpose, a test that skips itself would prove nothing
pytestmark = pytest.mark.skipif(
    not gpu_program.available() and "CARDIOTWIN_NEEDS_H100" not in os.environ,
    reason="the CUDA plugin of jax is not installed",
)


@pytest.fixture(scope="module", params=["explicit", "corrected", "implicit"])
def report(request, tmp_path_factory) -> dict:
    """The slab at 0.5 mm; in a process of its own, because JAX must start on the CPU alone."""
    folder = tmp_path_factory.mktemp("h100")
    words = ["--case", "slab", "--dx", "0.5", "--scheme", request.param, "--output", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.h100", *words],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / f"h100-slab-{request.param}.md").read_text().startswith("# The slab")
    return json.loads((folder / f"h100-slab-{request.param}.json").read_text())


def test_no_step_asks_the_host_or_scatters(report):
    wrong = [v for v in report["verdicts"] if v["threshold"] == 0 and v["value"]]
    assert not wrong
    assert report["all_loops"]
    assert all(loop["trips"] for loop in report["all_loops"])


def test_every_part_of_the_run_is_in_the_program(report):
    (step,) = report["loops"]
    assert step["steps"] == 20  # 1 ms of 0.05 ms
    assert report["nodes"] == 41 * 15 * 7
    assert report["steps"] == 800
    # state in and out (17 floats of 4 bytes and 3 of 8), weights and columns of 14 neighbours
    least = 2 * (17 * 4 + 3 * 8) + 14 * 8
    assert step["bytes"] > least
    assert step["bytes_if_every_entry_is_fetched"] > step["bytes"] + 14 * 4 - 5
    # the frame's leads: nine rows of a lead field in float64
    assert report["frame"]["bytes"] > 9 * 8


# What is reached today. Fewer is better: lower these when they fall. Halves are launches once in
# two steps, which are one trip: 7 of them copy gates that the second step cannot write in place.
KERNELS = {"ExplicitDiffusion": 5.5, "CorrectedDiffusion": 6.5, "ImplicitDiffusion": 9.5}
BYTES = {"ExplicitDiffusion": 365, "CorrectedDiffusion": 619, "ImplicitDiffusion": 913}


def test_nothing_gathered_is_worked_out_anew_for_every_neighbour(report):
    assert "gather from a value computed in the same kernel" not in report["loops"][0]["findings"]


def test_launches_and_bytes_do_not_grow(report):
    (step,) = report["loops"]
    diffusion = report["scheme"].split(", ")[1]
    assert step["kernels"] <= KERNELS[diffusion]
    assert step["bytes"] <= BYTES[diffusion]


SOLVE = """
from benchmarks import gpu_program, hlo_cost
gpu_program.prepare()
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
from cardiotwin.anatomy.idealised import slab
from cardiotwin.ecg.volume_elements import COLUMNS, GPU_STEPS, ConductorMesh, VolumeElements
from cardiotwin.numerics import linear

box = slab((60.0, 60.0, 60.0), 4.0)
sigma = np.broadcast_to(0.2 * np.eye(3), (box.elements, 3, 3))
body = ConductorMesh(box.points, box.cells, sigma, np.zeros(box.elements, int))
solver = VolumeElements(body)._solver

def solve(solver, right, tolerance, most):
    values = jnp.zeros((0, COLUMNS))
    return linear._solve_jit(solver, solver.matrix, right, values, tolerance, most, GPU_STEPS)[0].x

arguments = (solver, jnp.zeros((box.nodes, COLUMNS)), jnp.asarray(1e-8), jnp.asarray(200))
program = gpu_program.compile_ahead(solve, arguments)
inside = list(program.module.walk(program.module.entry))
loops = [i for i in inside if i.opcode == "while"]
print(len(loops), [i.trips for i in loops])
bad = [i.opcode for i in inside if i.opcode in ("scatter", "conditional")]
print(bad + ["host" for i in inside if hlo_cost._touches_host(i)])
"""


def test_the_solve_of_a_lead_field_never_asks_the_host():
    done = subprocess.run(
        [sys.executable, "-c", SOLVE],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loops, wrong = done.stdout.strip().splitlines()[-2:]
    assert int(loops.split()[0]) > 0
    assert "None" not in loops  # every trip count is known
    assert wrong == "[]"
