"""The `splash` strategy: JAX's Pallas kernel for TPUs, which takes sinks, values and gradients alike.

The kernel knows rows, not positions: its causal and sliding masks are fixed when it is compiled. It
fits where queries and keys are the same rows (a forward pass without a cache) and the tokens of each
sequence, or of each document that is packed into it, stand in one run, padding on either side. The
first is known at once, the second when it runs; where either does not hold, `blockwise` answers
instead, so the result is exact for any positions. Rows are padded to whole blocks, and padding is a
segment of its own that no token sees.

Elsewhere than on a TPU the kernel can only be interpreted: `splash-interpret` does that, to test it.

Source: jax.experimental.pallas.ops.tpu.splash_attention.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.attention.blockwise import blockwise_attention
from gptoss_model.ops.attention.stacked import StackedRows, unstacked_rows
from gptoss_model.ops.products import kernel_precision
from gptoss_model.ops.rounding import rounded

__all__ = ["is_one_run", "splash_attention"]

SMALLEST_BLOCK = 128  # a TPU register's columns
LARGEST_BLOCK = 512
NO_SEGMENT = 0  # padding


def splash_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"] | StackedRows,
    v: Float[Array, "B S K H"] | StackedRows,
    sinks: Float[Array, " N"],
    *,
    query_positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    window: int | Int[Array, ""] | None,
    segments: Int[Array, "B T"] | None = None,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """Softmax over the visible keys and the sink; see `gptoss_model.ops.attention.AttentionStrategy`.

    With `interpret` the kernel runs as plain operations, on any platform.

    Raises:
        ValueError: the window is an array.
    """
    if isinstance(window, jax.Array):
        raise ValueError("the kernel must know its window when it is compiled; an array is known when it runs")
    by_blocks = functools.partial(
        blockwise_attention,
        query_positions=query_positions,
        key_positions=key_positions,
        window=window,
        segments=segments,
    )
    if q.shape[1] != k.shape[1]:
        return by_blocks(q, k, v, sinks)
    is_real = query_positions >= 0
    kernel_segments = jnp.where(is_real, 1 if segments is None else segments, NO_SEGMENT)

    def by_kernel(q: jax.Array, k: jax.Array, v: jax.Array, sinks: jax.Array) -> jax.Array:
        return _by_kernel(q, k, v, sinks, is_real, kernel_segments, window=window, interpret=interpret)

    fits = is_one_run(query_positions, segments) & (query_positions == key_positions).all()
    out: jax.Array = lax.cond(fits, by_kernel, by_blocks, q, unstacked_rows(k), unstacked_rows(v), sinks)
    return out


def is_one_run(positions: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """Whether in every sequence row and position advance together over all tokens, so that distances agree.

    With segments: over the tokens of each segment, whose numbers are positive and do not decrease along the row.
    """
    is_real = positions >= 0
    rows = jnp.arange(positions.shape[1])
    offsets = positions - rows
    if segments is None:
        first = jnp.take_along_axis(offsets, is_real.argmax(axis=1)[:, None], axis=1)
        return (~is_real | (offsets == first)).all()
    highest = lax.cummax(jnp.where(is_real, segments, 0), axis=1)
    begins = is_real & (highest > jnp.pad(highest, ((0, 0), (1, 0)))[:, :-1])
    first_row = lax.cummax(jnp.where(begins, rows, 0), axis=1)
    first = jnp.take_along_axis(offsets, first_row, axis=1)
    return (~is_real | ((offsets == first) & (segments == highest) & (segments > NO_SEGMENT))).all()


def _by_kernel(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    sinks: jax.Array,
    is_real: jax.Array,
    segments: jax.Array,
    *,
    window: int | None,
    interpret: bool,
) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    T, N, H = q.shape[1:]
    block = min(max(1 << (T - 1).bit_length(), SMALLEST_BLOCK), LARGEST_BLOCK)
    room = -(-T // block) * block
    mask = (
        splash.CausalMask((room, room))
        if window is None
        else splash.LocalMask((room, room), window_size=(window - 1, 0), offset=0)
    )
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * N),
        block_sizes=splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_kv_compute=block,
            block_q_dkv=block,
            block_kv_dkv=block,
            block_kv_dkv_compute=block,
            block_q_dq=block,
            block_kv_dq=block,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
        heads_first = (jnp.pad(array, ((0, room - T), (0, 0), (0, 0))).swapaxes(0, 1) for array in (q, k, v))
        segments = jnp.pad(segments, (0, room - T))
        out: jax.Array = kernel(*heads_first, segment_ids=splash.SegmentIds(segments, segments), sinks=sinks)
        return out.swapaxes(0, 1)[:T]

    scaled = rounded(q.astype(jnp.float32) * H**-0.5, q.dtype)
    with kernel_precision(q.dtype):
        out = jax.vmap(attend)(scaled, k, v, segments.astype(jnp.int32))
    return jnp.where(is_real[..., None, None], out, 0)
