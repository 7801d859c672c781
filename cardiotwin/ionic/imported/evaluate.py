"""Values of formulas: with JAX inside a simulation, with NumPy while a file is looked at."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiotwin.ionic.imported.nodes import Node, topological
from cardiotwin.numerics.elementary import exp, log, phi1

# What every kind of number understands as it stands.
_COMMON: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_NAMED = {
    "sqrt": "sqrt", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "floor": "floor", "ceil": "ceil", "abs": "abs", "and": "logical_and",
    "or": "logical_or", "not": "logical_not", "if": "where", "min": "minimum", "max": "maximum",
}  # fmt: skip
_WHOLE = 32  # largest exponent that is written out as a product


def _operations(numpy: Any, **own: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    named = {op: getattr(numpy, function) for op, function in _NAMED.items()}
    rest = {
        "div": lambda a, b: numpy.divide(a, b) if isinstance(b, float) else a / b,
        "quotient": lambda a, b: numpy.floor(numpy.divide(a, b)),
        "remainder": lambda a, b: a - b * numpy.floor(numpy.divide(a, b)),
    }
    return _COMMON | named | rest | own


def _small_exp(x: Any) -> Any:
    """The exponential, held at that of 80: squared in a derivative it would be infinite."""
    return exp(jnp.minimum(x, 80.0))


@jax.custom_jvp
def _power(x: Any, p: Any) -> Any:
    """X to the p for x >= 0; NaN below, as everywhere."""
    return exp(p * log(x))


@_power.defjvp
def _power_jvp(primals: Any, tangents: Any) -> Any:
    (x, p), (dx, dp) = primals, tangents
    value = _power(x, p)
    inside = x > 0
    safe = jnp.where(inside, x, 1.0)
    slope = jnp.where(inside, p * value / safe, jnp.where(p == 1.0, 1.0, 0.0))
    return value, slope * dx + jnp.where(inside, value * log(safe), 0.0) * dp


def _pow_jax(x: Any, p: Any) -> Any:
    if isinstance(p, float) and p == round(p) and abs(p) <= _WHOLE:
        return x ** int(p)
    if isinstance(p, float) and 2 * p == round(2 * p) and abs(p) <= _WHOLE:
        return x ** int(p - 0.5) * jnp.sqrt(x)
    x, p = jnp.asarray(x), jnp.asarray(p)
    kind = jnp.result_type(x, p)
    # the shape first: a custom derivative wants both alike
    x, p = jnp.broadcast_arrays(x.astype(kind), p.astype(kind))
    return _power(x, p)


def _phi1_numpy(z: Any) -> Any:
    away = np.where(z == 0.0, 1.0, z)
    return np.where(z == 0.0, 1.0, np.expm1(away) / away)


_JAX = _operations(
    jnp,
    exp=lambda x: exp(jnp.asarray(x)),
    small_exp=_small_exp,
    log=lambda x: log(jnp.asarray(x)),
    phi1=phi1,
    pow=_pow_jax,
)
_NUMPY = _operations(np, exp=np.exp, small_exp=np.exp, log=np.log, phi1=_phi1_numpy, pow=np.power)


class Evaluator:
    """Formulas in the order of their evaluation, each once.

    Args:
        roots: formulas by name.
    """

    def __init__(self, roots: Mapping[str, Node]):
        self.roots = dict(roots)
        self._order = topological(self.roots.values())

    def __call__(self, leaves: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the formulas, traced by JAX where the leaves are.

        Args:
            leaves: value of every outside variable; numbers and arrays that broadcast.
        """
        found = _run(self._order, leaves, _JAX)
        return {key: found[root] for key, root in self.roots.items()}


def numpy_values(nodes: Iterable[Node], leaves: Mapping[str, Any]) -> dict[Node, Any]:
    """Values of formulas and of all that they consist of, in NumPy's float64, without warnings."""
    with np.errstate(all="ignore"):
        arrays = {key: np.asarray(value, np.float64) for key, value in leaves.items()}
        return _run(topological(nodes), arrays, _NUMPY)


def _run(
    order: list[Node], leaves: Mapping[str, Any], operations: Mapping[str, Callable[..., Any]]
) -> dict[Node, Any]:
    found: dict[Node, Any] = {}
    for node in order:
        if node.op == "number":
            found[node] = node.args[0]
        elif node.op == "name":
            found[node] = leaves[node.args[0]]
        else:
            found[node] = operations[node.op](*(found[a] for a in node.args))
    return found
