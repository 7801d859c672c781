"""Formulas that are affine in one variable, or an exponential of such a one and a constant."""

from typing import NamedTuple

from cardiotwin.ionic.imported.nodes import Leaves, Node, apply, choose, div, mul, neg, number

_ZERO, _ONE = number(0.0), number(1.0)


class Affine(NamedTuple):
    """Slope and intercept in the variable, both free of it."""

    slope: Node
    intercept: Node


class Exponential(NamedTuple):
    """A formula scale * exp(argument) + shift, with scale and shift free of the variable."""

    scale: Node
    argument: Node
    shift: Node


class In:
    """Formulas as functions of one outside variable.

    Args:
        variable: its name.
        leaves: what formulas depend on.
    """

    def __init__(self, variable: str, leaves: Leaves):
        self.variable, self._leaves = variable, leaves
        self._affine: dict[Node, Affine | None] = {}

    def contains(self, node: Node) -> bool:
        """Whether the variable occurs in a formula."""
        return self.variable in self._leaves(node)

    def affine(self, node: Node) -> Affine | None:
        """Slope and intercept, or None where the formula is not affine as it is written."""
        if node not in self._affine:
            self._affine[node] = self._split(node)
        return self._affine[node]

    def _split(self, node: Node) -> Affine | None:
        if not self.contains(node):
            return Affine(_ZERO, node)
        if node.op == "name":
            return Affine(_ONE, _ZERO)
        if node.op in ("add", "sub", "neg"):
            parts = [self.affine(a) for a in node.args]
            if any(p is None for p in parts):
                return None
            return Affine(
                apply(node.op, *(p.slope for p in parts if p)),
                apply(node.op, *(p.intercept for p in parts if p)),
            )
        if node.op == "mul":
            a, b = node.args if self.contains(node.args[0]) else node.args[::-1]
            part = None if self.contains(b) else self.affine(a)
            return part and Affine(mul(part.slope, b), mul(part.intercept, b))
        if node.op == "div" and not self.contains(node.args[1]):
            part, below = self.affine(node.args[0]), node.args[1]
            return part and Affine(div(part.slope, below), div(part.intercept, below))
        if node.op == "if" and not self.contains(node.args[0]):
            a, b = self.affine(node.args[1]), self.affine(node.args[2])
            if a and b:
                return Affine(*(choose(node.args[0], x, y) for x, y in zip(a, b, strict=True)))
        return None

    def exponential(self, node: Node) -> Exponential | None:
        """Scale, argument and shift of scale * exp(affine) + shift, or None."""
        if node.op in ("exp", "small_exp") and self.contains(node):
            return Exponential(_ONE, node.args[0], _ZERO) if self.affine(node.args[0]) else None
        if node.op == "neg":
            part = self.exponential(node.args[0])
            return part and Exponential(neg(part.scale), part.argument, neg(part.shift))
        if node.op in ("add", "sub"):
            return self._exponential_sum(node)
        if node.op == "mul":
            a, b = node.args if self.contains(node.args[0]) else node.args[::-1]
            part = None if self.contains(b) else self.exponential(a)
            return part and Exponential(mul(part.scale, b), part.argument, mul(part.shift, b))
        if node.op == "div":
            return self._exponential_quotient(node)
        return None

    def _exponential_sum(self, node: Node) -> Exponential | None:
        a, b = node.args
        if self.contains(a) and not self.contains(b):
            part = self.exponential(a)
            return part and part._replace(shift=apply(node.op, part.shift, b))
        if self.contains(b) and not self.contains(a):
            part = self.exponential(b)
            if part is None:
                return None
            scale = part.scale if node.op == "add" else neg(part.scale)
            return Exponential(scale, part.argument, apply(node.op, a, part.shift))
        return None

    def _exponential_quotient(self, node: Node) -> Exponential | None:
        above, below = node.args
        if not self.contains(below):
            part = self.exponential(above)
            if part is None:
                return None
            return Exponential(div(part.scale, below), part.argument, div(part.shift, below))
        part = None if self.contains(above) else self.exponential(below)
        if part is None or part.shift is not _ZERO:
            return None
        return Exponential(div(above, part.scale), neg(part.argument), _ZERO)


def zero_of(part: Affine) -> Node:
    """Where an affine formula vanishes."""
    return neg(div(part.intercept, part.slope))
