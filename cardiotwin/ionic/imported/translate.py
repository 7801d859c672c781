"""From Myokit's expressions to formulas (`Node`), with the variables between them written in."""

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cardiotwin.ionic.imported.nodes import Node, apply, mul, neg, number

_UNARY = {
    "PrefixMinus": "neg", "Sqrt": "sqrt", "Sin": "sin", "Cos": "cos", "Tan": "tan",
    "ASin": "asin", "ACos": "acos", "ATan": "atan", "Exp": "exp", "Floor": "floor",
    "Ceil": "ceil", "Abs": "abs", "Not": "not",
}  # fmt: skip
_BINARY = {
    "Plus": "add", "Minus": "sub", "Multiply": "mul", "Divide": "div", "Power": "pow",
    "Quotient": "quotient", "Remainder": "remainder", "Equal": "eq", "NotEqual": "ne",
    "More": "gt", "Less": "lt", "MoreEqual": "ge", "LessEqual": "le", "And": "and", "Or": "or",
}  # fmt: skip


class Translator:
    """Formulas of a model's variables in terms of leaves.

    Args:
        leaves: leaf that stands for a variable, by qualified name; every other variable is
            replaced by its own formula.
    """

    def __init__(self, leaves: Mapping[str, Node]):
        self._leaves = dict(leaves)
        self._known: dict[str, Node] = {}

    def variable(self, variable: Any) -> Node:
        """The formula of a variable's value."""
        key = variable.qname()
        if key in self._leaves:
            return self._leaves[key]
        if key not in self._known:
            self._known[key] = self.formula(variable.rhs(), key)
        return self._known[key]

    def rate(self, variable: Any) -> Node:
        """The formula of a state variable's rate."""
        key = f"dot({variable.qname()})"
        if key not in self._known:
            self._known[key] = self.formula(variable.rhs(), key)
        return self._known[key]

    def formula(self, expression: Any, where: str) -> Node:
        """The formula of one expression.

        Raises:
            ValueError: an element that has no counterpart here.
        """
        kind = type(expression).__name__
        if kind == "Number":
            return number(expression.eval())
        if kind == "Name":
            return self.variable(expression.var())
        if kind == "Derivative":
            return self.rate(expression.var())
        args = [self.formula(inner, where) for inner in _arguments(expression)]
        if kind in _UNARY:
            return apply(_UNARY[kind], *args)
        if kind in _BINARY:
            return apply(_BINARY[kind], *args)
        if kind == "PrefixPlus":
            return args[0]
        if kind == "Log":
            natural = apply("log", args[0])
            return natural if len(args) == 1 else apply("div", natural, apply("log", args[1]))
        if kind == "Log10":
            return apply("div", apply("log", args[0]), apply("log", number(10.0)))
        if kind == "If":
            return apply("if", *args)
        if kind == "Piecewise":
            *pairs, found = args
            for condition, value in reversed(list(zip(pairs[::2], pairs[1::2], strict=True))):
                found = apply("if", condition, value, found)
            return found
        raise ValueError(
            f"{where} uses {expression.code()!r}, a {kind}, which is not supported; expected "
            "arithmetic, elementary functions and piecewise formulas. Write it with these."
        )


def _arguments(expression: Any) -> Iterable[Any]:
    return expression


def terms(expression: Any, translate: Translator, constant: Any) -> list[tuple[Node, Any, Node]]:
    """A rate as a sum: coefficient, variable (None where the term is no variable) and value.

    Args:
        expression: Myokit's right-hand side.
        translate: makes the formulas.
        constant: says whether a formula is free of states, potential and time.
    """
    found = _terms(expression, number(1.0), translate, constant)
    if len(found) == 1 and found[0][1] is not None:
        coefficient, variable, _ = found[0]
        inner = _terms(variable.rhs(), coefficient, translate, constant)
        if len(inner) > 1 and any(v is not None for _, v, _ in inner):
            return inner
    return found


def _terms(expression: Any, coefficient: Node, translate: Translator, constant: Any) -> list[Any]:
    kind = type(expression).__name__
    args = list(_arguments(expression))
    if kind in ("Plus", "Minus"):
        second = neg(coefficient) if kind == "Minus" else coefficient
        return [
            *_terms(args[0], coefficient, translate, constant),
            *_terms(args[1], second, translate, constant),
        ]
    if kind in ("PrefixMinus", "PrefixPlus"):
        sign = neg(coefficient) if kind == "PrefixMinus" else coefficient
        return _terms(args[0], sign, translate, constant)
    if kind in ("Multiply", "Divide"):
        a, b = (translate.formula(x, "the potential's rate") for x in args)
        if constant(b) and not constant(a) and not _has_state(args[0]):
            factor = apply("mul" if kind == "Multiply" else "div", coefficient, b)
            return _terms(args[0], factor, translate, constant)
        if kind == "Multiply" and constant(a) and not constant(b) and not _has_state(args[1]):
            return _terms(args[1], mul(coefficient, a), translate, constant)
    node = translate.formula(expression, "the potential's rate")
    if kind == "Name" and not expression.var().is_state():
        return [(coefficient, expression.var(), node)]
    return [(coefficient, None, node)]


def _has_state(expression: Any) -> bool:
    """Whether a state variable stands in the expression itself: then it is no sum of currents."""
    return any(reference.var().is_state() for reference in expression.references())


def sanitised(text: str) -> str:
    """A name that Python takes for a field."""
    text = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "x"
    text = f"x_{text}" if text[0].isdigit() else text
    return f"{text}_" if keyword.iskeyword(text) else text
