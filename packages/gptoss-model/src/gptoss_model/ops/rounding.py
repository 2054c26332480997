"""Rounding that the compiler may not skip.

Inside a fusion XLA is free to drop a conversion to bf16 and back. The same layer would then give
other numbers in a program that returns its intermediates than in one that does not, and near ties
in the router would fall otherwise. So every cast that the official code makes is made explicit; in
f32 nothing happens here.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

__all__ = ["add_rounded", "rounded"]

BF16_BITS = 16  # the upper half of a float32
BF16_HALF_STEP = 0x7FFF  # a bit less than half of a bfloat16's last place; with the last bit kept, ties go to even
BF16_NAN = 0x7FC0


def rounded(x: Float[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """The values in `dtype`, really rounded to it, to nearest even."""
    if x.dtype == jnp.float32 and jnp.dtype(dtype) == jnp.bfloat16:
        nearest: jax.Array = _round_to_bf16(x)
        return nearest
    return x.astype(dtype)


def add_rounded(x: Float[Array, "*leading last"], y: Float[Array, "... last"]) -> Float[Array, "*leading last"]:
    """`x + y`, rounded to the dtype of x; y may lack leading axes."""
    return rounded(x.astype(jnp.float32) + y.astype(jnp.float32), x.dtype)


@jax.custom_jvp
def _round_to_bf16(x: jax.Array) -> jax.Array:
    """By integers, on the bits: nothing that a compiler could drop, and on CPUs faster than its own conversion."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    upper = lax.shift_right_logical(bits, jnp.uint32(BF16_BITS))
    nearest = lax.shift_right_logical(bits + BF16_HALF_STEP + (upper & 1), jnp.uint32(BF16_BITS))
    return lax.bitcast_convert_type(jnp.where(jnp.isnan(x), BF16_NAN, nearest).astype(jnp.uint16), jnp.bfloat16)


@_round_to_bf16.defjvp
def _round_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    [x], [tangent] = primals, tangents
    return _round_to_bf16(x), tangent.astype(jnp.bfloat16)
