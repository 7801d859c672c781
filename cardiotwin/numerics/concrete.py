"""Values that may be traced by JAX: what of them is known, and which library computes with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def of_jax(*values: Any) -> bool:
    """Whether any value, or any leaf of it, is an array of JAX (a tracer included)."""
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values))


def known(value: Any) -> np.ndarray | None:
    """The numbers behind a value, without their derivatives; None where there are none yet.

    Numbers are known outside `jax.jit` and `jax.vmap`, under `jax.grad` and `jax.jvp` too.
    """
    value = jax.lax.stop_gradient(value) if isinstance(value, jax.Array) else value
    return None if isinstance(value, Tracer) else np.asarray(value)


def library(*values: Any) -> Any:
    """`jax.numpy` if any value is an array of JAX, else `numpy`."""
    return jnp if of_jax(*values) else np


def number(value: Any) -> Any:
    """A Python float, or the array of JAX as it is."""
    return value if isinstance(value, jax.Array) else float(value)


def numbers(values: Any) -> Any:
    """Numbers in a list or an array, as one array of floats of NumPy or JAX."""
    return library(values).asarray(values, float)
