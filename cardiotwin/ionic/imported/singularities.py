"""Quotients that are 0/0 at some potential, rewritten so that value and derivatives are finite.

With z affine in the potential, z / (exp(z) - 1) and (exp(z) - 1) / z have limits at z = 0 that a
computer does not find. Rate constants of gates and Goldman-Hodgkin-Katz fluxes are made of them,
with the two parts often far apart in a product. Both are written with phi1(z) = (exp(z) - 1) / z,
which is accurate everywhere. A file's own guard, a piecewise formula around the point, goes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cardiotwin.ionic.imported.affine import In
from cardiotwin.ionic.imported.evaluate import numpy_values
from cardiotwin.ionic.imported.nodes import (
    POTENTIAL,
    Leaves,
    Node,
    apply,
    div,
    make,
    mul,
    neg,
    number,
    sub,
    substituted,
    topological,
)

_SAMPLES = 5
_CLOSE = 1e-7  # zeros of numerator and denominator that differ by less are meant to be the same
_NARROW = 0.05  # mV: a file's own guard is at most this wide


class Points(NamedTuple):
    """Values of the leaves to look at formulas with.

    Attributes:
        start: of parameters and states as the file gives them.
        random: the same, all changed at random, [samples] each.
        potentials: in the file's unit, over -150 to 100 mV.
        millivolt: in the file's unit.
    """

    start: dict[str, float]
    random: dict[str, np.ndarray]
    potentials: np.ndarray
    millivolt: float


def points(start: Mapping[str, float], per_mv: float, rest_mv: float) -> Points:
    """Leaves around their initial values; the potential is `rest_mv` + file's value / per_mv."""
    rng = np.random.default_rng(7)
    random = {
        key: value * rng.uniform(0.8, 1.25, _SAMPLES) if value else rng.uniform(0, 0.1, _SAMPLES)
        for key, value in start.items()
    }
    potentials = (np.linspace(-150.0, 100.0, 2501) - rest_mv) * per_mv
    random[POTENTIAL] = (rng.uniform(-150.0, 100.0, _SAMPLES) - rest_mv) * per_mv
    return Points(dict(start), random, potentials, per_mv)


class Rewriter:
    """Rewrites the formulas of one model.

    Args:
        at: values to look at formulas with.
    """

    def __init__(self, at: Points):
        self._at = at
        self._depends = Leaves()
        self._v = In(POTENTIAL, self._depends)
        self.found: list[str] = []
        self.notes: list[str] = []

    def __call__(self, roots: Mapping[str, Node]) -> dict[str, Node]:
        """The formulas without removable singularities and needless guards."""
        rewritten: dict[int, Node] = {}
        for node in topological(roots.values()):
            if node.op in ("number", "name"):
                rewritten[id(node)] = node
                continue
            args = [rewritten[id(a)] for a in node.args]
            same = all(x is y for x, y in zip(args, node.args, strict=True))
            new = node if same else apply(node.op, *args)
            if new.op in ("mul", "div"):
                new = self._product(new)
            elif new.op == "if":
                new = self._guard(new)
            rewritten[id(node)] = new
        return {key: rewritten[id(root)] for key, root in roots.items()}

    def _product(self, node: Node) -> Node:
        if not self._v.contains(node):
            return node
        above, below, sign = _factors(node)
        changed = False
        for upper in list(above):
            for lower in list(below):
                quotient = self._quotient(upper, lower)
                if quotient is not None and upper in above:
                    above.remove(upper)
                    below.remove(lower)
                    above.append(quotient)
                    changed = True
                    break
        if not changed:
            return node
        product = number(float(sign))
        for factor in above:
            product = mul(product, factor)
        for factor in below:
            product = div(product, factor)
        return product

    def _quotient(self, above: Node, below: Node) -> Node | None:
        """An equal quotient of two factors that vanish together, or None."""
        if not (self._v.contains(above) and self._v.contains(below)):
            return None
        line, curve = self._v.affine(above), self._v.exponential(below)
        if line is not None and curve is not None:
            found = self._matched(line, curve, above)
            if found is not None:
                z, scale = found
                # above = line.slope/slope z, below = -shift (exp(z) - 1)
                return div(neg(scale), mul(curve.shift, make("phi1", z)))
        line, curve = self._v.affine(below), self._v.exponential(above)
        if line is not None and curve is not None:
            found = self._matched(line, curve, below)
            if found is not None:
                z, scale = found
                return div(neg(mul(curve.shift, make("phi1", z))), scale)
        return None

    def _matched(self, line: Any, curve: Any, whole: Node) -> tuple[Node, Node] | None:
        """The exponent z counted from the common zero, and the line as a multiple of it."""
        exponent = self._v.affine(curve.argument)
        ratio = neg(div(curve.shift, curve.scale))
        if exponent is None or not np.all(self._value(ratio) > 0.0):
            return None
        away = apply("log", ratio)
        z = curve.argument if _is_one(ratio) else sub(curve.argument, away)
        scale = div(line.slope, exponent.slope)  # line = scale * z where both vanish together
        difference = sub(mul(scale, z), whole)
        size = np.abs(self._value(mul(scale, exponent.intercept))) + np.abs(self._value(whole))
        with np.errstate(all="ignore"):
            error = np.abs(self._value(difference))
        if not np.all(error <= _CLOSE * np.maximum(size, 1e-300)):
            return None
        where = self._zero(line)
        if where not in self.found:
            self.found.append(where)
        return z, scale

    def _value(self, node: Node) -> np.ndarray:
        found = numpy_values([node], self._at.random)[node]
        return np.broadcast_to(np.asarray(found, np.float64), (_SAMPLES,))

    def _zero(self, line: Any) -> str:
        zero = neg(div(line.intercept, line.slope))
        value = float(np.ravel(numpy_values([zero], self._at.start)[zero])[0])
        varies = any(leaf.startswith("state ") for leaf in self._depends(zero))
        return f"{value + 0.0:.6g}{' (at the start)' if varies else ''}"

    def _guard(self, node: Node) -> Node:
        """A piecewise formula whose condition holds, or fails, around one potential only."""
        condition, a, b = node.args
        if not self._v.contains(condition):
            return node
        for inside, outside, holds in ((a, b, condition), (b, a, apply("not", condition))):
            centre = self._narrow(holds)
            if centre is None:
                continue
            limit, value = self._near(outside, centre), self._near(inside, centre)
            if np.all(np.isfinite(limit)):
                size = np.maximum(np.abs(limit).max(), 1e-300)
                if np.abs(limit - value).max() > 1e-4 * size:
                    self.notes.append(
                        f"at V = {centre / self._at.millivolt:.6g} mV the file sets a value apart "
                        f"({value[2]:.6g} where the formula around it gives {limit[2]:.6g}); left "
                        "out"
                    )
                return outside
            return self._held(holds, inside, outside, centre)
        return node

    def _held(self, condition: Node, inside: Node, outside: Node, centre: float) -> Node:
        """The file's guard kept, with the formula that it guards kept away from the point."""
        aside = number(centre + self._at.millivolt)
        safe = make("if", condition, aside, make("name", POTENTIAL))
        return make("if", condition, inside, substituted(outside, {POTENTIAL: safe}))

    def _near(self, node: Node, centre: float) -> np.ndarray:
        """Values at a potential and very near to it."""
        steps = np.array([-1e-3, -1e-6, 0.0, 1e-6, 1e-3]) * self._at.millivolt
        leaves = {**self._at.start, POTENTIAL: centre + steps}
        found = np.asarray(numpy_values([node], leaves)[node], np.float64)
        found = np.broadcast_to(found, steps.shape)
        return found[[1, 2, 2, 2, 3]]

    def _narrow(self, condition: Node) -> float | None:
        """The potential around which alone a condition holds, or None."""
        places = []
        for node in topological([condition]):
            if node.op in ("eq", "ne", "lt", "le", "gt", "ge"):
                places += self._crossings(node)
        if not places or max(places) - min(places) > _NARROW * self._at.millivolt:
            return None
        centre = 0.5 * (max(places) + min(places))
        wide = self._at.millivolt * np.array([-1e3, -1.0, 0.0, 1.0, 1e3]) + centre
        leaves = {**self._at.start, POTENTIAL: wide}
        found = np.broadcast_to(numpy_values([condition], leaves)[condition], wide.shape)
        return centre if found.tolist() == [False, False, True, False, False] else None

    def _crossings(self, comparison: Node) -> list[float]:
        """Where the two sides of a comparison are equal; |x| counts as x and as -x."""
        if not self._v.contains(comparison):
            return []
        a, b = comparison.args
        sides = [(a, b)]
        for x, y in ((a, b), (b, a)):
            if x.op == "abs":
                sides = [(x.args[0], y), (x.args[0], neg(y))]
        found = []
        for x, y in sides:
            line = self._v.affine(sub(x, y))
            if line is None:
                return [-np.inf, np.inf]
            zero = neg(div(line.intercept, line.slope))
            found.append(float(np.ravel(numpy_values([zero], self._at.start)[zero])[0]))
        return found


def _factors(node: Node) -> tuple[list[Node], list[Node], int]:
    """Factors above and below the line of a product, and its sign."""
    above: list[Node] = []
    below: list[Node] = []
    sign = 1
    stack = [(node, True)]
    while stack:
        part, up = stack.pop()
        if part.op == "neg":
            sign = -sign
            stack.append((part.args[0], up))
        elif part.op in ("mul", "div"):
            stack.append((part.args[1], up == (part.op == "mul")))
            stack.append((part.args[0], up))
        else:
            (above if up else below).append(part)
    return above, below, sign


def _is_one(node: Node) -> bool:
    return node.op == "number" and node.args[0] == 1.0


def without_overflow(roots: Mapping[str, Node], at: Points) -> dict[str, Node]:
    """Exponentials that float32 cannot hold at some potential, bounded where they are infinite."""
    leaves = {key: np.asarray(value)[None] for key, value in at.start.items()}
    leaves[POTENTIAL] = at.potentials
    values = numpy_values(roots.values(), leaves)
    wide = {
        id(node)
        for node in topological(roots.values())
        if node.op == "exp" and not np.all(np.abs(values[node.args[0]]) < 40.0)
    }
    found: dict[int, Node] = {}
    for node in topological(roots.values()):
        if node.op in ("number", "name"):
            found[id(node)] = node
        else:
            args = [found[id(a)] for a in node.args]
            found[id(node)] = make("small_exp" if id(node) in wide else node.op, *args)
    return {key: found[id(root)] for key, root in roots.items()}
