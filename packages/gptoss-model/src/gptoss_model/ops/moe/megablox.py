"""The `megablox` strategy: sorted rows and the Pallas grouped product that ships with JAX for TPUs.

The kernel wants rows in whole tiles, so they are padded with zeros behind the last run; it masks
what sticks out of a matrix itself. What it leaves unwritten behind the last run is ignored, and by
zero rows there its gradient is, too. Elsewhere than on a TPU it can only be interpreted, thousands
of times slower: `megablox-interpret` does that, to test it.

Source: jax.experimental.pallas.ops.tpu.megablox.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights
from gptoss_model.ops.moe.grouped import grouped_moe
from gptoss_model.ops.products import kernel_precision

__all__ = ["megablox_moe"]

LANES = 128  # a TPU register's columns: the least that a tile can hold on either side
LARGEST_TILE_ROWS = 512
LARGEST_TILE_COLUMNS = 1024


def megablox_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
    interpret: bool = False,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts; see `gptoss_model.ops.moe.MoeStrategy`.

    With `interpret` the kernel runs as plain operations, on any platform.
    """
    run = functools.partial(grouped_moe, product=functools.partial(_megablox_product, interpret=interpret))
    return run(x, indices, weights, experts, swiglu_alpha=swiglu_alpha, swiglu_limit=swiglu_limit)


def _megablox_product(rows: jax.Array, matrices: jax.Array, runs: jax.Array, *, interpret: bool) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.megablox import gmm

    E, out, width = matrices.shape
    tile_rows = _tile(-(-rows.shape[0] // E), LARGEST_TILE_ROWS)
    tiling = (tile_rows, _tile(width, LARGEST_TILE_COLUMNS), _tile(out, LARGEST_TILE_COLUMNS))
    padded = jnp.pad(rows, ((0, -rows.shape[0] % tile_rows), (0, 0)))
    with kernel_precision(rows.dtype):
        products: jax.Array = gmm(padded, matrices, runs, jnp.float32, tiling, transpose_rhs=True, interpret=interpret)
    return products[: rows.shape[0]]


def _tile(extent: int, largest: int) -> int:
    """The power of two that holds the extent, between a register's columns and the largest."""
    return min(max(1 << (extent - 1).bit_length(), LANES), largest)
