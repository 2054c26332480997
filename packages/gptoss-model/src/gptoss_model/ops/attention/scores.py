"""Scores of queries and keys, as every strategy computes them that is no kernel of its own."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gptoss_model.ops.attention.visibility import visible_keys
from gptoss_model.ops.rounding import rounded

__all__ = ["visible_scores"]


def visible_scores(
    products: Float[Array, "B K G T S"],
    query_positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    *,
    head_dim: int,
    dtype: DTypeLike,
    window: int | Int[Array, ""] | None,
    query_segments: Int[Array, "B T"] | None = None,
    key_segments: Int[Array, "B S"] | None = None,
) -> Float[Array, "B K G T S"]:
    """`q·k / sqrt(H)` in f32, −∞ where a query does not see a key.

    The product and the scaled product are each rounded to the dtype of the queries, of which G share a key head.

    Source: openai/gpt-oss torch/model.py, `sdpa`.
    """
    scores = rounded(products, dtype).astype(jnp.float32)
    scores = rounded(scores * head_dim**-0.5, dtype).astype(jnp.float32)
    visible = visible_keys(
        query_positions, key_positions, window=window, query_segments=query_segments, key_segments=key_segments
    )
    return jnp.where(visible[:, None, None], scores, -jnp.inf)
