"""Contexts beyond 4096 positions, up to the last one of the published models."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import GptOss, KVCache, load_model, prefill
from gptoss_model.generation.decoding import Rules, begin, decode
from gptoss_model.generation.flat_model import FlatModel
from gptoss_model.generation.prefilling import extend_cache
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

pytestmark = pytest.mark.slow

LONGEST = 131072
F32_TOLERANCE = 2e-6
READ_ONLY = {"xla_backend_optimization_level": 0}  # programs that never run: the same text and memory, sooner compiled


@functools.cache
def model(attention: str = "auto", *, scan_layers: bool = False) -> GptOss:
    config = tiny_config(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    checkpoint = random_checkpoint(config, seed=5)
    return load_model(checkpoint, dtype=jnp.float32, attention=attention, scan_layers=scan_layers)


def tokens_like(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, 211, shape), jnp.int32)


def filled_cache(lengths: list[int], *, scan_layers: bool = False) -> KVCache:
    """As if those many tokens had been there; what they left is random."""
    cache = model(scan_layers=scan_layers).init_cache(len(lengths), LONGEST)
    rng = np.random.default_rng(1)
    keys, values = (
        tuple(jnp.asarray(rng.standard_normal(buffer.shape, np.float32)) for buffer in buffers)
        for buffers in (cache.keys, cache.values)
    )
    return dataclasses.replace(cache, keys=keys, values=values, lengths=jnp.asarray(lengths, jnp.int32))


def cache_bytes(cache: KVCache) -> int:
    return sum(buffer.size * buffer.dtype.itemsize for buffer in (*cache.keys, *cache.values))


def test_chunks_past_4096_positions_give_the_logits_of_the_whole(relative_error):
    tokens = tokens_like(1, 4400)
    whole = model()(tokens).logits
    cache = model().init_cache(1, 4608)
    for start in range(0, 4400, 1100):
        logits, cache = prefill(model(), cache, tokens[:, start : start + 1100])
        assert relative_error(logits[0], whole[0, start + 1099]) < F32_TOLERANCE


@pytest.mark.parametrize("scan_layers", [False, True])
def test_last_of_131072_positions_sees_what_the_reference_sees(scan_layers, relative_error):
    """Sequences of very different lengths, and three new tokens each, of which the second lacks one."""
    lengths, tokens = [LONGEST - 3, 1000], tokens_like(2, 3)
    mask = jnp.array([[True, True, True], [True, True, False]])
    answers = []
    for attention in ("auto", "reference"):
        cache = filled_cache(lengths, scan_layers=scan_layers)
        logits, after = prefill(model(attention, scan_layers=scan_layers), cache, tokens, mask)
        assert after.lengths.tolist() == [LONGEST, 1002]
        answers.append(np.asarray(logits))
    assert relative_error(*answers) < F32_TOLERANCE


def test_no_position_behind_the_last_is_taken():
    with pytest.raises(ValueError, match=r"has 131071 tokens in a cache of max_length 131072: 2 more make 131073"):
        prefill(model(), filled_cache([LONGEST - 1]), tokens_like(1, 2))


@pytest.mark.parametrize("tokens", [1, 512])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_step_holds_the_donated_cache_and_little_else(scan_layers, tokens):
    """In place: nothing of the cache's size is copied, and no scores of all the buffer's slots exist."""
    whole = model(scan_layers=scan_layers)
    cache = jax.eval_shape(lambda: whole.init_cache(1, LONGEST))
    shape = (1, tokens)
    program = extend_cache.lower(
        FlatModel.of(whole), cache, jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.bool_)
    ).compile(compiler_options=READ_ONLY)
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes >= cache_bytes(cache), "every buffer becomes the new cache's"
    assert memory.temp_size_in_bytes < cache_bytes(cache) / 4
    assert "input_output_alias={" in program.as_text()


@pytest.mark.parametrize("scan_layers", [False, True])
def test_compiled_decode_loop_holds_the_donated_cache_and_little_else(scan_layers):
    whole = model(scan_layers=scan_layers)
    cache = jax.eval_shape(lambda: whole.init_cache(2, LONGEST))
    rules = Rules(keys=jax.random.split(jax.random.key(0), 2), sampling=None, eos=jnp.zeros(0, jnp.int32))
    _, progress = jax.eval_shape(
        functools.partial(begin, report=None), jax.ShapeDtypeStruct((2, 211), jnp.float32), rules
    )
    lowered = decode.lower(FlatModel.of(whole), cache, progress, rules, jnp.int32(9), room=16, report=None)
    program = lowered.compile(compiler_options=READ_ONLY)
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes >= cache_bytes(cache)
    assert memory.temp_size_in_bytes < cache_bytes(cache) / 4
