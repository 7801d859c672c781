"""Ten Tusscher-Panfilov 2006 with the restitution of its Table 2: slopes 0.7, 1.1, 1.4 and 1.8.

K. H. W. J. ten Tusscher and A. V. Panfilov, Alternans and spiral breakup in a human ventricular
tissue model, Am J Physiol Heart Circ Physiol 291:H1088-H1100, 2006,
https://doi.org/10.1152/ajpheart.00109.2006. Four sets of parameters change how steeply the duration
of the action potential falls with the cycle length, and with it when alternans and spiral breakup
begin. Beside four conductances they scale tau_f above 0 mV, where gate f inactivates.

A class of its own, because a selection by potential in the rate of f would be paid for in every
step of the model that needs none.
"""

from typing import Any, Self

import jax.numpy as jnp
from jaxtyping import Array

from cardiotwin._types import param
from cardiotwin.ionic.ten_tusscher_2006 import TenTusscherPanfilov2006, TenTusscherState

# Table 2. Every set starts from the epicardial state; docs/models/ten_tusscher_restitution.md.
_TABLE_2: dict[float, dict[str, Any]] = {
    0.7: {"g_Kr": 0.134, "g_Ks": 0.27, "g_pCa": 0.0619, "g_pK": 0.073, "tau_f_factor": 0.6},
    1.1: {},
    1.4: {"g_Kr": 0.172, "g_Ks": 0.441, "g_pCa": 0.3714, "g_pK": 0.0073, "tau_f_factor": 1.5},
    1.8: {"g_Kr": 0.172, "g_Ks": 0.441, "g_pCa": 0.8666, "g_pK": 0.00219, "tau_f_factor": 2.0},
}


class TenTusscherRestitution(TenTusscherPanfilov2006):
    """Ten Tusscher-Panfilov 2006 cell with a factor for the inactivation of f."""

    tau_f_factor: Any = param(1.0, "", meaning="factor of tau_f above 0 mV")

    @classmethod
    def with_slope(cls, slope: float, **parameters: Any) -> Self:
        """The epicardial cell with a published largest slope of the restitution curve.

        Args:
            slope: 0.7, 1.1 (the model's own parameters), 1.4 or 1.8.
            **parameters: replace single parameters or `start`.

        Raises:
            ValueError: another slope.
        """
        if slope not in _TABLE_2:
            raise ValueError(
                f"with_slope: slope is {slope!r}; the published sets are for {sorted(_TABLE_2)}."
            )
        return cls(**(_TABLE_2[slope] | parameters))

    def _calcium_gate_rates(self, v: Array, y: TenTusscherState) -> dict[str, Array]:
        rates = super()._calcium_gate_rates(v, y)
        factor = jnp.where(v > 0.0, self.tau_f_factor, 1.0)
        return rates | {"f": rates["f"] / factor}
