"""Minimal model of human ventricular action potentials: Bueno-Orovio, Cherry and Fenton 2008.

A. Bueno-Orovio, E. M. Cherry and F. H. Fenton, Minimal model for human ventricular action
potentials in tissue, J Theor Biol 253:544-560, 2008, https://doi.org/10.1016/j.jtbi.2008.03.029;
equations 1 to 12 with the parameters of its Table 1. H is the unit step, u the potential without
unit, V = V_0 + V_amplitude u.
"""

from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, heaviside

_ENDO = {
    "u_u": 1.56, "theta_v_minus": 0.2, "tau_v1_minus": 75.0, "tau_v2_minus": 10.0,
    "tau_w1_minus": 6.0, "tau_w2_minus": 140.0, "k_w_minus": 200.0, "u_w_minus": 0.016,
    "tau_w_plus": 280.0, "tau_fi": 0.1, "tau_o1": 470.0, "tau_so1": 40.0, "tau_so2": 1.2,
    "k_so": 2.0, "tau_s2": 2.0, "tau_si": 2.9013, "tau_w_inf": 0.0273, "w_inf_star": 0.78,
}  # fmt: skip
_MID = {
    "u_u": 1.61, "theta_v_minus": 0.1, "theta_o": 0.005, "tau_v1_minus": 80.0,
    "tau_v2_minus": 1.4506, "tau_w1_minus": 70.0, "tau_w2_minus": 8.0, "k_w_minus": 200.0,
    "u_w_minus": 0.016, "tau_w_plus": 280.0, "tau_fi": 0.078, "tau_o1": 410.0, "tau_o2": 7.0,
    "tau_so1": 91.0, "tau_so2": 0.8, "k_so": 2.1, "u_so": 0.6, "tau_s2": 4.0, "tau_si": 3.3849,
    "tau_w_inf": 0.01, "w_inf_star": 0.5,
}  # fmt: skip


class BuenoOrovioState(NamedTuple):
    """Gates without unit: v and w inactivate, s activates the slow inward current."""

    v: Any
    w: Any
    s: Any


class BuenoOrovio(AbstractIonicModel):
    """Bueno-Orovio-Cherry-Fenton cell in millivolts; defaults are the epicardial parameters."""

    State: ClassVar[type[Any]] = BuenoOrovioState
    gates: ClassVar[tuple[str, ...]] = ("v", "w", "s")
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 4.9

    u_o: Any = param(0.0, "", meaning="u at rest in the slow outward current")
    u_u: Any = param(1.55, "", meaning="u at which the fast inward current reverses")
    theta_v: Any = param(0.3, "", meaning="threshold of the fast inward current and gate v")
    theta_w: Any = param(0.13, "", meaning="threshold of the slow currents and gate w")
    theta_v_minus: Any = param(0.006, "", meaning="threshold of v_inf and tau_v_minus")
    theta_o: Any = param(0.006, "", meaning="threshold of tau_o and w_inf")
    tau_v1_minus: Any = param(60.0, "ms", meaning="recovery of v below theta_v_minus")
    tau_v2_minus: Any = param(1150.0, "ms", meaning="recovery of v above theta_v_minus")
    tau_v_plus: Any = param(1.4506, "ms", meaning="inactivation of v")
    tau_w1_minus: Any = param(60.0, "ms", meaning="recovery of w far below u_w_minus")
    tau_w2_minus: Any = param(15.0, "ms", meaning="recovery of w far above u_w_minus")
    k_w_minus: Any = param(65.0, "", meaning="steepness of tau_w_minus")
    u_w_minus: Any = param(0.03, "", meaning="midpoint of tau_w_minus")
    tau_w_plus: Any = param(200.0, "ms", meaning="inactivation of w")
    tau_fi: Any = param(0.11, "ms", meaning="fast inward current")
    tau_o1: Any = param(400.0, "ms", meaning="outward current below theta_o")
    tau_o2: Any = param(6.0, "ms", meaning="outward current between theta_o and theta_w")
    tau_so1: Any = param(30.0181, "ms", meaning="slow outward current far below u_so")
    tau_so2: Any = param(0.9957, "ms", meaning="slow outward current far above u_so")
    k_so: Any = param(2.0458, "", meaning="steepness of tau_so")
    u_so: Any = param(0.65, "", meaning="midpoint of tau_so")
    tau_s1: Any = param(2.7342, "ms", meaning="gate s below theta_w")
    tau_s2: Any = param(16.0, "ms", meaning="gate s above theta_w")
    k_s: Any = param(2.0994, "", meaning="steepness of s_inf")
    u_s: Any = param(0.9087, "", meaning="midpoint of s_inf")
    tau_si: Any = param(1.8875, "ms", meaning="slow inward current")
    tau_w_inf: Any = param(0.07, "", meaning="slope of w_inf below theta_o, 1/slope in u")
    w_inf_star: Any = param(0.94, "", meaning="w_inf above theta_o")
    V_0: Any = param(-84.0, "mV", meaning="potential at u = 0")
    V_amplitude: Any = param(85.7, "mV", meaning="potential per unit of u")
    smoothing: float = eqx.field(static=True, default=0.0)
    """Width in u of every step H; 0 is the paper's hard step, 0.005 to 0.01 keeps the APD."""

    @classmethod
    def epi(cls, **parameters: Any) -> Self:
        """Epicardial cell; keyword arguments replace single parameters."""
        return cls(**parameters)

    @classmethod
    def endo(cls, **parameters: Any) -> Self:
        """Endocardial cell; keyword arguments replace single parameters."""
        return cls(**(_ENDO | parameters))

    @classmethod
    def mid(cls, **parameters: Any) -> Self:
        """Mid-myocardial cell; keyword arguments replace single parameters."""
        return cls(**(_MID | parameters))

    def initial(self) -> tuple[Any, BuenoOrovioState]:
        """Full rest: u = 0, v = w = 1, s = 0."""
        return self.V_0, BuenoOrovioState(v=1.0, w=1.0, s=0.0)

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: BuenoOrovioState
    ) -> tuple[Float[Array, "*nodes"], BuenoOrovioState]:
        """Ionic current over capacitance (mV/ms) and rates of the gates (1/ms)."""
        u = (v - self.V_0) / self.V_amplitude
        above_v, above_w, above_o = self._steps(u)
        j_fi, j_so, j_si = self._fluxes(u, state, above_v, above_w, above_o)
        rates = self._gate_rates(u, state, above_v, above_w, above_o)
        return self.V_amplitude * (j_fi + j_so + j_si), rates

    def currents(self, v: Float[ArrayLike, "*nodes"], state: BuenoOrovioState) -> dict[str, Array]:
        """Fast inward, slow outward and slow inward current (equations 5 to 7), mV/ms."""
        u = (v - self.V_0) / self.V_amplitude
        fluxes = self._fluxes(u, state, *self._steps(u))
        return dict(
            zip(("I_fi", "I_so", "I_si"), (self.V_amplitude * j for j in fluxes), strict=True)
        )

    def _steps(self, u: Array) -> tuple[Array, Array, Array]:
        """H(u - theta) for theta_v, theta_w and theta_o."""
        above_v = heaviside(u - self.theta_v, self.smoothing)
        above_w = heaviside(u - self.theta_w, self.smoothing)
        above_o = heaviside(u - self.theta_o, self.smoothing)
        return above_v, above_w, above_o

    def _fluxes(
        self, u: Array, state: BuenoOrovioState, above_v: Array, above_w: Array, above_o: Array
    ) -> tuple[Array, Array, Array]:
        """J_fi, J_so and J_si, 1/ms."""
        tau_o = self.tau_o1 + (self.tau_o2 - self.tau_o1) * above_o
        tau_so = _between(self.tau_so1, self.tau_so2, self.k_so, u - self.u_so)
        j_fi = -state.v * above_v * (u - self.theta_v) * (self.u_u - u) / self.tau_fi
        j_so = (u - self.u_o) * (1 - above_w) / tau_o + above_w / tau_so
        j_si = -above_w * state.w * state.s / self.tau_si
        return j_fi, j_so, j_si

    def _gate_rates(
        self, u: Array, state: BuenoOrovioState, above_v: Array, above_w: Array, above_o: Array
    ) -> BuenoOrovioState:
        above_v_minus = heaviside(u - self.theta_v_minus, self.smoothing)
        v_inf = 1 - above_v_minus
        tau_v_minus = self.tau_v1_minus + (self.tau_v2_minus - self.tau_v1_minus) * above_v_minus
        dv = (1 - above_v) * (v_inf - state.v) / tau_v_minus - above_v * state.v / self.tau_v_plus

        w_inf = (1 - above_o) * (1 - u / self.tau_w_inf) + above_o * self.w_inf_star
        tau_w_minus = _between(
            self.tau_w1_minus, self.tau_w2_minus, self.k_w_minus, u - self.u_w_minus
        )
        dw = (1 - above_w) * (w_inf - state.w) / tau_w_minus - above_w * state.w / self.tau_w_plus

        s_inf = 0.5 * (1 + jnp.tanh(self.k_s * (u - self.u_s)))
        tau_s = self.tau_s1 + (self.tau_s2 - self.tau_s1) * above_w
        return BuenoOrovioState(v=dv, w=dw, s=(s_inf - state.s) / tau_s)


def _between(below: Any, above: Any, steepness: Any, x: Array) -> Array:
    """A value that goes from `below` to `above` as x goes from minus to plus infinity."""
    return below + (above - below) * (0.5 * (1 + jnp.tanh(steepness * x)))
