"""Mitchell-Schaeffer without self-pacing: Corrado and Niederer 2016.

C. Corrado and S. A. Niederer, A two-variable model robust to pacemaker behaviour for the dynamics
of the cardiac action potential, Math Biosci 281:46-54, 2016,
https://doi.org/10.1016/j.mbs.2016.08.010. The inward current gets a threshold u = a, below which it
is outward, and the outward current is gated too, so that no parameters make rest unstable:

    du/dt = h u (u - a) (1 - u) / tau_in - (1 - h) u / tau_out
    dh/dt = (1 - h) / tau_open  where u < v_gate,   -h / tau_close  elsewhere.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, heaviside, summed


class ModifiedMitchellSchaefferState(NamedTuple):
    """The one gate, without unit: 1 recovered, 0 inactivated."""

    h: Any


class ModifiedMitchellSchaeffer(AbstractIonicModel):
    """Modified Mitchell-Schaeffer membrane in millivolts, V = V_rest + V_amplitude u.

    The paper has no millivolts; the default scaling puts rest at -85 mV and u = 1 at +40 mV.
    """

    State: ClassVar[type[Any]] = ModifiedMitchellSchaefferState
    gates: ClassVar[tuple[str, ...]] = ("h",)
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 0.166  # Mitchell-Schaeffer's, by velocity^2/diffusivity

    tau_in: Any = param(0.3, "ms", meaning="time constant of the inward current")
    tau_out: Any = param(5.0, "ms", meaning="time constant of the outward current")
    tau_open: Any = param(120.0, "ms", meaning="time constant of the gate's opening (recovery)")
    tau_close: Any = param(150.0, "ms", meaning="time constant of the gate's closing")
    v_gate: Any = param(0.13, "", meaning="u at which the gate switches between the two")
    a: Any = param(0.13, "", meaning="threshold of excitation in u")
    V_rest: Any = param(-85.0, "mV", meaning="potential at u = 0")
    V_amplitude: Any = param(125.0, "mV", meaning="potential at u = 1 above rest")
    smoothing: float = eqx.field(static=True, default=0.0)
    """Width in u of the gate's switch; 0 is the paper's hard step."""

    def initial(self) -> tuple[Any, ModifiedMitchellSchaefferState]:
        """Full rest: u = 0, h = 1."""
        return self.V_rest, ModifiedMitchellSchaefferState(h=1.0)

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: ModifiedMitchellSchaefferState
    ) -> tuple[Float[Array, "*nodes"], ModifiedMitchellSchaefferState]:
        """Ionic current over capacitance (mV/ms) and rate of the gate (1/ms)."""
        u, h = (v - self.V_rest) / self.V_amplitude, state.h
        excited = heaviside(u - self.v_gate, self.smoothing)
        dh = (1 - excited) * (1 - h) / self.tau_open - excited * h / self.tau_close
        return summed(self.currents(v, state)), ModifiedMitchellSchaefferState(h=dh)

    def currents(
        self, v: Float[ArrayLike, "*nodes"], state: ModifiedMitchellSchaefferState
    ) -> dict[str, Array]:
        """The inward and the outward current, mV/ms."""
        u, h = (v - self.V_rest) / self.V_amplitude, state.h
        return {
            "I_in": self.V_amplitude * (-h * u * (u - self.a) * (1 - u) / self.tau_in),
            "I_out": self.V_amplitude * ((1 - h) * u / self.tau_out),
        }
