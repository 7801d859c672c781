"""The function of latents that a calibration minimises, and its derivatives."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array

from .free import Unknowns
from .losses import AbstractLoss

SPOILT = 1e6  # in place of residuals that are not numbers: no optimiser stays there


def call(model: Any) -> Float[Array, "times leads"]:
    """The ECG of a model that gives it when called, such as an `EikonalBeat`."""
    return model()


class Objective(eqx.Module):
    """Residuals of an ECG and of the priors together, as a function of latents.

    Half the sum of their squares is the negative logarithm of the posterior, but for a constant.

    Attributes:
        model: any PyTree.
        unknowns: what moves in it.
        loss: of its ECG.
        predict: from the model to its ECG.
    """

    model: Any
    unknowns: Unknowns
    loss: AbstractLoss
    predict: Callable[[Any], Array] = eqx.field(static=True, default=call)

    def ecg(self, latent: Float[type_array, " latents"]) -> Float[Array, "times leads"]:
        """The ECG of latents."""
        return self.predict(self.unknowns.put(self.model, latent))

    def residual(self, latent: Float[type_array, " latents"]) -> Float[Array, " residuals"]:
        """Residuals of the loss, then the latents, which are those of the priors.

        Where any residual is not a number all are large: a trial there is rejected, not the fit.
        """
        found = self.loss.residual(self.ecg(latent)).astype(latent.dtype)
        found = jnp.where(jnp.all(jnp.isfinite(found)), found, SPOILT)
        return jnp.concatenate([found, latent])

    def cost(self, latent: Float[type_array, " latents"]) -> Float[Array, ""]:
        """Half the sum of the squared residuals."""
        return 0.5 * jnp.sum(self.residual(latent) ** 2)


@eqx.filter_jit
def ecgs(
    objective: Objective, latents: Float[type_array, "cases latents"], at_once: int = 8
) -> Float[Array, "cases times leads"]:
    """ECGs of many cases, a few at a time."""
    return jax.lax.map(objective.ecg, latents, batch_size=at_once)


@eqx.filter_jit
def costs(
    objective: Objective, latents: Float[type_array, "cases latents"], at_once: int = 8
) -> Float[Array, " cases"]:
    """Costs of many cases, a few at a time."""
    return jax.lax.map(objective.cost, latents, batch_size=at_once)


@eqx.filter_jit
def residuals(
    objective: Objective, latents: Float[type_array, "cases latents"]
) -> Float[Array, "cases residuals"]:
    """Residuals of many cases, one by one."""
    return jax.lax.map(objective.residual, latents)


@eqx.filter_jit
def jacobian(
    objective: Objective, latent: Float[type_array, " latents"]
) -> Float[Array, "residuals latents"]:
    """Derivatives of the residuals, forwards: one sweep a latent."""
    return jax.jacfwd(objective.residual)(latent)


@eqx.filter_jit
def slopes(objective: Objective, latent: Float[type_array, " latents"]) -> tuple[Array, Array]:
    """Cost and its gradient, backwards: the price of a few costs, however many latents."""
    return jax.value_and_grad(objective.cost)(latent)


def spoilt(cost: Any) -> Any:
    """Whether costs are those of residuals that were not numbers."""
    return ~(np.asarray(cost) < 0.1 * SPOILT**2)
