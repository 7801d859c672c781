"""Human Purkinje cell: Stewart et al. 2009, 19 variables beside the potential; it beats by itself.

P. Stewart, O. V. Aslanidi, D. Noble, P. J. Noble, M. R. Boyett and H. Zhang, Mathematical models of
the electrical action potential of Purkinje fibre cells, Phil Trans R Soc A 367:2225-2255, 2009,
https://doi.org/10.1098/rsta.2008.0283. It is ten Tusscher-Panfilov 2006 (`_ten_tusscher`) with the
hyperpolarisation-activated I_f and the sustained I_sus, and with other I_K1, I_to and conductances.
Symbols are the papers'. docs/models/stewart_2009.md lists parameters, initial state and departures.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import summed
from cardiotwin.ionic._ten_tusscher import TenTusscherCell
from cardiotwin.numerics.elementary import exp, log


class StewartState(NamedTuple):
    """Gates (no unit) and concentrations (mM), in the papers' symbols."""

    y: Any
    Xr1: Any
    Xr2: Any
    Xs: Any
    m: Any
    h: Any
    j: Any
    d: Any
    f: Any
    f2: Any
    fCass: Any
    s: Any
    r: Any
    R_prime: Any
    Ca_i: Any
    Ca_SR: Any
    Ca_ss: Any
    Na_i: Any
    K_i: Any


# The CellML file's state, the steady oscillation without a stimulus.
_START = (
    -69.1370441635924,
    StewartState(
        y=0.0457562667986602, Xr1=0.00550281999719088, Xr2=0.313213286437995,
        Xs=0.00953708522974789, m=0.0417391656294997, h=0.190678733735145, j=0.238219836154029,
        d=0.000287906256206415, f=0.989328560287987, f2=0.995474890442185,
        fCass=0.999955429598213, s=0.96386101799501, r=0.00103618091196912,
        R_prime=0.991580051907845, Ca_i=0.000101878186157052, Ca_SR=3.10836886659417,
        Ca_ss=0.000446818714055411, Na_i=8.80420286531673, K_i=136.781894160227,
    ),
)  # fmt: skip
_OHMIC = ("Na", "K1", "to", "Kr", "Ks", "CaL", "bNa", "bCa", "pK", "sus", "f_Na", "f_K")


class Stewart2009(TenTusscherCell):
    """Stewart et al.'s Purkinje cell. Without a stimulus it fires by itself."""

    State: ClassVar[type[Any]] = StewartState
    gates: ClassVar[tuple[str, ...]] = StewartState._fields[:13]
    repolarisation_threshold: ClassVar[float] = -60.0  # it depolarises on from about -75 mV
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            **{f"I_{name}": f"g_{name}" for name in _OHMIC},
            "I_pCa": "g_pCa",
            "I_NaK": "P_NaK",
            "I_NaCa": "k_NaCa",
        }
    )

    g_Na: Any = param(130.5744, "nS/pF", meaning="conductance of I_Na")
    g_K1: Any = param(0.065, "nS/pF", meaning="conductance of I_K1")
    g_to: Any = param(0.08184, "nS/pF", meaning="conductance of I_to")
    g_Kr: Any = param(0.0918, "nS/pF", meaning="conductance of I_Kr")
    g_Ks: Any = param(0.2352, "nS/pF", meaning="conductance of I_Ks")
    g_sus: Any = param(0.0227, "nS/pF", meaning="conductance of the sustained I_sus")
    g_f_Na: Any = param(0.0145654, "nS/pF", meaning="sodium conductance of I_f")
    g_f_K: Any = param(0.0234346, "nS/pF", meaning="potassium conductance of I_f")
    start: tuple[Any, StewartState] = _START
    """Potential and state to start from; by default of the steady oscillation."""

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: StewartState
    ) -> tuple[Float[Array, "*nodes"], StewartState]:
        """Ionic current over capacitance (pA/pF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        c = self.currents(v, y)
        sodium = c["I_Na"] + c["I_bNa"] + c["I_f_Na"] + 3.0 * (c["I_NaK"] + c["I_NaCa"])
        potassium = (
            c["I_K1"] + c["I_to"] + c["I_Kr"] + c["I_Ks"] + c["I_pK"] + c["I_sus"] + c["I_f_K"]
        ) - 2.0 * c["I_NaK"]
        calcium = c["I_bCa"] + c["I_pCa"] - 2.0 * c["I_NaCa"]
        per_current = self.C / (self.V_c * self.F)  # mM/ms in the cytoplasm per pA/pF
        rates = {
            **self._sodium_gate_rates(v, y),
            **self._rectifier_gate_rates(v, y),
            **self._outward_gate_rates(v, y),
            **self._calcium_gate_rates(v, y),
            **self._calcium_rates(y, c["I_CaL"], calcium * (0.5 * per_current)),
            "Na_i": -per_current * sodium,
            "K_i": -per_current * potassium,
        }
        return summed(c), StewartState(**rates)

    def currents(self, v: Float[ArrayLike, "*nodes"], state: StewartState) -> dict[str, Array]:
        """Each current over capacitance, pA/pF."""
        v, y = jnp.asarray(v), state
        rt_f = self.R * self.T / self.F
        na = v - rt_f * (log(self.Na_o) - log(y.Na_i))  # V - E_Na
        k = v - rt_f * (log(self.K_o) - log(y.K_i))
        ca = v - 0.5 * rt_f * (log(self.Ca_o) - log(y.Ca_i))
        e_ks = rt_f * (log(self.K_o + self.P_KNa * self.Na_o) - log(y.K_i + self.P_KNa * y.Na_i))
        i_nak, i_naca = self._exchange_currents(v, y, rt_f)
        return {
            "I_Na": self.g_Na * y.m**3 * y.h * y.j * na,
            "I_K1": self.g_K1 * (k - 8.0) / (1.0 + exp(0.1 * (v + 75.44))),
            "I_to": self.g_to * y.r * y.s * k,
            "I_sus": self.g_sus * k / (1.0 + exp((5.0 - v) / 17.0)),
            "I_Kr": self.g_Kr * jnp.sqrt(self.K_o / 5.4) * y.Xr1 * y.Xr2 * k,
            "I_Ks": self.g_Ks * y.Xs**2 * (v - e_ks),
            "I_f_Na": self.g_f_Na * y.y * na,
            "I_f_K": self.g_f_K * y.y * k,
            "I_CaL": self._i_cal(v, y, rt_f),
            "I_NaK": i_nak,
            "I_NaCa": i_naca,
            "I_pCa": self.g_pCa * y.Ca_i / (y.Ca_i + self.K_pCa),
            "I_pK": self.g_pK * k / (1.0 + exp((25.0 - v) / 5.98)),
            "I_bNa": self.g_bNa * na,
            "I_bCa": self.g_bCa * ca,
        }

    def _outward_gate_rates(self, v: Array, y: StewartState) -> dict[str, Array]:
        # tau_y = 4000/(exp(-2.9 - 0.04 V) + exp(3.6 + 0.11 V))
        y_inf = 1.0 / (1.0 + exp((v + 80.6) / 6.8))
        y_rate = (exp(-2.9 - 0.04 * v) + exp(3.6 + 0.11 * v)) / 4000.0
        # tau_s = 85 exp(-(V+25)^2/320) + 5/(1 + exp((V-40)/5)) + 42
        s_inf = 1.0 / (1.0 + exp((v + 27.0) / 13.0))
        c = 1.0 + exp((v - 40.0) / 5.0)
        s_rate = c / (c * (85.0 * exp((v + 25.0) ** 2 / -320.0) + 42.0) + 5.0)
        r_inf = 1.0 / (1.0 + exp((20.0 - v) / 13.0))
        r_rate = 1.0 / (10.45 * exp((v + 40.0) ** 2 / -1800.0) + 7.3)
        return {
            "y": (y_inf - y.y) * y_rate,
            "s": (s_inf - y.s) * s_rate,
            "r": (r_inf - y.r) * r_rate,
        }
