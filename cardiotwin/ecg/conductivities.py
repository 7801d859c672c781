"""Conductivities of the tissues of the body, checked for their unit."""

import dataclasses

import equinox as eqx
import numpy as np
from jaxtyping import Float

from cardiotwin._types import MillisiemensPerMillimetre

# What is plausible in mS/mm (= S/m): wide enough for every published value we know, narrow enough
# that a value in another unit falls outside.
PLAUSIBLE = {
    "torso": (0.08, 0.8),
    "lungs": (0.015, 0.25),
    "blood": (0.25, 1.6),
    "bone": (0.002, 0.12),
    "muscle": (0.05, 0.6),
    "fat": (0.008, 0.15),
    "heart_along": (0.05, 1.5),
    "heart_across": (0.03, 0.8),
}
_UNITS = ((10.0, "mS/cm"), (1000.0, "mS/m"), (0.1, "S/cm"), (0.001, "S/mm"))


class Conductivities(eqx.Module):
    """Conductivity of every tissue in mS/mm, which is the same number as in S/m.

    Blood, muscle, fat and lung follow Gabriel et al., Phys Med Biol 41:2271-2293 (1996),
    https://doi.org/10.1088/0031-9155/41/11/003, at low frequencies; the rest of the trunk is a mean
    of its tissues; the heart's extracellular values are those of Potse et al., IEEE Trans Biomed
    Eng 53:2425-2435 (2006), https://doi.org/10.1109/TBME.2006.880875. Of these the lungs' matters
    most.

    Attributes:
        torso: what no other tissue fills.
        lungs: inflated.
        blood: in the heart's cavities.
        bone: spine and sternum.
        muscle: of the wall of the trunk, the mean over directions.
        fat: beneath the skin.
        heart_along: extracellular, along the fibres; the intracellular one is the twin's own.
        heart_across: extracellular, across the fibres.
    """

    torso: MillisiemensPerMillimetre = 0.22
    lungs: MillisiemensPerMillimetre = 0.05
    blood: MillisiemensPerMillimetre = 0.65
    bone: MillisiemensPerMillimetre = 0.02
    muscle: MillisiemensPerMillimetre = 0.18
    fat: MillisiemensPerMillimetre = 0.03
    heart_along: MillisiemensPerMillimetre = 0.3
    heart_across: MillisiemensPerMillimetre = 0.12

    def __check_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = PLAUSIBLE[field.name]
            if isinstance(value, (int, float)) and low <= value <= high:
                continue
            unit = next(
                (name for factor, name in _UNITS if low <= float(value) / factor <= high), None
            )
            hint = f" It looks like {unit}: give it in mS/mm (= S/m)." if unit else ""
            raise ValueError(
                f"Conductivities: {field.name} is {value} mS/mm; expected {low:g} to {high:g} "
                f"mS/mm (the same numbers in S/m).{hint}"
            )

    def heart(
        self, sigma_i: Float[np.ndarray, "elements 3 3"]
    ) -> Float[np.ndarray, "elements 3 3"]:
        """Bulk conductivity of the heart: intracellular plus extracellular.

        The fibres are the direction in which the intracellular conductivity is largest.
        """
        values, vectors = np.linalg.eigh(np.asarray(sigma_i, np.float64))
        fibre = vectors[:, :, 2]
        aligned = fibre[:, :, None] * fibre[:, None, :]
        # of an isotropic tensor no direction is that of the fibres
        plain = values[:, 2] <= values[:, 1] * (1.0 + 1e-6)
        excess = self.heart_along - self.heart_across
        mean = self.heart_across + excess / 3.0
        outside = np.where(
            plain[:, None, None], mean * np.eye(3), self.heart_across * np.eye(3) + excess * aligned
        )
        return sigma_i + outside
