"""One time step for every ionic model: Rush-Larsen for gates, forward Euler for most of the rest.

`stepper` gives this step or a generalised one (`cardiotwin.ionic.generalised`) by its name.

At a fixed potential a gate g of a Hodgkin-Huxley type model obeys dg/dt = a - b g with a and b
free of g, so its equation is solved exactly over a step (Rush and Larsen 1978,
https://doi.org/10.1109/TBME.1978.326270):

    g(t + dt) = g + dt (a - b g) phi1(-b dt),    phi1(z) = (exp(z) - 1) / z.

The slope -b is what forward-mode differentiation of the rates returns for a tangent of 1 on every
gate at once, because no gate's rate contains another gate. A model therefore gives its rates only.

The potential and the other variables then advance by forward Euler with the gates at the middle of
the step, the mean of old and new. With old gates, as usual elsewhere, activation lags and the
conduction velocity falls (by 5 % at 0.05 ms); with the mean it stays within 1 % up to 0.05 ms. That
evaluates the currents a second time, about a tenth of an ionic step (docs/decisions/0008).

Variables that relax fast but are no gates (the model's `linearised`: Markov states, calcium release
that a current drives) would limit the time step. With the same gates at the middle, such a y with
rate f takes the step of generalised Rush-Larsen of first order,

    y(t + dt) = y + dt f phi1(a dt),    a = df/dy of this variable alone,

which is exact where f is affine in y and the rest stands still. A model without any pays nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin.ionic._base import AbstractIonicModel, default_float
from cardiotwin.ionic.generalised import generalised_rush_larsen
from cardiotwin.numerics.elementary import phi1

IonicStep = Literal["rush_larsen", "grl1", "grl2"]
"""Rush-Larsen, or generalised Rush-Larsen of first or second order (`generalised_rush_larsen`)."""


def stepper(ionic_step: IonicStep) -> Callable[..., tuple[Array, Any]]:
    """The function that advances a model by one time step: (model, v, state, dt, stimulus).

    Raises:
        ValueError: an unknown name.
    """
    steps = {
        "rush_larsen": rush_larsen,
        "grl1": partial(generalised_rush_larsen, order=1),
        "grl2": partial(generalised_rush_larsen, order=2),
    }
    if ionic_step not in steps:
        names = ", ".join(repr(name) for name in get_args(IonicStep))
        raise ValueError(f"ionic_step is {ionic_step!r}; give one of {names}.")
    return steps[ionic_step]


def rush_larsen(
    model: AbstractIonicModel,
    v: Float[ArrayLike, "*nodes"],
    state: Any,
    dt: float | Array,
    stimulus: float | Float[ArrayLike, "*nodes"] = 0.0,
    *,
    centred: bool = True,
) -> tuple[Float[Array, "*nodes"], Any]:
    """Advance membrane potential and state by one time step.

    Current and rates are evaluated at the old potential. The float type of `v` decides the
    arithmetic; parameters are cast to it. Every state variable keeps its own float type, so slow
    concentrations may be held in float64 beside a float32 rest.

    Args:
        model: any ionic model; its parameters are scalars or have the shape of `v`.
        v: membrane potential, mV.
        state: the model's `State`, each variable of the shape of `v`.
        dt: time step, ms; 0.02 keeps the action potential to 1 %, 0.05 is usual in tissue.
        stimulus: current over the membrane capacitance, mV/ms, positive depolarises. It moves the
            potential only; the ions it carries are left out (`stimulus_rates`).
        centred: whether the current and the other rates see the gates at the middle of the step;
            False takes the old gates, to compare with programs that do.

    Returns:
        Potential and state at t + dt.
    """
    v = jnp.asarray(v)
    v = v if jnp.issubdtype(v.dtype, jnp.floating) else v.astype(default_float())
    dtype = v.dtype
    model = model.astype(dtype)
    dt, stimulus = jnp.asarray(dt, dtype), jnp.asarray(stimulus, dtype)
    old = {
        name: x if hasattr(x, "dtype") else jnp.asarray(x, dtype)
        for name, x in state._asdict().items()
    }
    current = type(state)(*(x.astype(dtype) for x in old.values()))

    rates, slopes = _gate_rates(model, v, current)
    new = {name: old[name] + dt * rates[name] * phi1(dt * slopes[name]) for name in model.gates}
    if centred:
        current = current._replace(**{name: 0.5 * (old[name] + new[name]) for name in model.gates})
    for name in model.linearised:
        rate, slope = _rate_and_slope(model, v, current, name)
        new[name] = old[name] + (dt * rate * phi1(dt * slope)).astype(old[name].dtype)
    i_ion, rates = model(v, current)
    for name in (name for name in old if name not in new):
        new[name] = old[name] + (dt * getattr(rates, name)).astype(old[name].dtype)
    return v + dt * (stimulus - i_ion), type(state)(**new)


def _rate_and_slope(
    model: AbstractIonicModel, v: Array, state: Any, name: str
) -> tuple[Array, Array]:
    """The rate of one variable, and its slope in the variable itself."""

    def rate_of(x: Array) -> Array:
        rate = getattr(model(v, state._replace(**{name: x}))[1], name)
        return jnp.broadcast_to(rate, x.shape)

    x = getattr(state, name)
    return jax.jvp(rate_of, (x,), (jnp.ones_like(x),))


def _gate_rates(
    model: AbstractIonicModel, v: Array, state: Any
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The rate of every gate, and the slope of that rate in the gate itself."""

    def rates_of(gates: dict[str, Array]) -> dict[str, Array]:
        _, rates = model(v, state._replace(**gates))
        return {name: getattr(rates, name) for name in gates}

    gates = {name: getattr(state, name) for name in model.gates}
    return jax.jvp(rates_of, (gates,), (jax.tree.map(jnp.ones_like, gates),))
