"""Which variables of a file are the potential, time and the stimulus, and in which units."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cardiotwin.ionic.imported.affine import In
from cardiotwin.ionic.imported.nodes import POTENTIAL, Leaves, Node, name
from cardiotwin.ionic.imported.translate import Translator

TIME, PACE, STIMULUS = "time()", "pace()", "stimulus()"
_POTENTIAL_NAMES = re.compile(
    r"(v|vm|v_m|e_?m|u|membrane_(potential|voltage)|v_?mem(brane)?|potential|voltage)", re.I
)
_STIMULUS_NAMES = re.compile(r"stim|^i_?st$|^i_?app(lied)?$|^i_?ext$|^i_?inj", re.I)
_CALLED = "read_cell_model(path, {}='component.variable')"


class Units(NamedTuple):
    """Factors from the file's units to mV and ms, and what was said on the way."""

    potential: float
    time: float
    notes: list[str]


def find_potential(model: Any, wanted: str | None) -> Any:
    """The state variable that is the membrane potential.

    Raises:
        ValueError: none, or several that are as likely.
    """
    states = list(model.states())
    if not states:
        raise ValueError(
            "no variable has a rate of change; expected a cell model, whose membrane potential "
            "does. A part of a model must be completed before it is imported."
        )
    if wanted is not None:
        return _chosen(states, wanted, "potential", "state variables")
    marked = [v for v in states if _is_marked(model, v, "membrane_potential", "membrane_voltage")]
    if len(marked) == 1:
        return marked[0]
    likely = [v for v in states if _POTENTIAL_NAMES.fullmatch(v.name())]
    likely = _preferred(likely) or [v for v in states if _is_voltage(v.unit())]
    if not likely:
        listed = ", ".join(v.qname() for v in states[:12])
        raise ValueError(
            "there is no membrane potential: no state variable is named like one (V, Vm, ...) or "
            f"measured in volts; the state variables are {listed}{', ...' * (len(states) > 12)}. "
            f"If one of them is the potential, name it: {_CALLED.format('potential')}."
        )
    if len(likely) > 1:
        listed = ", ".join(v.qname() for v in likely)
        raise ValueError(
            f"there are {len(likely)} candidates for the membrane potential: {listed}; expected "
            f"one. Name it: {_CALLED.format('potential')}."
        )
    return likely[0]


def _preferred(likely: list[Any]) -> list[Any]:
    """Of variables that are named like a potential, those that a unit or component speaks for."""
    tests = (
        lambda v: _is_voltage(v.unit()),
        lambda v: re.search("membrane|cell|main", v.qname().split(".")[0], re.I),
        lambda v: v.unit() is None or _is_one(v.unit()),
    )
    for test in tests:
        some = [v for v in likely if test(v)]
        if some:
            return some
    return [v for v in likely if not _POTENTIAL_NAMES.fullmatch(v.name())]


def _chosen(variables: Iterable[Any], wanted: str, argument: str, what: str) -> Any:
    variables = list(variables)
    found = [v for v in variables if wanted in (v.qname(), v.name())]
    if len(found) != 1:
        listed = ", ".join(v.qname() for v in (found or variables)[:20])
        raise ValueError(
            f"{argument} is {wanted!r}, which names {len(found)} of the {what}; give one of "
            f"{listed}."
        )
    return found[0]


def _is_marked(model: Any, variable: Any, label: str, oxmeta: str) -> bool:
    return model.label(label) is variable or variable.meta.get("oxmeta") == oxmeta


def _is_voltage(unit: Any) -> bool:
    return unit is not None and _convertible(unit, "mV")


def _is_one(unit: Any) -> bool:
    return _convertible(unit, "1")


def _convertible(unit: Any, to: str) -> bool:
    import myokit

    return myokit.Unit.can_convert(unit, myokit.parse_unit(to))


def factor(unit: Any, to: str) -> float:
    """How many of the unit `to` one of the file's units is."""
    import myokit

    converted: Any = myokit.Unit.convert(1.0, unit, myokit.parse_unit(to))
    return float(converted)


def units_of(model: Any, potential: Any) -> Units:
    """The units of potential and time, and whether the potential's rate is in theirs.

    Raises:
        ValueError: units of another dimension, or currents that do not add up.
    """
    notes: list[str] = []
    time = model.time()
    factors = []
    for variable, to, what in ((potential, "mV", "the potential"), (time, "ms", "time")):
        unit = variable.unit()
        if unit is None or (variable is potential and _is_one(unit)):
            said = "has no unit" if unit is None else "is a pure number"
            notes.append(f"{what} {variable.qname()} {said} in the file; taken in {to}")
            factors.append(1.0)
        elif _convertible(unit, to):
            factors.append(factor(unit, to))
            if abs(factors[-1] - 1.0) > 1e-12:
                notes.append(f"{variable.qname()}: {unit} converted to {to} ({factors[-1]:g})")
        else:
            raise ValueError(
                f"{what} {variable.qname()} is in {unit}; expected a unit that converts to {to}. "
                "Correct its unit in the file."
            )
    notes += _balance_units(potential, time)
    return Units(factors[0], factors[1], notes)


def _balance_units(potential: Any, time: Any) -> list[str]:
    """Notes on the units of the potential's rate; refuses currents that cannot be added."""
    import myokit

    try:
        found = potential.rhs().eval_unit(myokit.UNIT_TOLERANT)
    except myokit.IncompatibleUnitError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"unit error in the rate of {potential.qname()}: {reason} Expected currents in one "
            "unit; correct the units or the formula in the file."
        ) from error
    if found is None or potential.unit() is None or time.unit() is None or _is_one(found):
        return []
    expected = potential.unit() / time.unit()
    if myokit.Unit.close(found, expected):
        return []
    text = (
        f"the rate of {potential.qname()} comes out in {found} where {expected} is its unit; the "
        "numbers are taken as they stand, as if divided by a capacitance of 1"
    )
    # conductances without a unit leave volts
    if any(_convertible(found, unit) for unit in ("uA/cm^2", "A", "mV")):
        return [text]
    raise ValueError(
        f"unit error: the rate of {potential.qname()} comes out in {found}; expected {expected}, "
        "a current over a capacitance. Correct the units or the formula in the file."
    )


def find_stimulus(
    model: Any, potential: Any, leaves: Mapping[str, Node], wanted: str | None
) -> list[Any]:
    """The variables that are stimulus currents; empty for a cell that is not paced.

    A stimulus depends on time and parameters only, and the potential's rate is affine in it with
    a slope that no state variable changes; or it is a constant that is named like one.

    Raises:
        ValueError: something depends on time that is no stimulus, or several might be it.
    """
    translate, depends = Translator(leaves), Leaves()
    reached = _reached(potential)
    if wanted is not None:
        candidates = [_chosen(reached, wanted, "stimulus", "variables of the potential's rate")]
    else:
        candidates = _of_time_alone(potential, reached, translate, depends)
        candidates += [
            v for v in reached
            if v not in candidates and not _changes(depends(translate.variable(v)))
            and (_is_marked(model, v, "stimulus_current", "membrane_stimulus_current")
                 or (_STIMULUS_NAMES.search(v.name()) and v in _direct(potential)))
        ]  # fmt: skip
    good = [v for v in candidates if _is_current(v, potential, leaves)]
    named = [v for v in good if _STIMULUS_NAMES.search(v.name())]
    if wanted is not None and not good:
        raise ValueError(
            f"stimulus is {wanted!r}, but the potential's rate is not a constant times it plus "
            "the rest; name the variable that is the stimulus current."
        )
    if len(good) > 1 and not named:
        listed = ", ".join(sorted(v.qname() for v in good))
        raise ValueError(
            f"the stimulus cannot be found: {listed} depend on time alone and drive the "
            f"potential; expected one. Name it: {_CALLED.format('stimulus')}."
        )
    return named or good


def _changes(leaves: Iterable[str]) -> bool:
    """Whether any of these leaves changes in a run."""
    return any(leaf.startswith("state ") or leaf in (POTENTIAL, TIME, PACE) for leaf in leaves)


def _direct(variable: Any) -> list[Any]:
    """The variables that a formula refers to itself, through one total current where it has one."""
    first = [r.var() for r in variable.rhs().references()]
    second = [r.var() for v in first if not v.is_state() for r in v.rhs().references()]
    return first + second


def _reached(potential: Any) -> list[Any]:
    """Variables, not states, that the potential's rate refers to, also through others."""
    found: dict[str, Any] = {}
    stack = [potential.rhs()]
    while stack:
        for reference in stack.pop().references():
            variable = reference.var()
            if not variable.is_state() and variable.qname() not in found:
                found[variable.qname()] = variable
                stack.append(variable.rhs())
    return list(found.values())


def _of_time_alone(
    potential: Any, reached: list[Any], translate: Translator, depends: Leaves
) -> list[Any]:
    """Largest formulas of time and parameters alone."""

    def alone(variable: Any) -> bool:
        if variable.is_state():
            return False
        found = depends(translate.variable(variable))
        return bool(found & {TIME, PACE}) and not _changes(found - {TIME, PACE})

    users = [potential, *(v for v in reached if not alone(v))]
    found = {r.var().qname(): r.var() for user in users for r in user.rhs().references()}
    return [v for v in found.values() if alone(v) and v.binding() != "time"]


def _is_current(variable: Any, potential: Any, leaves: Mapping[str, Node]) -> bool:
    """Whether the potential's rate is a constant times the variable plus what is free of it."""
    translate = Translator({**leaves, variable.qname(): name(STIMULUS)})
    depends = Leaves()
    part = In(STIMULUS, depends).affine(translate.rate(potential))
    if part is None or STIMULUS not in depends(translate.rate(potential)):
        return False
    return not _changes(depends(part.slope))
