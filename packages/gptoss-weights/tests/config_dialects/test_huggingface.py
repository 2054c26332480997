"""Hugging Face's dialect is read strictly and written back as it was read."""

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, CheckpointError, GptOssConfig, GptOssWarning
from gptoss_weights.testing import tiny_config

type Document = dict[str, Any]


@pytest.fixture
def document() -> Document:
    return tiny_config().to_huggingface()


def with_rope_parameters(document: Document) -> Document:
    """The spelling of transformers 5."""
    changed = copy.deepcopy(document)
    changed["rope_parameters"] = changed.pop("rope_scaling") | {"rope_theta": changed.pop("rope_theta")}
    return changed


def test_both_spellings_of_the_rotary_settings_mean_the_same_and_come_back(document: Document) -> None:
    newer = with_rope_parameters(document)
    assert GptOssConfig.from_json(newer) == GptOssConfig.from_json(document) == tiny_config()
    assert GptOssConfig.from_json(newer).to_huggingface() == newer
    assert GptOssConfig.from_json(document).to_huggingface() == document


def test_output_of_transformers_5_comes_back_byte_for_byte() -> None:
    # GptOssConfig.to_json_string() of transformers 5.23, shortened to one layer
    text = """{
  "architectures": [
    "GptOssForCausalLM"
  ],
  "attention_bias": true,
  "attention_dropout": 0.0,
  "bos_token_id": null,
  "dtype": "bfloat16",
  "eos_token_id": 502,
  "experts_per_token": 4,
  "head_dim": 22,
  "hidden_act": "silu",
  "hidden_size": 64,
  "initial_context_length": 4096,
  "initializer_range": 0.02,
  "intermediate_size": 96,
  "layer_types": [
    "sliding_attention"
  ],
  "max_position_embeddings": 131072,
  "model_type": "gpt_oss",
  "num_attention_heads": 6,
  "num_experts_per_tok": 4,
  "num_hidden_layers": 1,
  "num_key_value_heads": 3,
  "num_local_experts": 9,
  "output_router_logits": false,
  "pad_token_id": 501,
  "rms_norm_eps": 1e-05,
  "rope_parameters": {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "rope_theta": 150000.0,
    "rope_type": "yarn",
    "truncate": false
  },
  "router_aux_loss_coef": 0.9,
  "sliding_window": 12,
  "swiglu_alpha": 1.702,
  "swiglu_limit": 7.0,
  "tie_word_embeddings": false,
  "transformers_version": "5.23.0",
  "use_cache": true,
  "vocab_size": 503
}
"""
    config = GptOssConfig.from_json(json.loads(text))
    assert json.dumps(config.to_huggingface(), indent=2) + "\n" == text
    assert (config.rope_theta, config.num_experts) == (150000, 9)


def test_key_order_and_metadata_survive(document: Document) -> None:
    shuffled = {"pad_token_id": 7, **dict(reversed(document.items())), "eos_token_id": [3, 4]}
    assert json.dumps(GptOssConfig.from_json(shuffled).to_huggingface()) == json.dumps(shuffled)


def test_changed_geometry_is_written_everywhere_it_stands(document: Document) -> None:
    config = GptOssConfig.from_json(with_rope_parameters(document) | {"eos_token_id": 5})
    changed = dataclasses.replace(config, num_hidden_layers=2, experts_per_token=2, rope_scaling_factor=16.0)
    written = changed.to_huggingface()
    assert written["layer_types"] == ["sliding_attention", "full_attention"]
    assert written["num_experts_per_tok"] == written["experts_per_token"] == 2
    assert written["rope_parameters"]["factor"] == 16.0
    assert written["max_position_embeddings"] == 65536
    assert written["eos_token_id"] == 5
    assert GptOssConfig.from_json(written) == changed
    assert config.to_huggingface()["num_hidden_layers"] == 4


@pytest.mark.parametrize(("size", "config"), [("20b", GPT_OSS_20B), ("120b", GPT_OSS_120B)])
def test_published_config_comes_back_and_can_be_made_from_nothing(
    reference: Path, size: str, config: GptOssConfig
) -> None:
    text = (reference / f"published/gpt-oss-{size}/config.json").read_text()
    read = GptOssConfig.from_json(json.loads(text))
    assert read == config
    assert json.dumps(read.to_huggingface(), indent=2) + "\n" == text
    made = config.to_huggingface() | {"quantization_config": json.loads(text)["quantization_config"]}
    assert json.dumps(made, indent=2, sort_keys=True) + "\n" == text


def edit(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document.update(changes)


def drop(name: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        del document[name]

    return change


def rename(name: str, other: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document[other] = document.pop(name)

    return change


def edit_rope(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["rope_scaling"].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("hidden_size"), "hidden_size is missing"),
        (rename("hidden_size", "hiden_size"), "hidden_size is missing (is 'hiden_size' a misspelling?)"),
        (rename("num_local_experts", "num_experts"), "num_local_experts is missing"),
        (edit(vocab_size="many"), "vocab_size must be a whole number, not 'many'"),
        (edit(vocab_size=True), "vocab_size must be a whole number, not True"),
        (edit(vocab_size=2.5), "vocab_size must be a whole number, not 2.5"),
        (edit(experts_per_token=1), "experts_per_token = 1 contradicts num_experts_per_tok = 3"),
        (edit(initial_context_length=99), "initial_context_length = 99 contradicts original_max_position"),
        (edit(layer_types=["full_attention"] * 4), "layer_types must alternate"),
        (edit(rms_norm_eps=1e-6), "rms_norm_eps must be 1e-05, not 1e-06"),
        (edit(attention_bias=False), "attention_bias must be True, not False"),
        (edit(hidden_act="gelu"), "hidden_act must be 'silu', not 'gelu'"),
        (edit(tie_word_embeddings=True), "tie_word_embeddings must be False, not True"),
        (edit(model_type="llama"), "model_type must be 'gpt_oss', not 'llama'"),
        (edit(swiglu_alpha=1.0), "swiglu_alpha must be 1.702, not 1.0"),
        (drop("rope_scaling"), "rope_scaling (or rope_parameters) is missing"),
        (edit(rope_scaling=None), "rope_scaling is null"),
        (edit(rope_scaling=3), "rope_scaling must be an object, not 3"),
        (drop("rope_theta"), "rope_scaling.rope_theta is missing"),
        (edit_rope(rope_theta=1), "rope_scaling.rope_theta = 1 contradicts rope_theta = 150000"),
        (edit_rope(rope_type="linear"), "rope_scaling.rope_type must be 'yarn', not 'linear'"),
        (edit_rope(truncate=True), "rope_scaling.truncate must be false, not True"),
        (lambda document: document["rope_scaling"].pop("truncate"), "rope_scaling.truncate must be false, and is miss"),
        (lambda document: document["rope_scaling"].pop("factor"), "rope_scaling.factor is missing"),
        (edit_rope(attention_factor=1.0), "rope_scaling.attention_factor = 1.0 differs from YaRN's 1.346574"),
        (edit_rope(mscale=0.7), "rope_scaling.mscale must be 1.0 or missing, not 0.7"),
        (edit(rope_parameters={"factor": 2}), "rope_parameters and rope_scaling contradict each other"),
    ],
)
def test_bad_key_is_refused(document: Document, change: Callable[[Document], None], words: str) -> None:
    change(document)
    with pytest.raises(CheckpointError) as error:
        GptOssConfig.from_json(document, where="somewhere/config.json")
    assert words in str(error.value)
    assert str(error.value).startswith("somewhere/config.json: ")


def test_all_problems_are_told_at_once(document: Document) -> None:
    del document["hidden_size"]
    document["vocab_size"] = "many"
    del document["rope_scaling"]["truncate"]
    with pytest.raises(CheckpointError) as error:
        GptOssConfig.from_json(document)
    assert all(name in str(error.value) for name in ("hidden_size", "vocab_size", "truncate"))


def test_known_metadata_is_kept_in_silence_and_unknown_keys_warn(document: Document) -> None:
    GptOssConfig.from_json(document | {"torch_dtype": "bfloat16", "_name_or_path": "x", "eos_token_id": 1})
    with pytest.warns(GptOssWarning, match=r"c\.json: unknown config key 'slidding_window' is kept.*'sliding_window'"):
        config = GptOssConfig.from_json(document | {"slidding_window": 3}, where="c.json")
    assert config.to_huggingface()["slidding_window"] == 3
    document["rope_scaling"]["surprise"] = 1
    with pytest.warns(GptOssWarning, match=r"unknown config key 'rope_scaling\.surprise'"):
        GptOssConfig.from_json(document)


@pytest.mark.parametrize(
    ("key", "hint"), [("bar", ""), ("mscale_al_dim", "; did you mean 'rope_scaling.mscale_all_dim'?")]
)
def test_unknown_rotary_key_is_likened_to_rotary_keys_alone(document: Document, key: str, hint: str) -> None:
    document["rope_scaling"][key] = 1
    with pytest.warns(GptOssWarning) as warned:
        GptOssConfig.from_json(document)
    assert str(warned[0].message) == f"config: unknown config key 'rope_scaling.{key}' is kept but not used{hint}"


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 2_000_000_000}, {"num_hidden_layers": 10**400}])
def test_absurd_number_of_layers_is_refused_without_listing_them(
    document: Document, changes: dict[str, object]
) -> None:
    with pytest.raises(CheckpointError, match="layer_types must alternate"):
        GptOssConfig.from_json(document | changes)


def test_absurd_attention_factor_is_refused(document: Document) -> None:
    document["rope_scaling"]["attention_factor"] = 10**400
    with pytest.raises(CheckpointError, match="differs from YaRN's"):
        GptOssConfig.from_json(document)


def test_null_for_the_unused_spelling_is_no_contradiction(document: Document) -> None:
    newer = with_rope_parameters(document) | {"rope_scaling": None}
    assert GptOssConfig.from_json(newer).to_huggingface() == newer


def test_caller_keeps_its_document(document: Document) -> None:
    before = copy.deepcopy(document)
    GptOssConfig.from_json(document).to_huggingface()["rope_scaling"]["factor"] = 1.0
    assert document == before
