"""Guinea-pig ventricular cell: Luo and Rudy 1991, 7 variables beside the potential.

C. H. Luo and Y. Rudy, A model of the ventricular cardiac action potential: depolarization,
repolarization, and their interaction, Circ Res 68:1501-1526, 1991,
https://doi.org/10.1161/01.RES.68.6.1501; currents and rate constants of its Table 1. The membrane
has 1 uF/cm^2, so uA/cm^2 are mV/ms. Ions other than calcium are constant.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractStartedModel, gate_rates, summed
from cardiotwin.numerics.elementary import exp, log, phi1


class LuoRudyState(NamedTuple):
    """Gates (no unit) and the calcium inside (mM), in the paper's symbols."""

    m: Any
    h: Any
    j: Any
    d: Any
    f: Any
    X: Any
    Ca_i: Any


# End of the last of 100 beats at 1000 ms, started from the CellML file's: `pace(cell, beats=100)`.
_START = (
    -84.4394,
    LuoRudyState(
        m=0.00169659, h=0.982891, j=0.989257, d=0.00300565, f=0.999979, X=0.0288243,
        Ca_i=0.000179088,
    ),
)  # fmt: skip


class LuoRudy1991(AbstractStartedModel):
    """Luo-Rudy 1991 cell (LR-I)."""

    State: ClassVar[type[Any]] = LuoRudyState
    gates: ClassVar[tuple[str, ...]] = LuoRudyState._fields[:6]
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 4.2  # velocity^2/diffusivity on a cable
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {f"I_{name}": f"g_{name}" for name in ("Na", "si", "K", "K1", "Kp", "b")}
    )
    calcium: ClassVar[str | None] = "Ca_i"

    g_Na: Any = param(23.0, "mS/cm^2", meaning="conductance of I_Na")
    g_si: Any = param(0.09, "mS/cm^2", meaning="conductance of the slow inward current I_si")
    g_K: Any = param(0.282, "mS/cm^2", meaning="conductance of I_K at K_o = 5.4 mM")
    g_K1: Any = param(0.6047, "mS/cm^2", meaning="conductance of I_K1 at K_o = 5.4 mM")
    g_Kp: Any = param(0.0183, "mS/cm^2", meaning="conductance of the plateau current I_Kp")
    g_b: Any = param(0.03921, "mS/cm^2", meaning="conductance of the background current I_b")
    E_b: Any = param(-59.87, "mV", meaning="reversal potential of I_b")
    PR_NaK: Any = param(0.01833, "", meaning="permeability of I_K to sodium over potassium")
    K_o: Any = param(5.4, "mM", meaning="extracellular potassium")
    K_i: Any = param(145.0, "mM", meaning="potassium inside")
    Na_o: Any = param(140.0, "mM", meaning="extracellular sodium")
    Na_i: Any = param(18.0, "mM", meaning="sodium inside")
    k_Ca: Any = param(0.0001, "mM cm^2/(uA ms)", meaning="calcium that I_si brings")
    k_up: Any = param(0.07, "1/ms", meaning="rate at which calcium is taken up")
    Ca_rest: Any = param(0.0001, "mM", meaning="calcium at which the uptake rests")
    R: Any = param(8.314, "J/(mol K)", meaning="gas constant")
    T: Any = param(310.0, "K", meaning="temperature")
    F: Any = param(96.4846, "C/mmol", meaning="Faraday constant")
    start: tuple[Any, LuoRudyState] = _START
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: LuoRudyState
    ) -> tuple[Float[Array, "*nodes"], LuoRudyState]:
        """Ionic current over capacitance (uA/uF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        currents = self.currents(v, y)
        opening, closing = _rates(v)
        gates = gate_rates(opening, closing, y)
        calcium = -self.k_Ca * currents["I_si"] + self.k_up * (self.Ca_rest - y.Ca_i)
        return summed(currents), LuoRudyState(**gates, Ca_i=calcium)

    def currents(self, v: Float[ArrayLike, "*nodes"], state: LuoRudyState) -> dict[str, Array]:
        """Each current over capacitance, mV/ms."""
        v, y = jnp.asarray(v), state
        rt_f = self.R * self.T / self.F
        e_na = rt_f * jnp.log(self.Na_o / self.Na_i)
        e_k1 = rt_f * jnp.log(self.K_o / self.K_i)
        e_k = rt_f * jnp.log(
            (self.K_o + self.PR_NaK * self.Na_o) / (self.K_i + self.PR_NaK * self.Na_i)
        )
        e_si = 7.7 - 13.0287 * log(y.Ca_i)
        root = jnp.sqrt(self.K_o / 5.4)
        i_kp = self.g_Kp / (1.0 + exp((7.488 - v) / 5.98)) * (v - e_k1)
        return {
            "I_Na": self.g_Na * y.m**3 * y.h * y.j * (v - e_na),
            "I_si": self.g_si * y.d * y.f * (v - e_si),
            "I_K": self.g_K * root * y.X * _x_i(v) * (v - e_k),
            "I_K1": self.g_K1 * root * _k1_inf(v - e_k1) * (v - e_k1),
            "I_Kp": i_kp,
            "I_b": self.g_b * (v - self.E_b),
        }


def _x_i(v: Array) -> Array:
    """Inactivation of I_K: 1 up to -100 mV, a quotient with a removable singularity above."""
    # X_i = 2.837 (e^(0.04 (V+77)) - 1)/((V+77) e^(0.04 (V+35)))
    above = jnp.maximum(v, -100.0)  # keeps the branch not taken finite
    rectified = 2.837 * 0.04 * phi1(0.04 * (above + 77.0)) * exp(-0.04 * (above + 35.0))
    return jnp.where(v > -100.0, rectified, 1.0)


def _k1_inf(x: Array) -> Array:
    """Steady activation of I_K1 at x = V - E_K1, alpha/(alpha + beta)."""
    alpha = 1.02 / (1.0 + exp(0.2385 * (x - 59.215)))
    beta = 0.49124 * exp(0.08032 * (x + 5.476)) + exp(0.06175 * (x - 594.31))
    return alpha / (alpha + beta / (1.0 + exp(-0.5143 * (x + 4.753))))


def sodium_gate_rates(v: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Opening and closing rates of m, h and j of I_Na, 1/ms, which other models took over."""
    low = v < -40.0
    below = jnp.minimum(v, -40.0)  # keeps the branch not taken finite, also in derivatives
    above = jnp.maximum(v, -40.0)
    falling = -1.2714e5 * exp(0.2444 * below) - 3.474e-5 * exp(-0.04391 * below)
    alpha_j = falling * (below + 37.78) / (1.0 + exp(0.311 * (below + 79.23)))
    opening = {
        "m": 3.2 / phi1(-0.1 * (v + 47.13)),  # 0.32 (V+47.13)/(1 - e^(-0.1 (V+47.13)))
        "h": jnp.where(low, 0.135 * exp(-(below + 80.0) / 6.8), 0.0),
        "j": jnp.where(low, alpha_j, 0.0),
    }
    closing = {
        "m": 0.08 * exp(-v / 11.0),
        "h": jnp.where(
            low,
            3.56 * exp(0.079 * below) + 3.1e5 * exp(0.35 * below),
            1.0 / (0.13 * (1.0 + exp(-(above + 10.66) / 11.1))),
        ),
        "j": jnp.where(
            low,
            0.1212 * exp(-0.01052 * below) / (1.0 + exp(-0.1378 * (below + 40.14))),
            0.3 * exp(-2.535e-7 * above) / (1.0 + exp(-0.1 * (above + 32.0))),
        ),
    }
    return opening, closing


def _rates(v: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Opening and closing rates (alpha and beta) of every gate, 1/ms: Table 1 of the paper."""
    opening, closing = sodium_gate_rates(v)
    opening |= {
        "d": 0.095 * exp(-0.01 * (v - 5.0)) / (1.0 + exp(-0.072 * (v - 5.0))),
        "f": 0.012 * exp(-0.008 * (v + 28.0)) / (1.0 + exp(0.15 * (v + 28.0))),
        "X": 0.0005 * exp(0.083 * (v + 50.0)) / (1.0 + exp(0.057 * (v + 50.0))),
    }
    closing |= {
        "d": 0.07 * exp(-0.017 * (v + 44.0)) / (1.0 + exp(0.05 * (v + 44.0))),
        "f": 0.0065 * exp(-0.02 * (v + 30.0)) / (1.0 + exp(-0.2 * (v + 30.0))),
        "X": 0.0013 * exp(-0.06 * (v + 20.0)) / (1.0 + exp(-0.04 * (v + 20.0))),
    }
    return opening, closing
