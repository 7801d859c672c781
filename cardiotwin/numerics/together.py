"""Decisions that the cases of a batch take together."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


@jax.custom_batching.custom_vmap
def all_of_batch(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """The flag itself; under `jax.vmap`, whether those of all cases are set.

    A branch that each case takes for itself makes JAX run both branches and copy everything that
    they read, matrices included, once a case. One that the cases take together stays a branch.
    """
    return flag


@all_of_batch.def_vmap
def _(_axis_size: int, _in_batched: Any, flag: Array) -> tuple[Array, bool]:
    return all_of_batch(jnp.all(flag, axis=0)), False
