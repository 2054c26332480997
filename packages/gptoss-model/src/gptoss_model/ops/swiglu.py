"""SwiGLU as GPT-OSS has it: clamped, with interleaved gate and up, and one added to up."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["swiglu"]


def swiglu(x: Float[Array, "*rows gate_up"], *, alpha: float, limit: float) -> Float[Array, "*rows F"]:
    """`gate·sigmoid(alpha·gate)·(up + 1)`; gate in the even entries, up in the odd ones.

    The gate is clamped from above only, `up` on both sides.

    Source: openai/gpt-oss torch/model.py, `swiglu`.
    """
    gate = jnp.minimum(x[..., ::2], limit)
    up = jnp.clip(x[..., 1::2], -limit, limit)
    return gate * jax.nn.sigmoid(alpha * gate) * (up + 1)
