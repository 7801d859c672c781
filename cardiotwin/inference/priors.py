"""What is believed of a number before the ECG is seen, and how it may move.

Every prior is a map from numbers that are standard normal, the latents, to values. Positive and
bounded parameters so need no constraint, all latents have the same scale, and the prior's part in
a posterior is half the sum of their squares.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from cardiotwin._types import type_array

_SMALL = 1e-9  # how near a bound a value may start


class AbstractPrior(eqx.Module):
    """A map from standard normal latents to values of the same shape."""

    @abstractmethod
    def value(self, latent: Float[Array, "..."]) -> Float[Array, "..."]:
        """Values of latents; differentiable."""

    @abstractmethod
    def latent(self, value: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Latents of values.

        Raises:
            ValueError: a value that the prior excludes.
        """


class Normal(AbstractPrior):
    """Any number: mean and standard deviation, one for all components or one each."""

    mean: Float[np.ndarray, "..."]
    sd: Float[np.ndarray, "..."]

    def __init__(self, mean, sd):
        self.mean, self.sd = np.asarray(mean, float), np.asarray(sd, float)
        _check("Normal", "sd", self.sd)

    def value(self, latent):
        """The mean and so many standard deviations."""
        return self.mean + self.sd * latent

    def latent(self, value):
        """Standard deviations off the mean."""
        return (np.asarray(value, float) - self.mean) / self.sd


class LogNormal(AbstractPrior):
    """A positive number: median, and standard deviation of its logarithm (0.1: ten per cent)."""

    median: Float[np.ndarray, "..."]
    spread: Float[np.ndarray, "..."]

    def __init__(self, median, spread):
        self.median, self.spread = np.asarray(median, float), np.asarray(spread, float)
        _check("LogNormal", "median", self.median)
        _check("LogNormal", "spread", self.spread)

    def value(self, latent):
        """The median times the exponential of so many spreads."""
        return self.median * jnp.exp(self.spread * latent)

    def latent(self, value):
        """Spreads off the median's logarithm."""
        value = np.asarray(value, float)
        if not np.all(value > 0):
            raise ValueError(f"LogNormal: {value} must be positive.")
        return np.log(value / self.median) / self.spread


class Uniform(AbstractPrior):
    """A bounded number, equally likely everywhere between two bounds."""

    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]

    def __init__(self, low, high):
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        if not np.all(np.isfinite(self.low) & np.isfinite(self.high) & (self.low < self.high)):
            raise ValueError(f"Uniform: from {low} to {high}; give two finite, rising numbers.")

    def value(self, latent):
        """Between the bounds by the normal distribution function."""
        return self.low + (self.high - self.low) * jsp.ndtr(latent)

    def latent(self, value):
        """By its inverse; a value on a bound starts just within."""
        share = (np.asarray(value, float) - self.low) / (self.high - self.low)
        if not np.all((share >= 0.0) & (share <= 1.0)):
            raise ValueError(f"Uniform: {value} lies outside {self.low} to {self.high}.")
        return special.ndtri(np.clip(share, _SMALL, 1.0 - _SMALL))


class InDisc(AbstractPrior):
    """Pairs (last axis), equally likely everywhere in a disc about the origin.

    For places in a ventricle (`Places.disc`): `radius` is the greatest height above the apex.
    """

    radius: float

    def __init__(self, radius: float = 0.95):
        if not 0.0 < radius <= 1.0:
            raise ValueError(f"InDisc: radius is {radius}; give one above 0 and up to 1 (base).")
        self.radius = float(radius)

    def value(self, latent):
        """Half the squared length of two normal numbers is exponential, so its share is uniform."""
        half = 0.5 * jnp.sum(latent**2, axis=-1, keepdims=True)
        near = half < 1e-4
        safe = jnp.where(near, 1.0, half)
        share = jnp.where(near, 1.0 - 0.5 * half, -jnp.expm1(-safe) / safe)
        return self.radius * latent * jnp.sqrt(0.5 * share)

    def latent(self, value):
        """Along the same direction; a place on the rim starts just within."""
        value = np.asarray(value, float)
        square = np.sum(value**2, axis=-1, keepdims=True) / self.radius**2
        if np.any(square > 1.0 + 1e-9):
            raise ValueError(
                f"InDisc: a place lies at height {self.radius * np.sqrt(square.max()):.3f}, above "
                f"{self.radius}; widen the radius or lower the place."
            )
        square = np.minimum(square, 1.0 - _SMALL)
        half = -np.log1p(-square)
        length = np.sqrt(2.0 * half)
        size = self.radius * np.sqrt(square)
        return value * np.where(size > 0, length / np.where(size > 0, size, 1.0), 1.0)


def _check(prior: str, name: str, value: type_array) -> None:
    if not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
        raise ValueError(f"{prior}: {name} is {value}; give a positive number.")
