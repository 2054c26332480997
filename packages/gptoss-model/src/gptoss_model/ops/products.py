"""Products that are summed in f32, whatever they multiply.

In f32 no accelerator may fall back to fewer bits (TF32, passes of bf16); narrower factors are exact in any case.
"""

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

__all__ = ["einsum_in_f32", "kernel_precision", "product_precision"]


def einsum_in_f32(equation: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """`jnp.einsum` of two arrays of one dtype; the result is f32."""
    return jnp.einsum(equation, x, y, precision=product_precision(x.dtype), preferred_element_type=jnp.float32)


def product_precision(dtype: DTypeLike) -> lax.Precision | None:
    """The precision to ask for where factors have this dtype."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else None


def kernel_precision(dtype: DTypeLike) -> AbstractContextManager[object]:
    """The same as a context, for kernels that have no argument for it."""
    context: AbstractContextManager[object] = jax.default_matmul_precision(
        "highest" if dtype == jnp.float32 else "default"
    )
    return context
