"""The vectorcardiogram: from twelve leads to Frank's X, Y, Z, and the area under its QRS loop."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

VCG_SOURCES = ("V1", "V2", "V3", "V4", "V5", "V6", "I", "II")

# X to the left, Y down, Z to the back; columns as VCG_SOURCES.
VCG_MATRICES = {
    # regression on 90 recordings: Kors 1990, https://doi.org/10.1093/oxfordjournals.eurheartj.a059647
    "kors": (
        (-0.13, 0.05, -0.01, 0.14, 0.06, 0.54, 0.38, -0.07),
        (0.06, -0.02, -0.05, 0.06, -0.17, 0.13, -0.07, 0.93),
        (-0.43, -0.06, -0.14, -0.20, -0.11, 0.31, 0.11, -0.23),
    ),
    # pseudo-inverse of Dower's torso tank: Edenbrandt and Pahlm 1988,
    # https://doi.org/10.1016/0022-0736(88)90113-6
    "dower": (
        (-0.172, -0.074, 0.122, 0.231, 0.239, 0.194, 0.156, -0.010),
        (0.057, -0.019, -0.106, -0.022, 0.041, 0.048, -0.227, 0.887),
        (-0.229, -0.310, -0.246, -0.063, 0.055, 0.108, 0.022, 0.102),
    ),
}


def vectorcardiogram(
    ecg: Float[Array | np.ndarray, "times leads"], names: Sequence[str], method: str = "kors"
) -> Float[Array | np.ndarray, "times 3"]:
    """Frank's X, Y, Z from the twelve-lead ECG.

    Args:
        ecg: [times, leads] in mV; NumPy or JAX. The map is linear.
        names: of the leads; I, II and V1 to V6 must be there.
        method: "kors" (regression, nearest to Frank's leads) or "dower" (inverse Dower).

    Returns:
        [times, 3] in mV: X to the left, Y down, Z to the back.

    Raises:
        ValueError: for another method or a missing lead.
    """
    if method not in VCG_MATRICES:
        raise ValueError(
            f"vectorcardiogram: method is {method!r}; give {' or '.join(VCG_MATRICES)}."
        )
    missing = [name for name in VCG_SOURCES if name not in names]
    if missing:
        raise ValueError(
            f"vectorcardiogram: the ECG lacks {', '.join(missing)}; expected "
            f"{', '.join(VCG_SOURCES)}."
        )
    use: Any = jnp if isinstance(ecg, jax.Array) else np
    order = np.array([list(names).index(name) for name in VCG_SOURCES])
    return ecg[:, order] @ use.asarray(VCG_MATRICES[method], dtype=ecg.dtype).T


def loop_area(
    t_ms: Float[Array | np.ndarray, " times"],
    loop: Float[Array | np.ndarray, "times 3"],
    weight: Float[Array | np.ndarray, " times"] | None = None,
) -> Float[Array | np.ndarray, " 3"]:
    """Integral of a vectorcardiogram over time, by the trapezoidal rule.

    Its norm over the QRS is the QRS area, a measure of unopposed electrical force
    (van Deursen et al., J Electrocardiol 48:45-52, 2015).

    Args:
        t_ms: increasing times in ms.
        loop: [times, 3] in mV from the baseline.
        weight: [times], 1 inside the wave and 0 outside; None counts all.

    Returns:
        [3] in mV ms, which are uV s.
    """
    use: Any = jnp if isinstance(loop, jax.Array) else np
    weighted = loop if weight is None else loop * weight[:, None]
    steps = use.diff(use.asarray(t_ms))[:, None]
    return use.sum(0.5 * (weighted[1:] + weighted[:-1]) * steps, axis=0)
