"""SwiGLU as GPT-OSS has it: clamped, with interleaved gate and up, and one added to up."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gptoss_model.ops.rounding import rounded

__all__ = ["swiglu"]


def swiglu(x: Float[Array, "*rows gate_up"], *, alpha: float, limit: float) -> Float[Array, "*rows F"]:
    """`gate·sigmoid(alpha·gate)·(up + 1)`; gate in the even entries, up in the odd ones.

    The gate is clamped from above only, `up` on both sides. Each step is rounded to the dtype of x.

    Source: openai/gpt-oss torch/model.py, `swiglu`.
    """

    def step(value: Array) -> Array:
        return rounded(value, x.dtype).astype(jnp.float32)

    gate = jnp.minimum(x[..., ::2].astype(jnp.float32), limit)
    up = jnp.clip(x[..., 1::2].astype(jnp.float32), -limit, limit)
    slope = step(jax.nn.sigmoid(step(alpha * gate)))
    return rounded(step(gate * slope) * step(up + 1), x.dtype)
