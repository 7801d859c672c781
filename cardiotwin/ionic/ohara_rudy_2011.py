"""Human ventricular cell: O'Hara, Virag, Varro and Rudy 2011, 40 variables beside the potential.

T. O'Hara, L. Virag, A. Varro and Y. Rudy, Simulation of the undiseased human cardiac ventricular
action potential: model formulation and experimental validation, PLoS Comput Biol 7:e1002061, 2011,
https://doi.org/10.1371/journal.pcbi.1002061; equations and symbols of its supplement (Text S1).
What later models of the family share is in `_ohara_rudy`. docs/models/ohara_rudy_2011.md lists
parameters, initial states and departures.
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
from cardiotwin.ionic._ohara_rudy import (
    OHaraRudyCell,
    calcium_activation_rate,
    constant_field,
)
from cardiotwin.numerics.elementary import exp, log


class OHaraRudyState(NamedTuple):
    """Gates and shares of channels (no unit), concentrations (mM), release fluxes (mM/ms)."""

    m: Any
    hf: Any
    hs: Any
    j: Any
    hsp: Any
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
    xs1: Any
    xs2: Any
    xk1: Any
    xrf: Any
    xrs: Any
    nca: Any
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


# Values at rest that the authors' program starts from.
FILE_STATE: tuple[float, OHaraRudyState] = (
    -87.0,
    OHaraRudyState(
        m=0.0, hf=1.0, hs=1.0, j=1.0, hsp=1.0, jp=1.0, mL=0.0, hL=1.0, hLp=1.0, a=0.0, iF=1.0,
        iS=1.0, ap=0.0, iFp=1.0, iSp=1.0, d=0.0, ff=1.0, fs=1.0, fcaf=1.0, fcas=1.0, jca=1.0,
        ffp=1.0, fcafp=1.0, xs1=0.0, xs2=0.0, xk1=1.0, xrf=0.0, xrs=0.0, nca=0.0, Jrel_np=0.0,
        Jrel_p=0.0, CaMKt=0.0, Na_i=7.0, Na_ss=7.0, K_i=145.0, K_ss=145.0, Ca_i=1e-4, Ca_ss=1e-4,
        Ca_nsr=1.2, Ca_jsr=1.2,
    ),
)  # fmt: skip
# Parameters of the other cell types over those of the endocardial cell.
_EPI: dict[str, Any] = {
    "G_NaL": 0.6, "G_to": 4.0, "P_Ca": 1.2, "G_Kr": 1.3, "G_Ks": 1.4, "G_K1": 1.2, "G_NCX": 1.1,
    "P_NaK": 0.9, "G_Kb": 0.6, "J_up_max": 1.3, "CMDN_max": 1.3,
}  # fmt: skip
_MID: dict[str, Any] = {
    "G_to": 4.0, "P_Ca": 2.5, "G_Kr": 0.8, "G_K1": 1.3, "G_NCX": 1.4, "P_NaK": 0.7,
    "alpha_rel": 1.7,
}  # fmt: skip


class OHaraRudy2011(OHaraRudyCell):
    """O'Hara-Rudy cell; defaults are the endocardial parameters."""

    State: ClassVar[type[Any]] = OHaraRudyState
    gates: ClassVar[tuple[str, ...]] = OHaraRudyState._fields[:28]
    linearised: ClassVar[tuple[str, ...]] = ("nca", "Jrel_np", "Jrel_p")
    channels: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "I_Na": "G_Na", "I_NaL": "G_NaL", "I_to": "G_to", "I_CaL": "P_Ca", "I_Kr": "G_Kr",
            "I_Ks": "G_Ks", "I_K1": "G_K1", "I_NaCa": "G_NCX", "I_NaK": "P_NaK", "I_bK": "G_Kb",
            "I_bNa": "P_Nab", "I_bCa": "P_Cab", "I_pCa": "G_pCa",
        }
    )  # fmt: skip

    G_Na: Any = param(75.0, "mS/uF", meaning="conductance of I_Na")
    G_NaL: Any = param(0.0075, "mS/uF", meaning="conductance of I_NaL; epi 0.6 times")
    G_to: Any = param(0.02, "mS/uF", meaning="conductance of I_to; mid and epi 4 times")
    G_Kr: Any = param(0.046, "mS/uF", meaning="conductance of I_Kr; epi 1.3, mid 0.8 times")
    G_Ks: Any = param(0.0034, "mS/uF", meaning="conductance of I_Ks; epi 1.4 times")
    G_K1: Any = param(0.1908, "mS/uF", meaning="conductance of I_K1; epi 1.2, mid 1.3 times")
    G_Kb: Any = param(0.003, "mS/uF", meaning="conductance of I_bK; epi 0.6 times")
    P_Nab: Any = param(3.75e-10, "cm/s", meaning="permeability of the sodium background")
    P_Cab: Any = param(2.5e-8, "cm/s", meaning="permeability of the calcium background")
    G_pCa: Any = param(0.0005, "pA/pF", meaning="maximum of I_pCa")
    gamma_Ca: Any = param(0.341, "", meaning="activity of extracellular calcium")
    gamma_NaK: Any = param(0.75, "", meaning="activity of sodium and potassium in I_CaL")
    f_NaCa_ss: Any = param(0.2, "", meaning="share of I_NaCa in the subspace")
    start: tuple[Any, Any] = limit_cycle("OHaraRudy2011 endo", OHaraRudyState)
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    @classmethod
    def endo(cls, **parameters: Any) -> Self:
        """Endocardial cell; keyword arguments replace single parameters or `start`."""
        return cls(**parameters)

    @classmethod
    def mid(cls, **parameters: Any) -> Self:
        """Mid-myocardial (M) cell; keyword arguments replace single parameters or `start`."""
        start = limit_cycle(f"{cls.__name__} mid", cls.State)
        return cls(**(cls._times(_MID) | {"start": start, **parameters}))

    @classmethod
    def epi(cls, **parameters: Any) -> Self:
        """Epicardial cell; keyword arguments replace single parameters or `start`."""
        start = limit_cycle(f"{cls.__name__} epi", cls.State)
        return cls(**(cls._times(_EPI) | {"delta_epi": 0.95, "start": start, **parameters}))

    @classmethod
    def _times(cls, factors: Mapping[str, float]) -> dict[str, Any]:
        published = {row.name: row.default for row in cls.parameters()}
        return {name: factor * published[name] for name, factor in factors.items()}

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: Any
    ) -> tuple[Float[Array, "*nodes"], Any]:
        """Ionic current over capacitance (pA/pF = mV/ms) and rates of the state (1/ms, mM/ms)."""
        v, y = jnp.asarray(v), state
        c = self._currents(v, y)
        rates = {
            **self._sodium_gate_rates(v, y),
            **self._transient_outward_rates(v, y),
            **self._calcium_gate_rates(v, y),
            "nca": self._calcium_mode_rate(y, y.Ca_ss, y.nca, 1000.0),
            **self._rapid_rectifier_rates(v, y),
            **self._slow_rectifier_rates(v, y),
            **self._inward_rectifier_rates(v, y),
            **self._release_rates(y, c["I_CaL_ss"]),
            "CaMKt": self._camk_rate(y),
            **self._sodium_potassium_rates(y, c),
            **self._calcium_rates(y, c, self._phosphorylated(y), 1.0),
        }
        return summed(c), self.State(**rates)

    def _currents(self, v: Array, y: Any) -> dict[str, Array]:
        rt_f = self.R * self.T / self.F
        u, share = v / rt_f, self._phosphorylated(y)
        na = v - rt_f * (log(self.Na_o) - log(y.Na_i))  # V - E_Na
        k = v - rt_f * (log(self.K_o) - log(y.K_i))
        # h = 0.99 hf + 0.01 hs
        plain = (0.99 * y.hf + 0.01 * y.hs) * y.j
        moved = (0.99 * y.hf + 0.01 * y.hsp) * y.jp
        late = y.mL * (y.hL + share * (y.hLp - y.hL))
        inward = jnp.sqrt(self.K_o) * y.xk1 / (1.0 + exp((v + 105.8 - 2.6 * self.K_o) / 9.493))
        exchanger = self.f_NaCa_ss * self.G_NCX
        return {
            "I_Na": self.G_Na * y.m**3 * (plain + share * (moved - plain)) * na,
            "I_NaL": self.G_NaL * late * na,
            "I_to": self.G_to * self._transient_outward(v, y, share) * k,
            "I_Kr": self.G_Kr * jnp.sqrt(self.K_o / 5.4) * self._rapid_rectifier(v, y) * k,
            "I_Ks": self.G_Ks * self._slow_rectifier(v, y),
            "I_K1": self.G_K1 * inward * k,
            "I_bK": self.G_Kb / (1.0 + exp((v - 14.48) / -18.34)) * k,
            "I_NaK": self._pump(u, y),
            "I_pCa": self.G_pCa * y.Ca_i / (y.Ca_i + self.K_mCap),
            "I_NaCa": (self.G_NCX - exchanger) * self._exchanger(u, y.Na_i, y.Ca_i),
            "I_NaCa_ss": exchanger * self._exchanger(u, y.Na_ss, y.Ca_ss),
            **self._permeations(v, u, y, share),
        }

    def _permeations(self, v: Array, u: Array, y: Any, share: Array) -> dict[str, Array]:
        """Currents by constant field: I_CaL, I_CaNa, I_CaK, I_bNa, I_bCa."""
        b1, b2 = constant_field(u)
        mode_0, mode_1 = self._calcium_opening(v, y, share)
        open_share = (self.P_Ca * self.F) * (mode_0 + y.nca * (mode_1 - mode_0))
        monovalent = self.gamma_NaK * open_share
        outside = self.gamma_Ca * self.Ca_o * b2
        return {
            "I_CaL_ss": 2.0 * open_share * (y.Ca_ss * (2.0 * u + b2) - outside),
            "I_CaNa_ss": self.P_CaNa_ratio * monovalent * (y.Na_ss * (u + b1) - self.Na_o * b1),
            "I_CaK_ss": self.P_CaK_ratio * monovalent * (y.K_ss * (u + b1) - self.K_o * b1),
            "I_bNa": self.P_Nab * self.F * (y.Na_i * (u + b1) - self.Na_o * b1),
            "I_bCa": 2.0 * self.P_Cab * self.F * (y.Ca_i * (2.0 * u + b2) - outside),
        }

    def _rapid_rectifier(self, v: Array, y: Any) -> Array:
        """Open share of I_Kr."""
        fast = 1.0 / (1.0 + exp((v + 54.81) / 38.21))
        rectified = 1.0 / ((1.0 + exp((v + 55.0) / 75.0)) * (1.0 + exp((v - 10.0) / 30.0)))
        return (fast * y.xrf + (1.0 - fast) * y.xrs) * rectified

    def _rapid_rectifier_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # tau_xrf = 12.98 + 1/(0.3652 exp((V-31.66)/3.869) + 4.123e-5 exp(-(V-47.78)/20.38))
        # tau_xrs = 1.865 + 1/(0.06629 exp((V-34.70)/7.355) + 1.128e-5 exp(-(V-29.74)/25.94))
        fast = 0.3652 * exp((v - 31.66) / 3.869) + 4.123e-5 * exp((v - 47.78) / -20.38)
        slow = 0.06629 * exp((v - 34.7) / 7.355) + 1.128e-5 * exp((v - 29.74) / -25.94)
        xr_inf = 1.0 / (1.0 + exp((v + 8.337) / -6.789))
        return {
            "xrf": (xr_inf - y.xrf) * (fast / (1.0 + 12.98 * fast)),
            "xrs": (xr_inf - y.xrs) * (slow / (1.0 + 1.865 * slow)),
        }

    def _sodium_gate_rates(self, v: Array, y: Any) -> dict[str, Array]:
        # tau_m = 1/(6.765 exp((V+11.64)/34.77) + 8.552 exp(-(V+77.42)/5.955)), and so on
        m_rate = 6.765 * exp((v + 11.64) / 34.77) + 8.552 * exp((v + 77.42) / -5.955)
        hf_rate = 1.432e-5 * exp((v + 1.196) / -6.285) + 6.149 * exp((v + 0.5096) / 20.27)
        hs_rate = 0.009794 * exp((v + 17.95) / -28.05) + 0.3343 * exp((v + 5.73) / 56.66)
        # tau_j = 2.038 + 1/a
        a = 0.02136 * exp((v + 100.6) / -8.281) + 0.3052 * exp((v + 0.9941) / 38.45)
        j_rate = a / (1.0 + 2.038 * a)
        c = exp((v + 82.9) / 6.086)
        h_inf, hsp_inf = 1.0 / (1.0 + c), 1.0 / (1.0 + math.exp(6.2 / 6.086) * c)
        return {
            "m": (1.0 / (1.0 + exp((v + 39.57) / -9.871)) - y.m) * m_rate,
            "hf": (h_inf - y.hf) * hf_rate,
            "hs": (h_inf - y.hs) * hs_rate,
            "hsp": (hsp_inf - y.hsp) * (hs_rate / 3.0),
            "j": (h_inf - y.j) * j_rate,
            "jp": (h_inf - y.jp) * (j_rate / 1.46),
            **self._late_sodium_rates(v, y, m_rate),
        }

    def _calcium_gate_rates(self, v: Array, y: Any) -> dict[str, Array]:
        d_inf = 1.0 / (1.0 + exp((v + 3.94) / -4.23))
        f_inf = 1.0 / (1.0 + exp((v + 19.58) / 3.696))
        return {
            "d": (d_inf - y.d) * calcium_activation_rate(v),
            "jca": (f_inf - y.jca) / 75.0,
            **self._calcium_inactivation_rates(v, y),
        }

    def _inward_rectifier_rates(self, v: Array, y: Any) -> dict[str, Array]:
        width = 1.5692 * self.K_o + 3.8115
        xk1_inf = 1.0 / (1.0 + exp(-(v + 2.5538 * self.K_o + 144.59) / width))
        rate = (exp((v + 127.2) / -20.36) + exp((v + 236.8) / 69.33)) / 122.2
        return {"xk1": (xk1_inf - y.xk1) * rate}
