"""The logits of a prompt in bounded memory: some positions at a time, for looking at them and for files.

All logits of a long prompt are large (800 MB in float32 for 1000 tokens of the published
vocabulary), so they are unembedded and handed over in slabs of few positions.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gptoss_model.generation.flat_model import FlatModel
from gptoss_model.generation.lengths import bucket_length
from gptoss_model.generation.prefilling import SCORED_POSITIONS, prompt_pieces
from gptoss_model.generation.request import check_prompt
from gptoss_model.kv_cache import KVCache
from gptoss_model.model import GptOss
from gptoss_model.sharding.hosts import host_array

__all__ = ["prompt_logits"]


def prompt_logits(
    model: GptOss, prompt: Sequence[int], *, first: int = 0, prefill_length: int | None = None
) -> Iterator[Float[np.ndarray, "rows V"]]:
    """The logits of every position of a prompt, a few positions at a time, in f32.

    Args:
        model: The model.
        prompt: Token ids, at least one.
        first: The position to begin with; −1 is the last.
        prefill_length: As in `complete`.

    Returns:
        An iterator over arrays of consecutive positions; `np.concatenate` makes one of them.

    Raises:
        ValueError: the prompt is empty, holds an id outside the vocabulary, or has no position `first`.
    """
    ids = check_prompt(prompt, 0, model.config.vocab_size)
    if not -len(ids) <= first < len(ids):
        raise ValueError(f"a prompt of {len(ids)} tokens has no position {first}")
    return _slabs(model, ids, first % len(ids), prefill_length)


def _slabs(model: GptOss, prompt: list[int], first: int, prefill_length: int | None) -> Iterator[np.ndarray]:
    flat = FlatModel.of(model)
    cache = model.init_cache(1, bucket_length(len(prompt)))
    for piece in prompt_pieces([prompt], prefill_length):
        x, cache = _extend(flat, cache, jnp.asarray(piece.tokens), jnp.asarray(piece.mask))
        count = int(piece.mask.sum())
        for start in range(max(first, 0), count, SCORED_POSITIONS):
            # A slab at the end begins before its first new row, so that all have one shape.
            begin = max(0, min(start, x.shape[1] - SCORED_POSITIONS))
            rows = host_array(_unembed(flat, x, jnp.int32(begin)))
            yield rows[start - begin : min(count, start + SCORED_POSITIONS) - begin]
        first -= count


@functools.partial(jax.jit, donate_argnames=("cache",))
def _extend(
    model: FlatModel, cache: KVCache, tokens: Int[Array, "1 T"], mask: Bool[Array, "1 T"]
) -> tuple[Float[Array, "1 T D"], KVCache]:
    return model.whole().extend(tokens, mask, cache)


@jax.jit
def _unembed(model: FlatModel, x: Float[Array, "1 T D"], start: Int[Array, ""]) -> Float[Array, "rows V"]:
    rows = min(x.shape[1], SCORED_POSITIONS)
    slab = jax.lax.dynamic_slice_in_dim(x[0], start, rows)
    return model.whole().unembed(slab[None])[0].astype(jnp.float32)
