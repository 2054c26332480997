"""Rotary position embedding: angles in f32, rotation of halves in the dtype of the activations."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gptoss_model.ops.rounding import rounded

__all__ = ["apply_rope", "rope_cos_sin"]


def rope_cos_sin(
    positions: Int[Array, "B T"],
    inverse_frequencies: Float[Array, " half"],
    *,
    concentration: float,
    dtype: DTypeLike,
) -> tuple[Float[Array, "B T half"], Float[Array, "B T half"]]:
    """Cosine and sine of position × frequency, times the YaRN concentration.

    The angle is a product of two f32 numbers, as in the official code; an exact angle would be
    further from its logits. Rounding to `dtype` comes last.

    Source: openai/gpt-oss torch/model.py, `_compute_cos_sin` and `_apply_rotary_emb`.
    """
    angles = positions.astype(jnp.float32)[..., None] * inverse_frequencies
    return rounded(jnp.cos(angles) * concentration, dtype), rounded(jnp.sin(angles) * concentration, dtype)


@jax.custom_vjp
def apply_rope(
    x: Float[Array, "B T heads H"], cos: Float[Array, "B T half"], sin: Float[Array, "B T half"]
) -> Float[Array, "B T heads H"]:
    """Rotates each pair (a, b) to (a·cos − b·sin, b·cos + a·sin); a is in the first half of H, b in the second.

    Backwards it is the rotation by the opposite angles. There is no gradient for those: they follow from positions.

    Source: openai/gpt-oss torch/model.py, `_apply_rotary_emb`.
    """
    # Barrier: both halves read both halves, and whatever x comes from would be computed for each of them.
    return _rotate(lax.optimization_barrier(x), cos, sin)


def _forward(x: jax.Array, cos: jax.Array, sin: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Barrier: attention uses it in one shape and keeps it in another, and it would be computed for each.
    turned: jax.Array = lax.optimization_barrier(apply_rope(x, cos, sin))
    return turned, (cos, sin)


def _backward(angles: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, None, None]:
    cos, sin = angles
    return _rotate(gradient, cos, -sin), None, None


apply_rope.defvjp(_forward, _backward)


def _rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = (turn.astype(jnp.float32)[..., None, :] for turn in (cos, sin))  # the same for every head

    def product(half: jax.Array, turn: jax.Array) -> jax.Array:
        return rounded(half * turn, x.dtype).astype(jnp.float32)

    turned = product(a, cos) - product(b, sin), product(b, cos) + product(a, sin)
    # Stacked, not concatenated: on CPUs a third of the time, for each half then is a loop of its own.
    return jnp.stack([rounded(half, x.dtype) for half in turned], axis=-2).reshape(x.shape)
