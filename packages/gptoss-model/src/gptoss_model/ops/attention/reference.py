"""The `reference` strategy: every score at once, in the steps of the official code.

Memory: the scores, B·N·T·S numbers, several times over.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.attention.scores import visible_scores
from gptoss_model.ops.attention.stacked import StackedRows, unstacked_rows
from gptoss_model.ops.products import einsum_in_f32
from gptoss_model.ops.rounding import rounded

__all__ = ["reference_attention"]


def reference_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"] | StackedRows,
    v: Float[Array, "B S K H"] | StackedRows,
    sinks: Float[Array, " N"],
    *,
    query_positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    window: int | Int[Array, ""] | None,
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """Softmax over the visible keys and the sink; see `gptoss_model.ops.attention.AttentionStrategy`.

    Source: openai/gpt-oss torch/model.py, `sdpa`.
    """
    k, v = unstacked_rows(k), unstacked_rows(v)
    B, T, N, H = q.shape
    K = k.shape[2]
    logits = visible_scores(
        einsum_in_f32("BTKGH,BSKH->BKGTS", q.reshape(B, T, K, N // K, H), k),
        query_positions,
        key_positions,
        head_dim=H,
        dtype=q.dtype,
        window=window,
        query_segments=segments,
        key_segments=segments,
    )
    sink = sinks.astype(jnp.float32).reshape(K, N // K, 1, 1)
    highest = lax.stop_gradient(jnp.maximum(logits.max(axis=-1, keepdims=True), sink))
    exponentials = jnp.exp(logits - highest)
    total = exponentials.sum(axis=-1, keepdims=True) + jnp.exp(sink - highest)
    mixed = einsum_in_f32("BKGTS,BSKH->BTKGH", rounded(exponentials / total, q.dtype), v)
    return rounded(mixed.reshape(B, T, N, H), q.dtype)
