"""Harmony over two tokenizers: the demo checkpoint's, and the published one cut down to what the goldens need."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
from gptoss_weights.text.harmony import HarmonyEncoding, load_harmony_encoding

HERE = Path(__file__).parent
CASES = runpy.run_path(str(HERE / "cases.py"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `conversation_case`, `completion_case` or `template_case` runs once for each."""
    for kind in ("conversation", "completion", "template"):
        if f"{kind}_case" in metafunc.fixturenames:
            metafunc.parametrize(f"{kind}_case", list(CASES[f"{kind.upper()}S"]))


@pytest.fixture(scope="session")
def encoding() -> HarmonyEncoding:
    return load_harmony_encoding(DEMO_CHECKPOINT_PATH)


@pytest.fixture(scope="session")
def published() -> HarmonyEncoding:
    return load_harmony_encoding(HERE / "goldens.tokenizer.json")


@pytest.fixture(scope="session")
def cases() -> dict[str, Any]:
    return CASES


@pytest.fixture(scope="session")
def goldens() -> dict[str, Any]:
    """What openai-harmony, and transformers with the published chat template, made of the cases."""
    return json.loads((HERE / "goldens.json").read_text())
