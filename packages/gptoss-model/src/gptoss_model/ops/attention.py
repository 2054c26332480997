"""Attention with sinks, the reference: every score at once, masked by positions.

Memory: the scores, B·N·T·S numbers. Which key a query may see is decided by positions alone, never
by where a row stands; so padding on either side, ring buffers and chunks need no further code.
A negative position marks a row that is no token: as a key nobody sees it, as a query it sees
nothing and yields zeros (the sink takes all its weight).
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gptoss_model.ops.rounding import rounded

__all__ = ["attention", "visible_keys"]


def visible_keys(
    query_positions: Int[Array, "B T"], key_positions: Int[Array, "B S"], *, window: int | None
) -> Bool[Array, "B T S"]:
    """Whether a query sees a key: a real one, not in its future, and among the last `window` positions.

    With window W the query at position p sees p − W + 1 … p, W keys with its own.

    Source: openai/gpt-oss torch/model.py, `sdpa`.
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    visible = (key >= 0) & (key <= query)
    return visible if window is None else visible & (key > query - window)


def attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"],
    v: Float[Array, "B S K H"],
    sinks: Float[Array, " N"],
    *,
    query_positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    window: int | None,
) -> Float[Array, "B T N H"]:
    """Softmax over the visible scores and the sink, which contributes no value: Σ p·v.

    `p = exp(s) / (Σ exp(s) + exp(sink))` with `s = q·k / sqrt(H)`; query head n uses the kv head
    n // (N // K). Scores and probabilities are rounded to the dtype of q, the softmax runs in f32.

    Args:
        q: Rotated queries.
        k: Rotated keys.
        v: Values.
        sinks: One logit a query head.
        query_positions: Positions of the queries; negative where there is no token.
        key_positions: Positions of the keys; negative where there is no token.
        window: How many keys a query sees, or None for all.

    Source: openai/gpt-oss torch/model.py, `sdpa`.
    """
    B, T, N, H = q.shape
    K = k.shape[2]
    dtype = q.dtype
    precision = lax.Precision.HIGHEST if dtype == jnp.float32 else None
    grouped = q.reshape(B, T, K, N // K, H)
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, k, precision=precision, preferred_element_type=jnp.float32)
    scores = rounded(rounded(scores, dtype).astype(jnp.float32) * H**-0.5, dtype).astype(jnp.float32)
    visible = visible_keys(query_positions, key_positions, window=window)
    logits = jnp.where(visible[:, None, None], scores, -jnp.inf)
    sink = sinks.astype(jnp.float32).reshape(K, N // K, 1, 1)
    highest = lax.stop_gradient(jnp.maximum(logits.max(axis=-1, keepdims=True), sink))
    exponentials = jnp.exp(logits - highest)
    total = exponentials.sum(axis=-1, keepdims=True) + jnp.exp(sink - highest)
    probabilities = rounded(exponentials / total, dtype)
    mixed = jnp.einsum("BKGTS,BSKH->BTKGH", probabilities, v, precision=precision, preferred_element_type=jnp.float32)
    return rounded(mixed.reshape(B, T, N, H), dtype)
