"""What the demo's training starts from, made of a text that comes with the package."""

from pathlib import Path

import pytest
from gptoss_weights import open_checkpoint, verify_artefact
from gptoss_weights.demo.start import DEMO_CONFIG, SPECIAL_TOKENS, build_start
from gptoss_weights.stop_tokens import eos_token_ids
from gptoss_weights.text import load_tokenizer

LICENSE = Path(__file__).parents[1] / "LICENSE"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "demo-start"
    build_start(folder, [LICENSE])
    return folder


def test_start_is_a_whole_checkpoint_of_the_geometry(start: Path) -> None:
    assert open_checkpoint(start).config == DEMO_CONFIG
    report = verify_artefact(start)
    assert (report.problems, report.unlisted) == ([], [])


def test_tokenizer_fills_the_vocabulary_and_ends_it_with_special_tokens(start: Path) -> None:
    tokenizer = load_tokenizer(start)
    assert tokenizer.vocab_size == DEMO_CONFIG.vocab_size
    first = DEMO_CONFIG.vocab_size - len(SPECIAL_TOKENS)
    assert [tokenizer.token_id(token) for token in SPECIAL_TOKENS] == list(range(first, DEMO_CONFIG.vocab_size))
    text = LICENSE.read_text()
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert len(tokens) < len(text) / 3


def test_generation_stops_at_return_and_endoftext(start: Path) -> None:
    tokenizer = load_tokenizer(start)
    ids = [tokenizer.token_id("<|return|>"), tokenizer.token_id("<|endoftext|>")]
    assert list(eos_token_ids(open_checkpoint(start))) == ids


def test_texts_that_are_too_short_for_the_vocabulary_are_refused(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Hello world")
    with pytest.raises(ValueError, match=r"vocabulary of .* expected 1206: give longer texts"):
        build_start(tmp_path / "start", [short])
    assert not (tmp_path / "start").exists()
