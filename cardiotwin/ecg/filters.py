"""Filters of ECGs without phase shift, the same for recorded and simulated signals."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin.units import MS_PER_S

# Hz. Kligfield 2007, https://doi.org/10.1161/CIRCULATIONAHA.106.180200: 0.05 to 150 Hz for adults;
# up to 0.67 Hz where the filter shifts no phase, as here.
BANDS = {
    "measurement": (0.5, 150.0),
    "diagnostic": (0.05, 150.0),
    "monitoring": (0.5, 40.0),
}


class ECGFilter(eqx.Module):
    """Baseline, mains and low-pass filters of a Butterworth kind, applied as a real spectrum.

    The gains are those of second-order filters run forward and backward: 1 / (1 + (f / f_c)^4) for
    the low pass, its mirror image for the high pass, and
    (f^2 - f_m^2)^2 / ((f^2 - f_m^2)^2 + (w f)^2) for the mains. Multiplying the spectrum by them
    shifts nothing in time. The filter is linear in the signal and differentiable in it and in its
    own frequencies, and works on NumPy and JAX arrays.

    Attributes:
        high_pass: cut-off that removes the wander of the baseline, in Hz; None for none.
        low_pass: cut-off that removes muscle noise, in Hz; None for none.
        mains: frequency of the mains, 50 or 60 Hz; None for none.
        mains_width: width of the notch in Hz; narrower rings longer.
    """

    high_pass: float | Array | None = 0.5
    low_pass: float | Array | None = 150.0
    mains: float | Array | None = None
    mains_width: float | Array = 2.0

    def __check_init__(self):
        for name in ("high_pass", "low_pass", "mains", "mains_width"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"ECGFilter: {name} is {value} Hz; give a positive frequency.")
        both = self.high_pass, self.low_pass
        if all(isinstance(value, (int, float)) for value in both) and both[0] >= both[1]:  # pyright: ignore
            raise ValueError(
                f"ECGFilter: passes from {both[0]:g} to {both[1]:g} Hz; give a high_pass below the "
                "low_pass."
            )

    def gain(self, frequency: Float[Array | np.ndarray, " n"]) -> Float[Array | np.ndarray, " n"]:
        """Factor on each frequency.

        Args:
            frequency: [n] in Hz.

        Returns:
            [n], from 0 to 1.
        """
        gain = frequency**0.0
        if self.high_pass is not None:
            relative = (frequency / self.high_pass) ** 4
            gain = gain * relative / (1.0 + relative)
        if self.low_pass is not None:
            gain = gain / (1.0 + (frequency / self.low_pass) ** 4)
        if self.mains is not None:
            apart = (frequency**2 - self.mains**2) ** 2
            gain = gain * apart / (apart + (self.mains_width * frequency) ** 2)
        return gain

    def __call__(
        self,
        t_ms: Float[Array | np.ndarray, " times"],
        ecg: Float[Array | np.ndarray, "times leads"],
        *,
        period_ms: float | None = None,
    ) -> Float[Array | np.ndarray, "times leads"]:
        """Filter a recording, or one beat of an endless train.

        Args:
            t_ms: equally spaced times in ms.
            ecg: [times, leads] in mV.
            period_ms: a single beat is filtered as it would be in a train of such beats, this long
                each: what an electrocardiograph would see. The beat is held at its last value and
                led back to its first. None for a recording, which is continued beyond its ends by
                its own point reflection.

        Returns:
            [times, leads] in mV, of the kind of `ecg`.

        Raises:
            ValueError: for unequal steps, values that are not finite, a cut-off that the sampling
                cannot show, or a beat longer than its period.
        """
        use: Any = jnp if isinstance(ecg, jax.Array) else np
        step = _step(t_ms, ecg)
        self._check_rate(step)
        count = len(ecg)
        if period_ms is None:
            line = use.linspace(0.0, 1.0, count)[:, None] * (ecg[-1:] - ecg[:1]) + ecg[:1]
            # ends at zero: the point reflection then closes without a jump or a kink
            level = ecg - line
            endless = use.concatenate([level, -level[-2:0:-1]])
        else:
            line = use.zeros_like(ecg)
            endless = _closed(use, ecg, step, period_ms)
        frequency = np.arange(len(endless) // 2 + 1) * (MS_PER_S / (step * len(endless)))
        gain = use.asarray(self.gain(frequency), dtype=ecg.dtype)[:, None]
        passed = use.fft.irfft(use.fft.rfft(endless, axis=0) * gain, n=len(endless), axis=0)[:count]
        # filters without phase shift leave lines as they are, or remove them
        return passed.astype(ecg.dtype) + (line if self.high_pass is None else 0.0)

    def _check_rate(self, step: float) -> None:
        highest = MS_PER_S / step / 2.0
        mains = self.mains
        if isinstance(mains, (int, float)) and mains >= highest:
            raise ValueError(
                f"ECGFilter: the mains filter at {mains:g} Hz needs more than {2 * mains:g} "
                f"samples a second; these are {2 * highest:g}. Leave it out (mains=None)."
            )


def _step(t_ms: Any, ecg: Any) -> float:
    """The sampling step in ms."""
    if ecg.ndim != 2 or t_ms.shape != ecg.shape[:1] or len(t_ms) < 3:
        raise ValueError(
            f"ECGFilter: got times of shape {t_ms.shape} and signals of shape {ecg.shape}; "
            "expected [times] and [times, leads] with three times at least."
        )
    steps = np.diff(np.asarray(t_ms, np.float64))
    step = float(steps.mean())
    if not step > 0.0 or np.abs(steps - step).max() > 0.01 * step:
        raise ValueError(
            f"ECGFilter: time steps run from {steps.min():g} to {steps.max():g} ms; expected equal "
            "steps. Resample the signal first."
        )
    if isinstance(ecg, np.ndarray) and not np.isfinite(ecg).all():
        raise ValueError("ECGFilter: samples are missing (not a number). Cut the signal first.")
    return step


def _closed(use: Any, ecg: Any, step: float, period_ms: float) -> Any:
    """A beat lengthened to its period, from its last value back to its first."""
    missing = round(period_ms / step) - len(ecg)
    if missing < 0:
        raise ValueError(
            f"ECGFilter: a beat of {len(ecg) * step:g} ms does not fit into a period of "
            f"{period_ms:g} ms. Give the interval between beats, or cut the beat."
        )
    way = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, missing + 1) / (missing + 1.0))
    way = use.asarray(way, dtype=ecg.dtype)[:, None]
    return use.concatenate([ecg, ecg[-1:] + way * (ecg[:1] - ecg[-1:])])
