"""Arrays that several parts of a PyTree hold, handed to a compiled program once."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Shared(eqx.Module):
    """A PyTree without repetition: what it holds, and where each piece goes.

    Operators on the same mesh have the same columns. A compiled program takes every leaf of its
    arguments for an array of its own, keeps them all in memory and reads each anew.
    """

    held: tuple[Any, ...]
    places: tuple[int, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def unpack(self) -> Any:
        """The PyTree itself."""
        return jax.tree.unflatten(self.structure, [self.held[place] for place in self.places])


def share(tree: Any) -> Shared:
    """Keep equal arrays of whole numbers, and arrays that are one and the same, only once."""
    leaves, structure = jax.tree.flatten(tree)
    held: list[Any] = []
    places = []
    for leaf in leaves:
        place = next((k for k, other in enumerate(held) if _same(leaf, other)), len(held))
        if place == len(held):
            held.append(leaf)
        places.append(place)
    return Shared(tuple(held), tuple(places), structure)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return isinstance(one, jax.Array)
    arrays = isinstance(one, jax.Array) and isinstance(other, jax.Array)
    if not arrays or isinstance(one, Tracer) or isinstance(other, Tracer):
        return False
    alike = one.shape == other.shape and one.dtype == other.dtype and one.sharding == other.sharding
    if not (alike and one.size > 1 and jnp.issubdtype(one.dtype, jnp.integer)):
        return False
    return one.is_fully_addressable and np.array_equal(np.asarray(one), np.asarray(other))
