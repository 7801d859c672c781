"""Two-variable ventricular membrane: Mitchell and Schaeffer 2003.

C. C. Mitchell and D. G. Schaeffer, A two-current model for the dynamics of cardiac membrane, Bull
Math Biol 65:767-793, 2003, https://doi.org/10.1016/S0092-8240(03)00041-7. With u the potential
between 0 at rest and about 1 when excited, and h the gate of the inward current (equations 1 to 3):

    du/dt = h u^2 (1 - u) / tau_in - u / tau_out
    dh/dt = (1 - h) / tau_open  where u < v_gate,   -h / tau_close  elsewhere.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, heaviside


class MitchellSchaefferState(NamedTuple):
    """The one gate, without unit: 1 recovered, 0 inactivated."""

    h: Any


class MitchellSchaeffer(AbstractIonicModel):
    """Mitchell-Schaeffer membrane in millivolts, V = V_rest + V_amplitude u.

    The paper has no millivolts; the default scaling puts rest at -85 mV and u = 1 at +40 mV.
    """

    State: ClassVar[type[Any]] = MitchellSchaefferState
    gates: ClassVar[tuple[str, ...]] = ("h",)
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 0.215

    tau_in: Any = param(0.3, "ms", meaning="time constant of the inward current")
    tau_out: Any = param(6.0, "ms", meaning="time constant of the outward current")
    tau_open: Any = param(120.0, "ms", meaning="time constant of the gate's opening (recovery)")
    tau_close: Any = param(150.0, "ms", meaning="time constant of the gate's closing")
    v_gate: Any = param(0.13, "", meaning="u at which the gate switches between the two")
    V_rest: Any = param(-85.0, "mV", meaning="potential at u = 0")
    V_amplitude: Any = param(125.0, "mV", meaning="potential at u = 1 above rest")
    smoothing: float = eqx.field(static=True, default=0.0)
    """Width in u of the gate's switch; 0 is the paper's hard step."""

    def initial(self) -> tuple[Any, MitchellSchaefferState]:
        """Full rest: u = 0, h = 1."""
        return self.V_rest, MitchellSchaefferState(h=1.0)

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: MitchellSchaefferState
    ) -> tuple[Float[Array, "*nodes"], MitchellSchaefferState]:
        """Ionic current over capacitance (mV/ms) and rate of the gate (1/ms)."""
        u = (v - self.V_rest) / self.V_amplitude
        h = state.h
        j_out, j_in = self._fluxes(u, h)
        excited = heaviside(u - self.v_gate, self.smoothing)
        dh = (1 - excited) * (1 - h) / self.tau_open - excited * h / self.tau_close
        return self.V_amplitude * (j_out - j_in), MitchellSchaefferState(h=dh)

    def currents(
        self, v: Float[ArrayLike, "*nodes"], state: MitchellSchaefferState
    ) -> dict[str, Array]:
        """The outward and the gated inward current, mV/ms."""
        j_out, j_in = self._fluxes((v - self.V_rest) / self.V_amplitude, state.h)
        return {"I_in": -self.V_amplitude * j_in, "I_out": self.V_amplitude * j_out}

    def _fluxes(self, u: Array, h: Any) -> tuple[Array, Array]:
        """J_out and minus J_in, 1/ms."""
        return u / self.tau_out, h * u**2 * (1 - u) / self.tau_in
