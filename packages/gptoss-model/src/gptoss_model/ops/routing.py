"""Routing: which experts a token goes to, and with what weights."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.rounding import rounded

__all__ = ["route_tokens"]


def route_tokens(
    logits: Float[Array, "*tokens E"], *, experts_per_token: int
) -> tuple[Int[Array, "*tokens k"], Float[Array, "*tokens k"]]:
    """The k best experts of each token, best first, and the softmax over those k alone.

    The softmax runs in f32 and is rounded to the dtype of the logits, as torch does it.

    Returns:
        Indices (int32) and weights.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    values, indices = lax.top_k(logits, experts_per_token)
    return indices, rounded(jax.nn.softmax(values.astype(jnp.float32), axis=-1), logits.dtype)
