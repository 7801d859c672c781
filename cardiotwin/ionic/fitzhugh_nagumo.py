"""Two-variable excitable membrane: FitzHugh-Nagumo in the form of Rogers and McCulloch 1994.

J. M. Rogers and A. D. McCulloch, A collocation-Galerkin finite element model of cardiac action
potential propagation, IEEE Trans Biomed Eng 41:743-757, 1994, https://doi.org/10.1109/10.310090.
FitzHugh's recovery current, here c2 u v, vanishes at rest, so that the potential does not
undershoot. With u the potential between 0 at rest and 1, and v the recovery variable:

    du/dt = c1 u (u - a) (1 - u) - c2 u v
    dv/dt = b (u - d v)
"""

from typing import Any, ClassVar, NamedTuple

from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, summed


class FitzHughNagumoState(NamedTuple):
    """The recovery variable, without unit: 0 at rest, at most 1/d."""

    v: Any


class FitzHughNagumo(AbstractIonicModel):
    """FitzHugh-Nagumo membrane of Rogers and McCulloch in millivolts, V = V_rest + V_amplitude u.

    The paper has no millivolts; the default scaling puts rest at -85 mV and u = 1 at +40 mV.
    """

    State: ClassVar[type[Any]] = FitzHughNagumoState
    gates: ClassVar[tuple[str, ...]] = ("v",)
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 0.013  # Mitchell-Schaeffer's, by velocity^2/diffusivity

    a: Any = param(0.13, "", meaning="threshold of excitation in u")
    b: Any = param(0.013, "1/ms", meaning="rate of recovery")
    c1: Any = param(0.26, "1/ms", meaning="rate of excitation")
    c2: Any = param(0.1, "1/ms", meaning="rate of the recovery current")
    d: Any = param(1.0, "", meaning="u over v where recovery is steady")
    V_rest: Any = param(-85.0, "mV", meaning="potential at u = 0")
    V_amplitude: Any = param(125.0, "mV", meaning="potential at u = 1 above rest")

    def initial(self) -> tuple[Any, FitzHughNagumoState]:
        """Full rest: u = v = 0."""
        return self.V_rest, FitzHughNagumoState(v=0.0)

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: FitzHughNagumoState
    ) -> tuple[Float[Array, "*nodes"], FitzHughNagumoState]:
        """Ionic current over capacitance (mV/ms) and rate of the recovery variable (1/ms)."""
        u = (v - self.V_rest) / self.V_amplitude
        rate = self.b * (u - self.d * state.v)
        return summed(self.currents(v, state)), FitzHughNagumoState(v=rate)

    def currents(
        self, v: Float[ArrayLike, "*nodes"], state: FitzHughNagumoState
    ) -> dict[str, Array]:
        """The current of excitation and that of recovery, mV/ms."""
        u = (v - self.V_rest) / self.V_amplitude
        return {
            "I_excitation": self.V_amplitude * (-self.c1 * u * (u - self.a) * (1 - u)),
            "I_recovery": self.V_amplitude * (self.c2 * u * state.v),
        }
