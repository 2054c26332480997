"""Values on the command line that are more than a word or a number."""

import click

__all__ = ["parse_tokens"]


def parse_tokens(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Token ids between commas, `1,2,3`, as a click callback; a usage error if one is no whole number."""
    words = [word.strip() for word in value.split(",") if word.strip()]
    if not words:
        raise click.BadParameter("there are no token ids; write them as 1,2,3", context, parameter)
    wrong = [word for word in words if not (word.isascii() and word.isdecimal())]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is not a token id; write them as 1,2,3", context, parameter)
    return tuple(int(word) for word in words)
