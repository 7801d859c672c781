"""What ten Tusscher-Panfilov 2006 and the Purkinje cell that was built upon it have in common.

Papers and symbols as in `ten_tusscher_2006`; values are the epicardial ones.

The rates are the hot loop of every simulation, so they are written with few transcendentals and
quotients: time constants as reciprocals over one common denominator, exponentials of commensurate
arguments as multiples of one another within a gate. Each comment gives the printed form. Between
gates nothing is shared on purpose: XLA would store the shared array, which costs more than the
exponential.
"""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractStartedModel
from cardiotwin.numerics.elementary import exp, phi1


class TenTusscherCell(AbstractStartedModel):
    """Sodium, calcium, delayed rectifiers, pumps and calcium handling.

    The potassium that a stimulus current carries into the cell is left out of dK_i/dt, because in
    tissue a node is driven by its neighbours; `stimulus_rates` gives it for single-cell pacing.
    """

    slow: ClassVar[tuple[str, ...]] = ("Ca_SR", "Na_i", "K_i")
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    calcium: ClassVar[str | None] = "Ca_i"

    g_Na: Any = param(14.838, "nS/pF", meaning="conductance of I_Na")
    g_K1: Any = param(5.405, "nS/pF", meaning="conductance of I_K1")
    g_to: Any = param(0.294, "nS/pF", meaning="conductance of I_to")
    g_Kr: Any = param(0.153, "nS/pF", meaning="conductance of I_Kr")
    g_Ks: Any = param(0.392, "nS/pF", meaning="conductance of I_Ks")
    g_CaL: Any = param(0.0398, "L/(F s)", meaning="conductance of I_CaL (3.98e-5 cm3/(uF s))")
    g_bNa: Any = param(0.00029, "nS/pF", meaning="conductance of the background sodium current")
    g_bCa: Any = param(0.000592, "nS/pF", meaning="conductance of the background calcium current")
    g_pCa: Any = param(0.1238, "pA/pF", meaning="maximum of I_pCa")
    g_pK: Any = param(0.0146, "nS/pF", meaning="conductance of I_pK")
    P_NaK: Any = param(2.724, "pA/pF", meaning="maximum of I_NaK")
    k_NaCa: Any = param(1000.0, "pA/pF", meaning="maximum of I_NaCa")
    P_KNa: Any = param(0.03, "", meaning="permeability of I_Ks to sodium over potassium")
    K_mK: Any = param(1.0, "mM", meaning="half saturation of I_NaK by K_o")
    K_mNa: Any = param(40.0, "mM", meaning="half saturation of I_NaK by Na_i")
    K_mCa: Any = param(1.38, "mM", meaning="half saturation of I_NaCa by calcium")
    K_mNai: Any = param(87.5, "mM", meaning="half saturation of I_NaCa by sodium")
    k_sat: Any = param(0.1, "", meaning="saturation of I_NaCa")
    gamma: Any = param(0.35, "", meaning="position of the energy barrier of I_NaCa")
    alpha: Any = param(2.5, "", meaning="factor of the outward part of I_NaCa")
    K_pCa: Any = param(0.0005, "mM", meaning="half saturation of I_pCa by Ca_i")
    K_o: Any = param(5.4, "mM", meaning="extracellular potassium")
    Na_o: Any = param(140.0, "mM", meaning="extracellular sodium")
    Ca_o: Any = param(2.0, "mM", meaning="extracellular calcium")
    Vmax_up: Any = param(0.006375, "mM/ms", meaning="maximum of I_up")
    K_up: Any = param(0.00025, "mM", meaning="half saturation of I_up")
    V_rel: Any = param(0.102, "1/ms", meaning="conductance of I_rel")
    V_leak: Any = param(0.00036, "1/ms", meaning="conductance of I_leak")
    V_xfer: Any = param(0.0038, "1/ms", meaning="conductance of I_xfer")
    k1_prime: Any = param(0.15, "1/(mM^2 ms)", meaning="opening rate of the release channel")
    k2_prime: Any = param(0.045, "1/(mM ms)", meaning="inactivation rate of the release channel")
    k3: Any = param(0.06, "1/ms", meaning="closing rate of the release channel")
    k4: Any = param(0.005, "1/ms", meaning="recovery rate of the release channel")
    EC: Any = param(1.5, "mM", meaning="half saturation of k_CaSR by Ca_SR")
    max_sr: Any = param(2.5, "", meaning="largest k_CaSR")
    min_sr: Any = param(1.0, "", meaning="smallest k_CaSR")
    Buf_c: Any = param(0.2, "mM", meaning="cytoplasmic calcium buffer")
    K_buf_c: Any = param(0.001, "mM", meaning="its half saturation")
    Buf_sr: Any = param(10.0, "mM", meaning="calcium buffer of the sarcoplasmic reticulum")
    K_buf_sr: Any = param(0.3, "mM", meaning="its half saturation")
    Buf_ss: Any = param(0.4, "mM", meaning="calcium buffer of the subspace")
    K_buf_ss: Any = param(0.00025, "mM", meaning="its half saturation")
    V_c: Any = param(16404.0, "um^3", meaning="cytoplasmic volume")
    V_sr: Any = param(1094.0, "um^3", meaning="volume of the sarcoplasmic reticulum")
    V_ss: Any = param(54.68, "um^3", meaning="volume of the subspace")
    C: Any = param(185.0, "pF", meaning="capacitance of the cell in the ion balances")
    R: Any = param(8.314472, "J/(mol K)", meaning="gas constant")
    T: Any = param(310.0, "K", meaning="temperature")
    F: Any = param(96.4853415, "C/mmol", meaning="Faraday constant")

    def stimulus_rates(self, stimulus: Float[ArrayLike, "*nodes"]) -> dict[str, Array]:
        """The stimulus as a potassium current into the cell, as in the published single cell."""
        return {"K_i": jnp.asarray(stimulus) * (self.C / (self.V_c * self.F))}

    def _i_cal(self, v: Array, y: Any, rt_f: Any) -> Array:
        """I_CaL = g d f f2 fCass 4 (V-15) F^2/(RT) (0.25 Ca_ss e^z - Ca_o)/(e^z - 1)."""
        z = (2.0 / rt_f) * (v - 15.0)
        bernoulli = 1.0 / phi1(z)  # z/(e^z - 1), 1 at V = 15 mV
        driving = 0.25 * y.Ca_ss * (z + bernoulli) - self.Ca_o * bernoulli
        return (2.0 * self.F * self.g_CaL) * y.d * y.f * y.f2 * y.fCass * driving

    def _exchange_currents(self, v: Array, y: Any, rt_f: Any) -> tuple[Array, Array]:
        """I_NaK and I_NaCa."""
        tenth = exp((-0.1 / rt_f) * v)
        whole = tenth**10  # exp(-V F/(R T))
        pump = self.P_NaK * self.K_o / (self.K_o + self.K_mK)
        i_nak = pump * y.Na_i / ((y.Na_i + self.K_mNa) * (1.0 + 0.1245 * tenth + 0.0353 * whole))

        inward = exp((self.gamma / rt_f) * v)  # exp(gamma V F/(R T))
        outward = inward * whole  # exp((gamma - 1) V F/(R T))
        scale = self.k_NaCa / ((self.K_mNai**3 + self.Na_o**3) * (self.K_mCa + self.Ca_o))
        driving = inward * y.Na_i**3 * self.Ca_o - outward * y.Ca_i * (self.Na_o**3 * self.alpha)
        return i_nak, scale * driving / (1.0 + self.k_sat * outward)

    def _sodium_gate_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # tau_m = 1/(1 + exp((-60-V)/5)) (0.1/(1 + exp((V+35)/5)) + 0.1/(1 + exp((V-50)/200)))
        a = exp((v + 35.0) / 5.0)
        b = 1.0 + exp((v - 50.0) / 200.0)
        m_rate = 10.0 * (1.0 + math.exp(-5.0) / a) * (1.0 + a) * b / (1.0 + a + b)
        m_inf = 1.0 / (1.0 + exp((-56.86 - v) / 9.03)) ** 2

        h_inf = 1.0 / (1.0 + exp((v + 71.55) / 7.43)) ** 2
        h_rate, j_rate = sodium_inactivation(v)
        return {
            "m": (m_inf - y.m) * m_rate,
            "h": (h_inf - y.h) * h_rate,
            "j": (h_inf - y.j) * j_rate,
        }

    def _rectifier_gate_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # tau_Xr1 = 450/(1 + exp((-45-V)/10)) 6/(1 + exp((V+30)/11.5))
        xr1_inf = 1.0 / (1.0 + exp((-26.0 - v) / 7.0))
        xr1_rate = (1.0 + exp((-45.0 - v) / 10.0)) * (1.0 + exp((v + 30.0) / 11.5)) / 2700.0

        # tau_Xr2 = 3/(1 + exp((-60-V)/20)) 1.12/(1 + exp((V-60)/20))
        xr2_inf = 1.0 / (1.0 + exp((v + 88.0) / 24.0))
        a = exp((v - 60.0) / 20.0)
        xr2_rate = (1.0 + math.exp(-6.0) / a) * (1.0 + a) / 3.36

        # tau_Xs = 1400/sqrt(1 + exp((5-V)/6)) 1/(1 + exp((V-35)/15)) + 80
        xs_inf = 1.0 / (1.0 + exp((-5.0 - v) / 14.0))
        b = jnp.sqrt(1.0 + exp((5.0 - v) / 6.0)) * (1.0 + exp((v - 35.0) / 15.0))
        xs_rate = b / (1400.0 + 80.0 * b)

        return {
            "Xr1": (xr1_inf - y.Xr1) * xr1_rate,
            "Xr2": (xr2_inf - y.Xr2) * xr2_rate,
            "Xs": (xs_inf - y.Xs) * xs_rate,
        }

    def _calcium_gate_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # tau_d = (1.4/(1 + exp((-35-V)/13)) + 0.25) 1.4/(1 + exp((V+5)/5)) + 1/(1 + exp((50-V)/20))
        d_inf = 1.0 / (1.0 + exp((-8.0 - v) / 7.5))
        a = 1.0 + exp((-35.0 - v) / 13.0)
        x = exp((v - 50.0) / 20.0)
        ab = a * (1.0 + math.exp(11.0) * x**4)
        c = 1.0 + 1.0 / x
        d_rate = ab * c / ((1.96 + 0.35 * a) * c + ab)

        # tau_f = 1102.5 exp(-(V+27)^2/225) + 20
        #         + 200/(1 + exp((13-V)/10)) + 180/(1 + exp((V+30)/10))
        f_inf = 1.0 / (1.0 + exp((v + 20.0) / 7.0))
        x = exp((v - 13.0) / 10.0)
        a, b = 1.0 + x, 1.0 + math.exp(4.3) * x
        bell = 1102.5 * exp((v + 27.0) ** 2 / -225.0) + 20.0
        f_rate = a * b / (a * b * bell + 200.0 * x * b + 180.0 * a)

        # tau_f2 = 562 exp(-(V+27)^2/240) + 31/(1 + exp((25-V)/10)) + 80/(1 + exp((V+30)/10))
        f2_inf = 0.67 / (1.0 + exp((v + 35.0) / 7.0)) + 0.33
        x = exp((v - 25.0) / 10.0)
        a, b = 1.0 + x, 1.0 + math.exp(5.5) * x
        bell = 562.0 * exp((v + 27.0) ** 2 / -240.0)
        f2_rate = a * b / (a * b * bell + 31.0 * x * b + 80.0 * a)

        # fCass_inf = 0.6/q + 0.4, tau_fCass = 80/q + 2, q = 1 + (Ca_ss/0.05)^2
        q = 1.0 + (y.Ca_ss * 20.0) ** 2
        return {
            "d": (d_inf - y.d) * d_rate,
            "f": (f_inf - y.f) * f_rate,
            "f2": (f2_inf - y.f2) * f2_rate,
            "fCass": (0.6 / q + 0.4 - y.fCass) * (q / (80.0 + 2.0 * q)),
        }

    def _calcium_rates(self, y: Any, i_cal: Array, efflux: Array) -> dict[str, Array]:
        """Calcium and its release; efflux through the outer membrane in mM/ms of cytoplasm."""
        i_up = self.Vmax_up * y.Ca_i**2 / (y.Ca_i**2 + self.K_up**2)
        i_leak = self.V_leak * (y.Ca_SR - y.Ca_i)
        i_xfer = self.V_xfer * (y.Ca_ss - y.Ca_i)
        # k_CaSR = max - (max - min)/(1 + (EC/Ca_SR)^2), k1 = k1'/k_CaSR, k2 = k2' k_CaSR,
        # O = k1 Ca_ss^2 R'/(k3 + k1 Ca_ss^2)
        saturation = y.Ca_SR**2 / (y.Ca_SR**2 + self.EC**2)
        k_casr = self.max_sr - (self.max_sr - self.min_sr) * saturation
        opening = self.k1_prime * y.Ca_ss**2
        is_open = opening * y.R_prime / (self.k3 * k_casr + opening)
        i_rel = self.V_rel * is_open * (y.Ca_SR - y.Ca_ss)

        into_ss = (
            (self.V_sr / self.V_ss) * i_rel
            - (self.V_c / self.V_ss) * i_xfer
            - (self.C / (2.0 * self.V_ss * self.F)) * i_cal
        )
        into_i = (self.V_sr / self.V_c) * (i_leak - i_up) + i_xfer - efflux
        return {
            "R_prime": self.k4 * (1.0 - y.R_prime) - self.k2_prime * k_casr * y.Ca_ss * y.R_prime,
            "Ca_i": into_i * _free(y.Ca_i, self.Buf_c, self.K_buf_c),
            "Ca_SR": (i_up - i_leak - i_rel) * _free(y.Ca_SR, self.Buf_sr, self.K_buf_sr),
            "Ca_ss": into_ss * _free(y.Ca_ss, self.Buf_ss, self.K_buf_ss),
        }


def sodium_inactivation(v: Array) -> tuple[Array, Array]:
    """1/tau_h and 1/tau_j of the fast sodium current, 1/ms."""
    # 1/tau_h = alpha_h + beta_h, 1/tau_j = alpha_j + beta_j: two branches, of V < -40 mV
    # (left below) and V >= -40 mV; exponentials that only one branch needs share a register.
    low = v < -40.0
    vl = jnp.where(low, v, -40.0)  # keeps the branch not taken finite, also in derivatives
    c = exp(jnp.where(low, (v + 80.0) / -6.8, (v + 10.66) / -11.1))
    h_rate = jnp.where(
        low,
        0.057 * c + 2.7 * exp(0.079 * vl) + 3.1e5 * exp(0.3485 * vl),
        (0.77 / 0.13) / (1.0 + c),
    )
    c = 1.0 + exp(jnp.where(low, 0.311 * (v + 79.23), -0.1 * (v + 32.0)))
    e = exp(jnp.where(low, -0.01052 * v, 0.057 * v))
    alpha_j = (-25428.0 * exp(0.2444 * vl) - 6.948e-6 * exp(-0.04391 * vl)) * (vl + 37.78)
    beta_j = 0.02424 * e / (1.0 + exp(-0.1378 * (vl + 40.14)))
    return h_rate, jnp.where(low, alpha_j, 0.6 * e) / c + jnp.where(low, beta_j, 0.0)


def _free(ca: Array, buffer: Any, half: Any) -> Array:
    """Free share of a calcium change, 1/(1 + buffer half/(ca + half)^2)."""
    square = (ca + half) ** 2
    return square / (square + buffer * half)
