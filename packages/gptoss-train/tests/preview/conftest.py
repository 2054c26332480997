"""A dataset of conversations and texts, over the demo's tokenizer."""

import json

import pytest
from gptoss_train.data import DataConfig, open_dataset
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
from gptoss_weights.text import load_tokenizer

RECORDS = [
    {
        "messages": [
            {"role": "user", "content": "Is <b>it</b> sunny?\nWhere?"},
            {"role": "assistant", "thinking": "I look.", "content": "Yes."},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "I am."},
        ]
    },
    {"messages": [{"role": "user", "content": "Nobody answers."}]},
    {"text": "Some text.\tWith é."},
]


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(DEMO_CHECKPOINT_PATH)


@pytest.fixture
def open_with(tmp_path, tokenizer):
    def open_one(records=RECORDS, *, batch_size=2, sequence_length=300, **options):
        path = tmp_path / "records.jsonl"
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        config = DataConfig(source="jsonl", files=(str(path),), **({"shuffle": False} | options))
        return open_dataset(
            config,
            vocabulary_size=tokenizer.vocab_size,
            tokenizer=tokenizer,
            batch_size=batch_size,
            sequence_length=sequence_length,
            seed=1,
        )

    return open_one
