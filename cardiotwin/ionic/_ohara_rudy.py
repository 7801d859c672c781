"""What the O'Hara-Rudy models of human ventricular cells have in common.

T. O'Hara, L. Virag, A. Varro and Y. Rudy, Simulation of the undiseased human cardiac ventricular
action potential: model formulation and experimental validation, PLoS Comput Biol 7:e1002061, 2011,
https://doi.org/10.1371/journal.pcbi.1002061; equations of its supplement (Text S1). ToR-ORd and the
CiPA model kept these parts and gave some constants other values.

A cell has a bulk of cytoplasm (i), a subspace (ss) beneath the membrane, and a network and a
junctional part of the sarcoplasmic reticulum (nsr, jsr). Calcium-calmodulin kinase (CaMK) moves a
share of several channels to a phosphorylated state with gates of its own (names ending in p).

As in `ten_tusscher_2006`, rates share exponentials within a gate and few quotients; comments give
the printed form.
"""

import abc
import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractStartedModel
from cardiotwin.numerics.elementary import exp, log, phi1


class OHaraRudyCell(AbstractStartedModel):
    """Currents, calcium handling and ion balances of the family; endocardial values."""

    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    calcium: ClassVar[str | None] = "Ca_i"
    slow: ClassVar[tuple[str, ...]] = (
        "Na_i", "Na_ss", "K_i", "K_ss", "Ca_nsr", "Ca_jsr", "CaMKt",
    )  # fmt: skip

    K_o: Any = param(5.4, "mM", meaning="extracellular potassium")
    Na_o: Any = param(140.0, "mM", meaning="extracellular sodium")
    Ca_o: Any = param(1.8, "mM", meaning="extracellular calcium")
    P_KNa: Any = param(0.01833, "", meaning="permeability of I_Ks to sodium over potassium")
    delta_epi: Any = param(0.0, "", meaning="share by which epicardial I_to inactivates sooner")
    f_CaL_p: Any = param(1.1, "", meaning="P_Ca of phosphorylated channels over P_Ca")
    P_CaNa_ratio: Any = param(0.00125, "", meaning="sodium permeability of I_CaL over P_Ca")
    P_CaK_ratio: Any = param(0.0003574, "", meaning="potassium permeability of I_CaL over P_Ca")
    K_mn: Any = param(0.002, "mM", meaning="half saturation of calcium-dependent inactivation")
    k_na1: Any = param(15.0, "mM", meaning="first sodium binding constant of I_NaCa")
    k_na2: Any = param(5.0, "mM", meaning="second sodium binding constant of I_NaCa")
    k_na3: Any = param(88.12, "mM", meaning="third sodium binding constant of I_NaCa")
    k_asymm: Any = param(12.5, "", meaning="asymmetry of I_NaCa")
    omega_Na: Any = param(6e4, "1/s", meaning="sodium translocation of I_NaCa")
    omega_Ca: Any = param(6e4, "1/s", meaning="calcium translocation of I_NaCa")
    omega_NaCa: Any = param(5e3, "1/s", meaning="combined translocation of I_NaCa")
    k_Ca_on: Any = param(1.5e6, "1/(mM s)", meaning="calcium binding of I_NaCa")
    k_Ca_off: Any = param(5e3, "1/s", meaning="calcium release of I_NaCa")
    q_Na: Any = param(0.5224, "", meaning="voltage dependence of sodium binding of I_NaCa")
    q_Ca: Any = param(0.167, "", meaning="voltage dependence of calcium translocation of I_NaCa")
    K_mCaAct: Any = param(1.5e-4, "mM", meaning="half activation of I_NaCa by calcium")
    k1_plus: Any = param(949.5, "1/s", meaning="rate of I_NaK")
    k1_minus: Any = param(182.4, "1/(mM s)", meaning="rate of I_NaK")
    k2_plus: Any = param(687.2, "1/s", meaning="rate of I_NaK")
    k2_minus: Any = param(39.4, "1/s", meaning="rate of I_NaK")
    k3_plus: Any = param(1899.0, "1/s", meaning="rate of I_NaK")
    k3_minus: Any = param(79300.0, "1/(mM^2 s)", meaning="rate of I_NaK")
    k4_plus: Any = param(639.0, "1/s", meaning="rate of I_NaK")
    k4_minus: Any = param(40.0, "1/s", meaning="rate of I_NaK")
    K_Nai0: Any = param(9.073, "mM", meaning="internal sodium affinity of I_NaK at 0 mV")
    K_Nao0: Any = param(27.78, "mM", meaning="external sodium affinity of I_NaK at 0 mV")
    Delta: Any = param(-0.155, "", meaning="partition of the voltage dependence of I_NaK")
    K_Ki: Any = param(0.5, "mM", meaning="internal potassium affinity of I_NaK")
    K_Ko: Any = param(0.3582, "mM", meaning="external potassium affinity of I_NaK")
    MgADP: Any = param(0.05, "mM", meaning="magnesium ADP")
    MgATP: Any = param(9.8, "mM", meaning="magnesium ATP")
    K_MgATP: Any = param(1.698e-7, "mM", meaning="affinity of I_NaK for MgATP")
    H: Any = param(1e-7, "mM", meaning="protons")
    Sigma_P: Any = param(4.2, "mM", meaning="inorganic phosphate in all its forms")
    K_HP: Any = param(1.698e-7, "mM", meaning="binding of phosphate to protons")
    K_NaP: Any = param(224.0, "mM", meaning="binding of phosphate to sodium")
    K_KP: Any = param(292.0, "mM", meaning="binding of phosphate to potassium")
    K_mCap: Any = param(0.0005, "mM", meaning="half saturation of I_pCa")
    CaMK_o: Any = param(0.05, "", meaning="share of active CaMK binding sites at equilibrium")
    K_mCaM: Any = param(0.0015, "mM", meaning="half activation of CaMK by calcium")
    K_mCaMK: Any = param(0.15, "", meaning="half saturation of phosphorylation by CaMK")
    alpha_CaMK: Any = param(0.05, "1/ms", meaning="trapping of CaMK")
    beta_CaMK: Any = param(0.00068, "1/ms", meaning="release of trapped CaMK")
    beta_tau: Any = param(4.75, "ms", meaning="time scale of release; phosphorylated 1.25 times")
    K_up: Any = param(0.00092, "mM", meaning="half saturation of uptake; phosphorylated 0.00075")
    tau_diff_Ca: Any = param(0.2, "ms", meaning="diffusion of calcium out of the subspace")
    tau_diff: Any = param(2.0, "ms", meaning="diffusion of the other ions out of the subspace")
    CMDN_max: Any = param(0.05, "mM", meaning="calmodulin; epi 1.3 times")
    K_mCMDN: Any = param(0.00238, "mM", meaning="its half saturation")
    TRPN_max: Any = param(0.07, "mM", meaning="troponin")
    K_mTRPN: Any = param(0.0005, "mM", meaning="its half saturation")
    BSR_max: Any = param(0.047, "mM", meaning="calcium sites of the reticulum in the subspace")
    K_mBSR: Any = param(0.00087, "mM", meaning="their half saturation")
    BSL_max: Any = param(1.124, "mM", meaning="calcium sites of the sarcolemma in the subspace")
    K_mBSL: Any = param(0.0087, "mM", meaning="their half saturation")
    CSQN_max: Any = param(10.0, "mM", meaning="calsequestrin")
    K_mCSQN: Any = param(0.8, "mM", meaning="its half saturation")
    # a cylinder of length 0.01 cm and radius 0.0011 cm, with pi = 3.14; the area counts twice
    A_cap: Any = param(1.533576e-4, "uF", meaning="capacitance of the cell")
    v_myo: Any = param(2.583592e-5, "uL", meaning="volume of the cytoplasm, 68 % of the cell")
    v_nsr: Any = param(2.0972688e-6, "uL", meaning="volume of the network reticulum, 5.52 %")
    v_jsr: Any = param(1.823712e-7, "uL", meaning="volume of the junctional reticulum, 0.48 %")
    v_ss: Any = param(7.5988e-7, "uL", meaning="volume of the subspace, 2 %")
    R: Any = param(8314.0, "mJ/(mol K)", meaning="gas constant")
    T: Any = param(310.0, "K", meaning="temperature")
    F: Any = param(96485.0, "C/mol", meaning="Faraday constant")

    # values of 2011, which later models of the family replace
    P_Ca: Any = param(0.0001, "cm/s", meaning="permeability of I_CaL; epi 1.2, mid 2.5 times")
    G_NCX: Any = param(0.0008, "pA/pF", meaning="scale of I_NaCa; epi 1.1, mid 1.4 times")
    P_NaK: Any = param(30.0, "pA/pF", meaning="scale of I_NaK; epi 0.9, mid 0.7 times")
    J_up_max: Any = param(0.004375, "mM/ms", meaning="maximum of uptake; epi 1.3 times")
    J_leak_max: Any = param(0.0039375, "mM/ms", meaning="leak at 15 mM in the network")
    tau_tr: Any = param(100.0, "ms", meaning="refilling of the junctional reticulum")
    alpha_rel: Any = param(2.375, "mM/ms per pA/pF", meaning="release per I_CaL; mid 1.7 times")
    K_rel: Any = param(1.5, "mM", meaning="half saturation of release by Ca_jsr")

    @abc.abstractmethod
    def _currents(self, v: Array, y: Any) -> dict[str, Array]:
        """Currents by name, pA/pF; "_ss" ends the name of one through the subspace's membrane."""

    def stimulus_rates(self, stimulus: Float[ArrayLike, "*nodes"]) -> dict[str, Array]:
        """The stimulus as a potassium current into the cytoplasm."""
        return {"K_i": jnp.asarray(stimulus) * (self.A_cap / (self.v_myo * self.F))}

    def currents(self, v: Float[ArrayLike, "*nodes"], state: Any) -> dict[str, Array]:
        """Currents by name, pA/pF, those through the two membranes together."""
        total: dict[str, Array] = {}
        for name, current in self._currents(jnp.asarray(v), state).items():
            name = name.removesuffix("_ss")
            total[name] = total[name] + current if name in total else current
        return total

    def _phosphorylated(self, y: Any) -> Array:
        """Share of channels phosphorylated, 1/(1 + K_mCaMK/CaMK_a)."""
        active = self._bound_camk(y) + y.CaMKt
        return active / (active + self.K_mCaMK)

    def _bound_camk(self, y: Any) -> Array:
        return self.CaMK_o * (1.0 - y.CaMKt) * (y.Ca_ss / (y.Ca_ss + self.K_mCaM))

    def _camk_rate(self, y: Any) -> Array:
        bound = self._bound_camk(y)
        return self.alpha_CaMK * bound * (bound + y.CaMKt) - self.beta_CaMK * y.CaMKt

    # --- currents ---------------------------------------------------------------------------

    def _transient_outward(self, v: Array, y: Any, share: Array) -> Array:
        """Conductance of I_to over G_to."""
        fast = 1.0 / (1.0 + exp((v - 213.6) / 151.2))
        plain = y.a * (fast * y.iF + (1.0 - fast) * y.iS)
        return plain + share * (y.ap * (fast * y.iFp + (1.0 - fast) * y.iSp) - plain)

    def _slow_rectifier(self, v: Array, y: Any) -> Array:
        """I_Ks over G_Ks."""
        rt_f = self.R * self.T / self.F
        e_ks = rt_f * (log(self.K_o + self.P_KNa * self.Na_o) - log(y.K_i + self.P_KNa * y.Na_i))
        ks_ca = 1.0 + 0.6 / (1.0 + exp(1.4 * (math.log(3.8e-5) - log(y.Ca_i))))
        return ks_ca * y.xs1 * y.xs2 * (v - e_ks)

    def _calcium_opening(self, v: Array, y: Any, share: Array) -> tuple[Array, Array]:
        """D times open share of I_CaL in modes n = 0 and n = 1, phosphorylation counted in."""
        fast = 0.3 + 0.6 / (1.0 + exp((v - 10.0) / 10.0))
        f = 0.6 * y.ff + 0.4 * y.fs
        f_p = 0.6 * y.ffp + 0.4 * y.fs
        f_ca = fast * y.fcaf + (1.0 - fast) * y.fcas
        f_cap = fast * y.fcafp + (1.0 - fast) * y.fcas
        plain, moved = y.d * (1.0 - share), y.d * (share * self.f_CaL_p)
        return plain * f + moved * f_p, y.jca * (plain * f_ca + moved * f_cap)

    def _exchanger(self, u: Array, na: Array, ca: Array) -> Array:
        """I_NaCa over G_NCX and the share of its compartment; u = V F/(R T)."""
        h_na, h_ca = exp(self.q_Na * u), exp(-self.q_Ca * u)
        a = na / self.k_na3
        h3 = 1.0 / (1.0 + a * (1.0 + h_na))
        h2 = a * h_na * h3
        b = na / self.k_na1
        h6 = 1.0 / (1.0 + b * (1.0 + na / self.k_na2))
        h5 = b * (na / self.k_na2) * h6
        # outside: h7 = 1 + Na_o/k_na3 (1 + 1/h_Na)
        out = self.Na_o / self.k_na3
        h9 = h_na / (h_na + out * (1.0 + h_na))
        h8 = out / (h_na + out * (1.0 + h_na))
        h10 = self.k_asymm + 1.0 + self.Na_o / self.k_na1 * (1.0 + self.Na_o / self.k_na2)
        k1 = self.Ca_o * self.k_Ca_on / h10
        k2 = k5 = self.k_Ca_off
        k3pp, k4pp = h8 * self.omega_NaCa, h2 * self.omega_NaCa
        k3, k4 = h9 * self.omega_Ca + k3pp, h3 * self.omega_Ca * h_ca + k4pp
        k6 = h6 * ca * self.k_Ca_on
        k7 = h5 * h2 * self.omega_Na
        k8 = h8 * (self.Na_o**2 / (h10 * self.k_na1 * self.k_na2) * self.omega_Na)
        x1 = k2 * (k4 * (k7 + k6) + k7 * (k2 + k3))
        x2 = k1 * k7 * (k4 + k5) + k4 * k6 * (k1 + k8)
        x3 = k1 * k3 * (k7 + k6) + k8 * k6 * (k2 + k3)
        x4 = k2 * k8 * (k4 + k5) + k3 * k5 * (k1 + k8)
        sodium = 3.0 * (x4 * k7 - x1 * k8) + x3 * k4pp - x2 * k3pp
        calcium = x2 * k2 - x1 * k1
        # allosteric factor 1/(1 + (K_mCaAct/Ca)^2)
        square = ca * ca
        total = (x1 + x2 + x3 + x4) * (square + self.K_mCaAct**2)
        return square * (sodium + 2.0 * calcium) / total

    def _pump(self, u: Array, y: Any) -> Array:
        """I_NaK; u = V F/(R T)."""
        # cubes of Na_i/K_Nai(V), Na_o/K_Nao(V), and squares of K_i/K_Ki, K_o/K_Ko
        na_i = y.Na_i * exp((self.Delta / -3.0) * u) / self.K_Nai0
        na_o = self.Na_o / self.K_Nao0 * exp(((self.Delta - 1.0) / 3.0) * u)
        k_i, k_o = y.K_i / self.K_Ki, self.K_o / self.K_Ko
        inside = 1.0 / ((1.0 + na_i) ** 3 + (1.0 + k_i) ** 2 - 1.0)
        outside = 1.0 / ((1.0 + na_o) ** 3 + (1.0 + k_o) ** 2 - 1.0)
        atp = self.MgATP / self.K_MgATP
        p = self.Sigma_P / (1.0 + self.H / self.K_HP + y.Na_i / self.K_NaP + y.K_i / self.K_KP)
        a1, b4 = self.k1_plus * na_i**3 * inside, self.k4_minus * k_i**2 * inside
        a3, b2 = self.k3_plus * k_o**2 * outside, self.k2_minus * na_o**3 * outside
        a2, b1 = self.k2_plus, self.k1_minus * self.MgADP
        a4, b3 = self.k4_plus * atp / (1.0 + atp), self.k3_minus * self.H / (1.0 + atp) * p
        x1 = a4 * a1 * a2 + b3 * (b2 * b4 + a2 * b4 + a1 * a2)
        x2 = b2 * b1 * b4 + a3 * (a1 * a2 + b1 * b4 + a2 * b4)
        x3 = a2 * a3 * a4 + b1 * (b3 * b2 + b2 * a4 + a3 * a4)
        x4 = b2 * b3 * (b4 + a1) + a4 * a1 * (a3 + b2)
        sodium, potassium = 3.0 * (x1 * a3 - x2 * b3), 2.0 * (x4 * b1 - x3 * a1)
        return self.P_NaK * (sodium + potassium) / (x1 + x2 + x3 + x4)

    # --- gates ------------------------------------------------------------------------------

    def _transient_outward_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # 1/tau_a = (1/(1.2089 (1 + exp((18.4099-V)/29.3814))) + 3.5/(1 + exp((V+100)/29.3814)))
        #           / 1.0515
        c = exp((v - 14.34) / -14.82)
        x = exp((v + 100.0) / 29.3814)
        shifted = x + math.exp(118.4099 / 29.3814)
        a_rate = (x / (1.2089 * shifted) + 3.5 / (1.0 + x)) / 1.0515

        # tau_iF = delta (4.562 + 1/(0.3933 exp(-(V+100)/100) + 0.08004 exp((V+50)/16.59)))
        # tau_iS = delta (23.62 + 1/(0.001416 exp(-(V+96.52)/59.05)
        #                            + 1.78e-8 exp((V+114.1)/8.079)))
        # delta = 1 - delta_epi/(1 + exp((V+70)/5)); phosphorylated: times develop recover,
        # recover = 1 - 0.5/(1 + exp((V+70)/20)),
        # develop = 1.354 + 1e-4/(exp((V-167.4)/15.89) + exp((12.23-V)/0.2154))
        i_inf = 1.0 / (1.0 + exp((v + 43.94) / 5.711))
        fast = 0.3933 * exp((v + 100.0) / -100.0) + 0.08004 * exp((v + 50.0) / 16.59)
        slow = 0.001416 * exp((v + 96.52) / -59.05) + 1.78e-8 * exp((v + 114.1) / 8.079)
        x = exp((v + 70.0) / 20.0)
        fourth = 1.0 + x**4
        sooner = fourth / (fourth - self.delta_epi)
        fast, slow = sooner * fast / (1.0 + 4.562 * fast), sooner * slow / (1.0 + 23.62 * slow)
        # far below 12 mV the second exponential is out of float32's range and its term nothing
        late = exp(jnp.minimum((v - 12.23) / -0.2154, 40.0))
        early = exp((v - 167.4) / 15.89) + late
        moved = (1.0 + x) * early / ((1.354 * early + 1e-4) * (0.5 + x))
        return {
            "a": (1.0 / (1.0 + c) - y.a) * a_rate,
            "ap": (1.0 / (1.0 + math.exp(10.0 / 14.82) * c) - y.ap) * a_rate,
            "iF": (i_inf - y.iF) * fast,
            "iS": (i_inf - y.iS) * slow,
            "iFp": (i_inf - y.iFp) * (fast * moved),
            "iSp": (i_inf - y.iSp) * (slow * moved),
        }

    def _late_sodium_rates(self, v: Array, y: Any, m_rate: Array) -> dict[str, Array]:
        c = exp((v + 87.61) / 7.488)
        return {
            "mL": (1.0 / (1.0 + exp((v + 42.85) / -5.264)) - y.mL) * m_rate,
            "hL": (1.0 / (1.0 + c) - y.hL) * (1.0 / 200.0),
            "hLp": (1.0 / (1.0 + math.exp(6.2 / 7.488) * c) - y.hLp) * (1.0 / 600.0),
        }

    def _slow_rectifier_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # tau_xs1 = 817.3 + 1/(2.326e-4 exp((V+48.28)/17.8) + 0.001292 exp(-(V+210)/230))
        a = 2.326e-4 * exp((v + 48.28) / 17.8) + 0.001292 * exp((v + 210.0) / -230.0)
        b = 0.01 * exp((v - 50.0) / 20.0) + 0.0193 * exp((v + 66.54) / -31.0)
        xs_inf = 1.0 / (1.0 + exp((v + 11.6) / -8.932))
        return {
            "xs1": (xs_inf - y.xs1) * (a / (1.0 + 817.3 * a)),
            "xs2": (xs_inf - y.xs2) * b,
        }

    def _calcium_inactivation_rates(self, v: Array, y: Any) -> dict[str, Array]:
        f_inf = 1.0 / (1.0 + exp((v + 19.58) / 3.696))
        # tau_ff = 7 + 1/(0.0045 (exp(-(V+20)/10) + exp((V+20)/10)))
        x = exp((v + 20.0) / 10.0)
        a = 0.0045 * (x + 1.0 / x)
        ff = a / (1.0 + 7.0 * a)
        # tau_fs = 1000 + 1/(3.5e-5 (exp(-(V+5)/4) + exp((V+5)/6)))
        x = exp((v + 5.0) / 12.0)
        a = 3.5e-5 * (x**-3 + x**2)
        fs = a / (1.0 + 1000.0 * a)
        # tau_fcaf = 7 + 1/(0.04 (exp(-(V-4)/7) + exp((V-4)/7)))
        x = exp((v - 4.0) / 7.0)
        a = 0.04 * (x + 1.0 / x)
        fcaf = a / (1.0 + 7.0 * a)
        # tau_fcas = 100 + 1/(1.2e-4 (exp(-V/3) + exp(V/7)))
        x = exp(v / 21.0)
        a = 1.2e-4 * (x**-7 + x**3)
        fcas = a / (1.0 + 100.0 * a)
        return {
            "ff": (f_inf - y.ff) * ff,
            "ffp": (f_inf - y.ffp) * (ff / 2.5),
            "fs": (f_inf - y.fs) * fs,
            "fcaf": (f_inf - y.fcaf) * fcaf,
            "fcafp": (f_inf - y.fcafp) * (fcaf / 2.5),
            "fcas": (f_inf - y.fcas) * fcas,
        }

    def _calcium_mode_rate(self, y: Any, ca: Array, n: Array, k_on: float) -> Array:
        """Rate of n, the share of I_CaL in the calcium-dependent mode.

        alpha_n k_on - n jca, alpha_n = 1/(k_on/jca + (1 + K_mn/Ca)^4).
        """
        fourth, above = ca**4, (ca + self.K_mn) ** 4
        return k_on * y.jca * fourth / (k_on * fourth + y.jca * above) - n * y.jca

    # --- release of calcium and balances ----------------------------------------------------

    def _release_rates(self, y: Any, i_cal_ss: Array) -> dict[str, Array]:
        """Rates of the two release fluxes; the phosphorylated one is 1.25 times each as slow."""
        driven = y.Ca_jsr**8
        steady = -self.alpha_rel * i_cal_ss * (driven / (driven + self.K_rel**8))
        tau = self.beta_tau * y.Ca_jsr / (y.Ca_jsr + 0.0123)
        return {
            "Jrel_np": (steady - y.Jrel_np) / jnp.maximum(tau, 0.001),
            "Jrel_p": (1.25 * steady - y.Jrel_p) / jnp.maximum(1.25 * tau, 0.001),
        }

    def _uptake(self, y: Any, share: Array) -> Array:
        plain = y.Ca_i / (y.Ca_i + self.K_up)
        moved = 2.75 * y.Ca_i / (y.Ca_i + (self.K_up - 0.00017))
        leak = self.J_leak_max / 15.0 * y.Ca_nsr
        return self.J_up_max * (plain + share * (moved - plain)) - leak

    def _sodium_potassium_rates(self, y: Any, c: dict[str, Array]) -> dict[str, Array]:
        """Balances of the ions other than calcium, mM/ms."""
        to_i = self.A_cap / (self.v_myo * self.F)
        to_ss = self.A_cap / (self.v_ss * self.F)
        volumes = self.v_ss / self.v_myo
        na = (y.Na_ss - y.Na_i) / self.tau_diff
        k = (y.K_ss - y.K_i) / self.tau_diff
        na_i = c["I_Na"] + c["I_NaL"] + c["I_bNa"] + 3.0 * (c["I_NaCa"] + c["I_NaK"])
        k_i = c["I_to"] + c["I_Kr"] + c["I_Ks"] + c["I_K1"] + c["I_bK"] - 2.0 * c["I_NaK"]
        na_i = na_i + c["I_CaNa"] if "I_CaNa" in c else na_i
        k_i = k_i + c["I_CaK"] if "I_CaK" in c else k_i
        k_i = k_i + c["I_KATP"] if "I_KATP" in c else k_i
        return {
            "Na_i": na * volumes - to_i * na_i,
            "Na_ss": -to_ss * (c["I_CaNa_ss"] + 3.0 * c["I_NaCa_ss"]) - na,
            "K_i": k * volumes - to_i * k_i,
            "K_ss": -to_ss * c["I_CaK_ss"] - k,
        }

    def _calcium_rates(
        self, y: Any, c: dict[str, Array], share: Array, release_scale: Any
    ) -> dict[str, Array]:
        """Balances of calcium, mM/ms."""
        to_i = self.A_cap / (2.0 * self.v_myo * self.F)
        to_ss = self.A_cap / (2.0 * self.v_ss * self.F)
        diffusion = (y.Ca_ss - y.Ca_i) / self.tau_diff_Ca
        up = self._uptake(y, share)
        release = release_scale * (y.Jrel_np + share * (y.Jrel_p - y.Jrel_np))
        refill = (y.Ca_nsr - y.Ca_jsr) / self.tau_tr
        outer = c["I_pCa"] + c["I_bCa"] - 2.0 * c["I_NaCa"]
        outer = outer + c["I_CaL"] if "I_CaL" in c else outer
        into_i = diffusion * (self.v_ss / self.v_myo) - up * (self.v_nsr / self.v_myo)
        into_ss = release * (self.v_jsr / self.v_ss) - diffusion
        calmodulin = self.CMDN_max * self.K_mCMDN, self.K_mCMDN
        troponin = self.TRPN_max * self.K_mTRPN, self.K_mTRPN
        reticulum = self.BSR_max * self.K_mBSR, self.K_mBSR
        sarcolemma = self.BSL_max * self.K_mBSL, self.K_mBSL
        calsequestrin = self.CSQN_max * self.K_mCSQN, self.K_mCSQN
        return {
            "Ca_i": (into_i - to_i * outer) * _free(y.Ca_i, calmodulin, troponin),
            "Ca_ss": (into_ss - to_ss * (c["I_CaL_ss"] - 2.0 * c["I_NaCa_ss"]))
            * _free(y.Ca_ss, reticulum, sarcolemma),
            "Ca_nsr": up - refill * (self.v_jsr / self.v_nsr),
            "Ca_jsr": (refill - release) * _free(y.Ca_jsr, calsequestrin),
        }


def calcium_activation_rate(v: Array) -> Array:
    """1/tau_d of I_CaL, 1/ms."""
    # tau_d = 0.6 + 1/(exp(-0.05 (V+6)) + exp(0.09 (V+14)))
    a = exp(-0.05 * (v + 6.0)) + exp(0.09 * (v + 14.0))
    return a / (1.0 + 0.6 * a)


def constant_field(u: Array) -> tuple[Array, Array]:
    """B = u/(e^u - 1) for monovalent ions and B = 2u/(e^2u - 1) for calcium; 1 at u = 0.

    The driving force of ions with valence z at V F/(R T) = u, concentrations c inside and o
    outside, is z F (c (z u + b_z) - o b_z); e^2u - 1 = (e^u - 1)(e^u + 1) spares an exponential.
    """
    growth = phi1(u)
    return 1.0 / growth, 1.0 / (growth * (1.0 + 0.5 * u * growth))


def _free(ca: Array, *buffers: tuple[Any, Any]) -> Array:
    """Free share of a calcium change, 1/(1 + sum of max K/(ca + K)^2)."""
    bound: Any = sum(product / (ca + half) ** 2 for product, half in buffers)
    return 1.0 / (1.0 + bound)
