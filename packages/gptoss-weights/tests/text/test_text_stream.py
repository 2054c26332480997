"""Text as its tokens come."""

import pytest
from gptoss_weights.demo import demo_checkpoint
from gptoss_weights.text import TextStream, Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(demo_checkpoint())


def pieces(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*(stream.feed(token) for token in tokens), stream.finish()]


@pytest.mark.parametrize("text", ["We the People", "naïve — 日本語 🙂", "", "<|start|>user<|message|>hi<|end|>"])
def test_pieces_together_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert "".join(pieces(tokenizer, tokenizer.encode(text))) == text


def test_a_character_comes_with_its_last_byte(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("🙂")
    assert len(tokens) > 1
    assert pieces(tokenizer, tokens) == [""] * (len(tokens) - 1) + ["🙂", ""]


def test_whatever_is_no_text_is_what_decoding_it_all_makes_of_it(tokenizer: Tokenizer) -> None:
    smile = tokenizer.encode("🙂")
    for tokens in (smile[:1], smile[:-1] * 3, smile[1:], [*smile[:-1], *tokenizer.encode("a")], [10**6]):
        assert "".join(pieces(tokenizer, tokens)) == tokenizer.decode(tokens)


def test_every_pair_of_ids_streams_as_it_decodes(tokenizer: Tokenizer) -> None:
    step = 7  # prime to the size of the vocabulary, so that all kinds meet
    ids = range(0, tokenizer.vocab_size, step)
    for first in ids:
        for second in range(first % step, tokenizer.vocab_size, 13 * step):
            assert "".join(pieces(tokenizer, [first, second])) == tokenizer.decode([first, second])
