"""Text as its tokens come: every character once, as soon as all of its bytes are there."""

import codecs

from gptoss_weights.text.tokenizer import Tokenizer

__all__ = ["TextStream"]


class TextStream:
    """Turns tokens into pieces of text that together are `Tokenizer.decode` of them all."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """What is new with a token: nothing while a character is incomplete, or where the vocabulary has no such id."""
        return self._decoder.decode(self._tokenizer.token_bytes(token) or b"")

    def finish(self) -> str:
        """What is left when no token follows: U+FFFD if a character has remained incomplete."""
        return self._decoder.decode(b"", final=True)
