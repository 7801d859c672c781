"""What a compiled GPU program launches and moves, counted from its HLO.

One instruction outside a fusion is one launch: XLA gives every fusion, copy, fill, library call and
collective a kernel (or a memory copy) of its own. A kernel reads its operands and writes its result
once: of an operand that it only slices, the slices; of a result that it updates in place, the
update; of a vector that it gathers from, the vector once, as if the gathers that follow came from
the cache. `regathered` is what to add where every gathered entry is fetched anew.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.hlo import Computation, Instruction, Module

# No kernel: names for memory that is there already, and the ends of asynchronous operations.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier",
    "domain", "add-dependency", "copy-done", "async-update", "async-done", "all-gather-done",
    "all-reduce-done", "all-to-all-done", "collective-permute-done", "send-done", "recv-done",
}  # fmt: skip
FREE_CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "AllocateBuffer"}
COLLECTIVES = {
    "all-gather", "all-reduce", "all-to-all", "collective-permute", "collective-broadcast",
    "ragged-all-to-all", "reduce-scatter",
}  # fmt: skip
HOST = {"send", "recv", "infeed", "outfeed"}
HOST_SPACE = 5
# Names for the findings; the first three must not occur in a time step.
UNKNOWN_LOOP = "loop without a known trip count"
HOST_TRANSFER = "host transfer"
SCATTER = "scatter"
CONDITIONAL = "conditional (its predicate is read by the host)"
UPDATE = "dynamic-update-slice"
COMPUTED_GATHER = "gather from a value computed in the same kernel"
EVILS = (UNKNOWN_LOOP, HOST_TRANSFER, SCATTER)


@dataclass
class Cost:
    """Launches by kind, bytes by kind (read, written, regathered), collectives, findings."""

    launches: Counter = field(default_factory=Counter)
    bytes: Counter = field(default_factory=Counter)
    collectives: Counter = field(default_factory=Counter)  # bytes received by a device
    findings: Counter = field(default_factory=Counter)

    def add(self, other: "Cost", times: float = 1) -> None:
        """Add another cost, `times` over."""
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            for key, value in theirs.items():
                mine[key] += value * times

    def scaled(self, factor: float) -> "Cost":
        """This cost `factor` times over."""
        result = Cost()
        result.add(self, factor)
        return result

    @property
    def moved(self) -> float:
        """Bytes read and written, a gathered vector counted once."""
        return self.bytes["read"] + self.bytes["written"]

    def _counters(self) -> tuple[Any, ...]:
        return self.launches, self.bytes, self.collectives, self.findings


Pick = Callable[[Instruction, list[Cost]], Cost]


def costliest(_conditional: Instruction, branches: list[Cost]) -> Cost:
    """The branch that moves most bytes."""
    return max(branches, key=lambda cost: (cost.moved, sum(cost.launches.values())))


def cost(
    module: Module,
    computation: Computation,
    *,
    leave_out: frozenset[str] = frozenset(),
    branch: Pick = costliest,
) -> Cost:
    """Cost of running a computation once, the loops in it multiplied by their trip counts.

    Args:
        module: the program.
        computation: of the program.
        leave_out: names of instructions (such as loops counted elsewhere) that cost nothing.
        branch: chooses or mixes the costs of the branches of a conditional.
    """
    total = Cost()
    for instruction in computation.instructions.values():
        if instruction.name not in leave_out:
            total.add(_cost_of(module, computation, instruction, leave_out, branch))
    return total


def _cost_of(
    module: Module,
    home: Computation,
    instruction: Instruction,
    leave_out: frozenset[str],
    branch: Pick,
) -> Cost:
    opcode = instruction.opcode

    def inside(role: str) -> Cost:
        called = module.called(instruction, role)
        return cost(module, called, leave_out=leave_out, branch=branch)

    if opcode == "while":
        return _loop(instruction, inside)
    if opcode == "conditional":
        roles = sorted(role for role in instruction.callees if role.startswith("branch"))
        chosen = branch(instruction, [inside(role) for role in roles]).scaled(1)
        chosen.findings[CONDITIONAL] += 1
        return chosen
    if opcode == "call":
        return inside("to_apply")
    if opcode == "async-start":
        return inside("calls")
    if opcode in FREE or (opcode == "custom-call" and instruction.target in FREE_CALLS):
        return Cost()
    return _kernel(module, home, instruction)


def _loop(loop: Instruction, inside: Callable[[str], Cost]) -> Cost:
    total = Cost()
    # the host counts the trips where it knows their number; otherwise it asks the device each time
    total.add(inside("body"), 1 if loop.trips is None else loop.trips)
    if loop.trips is None:
        total.add(inside("condition"))
        total.findings[UNKNOWN_LOOP] += 1
    return total


def _kernel(module: Module, home: Computation, instruction: Instruction) -> Cost:
    """Cost of one launch."""
    result = Cost()
    fused = module.called(instruction, "calls") if instruction.opcode == "fusion" else None
    result.launches[_kind(home, instruction, fused)] += 1
    base = instruction.opcode.removesuffix("-start")
    if base in COLLECTIVES:
        result.collectives[base] += sum(array.bytes for array in _results(instruction))
    for inner in fused.instructions.values() if fused else [instruction]:
        result.findings[SCATTER] += inner.opcode in ("scatter", "select-and-scatter")
        result.findings[UPDATE] += inner.opcode == "dynamic-update-slice"
        result.findings[HOST_TRANSFER] += _touches_host(inner)
        result.findings[COMPUTED_GATHER] += fused is not None and _gathers_computed(fused, inner)
    result.findings = +result.findings
    for once, anew in _reads(home, instruction, fused):
        result.bytes["read"] += once
        result.bytes["regathered"] += anew - once
    result.bytes["written"] += _written(home, instruction, fused)
    return result


def _kind(home: Computation, instruction: Instruction, fused: Computation | None) -> str:
    opcode = instruction.opcode
    if opcode.removesuffix("-start") in COLLECTIVES:
        return "collective"
    if opcode in ("copy", "copy-start"):
        return "copy"
    if opcode == "custom-call":
        return "library call"
    sizes = [home.instructions[name].elements for name in instruction.operands]
    if max([*sizes, instruction.elements]) <= 1:
        return "scalar"
    root = fused.root if fused else instruction
    return "fill" if root.opcode == "broadcast" and max(sizes, default=0) <= 1 else "fusion"


def _touches_host(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    if opcode in HOST:
        return True
    if opcode == "custom-call":
        return "callback" in instruction.target or instruction.target.startswith("MoveTo")
    # parameters and tuples only name memory
    return opcode not in FREE and any(a.space == HOST_SPACE for a in instruction.arrays)


def _reads(home: Computation, instruction: Instruction, fused: Computation | None):
    """Bytes read from every operand: gathered vectors once, and anew for every entry."""
    if fused is None:
        for name in dict.fromkeys(instruction.operands):
            yield _read(home.instructions[name], [(instruction, name)])
        return
    for parameter in fused.parameters():
        yield _read(parameter, _uses(fused, parameter.name))


def _uses(fused: Computation, name: str) -> list[tuple[Instruction, str]]:
    """Who uses a value, looking through bitcasts, each with the name by which it does."""
    found = []
    for user in fused.users(name):
        found += _uses(fused, user.name) if user.opcode == "bitcast" else [(user, name)]
    return found


def _read(operand: Instruction, uses: list[tuple[Instruction, str]]) -> tuple[int, int]:
    size = max(array.bytes for array in operand.arrays) if operand.arrays else 0
    parts, gathered, whole = 0, 0, False
    for user, name in uses:
        first = user.operands[0] == name
        if first and user.opcode in ("slice", "dynamic-slice"):
            parts += user.bytes
        elif first and user.opcode == "gather":
            gathered += user.bytes
        elif not (first and user.opcode == "dynamic-update-slice"):
            whole = True
    apart = size if whole else min(size, parts)
    once = size if gathered else apart
    return once, max(once, apart + gathered)


def _written(home: Computation, instruction: Instruction, fused: Computation | None) -> int:
    if fused is None and instruction.opcode != "dynamic-update-slice":
        return sum(array.bytes for array in _results(instruction))
    body = fused or home
    root = fused.root if fused else instruction
    outputs = [body.instructions[n] for n in root.operands] if root.opcode == "tuple" else [root]
    return sum(_updated(body, output) for output in outputs)


def _updated(body: Computation, output: Instruction) -> int:
    while output.opcode == "bitcast":
        output = body.instructions[output.operands[0]]
    if output.opcode == "dynamic-update-slice":
        return body.instructions[output.operands[1]].bytes
    return output.bytes


def _results(instruction: Instruction):
    """Arrays an instruction makes; an asynchronous start also returns its operands and context."""
    inputs = len(instruction.operands)
    if instruction.opcode == "copy-start":
        return instruction.arrays[:1]
    if instruction.opcode in ("all-gather-start", "all-to-all-start", "collective-permute-start"):
        return instruction.arrays[inputs : 2 * inputs]
    return instruction.arrays


def _gathers_computed(fused: Computation, instruction: Instruction) -> bool:
    """Whether a gather reads what its own kernel computes: once again for every entry."""
    if instruction.opcode != "gather":
        return False
    source = fused.instructions[instruction.operands[0]]
    while source.opcode == "bitcast":
        source = fused.instructions[source.operands[0]]
    return source.opcode != "parameter"


def control(module: Module, computation: Computation) -> Iterator[Instruction]:
    """Instructions that the control flow reaches, in order; not those inside fusions."""
    for instruction in computation.instructions.values():
        yield instruction
        if instruction.opcode in ("while", "conditional", "call", "async-start"):
            for role in sorted(instruction.callees, key=lambda role: (role == "body", role)):
                yield from control(module, module.called(instruction, role))


def listed_kernels(module: Module) -> int:
    """Launching instructions of the program, each counted once however often it runs."""
    transparent = FREE | {"while", "conditional", "call", "async-start"}
    return sum(
        i.opcode not in transparent and not (i.opcode == "custom-call" and i.target in FREE_CALLS)
        for i in control(module, module.entry)
    )
