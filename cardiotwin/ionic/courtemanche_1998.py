"""Human atrial cell: Courtemanche, Ramirez and Nattel 1998, 20 variables beside the potential.

M. Courtemanche, R. J. Ramirez and S. Nattel, Ionic mechanisms underlying human atrial action
potential properties: insights from a mathematical model, Am J Physiol 275:H301-H321, 1998,
https://doi.org/10.1152/ajpheart.1998.275.1.H301; equations of its appendix, symbols of the paper
(Ca_up and Ca_rel for the calcium of the network and the junctional reticulum).
docs/models/courtemanche_1998.md lists parameters, initial state and departures.

Rates over a difference, as in (V + 47.13)/(1 - exp(-0.1 (V + 47.13))), are written with phi1, so
that the potentials where the printed quotient is 0/0 are ordinary points.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractStartedModel, gate_rates, summed
from cardiotwin.ionic._limit_cycles import limit_cycle
from cardiotwin.ionic.luo_rudy_1991 import sodium_gate_rates
from cardiotwin.numerics.elementary import exp, log, phi1


class CourtemancheState(NamedTuple):
    """Gates (no unit) and concentrations (mM), in the paper's symbols."""

    m: Any
    h: Any
    j: Any
    oa: Any
    oi: Any
    ua: Any
    ui: Any
    xr: Any
    xs: Any
    d: Any
    f: Any
    f_Ca: Any
    u: Any
    v: Any
    w: Any
    Na_i: Any
    K_i: Any
    Ca_i: Any
    Ca_up: Any
    Ca_rel: Any


PAPER_STATE: tuple[float, CourtemancheState] = (
    -81.18,
    CourtemancheState(
        m=2.908e-3, h=0.9649, j=0.9775, oa=3.043e-2, oi=0.9992, ua=4.966e-3, ui=0.9986,
        xr=3.296e-5, xs=1.869e-2, d=1.367e-4, f=0.9996, f_Ca=0.7755, u=0.0, v=1.0, w=0.9992,
        Na_i=11.17, K_i=139.0, Ca_i=1.013e-4, Ca_up=1.488, Ca_rel=1.488,
    ),
)  # fmt: skip
"""Potential (mV) and state at rest, as the paper's appendix prints them."""


class Courtemanche1998(AbstractStartedModel):
    """Courtemanche-Ramirez-Nattel cell of the human atrium.

    The release gates u and v follow the calcium flux Fn, which u, v and the calcium current drive:
    they are no gates of the Rush-Larsen kind, and slow enough (2 to 8 ms) for forward Euler.
    """

    State: ClassVar[type[Any]] = CourtemancheState
    gates: ClassVar[tuple[str, ...]] = (
        "m", "h", "j", "oa", "oi", "ua", "ui", "xr", "xs", "d", "f", "f_Ca", "w",
    )  # fmt: skip
    slow: ClassVar[tuple[str, ...]] = ("Na_i", "K_i", "Ca_up", "Ca_rel")
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    calcium: ClassVar[str | None] = "Ca_i"
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "I_Na": "g_Na", "I_K1": "g_K1", "I_to": "g_to", "I_Kur": "g_Kur", "I_Kr": "g_Kr",
            "I_Ks": "g_Ks", "I_CaL": "g_CaL", "I_pCa": "I_pCa_max", "I_NaK": "I_NaK_max",
            "I_NaCa": "I_NaCa_max", "I_bNa": "g_bNa", "I_bCa": "g_bCa",
        }
    )  # fmt: skip

    g_Na: Any = param(7.8, "nS/pF", meaning="conductance of I_Na")
    g_K1: Any = param(0.09, "nS/pF", meaning="conductance of I_K1")
    g_to: Any = param(0.1652, "nS/pF", meaning="conductance of I_to")
    g_Kur: Any = param(0.005, "nS/pF", meaning="conductance of I_Kur far below 15 mV")
    g_Kr: Any = param(0.029411765, "nS/pF", meaning="conductance of I_Kr (0.0294 in print)")
    g_Ks: Any = param(0.12941176, "nS/pF", meaning="conductance of I_Ks (0.129 in print)")
    g_CaL: Any = param(0.12375, "nS/pF", meaning="conductance of I_CaL (0.1238 in print)")
    g_bCa: Any = param(0.001131, "nS/pF", meaning="conductance of the calcium background")
    g_bNa: Any = param(0.0006744375, "nS/pF", meaning="conductance of the sodium background")
    I_NaK_max: Any = param(0.59933874, "pA/pF", meaning="maximum of I_NaK (0.60 in print)")
    I_NaCa_max: Any = param(1600.0, "pA/pF", meaning="maximum of I_NaCa")
    I_pCa_max: Any = param(0.275, "pA/pF", meaning="maximum of I_pCa")
    I_up_max: Any = param(0.005, "mM/ms", meaning="maximum of uptake")
    K_Q10: Any = param(3.0, "", meaning="temperature factor of I_to and I_Kur")
    gamma: Any = param(0.35, "", meaning="voltage dependence of I_NaCa")
    K_mNai: Any = param(10.0, "mM", meaning="half saturation of I_NaK by Na_i")
    K_mKo: Any = param(1.5, "mM", meaning="half saturation of I_NaK by K_o")
    K_mNa: Any = param(87.5, "mM", meaning="half saturation of I_NaCa by sodium")
    K_mCa: Any = param(1.38, "mM", meaning="half saturation of I_NaCa by calcium")
    k_sat: Any = param(0.1, "", meaning="saturation of I_NaCa")
    k_rel: Any = param(30.0, "1/ms", meaning="largest rate of release")
    K_up: Any = param(0.00092, "mM", meaning="half saturation of uptake")
    Ca_up_max: Any = param(15.0, "mM", meaning="calcium of the network at which leak is I_up_max")
    tau_tr: Any = param(180.0, "ms", meaning="refilling of the junctional reticulum")
    CMDN_max: Any = param(0.05, "mM", meaning="calmodulin")
    TRPN_max: Any = param(0.07, "mM", meaning="troponin")
    CSQN_max: Any = param(10.0, "mM", meaning="calsequestrin")
    K_mCMDN: Any = param(0.00238, "mM", meaning="half saturation of calmodulin")
    K_mTRPN: Any = param(0.0005, "mM", meaning="half saturation of troponin")
    K_mCSQN: Any = param(0.8, "mM", meaning="half saturation of calsequestrin")
    K_o: Any = param(5.4, "mM", meaning="extracellular potassium")
    Na_o: Any = param(140.0, "mM", meaning="extracellular sodium")
    Ca_o: Any = param(1.8, "mM", meaning="extracellular calcium")
    # shares of a cell of 20100 um^3: 68, 0.48 and 5.52 %
    V_i: Any = param(13668.0, "um^3", meaning="volume of the cytoplasm")
    V_rel: Any = param(96.48, "um^3", meaning="volume of the junctional reticulum")
    V_up: Any = param(1109.52, "um^3", meaning="volume of the network reticulum")
    C_m: Any = param(100.0, "pF", meaning="capacitance of the cell")
    R: Any = param(8.3143, "J/(mol K)", meaning="gas constant")
    T: Any = param(310.0, "K", meaning="temperature")
    F: Any = param(96.4867, "C/mmol", meaning="Faraday constant")
    start: tuple[Any, CourtemancheState] = limit_cycle("Courtemanche1998", CourtemancheState)
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    def stimulus_rates(self, stimulus: Float[ArrayLike, "*nodes"]) -> dict[str, Array]:
        """The stimulus as a potassium current into the cell."""
        return {"K_i": jnp.asarray(stimulus) * (self.C_m / (self.V_i * self.F))}

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: CourtemancheState
    ) -> tuple[Float[Array, "*nodes"], CourtemancheState]:
        """Ionic current over capacitance (pA/pF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        c = self.currents(v, y)
        potassium = c["I_K1"] + c["I_to"] + c["I_Kur"] + c["I_Kr"] + c["I_Ks"] - 2.0 * c["I_NaK"]
        sodium = c["I_Na"] + c["I_bNa"] + 3.0 * (c["I_NaK"] + c["I_NaCa"])
        per_current = self.C_m / (self.V_i * self.F)  # mM/ms in the cytoplasm per pA/pF
        rates = {
            **gate_rates(*sodium_gate_rates(v), y),  # those of Luo and Rudy 1991
            **self._outward_gate_rates(v, y),
            **self._rectifier_gate_rates(v, y),
            **self._calcium_gate_rates(v, y),
            **self._release_rates(y, c),
            "Na_i": -per_current * sodium,
            "K_i": -per_current * potassium,
            **self._calcium_rates(y, c, per_current),
        }
        return summed(c), CourtemancheState(**rates)

    def currents(self, v: Float[ArrayLike, "*nodes"], state: CourtemancheState) -> dict[str, Array]:
        """Each current over capacitance, pA/pF."""
        v, y = jnp.asarray(v), state
        rt_f = self.R * self.T / self.F
        na = v - rt_f * (log(self.Na_o) - log(y.Na_i))  # V - E_Na
        k = v - rt_f * (log(self.K_o) - log(y.K_i))
        ca = v - 0.5 * rt_f * (log(self.Ca_o) - log(y.Ca_i))
        i_nak, i_naca = self._exchange_currents(v, y, rt_f)
        # g_Kur = 0.005 + 0.05/(1 + exp((V - 15)/-13))
        kur = self.g_Kur * (1.0 + 10.0 / (1.0 + exp((v - 15.0) / -13.0)))
        return {
            "I_Na": self.g_Na * y.m**3 * y.h * y.j * na,
            "I_K1": self.g_K1 * k / (1.0 + exp(0.07 * (v + 80.0))),
            "I_to": self.g_to * y.oa**3 * y.oi * k,
            "I_Kur": kur * y.ua**3 * y.ui * k,
            "I_Kr": self.g_Kr * y.xr * k / (1.0 + exp((v + 15.0) / 22.4)),
            "I_Ks": self.g_Ks * y.xs**2 * k,
            "I_CaL": self.g_CaL * y.d * y.f * y.f_Ca * (v - 65.0),
            "I_pCa": self.I_pCa_max * y.Ca_i / (y.Ca_i + 0.0005),
            "I_NaK": i_nak,
            "I_NaCa": i_naca,
            "I_bNa": self.g_bNa * na,
            "I_bCa": self.g_bCa * ca,
        }

    def _exchange_currents(self, v: Array, y: CourtemancheState, rt_f: Any) -> tuple[Array, Array]:
        """I_NaK and I_NaCa."""
        tenth = exp((-0.1 / rt_f) * v)
        whole = tenth**10  # exp(-V F/(R T))
        sigma = (exp(self.Na_o / 67.3) - 1.0) / 7.0
        # 1/(1 + (K_mNai/Na_i)^1.5)
        sodium = y.Na_i * jnp.sqrt(y.Na_i)
        sodium = sodium / (sodium + self.K_mNai * jnp.sqrt(self.K_mNai))
        pump = self.I_NaK_max * self.K_o / (self.K_o + self.K_mKo)
        i_nak = pump * sodium / (1.0 + 0.1245 * tenth + 0.0365 * sigma * whole)

        inward = exp((self.gamma / rt_f) * v)  # exp(gamma V F/(R T))
        outward = inward * whole  # exp((gamma - 1) V F/(R T))
        scale = self.I_NaCa_max / ((self.K_mNa**3 + self.Na_o**3) * (self.K_mCa + self.Ca_o))
        driving = inward * y.Na_i**3 * self.Ca_o - outward * self.Na_o**3 * y.Ca_i
        return i_nak, scale * driving / (1.0 + self.k_sat * outward)

    def _outward_gate_rates(self, v: Array, y: CourtemancheState) -> dict[str, Array]:
        # alpha_oa = alpha_ua = 0.65/(exp((V+10)/-8.5) + exp((V-30)/-59))
        # beta_oa = beta_ua = 0.65/(2.5 + exp((V+82)/17))
        x = exp((v + 10.0) / 17.0)
        alpha = 1.0 / (1.0 / (x * x) + exp((v - 30.0) / -59.0))
        a_rate = 0.65 * self.K_Q10 * (alpha + 1.0 / (2.5 + math.exp(72.0 / 17.0) * x))
        oa_inf = 1.0 / (1.0 + exp((v + 20.47) / -17.54))
        ua_inf = 1.0 / (1.0 + exp((v + 30.3) / -9.6))
        alpha = 1.0 / (18.53 + exp((v + 113.7) / 10.95))
        oi_rate = self.K_Q10 * (alpha + 1.0 / (35.56 + exp((v + 1.26) / -7.44)))
        oi_inf = 1.0 / (1.0 + exp((v + 43.1) / 5.3))
        alpha = 1.0 / (21.0 + exp((v - 185.0) / -28.0))
        ui_rate = self.K_Q10 * (alpha + exp((v - 158.0) / 16.0))
        ui_inf = 1.0 / (1.0 + exp((v - 99.45) / 27.48))
        return {
            "oa": (oa_inf - y.oa) * a_rate,
            "oi": (oi_inf - y.oi) * oi_rate,
            "ua": (ua_inf - y.ua) * a_rate,
            "ui": (ui_inf - y.ui) * ui_rate,
        }

    def _rectifier_gate_rates(self, v: Array, y: CourtemancheState) -> dict[str, Array]:
        # alpha_xr = 0.0003 (V+14.1)/(1 - exp(-(V+14.1)/5))
        # beta_xr = 7.3898e-5 (V-3.3328)/(exp((V-3.3328)/5.1237) - 1)
        alpha = 0.0015 / phi1((v + 14.1) / -5.0)
        xr_rate = alpha + 7.3898e-5 * 5.1237 / phi1((v - 3.3328) / 5.1237)
        xr_inf = 1.0 / (1.0 + exp((v + 14.1) / -6.5))
        # alpha_xs = 4e-5 (V-19.9)/(1 - exp(-(V-19.9)/17)), beta_xs = 3.5e-5 (V-19.9)/(exp(./9) - 1)
        # tau_xs = 1/(2 (alpha + beta))
        xs_rate = 2.0 * (6.8e-4 / phi1((v - 19.9) / -17.0) + 3.15e-4 / phi1((v - 19.9) / 9.0))
        xs_inf = 1.0 / jnp.sqrt(1.0 + exp((v - 19.9) / -12.7))
        return {"xr": (xr_inf - y.xr) * xr_rate, "xs": (xs_inf - y.xs) * xs_rate}

    def _calcium_gate_rates(self, v: Array, y: CourtemancheState) -> dict[str, Array]:
        # tau_d = (1 - e^z)/(0.035 (V+10) (1 + e^z)), z = -(V+10)/6.24, e^z = 1 + z phi1(z)
        z = (v + 10.0) / -6.24
        p = phi1(z)
        d_rate = (0.035 * 6.24) * (2.0 + z * p) / p
        d_inf = 1.0 / (1.0 + exp((v + 10.0) / -8.0))
        # tau_f = 9/(0.0197 exp(-(0.0337 (V+10))^2) + 0.02)
        f_rate = (0.0197 * exp(-((0.0337 * (v + 10.0)) ** 2)) + 0.02) / 9.0
        f_inf = 1.0 / (1.0 + exp((v + 28.0) / 6.9))
        # tau_w = 6 (1 - e^z)/((1 + 0.3 e^z) (V-7.9)), z = -(V-7.9)/5
        z = (v - 7.9) / -5.0
        p = phi1(z)
        w_rate = (1.3 + 0.3 * z * p) / (1.2 * p)
        w_inf = 1.0 - 1.0 / (1.0 + exp((v - 40.0) / -17.0))
        return {
            "d": (d_inf - y.d) * d_rate,
            "f": (f_inf - y.f) * f_rate,
            "f_Ca": (0.00035 / (0.00035 + y.Ca_i) - y.f_Ca) * 0.5,
            "w": (w_inf - y.w) * w_rate,
        }

    def _release(self, y: CourtemancheState) -> Array:
        """I_rel, mM/ms."""
        return self.k_rel * y.u**2 * y.v * y.w * (y.Ca_rel - y.Ca_i)

    def _release_rates(self, y: CourtemancheState, c: dict[str, Array]) -> dict[str, Array]:
        # Fn = 1e-12 V_rel I_rel - 5e-13/F (0.5 I_CaL - 0.2 I_NaCa), currents in pA; here in 1e-15
        drive = 0.5 * c["I_CaL"] - 0.2 * c["I_NaCa"]
        fn = 1e3 * self.V_rel * self._release(y) - (500.0 * self.C_m / self.F) * drive
        u_inf = lax.logistic((fn - 341.75) / 1.367)
        v_inf = lax.logistic((68.35 - fn) / 1.367)
        return {"u": (u_inf - y.u) * 0.125, "v": (v_inf - y.v) / (1.91 + 2.09 * u_inf)}

    def _calcium_rates(
        self, y: CourtemancheState, c: dict[str, Array], per_current: Any
    ) -> dict[str, Array]:
        up = self.I_up_max * y.Ca_i / (y.Ca_i + self.K_up)
        leak = self.I_up_max / self.Ca_up_max * y.Ca_up
        transfer = (y.Ca_up - y.Ca_rel) / self.tau_tr
        release = self._release(y)
        outer = c["I_CaL"] + c["I_pCa"] + c["I_bCa"] - 2.0 * c["I_NaCa"]
        into_i = (self.V_up * (leak - up) + self.V_rel * release) / self.V_i
        bound = (
            self.TRPN_max * self.K_mTRPN / (y.Ca_i + self.K_mTRPN) ** 2
            + self.CMDN_max * self.K_mCMDN / (y.Ca_i + self.K_mCMDN) ** 2
        )
        stored = self.CSQN_max * self.K_mCSQN / (y.Ca_rel + self.K_mCSQN) ** 2
        return {
            "Ca_i": (into_i - 0.5 * per_current * outer) / (1.0 + bound),
            "Ca_up": up - leak - transfer * (self.V_rel / self.V_up),
            "Ca_rel": (transfer - release) / (1.0 + stored),
        }
