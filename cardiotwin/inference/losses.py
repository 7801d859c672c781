"""How far a simulated ECG is from a recorded one, as residuals of unit variance.

A loss is half the sum of its residuals' squares. Losses add up: `Waveform(...) + Features(...)`.
The limb leads III, aVR, aVL and aVF follow from I and II. They hold nothing new, and counted again
would make the answer look surer than it is: `independent` leaves them out.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from cardiotwin.ecg.differentiable import soft_measurements

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
DERIVED = ("III", "aVR", "aVL", "aVF")  # from I and II
Gain = Literal["none", "global", "groups", "leads"]


class Noise(eqx.Module):
    """What separates even the right heart's ECG from the recorded one.

    Attributes:
        sd: mV, of white noise in every sample; 0.02 to 0.04 in a clinical recording.
        discrepancy: of the model, as a share of the leads' median amplitude; 0.05 to 0.1. Without
            it the answer looks surer than it is.
        length: ms over which the discrepancy goes together.
    """

    sd: float = eqx.field(default=0.02, static=True)
    discrepancy: float = eqx.field(default=0.05, static=True)
    length: float = eqx.field(default=8.0, static=True)

    def __check_init__(self):
        good = self.sd > 0 and self.discrepancy >= 0 and self.length > 0
        if not (good and np.isfinite([self.sd, self.discrepancy, self.length]).all()):
            raise ValueError(
                f"Noise: sd {self.sd} mV and length {self.length} ms must be positive, and the "
                f"discrepancy {self.discrepancy} not negative."
            )

    def covariance(
        self, t_ms: Float[np.ndarray, " times"], amplitude: float
    ) -> Float[np.ndarray, "times times"]:
        """Of a lead's error, mV2."""
        apart = (t_ms[:, None] - t_ms[None]) / self.length
        together = (self.discrepancy * amplitude) ** 2 * np.exp(-0.5 * apart**2)
        return together + self.sd**2 * np.eye(len(t_ms))

    def whitener(
        self, t_ms: Float[np.ndarray, " times"], amplitude: float
    ) -> Float[np.ndarray, "times times"]:
        """Matrix that makes a lead's error of unit variance and independent."""
        lower = np.linalg.cholesky(self.covariance(t_ms, amplitude))
        return scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True)

    def sample(
        self, t_ms: Float[np.ndarray, " times"], amplitude: float, leads: int, seed: int
    ) -> Float[np.ndarray, "times leads"]:
        """One realisation, mV."""
        lower = np.linalg.cholesky(self.covariance(t_ms, amplitude))
        return lower @ np.random.default_rng(seed).standard_normal((len(t_ms), leads))


class AbstractLoss(eqx.Module):
    """Residuals of a simulated ECG."""

    @abstractmethod
    def residual(self, ecg: Float[Array, "times leads"]) -> Float[Array, " residuals"]:
        """Residuals of unit variance; differentiable."""

    def __call__(self, ecg: Float[Array, "times leads"]) -> Float[Array, ""]:
        """Half the sum of the residuals' squares."""
        return 0.5 * jnp.sum(self.residual(ecg) ** 2)

    def __add__(self, other: "AbstractLoss") -> "AbstractLoss":
        """Both losses."""
        return Sum((self, other))


class Sum(AbstractLoss):
    """Several losses at once."""

    parts: tuple[AbstractLoss, ...]

    def residual(self, ecg):
        """Those of all parts."""
        return jnp.concatenate([part.residual(ecg) for part in self.parts])


class Waveform(AbstractLoss):
    """Differences of the leads' voltages, weighed by what noise and model error make of them.

    Args:
        t_ms: [times] ms, equally spaced.
        observed: [times, leads] mV.
        names: of the leads; decide which of them are independent.
        noise: of recording and model.
        gain: "none" takes the simulated amplitude as it is; "global" fits one factor, since
            conductivities of torso and heart scale all leads alike; "groups" one for the chest
            leads and one for the others, since a generic torso has electrodes of the chest nearer
            to the heart, or farther from it, than the patient's; "leads" one a lead, which leaves
            the leads' shapes alone. Factors are positive.

    Raises:
        ValueError: shapes that do not fit, or an ECG that is flat or not finite.
    """

    t_ms: Float[np.ndarray, " times"]
    observed: Float[np.ndarray, "times leads"]
    sd: Float[np.ndarray, ""]
    whitener: Float[np.ndarray, "times times"]
    independent: tuple[int, ...] = eqx.field(static=True)
    gain: str = eqx.field(static=True)
    chest: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self,
        t_ms: Float[np.ndarray, " times"],
        observed: Float[np.ndarray, "times leads"],
        names: Sequence[str],
        *,
        noise: Noise | None = None,
        gain: Gain = "global",
    ):
        t_ms, observed = check_observed("Waveform", t_ms, observed, names)
        if gain not in get_args(Gain):
            raise ValueError(f"Waveform: gain is {gain!r}; give one of {get_args(Gain)}.")
        self.chest = tuple(name in CHEST for name in names)
        self.independent = independent(names)
        self.t_ms, self.observed, self.gain = t_ms, observed, gain
        noise = noise or Noise()
        # arrays, so that another noise compiles nothing anew
        self.sd = np.asarray(noise.sd)
        self.whitener = noise.whitener(t_ms, amplitude(observed))

    def softened(self, discrepancy: float, length: float) -> "Waveform":
        """The same with a larger discrepancy that goes together for longer: wider basins."""
        noise = Noise(float(self.sd), discrepancy, length)
        whitener = noise.whitener(self.t_ms, amplitude(self.observed))
        return eqx.tree_at(lambda loss: loss.whitener, self, whitener)

    def residual(self, ecg):
        """Whitened differences [times x independent leads]."""
        chosen = np.array(self.independent)
        weight = jnp.asarray(self.whitener, ecg.dtype)
        here = weight @ ecg[:, chosen]
        there = weight @ jnp.asarray(self.observed, ecg.dtype)[:, chosen]
        return (self._factors(here, there, chosen) * here - there).ravel()

    def gains(self, ecg: Float[Array, "times leads"]) -> Float[Array, " leads"]:
        """Factor on every lead of a simulated ECG."""
        weight = jnp.asarray(self.whitener, ecg.dtype)
        every = np.arange(ecg.shape[1])
        here, there = weight @ ecg, weight @ jnp.asarray(self.observed, ecg.dtype)
        return self._factors(here, there, every)[0]

    def _factors(self, here: Array, there: Array, leads: np.ndarray) -> Array:
        """Gains [times, leads] of whitened leads, such as fit best and are positive.

        Leads of a group share a gain; it is that of its independent leads.
        """
        power, product = jnp.sum(here**2, axis=0), jnp.sum(here * there, axis=0)
        size = jnp.sum(there**2, axis=0)
        group = self._groups()[leads]
        if self.gain == "none":
            return jnp.ones_like(here)
        counted = np.isin(leads, self.independent) | (self.gain == "leads")
        mine = jnp.asarray((group[:, None] == group[None]) & counted[None], here.dtype)
        power, product, size = mine @ power + 1e-12, mine @ product, mine @ size
        best, least = product / power, 0.05 * jnp.sqrt(size / power)
        found = 0.5 * (best + jnp.sqrt(best**2 + 4.0 * least**2))
        return jnp.broadcast_to(found[None], here.shape)

    def _groups(self) -> np.ndarray:
        """A number for every lead: leads of one number share a gain."""
        if self.gain == "leads":
            return np.arange(len(self.chest))
        return np.array(self.chest, int) if self.gain == "groups" else np.zeros(len(self.chest))


class Correlation(AbstractLoss):
    """One less the correlation of all leads together; blind to amplitude.

    Args:
        observed: [times, leads] mV.
        weight: residuals count as if the correlation had this precision.
    """

    observed: Float[np.ndarray, "times leads"]
    weight: float

    def __init__(self, observed: Float[np.ndarray, "times leads"], weight: float = 30.0):
        self.observed, self.weight = np.asarray(observed, float), float(weight)

    def residual(self, ecg):
        """Differences of the leads, each ECG of unit length: 2 - 2 r is their sum of squares."""
        there = jnp.asarray(self.observed, ecg.dtype)
        here = ecg / jnp.sqrt(jnp.sum(ecg**2) + 1e-12)
        return self.weight * (here - there / jnp.sqrt(jnp.sum(there**2) + 1e-12)).ravel()


class Features(AbstractLoss):
    """Differences of measurements such as duration and axis, over their standard deviations.

    Args:
        observed: [times, leads] mV.
        names: the standard twelve leads.
        step_ms: between samples.
        sd: by key of `soft_measurements`; 4 ms of QRS duration and 10 degrees of axis by default.
            Angles are compared around the circle.
    """

    target: dict[str, Array]
    sd: dict[str, float]
    names: tuple[str, ...] = eqx.field(static=True)
    step_ms: float = eqx.field(static=True)

    def __init__(
        self,
        observed: Float[np.ndarray, "times leads"],
        names: Sequence[str],
        *,
        step_ms: float,
        sd: Mapping[str, float] | None = None,
    ):
        self.sd = dict(sd or {"qrs_duration_ms": 4.0, "qrs_axis_deg": 10.0})
        self.names, self.step_ms = tuple(names), float(step_ms)
        found = soft_measurements(jnp.asarray(observed, float), self.names, step_ms=self.step_ms)
        unknown = sorted(set(self.sd) - set(found))
        if unknown:
            raise ValueError(f"Features: no measurements {unknown}; there are {sorted(found)}.")
        self.target = {name: found[name] for name in self.sd}

    def residual(self, ecg):
        """One or more a measurement."""
        found = soft_measurements(ecg, self.names, step_ms=self.step_ms)
        parts = []
        for name, sd in self.sd.items():
            apart = found[name] - self.target[name]
            if name.endswith("_deg"):
                apart = jnp.rad2deg(2.0 * jnp.sin(0.5 * jnp.deg2rad(apart)))
            parts.append(jnp.ravel(apart / sd))
        return jnp.concatenate(parts)


class Wasserstein(AbstractLoss):
    """Distance by which the leads' deflections must be moved in time.

    It grows evenly with a shift where differences of voltages have long stopped to grow, so it
    leads into the right basin from afar. Each lead is turned into two densities in time, of its
    positive and its negative deflections; residuals are differences of their quantiles.

    Args:
        t_ms: [times] ms.
        observed: [times, leads] mV.
        names: of the leads.
        sd: ms, the standard deviation of a quantile.
    """

    observed: Float[np.ndarray, "times leads"]
    t_ms: Float[np.ndarray, " times"]
    sd: float
    independent: tuple[int, ...] = eqx.field(static=True)

    SHARPNESS = 6.0
    QUANTILES = np.linspace(0.05, 0.95, 10)

    def __init__(self, t_ms, observed, names: Sequence[str], *, sd: float = 6.0):
        self.t_ms, self.observed = check_observed("Wasserstein", t_ms, observed, names)
        self.independent, self.sd = independent(names), float(sd)

    def residual(self, ecg):
        """Differences of quantiles, [signs x leads x quantiles]."""
        chosen = np.array(self.independent)
        here = self._quantiles(ecg[:, chosen])
        there = self._quantiles(jnp.asarray(self.observed, ecg.dtype)[:, chosen])
        return ((here - there) / self.sd).ravel()

    def _quantiles(self, ecg: Array) -> Array:
        """Times at which the shares of both densities are reached."""
        scaled = self.SHARPNESS * ecg / (jnp.max(jnp.abs(ecg), axis=0, keepdims=True) + 1e-9)
        both = jax.nn.softplus(jnp.concatenate([scaled, -scaled], axis=1))
        both = both - jax.nn.softplus(0.0) + 1e-2
        both = jnp.maximum(both, 1e-2)
        share = jnp.cumsum(both, axis=0)
        share = share / share[-1:]
        times = jnp.asarray(self.t_ms, ecg.dtype)
        levels = jnp.asarray(self.QUANTILES, ecg.dtype)
        return jax.vmap(lambda s: jnp.interp(levels, s, times), in_axes=1)(share)


class SoftDTW(AbstractLoss):
    """Soft dynamic time warping of all leads together (Cuturi and Blondel 2017, arXiv:1703.01541).

    The divergence of Blondel et al. 2021 (arXiv:2010.08354), which is zero for equal signals. It is
    one number: minimise it with `method="adam"`.

    Args:
        observed: [times, leads] mV.
        smoothing: of the minimum over ways, in the units of the squared, normalised voltages.
        weight: on the divergence.
    """

    observed: Float[np.ndarray, "times leads"]
    smoothing: float
    weight: float

    def __init__(self, observed, *, smoothing: float = 0.1, weight: float = 100.0):
        self.observed = np.asarray(observed, float)
        self.smoothing, self.weight = float(smoothing), float(weight)

    def residual(self, ecg):
        """The root of twice the weighed divergence."""
        here, there = (_unit(x) for x in (ecg, jnp.asarray(self.observed, ecg.dtype)))
        own = 0.5 * (self._way(here, here) + self._way(there, there))
        return jnp.sqrt(2.0 * self.weight * jnp.maximum(self._way(here, there) - own, 1e-9))[None]

    def _way(self, first: Array, second: Array) -> Array:
        """Soft minimum of the squared differences along all monotone ways."""
        cost = jnp.sum((first[:, None] - second[None]) ** 2, axis=2)
        rows, columns = cost.shape
        # antidiagonals: entry i of diagonal d is (i, d - i)
        skewed = jnp.full((rows + columns - 1, rows), jnp.inf, cost.dtype)
        i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        skewed = skewed.at[i + j, i].set(cost)
        big = jnp.asarray(1e8, cost.dtype)

        def step(carry, line):
            before, last = carry
            left = last
            up = jnp.concatenate([big[None], last[:-1]])
            diagonal = jnp.concatenate([big[None], before[:-1]])
            options = jnp.stack([left, up, diagonal])
            least = -self.smoothing * jax.nn.logsumexp(-options / self.smoothing, axis=0)
            found = jnp.where(
                jnp.isfinite(line), jnp.where(jnp.isfinite(line), line, 0) + least, big
            )
            return (last, found), found[-1]

        start = jnp.full(rows, big).at[0].set(cost[0, 0])
        _, ends = jax.lax.scan(step, (jnp.full(rows, big), start), skewed[1:])
        return ends[-1]


def _unit(ecg: Array) -> Array:
    return ecg / jnp.sqrt(jnp.mean(ecg**2) * ecg.shape[1] + 1e-12)


def independent(names: Sequence[str]) -> tuple[int, ...]:
    """Which leads hold something that the others do not."""
    if {"I", "II"} <= set(names):
        return tuple(k for k, name in enumerate(names) if name not in DERIVED)
    return tuple(range(len(names)))


def amplitude(observed: Float[np.ndarray, "times leads"]) -> float:
    """Median over the leads of the greatest deflection, mV."""
    return float(np.median(np.abs(observed).max(axis=0)))


def check_observed(what: str, t_ms, observed, names) -> tuple[np.ndarray, np.ndarray]:
    """Times and voltages of an ECG that can be fitted.

    Raises:
        ValueError: shapes that do not fit, unequal steps, or an ECG that is flat or not finite.
    """
    t_ms, observed = np.asarray(t_ms, float), np.asarray(observed, float)
    if observed.ndim != 2 or observed.shape != (len(t_ms), len(names)) or len(t_ms) < 3:
        raise ValueError(
            f"{what}: got times of shape {t_ms.shape}, an ECG of shape {observed.shape} and "
            f"{len(names)} names; expected [times], [times, leads] and a name a lead."
        )
    if not np.isfinite(observed).all() or np.ptp(np.diff(t_ms)) > 1e-3:
        raise ValueError(f"{what}: expected finite voltages at equal steps; fill gaps first.")
    if np.abs(observed).max() < 1e-6:
        raise ValueError(f"{what}: the ECG is flat; there is nothing to fit.")
    return t_ms, observed
