"""Reads XLA's own list of what a GPU executable runs (its thunk sequence), to check counts by.

The list is a debugging dump: one line a thunk, those of a loop or branch indented below it.
Unlike HLO it shows command buffers, CUDA graphs whose thunks are launched together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_THUNK = re.compile(r"^(\s*)\d+: k(\w+)")
_ROLE = re.compile(r"^\s*(condition|body|\w*branch\w*):$")
# Thunks that only order others. What an asynchronous start starts is listed inside it or after it.
CONTROL = {"While", "Conditional", "CommandBuffer", "Sequential", "AsyncStart", "AsyncDone"}


@dataclass
class Thunk:
    """One thunk: its kind, the part of its parent that it belongs to, and what it contains."""

    kind: str
    role: str
    inner: list["Thunk"] = field(default_factory=list)

    def part(self, role: str) -> list["Thunk"]:
        """The thunks of one part, such as the body of a loop."""
        return [thunk for thunk in self.inner if thunk.role == role]


def read(text: str) -> list[Thunk]:
    """Read a dump into a tree."""
    top: list[Thunk] = []
    above: list[tuple[int, Thunk]] = []
    heading = None
    for line in text.splitlines():
        if named := _ROLE.match(line):
            heading = named[1]
        elif found := _THUNK.match(line):
            depth, before = len(found[1]), None
            while above and above[-1][0] >= depth:
                before = above.pop()[1]
            role = heading if heading is not None else before.role if before else ""
            thunk, heading = Thunk(found[2], role), None
            (above[-1][1].inner if above else top).append(thunk)
            above.append((depth, thunk))
    return top


def walk(thunks: list[Thunk]) -> Iterator[Thunk]:
    """Every thunk in the order of the list, those inside others too."""
    for thunk in thunks:
        yield thunk
        yield from walk(thunk.inner)


def kernels(thunks: list[Thunk]) -> int:
    """Thunks that put work on the device, each counted once however often it runs."""
    return sum(thunk.kind not in CONTROL for thunk in walk(thunks))


def submissions(thunks: list[Thunk], trips: dict[int, int]) -> int:
    """How often the host submits work when a sequence runs once: a graph is one submission.

    Args:
        thunks: the sequence.
        trips: trip count of every loop, by `id` of its thunk.
    """
    total = 0
    for thunk in thunks:
        if thunk.kind == "While":
            total += trips[id(thunk)] * submissions(thunk.part("body"), trips)
        elif thunk.kind == "Conditional":
            roles = {inner.role for inner in thunk.inner}
            total += max((submissions(thunk.part(r), trips) for r in roles), default=0)
        elif thunk.kind in ("AsyncStart", "AsyncDone", "Sequential"):
            total += submissions(thunk.inner, trips)
        else:
            total += 1
    return total
