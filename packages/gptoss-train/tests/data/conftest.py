"""The demo checkpoint's tokenizer and Harmony over it, and files of records."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from gptoss_train.data import DataConfig, open_dataset
from gptoss_train.data.dataset import Dataset
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_checkpoint
from gptoss_weights.text import Tokenizer, load_tokenizer
from gptoss_weights.text.harmony import HarmonyEncoding

VOCABULARY_SIZE = demo_checkpoint().config.vocab_size


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(DEMO_CHECKPOINT_PATH)


@pytest.fixture(scope="session")
def encoding(tokenizer: Tokenizer) -> HarmonyEncoding:
    return HarmonyEncoding(tokenizer)


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """A file of objects, or of lines as they are."""

    def write(records: Sequence[Any], name: str = "records.jsonl") -> Path:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


@pytest.fixture
def open_with(tokenizer: Tokenizer) -> Callable[..., Dataset]:
    """A dataset over the demo's tokenizer."""

    def open_one(config: DataConfig, **options: Any) -> Dataset:
        defaults = {"batch_size": 3, "sequence_length": 32, "seed": 7, "vocabulary_size": VOCABULARY_SIZE}
        return open_dataset(config, tokenizer=tokenizer, **(defaults | options))

    return open_one
