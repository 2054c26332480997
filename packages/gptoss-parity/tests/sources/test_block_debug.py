"""What happens inside attention and experts, and forced experts: JAX and ONNX against NumPy."""

import pytest
from gptoss_parity import compare, make_source
from gptoss_weights import BLOCK_DEBUG_PROBES, CheckpointError, random_checkpoint
from gptoss_weights.testing import tiny_config

TOKENS = [(token * 31) % 211 for token in range(30)]


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(tiny_config(num_hidden_layers=2), seed=2)


@pytest.fixture(scope="module")
def truth(checkpoint):
    return make_source("numpy").record(checkpoint, TOKENS, block_debug=True)


@pytest.fixture(scope="module")
def jax(checkpoint):
    return make_source("jax").load(checkpoint)


def test_jax_looks_inside(jax, truth):
    trace = jax.run(TOKENS, block_debug=True)
    assert {name.rpartition(".")[2] for name in trace} >= BLOCK_DEBUG_PROBES
    comparison = compare(truth, trace)
    assert comparison.passed, comparison.verdict


def test_onnx_looks_inside(checkpoint, truth):
    comparison = compare(truth, make_source("onnx", threads=1).record(checkpoint, TOKENS, block_debug=True))
    assert comparison.passed, comparison.verdict
    assert len(comparison.probes) == len(truth) - 2


def test_jax_takes_the_experts_it_is_told(jax, checkpoint):
    numpy = make_source("numpy")
    own = numpy.record(checkpoint, TOKENS)
    choices = {name: (own[name] + 2) % 7 for name in own if name.endswith("indices")}
    comparison = compare(numpy.record(checkpoint, TOKENS, choices=choices), jax.run(TOKENS, choices=choices))
    assert comparison.passed, comparison.verdict
    assert not comparison.routing.flips
    assert compare(own, jax.run(TOKENS)).passed  # and the model is as it was


def test_onnx_cannot_be_told_its_experts(checkpoint, truth):
    source = make_source("onnx")
    assert not source.can_replay
    with pytest.raises(ValueError, match="cannot replay"):
        source.record(checkpoint, TOKENS, choices=truth)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda choices: choices.pop("layers.1.router_indices"), r"layers\.1\.router_indices: .* lack a layer"),
        (lambda choices: choices["layers.0.router_indices"].__setitem__((3, 0), 7), "name no expert; expected 0 … 6"),
        (lambda choices: choices.update({"layers.0.router_indices": choices["layers.0.router_indices"][1:]}), "shape"),
    ],
)
def test_choices_that_are_none_are_refused(checkpoint, truth, spoil, words):
    choices = {name: truth[name].copy() for name in truth if name.endswith("indices")}
    spoil(choices)
    with pytest.raises(CheckpointError, match=words):
        make_source("numpy").record(checkpoint, TOKENS, choices=choices)
