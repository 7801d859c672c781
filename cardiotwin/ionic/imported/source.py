"""A file's variables as formulas: rates, currents and names, still in the file's units."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.ionic.imported.affine import In
from cardiotwin.ionic.imported.evaluate import numpy_values
from cardiotwin.ionic.imported.guards import bridged, safe_branches
from cardiotwin.ionic.imported.nodes import (
    POTENTIAL,
    Leaves,
    Node,
    add,
    div,
    mul,
    name,
    neg,
    number,
)
from cardiotwin.ionic.imported.roles import (
    PACE,
    STIMULUS,
    TIME,
    factor,
    find_potential,
    find_stimulus,
    units_of,
)
from cardiotwin.ionic.imported.singularities import Points, Rewriter, without_overflow
from cardiotwin.ionic.imported.structure import current_name
from cardiotwin.ionic.imported.translate import Translator, sanitised, terms

# Potential of a normalised model, V = REST + AMPLITUDE u, as Bueno-Orovio et al. 2008 (3.1) give it
# (https://doi.org/10.1016/j.jtbi.2008.03.029).
AMPLITUDE, REST = 85.7, -84.0


class Variable(NamedTuple):
    """A state variable or a parameter.

    Attributes:
        name: of the field here.
        source: qualified name in the file.
        value: initial or default value, in `unit`.
        unit: of the field here.
        meaning: the file's description, or the qualified name.
        factor: from the file's unit to `unit`.
    """

    name: str
    source: str
    value: float
    unit: str
    meaning: str
    factor: float = 1.0


class Wishes(NamedTuple):
    """What a user says where the file leaves it open; see `read_cell_model`."""

    potential: str | None = None
    stimulus: str | None = None
    scale: tuple[float, float] | None = None


class Source:
    """A model's variables as leaves and formulas.

    Args:
        model: a valid `myokit.Model`.
        wishes: what the user said.
    """

    def __init__(self, model: Any, wishes: Wishes):
        self.model = model
        self.notes: list[str] = []
        self.potential = find_potential(model, wishes.potential)
        self.units = units_of(model, self.potential)
        self.leaves = self._leaves()
        self.stimulus = find_stimulus(model, self.potential, self.leaves, wishes.stimulus)
        driven = {v.qname(): name(STIMULUS) for v in self.stimulus}
        self.with_stimulus = Translator({**self.leaves, **driven})
        nothing = {v.qname(): number(0.0) for v in self.stimulus}
        self.translate = Translator({**self.leaves, **nothing})
        self._refuse_time()
        self.start = {
            **{f"state {v.qname()}": v.initial_value(as_float=True) for v in self._states()},
            POTENTIAL: self.potential.initial_value(as_float=True),
            **{
                node.args[0]: self.model.get(key).rhs().eval()
                for key, node in self.leaves.items()
                if node.args[0].startswith("parameter ")
            },
        }

    def _states(self) -> list[Any]:
        return [v for v in self.model.states() if v is not self.potential]

    def _leaves(self) -> dict[str, Node]:
        found = {v.qname(): name(f"state {v.qname()}") for v in self._states()}
        found[self.potential.qname()] = name(POTENTIAL)
        for variable in self.model.variables(deep=True):
            if variable.is_state():
                continue
            binding = variable.binding()
            if binding in ("time", "pace"):
                found[variable.qname()] = name(TIME if binding == "time" else PACE)
            elif binding in ("realtime", "evaluations"):
                found[variable.qname()] = name(TIME)
            elif binding is None and variable.is_literal():
                found[variable.qname()] = name(f"parameter {variable.qname()}")
        return found

    def _refuse_time(self) -> None:
        depends = Leaves()
        for state in self.model.states():
            # the source is named, not everything that it drives
            if depends(self.translate.rate(state)) & {TIME, PACE}:
                guilty = [
                    v.qname() for v in self.model.variables(deep=True)
                    if not v.is_state() and v.binding() is None
                    and depends(self.translate.variable(v)) & {TIME, PACE}
                ]  # fmt: skip
                raise ValueError(
                    f"the rate of {state.qname()} depends on time through "
                    f"{', '.join(guilty[:6]) or 'its own formula'}, and no stimulus current was "
                    "found that explains it; expected rates of the state alone beside a stimulus "
                    "that is added to the potential's rate. Make that variable a constant, or "
                    "name the stimulus: read_cell_model(path, stimulus='component.variable')."
                )

    def scale(self, wishes: Wishes) -> tuple[float, float]:
        """The file's unit of potential per mV, and the potential at its zero."""
        plain = 1.0 / self.units.potential
        if wishes.scale is None and (plain != 1.0 or not self._is_normalised()):
            return plain, 0.0
        amplitude, rest = wishes.scale or (AMPLITUDE, REST)
        why = "as asked" if wishes.scale else "pushed by 0.6 it goes to about 1 and comes back"
        self.notes.append(
            f"{self.potential.qname()} is normalised ({why}): V = {rest:g} + {amplitude:g} "
            f"{self.potential.name()} mV"
        )
        return 1.0 / amplitude, rest

    def _is_normalised(self) -> bool:
        """Whether the potential runs between 0 and about 1 in the file."""
        v0 = self.start[POTENTIAL]
        if abs(v0) > 0.5:
            return False
        states = list(self.model.states())
        rates = [self.translate.rate(v) for v in states]
        keys = [POTENTIAL if v is self.potential else f"state {v.qname()}" for v in states]
        place = keys.index(POTENTIAL)

        def slope(_: float, y: np.ndarray) -> list[float]:
            values = numpy_values(rates, {**self.start, **dict(zip(keys, y, strict=True))})
            return [float(np.ravel(values[r])[0]) for r in rates]

        y = np.array([self.start[key] for key in keys])
        y[place] += 0.6
        found = solve_ivp(slope, (0.0, 20.0 / self.units.time), y, method="LSODA", rtol=1e-4)
        peak = float(np.max(found.y[place])) if found.success else np.inf
        return v0 + 0.7 < peak < v0 + 3.0

    def regular(self, at: Points) -> tuple[dict[str, Node], dict[str, Node], Rewriter, list[str]]:
        """Formulas of rates and currents that are finite at every potential."""
        rates = {POTENTIAL: self.translate.rate(self.potential)}
        rates |= {f"state {v.qname()}": self.translate.rate(v) for v in self._states()}
        currents = self._currents()
        whole = {**rates, **{f"current {key}": node for key, node in currents.items()}}
        rewriter = Rewriter(at)
        whole = rewriter(whole)
        whole, bridges = bridged(whole, at, {})
        whole = without_overflow(safe_branches(whole, at), at)
        split = {key: whole[f"current {key}"] for key in currents}
        return {key: whole[key] for key in rates}, split, rewriter, bridges

    def _currents(self) -> dict[str, Node]:
        """The terms of the potential's rate, with the sign of outward currents."""
        depends = Leaves()

        def constant(node: Node) -> bool:
            return not any(
                leaf.startswith("state ") or leaf in (POTENTIAL, TIME, PACE)
                for leaf in depends(node)
            )

        found: dict[str, Node] = {}
        taken = {v.qname() for v in self.stimulus}
        for coefficient, variable, node in terms(self.potential.rhs(), self.translate, constant):
            if variable is not None and variable.qname() in taken:
                continue
            value = neg(mul(coefficient, node))
            if value.op == "number" and value.args[0] == 0.0:
                continue
            key = current_name(variable.name()) if variable is not None else "I_rest"
            if key in found and variable is not None:
                key = sanitised(variable.qname())
            found[key] = add(found[key], value) if key in found else value
        if list(found) == ["I_rest"]:
            return {"I_ion": found["I_rest"]}
        return found

    def formulas(self, rates: dict[str, Node], currents: dict[str, Node]) -> dict[str, Node]:
        """Everything that a `Description` holds, by its keys there."""
        found = {POTENTIAL: rates[POTENTIAL]}
        found |= {
            key.replace("state ", "rate ", 1): node
            for key, node in rates.items()
            if key != POTENTIAL
        }
        found |= {f"current {key}": node for key, node in currents.items()}
        if self.stimulus:
            found |= self._carried()
        return found

    def _carried(self) -> dict[str, Node]:
        """How much a stimulus that raises the potential changes the ions that it carries."""
        depends = Leaves()
        inside = In(STIMULUS, depends)
        main = inside.affine(self.with_stimulus.rate(self.potential))
        found: dict[str, Node] = {}
        for state in self._states():
            rate = self.with_stimulus.rate(state)
            if not inside.contains(rate):
                continue
            part = inside.affine(rate)
            ratio = div(part.slope, main.slope) if part and main else None
            if ratio is None or any(x.startswith("state ") for x in depends(ratio)):
                self.notes.append(
                    f"the stimulus changes {state.qname()} in a way that depends on the state; "
                    "left out when a cell is paced"
                )
            else:
                found[f"carried {state.qname()}"] = ratio
        return found

    def short(self, leaf: str) -> str:
        """The file's own name of a leaf, without its component."""
        return leaf.split(" ", 1)[1].split(".")[-1]

    def named(self, used: set[str]) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
        """State variables and the parameters among `used`, with names that are fields."""
        states = [v.qname() for v in self._states()]
        parameters = sorted(x.split(" ", 1)[1] for x in used if x.startswith("parameter "))
        if self.stimulus:
            carried = set().union(*(Leaves()(node) for node in self._carried().values()), set())
            parameters = sorted(
                {*parameters, *(x.split(" ", 1)[1] for x in carried if x.startswith("parameter "))}
            )
        order = [v.qname() for v in self.model.variables(deep=True, sort=False)]
        parameters.sort(key=order.index)
        return (
            tuple(
                self._state(key, field)
                for key, field in _fields(states, ("count", "index")).items()
            ),
            tuple(
                self._parameter(key, field) for key, field in _fields(parameters, _RESERVED).items()
            ),
        )

    def _state(self, key: str, field: str) -> Variable:
        variable = self.model.get(key)
        unit, value = variable.unit(), variable.initial_value(as_float=True)
        if unit is not None and _is_concentration(unit):
            to = factor(unit, "mM")
            if abs(to - 1.0) > 1e-12:
                self.units.notes.append(f"{key}: {unit} converted to mM ({to:g})")
            return Variable(field, key, value * to, "mM", _meaning(variable), to)
        return Variable(field, key, value, _unit(unit), _meaning(variable))

    def _parameter(self, key: str, field: str) -> Variable:
        variable = self.model.get(key)
        value = float(variable.rhs().eval())
        return Variable(field, key, value, _unit(variable.unit()), _meaning(variable))


_RESERVED = ("start", "report", "description", *dir(AbstractIonicModel))


def _fields(keys: Iterable[str], reserved: Iterable[str]) -> dict[str, str]:
    """Short names where they are unique, with the component where they are not."""
    keys = list(keys)
    short = [sanitised(key.split(".")[-1]) for key in keys]
    found: dict[str, str] = {}
    for key, text in zip(keys, short, strict=True):
        field = text if short.count(text) == 1 else sanitised(key.replace(".", "_"))
        while field in reserved or field in found.values():
            field += "_"
        found[key] = field
    return found


def _is_concentration(unit: Any) -> bool:
    import myokit

    return myokit.Unit.can_convert(unit, myokit.parse_unit("mM"))


def _unit(unit: Any) -> str:
    """A unit as text; "" for a pure number or none."""
    text = "" if unit is None else str(unit).strip("[]")
    return "" if text == "1" else text


def _meaning(variable: Any) -> str:
    text = variable.meta.get("desc") or variable.meta.get("oxmeta", "").replace("_", " ")
    return " ".join(text.split()) or variable.qname()
