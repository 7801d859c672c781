"""Human ventricular cell: ten Tusscher and Panfilov 2006, 18 variables beside the potential.

K. H. W. J. ten Tusscher and A. V. Panfilov, Alternans and spiral breakup in a human ventricular
tissue model, Am J Physiol Heart Circ Physiol 291:H1088-H1100, 2006,
https://doi.org/10.1152/ajpheart.00109.2006. The currents it keeps are printed in K. H. W. J. ten
Tusscher, D. Noble, P. J. Noble and A. V. Panfilov, A model for human ventricular tissue, Am J
Physiol Heart Circ Physiol 286:H1573-H1589, 2004, https://doi.org/10.1152/ajpheart.00794.2003.
Symbols are the papers'. docs/models/ten_tusscher_2006.md lists parameters, initial states and
departures. What the Purkinje cell of Stewart et al. shares is in `_ten_tusscher`, with notes on how
the rates are written.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._ten_tusscher import TenTusscherCell
from cardiotwin.numerics.elementary import exp, log


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


class TenTusscherPanfilov2006(TenTusscherCell):
    """Ten Tusscher-Panfilov 2006 cell; defaults are the epicardial parameters."""

    State: ClassVar[type[Any]] = TenTusscherState
    gates: ClassVar[tuple[str, ...]] = TenTusscherState._fields[:12]
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            **{f"I_{name}": f"g_{name}" for name in _OHMIC},
            "I_pCa": "g_pCa",
            "I_NaK": "P_NaK",
            "I_NaCa": "k_NaCa",
        }
    )

    g_to: Any = param(0.294, "nS/pF", meaning="conductance of I_to; endo 0.073")
    g_Ks: Any = param(0.392, "nS/pF", meaning="conductance of I_Ks; mid 0.098")
    s_shift: Any = param(20.0, "mV", meaning="s_inf = 1/(1 + exp((V + s_shift)/5)); endo 28")
    tau_s_A: Any = param(85.0, "ms", meaning="height of the bell in tau_s; endo 1000")
    tau_s_B: Any = param(45.0, "mV", meaning="minus its centre; endo 67")
    tau_s_C: Any = param(320.0, "mV^2", meaning="its width, squared; endo 1000")
    tau_s_E: Any = param(5.0, "ms", meaning="height of the sigmoid in tau_s; endo 0")
    tau_s_F: Any = param(3.0, "ms", meaning="constant in tau_s; endo 8")
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

    def _potassium_gate_rates(self, v: Array, y: TenTusscherState) -> dict[str, Array]:
        # tau_s = A exp(-(V+B)^2/C) + E/(1 + exp((V-20)/5)) + F
        c = exp((v - 20.0) / 5.0)
        s_inf = 1.0 / (1.0 + c * exp((self.s_shift + 20.0) / 5.0))
        bell = self.tau_s_A * exp(-((v + self.tau_s_B) ** 2) / self.tau_s_C)
        s_rate = (1.0 + c) / ((1.0 + c) * (bell + self.tau_s_F) + self.tau_s_E)

        r_inf = 1.0 / (1.0 + exp((20.0 - v) / 6.0))
        r_rate = 1.0 / (9.5 * exp((v + 40.0) ** 2 / -1800.0) + 0.8)
        return {
            **self._rectifier_gate_rates(v, y),
            "s": (s_inf - y.s) * s_rate,
            "r": (r_inf - y.r) * r_rate,
        }


def _x_k1_inf(x: Array) -> Array:
    """Steady rectification of I_K1 at x = V - E_K, alpha/(alpha + beta)."""
    # alpha = 0.1/(1 + exp(0.06 (x - 200))),
    # beta = (3 exp(0.0002 (x + 100)) + exp(0.1 (x - 10)))/(1 + exp(-0.5 x))
    p = exp(0.02 * x)
    closing = 3.0 * exp(0.0002 * (x + 100.0)) + math.exp(-1.0) * p**5
    q = 1.0 + exp(-0.5 * x)
    return q / (q + 10.0 * closing * (1.0 + math.exp(-12.0) * p**3))
