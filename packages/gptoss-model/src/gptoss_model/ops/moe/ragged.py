"""The `ragged` strategy: sorted rows and `jax.lax.ragged_dot`, XLA's own grouped product.

For accelerators: on a CPU XLA masks a copy of the rows for every expert, E times the arithmetic
and E·M·k·D numbers (measured at 20b size: slower than `dense`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights
from gptoss_model.ops.moe.grouped import grouped_moe
from gptoss_model.ops.products import product_precision

__all__ = ["ragged_moe"]


def ragged_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts; see `gptoss_model.ops.moe.MoeStrategy`."""
    run = functools.partial(grouped_moe, product=_ragged_product)
    return run(x, indices, weights, experts, swiglu_alpha=swiglu_alpha, swiglu_limit=swiglu_limit)


def _ragged_product(rows: jax.Array, matrices: jax.Array, runs: jax.Array) -> jax.Array:
    return lax.ragged_dot(
        rows,
        matrices.swapaxes(1, 2),
        runs,
        precision=product_precision(rows.dtype),
        preferred_element_type=jnp.float32,
    )
