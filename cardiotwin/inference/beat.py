"""From the parts of a heart to its ECG by the eikonal equation: what a calibration calls."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array
from cardiotwin.anatomy.ventricular import VentricularCoordinates
from cardiotwin.ecg.eikonal_ecg import EikonalECG
from cardiotwin.twin.beginnings import Places
from cardiotwin.twin.eikonal import EikonalHeart


class Durations(eqx.Module):
    """Durations of the action potentials, linear in the heart's own coordinates.

    Attributes:
        mean: ms, in the middle of all gradients.
        gradient: [4] ms from apex to base, from endocardium to epicardium, from the left to the
            right ventricle, and per ms of activation time (late muscle repolarises sooner: < 0).
        fields: [3, nodes] the coordinates, each without its mean.
    """

    mean: Float[type_array, ""]
    gradient: Float[type_array, " 4"]
    fields: Float[type_array, "3 nodes"]

    @classmethod
    def of(
        cls,
        coordinates: VentricularCoordinates,
        mean: float = 270.0,
        gradient: tuple[float, float, float, float] = (20.0, -30.0, 0.0, -0.3),
    ) -> "Durations":
        """On the nodes of a heart."""
        # NaN marks the ventricle that a node is not in; the middle of the septum is in both
        both = np.asarray(coordinates.values)
        shares = np.isfinite(both[:, :, 0])
        values = np.nanmean(both, axis=0)
        right = np.where(shares.all(axis=0), 0.5, shares[1])
        fields = np.stack([values[:, 1], values[:, 0], right])
        fields = fields - fields.mean(axis=1, keepdims=True)
        return cls(jnp.asarray(mean, float), jnp.asarray(gradient, float), fields)

    def __call__(self, activation: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """Durations [nodes] in ms, at least 50."""
        linear = jnp.tensordot(self.gradient[:3], jnp.asarray(self.fields), 1)
        late = self.gradient[3] * (activation - jnp.mean(activation))
        return 50.0 + jax.nn.softplus((self.mean + linear + late - 50.0) / 10.0) * 10.0


class EikonalBeat(eqx.Module):
    """A beat: activation times, durations and the ECG that follows.

    Attributes:
        heart: velocities and root nodes.
        ecg: lead field and template.
        shift: ms from the start of the ECG to that of the heart's clock.
        durations: of the action potentials; None for the QRS complex alone.
        t_ms: [times] ms at which the ECG is sampled.
    """

    heart: EikonalHeart
    ecg: EikonalECG
    shift: Float[type_array, ""]
    durations: Durations | None
    t_ms: Float[type_array, " times"]

    @property
    def roots(self) -> Places:
        """The root nodes.

        Raises:
            ValueError: the heart begins at the nodes of a stimulus, which do not move.
        """
        if not isinstance(self.heart.roots, Places):
            raise ValueError(
                f"EikonalBeat: the heart begins at {type(self.heart.roots).__name__}, which cannot "
                "move; make it with EikonalHeart.of and sites."
            )
        return self.heart.roots

    def activation(self) -> Float[Array, " nodes"]:
        """Activation times of all nodes on the ECG's clock, ms."""
        return self.heart.times() + self.shift

    def __call__(self) -> Float[Array, "times leads"]:
        """The ECG, mV."""
        times = self.activation()
        durations = None if self.durations is None else self.durations(times)
        return self.ecg(self.t_ms, times, durations)
