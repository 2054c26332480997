"""Harmony over the tokenizer of the demo checkpoint, which has its special tokens."""

import pytest
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
from gptoss_weights.text.harmony import HarmonyEncoding, load_harmony_encoding


@pytest.fixture(scope="session")
def encoding() -> HarmonyEncoding:
    return load_harmony_encoding(DEMO_CHECKPOINT_PATH)
