"""The JAX source against the goldens of the official code, sound and with one fault at a time."""

import dataclasses

import pytest
from gptoss_parity import compare, load_trace, make_source
from gptoss_weights.demo import demo_golden_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_jax_agrees_with_the_official_code(demo, dtype):
    golden = load_trace(demo_golden_path(dtype))
    comparison = compare(golden, make_source("jax").record(demo, golden.tokens, dtype=dtype))
    assert comparison.passed, comparison.verdict
    assert not comparison.warnings


def test_bfloat16_jax_agrees_with_the_official_float32(demo, golden):
    comparison = compare(golden, make_source("jax").record(demo, golden.tokens, dtype="bfloat16"))
    assert comparison.passed, comparison.verdict


def test_metadata_say_what_ran(demo, golden):
    metadata = make_source("jax", moe="auto").record(demo, golden.tokens[:3]).metadata
    assert (metadata.source, metadata.dtype, metadata.options) == ("jax", "float32", {"moe": "auto"})
    assert metadata.checkpoint_digest == golden.metadata.checkpoint_digest
    assert {"jax", "gptoss-model"} <= set(metadata.versions)


@pytest.mark.numbers
@pytest.mark.parametrize("change", [-1, 1])
def test_window_off_by_one_is_caught_in_the_first_layer(faulty, demo, golden, change):
    config = dataclasses.replace(demo.config, sliding_window=demo.config.sliding_window + change)
    comparison = compare(golden, make_source("jax").record(faulty(config=config), golden.tokens))
    assert comparison.first_failure.probe == "layers.0.attention_residual"


@pytest.mark.numbers
def test_missing_yarn_is_caught_in_the_first_layer(faulty, demo, golden):
    config = dataclasses.replace(demo.config, rope_scaling_factor=1.0)
    comparison = compare(golden, make_source("jax").record(faulty(config=config), golden.tokens))
    assert comparison.first_failure.probe == "layers.0.attention_residual"


@pytest.mark.numbers
def test_missing_sinks_are_caught_in_their_layer(faulty, golden):
    checkpoint = faulty(faults={"model.layers.1.self_attn.sinks": lambda sinks: sinks * 0})
    comparison = compare(golden, make_source("jax").record(checkpoint, golden.tokens))
    assert comparison.first_failure.probe == "layers.1.attention_residual"


@pytest.mark.numbers
def test_two_swapped_rows_of_one_expert_in_the_last_layer_are_caught(faulty, demo, golden):
    last = demo.config.num_hidden_layers - 1
    expert = int(golden[f"layers.{last}.router_indices"][-1, -1])

    def swap_rows(matrices):
        matrices[expert, [3, 4]] = matrices[expert, [4, 3]]
        return matrices

    checkpoint = faulty(faults={f"model.layers.{last}.mlp.experts.down_proj": swap_rows})
    comparison = compare(golden, make_source("jax").record(checkpoint, golden.tokens))
    assert comparison.first_failure.probe == f"layers.{last}.output"


@pytest.mark.numbers
def test_swapped_experts_are_caught_in_their_layer(faulty, golden):
    checkpoint = faulty(faults={"model.layers.2.mlp.experts.gate_up_proj": lambda matrices: matrices[::-1].copy()})
    comparison = compare(golden, make_source("jax").record(checkpoint, golden.tokens))
    assert comparison.first_failure.probe == "layers.2.output"


@pytest.mark.numbers
def test_one_flipped_weight_bit_is_caught(faulty, golden):
    def flip(scale):
        scale[5] = -scale[5]
        return scale

    checkpoint = faulty(faults={"model.norm.weight": flip})
    comparison = compare(golden, make_source("jax").record(checkpoint, golden.tokens))
    assert comparison.first_failure.probe == "final_norm"


def test_continuation_is_as_long_as_asked_for(demo, golden):
    assert len(make_source("jax").generate(demo, golden.tokens, max_new_tokens=3)) == 3
