"""The linear map: accumulated in f32, rounded once."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gptoss_model.ops.rounding import rounded

__all__ = ["linear"]


def linear(
    x: Float[Array, "*rows in"], weight: Float[Array, "out in"], bias: Float[Array, " out"] | None = None
) -> Float[Array, "*rows out"]:
    """`x · weightᵀ + bias` in the dtype of x: products are summed and the bias is added in f32.

    In f32 no accelerator may fall back to fewer bits (TF32, bf16 passes), hence the precision.

    A single row in bf16 gets a row of zeros beside it. XLA's CPU backend turns a product with one
    row into one with a vector, and for that it first converts the whole matrix to f32: 44 ms
    instead of 2.8 ms for [32768, 1024] on two cores (jaxlib 0.12).

    Source: torch.nn.Linear, as openai/gpt-oss torch/model.py uses it.
    """
    weight = weight.astype(x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    is_lone_row = rows.shape[0] == 1 and x.dtype == jnp.bfloat16
    if is_lone_row:
        rows = jnp.concatenate([rows, jnp.zeros_like(rows)])
    product = lax.dot_general(
        rows,
        weight,
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST if x.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )
    if is_lone_row:
        product = product[:1]
    if bias is not None:
        product += bias.astype(jnp.float32)
    return rounded(product, x.dtype).reshape(*x.shape[:-1], weight.shape[0])
