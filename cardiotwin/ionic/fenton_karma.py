"""Three-variable ventricular membrane: Fenton and Karma 1998.

F. Fenton and A. Karma, Vortex dynamics in three-dimensional continuous myocardium with fiber
rotation: filament instability and fibrillation, Chaos 8:20-47, 1998,
https://doi.org/10.1063/1.166311; equations 3 to 9, parameters of Table I. H is the unit step, u the
potential without unit, V = V_0 + (V_fi - V_0) u:

    J_fi = -v H(u - u_c) (1 - u) (u - u_c) / tau_d,    tau_d = C_m / g_fi
    J_so = u H(u_c - u) / tau_0 + H(u - u_c) / tau_r
    J_si = -w (1 + tanh(k (u - u_csi))) / (2 tau_si)
    dv/dt = H(u_c - u) (1 - v) / tau_v_minus(u) - H(u - u_c) v / tau_v_plus
    dw/dt = H(u_c - u) (1 - w) / tau_w_minus - H(u - u_c) w / tau_w_plus
    tau_v_minus(u) = H(u - u_v) tau_v1_minus + H(u_v - u) tau_v2_minus
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, heaviside, summed

_MBR = {
    "tau_r": 50.0, "tau_si": 45.0, "tau_0": 8.3, "tau_v1_minus": 1000.0, "tau_v2_minus": 19.2,
    "tau_w_plus": 667.0, "tau_w_minus": 11.0, "u_v": 0.055,
}  # fmt: skip
_MLR_I = {
    "g_fi": 5.8, "tau_r": 130.0, "tau_si": 127.0, "tau_v_plus": 10.0, "tau_v1_minus": 18.2,
    "tau_v2_minus": 18.2, "tau_w_plus": 1020.0, "tau_w_minus": 80.0, "u_v": 0.0,
}  # fmt: skip


class FentonKarmaState(NamedTuple):
    """Gates without unit: v inactivates the fast, w the slow inward current."""

    v: Any
    w: Any


class FentonKarma(AbstractIonicModel):
    """Fenton-Karma membrane in millivolts; defaults are the set fitted to Beeler-Reuter (BR)."""

    State: ClassVar[type[Any]] = FentonKarmaState
    gates: ClassVar[tuple[str, ...]] = ("v", "w")
    activation_threshold: ClassVar[float] = -40.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 2.0  # velocity^2/diffusivity on a cable; MLR-I 3.7
    channels: ClassVar[Mapping[str, str]] = MappingProxyType({"I_fi": "g_fi"})

    g_fi: Any = param(4.0, "mS/cm^2", meaning="conductance of the fast inward current")
    tau_r: Any = param(33.33, "ms", meaning="slow outward current above u_c")
    tau_si: Any = param(29.0, "ms", meaning="slow inward current")
    tau_0: Any = param(12.5, "ms", meaning="slow outward current below u_c")
    tau_v_plus: Any = param(3.33, "ms", meaning="inactivation of v")
    tau_v1_minus: Any = param(1250.0, "ms", meaning="recovery of v between u_v and u_c")
    tau_v2_minus: Any = param(19.6, "ms", meaning="recovery of v below u_v")
    tau_w_plus: Any = param(870.0, "ms", meaning="inactivation of w")
    tau_w_minus: Any = param(41.0, "ms", meaning="recovery of w")
    u_c: Any = param(0.13, "", meaning="threshold of excitation in u")
    u_v: Any = param(0.04, "", meaning="threshold of tau_v_minus in u")
    u_csi: Any = param(0.85, "", meaning="midpoint of the slow inward current in u")
    k: Any = param(10.0, "", meaning="steepness of the slow inward current in u")
    C_m: Any = param(1.0, "uF/cm^2", meaning="membrane capacitance in tau_d")
    V_0: Any = param(-85.0, "mV", meaning="potential at u = 0")
    V_fi: Any = param(15.0, "mV", meaning="reversal potential of the fast inward current, u = 1")
    smoothing: float = eqx.field(static=True, default=0.0)
    """Width in u of every step H; 0 is the paper's hard step."""

    @classmethod
    def br(cls, **parameters: Any) -> Self:
        """Fitted to Beeler-Reuter; keyword arguments replace single parameters."""
        return cls(**parameters)

    @classmethod
    def mbr(cls, **parameters: Any) -> Self:
        """Fitted to modified Beeler-Reuter, with faster calcium; arguments as of `br`."""
        return cls(**(_MBR | parameters))

    @classmethod
    def mlr1(cls, **parameters: Any) -> Self:
        """Fitted to modified Luo-Rudy I (MLR-I); arguments as of `br`."""
        return cls(**(_MLR_I | parameters))

    def initial(self) -> tuple[Any, FentonKarmaState]:
        """Full rest: u = 0, v = w = 1."""
        return self.V_0, FentonKarmaState(v=1.0, w=1.0)

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: FentonKarmaState
    ) -> tuple[Float[Array, "*nodes"], FentonKarmaState]:
        """Ionic current over capacitance (mV/ms) and rates of the gates (1/ms)."""
        u = (v - self.V_0) / (self.V_fi - self.V_0)
        p = heaviside(u - self.u_c, self.smoothing)
        q = heaviside(u - self.u_v, self.smoothing)
        tau_v_minus = q * self.tau_v1_minus + (1 - q) * self.tau_v2_minus
        rates = FentonKarmaState(
            v=(1 - p) * (1 - state.v) / tau_v_minus - p * state.v / self.tau_v_plus,
            w=(1 - p) * (1 - state.w) / self.tau_w_minus - p * state.w / self.tau_w_plus,
        )
        return summed(self.currents(v, state)), rates

    def currents(self, v: Float[ArrayLike, "*nodes"], state: FentonKarmaState) -> dict[str, Array]:
        """Fast inward, slow outward and slow inward current, mV/ms."""
        amplitude = self.V_fi - self.V_0
        u = (v - self.V_0) / amplitude
        p = heaviside(u - self.u_c, self.smoothing)
        j_fi = -state.v * p * (1 - u) * (u - self.u_c) * (self.g_fi / self.C_m)
        j_so = u * (1 - p) / self.tau_0 + p / self.tau_r
        j_si = -state.w * (1 + jnp.tanh(self.k * (u - self.u_csi))) / (2 * self.tau_si)
        return {"I_fi": amplitude * j_fi, "I_so": amplitude * j_so, "I_si": amplitude * j_si}
