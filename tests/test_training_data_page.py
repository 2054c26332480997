"""The page on training data knows every key of the config, and its examples are configs."""

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from gptoss_train.data import DataConfig


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "training-data.md").read_text()


def keys(config: type) -> list[str]:
    hints = get_type_hints(config)
    nested = [key for hint in hints.values() if dataclasses.is_dataclass(hint) for key in keys(hint)]
    return [*hints, *nested]


def make(config: type, values: dict) -> object:
    hints = get_type_hints(config)
    made = {
        key: make(hints[key], value) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
    }
    return config(**made)


def test_the_page_names_every_key(page):
    code = re.findall(r"```yaml\n.*?```", page, re.DOTALL) + re.findall(r"`[^`\n]+`", page)
    named = {word for piece in code for word in re.findall(r"[a-z_]+", piece)}
    assert [key for key in keys(DataConfig) if key not in named] == []


def test_every_example_is_a_config(page):
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) > 1
    for example in examples:
        assert isinstance(make(DataConfig, yaml.safe_load(example)["data"]), DataConfig)
