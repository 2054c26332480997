"""The `gathered` strategy: for few tokens, one chosen expert after the other.

A scan over the M·k assignments reads (and decodes) exactly the matrices that one token needs, so a
step of decoding costs the bytes of k experts. Two tokens with the same expert read it twice: with
more tokens than a handful, `tiled` wins. Memory: one decoded expert, and M·k rows of output.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights, apply_expert, combine_experts, has_expert

__all__ = ["gathered_moe"]


def gathered_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts; see `gptoss_model.ops.moe.MoeStrategy`."""
    M, k = indices.shape

    def compute(token: jax.Array, expert: jax.Array) -> jax.Array:
        row = lax.dynamic_slice_in_dim(x, token, 1)
        output = apply_expert(row, experts, expert, swiglu_alpha=swiglu_alpha, swiglu_limit=swiglu_limit)
        return output[0]

    def skip(_token: jax.Array, _expert: jax.Array) -> jax.Array:
        return jnp.zeros(x.shape[1], x.dtype)

    def step(carry: None, assignment: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        token, expert = assignment
        return carry, lax.cond(has_expert(expert, experts.count), compute, skip, token, expert)

    tokens = jnp.arange(M * k, dtype=jnp.int32) // k
    _, outputs = lax.scan(step, None, (tokens, indices.reshape(M * k)))
    return combine_experts(outputs.reshape(M, k, -1), weights)
