"""RMSNorm: computed in f32 with an f32 scale, whatever the dtype of the activations."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gptoss_model.ops.rounding import rounded

__all__ = ["rms_norm"]


def rms_norm(x: Float[Array, "*rows D"], scale: Float[Array, " D"], *, eps: float) -> Float[Array, "*rows D"]:
    """`x / sqrt(mean(x²) + eps) · scale` over the last axis, rounded back to the dtype of x at the end.

    The backward pass keeps x alone.

    Source: openai/gpt-oss torch/model.py, `RMSNorm`.
    """

    @jax.checkpoint
    def normalised(x: jax.Array, scale: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        wide *= lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
        return rounded(wide * scale.astype(jnp.float32), x.dtype)

    result: jax.Array = normalised(x, scale)
    return result
