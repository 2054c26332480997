"""The tokenizer leaf: what a checkpoint's tokenizer.json says, and what is said when it is not there."""

import sys
from pathlib import Path

import pytest
from gptoss_weights import CheckpointError, MissingDependencyError, open_checkpoint
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint
from gptoss_weights.text import Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(demo_checkpoint())


@pytest.mark.parametrize(
    "text", ["We the People", "naïve — 日本語 🙂", "", "  two  spaces\n", "<|start|>user<|message|>hi<|end|>"]
)
def test_text_comes_back_unchanged(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_in_the_text_are_single_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<|return|>") == [tokenizer.token_id("<|return|>")]


def test_nothing_is_added_around_the_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.encode("J") == [tokenizer.token_id("J")]


def test_a_token_that_is_not_there_has_no_id(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_id("<|no such token|>") is None


def test_vocabulary_is_that_of_the_checkpoint(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == demo_checkpoint().config.vocab_size


def test_folder_and_file_serve_as_well_as_the_checkpoint(tokenizer: Tokenizer) -> None:
    for source in (DEMO_CHECKPOINT_PATH, DEMO_CHECKPOINT_PATH / "tokenizer.json"):
        assert load_tokenizer(source).encode("People") == tokenizer.encode("People")


def test_checkpoint_without_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", format="openai")
    for source in (folder, open_checkpoint(folder)):
        with pytest.raises(CheckpointError, match=r"there is no tokenizer\.json.*give token ids instead of text"):
            load_tokenizer(source)


def test_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        load_tokenizer(tmp_path)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gptoss-weights\[text\]'"):
        load_tokenizer(demo_checkpoint())
