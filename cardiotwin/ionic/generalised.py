"""Generalised Rush-Larsen: every state variable by the exponential of its own slope.

Rush-Larsen solves the gates exactly and leaves the rest to forward Euler. Here each variable y_i
with rate f_i(y), the potential among them, is advanced as if its rate were affine in itself and
free of the others, with the slope a_i = df_i/dy_i, the diagonal of the Jacobian:

    order 1    y_i(t + dt) = y_i + dt f_i(y) phi1(a_i dt)
    order 2    z = a step of dt / 2 by order 1, and then, with f and a at z,
               y_i(t + dt) = y_i + dt (f_i(z) + a_i (y_i - z_i)) phi1(a_i dt).

Order 1 is that of Sundnes et al. 2009, https://doi.org/10.1109/TBME.2009.2014739. At order 2 the
rates are linearised at the middle of the step, as Perego and Veneziani do (ETNA 35:234-256, 2009);
Sundnes et al. evaluate f_i at z with y_i in the place of z_i instead, which is the same where f_i
is affine in y_i and would take one evaluation of the model for each variable where it is not.

Gates come out exact at the potential that the slopes are taken at, so they stay between 0 and 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin.ionic._base import AbstractIonicModel, default_float
from cardiotwin.numerics.elementary import phi1
from cardiotwin.numerics.target import repeat

POTENTIAL = ""  # name of the potential among the state variables


def generalised_rush_larsen(
    model: AbstractIonicModel,
    v: Float[ArrayLike, "*nodes"],
    state: Any,
    dt: float | Array,
    stimulus: float | Float[ArrayLike, "*nodes"] = 0.0,
    *,
    order: int = 1,
) -> tuple[Float[Array, "*nodes"], Any]:
    """Advance membrane potential and state by one time step.

    Arguments, float types and result as of `rush_larsen`.

    Args:
        model: any ionic model.
        v: membrane potential, mV.
        state: the model's `State`, each variable of the shape of `v`.
        dt: time step, ms.
        stimulus: current over the membrane capacitance, mV/ms, constant over the step.
        order: in time, 1 or 2; 2 evaluates rates and slopes twice.

    Raises:
        ValueError: another order.
    """
    if order not in (1, 2):
        raise ValueError(f"generalised_rush_larsen: order is {order}; give 1 or 2.")
    v = jnp.asarray(v)
    v = v if jnp.issubdtype(v.dtype, jnp.floating) else v.astype(default_float())
    dtype = v.dtype
    model = model.astype(dtype)
    dt, stimulus = jnp.asarray(dt, dtype), jnp.asarray(stimulus, dtype)
    old = {
        k: x if hasattr(x, "dtype") else jnp.asarray(x, dtype) for k, x in state._asdict().items()
    }
    old[POTENTIAL] = v

    def trip(k: Any, y: dict[str, Array]) -> dict[str, Array]:
        """The step from the old values, linearised at those that the trip before has come to."""
        length = jnp.where(k < order - 1, 0.5 * dt, dt)
        rates, slopes = _linearised(
            model, {name: x.astype(dtype) for name, x in y.items()}, stimulus
        )
        new = {}
        for name, x in old.items():
            rate = rates[name] - slopes[name] * (y[name] - x).astype(dtype)
            new[name] = x + (length * rate * phi1(length * slopes[name])).astype(x.dtype)
        return new

    # A loop keeps the middle in memory; written out on a CPU, XLA works it out anew for every
    # result (ten Tusscher-Panfilov: 13 times the cost of a Rush-Larsen step instead of 3).
    new = repeat(order, trip, old)
    return new.pop(POTENTIAL), type(state)(**new)


def _linearised(
    model: AbstractIonicModel, y: dict[str, Array], stimulus: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The rate of every variable, and its slope in the variable itself.

    No gate's rate contains another gate, so one tangent serves all gates; every other variable has
    one of its own. What such a tangent moves besides is not used, and XLA leaves it out.
    """

    def rates_of(some: dict[str, Array]) -> dict[str, Array]:
        at = {**y, **some}
        i_ion, rates = model(at.pop(POTENTIAL), model.State(**at))
        found = {**rates._asdict(), POTENTIAL: stimulus - i_ion}
        return {name: jnp.broadcast_to(found[name], y[name].shape) for name in some}

    groups = [model.gates, *((name,) for name in y if name not in model.gates)]
    rates, slopes = {}, {}
    for group in filter(None, groups):
        some = {name: y[name] for name in group}
        found = jax.jvp(rates_of, (some,), (jax.tree.map(jnp.ones_like, some),))
        rates |= found[0]
        slopes |= found[1]
    return rates, slopes
