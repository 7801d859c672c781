"""Weighted differences to neighbours as a primitive of JAX, whose derivatives gather too.

Two bilinear primitives close under every transformation:

    differences     y_i  = sum_k w_ki (x_c(k,i) - x_i)      of a vector x and weights w
    edge_products   g_ki = a_i (x_c(k,i) - x_i)             of two vectors a and x

How weights and neighbours lie in memory is the business of a `Layout`: rows of entries with their
columns here, neighbours at fixed offsets of a grid in `stencil.py`. The weights are those of a
symmetric matrix, so the transpose of the first in x is itself, and in w it is the second; the
transposes of the second are the first. JAX's own transpose of a gather is a scatter, an order of
magnitude slower, and its ways to name another one (`custom_vjp`, `linear_call`) do not
differentiate forwards, twice, or in batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int, Shaped

from .target import on_gpu

Slices = tuple[Array, ...]


class Layout(ABC):
    """Where weights and neighbours lie: hashable, part of the compiled program.

    Vectors have the nodes as their last axis; axes in front of those named here are batches, of 1
    where they are shared.
    """

    integers: int  # number of arrays of indices
    weight_axes: int  # of one array of weights, batches left out

    @abstractmethod
    def differences(self, x: Array, integers: Slices, weights: Slices) -> Array:
        """The first primitive."""

    @abstractmethod
    def products(self, a: Array, x: Array, integers: Slices) -> Slices:
        """The second: one array for each array of weights."""

    @abstractmethod
    def weight_shapes(self, integers: Sequence[Any]) -> Sequence[tuple[int, ...]]:
        """Shapes of the arrays of weights, batches left out."""


@dataclass(frozen=True)
class Rows(Layout):
    """Entries row by row: `integers` are columns, [width, rows] for each slice of the rows."""

    integers: int
    weight_axes: int = 2

    def differences(self, x, integers, weights):
        """Gather the neighbours entry by entry, the width of a slice unrolled."""
        start, out = 0, []
        for column, weight in zip(integers, weights, strict=True):
            rows = column.shape[1]
            home = jax.lax.slice_in_dim(x, start, start + rows, axis=-1)
            total = jnp.zeros((*_batch(x, weight[..., 0]), rows), x.dtype)
            for k in range(column.shape[0]):
                total = total + weight[..., k, :] * (gather(x, column[k]) - home)
            out.append(total)
            start += rows
        return out[0] if len(out) == 1 else jnp.concatenate(out, axis=-1)

    def products(self, a, x, integers):
        """One product for every entry."""
        start, out = 0, []
        for column in integers:
            here = slice(start, start + column.shape[1])
            rise = gather(x, column) - x[..., None, here]
            out.append(a[..., None, here] * rise)
            start = here.stop
        return tuple(out)

    def weight_shapes(self, integers):
        """Those of the columns."""
        return [column.shape for column in integers]


def row_differences(
    x: Float[Array, " nodes"],
    weights: Sequence[Float[Array, "width rows"]],
    columns: Sequence[Int[Array, "width rows"]],
) -> Float[Array, " nodes"]:
    """Sum w_ki (x_c(k,i) - x_i) over the entries k of every row i.

    Args:
        x: a value per node.
        weights: of every entry, one array a slice of rows; the matrix that they fill is symmetric,
            and so are the tangents that they are moved along.
        columns: the node that every entry reads, laid out alike; padding reads its own row.

    Returns:
        A value per node. Derivatives of any order, forwards or backwards, and batches of vectors,
        of weights or of both gather and never scatter; columns are shared by a batch.
    """
    return differences(Rows(len(columns)), x, weights, columns)


def differences(
    layout: Layout, x: Float[Array, " nodes"], weights: Sequence[Array], integers: Sequence[Array]
) -> Float[Array, " nodes"]:
    """The weighted differences of a vector in any layout; see `row_differences`."""
    dtype = jnp.result_type(x, *weights)
    values = (jnp.asarray(value, dtype) for value in (x, *weights))
    x, *weights = values
    return _differences_p.bind(*_alike([x, *integers, *weights]), layout=layout)


def _differences(*operands: Array, layout: Layout) -> Array:
    """The forward program; leading axes of vector and weights are batches, of 1 where shared."""
    x, integers, weights = _split(operands, layout)
    return layout.differences(x, tuple(integers), tuple(weights))


def _products(a: Array, x: Array, *integers: Array, layout: Layout) -> Slices:
    return tuple(layout.products(a, x, integers))


def gather(x: Shaped[Array, "*shape"], places: Int[Array, "*places"], *, axis: int = -1) -> Array:
    """x[..., places, ...], every place known to be one of those along the axis.

    As unsigned numbers, which need no test for counting from the end: on a CPU a multiplication
    takes 0.6 of the time that it takes with NumPy's indexing.

    Args:
        x: what is read, with the nodes (or rows) along `axis`.
        places: numbers along that axis; their shape replaces it.
        axis: the last, where values of several vectors lie apart, or 0, where they lie together.
    """
    axis %= x.ndim
    behind = range(axis + places.ndim, x.ndim - 1 + places.ndim)
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=(*range(axis), *behind), collapsed_slice_dims=(axis,), start_index_map=(axis,)
    )
    return jax.lax.gather(
        x,
        places.astype(jnp.uint32)[..., None],
        numbers,
        (*x.shape[:axis], 1, *x.shape[axis + 1 :]),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def _split(operands: Sequence[Any], layout: Layout) -> tuple[Any, Sequence[Any], Sequence[Any]]:
    """Vector, indices and weights."""
    first = 1 + layout.integers
    return operands[0], operands[1:first], operands[first:]


def _batch(a: Any, b: Any) -> tuple[int, ...]:
    """Shape of the batch of two operands, of which each has the nodes as its last axis."""
    return np.broadcast_shapes(a.shape[:-1], b.shape[:-1])


# what JAX has to know about the two primitives


def _differences_type(*operands, layout):
    x, _, weights = _split(operands, layout)
    batch = np.broadcast_shapes(x.shape[:-1], weights[0].shape[: -layout.weight_axes])
    return x.update(shape=(*batch, x.shape[-1]), weak_type=False)


def _products_type(a, x, *integers, layout):
    shapes = layout.weight_shapes(integers)
    return [x.update(shape=(*_batch(a, x), *shape), weak_type=False) for shape in shapes]


def _differences_jvp(primals, tangents, *, layout):
    apply = partial(_differences_p.bind, layout=layout)
    x, integers, weights = _split(primals, layout)
    dx, _, dw = _split(tangents, layout)
    parts = []
    if not isinstance(dx, ad.Zero):
        parts.append(apply(dx, *integers, *weights))
    if not all(isinstance(d, ad.Zero) for d in dw):
        parts.append(apply(x, *integers, *map(ad.instantiate_zeros, dw)))
    return apply(*primals), sum(parts[1:], parts[0])


def _products_jvp(primals, tangents, *, layout):
    multiply = partial(_products_p.bind, layout=layout)
    a, x, *integers = primals
    da, dx, *_ = tangents
    parts = []
    if not isinstance(da, ad.Zero):
        parts.append(multiply(da, x, *integers))
    if not isinstance(dx, ad.Zero):
        parts.append(multiply(a, dx, *integers))
    return multiply(*primals), [sum(p[1:], p[0]) for p in zip(*parts, strict=True)]


def _differences_transpose(cotangent, *operands, layout):
    x, integers, weights = _split(operands, layout)
    cotangent = kept_in_memory(cotangent)
    if ad.is_undefined_primal(x):
        found = _differences_p.bind(cotangent, *integers, *weights, layout=layout)
        return [_unbatch(found, x.aval.shape), *(None,) * (len(operands) - 1)]
    found = _products_p.bind(cotangent, x, *integers, layout=layout)
    shares = [_unbatch(g, w.aval.shape) for g, w in zip(found, weights, strict=True)]
    return [None, *(None,) * len(integers), *shares]


def _products_transpose(cotangents, a, x, *integers, layout):
    weights = [ad.instantiate_zeros(c) for c in cotangents]
    known, sought = (x, a) if ad.is_undefined_primal(a) else (a, x)
    found = _differences_p.bind(known, *integers, *weights, layout=layout)
    found = _unbatch(found, sought.aval.shape)
    rest = (None,) * len(integers)
    return [found, None, *rest] if sought is a else [None, found, *rest]


def _unbatch(value: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the batch axes that the operand of this shape shares."""
    shared = tuple(k for k, n in enumerate(shape) if n == 1 and value.shape[k] != 1)
    return value.sum(axis=shared, keepdims=True) if shared else value


def _batched(primitive, operands, axes, *, layout):
    floating = [jnp.issubdtype(operand.dtype, jnp.floating) for operand in operands]
    if any(axis is not None for axis, f in zip(axes, floating, strict=True) if not f):
        raise NotImplementedError(
            "The cases of a batch share one mesh: the columns of a row operator cannot be mapped "
            "over. Map over values (voltages, conductivities, parameters), or solve in a loop."
        )
    fronted = [
        (jnp.expand_dims(operand, 0) if axis is None else jnp.moveaxis(operand, axis, 0))
        if is_value
        else operand
        for operand, axis, is_value in zip(operands, axes, floating, strict=True)
    ]
    found = primitive.bind(*fronted, layout=layout)
    return (found, [0] * len(found)) if primitive.multiple_results else (found, 0)


def _alike(operands: list[Any]) -> list[Any]:
    """Under `shard_map`, operands that vary over the same axes of the device mesh."""
    axes = [_varying(operand) for operand in operands]
    union = frozenset().union(*axes)
    return [
        jax.lax.pcast(operand, tuple(union - mine), to="varying") if union - mine else operand
        for operand, mine in zip(operands, axes, strict=True)
    ]


def _varying(operand: Any) -> frozenset:
    kind: Any = jax.typeof(operand)
    # `vma` up to jax 0.9, `manual_axis_type` after it
    return getattr(kind, "vma", None) or getattr(
        getattr(kind, "manual_axis_type", None), "varying", frozenset()
    )


def kept_in_memory(x: Array) -> Array:
    """The same values, worked out once and written to memory before anything reads them.

    On a CPU XLA works a value out anew in every gather that reads it, once for every neighbour, and
    an optimisation barrier does not keep it from that: going backwards through a time step, that
    value is the derivative of the whole ionic step.
    """
    return _kept_p.bind(x)


def _keep(x: Array) -> Array:
    if on_gpu():
        return jax.lax.optimization_barrier(x)
    # One trip of a loop whose length XLA does not know: what a loop reads lies in memory.
    first = x.ravel()[0] if x.size else jnp.zeros((), x.dtype)
    trips = jnp.minimum((first == first).astype(jnp.int32) + 1, 1)
    return jax.lax.fori_loop(0, trips, lambda _, __: x, jnp.zeros_like(x))


def _declare(name, program, kind, jvp, transpose, *, multiple_results):
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results
    primitive.def_impl(jax.jit(program, static_argnames="layout"))
    primitive.def_abstract_eval(kind)
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = partial(_batched, primitive)
    lowering = mlir.lower_fun(program, multiple_results=multiple_results)
    mlir.register_lowering(primitive, lowering)
    return primitive


_differences_p = _declare(
    "row_differences",
    _differences,
    _differences_type,
    _differences_jvp,
    _differences_transpose,
    multiple_results=False,
)
_products_p = _declare(
    "edge_products",
    _products,
    _products_type,
    _products_jvp,
    _products_transpose,
    multiple_results=True,
)
_kept_p = Primitive("kept_in_memory")
_kept_p.def_impl(jax.jit(_keep))
_kept_p.def_abstract_eval(lambda x: x)
ad.deflinear2(_kept_p, lambda cotangent, _: [kept_in_memory(cotangent)])
batching.defvectorized(_kept_p)
mlir.register_lowering(_kept_p, mlir.lower_fun(_keep, multiple_results=False))
