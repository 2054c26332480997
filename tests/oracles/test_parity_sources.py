"""Live: all sources look inside alike, replay alike, and the self-test holds against code that nobody here wrote."""

import json
import shutil

import numpy as np
import pytest
from gptoss_parity import LoadingSource, Reach, Source, compare, make_source
from gptoss_parity.layerwise import LayerwiseSource
from gptoss_parity.replay import split_divergence
from gptoss_parity.selftest import run_selftest
from gptoss_weights import BLOCK_DEBUG_PROBES, open_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.oracle

LENGTH = 60  # several windows of 11
REMOVED = 0.9  # of the KL, by taking the same experts, where flips cause it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("parity") / "tiny", format="hf", seed=3)


@pytest.fixture(scope="module")
def transformers() -> Source:
    pytest.importorskip("transformers", reason="transformers is not installed")
    return make_source("hf")


@pytest.fixture(scope="module")
def prompt(folder, make_prompt):
    return make_prompt(open_checkpoint(folder).config, LENGTH)


@pytest.fixture(scope="module")
def truth(official, folder, prompt):
    return official.record(open_checkpoint(folder), prompt, block_debug=True)


@pytest.fixture(scope="module")
def sources(transformers, jax, onnx) -> dict[str, LoadingSource]:
    return {"hf": transformers, "jax": jax, "onnx": onnx, "numpy": make_source("numpy")}


@pytest.mark.parametrize("name", ["hf", "jax", "onnx", "numpy"])
def test_every_block_debug_probe_agrees_with_the_official_code(sources, folder, prompt, truth, name):
    trace = sources[name].record(open_checkpoint(folder), prompt, block_debug=True)
    assert {probe.rpartition(".")[2] for probe in trace} >= BLOCK_DEBUG_PROBES
    comparison = compare(truth, trace)
    assert comparison.passed, comparison.verdict
    assert not comparison.warnings
    assert len(comparison.probes) == len(truth) - 4  # all but the indices of four layers


@pytest.mark.parametrize("layout", ["hf", "hf-bf16", "openai"])
def test_transformers_reads_its_own_layouts_itself(transformers, official, make_prompt, tmp_path, layout):
    from gptoss_weights import save_checkpoint

    source = open_checkpoint(write_tiny_checkpoint(tmp_path / "source", format="openai", seed=8))
    save_checkpoint(source, tmp_path / "written", format=layout)
    checkpoint = open_checkpoint(tmp_path / "written")
    prompt = make_prompt(checkpoint.config, 30)
    trace = transformers.record(checkpoint, prompt)
    assert trace.metadata.options["weights read by"] == ("gptoss-weights" if layout == "openai" else "transformers")
    comparison = compare(official.record(source, prompt), trace)
    assert comparison.passed, comparison.verdict


def test_bfloat16_of_three_implementations_passes_with_default_limits(official, transformers, jax, folder, prompt):
    checkpoint = open_checkpoint(folder)
    runs = [
        source.record(checkpoint, prompt, dtype="bfloat16", block_debug=True)
        for source in (official, transformers, jax)
    ]
    for candidate in runs[1:]:
        comparison = compare(runs[0], candidate)
        assert comparison.passed, comparison.verdict


@pytest.mark.parametrize("name", ["official", "hf", "jax"])
@pytest.mark.parametrize("seed", [0, 1])
def test_replay_removes_the_divergence_that_flips_cause(official, sources, make_prompt, tmp_path, name, seed):
    source = official if name == "official" else sources[name]
    checkpoint = open_checkpoint(write_tiny_checkpoint(tmp_path / "tiny", format="openai", seed=seed))
    prompt = np.random.default_rng(seed).integers(0, checkpoint.config.vocab_size, 90).tolist()
    reference = official.record(checkpoint, prompt)
    candidate = source.record(checkpoint, prompt, dtype="bfloat16")
    replayed = source.record(checkpoint, prompt, dtype="bfloat16", choices=reference)
    routing = compare(reference, candidate).routing
    assert routing.flips
    assert not compare(reference, replayed).routing.flips
    affected = routing.reach_at(None, "logits", len(prompt)) != Reach.CLEAN
    split = split_divergence(reference, candidate, replayed, forced="candidate", is_affected=affected)
    assert split.is_caused.any()
    assert split.removed_share_where_caused >= REMOVED


@pytest.mark.parametrize("name", ["hf", "jax", "numpy"])
def test_forced_experts_give_the_same_everywhere(official, sources, folder, prompt, truth, name):
    checkpoint = open_checkpoint(folder)
    choices = {probe: (truth[probe] + 1) % 7 for probe in truth if probe.endswith("router_indices")}
    expected = official.record(checkpoint, prompt, block_debug=True, choices=choices)
    comparison = compare(expected, sources[name].record(checkpoint, prompt, block_debug=True, choices=choices))
    assert comparison.passed, comparison.verdict


@pytest.mark.parametrize("name", ["official", "hf"])
def test_layerwise_runs_give_what_whole_runs_give(official, sources, folder, prompt, truth, name):
    source = official if name == "official" else sources[name]
    comparison = compare(truth, LayerwiseSource(source).record(open_checkpoint(folder), prompt, block_debug=True))
    assert comparison.passed, comparison.verdict


def test_layerwise_run_knows_no_padding_beyond_its_tokens(sources, folder, prompt, truth, tmp_path):
    """Published configs name a token for padding, near the end of a vocabulary that one layer does not need."""
    padded = shutil.copytree(folder, tmp_path / "padded")
    config = json.loads((padded / "config.json").read_text())
    (padded / "config.json").write_text(json.dumps(config | {"pad_token_id": config["vocab_size"] - 1}))
    comparison = compare(truth, LayerwiseSource(sources["hf"]).record(open_checkpoint(padded), prompt))
    assert comparison.passed, comparison.verdict


def test_layerwise_official_run_is_bit_by_bit_the_whole_one_in_bfloat16(official, folder, prompt):
    checkpoint = open_checkpoint(folder)
    whole = official.record(checkpoint, prompt, dtype="bfloat16")
    piecewise = LayerwiseSource(official).record(checkpoint, prompt, dtype="bfloat16")
    for name in whole:
        np.testing.assert_array_equal(piecewise[name], whole[name], err_msg=name)


@pytest.mark.parametrize("name", ["official", "hf"])
def test_selftest_holds_with_a_reference_that_nobody_here_wrote(official, sources, name):
    result = run_selftest(official if name == "official" else sources[name])
    assert result.passed, result.verdict


def test_two_layers_and_32_tokens_are_nearer_than_the_published_baseline(official, jax, onnx, make_prompt, tmp_path):
    """jax2onnx's published numbers: logits 1.9e-5, hidden states 1.5e-4, MoE debug tensors 4.5e-4, all max abs."""
    checkpoint = open_checkpoint(write_tiny_checkpoint(tmp_path / "tiny", format="openai", num_hidden_layers=2))
    prompt = make_prompt(checkpoint.config, 32)
    truth = official.record(checkpoint, prompt, block_debug=True)
    for source in (jax, onnx):
        comparison = compare(truth, source.record(checkpoint, prompt, block_debug=True))
        assert not comparison.routing.flips
        for probe in comparison.probes:
            is_moe = probe.name.endswith(("pre_activation", "activated", "expert_outputs", "combined_output"))
            assert probe.max_abs <= (1.9e-5 if probe.name == "logits" else 4.5e-4 if is_moe else 1.5e-4), probe.name
