"""What every ionic model promises, and what follows from that promise alone.

A model states its differential equations as its paper prints them and names its gates. Everything
else is common: the table of parameters, blending of cell types, arrays to start from, and the time
step (`cardiotwin.ionic.stepping`).
"""

import abc
import dataclasses
import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

Model = TypeVar("Model", bound="AbstractIonicModel")


class Parameter(NamedTuple):
    """One row of a model's table of parameters."""

    name: str
    default: float
    unit: str
    meaning: str


class AbstractIonicModel(eqx.Module):
    """A published model of the ionic current through a cardiac cell's membrane.

    The fields of a model are its parameters: scalars, or arrays with one value per node. A cell
    type is a set of values, never a branch, so one tissue can mix types and gradients between them.

    Attributes:
        State: named tuple of the variables other than the membrane potential.
        gates: names of those state variables whose rate, at a fixed potential and fixed other
            variables, is affine in the gate itself and free of the other gates. They are advanced
            exactly (Rush-Larsen), whichever step is taken.
        linearised: names of further variables that relax quickly but whose rate contains gates or
            one another, such as the states of a Markov model: each is advanced by the exponential
            of its own slope (generalised Rush-Larsen of first order).
        slow: names of the variables whose change in one time step is below the resolution of
            float32 beside their value. They keep their drift when held in float64
            (`initial_arrays(..., slow_dtype=...)`).
        activation_threshold: potential in mV whose upward crossing counts as activation.
        repolarisation_threshold: potential in mV whose downward crossing counts as repolarisation.
        upstroke_rate: how fast the model depolarises in a wavefront, 1/ms; sets how far an edge
            resolves the front (`propagation/correction.py`). The default suits models of human
            ventricular cells with a fast sodium current.
        channels: name of a current, as in `currents`, to the parameter that scales it in
            proportion, its maximal conductance. Drugs block these and populations vary them.
        calcium: name of the state variable that is the free calcium of the cytosol (mM).
    """

    State: ClassVar[type[Any]]
    gates: ClassVar[tuple[str, ...]]
    linearised: ClassVar[tuple[str, ...]] = ()
    slow: ClassVar[tuple[str, ...]] = ()
    activation_threshold: ClassVar[float]
    repolarisation_threshold: ClassVar[float]
    upstroke_rate: ClassVar[float] = 4.0  # 1/ms
    channels: ClassVar[Mapping[str, str]] = MappingProxyType({})
    calcium: ClassVar[str | None] = None

    def __check_init__(self) -> None:
        """Check what the class says of itself, and the values and shapes of the parameters."""
        _check_class(type(self))
        _check_parameters(self)

    @abc.abstractmethod
    def initial(self) -> tuple[Any, Any]:
        """The potential and the state to start from.

        Returns:
            The membrane potential in mV and a `State`, of numbers or of arrays per node.
        """

    def starting_from(self, start: tuple[Any, Any]) -> Self:
        """The model with another potential and state to start from.

        A model whose rest follows from its parameters starts from there, whatever is given.
        """
        del start
        return self

    @abc.abstractmethod
    def __call__(self, v: Float[ArrayLike, "*nodes"], state: Any) -> tuple[Array, Any]:
        """The ionic current and the rates of the state variables.

        Args:
            v: membrane potential, mV.
            state: the `State` at the same nodes.

        Returns:
            The ionic current over the membrane capacitance in mV/ms, outward positive, and a
            `State` of time derivatives per ms. In a single cell dV/dt = stimulus - current.
        """

    def currents(self, v: Float[ArrayLike, "*nodes"], state: Any) -> dict[str, Array]:
        """The currents through the membrane by name, such as "I_Na"; they sum to the ionic current.

        Args:
            v: membrane potential, mV.
            state: the `State` at the same nodes.

        Returns:
            Current's name to its value over the membrane capacitance, mV/ms (pA/pF), outward
            positive.
        """
        return {"I_ion": self(v, state)[0]}

    def stimulus_rates(self, stimulus: Float[ArrayLike, "*nodes"]) -> dict[str, Array]:
        """Rates of change that ions carrying a stimulus current would add to the state.

        Single-cell pacing adds them, because without them charge is not conserved and the
        concentrations drift for ever. In tissue the current into a node comes from its neighbours
        and sums to nothing over a beat, so tissue solvers leave them out.

        Args:
            stimulus: stimulus current over the membrane capacitance, mV/ms, positive depolarises.

        Returns:
            State variable's name to rate per ms; empty for models without concentrations.
        """
        del stimulus
        return {}

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """The model's parameters with published value, unit and meaning."""
        return tuple(
            Parameter(f.name, float(str(f.default)), f.metadata["unit"], f.metadata["meaning"])
            for f in dataclasses.fields(cls)
            if "unit" in f.metadata
        )

    def under_way(self) -> Self:
        """The model without what only the initial state needs; it can still be stepped."""
        return self

    def astype(self, dtype: Any) -> Self:
        """The same model with every numeric parameter as an array of the given float type.

        Plain Python numbers become arrays too, so that a new value of a parameter does not make
        JAX compile again.
        """
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, dtype) if _is_number(leaf) else leaf, self
        )

    def initial_arrays(
        self, shape: int | tuple[int, ...], *, dtype: Any = None, slow_dtype: Any = None
    ) -> tuple[Array, Any]:
        """The initial potential and state at every node.

        Args:
            shape: number of nodes, or the shape of the arrays.
            dtype: float type; JAX's default where None.
            slow_dtype: float type of the variables named in `slow`; `dtype` where None.

        Returns:
            Potential in mV and `State`, arrays of `shape`.

        Raises:
            ValueError: an initial value per node does not fit `shape`.
        """
        dtype = default_float() if dtype is None else dtype
        shape = (shape,) if isinstance(shape, int) else tuple(shape)

        def fill(name: str, value: Any) -> Array:
            if np.ndim(value) and np.shape(value) != shape:
                raise ValueError(
                    f"{type(self).__name__}: the initial {name} has shape {np.shape(value)}, "
                    f"expected {shape}; blend the cell types with weights for these nodes."
                )
            kind = slow_dtype if slow_dtype is not None and name in self.slow else dtype
            return jnp.broadcast_to(jnp.asarray(value, kind), shape)

        v0, state0 = self.initial()
        values = zip(self.State._fields, state0, strict=True)
        return fill("V", v0), self.State(*(fill(name, value) for name, value in values))


class AbstractStartedModel(AbstractIonicModel):
    """A model that starts from its field `start`, such as the end of pacing to the limit cycle."""

    start: eqx.AbstractVar[tuple[Any, Any]]

    def initial(self) -> tuple[Any, Any]:
        """The field `start`."""
        return self.start

    def starting_from(self, start: tuple[Any, Any]) -> Self:
        """The model with another `start`."""
        return eqx.tree_at(_start_of, self, start, is_leaf=lambda x: x is None)

    def under_way(self) -> Self:
        """Without `start`."""
        return eqx.tree_at(_start_of, self, None)


def replaced(model: Model, parameters: Mapping[str, Any]) -> Model:
    """The model with some of its parameters replaced.

    Raises:
        ValueError: a name that is no parameter.
    """
    known = [row.name for row in model.parameters()]
    if unknown := sorted(parameters.keys() - set(known)):
        raise ValueError(
            f"{type(model).__name__} has no parameter {', '.join(unknown)}; it has "
            f"{', '.join(known)}."
        )
    for name, value in parameters.items():
        model = eqx.tree_at(lambda m, name=name: getattr(m, name), model, value)
    return model


def blend(models: Sequence[Model], weights: Any) -> Model:
    """Combine models of one class linearly, parameter by parameter.

    Endocardial, mid-myocardial and epicardial cells, and gradients between them, become parameters
    per node. A parameter that has the same value in every model stays the scalar it was. The
    initial state is combined with the same weights.

    Args:
        models: k models of the same class, with scalar parameters or ones per node.
        weights: [k] or [k, nodes], summing to 1 over the models; differentiable.

    Returns:
        A model of that class; parameters and initial state are the weighted sums.

    Raises:
        ValueError: no model, different classes, or weights of the wrong shape or sum.

    Example:
        `blend([TenTusscherPanfilov2006.endo(), TenTusscherPanfilov2006.epi()], [1 - x, x])` with
        `x` the transmural coordinate of every node, 0 at the endocardium.
    """
    models = list(models)
    _check_same_kind(models)
    weights = jnp.stack([jnp.asarray(w, _float_of(w)) for w in weights])
    _check_weights(weights, len(models))

    def combine(*leaves: Any) -> Any:
        if not _is_number(leaves[0]) or all(_same(leaf, leaves[0]) for leaf in leaves):
            return leaves[0]
        return sum(weights[i] * leaf for i, leaf in enumerate(leaves))

    return jax.tree.map(combine, *models)


def heaviside(x: Float[Array, "*nodes"], width: float) -> Float[Array, "*nodes"]:
    """The unit step H(x), 1 at x = 0, or (1 + tanh(x / width)) / 2 where width is not zero.

    The hard step has no derivative in the threshold that it switches at; calibrations that move a
    threshold need a width.
    """
    if width == 0.0:
        return (x >= 0).astype(x.dtype)
    return 0.5 * (1.0 + jnp.tanh(x / width))


def summed(currents: Mapping[str, Array]) -> Array:
    """The sum of named currents, first to last."""
    return reduce(operator.add, currents.values())


def gate_rates(
    opening: Mapping[str, Array], closing: Mapping[str, Array], state: Any
) -> dict[str, Array]:
    """Rates alpha (1 - y) - beta y of gates y of a state from their opening and closing rates."""
    return {
        name: opening[name] * (1.0 - getattr(state, name)) - closing[name] * getattr(state, name)
        for name in opening
    }


def default_float() -> Any:
    """JAX's default float type: float64 where x64 is enabled, float32 otherwise."""
    return jnp.zeros(0).dtype


def _start_of(model: Any) -> Any:
    return model.start


def _check_class(cls: type[AbstractIonicModel]) -> None:
    for name in ("State", "gates", "activation_threshold", "repolarisation_threshold"):
        if not hasattr(cls, name):
            raise ValueError(
                f"{cls.__name__} does not define {name}; every ionic model declares State, gates, "
                "activation_threshold and repolarisation_threshold as class variables."
            )
    for kind in ("gates", "linearised", "slow"):
        unknown = [name for name in getattr(cls, kind) if name not in cls.State._fields]
        if unknown:
            raise ValueError(
                f"{cls.__name__}.{kind} names {unknown}, which its State does not hold; the fields "
                f"of the State are {list(cls.State._fields)}."
            )
    if cls.calcium is not None and cls.calcium not in cls.State._fields:
        raise ValueError(
            f"{cls.__name__}.calcium is {cls.calcium!r}, which its State does not hold; the fields "
            f"of the State are {list(cls.State._fields)}."
        )
    parameters = {row.name for row in cls.parameters()}
    if unknown := [name for name in cls.channels.values() if name not in parameters]:
        raise ValueError(
            f"{cls.__name__}.channels names {unknown}, which are no parameters of the model."
        )


def _check_parameters(model: AbstractIonicModel) -> None:
    name = type(model).__name__
    shapes: dict[tuple[int, ...], str] = {}
    for row in model.parameters():
        value = getattr(model, row.name)
        if not _is_number(value):
            raise ValueError(
                f"{name}: parameter {row.name} is {value!r}; expected a number or an array with "
                f"one number per node, in {row.unit or 'no unit'} (published: {row.default:g})."
            )
        if np.ndim(value):
            shapes.setdefault(np.shape(value), row.name)
        if not isinstance(value, Tracer) and not np.all(np.isfinite(np.asarray(value))):
            raise ValueError(
                f"{name}: parameter {row.name} is not finite; expected finite values in "
                f"{row.unit or 'no unit'} (published: {row.default:g})."
            )
        conductance = row.name in model.channels.values()
        if conductance and not isinstance(value, Tracer) and np.any(np.asarray(value) < 0):
            raise ValueError(
                f"{name}: the conductance {row.name} is negative; expected 0 or more, in "
                f"{row.unit or 'no unit'} (published: {row.default:g})."
            )
    if len(shapes) > 1:
        named = ", ".join(f"{parameter} {shape}" for shape, parameter in shapes.items())
        raise ValueError(
            f"{name}: parameters per node differ in shape: {named}; give scalars, or arrays of one "
            "common shape."
        )


def _check_same_kind(models: list[Any]) -> None:
    if not models:
        raise ValueError("blend got no model; expected at least one, with one weight each.")
    names = sorted({type(model).__name__ for model in models})
    if len(names) > 1 or len({jax.tree.structure(model) for model in models}) > 1:
        raise ValueError(
            f"blend got models of {names} that differ in class or in a static option; expected one "
            "class with the same options (such as smoothing) throughout."
        )


def _check_weights(weights: Array, count: int) -> None:
    if weights.ndim not in (1, 2) or weights.shape[0] != count:
        raise ValueError(
            f"blend got weights of shape {weights.shape} for {count} models; expected ({count},) "
            f"or ({count}, nodes)."
        )
    if isinstance(weights, Tracer):
        return
    error = np.abs(np.asarray(weights, np.float64).sum(axis=0) - 1.0)
    if not np.all(error <= 1e-4):
        raise ValueError(
            f"blend got weights whose sum over the models is off 1 by up to {np.max(error):.3g}; "
            "divide them by their sum."
        )


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        return False
    return np.shape(a) == np.shape(b) and bool(np.all(np.asarray(a) == np.asarray(b)))


def _is_number(leaf: Any) -> bool:
    """Whether a leaf is a parameter's value: a real number or an array of them."""
    if isinstance(leaf, (int, float)):
        return not isinstance(leaf, bool)
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.number)


def _float_of(value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return default_float()
    return jax.dtypes.canonicalize_dtype(dtype)  # NumPy's float64 is float32 where x64 is off
