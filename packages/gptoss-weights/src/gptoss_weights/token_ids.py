"""Token ids on a command line, `1,2,3`: read, refused and worded alike by every program of the toolkit."""

import re
from collections.abc import Sequence

import click

__all__ = ["parse_token_ids", "require_known_tokens", "token_ids_callback"]

_TOKEN_ID = re.compile(r"[0-9]{1,18}")  # far beyond any vocabulary, and always an int64
_SHOWN_CHARACTERS = 20  # of a word that is refused


def parse_token_ids(text: str) -> list[int]:
    """The ids of a prompt written as `1,2,3`; spaces around an id do no harm.

    Raises:
        ValueError: there is no id, or what stands between two commas is none.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not _TOKEN_ID.fullmatch(word):
            shown = word if len(word) <= _SHOWN_CHARACTERS else f"{word[:_SHOWN_CHARACTERS]}…"
            raise ValueError(f"{shown!r} is not a token id; write them as 1,2,3")
    return [int(word) for word in words]


def token_ids_callback(context: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """`parse_token_ids` as the callback of an option, None where it was not given; else a usage error."""
    if value is None:
        return None
    try:
        return parse_token_ids(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def require_known_tokens(tokens: Sequence[int], vocab_size: int) -> None:
    """Holds the ids of `--tokens` against the vocabulary, once the model's is known.

    Raises:
        click.BadParameter: an id is outside the vocabulary.
    """
    for place, token in enumerate(tokens):
        if not 0 <= token < vocab_size:
            sentence = f"token id {token} at place {place} is not in the vocabulary, 0 … {vocab_size - 1}"
            raise click.BadParameter(sentence, param_hint="'--tokens'")
