"""Electrode potentials inside the time loop, and the standard twelve leads made of them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.ecg.electrodes import require_twelve_leads
from cardiotwin.ionic._base import default_float
from cardiotwin.propagation.observe import AbstractObservable

LEAD_NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


class Leads(AbstractObservable):
    """Potential of every electrode, once a frame: field @ v, in mV.

    The sum cancels heavily: a front of about 100 mV leaves about 1 mV at an electrode. So the mean
    voltage is taken off first (rows of a lead field sum to zero, so it changes nothing but the
    rounding) and the sum is done in float64 where x64 is on. The field itself may be as coarse as
    the voltage: its rounding is that of one entry, and no difference of large sums.

    Args:
        field: lead field [electrodes, nodes].
        names: of the electrodes, carried along for whoever reads the frames.
    """

    field: Float[Array, "electrodes nodes"]
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, field, names: Sequence[str] = ()):
        self.field = jnp.asarray(field)
        self.names = tuple(names)

    def __check_init__(self):
        if self.field.ndim != 2 or (self.names and len(self.names) != len(self.field)):
            raise ValueError(
                f"Leads: got a field of shape {self.field.shape} and {len(self.names)} names; "
                "expected [electrodes, nodes] and one name an electrode."
            )

    def init(self, v: Float[Array, " nodes"]) -> None:
        """Check that the field belongs to this mesh; nothing is carried."""
        if v.shape[0] != self.field.shape[1]:
            raise ValueError(
                f"Leads: the lead field has {self.field.shape[1]} nodes, the voltage "
                f"{v.shape[0]}. Compute the lead field on the mesh that is simulated."
            )

    def frame(self, carry: Any, v: Float[Array, " nodes"], t: Array) -> Float[Array, " electrodes"]:
        """Return the potentials [electrodes] in mV at time `t` (ms)."""
        del carry, t
        field = self.field.astype(default_float())
        v = v.astype(field.dtype)
        # HIGHEST: a GPU would otherwise multiply float32 with ten bits of mantissa (TF32)
        return jnp.matmul(field, v - jnp.mean(v), precision=jax.lax.Precision.HIGHEST)


def twelve_leads(
    potentials: Float[Array | np.ndarray, "times electrodes"], names: Sequence[str]
) -> Float[Array | np.ndarray, "times 12"]:
    """Standard twelve leads from electrode potentials, in the order of LEAD_NAMES.

    I = LA - RA, II = LL - RA, III = II - I (Einthoven); aVR = -(I + II) / 2, aVL = I - II / 2,
    aVF = II - I / 2 (Goldberger); Vn against the mean of RA, LA and LL (Wilson's central terminal).
    The map is linear: the lead field's transpose gives the lead fields of the leads themselves.

    Args:
        potentials: [times, electrodes] mV against any common reference; NumPy or JAX.
        names: of the electrodes; more than the nine needed may be there.

    Returns:
        [times, 12] mV, NumPy for NumPy and JAX for JAX.

    Raises:
        ValueError: where an electrode is missing or the shapes disagree.
    """
    names = tuple(names)
    require_twelve_leads(names)
    if potentials.ndim != 2 or potentials.shape[1] != len(names):
        raise ValueError(
            f"twelve_leads: got potentials of shape {potentials.shape} and {len(names)} names; "
            "expected [times, electrodes] and one name an electrode."
        )
    numpy = jnp if isinstance(potentials, jax.Array) else np

    def at(name: str):
        return potentials[:, names.index(name)]

    one, two = at("LA") - at("RA"), at("LL") - at("RA")
    limbs = [one, two, two - one, -(one + two) / 2.0, one - two / 2.0, two - one / 2.0]
    # relative to RA: the common potential of all electrodes cancels before the mean is taken
    terminal = (one + two) / 3.0
    chest = [(at(f"V{k}") - at("RA")) - terminal for k in range(1, 7)]
    return numpy.stack(limbs + chest, axis=1)
