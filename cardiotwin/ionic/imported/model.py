"""The model class that a description becomes."""

import types
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, AbstractStartedModel
from cardiotwin.ionic.imported.build import Description
from cardiotwin.ionic.imported.evaluate import Evaluator
from cardiotwin.ionic.imported.nodes import POTENTIAL


class Report(NamedTuple):
    """What was found in a file; prints as a table.

    Attributes:
        file: the path that was read.
        title: the model's name in it.
        found: what was found, by topic.
        check: figures of the check by name; empty where it was skipped.
    """

    file: str
    title: str
    found: dict[str, str]
    check: dict[str, float]

    def __str__(self) -> str:
        """One line a topic."""
        figures = "; ".join(f"{key} {value:.3g}" for key, value in self.check.items())
        rows = {"file": self.file, "model": self.title, **self.found, "check": figures or "skipped"}
        width = max(map(len, rows))
        return "\n".join(f"{topic.ljust(width)}  {text}" for topic, text in rows.items())


class ImportedModel(AbstractStartedModel):
    """A model that was read from a file; its subclasses are made by `read_cell_model`.

    The parameters are in the file's own units, which their table names; potential, time, currents
    and concentrations are in mV, ms, pA/pF and mM.

    Attributes:
        description: names, numbers and formulas.
        report: what was found in the file.
    """

    description: ClassVar[Description]
    report: ClassVar[Report]
    rates_of: ClassVar[Evaluator]
    currents_of: ClassVar[Evaluator]
    carried_of: ClassVar[Evaluator]

    def __call__(self, v: Float[ArrayLike, "*nodes"], state: Any) -> tuple[Array, Any]:
        """Ionic current over capacitance (mV/ms) and rates of the state per ms."""
        found = self.rates_of(self._leaves(v, state))
        about = self.description
        shape = jnp.shape(v)
        scale = about.per_ms / about.per_mv
        i_ion = _scaled(found[POTENTIAL], -scale)
        rates = (_scaled(found[f"rate {x.name}"], x.factor * about.per_ms) for x in about.states)
        filled = (jnp.broadcast_to(x, shape) if jnp.shape(x) != shape else x for x in rates)
        return i_ion, self.State(*filled)

    def currents(self, v: Float[ArrayLike, "*nodes"], state: Any) -> dict[str, Array]:
        """The terms of the potential's rate by name, outward positive (pA/pF)."""
        found = self.currents_of(self._leaves(v, state))
        scale = self.description.per_ms / self.description.per_mv
        return {
            key.removeprefix("current "): _scaled(jnp.asarray(value), scale)
            for key, value in found.items()
        }

    def stimulus_rates(self, stimulus: Float[ArrayLike, "*nodes"]) -> dict[str, Array]:
        """The stimulus as the ions that it carries in the file."""
        if not self.carried_of.roots:
            return {}
        found = self.carried_of(self._parameters())
        about = self.description
        return {
            x.name: stimulus * _scaled(found[f"carried {x.name}"], x.factor * about.per_mv)
            for x in about.states
            if f"carried {x.name}" in found
        }

    def _leaves(self, v: Any, state: Any) -> dict[str, Any]:
        about = self.description
        v = jnp.asarray(v)
        own = {
            f"state {x.name}": _scaled(getattr(state, x.name), 1.0 / x.factor) for x in about.states
        }
        potential = _scaled(v - about.rest if about.rest else v, about.per_mv)
        return {POTENTIAL: potential, **own, **self._parameters()}

    def _parameters(self) -> dict[str, Any]:
        return {f"parameter {x.name}": getattr(self, x.name) for x in self.description.parameters}


def _scaled(value: Any, factor: float) -> Any:
    """A product, left out where the factor is 1."""
    if factor == 1.0:
        return value
    return -value if factor == -1.0 else value * factor


def _state_class(name: str, fields: list[str]) -> Any:
    return NamedTuple(name, [(field, Any) for field in fields])  # pyright: ignore


def model_class(description: Description, file: str, digest: str) -> type[ImportedModel]:
    """Make the class of a model.

    Args:
        description: all about it.
        file: where it was read.
        digest: tells models of the same title apart, in the class's name.
    """
    rest = description.potential[1]
    state = _state_class(f"{description.title}State", [x.name for x in description.states])
    start = (rest, state(*(x.value for x in description.states)))
    named: dict[str, dict[str, Any]] = {"rate": {}, "current": {}, "carried": {}}
    for key, node in description.formulas.items():
        named.get(key.split(" ")[0], named["rate"])[key] = node
    body = {
        "__module__": __name__,
        "__doc__": f"The model {description.title} of {file}.",
        "__annotations__": {**{x.name: Any for x in description.parameters}, "start": Any},
        **{x.name: param(x.value, x.unit, meaning=x.meaning) for x in description.parameters},
        "start": start,
        "State": state,
        "gates": description.gates,
        "linearised": description.linearised,
        "slow": description.slow,
        "activation_threshold": -20.0,
        # nine tenths of the way back, where rest is too high for the usual -70 mV
        "repolarisation_threshold": max(-70.0, round(rest + 0.1 * (30.0 - rest))),
        "channels": types.MappingProxyType(dict(description.channels)),
        "calcium": description.calcium,
        "description": description,
        "report": Report(file, description.title, description.report, description.check),
        "rates_of": Evaluator(named["rate"]),
        "currents_of": Evaluator(named["current"]),
        "carried_of": Evaluator(named["carried"]),
    }
    made = types.new_class(
        f"{description.title}_{digest[:8]}", (ImportedModel,), {}, lambda space: space.update(body)
    )
    return made


def potential_and_rates(model: AbstractIonicModel, y: Array, stimulus: Array) -> Array:
    """Rates of the potential and the state variables as one array."""
    i_ion, rates = model(y[0], model.State(*y[1:]))
    return jnp.stack([stimulus - i_ion, *rates])


def jacobian(model: AbstractIonicModel, y: Array, stimulus: Array) -> Array:
    """Derivatives of the same."""
    return jax.jacfwd(lambda z: potential_and_rates(model, z, stimulus))(y)
