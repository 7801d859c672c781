"""Potential of a current dipole in an insulated homogeneous sphere, in closed form."""

import numpy as np
from jaxtyping import Float


def sphere_lead_vectors(
    points: Float[np.ndarray, "n 3"],
    dipoles: Float[np.ndarray, "m 3"],
    *,
    radius: float,
    sigma: float,
) -> Float[np.ndarray, "n m 3"]:
    """Lead vectors: the potential at points of unit dipoles along the three axes.

    The eccentric dipole of Wilson and Bayley, Circulation 1:84-92 (1950),
    https://doi.org/10.1161/01.CIR.1.1.84, written with vectors. The mean over the surface is zero.

    Args:
        points: in or on the sphere around the origin, mm.
        dipoles: positions of the dipoles inside the sphere, mm.
        radius: of the sphere, mm.
        sigma: its conductivity, mS/mm.

    Returns:
        [points, dipoles, 3], mV per uA mm.
    """
    r, r0 = points[:, None], dipoles[None]
    d, b = r - r0, np.einsum("nmi,nmi->nm", r, r0)[..., None]
    r2, r02 = (np.einsum("nmi,nmi->nm", x, x)[..., None] for x in (r, r0))
    s = np.sqrt(radius**4 - 2.0 * radius**2 * b + r2 * r02)
    slope = (-(radius**2) * r + r2 * r0) / s
    image = -radius * slope / s**2 - (-r + slope) / (radius * (radius**2 - b + s))
    return (d / np.linalg.norm(d, axis=2, keepdims=True) ** 3 + image) / (4.0 * np.pi * sigma)
