"""What may move in a calibration: parts of a model, tied together or one by one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiotwin._types import type_array

from .priors import AbstractPrior


class Free(eqx.Module):
    """A parameter that may move.

    Args:
        name: for reports, such as "speed along the fibre".
        where: from the model to the array that moves, or to a tuple of arrays of one shape that
            are tied together and take the same value.
        prior: what is believed of it, with how it may move.
        factor: whether the value multiplies what the model holds, instead of replacing it.
        index: which rows of the array move, such as [0, 2]; all when left out.
        unit: for reports.
    """

    name: str = eqx.field(static=True)
    where: Callable[[Any], Any] = eqx.field(static=True)
    prior: AbstractPrior
    factor: bool = eqx.field(static=True)
    index: tuple[int, ...] | None = eqx.field(static=True)
    unit: str = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        where: Callable[[Any], Any],
        prior: AbstractPrior,
        *,
        factor: bool = False,
        index: Sequence[int] | None = None,
        unit: str = "",
    ):
        self.name, self.where, self.prior = name, where, prior
        self.factor, self.unit = factor, unit
        self.index = None if index is None else tuple(int(k) for k in index)

    def shape(self, model: Any) -> tuple[int, ...]:
        """Shape of the value.

        Raises:
            ValueError: `where` leads to no array of numbers, or to some of several shapes.
        """
        try:
            found = self.where(model)
        except (AttributeError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"Free: {self.name!r} is not in the model ({error!r}).") from None
        leaves = found if isinstance(found, tuple) else (found,)
        if not leaves or not all(eqx.is_inexact_array_like(leaf) for leaf in leaves):
            raise ValueError(
                f"Free: {self.name!r} leads to {type(found).__name__}, which holds no real "
                "numbers; let `where` return an array, or a tuple of arrays that are tied."
            )
        shapes = {np.shape(self._chosen(leaf)) for leaf in leaves}
        if len(shapes) > 1:
            raise ValueError(
                f"Free: {self.name!r} ties arrays of the shapes {sorted(shapes)}; expected one."
            )
        return shapes.pop()

    def put(self, model: Any, value: Float[Array, "..."]) -> Any:
        """The model with a value in its place."""

        def placed(leaf: Any) -> Array:
            leaf = jnp.asarray(leaf)
            new = value.astype(leaf.dtype)
            if self.factor:
                new = new * self._chosen(leaf)
            return new if self.index is None else leaf.at[np.array(self.index)].set(new)

        found = self.where(model)
        if isinstance(found, tuple):
            return eqx.tree_at(self.where, model, tuple(placed(leaf) for leaf in found))
        return eqx.tree_at(self.where, model, placed(found))

    def start(self, model: Any) -> Float[np.ndarray, "..."]:
        """Latents of what the model holds; a factor starts at one.

        Raises:
            ValueError: the prior excludes what the model holds.
        """
        found = self.where(model)
        leaf = found[0] if isinstance(found, tuple) else found
        value = np.asarray(self._chosen(leaf), float)
        try:
            return self.prior.latent(np.ones_like(value) if self.factor else value)
        except ValueError as error:
            raise ValueError(f"Free: {self.name!r} starts outside its prior: {error}") from None

    def _chosen(self, leaf: Any) -> Any:
        return leaf if self.index is None else leaf[np.array(self.index)]


class Unknowns(eqx.Module):
    """All that may move in a model, as one vector of latents.

    Args:
        model: any PyTree.
        free: what may move, each under a name of its own.

    Raises:
        ValueError: there is none, a name is taken twice, or one leads nowhere.
    """

    free: tuple[Free, ...]
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(self, model: Any, free: Sequence[Free]):
        self.free = tuple(free)
        names = [one.name for one in self.free]
        if not names:
            raise ValueError("Unknowns: nothing may move; give at least one Free.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Unknowns: the names {twice} are taken twice; give each its own.")
        self.shapes = tuple(one.shape(model) for one in self.free)

    @property
    def size(self) -> int:
        """Number of latents."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def labels(self) -> list[str]:
        """A name for every latent, such as "onset 2"."""
        found = []
        for one, shape in zip(self.free, self.shapes, strict=True):
            for place in np.ndindex(*shape):
                number = " ".join(str(k + 1) for k in place)
                found.append(f"{one.name} {number}".strip())
        return found

    @property
    def units(self) -> list[str]:
        """The unit of every latent's value."""
        counts = [int(np.prod(shape)) for shape in self.shapes]
        return [one.unit for one, n in zip(self.free, counts, strict=True) for _ in range(n)]

    def values(self, latent: Float[type_array, " latents"]) -> dict[str, Array]:
        """Values by name."""
        parts, begin = {}, 0
        for one, shape in zip(self.free, self.shapes, strict=True):
            count = int(np.prod(shape))
            part = jnp.reshape(latent[begin : begin + count], shape)
            parts[one.name] = one.prior.value(part)
            begin += count
        return parts

    def flat(self, latent: Float[type_array, " latents"]) -> Float[Array, " latents"]:
        """Values as one vector, in the order of `labels`."""
        return jnp.concatenate([jnp.ravel(v) for v in self.values(latent).values()])

    def put(self, model: Any, latent: Float[type_array, " latents"]) -> Any:
        """The model with the values of latents in their places."""
        found = self.values(latent)
        for one in self.free:
            model = one.put(model, found[one.name])
        return model

    def start(self, model: Any) -> Float[np.ndarray, " latents"]:
        """Latents of what the model holds."""
        return np.concatenate([np.ravel(one.start(model)) for one in self.free])

    def latent(self, values: Mapping[str, Any]) -> Float[np.ndarray, " latents"]:
        """Latents of values by name.

        Raises:
            ValueError: a name is missing, or a value does not fit.
        """
        missing = [one.name for one in self.free if one.name not in values]
        if missing:
            raise ValueError(f"Unknowns: no value for {missing}.")
        parts = []
        for one, shape in zip(self.free, self.shapes, strict=True):
            value = np.broadcast_to(np.asarray(values[one.name], float), shape)
            parts.append(np.ravel(one.prior.latent(value)))
        return np.concatenate(parts)
