"""Quantisation-aware training: experts rounded to MXFP4 in the forward pass, the gradient straight through.

The rounding is that of `gptoss_weights.encode_mxfp4` and its decoder, value by value (both rules of
scales), so that what is trained is what is exported.

Source: OCP Microscaling Formats (MX) v1.0, section 6.3; Bengio et al. (arXiv:1308.3432) for the gradient.
"""

import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from gptoss_weights import FP4_VALUES, MXFP4_BLOCK_SIZE
from jaxtyping import Array, Float

__all__ = ["fake_quantized", "rounded_once", "straight_through"]

MAGNITUDES = tuple(FP4_VALUES[:8])
LARGEST_EXPONENT = 2  # of 6 = 1.5 · 2²
SMALLEST_EXPONENT = -126  # below, XLA flushes; encode_mxfp4 goes down to 2^-127 and its subnormals


def straight_through(weights: Float[Array, "... in"]) -> Float[Array, "... in"]:
    """The weights as MXFP4 holds them; their gradient is that of the result."""
    # In this order the sum is exact: the second term is zero.
    return jax.lax.stop_gradient(fake_quantized(weights)) + (weights - jax.lax.stop_gradient(weights))


def rounded_once(weights: Float[Array, "first ... in"]) -> Float[Array, "first ... in"]:
    """The weights as MXFP4 holds them, where they stand on a mesh: of what is frozen, and so the same at every step.

    One entry of the first axis after the other, for of a whole stack the search for scales would take several times
    its memory.
    """
    rounded: jax.Array = jax.jit(
        lambda stack: jax.lax.map(fake_quantized, stack), out_shardings=weights.sharding, donate_argnums=0
    )(weights)
    return rounded


def fake_quantized(weights: Float[Array, "... in"], *, scale: Literal["max", "mse"] = "mse") -> Float[Array, "... in"]:
    """The values that the weights have after MXFP4, in their own dtype; `scale` as in `encode_mxfp4`."""
    blocks = weights.astype(jnp.float32).reshape(*weights.shape[:-1], -1, MXFP4_BLOCK_SIZE)
    largest = jnp.abs(blocks).max(axis=-1, keepdims=True)
    _, exponent = jnp.frexp(largest)  # largest = m · 2^exponent with 0.5 ≤ m < 1
    exponent = jnp.maximum(exponent - 1 - LARGEST_EXPONENT, SMALLEST_EXPONENT)
    smaller = _on_grid(blocks, exponent)
    if scale == "max":
        return smaller.reshape(weights.shape).astype(weights.dtype)
    larger = _on_grid(blocks, exponent + 1)
    unit = jnp.ldexp(jnp.float32(1), -exponent)

    def error(values: jax.Array) -> jax.Array:
        return jnp.square((values - blocks) * unit).sum(axis=-1, keepdims=True)

    chosen = jnp.where(error(larger) < error(smaller), larger, smaller)
    return chosen.reshape(weights.shape).astype(weights.dtype)


def _on_grid(blocks: jax.Array, exponent: jax.Array) -> jax.Array:
    """The nearest values of the grid with that power of two, ties to the even code."""
    unit = jnp.ldexp(jnp.float32(1), exponent)
    sizes = jnp.abs(blocks) / unit
    codes = jnp.zeros(blocks.shape, jnp.int32)
    for code, (lower, upper) in enumerate(itertools.pairwise(MAGNITUDES)):
        middle = (lower + upper) / 2
        codes += (sizes >= middle) if code % 2 else (sizes > middle)
    return jnp.sign(blocks) * jnp.asarray(MAGNITUDES, jnp.float32)[codes] * unit
