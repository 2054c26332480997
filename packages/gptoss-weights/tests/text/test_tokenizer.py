"""The tokenizer leaf: what a checkpoint's tokenizer.json says, and what is said when it is not there."""

import json
import pickle
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


def test_copy_in_another_process_is_the_same(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    text = "We the People<|end|>"
    assert copy.encode(text) == tokenizer.encode(text)
    assert copy.encode_ordinary(text) == tokenizer.encode_ordinary(text)


def test_nothing_is_added_around_the_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.encode("J") == [tokenizer.token_id("J")]


@pytest.mark.parametrize("text", ["<|return|>", "a<|end|>b", "We the People", "naïve — 日本語 🙂", ""])
def test_ordinary_text_has_no_special_tokens_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    special = {tokenizer.token_id(token) for token in ("<|return|>", "<|end|>")}
    tokens = tokenizer.encode_ordinary(text)
    assert not special & set(tokens)
    assert tokenizer.decode(tokens) == text


def test_text_without_special_tokens_is_the_same_tokens_either_way(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_ordinary("We the People") == tokenizer.encode("We the People")


def test_text_that_is_no_unicode_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"no Unicode: .* half of a surrogate pair; found 'a\\ud800'"):
        tokenizer.encode_ordinary("a\ud800")


def test_bytes_of_tokens_are_the_bytes_of_their_text(tokenizer: Tokenizer) -> None:
    text = "naïve\n\x00 日本語 🙂<|end|>"
    assert b"".join(tokenizer.token_bytes(token) for token in tokenizer.encode(text)) == text.encode()


def test_added_token_spells_its_text_and_not_its_bytes(tmp_path: Path) -> None:
    document = json.loads((DEMO_CHECKPOINT_PATH / "tokenizer.json").read_text())
    document["added_tokens"][0]["content"] = "<|départ à Ġ|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    assert load_tokenizer(tmp_path).token_bytes(document["added_tokens"][0]["id"]) == "<|départ à Ġ|>".encode()


def test_every_byte_is_a_token(tokenizer: Tokenizer) -> None:
    assert {bytes([byte]) for byte in range(256)} <= {tokenizer.token_bytes(token) for token in range(512)}


@pytest.mark.parametrize("token", [demo_checkpoint().config.vocab_size, 10**6, 2**32, 2**70, -1])
def test_id_outside_the_vocabulary_has_no_bytes(tokenizer: Tokenizer, token: int) -> None:
    assert tokenizer.token_bytes(token) is None


def test_vocabulary_that_spells_no_bytes_is_named(tmp_path: Path) -> None:
    document = json.loads((DEMO_CHECKPOINT_PATH / "tokenizer.json").read_text())
    document["model"]["vocab"]["▁the"] = 9
    del document["model"]["vocab"]["*"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"token 9 does not spell bytes; expected a byte-level.*'▁the'"):
        load_tokenizer(tmp_path).token_bytes(9)


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
