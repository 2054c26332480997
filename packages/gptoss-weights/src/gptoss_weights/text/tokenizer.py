"""The tokenizer of a checkpoint: its `tokenizer.json`, read by the `tokenizers` library."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError, MissingDependencyError, NotUnicodeError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Tokenizer", "load_tokenizer"]

TOKENIZER_FILE = "tokenizer.json"
LAST_TOKEN = 2**32 - 1  # the `tokenizers` library counts in 32 bits


class Tokenizer:
    """Text to token ids and back; special tokens are recognised where the text spells them out."""

    def __init__(self, backend: "tokenizers.Tokenizer") -> None:
        self._backend = backend
        self._ordinary = _without_added_tokens(backend)
        self._added = {token: added.content for token, added in backend.get_added_tokens_decoder().items()}

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple["tokenizers.Tokenizer"]]:
        return Tokenizer, (self._backend,)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added in front or behind.

        Raises:
            NotUnicodeError: the text is none.
        """
        return _encode(self._backend, text)

    def encode_ordinary(self, text: str) -> list[int]:
        """Token ids of a text in which nothing is special: `<|end|>` stays seven characters of text.

        Raises:
            NotUnicodeError: the text is none.
        """
        return _encode(self._ordinary, text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, special tokens spelled out; bytes that are no UTF-8 become U+FFFD."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        """Id of one token such as `<|return|>`, or None."""
        return self._backend.token_to_id(token)

    def token_bytes(self, token: int) -> bytes | None:
        """The UTF-8 bytes that one id stands for, maybe a part of a character only; None outside the vocabulary.

        Raises:
            CheckpointError: the tokenizer is not a byte-level one, as GPT-OSS's is.
        """
        if token in self._added:
            return self._added[token].encode()
        spelled = self._backend.id_to_token(token) if 0 <= token <= LAST_TOKEN else None
        if spelled is None:
            return None
        alphabet = _byte_alphabet()
        try:
            return bytes(alphabet[character] for character in spelled)
        except KeyError:
            raise CheckpointError(
                f"token {token} does not spell bytes",
                where=TOKENIZER_FILE,
                expected="a byte-level vocabulary, as GPT-OSS has",
                found=repr(spelled),
            ) from None


def _encode(backend: "tokenizers.Tokenizer", text: str) -> list[int]:
    try:
        return list(backend.encode(text, add_special_tokens=False).ids)
    except TypeError:  # what the library makes of a string that UTF-8 cannot write
        raise NotUnicodeError(
            "the text is no Unicode: it has bytes that are no UTF-8, or half of a surrogate pair",
            found=f"{text[:40]!a}",
        ) from None


def load_tokenizer(source: Checkpoint | Path) -> Tokenizer:
    """Loads the tokenizer of a checkpoint, of a folder that has a `tokenizer.json`, or from the file itself.

    Raises:
        MissingDependencyError: the extra `text` is not installed.
        CheckpointError: there is no tokenizer, or it cannot be read.
    """
    try:
        import tokenizers
    except ImportError:
        raise MissingDependencyError(
            "text needs the `tokenizers` library",
            fix="Install it with: pip install 'gptoss-weights[text]', or give token ids instead of text.",
        ) from None
    path = _tokenizer_path(source)
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -- the library raises nothing more specific
        raise CheckpointError(f"the tokenizer cannot be read ({error})", where=path) from None
    return Tokenizer(backend)


def _without_added_tokens(backend: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    """The same model (shared, not copied) and the same cutting into words, with no token recognised in a text."""
    import tokenizers

    ordinary = tokenizers.Tokenizer(backend.model)
    if backend.normalizer is not None:
        ordinary.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        ordinary.pre_tokenizer = backend.pre_tokenizer
    return ordinary


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    """Character → byte, as byte-level vocabularies are spelled (openai/gpt-2 `encoder.py`).

    Bytes that print in Latin-1 stand for themselves, the others for the characters from U+0100 on.
    """
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _tokenizer_path(source: Checkpoint | Path) -> Path:
    if isinstance(source, Checkpoint):
        path = source.side_files.get(TOKENIZER_FILE)
        where: object = "the checkpoint"
    else:
        path = source / TOKENIZER_FILE if source.is_dir() else source
        where = source
    if path is None or not path.is_file():
        raise CheckpointError(
            f"there is no {TOKENIZER_FILE}",
            where=where,
            fix="Copy it from the published repository beside the weights, or give token ids instead of text.",
        )
    return path
