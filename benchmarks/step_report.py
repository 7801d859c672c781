"""What one time step of a compiled run costs on a GPU: launches, bytes, loops, transfers."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks import hlo_cost, thunks
from benchmarks.gpu_program import BANDWIDTH, Program
from benchmarks.hlo import Instruction

# name: (threshold, aim)
THRESHOLDS = {
    "kernels a step": (12, 6),
    "bytes a node and step": (800, 400),
    "loops without a known trip count": (0, 0),
    "host transfers a step": (0, 0),
    "scatters a step": (0, 0),
    "all-gathers a step": (0, 0),
}


@dataclass
class StepLoop:
    """A loop over time steps in a program: what it is, and how many steps one run of it takes."""

    instruction: Instruction
    steps: int
    quiet: bool

    @property
    def name(self) -> str:
        """For tables."""
        return "quiet step" if self.quiet else "step"


def step_loops(program: Program, steps: int, quiet_steps: int) -> list[StepLoop]:
    """Find the loops over time steps: those whose body is traced under the scope "step".

    Args:
        program: compiled from the loop of `solve`.
        steps: time steps that the loop of an ordinary frame takes.
        quiet_steps: the same of a quiet frame.

    Raises:
        ValueError: there is none, as where a frame has too few steps for a loop.
    """
    module, found = program.module, []
    for loop in hlo_cost.control(module, module.entry):
        if loop.opcode != "while":
            continue
        own = re.compile(re.escape(loop.op_name) + r"/body/(closed_call/)?step(/|$)")
        inside = module.walk(module.called(loop, "body"))
        if any(own.match(name) for i in inside for name in i.op_name.split(";")):
            # the branch of a quiet frame is the one taken where the predicate is true
            quiet = quiet_steps != steps and loop.op_name.endswith("cond/branch_1_fun/while")
            taken = quiet_steps if quiet else steps
            if loop.trips and taken % loop.trips:
                raise ValueError(
                    f"The loop over time steps at {loop.op_name} has {loop.trips} trips, which do "
                    f"not divide its {taken} steps; benchmarks/h100.py must follow solve's changes."
                )
            found.append(StepLoop(loop, taken, quiet))
    if not found:
        raise ValueError(
            "The program has no loop over time steps. A frame needs at least four: lengthen "
            "`every` or shorten dt."
        )
    return sorted(found, key=lambda loop: loop.quiet)


def describe_loop(program: Program, loop: StepLoop, nodes: float) -> dict[str, Any]:
    """Everything about one time step, per step (and per node where it says so)."""
    module = program.module
    body = hlo_cost.cost(module, module.called(loop.instruction, "body"))
    trips = loop.instruction.trips or 1
    step = body.scaled(trips / loop.steps)
    if loop.instruction.trips is None:
        step.findings[hlo_cost.UNKNOWN_LOOP] += 1
    return {
        "name": loop.name,
        "steps": loop.steps,
        "trips": loop.instruction.trips,
        "kernels": sum(step.launches.values()),
        "submissions": _submissions(program, loop) / loop.steps,
        "launches": _rounded(step.launches),
        "bytes": step.moved / nodes,
        "read": step.bytes["read"] / nodes,
        "written": step.bytes["written"] / nodes,
        "bytes_if_every_entry_is_fetched": (step.moved + step.bytes["regathered"]) / nodes,
        "findings": _rounded(step.findings),
        "collective_bytes": _rounded(step.collectives),
        "bandwidth_limit_us": step.moved / BANDWIDTH * 1e6,
    }


def describe_rest(
    program: Program, loops: list[StepLoop], nodes: float, *, whole: bool
) -> dict[str, Any]:
    """What a frame costs beside its loops over time steps: observables, checks, branches.

    Args:
        program: of one frame, or of the whole run.
        loops: over time steps.
        nodes: of one device.
        whole: whether it is the program of the whole run, whose outermost loop is over frames.
    """
    module = program.module
    names = frozenset(loop.instruction.name for loop in loops)
    home = module.entry
    if whole:
        outer = [
            loop
            for loop in hlo_cost.control(module, module.entry)
            if loop.opcode == "while"
            and names & {i.name for i in hlo_cost.control(module, module.called(loop, "body"))}
        ]
        home = module.called(outer[0], "body") if outer else home
    rest = hlo_cost.cost(module, home, leave_out=names)
    return {
        "kernels": sum(rest.launches.values()),
        "launches": _rounded(rest.launches),
        "bytes": rest.moved / nodes,
        "findings": _rounded(rest.findings),
    }


def all_loops(program: Program) -> list[dict[str, Any]]:
    """Every loop of the program and its trip count, None where it is unknown."""
    module = program.module
    return [
        {"where": re.sub(r"closed_call/|jit\(\w+\)/|_fun", "", i.op_name), "trips": i.trips}
        for i in hlo_cost.control(module, module.entry)
        if i.opcode == "while"
    ]


def check_count(program: Program) -> None:
    """Hold the launches counted from the HLO against XLA's own list of what it runs.

    Raises:
        ValueError: they differ, so the count is not to be believed.
    """
    counted, listed = hlo_cost.listed_kernels(program.module), thunks.kernels(program.listed)
    if counted != listed:
        raise ValueError(
            f"{counted} kernels were counted in the HLO, but XLA lists {listed} thunks. This "
            "version of jax launches something in another way than hlo_cost.py assumes."
        )


def verdicts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every threshold with the worst value of the step loops."""
    step = report["loops"]
    findings = [loop["findings"] for loop in step]
    values = {
        "kernels a step": max(loop["kernels"] for loop in step),
        "bytes a node and step": max(loop["bytes"] for loop in step),
        "loops without a known trip count": sum(
            loop["trips"] is None for loop in report["all_loops"]
        ),
        "host transfers a step": max(
            f.get(hlo_cost.HOST_TRANSFER, 0) + f.get(hlo_cost.CONDITIONAL, 0) for f in findings
        ),
        "scatters a step": max(f.get(hlo_cost.SCATTER, 0) for f in findings),
        "all-gathers a step": sum("all-gather" in loop["collective_bytes"] for loop in step),
    }
    if report["devices"] == 1:
        del values["all-gathers a step"]
    return [
        {
            "what": name,
            "value": round(value, 2),
            "threshold": THRESHOLDS[name][0],
            "aim": THRESHOLDS[name][1],
            "met": bool(value <= THRESHOLDS[name][0]),
        }
        for name, value in values.items()
    ]


def _submissions(program: Program, loop: StepLoop) -> float:
    """How often the host submits work in one run of a loop, a command buffer being one."""
    module = program.module
    loops = [i for i in hlo_cost.control(module, module.entry) if i.opcode == "while"]
    listed = [t for t in thunks.walk(program.buffered) if t.kind == "While"]
    trips = {id(t): i.trips or 1 for t, i in zip(listed, loops, strict=True)}
    where = [i.name for i in loops].index(loop.instruction.name)
    return thunks.submissions([listed[where]], trips)


def _rounded(counts: Counter) -> dict[str, float]:
    return {key: round(value, 3) for key, value in sorted(counts.items()) if value}
