"""The `gathered` strategy: for few tokens, each assignment on its own.

Each of the M·k assignments reads (and decodes) exactly the matrices that it needs, so a step of
decoding costs the bytes of k experts. Two tokens with the same expert read it twice: with more
tokens than a handful, `tiled` wins. Memory: M·k rows; on accelerators one decoded expert.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights, apply_experts_to_rows, combine_experts, has_expert

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
    chosen = indices.reshape(M * k)
    outputs = apply_experts_to_rows(
        jnp.repeat(x, k, axis=0),
        experts,
        jnp.clip(chosen, 0, experts.count - 1),
        swiglu_alpha=swiglu_alpha,
        swiglu_limit=swiglu_limit,
    )
    outputs = jnp.where(has_expert(chosen, experts.count)[:, None], outputs, 0)
    return combine_experts(outputs.reshape(M, k, -1), weights)
