"""Printing what is generated, alike for every engine: text as it comes, and tokens with their log-probabilities."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from gptoss_weights.completions import Completion, NewToken

if TYPE_CHECKING:
    from gptoss_weights.text import Tokenizer

__all__ = ["logprobs_document", "logprobs_table", "print_stream", "token_line"]


def print_stream(stream: Iterable[NewToken], tokenizer: "Tokenizer | None") -> list[NewToken]:
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


def logprobs_document(completion: Completion) -> dict[str, Any]:
    """What `--logprobs` and `--top-logprobs` add to a JSON document."""
    document: dict[str, Any] = {}
    if completion.logprobs is not None:
        document["logprobs"] = completion.logprobs
    if completion.top_logprobs is not None:
        document["top_logprobs"] = [
            [{"token": token, "logprob": logprob} for token, logprob in top.items()] for top in completion.top_logprobs
        ]
    return document


def logprobs_table(completion: Completion, tokenizer: "Tokenizer | None") -> Iterator[str]:
    """A line for each new token, and below it one for each of the most likely; nothing if they were not asked for."""
    if completion.logprobs is None:
        return
    for place, (token, logprob) in enumerate(zip(completion.tokens, completion.logprobs, strict=True)):
        yield token_line(token, logprob, tokenizer)
        for other, value in (completion.top_logprobs or [{}] * (place + 1))[place].items():
            yield f"    {token_line(other, value, tokenizer)}"


def token_line(token: int, logprob: float, tokenizer: "Tokenizer | None") -> str:
    """An id, its log-probability, and the text that it stands for by itself."""
    shown = "" if tokenizer is None else f"  {tokenizer.decode([token])!r}"
    return f"{token:>7}  {logprob:>9.4f}{shown}"
