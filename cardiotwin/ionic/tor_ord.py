"""Human ventricular cell: ToR-ORd with dynamic chloride, 43 variables beside the potential.

J. Tomek, A. Bueno-Orovio, E. Passini, X. Zhou, A. Minchole, O. Britton, C. Bartolucci, S. Severi,
A. Shrier, L. Virag, A. Varro and B. Rodriguez, Development, calibration, and validation of a novel
human ventricular myocyte model in health, disease, and drug block, eLife 8:e48890, 2019,
https://doi.org/10.7554/eLife.48890; in the form with chloride as a variable (dynCl) of J. Tomek,
A. Bueno-Orovio and B. Rodriguez, ToR-ORd-dynCl: an update of the ToR-ORd model of human ventricular
cardiomyocyte with dynamic intracellular chloride, 2020, https://doi.org/10.1101/2020.06.01.127043.
What it kept of O'Hara and Rudy is in `_ohara_rudy`. I_Na has the gates of Grandi et al. (2010),
whose h and j relax as ten Tusscher's; I_Kr is a Markov chain C3 - C2 - C1 - O - I with C1 - I;
I_CaL sees ionic activities (Davies' equation) and opens into both compartments. Symbols are the
paper's; docs/models/tor_ord.md lists parameters, initial states and departures.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import summed
from cardiotwin.ionic._limit_cycles import limit_cycle
from cardiotwin.ionic._ohara_rudy import OHaraRudyCell, calcium_activation_rate, constant_field
from cardiotwin.ionic._ten_tusscher import sodium_inactivation
from cardiotwin.numerics.elementary import exp, log


class ToRORdState(NamedTuple):
    """Gates and shares of channels (no unit), concentrations (mM), release fluxes (mM/ms)."""

    m: Any
    h: Any
    j: Any
    hp: Any
    jp: Any
    mL: Any
    hL: Any
    hLp: Any
    a: Any
    iF: Any
    iS: Any
    ap: Any
    iFp: Any
    iSp: Any
    d: Any
    ff: Any
    fs: Any
    fcaf: Any
    fcas: Any
    jca: Any
    ffp: Any
    fcafp: Any
    nca_ss: Any
    nca_i: Any
    C1: Any
    C2: Any
    O: Any  # noqa: E741
    I: Any  # noqa: E741
    xs1: Any
    xs2: Any
    Jrel_np: Any
    Jrel_p: Any
    CaMKt: Any
    Na_i: Any
    Na_ss: Any
    K_i: Any
    K_ss: Any
    Ca_i: Any
    Ca_ss: Any
    Ca_nsr: Any
    Ca_jsr: Any
    Cl_i: Any
    Cl_ss: Any


_EPI: dict[str, Any] = {
    "G_NaL": 0.6 * 0.0279, "G_to": 2 * 0.16, "P_Ca": 1.2 * 8.3757e-5, "G_Kr": 1.3 * 0.0321,
    "G_Ks": 1.4 * 0.0011, "G_K1": 1.2 * 0.6992, "G_NCX": 1.1 * 0.0034, "P_NaK": 0.9 * 15.4509,
    "G_Kb": 0.6 * 0.0189, "J_up_max": 1.3 * 0.005425, "CMDN_max": 1.3 * 0.05, "delta_epi": 0.95,
    "start": limit_cycle("ToRORdDynCl epi", ToRORdState),
}  # fmt: skip
_MID: dict[str, Any] = {
    "G_to": 2 * 0.16, "P_Ca": 2 * 8.3757e-5, "G_Kr": 0.8 * 0.0321, "G_K1": 1.3 * 0.6992,
    "G_NCX": 1.4 * 0.0034, "P_NaK": 0.7 * 15.4509, "alpha_rel": 1.7 * 2.375,
    "start": limit_cycle("ToRORdDynCl mid", ToRORdState),
}  # fmt: skip

# The CellML file's initial state, C3 left out (the file has the values of C1 and C3 exchanged).
FILE_STATE: tuple[float, ToRORdState] = (
    -90.74563,
    ToRORdState(
        m=5.253231e-4, h=0.8645148, j=0.8644571, hp=0.7313656, jp=0.8643527, mL=1.117969e-4,
        hL=0.5916536, hLp=0.3476812, a=8.320408e-4, iF=0.9997242, iS=0.9997235, ap=4.239121e-4,
        iFp=0.9997242, iSp=0.9997241, d=0.0, ff=1.0, fs=0.9510602, fcaf=1.0, fcas=0.9999377,
        jca=0.9999886, ffp=1.0, fcafp=1.0, nca_ss=3.049523e-4, nca_i=5.272668e-4, C1=6.029079e-4,
        C2=7.393045e-4, O=1.787783e-4, I=5.678255e-6, xs1=0.2233584, xs2=1.418247e-4,
        Jrel_np=0.0, Jrel_p=0.0, CaMKt=1.273541e-2, Na_i=13.40062, Na_ss=13.40094, K_i=152.3639,
        K_ss=152.3638, Ca_i=6.621816e-5, Ca_ss=5.749921e-5, Ca_nsr=1.806794, Ca_jsr=1.805047,
        Cl_i=34.31721, Cl_ss=34.31719,
    ),
)  # fmt: skip


class ToRORdDynCl(OHaraRudyCell):
    """ToR-ORd-dynCl cell; defaults are the endocardial parameters.

    The shares of hERG channels sum to 1, so C3 is no variable: it is 1 - C1 - C2 - O - I.
    """

    State: ClassVar[type[Any]] = ToRORdState
    gates: ClassVar[tuple[str, ...]] = (
        "m", "h", "j", "hp", "jp", "mL", "hL", "hLp", "a", "iF", "iS", "ap", "iFp", "iSp",
        "d", "ff", "fs", "fcaf", "fcas", "jca", "ffp", "fcafp", "xs1", "xs2",
    )  # fmt: skip
    linearised: ClassVar[tuple[str, ...]] = (
        "nca_ss", "nca_i", "C1", "C2", "O", "I", "Jrel_np", "Jrel_p",
    )  # fmt: skip
    slow: ClassVar[tuple[str, ...]] = (*OHaraRudyCell.slow, "Cl_i", "Cl_ss")
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "I_Na": "G_Na", "I_NaL": "G_NaL", "I_to": "G_to", "I_CaL": "P_Ca", "I_Kr": "G_Kr",
            "I_Ks": "G_Ks", "I_K1": "G_K1", "I_NaCa": "G_NCX", "I_NaK": "P_NaK", "I_bK": "G_Kb",
            "I_bNa": "P_Nab", "I_bCa": "P_Cab", "I_pCa": "G_pCa", "I_ClCa": "G_ClCa",
            "I_bCl": "G_Clb", "I_KATP": "G_KATP",
        }
    )  # fmt: skip

    G_Na: Any = param(11.7802, "mS/uF", meaning="conductance of I_Na")
    G_NaL: Any = param(0.0279, "mS/uF", meaning="conductance of I_NaL; epi 0.6 times")
    G_to: Any = param(0.16, "mS/uF", meaning="conductance of I_to; mid and epi twice")
    P_Ca: Any = param(8.3757e-5, "cm/s", meaning="permeability of I_CaL; epi 1.2, mid 2 times")
    G_Kr: Any = param(0.0321, "mS/uF", meaning="conductance of I_Kr; epi 1.3, mid 0.8 times")
    G_Ks: Any = param(0.0011, "mS/uF", meaning="conductance of I_Ks; epi 1.4 times")
    G_K1: Any = param(0.6992, "mS/uF", meaning="conductance of I_K1; epi 1.2, mid 1.3 times")
    G_NCX: Any = param(0.0034, "pA/pF", meaning="scale of I_NaCa; epi 1.1, mid 1.4 times")
    P_NaK: Any = param(15.4509, "pA/pF", meaning="scale of I_NaK; epi 0.9, mid 0.7 times")
    G_Kb: Any = param(0.0189, "mS/uF", meaning="conductance of I_bK; epi 0.6 times")
    P_Nab: Any = param(1.9239e-9, "cm/s", meaning="permeability of the sodium background")
    P_Cab: Any = param(5.9194e-8, "cm/s", meaning="permeability of the calcium background")
    G_pCa: Any = param(0.0005, "pA/pF", meaning="maximum of I_pCa")
    G_ClCa: Any = param(0.2843, "mS/uF", meaning="conductance of the calcium-sensitive I_ClCa")
    G_Clb: Any = param(0.00198, "mS/uF", meaning="conductance of the chloride background")
    G_KATP: Any = param(0.0, "mS/uF", meaning="conductance of open I_KATP at 5 mM K_o")
    K_dClCa: Any = param(0.1, "mM", meaning="half saturation of I_ClCa by Ca_ss")
    K_o: Any = param(5.0, "mM", meaning="extracellular potassium")
    Cl_o: Any = param(150.0, "mM", meaning="extracellular chloride")
    epsilon: Any = param(74.0, "", meaning="dielectric constant of water in the activities")
    f_CaL_ss: Any = param(0.8, "", meaning="share of I_CaL into the subspace")
    f_NaCa_ss: Any = param(0.35, "", meaning="share of I_NaCa in the subspace")
    J_up_max: Any = param(0.005425, "mM/ms", meaning="maximum of uptake; epi 1.3 times")
    J_leak_max: Any = param(0.0048825, "mM/ms", meaning="leak at 15 mM in the network")
    tau_tr: Any = param(60.0, "ms", meaning="refilling of the junctional reticulum")
    alpha_rel: Any = param(2.375, "mM/ms per pA/pF", meaning="release per I_CaL; mid 1.7 times")
    K_rel: Any = param(1.7, "mM", meaning="half saturation of release by Ca_jsr")
    J_rel_scale: Any = param(1.5378, "", meaning="factor of the whole release")
    start: tuple[Any, ToRORdState] = limit_cycle("ToRORdDynCl endo", ToRORdState)
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    @classmethod
    def endo(cls, **parameters: Any) -> Self:
        """Endocardial cell; keyword arguments replace single parameters or `start`."""
        return cls(**parameters)

    @classmethod
    def mid(cls, **parameters: Any) -> Self:
        """Mid-myocardial (M) cell; keyword arguments replace single parameters or `start`."""
        return cls(**(_MID | parameters))

    @classmethod
    def epi(cls, **parameters: Any) -> Self:
        """Epicardial cell; keyword arguments replace single parameters or `start`."""
        return cls(**(_EPI | parameters))

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: ToRORdState
    ) -> tuple[Float[Array, "*nodes"], ToRORdState]:
        """Ionic current over capacitance (pA/pF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        share = self._phosphorylated(y)
        c = self._currents(v, y)
        chloride = (y.Cl_ss - y.Cl_i) / self.tau_diff
        to_i, to_ss = self.A_cap / (self.v_myo * self.F), self.A_cap / (self.v_ss * self.F)
        rates = {
            **self._sodium_gate_rates(v, y),
            **self._transient_outward_rates(v, y),
            **self._calcium_gate_rates(v, y),
            "nca_ss": self._calcium_mode_rate(y, y.Ca_ss, y.nca_ss, 500.0),
            "nca_i": self._calcium_mode_rate(y, y.Ca_i, y.nca_i, 500.0),
            **self._herg_rates(v, y),
            **self._slow_rectifier_rates(v, y),
            **self._release_rates(y, c["I_CaL_ss"]),
            "CaMKt": self._camk_rate(y),
            **self._sodium_potassium_rates(y, c),
            **self._calcium_rates(y, c, share, self.J_rel_scale),
            "Cl_i": to_i * c["I_bCl"] + chloride * (self.v_ss / self.v_myo),
            "Cl_ss": to_ss * c["I_ClCa_ss"] - chloride,
        }
        return summed(c), ToRORdState(**rates)

    def _currents(self, v: Array, y: ToRORdState) -> dict[str, Array]:
        rt_f = self.R * self.T / self.F
        u, share = v / rt_f, self._phosphorylated(y)
        na = v - rt_f * (log(self.Na_o) - log(y.Na_i))  # V - E_Na
        k = v - rt_f * (log(self.K_o) - log(y.K_i))
        root = jnp.sqrt(self.K_o / 5.0)
        plain, moved = y.h * y.j, y.hp * y.jp
        late = y.mL * (y.hL + share * (y.hLp - y.hL))
        background = self.G_Kb / (1.0 + exp((v - 10.8968) / -23.9871))
        atp = exp(0.24 * (log(self.K_o) - math.log(5.0))) / (1.0 + (2.0 / 0.25) ** 2)
        exchanger = self.f_NaCa_ss * self.G_NCX
        return {
            "I_Na": self.G_Na * y.m**3 * (plain + share * (moved - plain)) * na,
            "I_NaL": self.G_NaL * late * na,
            "I_to": self.G_to * self._transient_outward(v, y, share) * k,
            "I_Kr": self.G_Kr * root * y.O * k,
            "I_Ks": self.G_Ks * self._slow_rectifier(v, y),
            "I_K1": self.G_K1 * root * self._k1_inf(k) * k,
            "I_bK": background * k,
            "I_KATP": self.G_KATP * atp * k,
            "I_NaK": self._pump(u, y),
            "I_pCa": self.G_pCa * y.Ca_i / (y.Ca_i + self.K_mCap),
            "I_NaCa": (self.G_NCX - exchanger) * self._exchanger(u, y.Na_i, y.Ca_i),
            "I_NaCa_ss": exchanger * self._exchanger(u, y.Na_ss, y.Ca_ss),
            "I_ClCa_ss": self._chloride(v, y.Cl_ss)
            * (self.G_ClCa * y.Ca_ss / (y.Ca_ss + self.K_dClCa)),
            "I_bCl": self._chloride(v, y.Cl_i) * self.G_Clb,
            **self._permeations(v, u, y, share),
        }

    def _chloride(self, v: Array, cl: Array) -> Array:
        """V - E_Cl."""
        return v + self.R * self.T / self.F * (log(self.Cl_o) - log(cl))

    def _k1_inf(self, x: Array) -> Array:
        # K1_inf = a/(a + b), a = 4.094/(1 + exp(0.1217 (x - 49.934))), x = V - E_K,
        # b = (15.72 exp(0.0674 (x - 3.257)) + exp(0.0618 (x - 594.31)))
        #     / (1 + exp(-0.1629 (x + 14.207))); the second term of b is below 1e-17 of the first
        q = 4.094 * (1.0 + exp(-0.1629 * (x + 14.207)))
        p = 15.72 * exp(0.0674 * (x - 3.257)) * (1.0 + exp(0.1217 * (x - 49.934)))
        return q / (q + p)

    def _permeations(self, v: Array, u: Array, y: ToRORdState, share: Array) -> dict[str, Array]:
        """Currents by constant field: I_CaL, I_CaNa, I_CaK of both membranes, I_bNa, I_bCa."""
        b1, b2 = constant_field(u)
        mode_0, mode_1 = self._calcium_opening(v, y, share)
        # activities: log gamma = -A z^2 (sqrt(I)/(1 + sqrt(I)) - 0.3 I), I the ionic strength in M
        out = self._activity(self.Na_o + self.K_o + self.Cl_o + 4.0 * self.Ca_o)
        currents = {}
        sides = (
            ("", y.Na_i, y.K_i, y.Cl_i, y.Ca_i, y.nca_i, 1.0 - self.f_CaL_ss),
            ("_ss", y.Na_ss, y.K_ss, y.Cl_ss, y.Ca_ss, y.nca_ss, self.f_CaL_ss),
        )
        for side, na, k, cl, ca, n, part in sides:
            inside = self._activity(na + k + cl + 4.0 * ca)
            open_share = (part * self.P_Ca * self.F) * (mode_0 + n * (mode_1 - mode_0))
            calcium = 2.0 * (inside**4 * ca * (2.0 * u + b2) - out**4 * self.Ca_o * b2)
            sodium = inside * na * (u + b1) - out * self.Na_o * b1
            potassium = inside * k * (u + b1) - out * self.K_o * b1
            currents |= {
                f"I_CaL{side}": open_share * calcium,
                f"I_CaNa{side}": self.P_CaNa_ratio * open_share * sodium,
                f"I_CaK{side}": self.P_CaK_ratio * open_share * potassium,
            }
            if not side:
                currents["I_bCa"] = self.P_Cab * self.F * calcium
        currents["I_bNa"] = self.P_Nab * self.F * (y.Na_i * (u + b1) - self.Na_o * b1)
        return currents

    def _activity(self, strength: Array) -> Array:
        """Activity coefficient of a monovalent ion; of calcium its fourth power."""
        # A = 1.82e6 (epsilon T)^-1.5
        product = self.epsilon * self.T
        factor = 1.82e6 / (product * jnp.sqrt(product))
        strength = 0.0005 * strength
        root = jnp.sqrt(strength)
        return exp(-factor * (root / (1.0 + root) - 0.3 * strength))

    def _sodium_gate_rates(self, v: Array, y: ToRORdState) -> dict[str, Array]:
        # tau_m = 0.1292 exp(-((V+45.79)/15.54)^2) + 0.06487 exp(-((V-4.823)/51.12)^2)
        m_rate = 1.0 / (
            0.1292 * exp(-(((v + 45.79) / 15.54) ** 2))
            + 0.06487 * exp(-(((v - 4.823) / 51.12) ** 2))
        )
        c = exp((v + 71.55) / 7.43)
        h_inf = 1.0 / (1.0 + c) ** 2
        hp_inf = 1.0 / (1.0 + math.exp(6.0 / 7.43) * c) ** 2
        h_rate, j_rate = sodium_inactivation(v)
        return {
            "m": (1.0 / (1.0 + exp((v + 56.86) / -9.03)) ** 2 - y.m) * m_rate,
            "h": (h_inf - y.h) * h_rate,
            "hp": (hp_inf - y.hp) * h_rate,
            "j": (h_inf - y.j) * j_rate,
            "jp": (h_inf - y.jp) * (j_rate / 1.46),
            **self._late_sodium_rates(v, y, m_rate),
        }

    def _calcium_gate_rates(self, v: Array, y: ToRORdState) -> dict[str, Array]:
        # d_inf = 1.0763 exp(-1.007 exp(-0.0829 V)) below 31.4978 mV; its limit is no zero there,
        # the step up to 1 is the paper's
        below = 1.0763 * exp(-1.007 * exp(-0.0829 * v))
        d_inf = jnp.where(v < 31.4978, below, 1.0)
        jca_inf = 1.0 / (1.0 + exp((v + 18.08) / 2.7916))
        return {
            "d": (d_inf - y.d) * calcium_activation_rate(v),
            "jca": (jca_inf - y.jca) / 72.5,
            **self._calcium_inactivation_rates(v, y),
        }

    def _herg_rates(self, v: Array, y: ToRORdState) -> dict[str, Array]:
        """Occupancies of I_Kr's Markov chain C3 - C2 - C1 - O - I, closed by C1 - I."""
        u = v * (self.F / (self.R * self.T))
        c3 = 1.0 - y.C1 - y.C2 - y.O - y.I
        alpha, beta = 0.1161 * exp(0.299 * u), 0.2442 * exp(-1.604 * u)
        alpha_1, beta_1 = 1.25 * 0.1235, 0.1911
        alpha_2, beta_2 = 0.0578 * exp(0.971 * u), 0.349e-3 * exp(-1.062 * u)
        alpha_i, beta_i = 0.2533 * exp(0.5953 * u), 0.06525 * exp(-0.8209 * u)
        alpha_c2i = 0.52e-4 * exp(1.525 * u)
        # beta_ItoC2 = beta_2 beta_i alpha_C2ToI/(alpha_2 alpha_i), detailed balance of the loop
        beta_ic2 = (0.349e-3 * 0.06525 * 0.52e-4 / (0.0578 * 0.2533)) * exp(-1.9242 * u)
        return {
            "C1": alpha_1 * y.C2 + beta_2 * y.O + beta_ic2 * y.I
            - (beta_1 + alpha_2 + alpha_c2i) * y.C1,
            "C2": alpha * c3 + beta_1 * y.C1 - (beta + alpha_1) * y.C2,
            "O": alpha_2 * y.C1 + beta_i * y.I - (beta_2 + alpha_i) * y.O,
            "I": alpha_c2i * y.C1 + alpha_i * y.O - (beta_ic2 + beta_i) * y.I,
        }  # fmt: skip
