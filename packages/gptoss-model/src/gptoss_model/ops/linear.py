"""The linear map: accumulated in f32, rounded once."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.mxfp4 import SplitMatrix
from gptoss_model.ops.products import product_precision
from gptoss_model.ops.rounding import rounded
from gptoss_model.ops.row_products import gathered_row_products, row_product
from gptoss_model.ops.stacked import StackedMatrices, unstacked
from gptoss_model.ops.strategy import current_platform

__all__ = ["linear"]

MOST_ROWS_ON_THE_RIGHT = 64  # of 32, products then take 0.6 to 0.8 of the time; of 64 about 0.9, of 128 as long


def linear(
    x: Float[Array, "*rows in"],
    weight: Float[Array, "out in"] | StackedMatrices | SplitMatrix,
    bias: Float[Array, " out"] | None = None,
    *,
    total: Callable[[Array], Array] | None = None,
    update: LowRank | None = None,
) -> Float[Array, "*rows out"]:
    """`x · weightᵀ + bias` in the dtype of x: products are summed and the bias is added in f32.

    Where x and weight are a device's part of the inputs, `total` makes of its sums in f32 those of all.
    An `update` is added to the weight.

    A single row on a CPU goes another way, `gptoss_model.ops.row_products`: XLA turns a product with
    one row into one with a vector, and for that it first converts a whole bf16 matrix to f32. A matrix
    in a stack is then read where it stands; more rows pay for copying it out. XLA's product on a CPU
    brings its right factor into another order, each time, so a few rows stand there, and not the weight.

    Source: torch.nn.Linear, as openai/gpt-oss torch/model.py uses it.
    """
    rows = x.reshape(-1, x.shape[-1])
    factors, matrix = (weight.order(rows), weight.values) if isinstance(weight, SplitMatrix) else (rows, weight)
    if rows.shape[0] <= MOST_ROWS_ON_THE_RIGHT:
        on_cpu = _row_product if rows.shape[0] == 1 else _dot_from_the_right
        product = lax.platform_dependent(factors, matrix, cpu=on_cpu, default=_dot)
    else:
        product = _dot(factors, matrix)
    if update is not None:
        product += update.of_rows(rows)
    if total is not None:
        product = total(product)
    if bias is not None:
        product += bias.astype(jnp.float32)
    return rounded(product, x.dtype).reshape(*x.shape[:-1], weight.shape[0])


def _row_product(row: jax.Array, weight: jax.Array | StackedMatrices) -> jax.Array:
    if isinstance(weight, StackedMatrices):
        return gathered_row_products(row, weight.stack, weight.row[None])
    return row_product(row, weight)


def _dot(rows: jax.Array, weight: jax.Array | StackedMatrices) -> jax.Array:
    return _product(rows, _matrix(weight, rows))


def _dot_from_the_right(rows: jax.Array, weight: jax.Array | StackedMatrices) -> jax.Array:
    # Barrier: or XLA makes of the transposed product the one that it was to replace.
    product: jax.Array = lax.optimization_barrier(_product(_matrix(weight, rows), rows))
    return product.T


def _matrix(weight: jax.Array | StackedMatrices, rows: jax.Array) -> jax.Array:
    if isinstance(weight, StackedMatrices) and current_platform() == "cpu":
        # Barrier: copied out when the rows are there; XLA would copy all of a layer's at once, each to a new place.
        _, row = lax.optimization_barrier((rows, weight.row))
        weight = dataclasses.replace(weight, row=row)
    matrix = unstacked(weight)
    assert isinstance(matrix, jax.Array)
    return matrix.astype(rows.dtype)


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x · yᵀ`, summed in f32."""
    product: jax.Array = lax.dot_general(
        x,
        y,
        (((1,), (1,)), ((), ())),
        precision=product_precision(x.dtype),
        preferred_element_type=jnp.float32,
    )
    return product
