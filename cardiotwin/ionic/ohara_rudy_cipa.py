"""Human ventricular cell for drugs: O'Hara-Rudy with dynamic binding to hERG, CiPA v1.0.

S. Dutta et al., Optimization of an in silico cardiac cell model for proarrhythmia risk assessment,
Front Physiol 8:616, 2017, https://doi.org/10.3389/fphys.2017.00616 (conductances), with the hERG
channel of Z. Li et al., Improving the in silico assessment of proarrhythmia risk by combining hERG
channel-drug binding kinetics and multichannel pharmacology, Circ Arrhythm Electrophysiol
10:e004628, 2017, https://doi.org/10.1161/CIRCEP.116.004628. All else is `ohara_rudy_2011`.
docs/models/ohara_rudy_cipa.md lists parameters, initial states and departures.
"""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from cardiotwin._types import param
from cardiotwin.ionic._limit_cycles import limit_cycle
from cardiotwin.ionic.ohara_rudy_2011 import OHaraRudy2011
from cardiotwin.numerics.elementary import exp

HERG = ("IC2", "C1", "C2", "O", "IO", "IObound", "Obound", "Cbound")
"""Shares of hERG channels beside IC1, which is what they leave of 1."""


class OHaraRudyCiPAState(NamedTuple):
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
    IC2: Any
    C1: Any
    C2: Any
    O: Any  # noqa: E741
    IO: Any
    IObound: Any
    Obound: Any
    Cbound: Any
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


# The CellML file's initial state, IC1 left out.
FILE_STATE: tuple[float, OHaraRudyCiPAState] = (
    -88.00190465,
    OHaraRudyCiPAState(
        m=0.007344121102, hf=0.6981071913, hs=0.6980895801, j=0.6979908432,
        hsp=0.4549485525, jp=0.6979245865, mL=0.0001882617273, hL=0.5008548855,
        hLp=0.2693065357, a=0.001001097687, iF=0.9995541745, iS=0.5865061736,
        ap=0.0005100862934, iFp=0.9995541823, iSp=0.6393399482, d=2.34e-09,
        ff=0.9999999909, fs=0.9102412777, fcaf=0.9999999909, fcas=0.9998046777,
        jca=0.9999738312, ffp=0.9999999909, fcafp=0.9999999909, xs1=0.2707758025,
        xs2=0.0001928503426, xk1=0.9967597594, IC2=6.83208e-05, C1=1.80145e-08,
        C2=8.26619e-05, O=0.00015551, IO=5.67623e-05, IObound=0.0, Obound=0.0, Cbound=0.0,
        nca=0.002749414044, Jrel_np=2.5e-07, Jrel_p=3.12e-07, CaMKt=0.0125840447,
        Na_i=7.268004498, Na_ss=7.268089977, K_i=144.6555918, K_ss=144.6555651,
        Ca_i=8.6e-05, Ca_ss=8.49e-05, Ca_nsr=1.619574538, Ca_jsr=1.571234014,
    ),
)  # fmt: skip


class OHaraRudyCiPA(OHaraRudy2011):
    """CiPA v1.0 cell; defaults are the endocardial parameters and no drug.

    hERG channels are closed (C1, C2), open (O), inactivated (IC1, IC2, IO), and bound by drug when
    open (Obound), inactivated (IObound) or, trapped, closed (Cbound). The shares sum to 1, so IC1
    is no variable. The drug is `D` and its five constants; with `D` = 0 nothing binds.
    """

    State: ClassVar[type[Any]] = OHaraRudyCiPAState
    gates: ClassVar[tuple[str, ...]] = OHaraRudyCiPAState._fields[:26]
    linearised: ClassVar[tuple[str, ...]] = (*HERG, *OHaraRudy2011.linearised)

    G_NaL: Any = param(0.0199575, "mS/uF", meaning="conductance of I_NaL; epi 0.6 times")
    P_Ca: Any = param(0.0001007, "cm/s", meaning="permeability of I_CaL; epi 1.2, mid 2.5 times")
    G_Kr: Any = param(
        0.0465854545454546, "mS/uF", meaning="conductance of I_Kr; epi 1.3, mid 0.8 times"
    )
    G_Ks: Any = param(0.006358, "mS/uF", meaning="conductance of I_Ks; epi 1.4 times")
    G_K1: Any = param(0.3239784, "mS/uF", meaning="conductance of I_K1; epi 1.2, mid 1.3 times")
    D: Any = param(0.0, "nM", meaning="free concentration of the drug")
    K_max: Any = param(0.0, "", meaning="largest binding rate of the drug over K_u")
    K_u: Any = param(0.0, "1/ms", meaning="unbinding rate of the drug")
    n: Any = param(1.0, "", meaning="Hill coefficient of binding")
    halfmax: Any = param(1.0, "nM^n", meaning="D^n at which binding is half as fast as it can be")
    V_half: Any = param(1.0, "mV", meaning="potential at which half the bound channels are open")
    K_t: Any = param(3.5e-5, "1/ms", meaning="trapping in the closed state")
    start: tuple[Any, Any] = limit_cycle("OHaraRudyCiPA endo", OHaraRudyCiPAState)
    """Potential and state to start from; by default near the limit cycle at 1000 ms."""

    def _rapid_rectifier(self, v: Array, y: Any) -> Array:
        """Open share of I_Kr."""
        del v
        return y.O

    def _rapid_rectifier_rates(self, v: Array, y: Any) -> dict[str, Array]:
        """Occupancies of the hERG chain, C1 - C2 - O above IC1 - IC2 - IO, and drug-bound ones."""
        ic1 = 1.0 - sum(getattr(y, name) for name in HERG)
        r = {k: _rate(*row) * exp(row[1] * v) for k, row in _HERG_RATES.items()}
        c1_c2 = r["1"] * y.C1 - r["2"] * y.C2
        ic1_ic2 = r["11"] * ic1 - r["21"] * y.IC2
        ic2_io = r["3"] * y.IC2 - r["4"] * y.IO
        c2_o = r["31"] * y.C2 - r["41"] * y.O
        c1_ic1 = r["51"] * y.C1 - r["61"] * ic1
        c2_ic2 = r["52"] * y.C2 - r["62"] * y.IC2
        o_io = r["53"] * y.O - r["63"] * y.IO

        power = jnp.power(self.D, self.n)
        bind = self.K_max * self.K_u * power / (power + self.halfmax)
        # detailed balance of the loop through the bound states
        o_bound = bind * y.O - self.K_u * y.Obound
        io_bound = bind * y.IO - self.K_u * (r["53"] / r["63"]) * y.IObound
        leave = self.K_t / (1.0 + exp((v - self.V_half) / -6.789)) * y.Cbound
        o_trapped = self.K_t * y.Obound - leave
        io_trapped = self.K_t * y.IObound - leave
        return {
            "IC2": ic1_ic2 - ic2_io + c2_ic2,
            "C1": -c1_c2 - c1_ic1,
            "C2": c1_c2 - c2_o - c2_ic2,
            "O": c2_o - o_io - o_bound,
            "IO": ic2_io + o_io - io_bound,
            "IObound": io_bound - io_trapped,
            "Obound": o_bound - o_trapped,
            "Cbound": o_trapped + io_trapped,
        }


# Rates of the hERG channel, A exp(B V) q^((T - 20)/10) per ms at 37 degrees: A, B and q by number.
_HERG_RATES = {
    "1": (0.0264, 4.631e-05, 4.843),
    "2": (4.986e-06, -0.004226, 4.23),
    "3": (0.001214, 0.008516, 4.962),
    "4": (1.854e-05, -0.04641, 3.769),
    "11": (0.0007868, 1.535e-08, 4.942),
    "21": (5.455e-06, -0.1688, 4.156),
    "31": (0.005509, 7.771e-09, 4.22),
    "41": (0.001416, -0.02877, 1.459),
    "51": (0.4492, 0.008595, 5.0),
    "52": (0.3181, 3.613e-08, 4.663),
    "53": (0.149, 0.004668, 2.412),
    "61": (0.01241, 0.1725, 5.568),
    "62": (0.3226, -0.0006575, 5.0),
    "63": (0.008978, -0.02215, 5.682),
}


def _rate(a: float, b: float, q: float) -> float:
    """The rate at 0 mV."""
    del b
    return a * q ** ((37.0 - 20.0) / 10.0)
