"""A layer at a time gives the trace of the whole model."""

import dataclasses

import numpy as np
import pytest
from gptoss_parity import make_source
from gptoss_parity.layerwise import LayerwiseSource, layer_as_model
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]  # past the window of 11


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(tiny_config(), seed=5)


def test_layerwise_trace_is_that_of_the_whole_model(checkpoint):
    whole = make_source("numpy").record(checkpoint, TOKENS, block_debug=True)
    piecewise = LayerwiseSource(make_source("numpy")).record(checkpoint, TOKENS, block_debug=True)
    assert list(piecewise) == list(whole)
    for name in whole:
        np.testing.assert_array_equal(piecewise[name], whole[name], err_msg=name)
    assert piecewise.metadata.checkpoint_digest == whole.metadata.checkpoint_digest
    assert piecewise.metadata.config == checkpoint.config


def test_prompt_longer_than_the_vocabulary_runs():
    checkpoint = random_checkpoint(tiny_config(vocab_size=9, num_hidden_layers=3), seed=1)
    tokens = [token % 9 for token in TOKENS]
    whole = make_source("numpy").record(checkpoint, tokens)
    piecewise = LayerwiseSource(make_source("numpy")).record(checkpoint, tokens)
    np.testing.assert_array_equal(piecewise["layers.2.output"], whole["layers.2.output"])
    # The view has more rows than nine, and a processor may sum a product of another shape in another order.
    np.testing.assert_allclose(piecewise["logits"], whole["logits"], rtol=0, atol=5e-6)


def test_experts_of_every_layer_can_be_replayed(checkpoint):
    own = make_source("numpy").record(checkpoint, TOKENS)
    choices = {name: (own[name] + 1) % 7 for name in own if name.endswith("indices")}
    whole = make_source("numpy").record(checkpoint, TOKENS, choices=choices)
    piecewise = LayerwiseSource(make_source("numpy")).record(checkpoint, TOKENS, choices=choices)
    np.testing.assert_array_equal(piecewise["logits"], whole["logits"])


def test_view_reads_one_layer_and_no_other(checkpoint):
    x = np.ones((4, checkpoint.config.hidden_size), np.float32)
    view = layer_as_model(checkpoint, 3, x, has_head=False)
    assert view.config == dataclasses.replace(checkpoint.config, num_hidden_layers=1, vocab_size=4, sliding_window=4)
    name = "self_attn.sinks"
    np.testing.assert_array_equal(view.read(f"model.layers.0.{name}"), checkpoint.read(f"model.layers.3.{name}"))
    assert not view.read("lm_head.weight").any()


@pytest.mark.parametrize("source", ["jax", "onnx"])
def test_layerwise_frameworks_agree_with_numpy(checkpoint, source):
    from gptoss_parity import compare

    implementation = make_source(source, **({"threads": 1} if source == "onnx" else {}))
    comparison = compare(
        make_source("numpy").record(checkpoint, TOKENS), LayerwiseSource(implementation).record(checkpoint, TOKENS)
    )
    assert comparison.passed, comparison.verdict
