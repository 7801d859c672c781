"""Two-variable membrane with a realistic restitution: Aliev and Panfilov 1996.

R. R. Aliev and A. V. Panfilov, A simple two-variable model of cardiac excitation, Chaos, Solitons
and Fractals 7:293-301, 1996, https://doi.org/10.1016/0960-0779(95)00089-5. With u the potential
between 0 at rest and 1, v the recovery variable and t in units of time (equations 1 and 2):

    du/dt = -k u (u - a) (u - 1) - u v
    dv/dt = eps(u, v) (-v - k u (u - a - 1)),    eps = eps0 + mu1 v / (u + mu2)

The paper's scaling: V = 100 u - 80 mV, and one unit of time is 12.9 ms.
"""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cardiotwin._types import param
from cardiotwin.ionic._base import AbstractIonicModel, summed


class AlievPanfilovState(NamedTuple):
    """The recovery variable, without unit: 0 at rest, about 2 at most."""

    v: Any


class AlievPanfilov(AbstractIonicModel):
    """Aliev-Panfilov membrane in millivolts and milliseconds.

    The rate of v is quadratic in v, so the model has no gate: v advances by forward Euler.
    """

    State: ClassVar[type[Any]] = AlievPanfilovState
    gates: ClassVar[tuple[str, ...]] = ()
    activation_threshold: ClassVar[float] = -20.0
    repolarisation_threshold: ClassVar[float] = -70.0
    upstroke_rate: ClassVar[float] = 0.028  # Mitchell-Schaeffer's, by velocity^2/diffusivity

    k: Any = param(8.0, "", meaning="strength of excitation")
    a: Any = param(0.15, "", meaning="threshold of excitation in u")
    eps0: Any = param(0.002, "", meaning="rate of recovery at v = 0")
    mu1: Any = param(0.2, "", meaning="rise of the rate with v")
    mu2: Any = param(0.3, "", meaning="u at which that rise is half of what it is at rest")
    V_rest: Any = param(-80.0, "mV", meaning="potential at u = 0")
    V_amplitude: Any = param(100.0, "mV", meaning="potential at u = 1 above rest")
    time_unit: Any = param(12.9, "ms", meaning="duration of the paper's unit of time")

    def initial(self) -> tuple[Any, AlievPanfilovState]:
        """Full rest: u = v = 0."""
        return self.V_rest, AlievPanfilovState(v=0.0)

    def __call__(
        self, v: Float[ArrayLike, "*nodes"], state: AlievPanfilovState
    ) -> tuple[Float[Array, "*nodes"], AlievPanfilovState]:
        """Ionic current over capacitance (mV/ms) and rate of the recovery variable (1/ms)."""
        u = (v - self.V_rest) / self.V_amplitude
        # Below rest (u < 0), where the paper's formula has a pole at u = -mu2, its value at rest.
        eps = self.eps0 + self.mu1 * state.v / (jnp.maximum(u, 0.0) + self.mu2)
        rate = eps * (-state.v - self.k * u * (u - self.a - 1)) / self.time_unit
        return summed(self.currents(v, state)), AlievPanfilovState(v=rate)

    def currents(
        self, v: Float[ArrayLike, "*nodes"], state: AlievPanfilovState
    ) -> dict[str, Array]:
        """The current of excitation and that of recovery, mV/ms."""
        u = (v - self.V_rest) / self.V_amplitude
        scale = self.V_amplitude / self.time_unit
        return {
            "I_excitation": scale * (self.k * u * (u - self.a) * (u - 1)),
            "I_recovery": scale * (u * state.v),
        }
