"""A config holds what the mathematics needs, in one normal form, and refuses what cannot be."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, CheckpointError, GptOssConfig, GptOssWarning
from gptoss_weights.config_dialects.numbers import NUMBERS
from gptoss_weights.testing import tiny_config


def test_fields_are_the_published_keys_in_the_published_order() -> None:
    assert tuple(field.name for field in dataclasses.fields(GptOssConfig) if field.name != "document") == NUMBERS


def test_derived_sizes() -> None:
    config = tiny_config()
    assert (config.q_size, config.kv_size) == (180, 90)
    assert config.max_position_embeddings == 131072
    assert tiny_config(rope_scaling_factor=0.5).max_position_embeddings == 4096
    assert [config.is_sliding(layer) for layer in range(4)] == [True, False, True, False]


def test_spelling_of_a_number_does_not_matter() -> None:
    as_floats = tiny_config(rope_theta=150000.0, rope_ntk_alpha=1.0, hidden_size=96.0, swiglu_limit=7)
    assert as_floats == tiny_config()
    assert as_floats.to_openai() == tiny_config().to_openai()
    assert repr(as_floats.to_openai()) == repr(tiny_config().to_openai())


def test_numbers_are_the_sixteen_alone_whatever_the_document_says() -> None:
    flat = tiny_config().to_openai() | {"rope_theta": 150000.0, "swiglu_limit": 7, "rope_ntk_alpha": 1.0}
    with pytest.warns(GptOssWarning, match="'extra'"):
        spelled = GptOssConfig.from_json(flat | {"extra": 1})
    nested = GptOssConfig.from_json(tiny_config().to_huggingface())
    expected = json.dumps(tiny_config().numbers())
    assert json.dumps(spelled.numbers()) == json.dumps(nested.numbers()) == expected
    assert tuple(spelled.numbers()) == NUMBERS


def test_configs_hash_copy_and_pickle() -> None:
    config = GptOssConfig.from_json(GPT_OSS_20B.to_huggingface())
    assert hash(config) == hash(GPT_OSS_20B) != hash(GPT_OSS_120B)
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config
    assert pickle.loads(pickle.dumps(config)).to_huggingface() == config.to_huggingface()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"experts_per_token": 8}, "experts_per_token = 8 exceeds num_experts = 7"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 10 is no multiple of num_key_value_heads = 4"),
        ({"head_dim": 17}, "head_dim = 17 is odd"),
        ({"hidden_size": 100}, "hidden_size = 100 is no multiple of the MXFP4 block of 32"),
        ({"intermediate_size": 48}, "intermediate_size = 48 is no multiple of the MXFP4 block of 32"),
        ({"head_dim": 4}, "the YaRN ramp"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must lie between 1 and 4096, not 0"),
        ({"swiglu_limit": 0.0}, "swiglu_limit must be a finite number above 0, not 0.0"),
        ({"rope_theta": float("nan")}, "rope_theta must be a finite number above 1, not"),
        ({"rope_theta": 1}, "rope_theta must be a finite number above 1, not 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must lie between 1 and 4096, not 1e+09"),
        ({"vocab_size": 2**31}, "vocab_size must lie between 1 and 2147483647"),
        ({"rope_theta": "150000"}, "rope_theta must be a number, not '150000'"),
        ({"vocab_size": True}, "vocab_size must be a number, not True"),
        ({"vocab_size": 2.5}, "vocab_size must be a whole number, not 2.5"),
        ({"vocab_size": float("inf")}, "vocab_size must be a whole number, not inf"),
        ({"rope_theta": 10**400}, "rope_theta must be a finite number above 1, not"),
    ],
)
def test_impossible_geometry_is_refused(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        tiny_config(**overrides)
    assert words in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(CheckpointError) as error:
        tiny_config(experts_per_token=8, head_dim=17, hidden_size=100)
    assert all(name in str(error.value) for name in ("experts_per_token", "head_dim", "hidden_size"))


def test_reading_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match=r"config\.json: the config is not there\. Give its place with --config"):
        GptOssConfig.read(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: the config is not valid JSON"):
        GptOssConfig.read(path)
    path.write_text('{"vocab_size": 1, "vocab_size": 2}')
    with pytest.raises(CheckpointError, match="the key 'vocab_size' stands there twice"):
        GptOssConfig.read(path)
    path.write_text("[]")
    with pytest.raises(CheckpointError, match="the config is not a JSON object; found list"):
        GptOssConfig.read(path)


def test_metadata_is_a_copy_without_the_mathematics() -> None:
    document = GPT_OSS_20B.to_huggingface() | {"eos_token_id": [1, 2]}
    config = GptOssConfig.from_json(document)
    assert config.metadata["eos_token_id"] == [1, 2]
    assert "hidden_size" not in config.metadata
    assert "rope_scaling" not in config.metadata
    config.metadata["eos_token_id"].append(3)
    document["eos_token_id"].append(4)
    assert config.metadata["eos_token_id"] == [1, 2]
