"""The `dense` strategy: every expert on every token, added up by the router's weights.

No sorting, no gathering, no control flow that depends on the data: E/k times the arithmetic, and
its cost never varies. It is the plainest way to differentiate the experts, and what a mesh can
partition along any axis. A scan takes one expert after the other, and the backward pass computes
each anew. Memory: M·2F activations and M·D sums in f32, and one decoded expert; never [E, M, 2F].
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights, apply_expert
from gptoss_model.ops.rounding import rounded

__all__ = ["dense_moe"]


def dense_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts; see `gptoss_model.ops.moe.MoeStrategy`."""
    shares = weights.astype(jnp.float32)

    @jax.checkpoint
    def add_expert(total: jax.Array, number: jax.Array, expert: ExpertWeights) -> jax.Array:
        is_chosen = indices == number
        output = apply_expert(
            x, expert.expert(jnp.int32(0), x.dtype), swiglu_alpha=swiglu_alpha, swiglu_limit=swiglu_limit
        )
        share = jnp.where(is_chosen, shares, 0).sum(axis=1, keepdims=True)
        # Where, not times zero: what an expert makes of tokens that did not choose it may be no number.
        return total + jnp.where(is_chosen.any(axis=1, keepdims=True), output.astype(jnp.float32) * share, 0)

    def step(total: jax.Array, expert: tuple[jax.Array, ExpertWeights]) -> tuple[jax.Array, None]:
        return add_expert(total, *expert), None

    # Each slice of the scan is a mixture of one expert: its axis E stays, with the extent 1.
    one_each = jax.tree.map(lambda array: array[:, None], experts.unstacked())
    numbers = jnp.arange(experts.count, dtype=indices.dtype)
    total, _ = lax.scan(step, jnp.zeros(x.shape, jnp.float32), (numbers, one_each))
    return rounded(total, x.dtype)
