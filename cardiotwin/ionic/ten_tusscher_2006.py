"""Human ventricular cell: ten Tusscher and Panfilov 2006, 18 variables beside the potential.

K. H. W. J. ten Tusscher and A. V. Panfilov, Alternans and spiral breakup in a human ventricular
tissue model, Am J Physiol Heart Circ Physiol 291:H1088-H1100, 2006,
https://doi.org/10.1152/ajpheart.00109.2006. The currents it keeps are printed in K. H. W. J. ten
Tusscher, D. Noble, P. J. Noble and A. V. Panfilov, A model for human ventricular tissue, Am J
Physiol Heart Circ Physiol 286:H1573-H1589, 2004, https://doi.org/10.1152/ajpheart.00794.2003.
Symbols are the papers'. docs/models/ten_tusscher_2006.md lists parameters, initial states and
departures.

The rates are the hot loop of every simulation, so they are written with few transcendentals and
quotients: time constants as reciprocals over one common denominator, exponentials of commensurate
arguments as multiples of one another within a gate. Each comment gives the printed form. Between
gates nothing is shared on purpose: XLA would store the shared array, which costs more than the
exponential.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel
from cardiotwin.numerics.elementary import exp, log, phi1


class TenTusscherState(NamedTuple):
    """Gates (no unit) and concentrations (mM), in the papers' symbols."""

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


NIEDERER_STATE: tuple[float, TenTusscherState] = (
    -85.23,
    TenTusscherState(
        Xr1=0.00621, Xr2=0.4712, Xs=0.0095, m=0.00172, h=0.7444, j=0.7045, d=3.373e-5, f=0.7888,
        f2=0.9755, fCass=0.9953, s=0.999998, r=2.42e-8, R_prime=0.9073, Ca_i=0.000126,
        Ca_SR=3.64, Ca_ss=0.00036, Na_i=8.604, K_i=136.89,
    ),
)  # fmt: skip
"""Potential (mV) and state at the start of the N-version tissue benchmark (Niederer et al. 2011,
https://doi.org/10.1098/rsta.2011.0139): `TenTusscherPanfilov2006.epi(start=NIEDERER_STATE)`."""

# End of the last of 1000 beats at 1000 ms, started from NIEDERER_STATE: `pace(cell, beats=1000)`.
_EPI_START = (
    -85.3878,
    TenTusscherState(
        Xr1=0.000207337, Xr2=0.472816, Xs=0.00322863, m=0.00165888, h=0.749207, j=0.748825,
        d=3.30198e-05, f=0.977251, f2=0.999409, fCass=0.999973, s=0.999998, r=2.35398e-08,
        R_prime=0.989177, Ca_i=0.000104553, Ca_SR=3.50276, Ca_ss=0.000212851, Na_i=9.78949,
        K_i=135.569,
    ),
)  # fmt: skip
_MID_START = (
    -85.2629,
    TenTusscherState(
        Xr1=0.000214733, Xr2=0.471519, Xs=0.00334707, m=0.00170346, h=0.745795, j=0.744964,
        d=3.35743e-05, f=0.959803, f2=0.999183, fCass=0.999961, s=0.999998, r=2.40355e-08,
        R_prime=0.98743, Ca_i=0.000115649, Ca_SR=4.13246, Ca_ss=0.000232449, Na_i=9.35633,
        K_i=135.85,
    ),
)  # fmt: skip
_ENDO_START = (
    -85.4349,
    TenTusscherState(
        Xr1=0.000205915, Xr2=0.473305, Xs=0.00321867, m=0.00164235, h=0.750482, j=0.75011,
        d=3.28131e-05, f=0.977315, f2=0.999412, fCass=0.999973, s=0.640306, r=2.33557e-08,
        R_prime=0.98913, Ca_i=0.000102511, Ca_SR=3.40032, Ca_ss=0.000210967, Na_i=9.53452,
        K_i=135.87,
    ),
)  # fmt: skip
_MID: dict[str, Any] = {"g_Ks": 0.098, "start": _MID_START}
_ENDO: dict[str, Any] = {
    "g_to": 0.073, "s_shift": 28.0, "tau_s_A": 1000.0, "tau_s_B": 67.0, "tau_s_C": 1000.0,
    "tau_s_E": 0.0, "tau_s_F": 8.0, "start": _ENDO_START,
}  # fmt: skip
_OHMIC = ("Na", "K1", "to", "Kr", "Ks", "CaL", "bNa", "bCa", "pK")


class TenTusscherPanfilov2006(AbstractIonicModel):
    """Ten Tusscher-Panfilov 2006 cell; defaults are the epicardial parameters.

    The potassium that a stimulus current carries into the cell is left out of dK_i/dt, because in
    tissue a node is driven by its neighbours; `stimulus_rates` gives it for single-cell pacing.
    """

    State: ClassVar[type[Any]] = TenTusscherState
    gates: ClassVar[tuple[str, ...]] = TenTusscherState._fields[:12]
    slow: ClassVar[tuple[str, ...]] = ("Ca_SR", "Na_i", "K_i")
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            **{f"I_{name}": f"g_{name}" for name in _OHMIC},
            "I_pCa": "g_pCa",
            "I_NaK": "P_NaK",
            "I_NaCa": "k_NaCa",
        }
    )
    calcium: ClassVar[str | None] = "Ca_i"

    g_Na: Any = param(14.838, "nS/pF", meaning="conductance of I_Na")
    g_K1: Any = param(5.405, "nS/pF", meaning="conductance of I_K1")
    g_to: Any = param(0.294, "nS/pF", meaning="conductance of I_to; endo 0.073")
    g_Kr: Any = param(0.153, "nS/pF", meaning="conductance of I_Kr")
    g_Ks: Any = param(0.392, "nS/pF", meaning="conductance of I_Ks; mid 0.098")
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
    s_shift: Any = param(20.0, "mV", meaning="s_inf = 1/(1 + exp((V + s_shift)/5)); endo 28")
    tau_s_A: Any = param(85.0, "ms", meaning="height of the bell in tau_s; endo 1000")
    tau_s_B: Any = param(45.0, "mV", meaning="minus its centre; endo 67")
    tau_s_C: Any = param(320.0, "mV^2", meaning="its width, squared; endo 1000")
    tau_s_E: Any = param(5.0, "ms", meaning="height of the sigmoid in tau_s; endo 0")
    tau_s_F: Any = param(3.0, "ms", meaning="constant in tau_s; endo 8")
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
    start: tuple[Any, TenTusscherState] = _EPI_START
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    @classmethod
    def epi(cls, **parameters: Any) -> Self:
        """Epicardial cell; keyword arguments replace single parameters or `start`."""
        return cls(**parameters)

    @classmethod
    def mid(cls, **parameters: Any) -> Self:
        """Mid-myocardial (M) cell; keyword arguments replace single parameters or `start`."""
        return cls(**(_MID | parameters))

    @classmethod
    def endo(cls, **parameters: Any) -> Self:
        """Endocardial cell; keyword arguments replace single parameters or `start`."""
        return cls(**(_ENDO | parameters))

    def initial(self) -> tuple[Any, TenTusscherState]:
        """The field `start`."""
        return self.start

    def under_way(self) -> Self:
        """Without `start`."""
        return eqx.tree_at(lambda cell: cell.start, self, None)

    def stimulus_rates(self, stimulus: Float[ArrayLike, "*nodes"]) -> dict[str, Array]:
        """The stimulus as a potassium current into the cell, as in the published single cell."""
        return {"K_i": jnp.asarray(stimulus) * (self.C / (self.V_c * self.F))}

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: TenTusscherState
    ) -> tuple[Float[Array, "*nodes"], TenTusscherState]:
        """Ionic current over capacitance (pA/pF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        rt_f = self.R * self.T / self.F
        e_na = rt_f * (log(self.Na_o) - log(y.Na_i))
        e_k = rt_f * (log(self.K_o) - log(y.K_i))
        e_ca = 0.5 * rt_f * (log(self.Ca_o) - log(y.Ca_i))

        i_na = self.g_Na * y.m**3 * y.h * y.j * (v - e_na) + self.g_bNa * (v - e_na)
        i_k = self._potassium_current(v, y, v - e_k, rt_f)
        i_cal = self._i_cal(v, y, rt_f)
        i_bca_pca = self.g_bCa * (v - e_ca) + self.g_pCa * y.Ca_i / (y.Ca_i + self.K_pCa)
        i_nak, i_naca = self._exchange_currents(v, y, rt_f)

        per_current = self.C / (self.V_c * self.F)  # mM/ms in the cytoplasm per pA/pF
        rates = {
            **self._sodium_gate_rates(v, y),
            **self._potassium_gate_rates(v, y),
            **self._calcium_gate_rates(v, y),
            **self._calcium_rates(y, i_cal, (i_bca_pca - 2 * i_naca) * (0.5 * per_current)),
            "Na_i": -per_current * (i_na + 3 * i_nak + 3 * i_naca),
            "K_i": -per_current * (i_k - 2 * i_nak),
        }
        return i_na + i_k + i_cal + i_bca_pca + i_nak + i_naca, TenTusscherState(**rates)

    def _potassium_current(self, v: Array, y: TenTusscherState, x: Array, rt_f: Any) -> Array:
        """I_K1 + I_to + I_Kr + I_Ks + I_pK; x = V - E_K."""
        x_k1_inf = _x_k1_inf(x)
        root = jnp.sqrt(self.K_o / 5.4)
        e_ks = rt_f * (log(self.K_o + self.P_KNa * self.Na_o) - log(y.K_i + self.P_KNa * y.Na_i))
        plateau = self.g_pK / (1.0 + exp((25.0 - v) / 5.98))
        return (
            x * (root * (self.g_K1 * x_k1_inf + self.g_Kr * y.Xr1 * y.Xr2) + plateau)
            + x * (self.g_to * y.r * y.s)
            + self.g_Ks * y.Xs**2 * (v - e_ks)
        )

    def currents(self, v: Float[ArrayLike, "*nodes"], state: TenTusscherState) -> dict[str, Array]:
        """Each current over capacitance (pA/pF), one by one as printed; `__call__` merges them."""
        v, y = jnp.asarray(v), state
        rt_f = self.R * self.T / self.F
        e_na = rt_f * log(self.Na_o / y.Na_i)
        e_k = rt_f * log(self.K_o / y.K_i)
        e_ks = rt_f * log((self.K_o + self.P_KNa * self.Na_o) / (y.K_i + self.P_KNa * y.Na_i))
        e_ca = 0.5 * rt_f * log(self.Ca_o / y.Ca_i)
        root = jnp.sqrt(self.K_o / 5.4)
        i_nak, i_naca = self._exchange_currents(v, y, rt_f)
        return {
            "I_Na": self.g_Na * y.m**3 * y.h * y.j * (v - e_na),
            "I_K1": self.g_K1 * root * _x_k1_inf(v - e_k) * (v - e_k),
            "I_to": self.g_to * y.r * y.s * (v - e_k),
            "I_Kr": self.g_Kr * root * y.Xr1 * y.Xr2 * (v - e_k),
            "I_Ks": self.g_Ks * y.Xs**2 * (v - e_ks),
            "I_CaL": self._i_cal(v, y, rt_f),
            "I_NaK": i_nak,
            "I_NaCa": i_naca,
            "I_pCa": self.g_pCa * y.Ca_i / (y.Ca_i + self.K_pCa),
            "I_pK": self.g_pK / (1.0 + exp((25.0 - v) / 5.98)) * (v - e_k),
            "I_bNa": self.g_bNa * (v - e_na),
            "I_bCa": self.g_bCa * (v - e_ca),
        }

    def _i_cal(self, v: Array, y: TenTusscherState, rt_f: Any) -> Array:
        """I_CaL = g d f f2 fCass 4 (V-15) F^2/(RT) (0.25 Ca_ss e^z - Ca_o)/(e^z - 1)."""
        z = (2.0 / rt_f) * (v - 15.0)
        bernoulli = 1.0 / phi1(z)  # z/(e^z - 1), 1 at V = 15 mV
        driving = 0.25 * y.Ca_ss * (z + bernoulli) - self.Ca_o * bernoulli
        return (2.0 * self.F * self.g_CaL) * y.d * y.f * y.f2 * y.fCass * driving

    def _exchange_currents(self, v: Array, y: TenTusscherState, rt_f: Any) -> tuple[Array, Array]:
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

    def _sodium_gate_rates(self, v: Array, y: TenTusscherState) -> dict[str, Array]:
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

    def _potassium_gate_rates(self, v: Array, y: TenTusscherState) -> dict[str, Array]:
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

        # tau_s = A exp(-(V+B)^2/C) + E/(1 + exp((V-20)/5)) + F
        c = exp((v - 20.0) / 5.0)
        s_inf = 1.0 / (1.0 + c * exp((self.s_shift + 20.0) / 5.0))
        bell = self.tau_s_A * exp(-((v + self.tau_s_B) ** 2) / self.tau_s_C)
        s_rate = (1.0 + c) / ((1.0 + c) * (bell + self.tau_s_F) + self.tau_s_E)

        r_inf = 1.0 / (1.0 + exp((20.0 - v) / 6.0))
        r_rate = 1.0 / (9.5 * exp((v + 40.0) ** 2 / -1800.0) + 0.8)
        return {
            "Xr1": (xr1_inf - y.Xr1) * xr1_rate,
            "Xr2": (xr2_inf - y.Xr2) * xr2_rate,
            "Xs": (xs_inf - y.Xs) * xs_rate,
            "s": (s_inf - y.s) * s_rate,
            "r": (r_inf - y.r) * r_rate,
        }

    def _calcium_gate_rates(self, v: Array, y: TenTusscherState) -> dict[str, Array]:
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

    def _calcium_rates(self, y: TenTusscherState, i_cal: Array, efflux: Array) -> dict[str, Array]:
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


def _x_k1_inf(x: Array) -> Array:
    """Steady rectification of I_K1 at x = V - E_K, alpha/(alpha + beta)."""
    # alpha = 0.1/(1 + exp(0.06 (x - 200))),
    # beta = (3 exp(0.0002 (x + 100)) + exp(0.1 (x - 10)))/(1 + exp(-0.5 x))
    p = exp(0.02 * x)
    closing = 3.0 * exp(0.0002 * (x + 100.0)) + math.exp(-1.0) * p**5
    q = 1.0 + exp(-0.5 * x)
    return q / (q + 10.0 * closing * (1.0 + math.exp(-12.0) * p**3))


def _free(ca: Array, buffer: Any, half: Any) -> Array:
    """Free share of a calcium change, 1/(1 + buffer half/(ca + half)^2)."""
    square = (ca + half) ** 2
    return square / (square + buffer * half)
