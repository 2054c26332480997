import dataclasses
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from gptoss_train.data import ConversationConfig, DataConfig, HuggingFaceConfig, SyntheticConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "jsonl"}, "data.files: source 'jsonl' needs at least one"),
        ({"files": ("a",)}, "data.files: source 'synthetic' reads none"),
        ({"source": "huggingface"}, "data.huggingface.name: it names no dataset"),
        ({"huggingface": HuggingFaceConfig(name="x/y")}, "data.huggingface: source 'synthetic' reads none"),
        ({"huggingface": HuggingFaceConfig(split="test")}, "data.huggingface: source 'synthetic' reads none"),
        ({"skip": -1}, "data.skip: expected 0 or more, found -1"),
        ({"take": 0}, "data.take: expected null, or 1 or more, found 0"),
        ({"epochs": 0}, "data.epochs: expected null, or 1 or more, found 0"),
        ({"packing_window": 0}, "data.packing_window: expected 1 or more, found 0"),
        ({"threads": -1}, "data.threads: expected 0 or more, found -1"),
        ({"overlong": "split", "format": "conversation"}, "a conversation cannot be split"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(options, words):
    with pytest.raises(ValueError, match=words):
        DataConfig(**options)


def test_all_problems_are_named_at_once():
    with pytest.raises(ValueError, match=r"data\.skip.*; data\.threads"):
        DataConfig(skip=-1, threads=-1)


def test_a_ring_needs_more_symbols_than_branches():
    with pytest.raises(ValueError, match="branching < symbols"):
        SyntheticConfig(symbols=2, branching=2)


@pytest.mark.parametrize("options", [{"turns": "last"}, {"channels": ("final",)}])
def test_a_choice_that_loss_on_all_would_ignore_is_refused(options):
    with pytest.raises(ValueError, match="loss_on 'all' learns every token"):
        ConversationConfig(loss_on="all", **options)


def test_evaluation_goes_through_the_records_once_and_in_order():
    config = DataConfig(epochs=None, shuffle=True, skip=5).for_evaluation()
    assert (config.epochs, config.shuffle, config.skip) == (1, False, 5)


def test_every_field_is_of_a_type_that_a_file_can_hold():
    def is_plain(kind) -> bool:
        if get_origin(kind) is Literal or kind in (str, int, float, bool, type(None), ...):
            return True
        return all(map(is_plain, get_args(kind))) if get_args(kind) else dataclasses.is_dataclass(kind) and check(kind)

    def check(config) -> bool:
        hints = get_type_hints(config)
        assert all(is_plain(hints[field.name]) for field in dataclasses.fields(config)), config
        return True

    assert check(DataConfig)
