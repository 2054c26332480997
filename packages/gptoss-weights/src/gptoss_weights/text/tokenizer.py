"""The tokenizer of a checkpoint: its `tokenizer.json`, read by the `tokenizers` library."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError, MissingDependencyError

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Tokenizer", "load_tokenizer"]

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer:
    """Text to token ids and back; special tokens are recognised where the text spells them out."""

    def __init__(self, backend: "tokenizers.Tokenizer") -> None:
        self._backend = backend

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added in front or behind."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, special tokens spelled out; bytes that are no UTF-8 become U+FFFD."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        """Id of one token such as `<|return|>`, or None."""
        return self._backend.token_to_id(token)


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
