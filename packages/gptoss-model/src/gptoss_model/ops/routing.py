"""Routing: which experts a token goes to, and with what weights.

The backward pass is written out: it keeps the choice and its probabilities, and puts each gradient in its column
by comparing, where JAX would keep the softmax in parts and scatter.
"""

import functools
from typing import Any

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
    indices, probabilities = _choose(logits, experts_per_token)
    return indices, rounded(probabilities, logits.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _choose(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The indices, and the softmax in f32."""
    values, indices = lax.top_k(logits, k)
    return indices, jax.nn.softmax(values.astype(jnp.float32), axis=-1)


type Saved = tuple[jax.Array, jax.Array, jax.Array]  # the choice, and nothing in the shape and dtype of the logits


def _forward(logits: jax.Array, k: int) -> tuple[tuple[jax.Array, jax.Array], Saved]:
    indices, probabilities = _choose(logits, k)
    return (indices, probabilities), (indices, probabilities, jnp.zeros((logits.shape[-1], 0), logits.dtype))


def _backward(_: int, saved: Saved, gradients: tuple[Any, jax.Array]) -> tuple[jax.Array]:
    indices, probabilities, like = saved
    weighed = gradients[1] * probabilities
    d_values = weighed - probabilities * weighed.sum(axis=-1, keepdims=True)
    is_chosen = indices[..., None] == jnp.arange(like.shape[0])
    return (jnp.where(is_chosen, d_values[..., None], 0).sum(axis=-2).astype(like.dtype),)


_choose.defvjp(_forward, _backward)
