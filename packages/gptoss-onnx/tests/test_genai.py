"""onnxruntime-genai runs exported folders as they are; where it is not installed, only its config is looked at."""

import importlib.util
import json

import numpy as np
import pytest
from gptoss_onnx import OnnxModel, StaticShape, export_onnx
from gptoss_weights import random_checkpoint
from gptoss_weights.demo import demo_checkpoint
from gptoss_weights.testing import tiny_config

TOLERANCE = 2e-6
PROMPT_TOKENS = 37
needs_genai = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_genai") is None, reason="onnxruntime-genai is not installed (session genai)"
)
EXPORTS = {
    "portable": ({}, {}),
    "fast": ({"head_dim": 32}, {"profile": "fast"}),
    "fast, float32 experts": ({"head_dim": 16}, {"profile": "fast", "experts": "float32"}),
    "fast, manual attention": ({}, {"profile": "fast"}),
    "window of three": ({"sliding_window": 3}, {}),
}


@needs_genai
@pytest.mark.parametrize("name", EXPORTS)
def test_its_logits_are_ours_from_the_prompt_to_the_last_token(name, tmp_path, specification, relative_l2):
    import onnxruntime_genai as genai

    geometry, options = EXPORTS[name]
    checkpoint = random_checkpoint(tiny_config(**geometry), seed=3)
    folder = export_onnx(checkpoint, tmp_path / "onnx", **options)
    tokens = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, 60)
    parameters = genai.GeneratorParams(model := genai.Model(str(folder)))
    parameters.set_search_options(max_length=len(tokens) + 1, do_sample=False)
    generator = genai.Generator(model, parameters)
    found = []
    for part in (tokens[:PROMPT_TOKENS], *tokens[PROMPT_TOKENS:, None]):
        generator.append_tokens(part.astype(np.int32))
        found.append(np.asarray(generator.get_logits()).reshape(-1, checkpoint.config.vocab_size)[-1])
    expected = specification(checkpoint).probes(tokens)["logits"][PROMPT_TOKENS - 1 :]
    assert relative_l2(np.stack(found), expected) <= TOLERANCE


@needs_genai
def test_it_reads_the_tokenizer_and_continues_a_text_as_we_do(tmp_path):
    import onnxruntime_genai as genai

    folder = export_onnx(demo_checkpoint(), tmp_path / "onnx")
    model = genai.Model(str(folder))
    tokenizer = genai.Tokenizer(model)
    prompt = tokenizer.encode("the quick brown")
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + 8, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    ours = OnnxModel.open(folder)
    [expected] = ours.generate([list(prompt)], max_new_tokens=8, eos_token_ids=ours.metadata.eos_token_ids)
    assert list(generator.get_sequence(0))[len(prompt) :] == expected
    assert tokenizer.decode(prompt) == "the quick brown"


def config_of(folder):
    return json.loads((folder / "genai_config.json").read_text())


def test_a_cache_in_place_has_buffers_of_the_windows_size(tmp_path):
    folder = export_onnx(random_checkpoint(tiny_config(head_dim=32), seed=1), tmp_path / "onnx", profile="fast")
    document = config_of(folder)
    assert document["search"]["past_present_share_buffer"] is True
    window = document["model"]["decoder"]["sliding_window"]
    assert (window["window_size"], window["layers"]) == (11, [0, 2])
    assert document["model"]["decoder"]["session_options"]["session.disable_prepacking"] == "1"


def test_a_cache_that_grows_keeps_one_row_less_than_the_window(exported, checkpoint):
    document = config_of(exported)
    assert document["search"]["past_present_share_buffer"] is False
    window = document["model"]["decoder"]["sliding_window"]
    assert window["window_size"] + window["cache_slack"] == checkpoint.config.sliding_window - 1
    assert window["layers"] == [0, 2]


def test_ids_that_end_a_sequence_are_those_of_the_checkpoint(tmp_path):
    folder = export_onnx(demo_checkpoint(), tmp_path / "onnx")
    found = config_of(folder)["model"]["eos_token_id"]
    assert (found if isinstance(found, list) else [found]) == list(OnnxModel.open(folder).metadata.eos_token_ids)
    assert (folder / "tokenizer_config.json").is_file()


@pytest.mark.parametrize(
    "options",
    [
        {"static": StaticShape(batch=1, length=8)},
        {"component": "mlp"},
        {"profile": "cuda"},
        {"link_weights": True},
    ],
    ids=str,
)
def test_what_it_cannot_run_has_no_config_for_it(options, checkpoint, tmp_path):
    assert not (export_onnx(checkpoint, tmp_path / "onnx", **options) / "genai_config.json").exists()
