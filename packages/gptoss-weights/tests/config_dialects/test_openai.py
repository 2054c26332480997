"""OpenAI's dialect is read strictly and written back as it was read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, CheckpointError, GptOssConfig, GptOssWarning
from gptoss_weights.testing import tiny_config


@pytest.fixture
def document() -> dict[str, Any]:
    return tiny_config().to_openai()


def test_dialects_translate_into_each_other(document: dict[str, Any]) -> None:
    config = GptOssConfig.from_json(document)
    there = GptOssConfig.from_json(config.to_huggingface())
    assert there == config == tiny_config()
    assert json.dumps(there.to_openai()) == json.dumps(document)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gpt-oss-20b/original/config.json", GPT_OSS_20B),
        ("gpt-oss-120b/original/config.json.derived", GPT_OSS_120B),
    ],
)
def test_published_config_comes_back_and_can_be_made_from_nothing(
    reference: Path, name: str, config: GptOssConfig
) -> None:
    text = (reference / "published" / name).read_text()
    assert GptOssConfig.from_json(json.loads(text)) == config
    assert json.dumps(config.to_openai()) == text


def test_spelling_and_order_survive_and_changes_are_written(document: dict[str, Any]) -> None:
    spelled = dict(reversed(document.items())) | {"swiglu_limit": 7, "rope_theta": 150000.0}
    config = GptOssConfig.from_json(spelled)
    assert json.dumps(config.to_openai()) == json.dumps(spelled)
    assert dataclasses.replace(config, num_hidden_layers=2).to_openai() == spelled | {"num_hidden_layers": 2}


@pytest.mark.parametrize("name", list(tiny_config().to_openai()))
def test_every_key_is_needed(document: dict[str, Any], name: str) -> None:
    del document[name]
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        GptOssConfig.from_json(document)


def test_misspelled_key_is_pointed_out(document: dict[str, Any]) -> None:
    document["rope_ntk_betta"] = document.pop("rope_ntk_beta")
    with pytest.raises(CheckpointError, match=r"rope_ntk_beta is missing \(is 'rope_ntk_betta' a misspelling\?\)"):
        GptOssConfig.from_json(document)


def test_unknown_key_warns_and_is_carried_along(document: dict[str, Any]) -> None:
    with pytest.warns(GptOssWarning, match="unknown config key 'extra' is kept but not used"):
        config = GptOssConfig.from_json(document | {"extra": 1})
    assert config.to_openai()["extra"] == 1
    assert config.metadata == {"extra": 1}


def test_range_error_names_the_file(document: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"c\.json: the config is not possible: head_dim = 17 is odd"):
        GptOssConfig.from_json(document | {"head_dim": 17}, where="c.json")
