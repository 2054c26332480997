"""Rounding that the compiler may not skip.

Inside a fusion XLA is free to drop a conversion to bf16 and back. The same layer would then give
other numbers in a program that returns its intermediates than in one that does not, and near ties
in the router would fall otherwise. So every cast that the official code makes is made explicit; in
f32 nothing happens here.
"""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

__all__ = ["add_rounded", "rounded"]

BF16_EXPONENT_BITS = 8
BF16_MANTISSA_BITS = 7


def rounded(x: Float[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """The values in `dtype`, really rounded to it, to nearest even."""
    if jnp.dtype(dtype) == jnp.bfloat16:
        x = lax.reduce_precision(x, BF16_EXPONENT_BITS, BF16_MANTISSA_BITS)
    return x.astype(dtype)


def add_rounded(x: Float[Array, "*leading last"], y: Float[Array, "... last"]) -> Float[Array, "*leading last"]:
    """`x + y`, rounded to the dtype of x; y may lack leading axes."""
    return rounded(x.astype(jnp.float32) + y.astype(jnp.float32), x.dtype)
