import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import bucket_length, decode_step, generate, init_cache, load_model, prefill
from gptoss_model.ops import attention
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

TOLERANCE = 2e-6  # relative L2 in f32, as the full forward pass has against the official code
LENGTHS = (35, 13, 28)  # the window is 11


@functools.cache
def model(dtype=jnp.float32, **overrides):
    """One layer of each kind, sliding and full, unless told otherwise; what is compiled for it is compiled once."""
    config = tiny_config(**{"num_hidden_layers": 2} | overrides)
    return load_model(random_checkpoint(config, seed=3), dtype=dtype)


def padded(side: str):
    """Three sequences in one batch: tokens and mask [3, 35]."""
    rng = np.random.default_rng(5)
    tokens, mask = rng.integers(0, 211, (len(LENGTHS), max(LENGTHS))), np.zeros((len(LENGTHS), max(LENGTHS)), bool)
    for row, length in enumerate(LENGTHS):
        mask[row, -length:] = True
    if side == "right":
        mask = mask[:, ::-1]
    elif side == "scattered":
        mask = rng.permuted(mask, axis=1)
    return tokens, mask


@functools.cache
def full_logits(side: str):
    """Of each sequence by itself, without padding."""
    tokens, mask = padded(side)
    return [np.asarray(model()(row[real][None]).logits[0]) for row, real in zip(tokens, mask, strict=True)]


@pytest.mark.parametrize("side", ["left", "right", "scattered"])
@pytest.mark.parametrize("chunks", [(35,), (20, 15), (1, 1, 15, 1, 15, 1, 1), (1,) * 35], ids=str)
def test_cached_logits_are_those_of_the_full_forward_pass(side, chunks, relative_error):
    tokens, mask = padded(side)
    cache = init_cache(model().config, len(LENGTHS), max(LENGTHS), jnp.float32)
    start = 0
    for size in chunks:
        part = slice(start, start + size)
        logits, cache = prefill(model(), cache, tokens[:, part], mask[:, part])
        for row in np.flatnonzero(mask[:, part].any(axis=1)):
            last = mask[row, : part.stop].sum() - 1
            assert relative_error(logits[row], full_logits(side)[row][last]) < TOLERANCE
        start += size
    assert cache.lengths.tolist() == list(LENGTHS)


@pytest.mark.slow
def test_decoding_past_position_4096_is_the_full_forward_pass(relative_error):
    small = model(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
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


def test_decode_step_in_bf16_keeps_a_bf16_cache():
    small = model(jnp.bfloat16)
    logits, cache = prefill(small, init_cache(small.config, 2, 4, small.dtype), np.array([[1, 2], [3, 4]]))
    logits, cache = decode_step(small, cache, logits.argmax(-1))
    assert logits.dtype == jnp.bfloat16
    assert {buffer.dtype for buffer in (*cache.keys, *cache.values)} == {jnp.dtype(jnp.bfloat16)}
    assert cache.lengths.tolist() == [3, 3]


def test_cache_is_written_in_place():
    cache = init_cache(model().config, 1, 8, jnp.float32)
    before = cache.keys[1]
    _, cache = prefill(model(), cache, np.array([[1, 2]]))
    assert before.is_deleted()


def test_growing_beyond_the_cache_is_refused_with_the_numbers():
    _, cache = prefill(model(), init_cache(model().config, 1, 3, jnp.float32), np.array([[1, 2, 3]]))
    with pytest.raises(ValueError, match=r"has 3 tokens in a cache of max_length 3: 1 more make 4"):
        decode_step(model(), cache, np.array([1]))


def test_decode_step_takes_one_token_a_sequence():
    with pytest.raises(ValueError, match=r"one token a sequence, \[B\], not \[1, 1\]"):
        decode_step(model(), init_cache(model().config, 1, 3, jnp.float32), np.array([[1]]))


def prompts():
    tokens, mask = padded("right")
    return [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]


def naively(prompts: list[list[int]], count: int) -> list[list[int]]:
    """The argmax of the full forward pass, over and over; three prompts, padded to 64, to compile once."""
    sequences, room = [list(prompt) for prompt in prompts], 64
    for _ in range(count):
        tokens = np.array([ids + [0] * (room - len(ids)) for ids in sequences])
        mask = np.array([np.arange(room) < len(ids) for ids in sequences])
        logits = np.asarray(model()(tokens, mask=mask).logits)
        for row, ids in enumerate(sequences):
            ids.append(int(logits[row, len(ids) - 1].argmax()))
    return [ids[len(prompt) :] for ids, prompt in zip(sequences, prompts, strict=True)]


def test_generate_is_the_argmax_of_the_full_forward_pass_for_every_prompt():
    assert generate(model(), prompts(), max_new_tokens=20) == naively(prompts(), 20)


def test_a_sequence_ends_with_its_eos_while_others_go_on():
    free = generate(model(), prompts(), max_new_tokens=20)
    eos = free[1][4]
    stopped = generate(model(), prompts(), max_new_tokens=20, eos_token_ids=[eos, 210])
    for ids, whole in zip(stopped, free, strict=True):
        ends = [index for index, token in enumerate(whole) if token in (eos, 210)]
        assert ids == (whole[: ends[0] + 1] if ends else whole)
    assert len(stopped[1]) <= 5


def test_fewer_tokens_are_a_beginning_of_more():
    short, long = (generate(model(), prompts(), max_new_tokens=n) for n in (1, 7))
    assert [ids[:1] for ids in long] == short
    assert generate(model(), prompts(), max_new_tokens=0) == [[], [], []]


def test_prompts_longer_than_a_chunk_are_fed_in_chunks(monkeypatch):
    monkeypatch.setattr("gptoss_model.generation.PREFILL_CHUNK", 32)  # 512 compiles longer and shows no more
    long = np.random.default_rng(2).integers(0, 211, 60).tolist()
    mixed = [long, long[:9], long[:32]]
    assert generate(model(), mixed, max_new_tokens=3) == naively(mixed, 3)


def test_lengths_of_one_bucket_compile_once(monkeypatch):
    traces = []
    monkeypatch.setattr("gptoss_model.ops.attention", lambda *a, **k: traces.append(1) or attention(*a, **k))
    small = model(num_hidden_layers=1, vocab_size=67)
    counts = []
    for length in (3, 9, 4, 5, 16):
        generate(small, [[1] * length], max_new_tokens=1 + length % 3)
        counts.append(len(traces))
    assert counts[0] > 0
    assert counts[1:4] == counts[:1] * 3
    assert counts[4] > counts[3], "the cache of 16 + 2 tokens is another bucket"


@pytest.mark.parametrize(
    ("length", "bucket"), [(1, 16), (16, 16), (17, 32), (512, 512), (513, 1024), (1025, 1536), (4200, 4608)]
)
def test_buckets_are_powers_of_two_and_then_multiples_of_512(length, bucket):
    assert bucket_length(length) == bucket


@pytest.mark.parametrize("bad", [[], [[]], [[1], []]])
def test_empty_prompts_are_refused(bad):
    with pytest.raises(ValueError, match="at least one prompt, and at least one token in each"):
        generate(model(), bad, max_new_tokens=3)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="max_new_tokens is at least 0, not -1"):
        generate(model(), [[1]], max_new_tokens=-1)
    with pytest.raises(ValueError, match="token id 211"):
        generate(model(), [[211]], max_new_tokens=1)


def test_prefill_works_inside_a_transformation_of_the_caller():
    @jax.jit
    def step(cache, tokens):
        return prefill(model(), cache, tokens)[0]

    tokens = np.array([[1, 2, 3]])
    inside = step(init_cache(model().config, 1, 4, jnp.float32), tokens)
    outside, _ = prefill(model(), init_cache(model().config, 1, 4, jnp.float32), tokens)
    np.testing.assert_allclose(inside, outside, rtol=1e-5, atol=1e-5)
