"""Printing what is generated: text as it comes, and tokens with their log-probabilities."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gptoss_weights.text import Tokenizer

    from gptoss_model.generation import NewToken

__all__ = ["print_stream", "token_line"]


def print_stream(stream: "Iterable[NewToken]", tokenizer: "Tokenizer | None") -> "list[NewToken]":
    """Prints the text of one sequence as it comes, or its ids without a tokenizer, and gives its tokens."""
    news: list[NewToken] = []
    if tokenizer is None:
        for new in stream:
            click.echo(f"{',' if news else ''}{new.token}", nl=False)
            news.append(new)
        click.echo()
        return news
    from gptoss_weights.text import TextStream

    text = TextStream(tokenizer)
    for new in stream:
        click.echo(text.feed(new.token), nl=False)
        news.append(new)
    click.echo(text.finish())
    return news


def token_line(token: int, logprob: float, tokenizer: "Tokenizer | None") -> str:
    """An id, its log-probability, and the text that it stands for by itself."""
    shown = "" if tokenizer is None else f"  {tokenizer.decode([token])!r}"
    return f"{token:>7}  {logprob:>9.4f}{shown}"
