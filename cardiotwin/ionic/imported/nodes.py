"""Formulas as graphs: what a file's equations become before they are evaluated.

A formula is a `Node`: an operation and its arguments. Equal formulas are one object, so a
subexpression that several equations use is stored, and evaluated, once. The small functions that
make nodes (`add`, `mul`, ...) work out what is known already: numbers among themselves, products
with 0 and 1.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

POTENTIAL = "V"  # name of the potential among the leaves; it is in the file's unit there


class Node:
    """A formula: `op` and `args`, which are nodes, or a value where `op` is number or name."""

    __slots__ = ("__weakref__", "args", "op")
    op: str
    args: tuple[Any, ...]

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.args))
        return inner if self.op in ("number", "name") else f"{self.op}({inner})"


_KNOWN: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "pow": operator.pow, "neg": operator.neg, "exp": math.exp, "log": math.log, "sqrt": math.sqrt,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos,
    "atan": math.atan, "floor": math.floor, "ceil": math.ceil, "abs": abs,
    "quotient": operator.floordiv, "remainder": operator.mod,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "and": lambda a, b: bool(a and b),
    "or": lambda a, b: bool(a or b), "not": operator.not_,
}  # fmt: skip


def make(op: str, *args: Any) -> Node:
    """The one node of this operation and these arguments."""
    key = (op, *(id(a) if isinstance(a, Node) else a for a in args))
    node = _KNOWN.get(key)
    if node is None:
        node = Node()
        node.op, node.args = op, args
        _KNOWN[key] = node
    return node


def number(value: float) -> Node:
    """A constant; conditions that are known are the numbers 0 and 1."""
    value = float(value)
    return make("number", value, math.copysign(1.0, value))  # 0.0 and -0.0 are equal keys


def name(text: str) -> Node:
    """A variable from outside: the potential, a state variable or a parameter."""
    return make("name", text)


def value_of(node: Node) -> float | None:
    """The number that a node is, or None."""
    return node.args[0] if node.op == "number" else None


def apply(op: str, *args: Node) -> Node:
    """An operation on nodes, simplified where that changes no value."""
    simple = {
        "add": add,
        "sub": sub,
        "mul": mul,
        "div": div,
        "neg": neg,
        "if": choose,
        "pow": power,
    }
    if op in simple:
        return simple[op](*args)
    if op in ("and", "or"):
        return _logical(op, *args)
    return _folded(op, *args)


def _folded(op: str, *args: Node) -> Node:
    values = [value_of(a) for a in args]
    if op in _FUNCTIONS and all(v is not None for v in values):
        try:
            found = _FUNCTIONS[op](*values)
        except (ArithmeticError, ValueError):
            return make(op, *args)
        if isinstance(found, (bool, int, float)) and math.isfinite(found):
            return number(found)
    return make(op, *args)


def add(a: Node, b: Node) -> Node:
    """The sum."""
    if value_of(a) == 0.0:
        return b
    if value_of(b) == 0.0:
        return a
    return sub(a, b.args[0]) if b.op == "neg" else _folded("add", a, b)


def sub(a: Node, b: Node) -> Node:
    """The difference."""
    if value_of(b) == 0.0:
        return a
    if value_of(a) == 0.0:
        return neg(b)
    return add(a, b.args[0]) if b.op == "neg" else _folded("sub", a, b)


def mul(a: Node, b: Node) -> Node:
    """The product."""
    for x, y in ((a, b), (b, a)):
        if value_of(x) == 0.0:
            return number(0.0)
        if value_of(x) == 1.0:
            return y
        if value_of(x) == -1.0:
            return neg(y)
    return _folded("mul", a, b)


def div(a: Node, b: Node) -> Node:
    """The quotient; division by a number becomes multiplication by its reciprocal."""
    below = value_of(b)
    if value_of(a) == 0.0 and below != 0.0:
        return number(0.0)
    if below in (1.0, -1.0):
        return a if below == 1.0 else neg(a)
    if below is not None and math.isfinite(below) and abs(below) > 1e-300:
        return mul(a, number(1.0 / below))
    return _folded("div", a, b)


def neg(a: Node) -> Node:
    """The negative."""
    return a.args[0] if a.op == "neg" else _folded("neg", a)


def power(a: Node, b: Node) -> Node:
    """A to the b; e to the b as an exponential."""
    exponent = value_of(b)
    if exponent == 1.0:
        return a
    if exponent == 0.0:
        return number(1.0)
    if exponent == 0.5:
        return _folded("sqrt", a)
    return _folded("pow", a, b)


def choose(condition: Node, a: Node, b: Node) -> Node:
    """A where the condition holds, b elsewhere."""
    known = value_of(condition)
    if known is not None:
        return a if known else b
    return a if a is b else make("if", condition, a, b)


def _logical(op: str, a: Node, b: Node) -> Node:
    for x, y in ((a, b), (b, a)):
        known = value_of(x)
        if known is not None:
            decided = bool(known) == (op == "or")
            return number(float(bool(known))) if decided else y
    return make(op, a, b)


def topological(roots: Iterable[Node]) -> list[Node]:
    """All nodes that the roots need, each after its arguments."""
    found: dict[int, Node] = {}
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if id(node) in found:
            continue
        inner = [a for a in node.args if isinstance(a, Node)]
        if ready or not inner:
            found[id(node)] = node
        else:
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(inner))
    return list(found.values())


def rebuilt(roots: Mapping[str, Node], change: Callable[[Node], Node]) -> dict[str, Node]:
    """The formulas with every node replaced, arguments first, by what `change` makes of it."""
    new: dict[int, Node] = {}
    for node in topological(roots.values()):
        if node.op in ("number", "name"):
            new[id(node)] = change(node)
        else:
            args = [new[id(a)] for a in node.args]
            same = all(x is y for x, y in zip(args, node.args, strict=True))
            new[id(node)] = change(node if same else apply(node.op, *args))
    return {key: new[id(root)] for key, root in roots.items()}


def substituted(root: Node, replacement: Mapping[str, Node]) -> Node:
    """The formula with leaves of these names replaced."""

    def change(node: Node) -> Node:
        return replacement.get(node.args[0], node) if node.op == "name" else node

    return rebuilt({"": root}, change)[""]


class Leaves:
    """Which outside variables a formula depends on, remembered."""

    def __init__(self) -> None:
        self._known: dict[Node, frozenset[str]] = {}

    def __call__(self, root: Node) -> frozenset[str]:
        """Names of the leaves below a node."""
        if root in self._known:
            return self._known[root]
        for node in topological([root]):
            if node not in self._known:
                self._known[node] = (
                    frozenset([node.args[0]])
                    if node.op == "name"
                    else frozenset().union(
                        *(self._known[a] for a in node.args if isinstance(a, Node))
                    )
                )
        return self._known[root]


def to_rows(roots: Mapping[str, Node]) -> dict[str, Any]:
    """Formulas as lists and numbers, to be written as JSON."""
    nodes = topological(roots.values())
    place = {id(node): k for k, node in enumerate(nodes)}
    rows = [
        [node.op, *(place[id(a)] if isinstance(a, Node) else a for a in node.args)]
        for node in nodes
    ]
    return {"nodes": rows, "roots": {key: place[id(root)] for key, root in roots.items()}}


def from_rows(rows: Mapping[str, Any]) -> dict[str, Node]:
    """Formulas from what `to_rows` made; any fault is a KeyError, IndexError or TypeError."""
    nodes: list[Node] = []
    for op, *args in rows["nodes"]:
        if op in ("number", "name"):
            nodes.append(number(args[0]) if op == "number" else name(str(args[0])))
        else:
            nodes.append(make(str(op), *(nodes[k] for k in args)))
    return {str(key): nodes[place] for key, place in rows["roots"].items()}
