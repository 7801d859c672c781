"""Weighted differences to neighbours as a primitive of JAX, whose derivatives gather too.

Two bilinear primitives close under every transformation:

    row_differences   y_i  = sum_k w_ki (x_c(k,i) - x_i)      of a vector x and weights w
    edge_products     g_ki = a_i (x_c(k,i) - x_i)             of two vectors a and x

The weights are those of a symmetric matrix, so the transpose of the first in x is itself, and in w
it is the second; the transposes of the second are the first. JAX's own transpose of a gather is a
scatter, an order of magnitude slower, and its ways to name another one (`custom_vjp`,
`linear_call`) do not differentiate forwards, twice, or in batches.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int, Shaped

Slices = tuple[Array, ...]


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
    dtype = jnp.result_type(x, *weights)
    values = (jnp.asarray(value, dtype) for value in (x, *weights))
    x, *weights = values
    return _differences_p.bind(*_alike([x, *columns, *weights]))


def _differences(*operands: Array) -> Array:
    """The forward program; leading axes of vector and weights are batches, of 1 where shared."""
    x, columns, weights = _vector_and_slices(operands)
    start, out = 0, []
    for column, weight in zip(columns, weights, strict=True):
        rows = column.shape[1]
        home = jax.lax.slice_in_dim(x, start, start + rows, axis=-1)
        total = jnp.zeros((*_batch(x, weight[..., 0]), rows), x.dtype)
        for k in range(column.shape[0]):
            total = total + weight[..., k, :] * (gather(x, column[k]) - home)
        out.append(total)
        start += rows
    return out[0] if len(out) == 1 else jnp.concatenate(out, axis=-1)


def _products(a: Array, x: Array, *columns: Array) -> Slices:
    start, out = 0, []
    for column in columns:
        here = slice(start, start + column.shape[1])
        rise = gather(x, column) - x[..., None, here]
        out.append(a[..., None, here] * rise)
        start = here.stop
    return tuple(out)


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


def _vector_and_slices(operands: Sequence[Any]) -> tuple[Any, Sequence[Any], Sequence[Any]]:
    slices = len(operands) // 2
    return operands[0], operands[1 : 1 + slices], operands[1 + slices :]


def _batch(a: Any, b: Any) -> tuple[int, ...]:
    """Shape of the batch of two operands, of which each has the nodes as its last axis."""
    return np.broadcast_shapes(a.shape[:-1], b.shape[:-1])


# what JAX has to know about the two primitives


def _differences_type(*operands):
    x, _, weights = _vector_and_slices(operands)
    batch = np.broadcast_shapes(x.shape[:-1], weights[0].shape[:-2])
    return x.update(shape=(*batch, x.shape[-1]), weak_type=False)


def _products_type(a, x, *columns):
    return [x.update(shape=(*_batch(a, x), *c.shape), weak_type=False) for c in columns]


def _differences_jvp(primals, tangents):
    x, columns, weights = _vector_and_slices(primals)
    dx, _, dw = _vector_and_slices(tangents)
    parts = []
    if not isinstance(dx, ad.Zero):
        parts.append(_differences_p.bind(dx, *columns, *weights))
    if not all(isinstance(d, ad.Zero) for d in dw):
        parts.append(_differences_p.bind(x, *columns, *map(ad.instantiate_zeros, dw)))
    return _differences_p.bind(*primals), sum(parts[1:], parts[0])


def _products_jvp(primals, tangents):
    a, x, *columns = primals
    da, dx, *_ = tangents
    parts = []
    if not isinstance(da, ad.Zero):
        parts.append(_products_p.bind(da, x, *columns))
    if not isinstance(dx, ad.Zero):
        parts.append(_products_p.bind(a, dx, *columns))
    return _products_p.bind(*primals), [sum(p[1:], p[0]) for p in zip(*parts, strict=True)]


def _differences_transpose(cotangent, *operands):
    x, columns, weights = _vector_and_slices(operands)
    if ad.is_undefined_primal(x):
        found = _differences_p.bind(cotangent, *columns, *weights)
        return [_unbatch(found, x.aval.shape), *(None,) * (len(operands) - 1)]
    found = _products_p.bind(cotangent, x, *columns)
    shares = [_unbatch(g, w.aval.shape) for g, w in zip(found, weights, strict=True)]
    return [None, *(None,) * len(columns), *shares]


def _products_transpose(cotangents, a, x, *columns):
    weights = [ad.instantiate_zeros(c) for c in cotangents]
    known, sought = (x, a) if ad.is_undefined_primal(a) else (a, x)
    found = _unbatch(_differences_p.bind(known, *columns, *weights), sought.aval.shape)
    rest = (None,) * len(columns)
    return [found, None, *rest] if sought is a else [None, found, *rest]


def _unbatch(value: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the batch axes that the operand of this shape shares."""
    shared = tuple(k for k, n in enumerate(shape) if n == 1 and value.shape[k] != 1)
    return value.sum(axis=shared, keepdims=True) if shared else value


def _batched(primitive, operands, axes):
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
    found = primitive.bind(*fronted)
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


def _declare(name, program, kind, jvp, transpose, *, multiple_results):
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results
    primitive.def_impl(jax.jit(program))
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
