"""From Myokit's model to a `Description`: numbers, names and formulas, ready for JAX or a file."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cardiotwin.ionic.imported.nodes import Leaves, Node, name, number, sub, substituted
from cardiotwin.ionic.imported.singularities import Rewriter, points
from cardiotwin.ionic.imported.source import Source, Variable, Wishes
from cardiotwin.ionic.imported.structure import calcium_of, chains_of, channels_of, gates_of
from cardiotwin.ionic.imported.translate import sanitised

# Shares whose sum at the start is off 1 by less have been rounded for print.
_ROUNDED = 1e-4


class Remainder(NamedTuple):
    """A state of a Markov chain that is what the others leave: no variable of its own.

    Stepped each by itself, the states of a chain would not keep their sum.

    Attributes:
        state: its qualified name in the file.
        total: what the states of the chain sum to, at the start and so for ever; 1 where the
            values at the start miss it by rounding.
        others: the chain's other states.
    """

    state: str
    total: float
    others: tuple[str, ...]


class Description(NamedTuple):
    """A model as it is kept in the cache: no code, only names, numbers and formulas.

    Attributes:
        title: the model's name in its file.
        potential: qualified name, and value at the start in mV.
        per_mv: the file's unit of potential per mV.
        rest: potential in mV where the file's is 0.
        per_ms: the file's unit of time per ms.
        states: the state variables.
        parameters: the constants that can be set.
        formulas: in the file's units, by "V" and "rate x" (rates), "current x" (over the
            capacitance, outward) and "carried x" (rate of x per rate of V under a stimulus).
        gates: as `AbstractIonicModel`.
        linearised: as there.
        remainders: states of Markov chains that are what the others leave.
        slow: as there.
        calcium: as there.
        channels: as there.
        stimulus: qualified names of what was taken out.
        report: what was found, by topic.
        check: figures of the check; empty where it was skipped.
    """

    title: str
    potential: tuple[str, float]
    per_mv: float
    rest: float
    per_ms: float
    states: tuple[Variable, ...]
    parameters: tuple[Variable, ...]
    formulas: dict[str, Node]
    gates: tuple[str, ...]
    linearised: tuple[str, ...]
    remainders: tuple[Remainder, ...]
    slow: tuple[str, ...]
    calcium: str | None
    channels: dict[str, str]
    stimulus: tuple[str, ...]
    report: dict[str, str]
    check: dict[str, float]


def describe(model: Any, wishes: Wishes, notes: Iterable[str] = ()) -> Description:
    """Find everything out about a model.

    Args:
        model: a valid `myokit.Model`.
        wishes: what the user said.
        notes: what was assumed so far.

    Raises:
        ValueError: it is no cell model, or none that can be imported.
    """
    file = Source(model, wishes)
    per_mv, rest = file.scale(wishes)
    at = points(file.start, per_mv, rest)
    rates, currents, rewriter, bridges = file.regular(at)
    used = set().union(*(Leaves()(node) for node in (*rates.values(), *currents.values())))
    states, parameters = file.named(used)
    concentrations = {v.name for v in states if v.unit == "mM"}
    leaf = {v.name: f"state {v.source}" for v in states}
    gates, linearised = gates_of(
        {leaf[v.name]: rates[leaf[v.name]] for v in states},
        [leaf[v.name] for v in states if v.name not in concentrations],
        at,
    )
    remainders = _remainders(chains_of(rates, linearised, at), file.start)
    rates, currents = _without(remainders, rates, currents)
    states = tuple(v for v in states if leaf[v.name] in rates)
    leaf = {v.name: leaf[v.name] for v in states}
    own = {text: key for key, text in leaf.items()}
    settable = {f"parameter {v.source}": v.name for v in parameters}
    marked = [
        v.name for v in states
        if model.get(v.source).meta.get("oxmeta") == "cytosolic_calcium_concentration"
    ]  # fmt: skip
    calcium = calcium_of({n: file.short(leaf[n]) for n in concentrations}, sorted(marked))
    description = Description(
        title=sanitised(model.name() or "cell"),
        potential=(
            file.potential.qname(),
            rest + file.potential.initial_value(as_float=True) / per_mv,
        ),
        per_mv=per_mv,
        rest=rest,
        per_ms=1.0 / file.units.time,
        states=states,
        parameters=parameters,
        formulas=_renamed(file.formulas(rates, currents), own, settable),
        gates=tuple(own[x] for x in gates),
        linearised=tuple(own[x] for x in linearised if x in own),
        remainders=tuple(
            Remainder(x.state.split(" ", 1)[1], x.total, tuple(own[other] for other in x.others))
            for x in remainders
        ),
        slow=tuple(v.name for v in states if v.unit == "mM" and abs(v.value) > 0.5),
        calcium=calcium,
        channels=channels_of(currents, settable, at),
        stimulus=tuple(v.qname() for v in file.stimulus),
        report={},
        check={},
    )
    said = {
        "units": [*notes, *file.units.notes, *file.notes],
        "singularities": [*_zeros(rewriter), *rewriter.notes, *bridges],
    }
    return description._replace(report=_report(description, currents, file, said))


def _remainders(chains: Iterable[tuple[str, ...]], start: Mapping[str, float]) -> list[Remainder]:
    """The state of each chain that is fullest at the start: its value loses the fewest digits."""
    found = []
    for chain in chains:
        fullest = max(chain, key=lambda x: start[x])
        others = tuple(x for x in chain if x != fullest)
        total = sum(start[x] for x in chain)
        rounded = abs(total - 1.0) < _ROUNDED
        found.append(Remainder(fullest, 1.0 if rounded else total, others))
    return found


def _without(
    remainders: Iterable[Remainder], rates: Mapping[str, Node], currents: Mapping[str, Node]
) -> tuple[dict[str, Node], dict[str, Node]]:
    """Rates and currents with the remainders written out."""
    new = {}
    for rest in remainders:
        new[rest.state] = number(rest.total)
        for other in rest.others:
            new[rest.state] = sub(new[rest.state], name(other))
    return (
        {key: substituted(node, new) for key, node in rates.items() if key not in new},
        {key: substituted(node, new) for key, node in currents.items()},
    )


def _zeros(rewriter: Rewriter) -> list[str]:
    return [f"V = {', '.join(rewriter.found)} (the file's unit)"] if rewriter.found else []


def _renamed(
    formulas: Mapping[str, Node], states: Mapping[str, str], parameters: Mapping[str, str]
) -> dict[str, Node]:
    """The formulas with the fields' names in place of the file's."""
    new = {leaf: name(f"state {field}") for leaf, field in states.items()}
    new |= {leaf: name(f"parameter {field}") for leaf, field in parameters.items()}
    found = {}
    for key, node in formulas.items():
        kind, _, source = key.partition(" ")
        field = states.get(f"state {source}", source) if kind in ("rate", "carried") else source
        found[f"{kind} {field}".strip()] = substituted(node, new)
    return found


def _report(
    found: Description, currents: Mapping[str, Node], file: Source, said: Mapping[str, list[str]]
) -> dict[str, str]:
    listed = ", ".join
    return {
        "potential": f"{found.potential[0]}, {found.potential[1]:g} mV at the start",
        "stimulus": listed(found.stimulus) + " taken out" if found.stimulus else "none in the file",
        "states": f"{len(found.states)} beside the potential",
        "gates": listed(found.gates) or "none",
        "linearised": listed(found.linearised) or "none",
        "remainders": listed(x.state for x in found.remainders) or "none",
        "slow": listed(found.slow) or "none",
        "calcium": found.calcium or "not recognised",
        "currents": listed(currents),
        "channels": listed(f"{c} by {p}" for c, p in found.channels.items()) or "not recognised",
        "parameters": f"{len(found.parameters)}",
        "units": "; ".join(said["units"]) or "mV, ms, mM and pA/pF in the file",
        "singularities": "; ".join(said["singularities"]) or "none",
    }
