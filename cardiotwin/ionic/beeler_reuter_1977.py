"""Mammalian ventricular cell: Beeler and Reuter 1977, 7 variables beside the potential.

G. W. Beeler and H. Reuter, Reconstruction of the action potential of ventricular myocardial fibres,
J Physiol 268:177-210, 1977, https://doi.org/10.1113/jphysiol.1977.sp011853; currents of its
equations 2 to 8, rate constants of its Table 1. The membrane has 1 uF/cm^2, so uA/cm^2 are mV/ms.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractStartedModel, gate_rates, summed
from cardiotwin.numerics.elementary import exp, log, phi1


class BeelerReuterState(NamedTuple):
    """Gates (no unit) and the calcium inside (mM), in the paper's symbols."""

    m: Any
    h: Any
    j: Any
    d: Any
    f: Any
    x1: Any
    Ca_i: Any


# End of the last of 100 beats at 1000 ms, started from the CellML file's: `pace(cell, beats=100)`.
_START = (
    -84.4264,
    BeelerReuterState(
        m=0.0111949, h=0.987111, j=0.97408, d=0.003017, f=0.99998, x1=0.0213736, Ca_i=0.000179389
    ),
)


class BeelerReuter1977(AbstractStartedModel):
    """Beeler-Reuter 1977 cell."""

    State: ClassVar[type[Any]] = BeelerReuterState
    gates: ClassVar[tuple[str, ...]] = BeelerReuterState._fields[:6]
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 2.2  # velocity^2/diffusivity on a cable
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"I_Na": "g_Na", "I_bNa": "g_NaC", "I_s": "g_s", "I_K1": "g_K1", "I_x1": "g_x1"}
    )
    calcium: ClassVar[str | None] = "Ca_i"

    g_Na: Any = param(4.0, "mS/cm^2", meaning="conductance of I_Na")
    g_NaC: Any = param(0.003, "mS/cm^2", meaning="steady conductance for sodium (I_bNa)")
    E_Na: Any = param(50.0, "mV", meaning="reversal potential of sodium")
    g_s: Any = param(0.09, "mS/cm^2", meaning="conductance of the slow inward current I_s")
    g_K1: Any = param(0.35, "uA/cm^2", meaning="scale of I_K1")
    g_x1: Any = param(0.8, "uA/cm^2", meaning="scale of I_x1")
    k_Ca: Any = param(0.0001, "mM cm^2/(uA ms)", meaning="calcium that I_s brings")
    k_up: Any = param(0.07, "1/ms", meaning="rate at which calcium is taken up")
    Ca_rest: Any = param(0.0001, "mM", meaning="calcium at which the uptake rests")
    start: tuple[Any, BeelerReuterState] = _START
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: BeelerReuterState
    ) -> tuple[Float[Array, "*nodes"], BeelerReuterState]:
        """Ionic current over capacitance (uA/uF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        currents = self.currents(v, y)
        opening, closing = _rates(v)
        gates = gate_rates(opening, closing, y)
        calcium = -self.k_Ca * currents["I_s"] + self.k_up * (self.Ca_rest - y.Ca_i)
        return summed(currents), BeelerReuterState(**gates, Ca_i=calcium)

    def currents(self, v: Float[ArrayLike, "*nodes"], state: BeelerReuterState) -> dict[str, Array]:
        """Each current over capacitance, mV/ms; the paper counts I_bNa as part of I_Na."""
        v, y = jnp.asarray(v), state
        e_s = -82.3 - 13.0287 * log(0.001 * y.Ca_i)  # of calcium in mol/l
        # i_K1 = g (4 (e^(0.04 (V+85)) - 1)/(e^(0.08 (V+53)) + e^(0.04 (V+53)))
        #           + 0.2 (V+23)/(1 - e^(-0.04 (V+23))))
        p = exp(0.04 * (v + 53.0))
        rectified = 4.0 * (exp(0.04 * (v + 85.0)) - 1.0) / (p * (p + 1.0))
        return {
            "I_Na": self.g_Na * y.m**3 * y.h * y.j * (v - self.E_Na),
            "I_bNa": self.g_NaC * (v - self.E_Na),
            "I_s": self.g_s * y.d * y.f * (v - e_s),
            "I_K1": self.g_K1 * (rectified + 5.0 / phi1(-0.04 * (v + 23.0))),
            "I_x1": self.g_x1 * y.x1 * (exp(0.04 * (v + 77.0)) - 1.0) * exp(-0.04 * (v + 35.0)),
        }


def _rates(v: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Opening and closing rates (alpha and beta) of every gate, 1/ms: Table 1 of the paper."""
    opening = {
        "m": 10.0 / phi1(-0.1 * (v + 47.0)),  # (V+47)/(1 - e^(-0.1 (V+47)))
        "h": 0.126 * exp(-0.25 * (v + 77.0)),
        "j": 0.055 * exp(-0.25 * (v + 78.0)) / (1.0 + exp(-0.2 * (v + 78.0))),
        "d": 0.095 * exp(-(v - 5.0) / 100.0) / (1.0 + exp(-(v - 5.0) / 13.89)),
        "f": 0.012 * exp(-(v + 28.0) / 125.0) / (1.0 + exp((v + 28.0) / 6.67)),
        "x1": 0.0005 * exp((v + 50.0) / 12.1) / (1.0 + exp((v + 50.0) / 17.5)),
    }
    closing = {
        "m": 40.0 * exp(-0.056 * (v + 72.0)),
        "h": 1.7 / (1.0 + exp(-0.082 * (v + 22.5))),
        "j": 0.3 / (1.0 + exp(-0.1 * (v + 32.0))),
        "d": 0.07 * exp(-(v + 44.0) / 59.0) / (1.0 + exp((v + 44.0) / 20.0)),
        "f": 0.0065 * exp(-(v + 30.0) / 50.0) / (1.0 + exp(-(v + 30.0) / 5.0)),
        "x1": 0.0013 * exp(-(v + 20.0) / 16.67) / (1.0 + exp(-(v + 20.0) / 25.0)),
    }
    return opening, closing
