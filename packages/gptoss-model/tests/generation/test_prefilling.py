import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import decode_step, init_cache, prefill

TOLERANCE = 2e-6  # relative L2 in f32, as the full forward pass has against the official code


@pytest.fixture(scope="module")
def full_logits(model, padded):
    """Of each sequence from its first token on, with all padding behind it, where no token sees it."""

    @functools.cache
    def compute(side: str) -> np.ndarray:
        moved, behind = np.zeros_like(padded(side)[0]), np.zeros_like(padded(side)[1])
        for row, (ids, real) in enumerate(zip(*padded(side), strict=True)):
            moved[row, : real.sum()], behind[row, : real.sum()] = ids[real], True
        return np.asarray(model(moved, mask=behind).logits)

    return compute


@pytest.mark.numbers
@pytest.mark.parametrize("side", ["left", "right", "scattered"])
@pytest.mark.parametrize("pieces", [(35,), (20, 15), (1, 1, 15, 1, 15, 1, 1), (1,) * 35], ids=str)
def test_cached_logits_are_those_of_the_full_forward_pass(model, padded, full_logits, side, pieces, relative_error):
    tokens, mask = padded(side)
    lengths = mask.sum(axis=1)
    cache = init_cache(model.config, len(lengths), int(lengths.max()), jnp.float32)
    start = 0
    for size in pieces:
        part = slice(start, start + size)
        logits, cache = prefill(model, cache, tokens[:, part], mask[:, part])
        for row in np.flatnonzero(mask[:, part].any(axis=1)):
            last = mask[row, : part.stop].sum() - 1
            assert relative_error(logits[row], full_logits(side)[row][last]) < TOLERANCE
        start += size
    assert cache.lengths.tolist() == lengths.tolist()


@pytest.mark.slow
def test_decoding_past_position_4096_is_the_full_forward_pass(make_model, relative_error):
    small = make_model(num_attention_heads=2, num_key_value_heads=1)
    length, tail = 4200, 4
    tokens = np.random.default_rng(1).integers(0, 211, (1, length))
    expected = small(tokens).logits[0]
    cache = init_cache(small.config, 1, length, jnp.float32)
    for start in range(0, length - tail, 1049):
        logits, cache = prefill(small, cache, tokens[:, start : min(start + 1049, length - tail)])
    for position in range(length - tail, length):
        assert relative_error(logits[0], expected[position - 1]) < TOLERANCE
        logits, cache = decode_step(small, cache, tokens[:, position])
    assert relative_error(logits[0], expected[-1]) < TOLERANCE


def test_decode_step_in_bf16_keeps_a_bf16_cache(make_model):
    small = make_model(jnp.bfloat16)
    logits, cache = prefill(small, init_cache(small.config, 2, 4, small.dtype), np.array([[1, 2], [3, 4]]))
    logits, cache = decode_step(small, cache, logits.argmax(-1))
    assert logits.dtype == jnp.bfloat16
    assert {buffer.dtype for buffer in (*cache.keys, *cache.values)} == {jnp.dtype(jnp.bfloat16)}
    assert cache.lengths.tolist() == [3, 3]


@pytest.mark.parametrize("changes", [{"sliding_window": 5}, {"num_hidden_layers": 6}, {"num_key_value_heads": 1}, {}])
def test_cache_of_another_model_is_refused_before_it_is_used(model, changes):
    dtype = model.dtype if changes else jnp.bfloat16
    cache = init_cache(dataclasses.replace(model.config, **changes), 1, 16, dtype)
    with pytest.raises(ValueError, match=r"the cache has .*; make the cache with the model's init_cache"):
        prefill(model, cache, np.array([[1, 2]]))
    assert not cache.keys[0].is_deleted()


def test_cache_is_written_in_place(model):
    cache = init_cache(model.config, 1, 8, jnp.float32)
    before = cache.keys[1]
    _, cache = prefill(model, cache, np.array([[1, 2]]))
    assert before.is_deleted()


def test_growing_beyond_the_cache_is_refused_with_the_numbers(model):
    _, cache = prefill(model, init_cache(model.config, 1, 3, jnp.float32), np.array([[1, 2, 3]]))
    with pytest.raises(ValueError, match=r"has 3 tokens in a cache of max_length 3: 1 more make 4"):
        decode_step(model, cache, np.array([1]))


def test_decode_step_takes_one_token_a_sequence(model):
    with pytest.raises(ValueError, match=r"one token a sequence, \[B\], not \[1, 1\]"):
        decode_step(model, init_cache(model.config, 1, 3, jnp.float32), np.array([[1]]))


def test_prefill_works_inside_a_transformation_of_the_caller(model):
    @jax.jit
    def step(cache, tokens):
        return prefill(model, cache, tokens)[0]

    tokens = np.array([[1, 2, 3]])
    inside = step(init_cache(model.config, 1, 4, jnp.float32), tokens)
    outside, _ = prefill(model, init_cache(model.config, 1, 4, jnp.float32), tokens)
    np.testing.assert_allclose(inside, outside, rtol=1e-5, atol=1e-5)
