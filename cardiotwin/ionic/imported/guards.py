"""What is left after `singularities`: quotients to be bridged, poles, and branches not taken."""

from collections.abc import Mapping

import numpy as np

from cardiotwin.ionic.imported.evaluate import numpy_values
from cardiotwin.ionic.imported.nodes import (
    POTENTIAL,
    Leaves,
    Node,
    add,
    apply,
    make,
    mul,
    name,
    number,
    rebuilt,
    sub,
    substituted,
    topological,
)
from cardiotwin.ionic.imported.singularities import Points

_BRIDGE = 0.1  # mV: half the width of the stretch that a cubic bridges
_LARGE = 1e30  # float32 has no room for squares of more
_PROBE = "probe()"


def bridged(
    roots: Mapping[str, Node], at: Points, names: Mapping[Node, str]
) -> tuple[dict[str, Node], list[str]]:
    """Bridge quotients that are still 0/0 at some potential by a cubic through nearby values.

    Args:
        roots: formulas of the rates.
        at: values to look at them with.
        names: of the file's variables, for messages.

    Returns:
        The formulas, and what was bridged.

    Raises:
        ValueError: a rate is infinite at some potential.
    """
    said: list[str] = []
    current = dict(roots)
    for node, places in _vanishing(roots, at).items():
        for place in places:
            if not _matters(roots, node, place, at):
                continue
            where = f"{_named(node, roots, names)} at V = {place:.6g} (the file's unit)"
            if not _removable(node, place, at):
                raise ValueError(
                    f"{where} divides by zero and is infinite there; expected rates that are "
                    "finite from -150 to 100 mV. Correct the formula, or guard it."
                )
            if _moves(node, place, at):
                raise ValueError(
                    f"{where} is 0/0 at a potential that the state moves, and could not be "
                    "rewritten; write it with (V - E)/(exp(k (V - E)) - 1) as one quotient."
                )
            bridge = _bridge(node, place, at)
            current = rebuilt(current, lambda n, node=node, to=bridge: to if n is node else n)
            said.append(f"{where}: bridged by a cubic over {2 * _BRIDGE:g} mV")
    return current, said


def _grid(at: Points) -> dict[str, np.ndarray]:
    leaves = {key: np.asarray(value)[None] for key, value in at.start.items()}
    return {**leaves, POTENTIAL: at.potentials}


def _vanishing(roots: Mapping[str, Node], at: Points) -> dict[Node, list[float]]:
    """Quotients with the potentials where their lower part vanishes."""
    depends = Leaves()
    values = numpy_values(roots.values(), _grid(at))
    found: dict[Node, list[float]] = {}
    for node in topological(roots.values()):
        if node.op != "div" or POTENTIAL not in depends(node.args[1]):
            continue
        below = np.broadcast_to(np.asarray(values[node.args[1]], np.float64), at.potentials.shape)
        change = np.flatnonzero(np.sign(below[:-1]) * np.sign(below[1:]) <= 0)
        # sampled values far from zero on both sides are a jump, and no zero of the formula
        places = [
            _zero(node.args[1], at, int(k)) for k in change if np.isfinite(below[k : k + 2]).all()
        ]
        found[node] = sorted({round(p, 9) for p in places if p is not None})
    return {node: places for node, places in found.items() if places}


def _zero(node: Node, at: Points, k: int) -> float | None:
    low, high = float(at.potentials[k]), float(at.potentials[k + 1])

    def value(v: float) -> float:
        return float(np.ravel(numpy_values([node], {**at.start, POTENTIAL: v})[node])[0])

    first, last = value(low), value(high)
    if first == 0.0 and last == 0.0:
        return None  # zero over a stretch: no point to bridge
    for edge, at_edge in ((low, first), (high, last)):
        if at_edge == 0.0:
            return edge
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = value(middle)
        if inside == 0.0:
            return middle
        low, high = (middle, high) if np.sign(inside) == np.sign(first) else (low, middle)
    scale = max(abs(first), abs(last))
    return middle if abs(value(middle)) < 1e-6 * scale else None


def _matters(roots: Mapping[str, Node], node: Node, place: float, at: Points) -> bool:
    """Whether some rate takes the quotient at that potential."""
    probed = rebuilt(roots, lambda n: name(_PROBE) if n is node else n)
    results = []
    for value in (0.5, 2.0):
        leaves = {**at.start, POTENTIAL: place, _PROBE: value}
        found = numpy_values(probed.values(), leaves)
        results.append([float(np.ravel(found[r])[0]) for r in probed.values()])
    return not np.array_equal(*np.nan_to_num(np.asarray(results), nan=0.0))


def _near(node: Node, at: Points, potentials: np.ndarray) -> np.ndarray:
    leaves = {**at.start, POTENTIAL: potentials}
    found = np.asarray(numpy_values([node], leaves)[node], np.float64)
    return np.broadcast_to(found, potentials.shape)


def _removable(node: Node, place: float, at: Points) -> bool:
    steps = at.millivolt * np.array([-0.3, -0.003, 0.003, 0.3])
    far, near_below, near_above, other = _near(node, at, place + steps)
    return max(abs(near_below), abs(near_above)) < 5.0 * max(abs(far), abs(other), 1e-300)


def _moves(node: Node, place: float, at: Points) -> bool:
    below = node.args[1]
    leaves = {key: x for key, x in at.random.items() if key.startswith("state ")}
    fixed = {key: x for key, x in at.start.items() if key not in leaves}
    values = numpy_values([below], {**fixed, **leaves, POTENTIAL: place})[below]
    scale = np.abs(_near(below, at, place + at.millivolt * np.array([-1.0, 1.0]))).max()
    return bool(np.any(np.abs(values) > 1e-6 * scale))


def _bridge(node: Node, place: float, at: Points) -> Node:
    width = _BRIDGE * at.millivolt
    x = mul(sub(name(POTENTIAL), number(place)), number(1.0 / width))
    square = mul(x, x)
    inside = apply("lt", square, number(1.0))
    safe = make("if", inside, number(place + 2.0 * width), name(POTENTIAL))
    total = number(0.0)
    for step, minus, over in ((-2, 1.0, -12.0), (-1, 4.0, 6.0), (1, 4.0, -6.0), (2, 1.0, 12.0)):
        value = substituted(node, {POTENTIAL: number(place + step * width)})
        weight = mul(sub(square, number(minus)), add(x, number(float(step))))
        total = add(total, mul(value, mul(weight, number(1.0 / over))))
    return make("if", inside, total, substituted(node, {POTENTIAL: safe}))


def _named(node: Node, roots: Mapping[str, Node], names: Mapping[Node, str]) -> str:
    """The smallest of the file's variables that a formula is part of."""
    holders = [n for n in (*names, *roots.values()) if node in topological([n])]
    holders.sort(key=lambda n: len(topological([n])))
    rates = {root: key for key, root in roots.items()}
    return names.get(holders[0]) or rates.get(holders[0], "a rate") if holders else "a rate"


def safe_branches(roots: Mapping[str, Node], at: Points) -> dict[str, Node]:
    """Keep the branch of a piecewise formula that is not taken finite, also in derivatives."""
    values = numpy_values(roots.values(), _grid(at))
    depends = Leaves()
    found: dict[int, Node] = {}
    for node in topological(roots.values()):
        if node.op in ("number", "name"):
            found[id(node)] = node
            continue
        args = [found[id(a)] for a in node.args]
        if node.op == "if" and POTENTIAL in depends(node.args[0]):
            taken = np.broadcast_to(values[node.args[0]], at.potentials.shape)
            for k, holds in ((1, taken), (2, ~taken)):
                if holds.any() and not holds.all() and _wild(node.args[k], values, ~holds):
                    args[k] = _kept(args, k, holds, at)
        found[id(node)] = make(node.op, *args)
    return {key: found[id(root)] for key, root in roots.items()}


def _wild(branch: Node, values: Mapping[Node, np.ndarray], where: np.ndarray) -> bool:
    """Whether anything in a branch is infinite or too large where it is not taken."""
    for node in topological([branch]):
        if node.op not in ("number", "name"):
            value = np.broadcast_to(values[node], where.shape)[where]
            if not np.all(np.abs(np.where(np.isfinite(value), value, np.inf)) < _LARGE):
                return True
    return False


def _kept(args: list[Node], k: int, holds: np.ndarray, at: Points) -> Node:
    inside = at.potentials[holds]
    rest = number(float(inside[len(inside) // 2]))
    v = name(POTENTIAL)
    safe = make("if", args[0], v, rest) if k == 1 else make("if", args[0], rest, v)
    return substituted(args[k], {POTENTIAL: safe})
