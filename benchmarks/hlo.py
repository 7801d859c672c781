"""Reads the text of a compiled XLA program (HLO): computations, instructions, shapes, loops.

Only what counting needs is kept: names, opcodes, shapes, operands, called computations, trip
counts, custom-call targets and the JAX name of each instruction. The grammar is that of
`Compiled.as_text()`; https://openxla.org/xla/operation_semantics describes the operations.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
_ASSIGNMENT = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([^\]]*)\](\{[^}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_CALLEES = re.compile(
    r"\b(calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_NAMES = ("parameter", "constant", "iota")  # what stands in their parentheses is no operand
_BITS = {"pred": 8, "token": 0, "opaque": 0}


@dataclass(frozen=True)
class Array:
    """One array of a shape; `space` is XLA's memory space, 5 the host's."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def elements(self) -> int:
        """Number of entries."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Size, with entries of less than a byte packed."""
        return -(-self.elements * _bits(self.dtype) // 8)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]  # of the result, a tuple flattened
    operands: tuple[str, ...]
    attributes: str
    root: bool = False
    number: int | None = None  # of a parameter

    @property
    def bytes(self) -> int:
        """Size of the result."""
        return sum(array.bytes for array in self.arrays)

    @property
    def elements(self) -> int:
        """Entries of the result."""
        return sum(array.elements for array in self.arrays)

    @property
    def trips(self) -> int | None:
        """How often a loop runs, where the compiler knows."""
        found = _TRIPS.search(self.attributes)
        return int(found[1]) if found else None

    @property
    def op_name(self) -> str:
        """Where it comes from in the traced program; fused ones have several names by ';'."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @property
    def target(self) -> str:
        """What a custom call calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @property
    def callees(self) -> dict[str, str]:
        """Computations it calls, by role; the branches of a conditional are branch 0, 1, ..."""
        found = dict(_CALLEES.findall(self.attributes))
        if "true_computation" in found:
            ends = found.pop("false_computation"), found.pop("true_computation")
            found |= {f"branch {i}": name for i, name in enumerate(ends)}
        listed = _BRANCHES.search(self.attributes)
        if listed:
            names = [name.strip().lstrip("%") for name in listed[1].split(",") if name.strip()]
            found |= {f"branch {i}": name for i, name in enumerate(names)}
        return found


@dataclass
class Computation:
    """A function of the program; its instructions stand in the order in which they run."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    @property
    def root(self) -> Instruction:
        """The instruction whose value is returned."""
        return next(i for i in self.instructions.values() if i.root)

    def parameters(self) -> list[Instruction]:
        """Its parameters in order."""
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return sorted(found, key=lambda i: i.number or 0)

    def users(self, name: str) -> list[Instruction]:
        """Instructions that have `name` among their operands."""
        return [i for i in self.instructions.values() if name in i.operands]


@dataclass
class Module:
    """A whole program."""

    computations: dict[str, Computation]
    entry: Computation

    def called(self, instruction: Instruction, role: str) -> Computation:
        """The computation that an instruction calls in a role."""
        return self.computations[instruction.callees[role]]

    def walk(self, computation: Computation) -> Iterator[Instruction]:
        """Every instruction below a computation, in order; what is fused too."""
        for instruction in computation.instructions.values():
            yield instruction
            for name in instruction.callees.values():
                yield from self.walk(self.computations[name])


def parse(text: str) -> Module:
    """Read a program.

    Raises:
        ValueError: the text holds no entry computation, or a line that cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry = current = None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header and not line.startswith("HloModule"):
            current = computations[header[2]] = Computation(header[2])
            entry = current if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (assignment := _ASSIGNMENT.match(line)):
            instruction = _instruction(assignment[1], assignment[2], assignment[3], line)
            current.instructions[instruction.name] = instruction
    if entry is None:
        raise ValueError(
            "The text holds no ENTRY computation; give that of Compiled.as_text(), which begins "
            f"with HloModule (this one: {text[:40]!r})."
        )
    return Module(computations, entry)


def _instruction(root: str | None, name: str, rest: str, line: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    open_ = rest.find("(")
    close = _closing(rest, open_)
    if end <= 0 or open_ <= 0 or close < 0:
        raise ValueError(f"This line of the program cannot be read: {line.strip()[:120]!r}.")
    opcode, inside = rest[:open_], rest[open_ + 1 : close]
    operands = () if opcode in _NAMES else tuple(_operands(inside))
    return Instruction(
        name=name,
        opcode=opcode,
        arrays=tuple(_arrays(shape)),
        operands=operands,
        attributes=rest[close + 1 :],
        root=root is not None,
        number=int(inside) if opcode == "parameter" else None,
    )


def _arrays(shape: str) -> Iterator[Array]:
    for dtype, dims, layout in _ARRAY.findall(shape):
        space = _SPACE.search(layout)
        sizes = tuple(int(d) for d in re.findall(r"\d+", dims))
        yield Array(dtype, sizes, int(space[1]) if space else 0)


def _operands(inside: str) -> Iterator[str]:
    depth, start = 0, 0
    inside = re.sub(r"/\*.*?\*/", "", inside)
    for i, letter in enumerate(inside + ","):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            words = inside[start:i].split()
            start = i + 1
            if words:  # some dumps write the shape before the name
                yield words[-1].lstrip("%")


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`; -1 where there is none."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return -1


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    width = re.match(r"[a-z]+(\d+)", dtype)
    if width is None:
        raise ValueError(f"The program has an array of a type that is not known: {dtype!r}.")
    return int(width[1])
