"""Live: a prompt past the 4096 positions before YaRN stretches them, against the official code in float32."""

import pytest
from gptoss_parity import FLOAT32, FlipKind, compare
from gptoss_weights import random_checkpoint
from gptoss_weights.testing import tiny_config

pytestmark = pytest.mark.oracle

LENGTH = 4300


def test_jax_agrees_with_the_official_code_past_4096_positions(official, jax, make_prompt):
    config = tiny_config(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    assert config.initial_context_length < LENGTH
    checkpoint = random_checkpoint(config, seed=8)
    prompt = make_prompt(config, LENGTH)
    comparison = compare(official.record(checkpoint, prompt), jax.record(checkpoint, prompt))
    assert comparison.tolerances is FLOAT32
    assert comparison.passed, comparison.verdict
    assert {flip.kind for flip in comparison.routing.flips} <= {FlipKind.NEAR_TIE}
