"""RMSNorm: computed in f32 with an f32 scale, whatever the dtype of the activations."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gptoss_model.ops.rounding import rounded

__all__ = ["rms_norm"]


def rms_norm(x: Float[Array, "*rows D"], scale: Float[Array, " D"], *, eps: float) -> Float[Array, "*rows D"]:
    """`x / sqrt(mean(x²) + eps) · scale` over the last axis, rounded back to the dtype of x at the end.

    The backward pass keeps the arguments alone.

    Source: openai/gpt-oss torch/model.py, `RMSNorm`.
    """
    return _normalise(x, scale, eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _normalise(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    return rounded(_normal(x, eps)[0] * scale.astype(jnp.float32), x.dtype)


def _forward(x: jax.Array, scale: jax.Array, eps: float) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _normalise(x, scale, eps), (x, scale)


def _backward(eps: float, saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With n = x·r of norm 1: ∂x = r·(∂n − n·mean(∂n·n)), for what grows along n is taken away again."""
    x, scale = saved
    normal, factor = _normal(x, eps)
    wide = gradient.astype(jnp.float32)
    d_normal = wide * scale.astype(jnp.float32)
    along = jnp.mean(d_normal * normal, axis=-1, keepdims=True)
    d_scale = (wide * normal).sum(axis=tuple(range(x.ndim - 1)))
    return (factor * (d_normal - normal * along)).astype(x.dtype), d_scale.astype(scale.dtype)


def _normal(x: jax.Array, eps: float) -> tuple[jax.Array, jax.Array]:
    """The rows with a mean square of 1, and what they were multiplied by."""
    wide = x.astype(jnp.float32)
    factor = lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return wide * factor, factor


_normalise.defvjp(_forward, _backward)
