"""What the formulas of a model say about its variables: gates, currents, channels, calcium."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from cardiotwin.ionic.imported.affine import In
from cardiotwin.ionic.imported.evaluate import numpy_values
from cardiotwin.ionic.imported.nodes import POTENTIAL, Leaves, Node
from cardiotwin.ionic.imported.singularities import Points

# What usual spellings of a current become; i_Na, I_Na and INa are alike.
_CURRENTS = {
    "na": "Na", "nal": "NaL", "to": "to", "cal": "CaL", "ca_l": "CaL", "lca": "CaL", "kr": "Kr",
    "ks": "Ks", "k1": "K1", "kur": "Kur", "naca": "NaCa", "ncx": "NaCa", "nak": "NaK", "pca": "pCa",
    "p_ca": "pCa", "cap": "pCa", "nab": "bNa", "bna": "bNa", "b_na": "bNa", "cab": "bCa",
    "bca": "bCa", "b_ca": "bCa", "kb": "bK", "bk": "bK", "b_k": "bK", "p_k": "pK", "pk": "pK",
    "kp": "Kp", "cana": "CaNa", "cak": "CaK", "katp": "KATP", "k_atp": "KATP", "f": "f",
    "naca_i": "NaCa_i", "naca_ss": "NaCa_ss", "sus": "sus", "cat": "CaT", "si": "si",
}  # fmt: skip
_CALCIUM = re.compile(r"(ca_?i|ca_?cyto?|ca_?cyt|cytosolic_calcium(_concentration)?)", re.I)
_CONDUCTANCE = re.compile(r"^(g|p|perm)|max|bar|^(k|v)_?(naca|ncx|nak|pca)", re.I)


def gates_of(
    rates: Mapping[str, Node], plain: Sequence[str], at: Points
) -> tuple[list[str], list[str]]:
    """Which state variables are gates, and which others relax by a rate affine in themselves.

    Args:
        rates: formula of every state variable's rate; leaves are named alike.
        plain: variables that may be gates: no concentrations.
        at: values to look at the formulas with.

    Returns:
        Names of gates: the rate is affine in the gate, falls with it, and is free of the other
        gates; and names of other variables of `plain` whose rate is affine in themselves.
    """
    depends = Leaves()
    affine = [x for x in plain if _relaxes(x, rates[x], depends, at)]
    uses = {x: (depends(rates[x]) & set(affine)) - {x} for x in affine}
    # variables that drive one another, such as the states of a Markov model, are no gates
    reach = {x: _reach(x, uses) for x in affine}
    gates = [x for x in affine if x not in reach[x]]
    while True:
        conflicts = {x: uses[x] & set(gates) for x in gates if uses[x] & set(gates)}
        if not conflicts:
            break
        worst = max(conflicts, key=lambda x: (len(conflicts[x]), x))
        gates.remove(worst)
    return gates, [x for x in affine if x not in gates]


def chains_of(
    rates: Mapping[str, Node], linearised: Sequence[str], at: Points
) -> list[tuple[str, ...]]:
    """Markov chains: variables that all drive one another and whose rates sum to nothing.

    Args:
        rates: formula of every state variable's rate; leaves are named alike.
        linearised: the variables to look among.
        at: values to look at the formulas with.

    Returns:
        The states of each chain, in the order of `linearised`.
    """
    depends = Leaves()
    uses = {x: (depends(rates[x]) & set(linearised)) - {x} for x in linearised}
    reach = {x: _reach(x, uses) for x in linearised}
    chains = {
        tuple(y for y in linearised if y == x or (y in reach[x] and x in reach[y]))
        for x in linearised
    }
    found = []
    for chain in sorted(chains, key=lambda names: linearised.index(names[0])):
        values = numpy_values([rates[x] for x in chain], at.random)
        flows = np.array([np.broadcast_to(values[rates[x]], _shape(at)) for x in chain])
        if len(chain) > 1 and np.all(np.abs(flows.sum(axis=0)) <= 1e-9 * np.abs(flows).max(axis=0)):
            found.append(chain)
    return found


def _shape(at: Points) -> tuple[int, ...]:
    return np.shape(at.random[POTENTIAL])


def _reach(start: str, uses: Mapping[str, set[str] | frozenset[str]]) -> set[str]:
    found: set[str] = set()
    stack = list(uses[start])
    while stack:
        x = stack.pop()
        if x not in found:
            found.add(x)
            stack.extend(uses[x])
    return found


def _relaxes(x: str, rate: Node, depends: Leaves, at: Points) -> bool:
    """Whether a rate is affine in its own variable and falls with it, formally and in numbers."""
    part = In(x, depends).affine(rate)
    if part is None or x not in depends(rate):
        return False
    values = numpy_values([rate, part.slope], at.random)
    slope, middle = values[part.slope], values[rate]
    up, down = (
        numpy_values([rate], {**at.random, x: at.random[x] + step})[rate] for step in (0.25, -0.25)
    )
    bend = np.abs(up - 2.0 * middle + down)
    size = np.abs(up) + np.abs(middle) + np.abs(down)
    return bool(np.all(bend <= 1e-8 * size) and np.all(slope <= 0) and np.any(slope < 0))


def current_name(text: str) -> str:
    """The usual name of a current, such as I_Na for i_Na, INa and INa_INa."""
    bare = re.sub(r"^[iI]_?(?=[A-Za-z0-9])", "", text)
    known = _CURRENTS.get(bare.lower()) or _CURRENTS.get(bare.lower().replace("_", ""))
    if known:
        return f"I_{known}"
    halves = text.split("_")
    if len(halves) > 1 and halves[0] and "_".join(halves[1:]) == halves[0]:
        return current_name(halves[0])
    return f"I_{bare}" if bare != text else text


def channels_of(
    currents: Mapping[str, Node], parameters: Mapping[str, str], at: Points
) -> dict[str, str]:
    """Currents with the one parameter that is their maximal conductance, by name and in fact.

    Args:
        currents: formulas by name.
        parameters: leaf to the parameter's own name.
        at: values to look at the formulas with.
    """
    depends = Leaves()
    found: dict[str, str] = {}
    for current, formula in currents.items():
        used = [p for p in depends(formula) if p in parameters]
        fitting = [
            p for p in used
            if _CONDUCTANCE.search(parameters[p]) and _in_proportion(formula, p, at)
        ]  # fmt: skip
        alone = [p for p in fitting if sum(p in depends(f) for f in currents.values()) == 1]
        named = [p for p in fitting if _alike(parameters[p], current)]
        for some in (fitting, alone, named, [p for p in named if p in alone]):
            if len(some) == 1:
                found[current] = parameters[some[0]]
                break
    return found


def _alike(parameter: str, current: str) -> bool:
    def letters(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    bare = letters(current.removeprefix("I_"))
    rest = letters(re.sub(r"^(g|p|perm|k|i|v)_?", "", parameter, flags=re.I))
    same = {bare, bare[1:] + bare[:1]}  # bNa and Nab
    return re.sub(r"(max|bar|b|c)$", "", rest) in same or rest in same


def _in_proportion(formula: Node, parameter: str, at: Points) -> bool:
    once = numpy_values([formula], at.random)[formula]
    twice = numpy_values([formula], {**at.random, parameter: 2.0 * at.random[parameter]})[formula]
    return bool(np.all(np.abs(twice - 2.0 * once) <= 1e-9 * np.abs(once)) and np.any(once != 0))


def calcium_of(states: Mapping[str, str], marked: Sequence[str]) -> str | None:
    """The cytosol's free calcium among state variables that are concentrations.

    Args:
        states: names that they have here, to names in the file.
        marked: those that the file's annotations call so.
    """
    if len(marked) == 1:
        return marked[0]
    likely = [name for name, text in states.items() if _CALCIUM.fullmatch(text)]
    return likely[0] if len(likely) == 1 else None
