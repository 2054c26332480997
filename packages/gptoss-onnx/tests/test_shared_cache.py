import numpy as np
import pytest
from gptoss_onnx import OnnxModel, RequestError, export_onnx
from gptoss_onnx.shared_cache import SharedCache
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def fast(tmp_path_factory, fast_runtime):
    checkpoint = random_checkpoint(
        tiny_config(head_dim=32, initial_context_length=512, rope_scaling_factor=1.0), seed=2
    )
    return OnnxModel.open(export_onnx(checkpoint, tmp_path_factory.mktemp("fast") / "onnx", profile="fast"), threads=1)


def test_decoding_writes_into_the_same_memory(fast):
    _, cache = fast.prefill(fast.init_cache(1, 64), [[1, 2, 3]])
    before = cache.buffer("past_key_values.1.key")
    held = before.copy()
    _, cache = fast.decode_step(cache, [4])
    assert cache.buffer("past_key_values.1.key") is before
    assert (before != held).any()
    assert cache.lengths.tolist() == [4]


def test_decoding_goes_on_through_the_growth_of_a_cache_and_leaves_earlier_logits_alone(fast, relative_l2):
    tokens = np.random.default_rng(1).integers(0, 211, (2, 150))
    logits, cache = fast.prefill(fast.init_cache(2, 4), tokens[:, :3])
    found = [logits]
    for column in range(3, 150):
        logits, cache = fast.decode_step(cache, tokens[:, column])
        found.append(logits)
    assert relative_l2(np.stack(found, axis=1), fast.forward(tokens)[:, 2:]) <= TOLERANCE


def test_a_cache_that_was_used_is_refused_the_second_time(fast):
    cache = fast.init_cache(1)
    fast.prefill(cache, [[1, 2]])
    with pytest.raises(RequestError, match=r"the cache was used by another step.*the last step returned"):
        fast.prefill(cache, [[3]])


def test_a_cache_grows_when_more_comes_than_was_said(fast, relative_l2):
    tokens = np.random.default_rng(1).integers(0, 211, 300)
    cache = fast.init_cache(1, 4)
    found = []
    for start in range(0, 300, 20):
        logits, cache = fast.prefill(cache, tokens[None, start : start + 20])
        found.append(logits[0])
    assert relative_l2(np.stack(found), fast.forward(tokens[None])[0, 19::20]) <= TOLERANCE
    assert cache.nbytes < 4 * SharedCache.empty(fast.config, 1, 300).nbytes


def test_sliding_layers_take_no_more_than_the_window_at_any_length(fast):
    short, long = (SharedCache.empty(fast.config, 1, length) for length in (64, 512))
    shapes = [[c.buffer(f"past_key_values.{layer}.key").shape[2] for layer in (0, 1)] for c in (short, long)]
    assert shapes[0][0] == shapes[1][0] == fast.config.sliding_window + 64
    assert (shapes[0][1], shapes[1][1]) == (64, 512)


def test_positions_beyond_the_exports_tables_are_refused(fast):
    with pytest.raises(RequestError, match=r"beyond the positions .* expected at most 512 tokens; found 513"):
        fast.prefill(fast.init_cache(1), [[1] * 513])
    cache = fast.prefill(fast.init_cache(1), [[1] * 512])[1]
    with pytest.raises(RequestError, match="found 513"):
        fast.decode_step(cache, [1])


def test_the_cache_of_another_kind_of_export_is_refused(fast, model):
    with pytest.raises(RequestError, match="expected a SharedCache; found a KVCache"):
        fast.decode_step(model.init_cache(1), [1])
    with pytest.raises(RequestError, match="expected a KVCache; found a SharedCache"):
        model.decode_step(fast.init_cache(1), [1])


def test_the_cache_of_another_model_is_refused(fast):
    other = SharedCache.empty(tiny_config(head_dim=32, num_hidden_layers=2), 1, None)
    with pytest.raises(
        RequestError, match=r"does not fit the model; expected .*\[4, 5, 32, 11\]; found \[2, 5, 32, 11\]"
    ):
        fast.decode_step(other, [1])


def test_a_cache_for_another_batch_is_refused(fast):
    with pytest.raises(RequestError, match="expected 1 sequences; found 2"):
        fast.decode_step(fast.init_cache(2), [1])
