"""The options of sampling, for every command that generates; what they mean stands in `sampling`.

@sampling_options
def command(sampling: Sampling | None, seed: int): …
"""

import functools
from collections.abc import Callable
from typing import Any

import click

__all__ = ["sampling_options"]

MAX_SEED = 2**32 - 1


def sampling_options[Function: Callable[..., Any]](command: Function) -> Callable[..., Any]:
    """Adds `--temperature`, `--top-k`, `--top-p`, `--min-p` and `--seed`; hands over `sampling` and `seed`.

    `sampling` is None, for the most likely token, unless there is a temperature. The filters are
    refused without one: they would do nothing. A seed is not: equal seeds give equal tokens all the same.
    """

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        temperature: float | None,
        top_k: int | None,
        top_p: float | None,
        min_p: float | None,
        seed: int,
        **kwargs: Any,
    ) -> Any:
        if temperature is None:
            given = {"--top-k": top_k, "--top-p": top_p, "--min-p": min_p}
            useless = [option for option, value in given.items() if value is not None]
            if useless:
                raise click.UsageError(
                    f"Without --temperature the most likely token is taken; there is no use for {', '.join(useless)}."
                )
            return command(*args, sampling=None, seed=seed, **kwargs)
        from gptoss_weights.sampling import Sampling

        try:
            sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        return command(*args, sampling=sampling, seed=seed, **kwargs)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_OPTIONS = (
    click.option("--temperature", type=float, help="Draw tokens, flatter above 1; without it or with 0, be greedy."),
    click.option("--top-k", type=int, metavar="K", help="Draw from the K most likely tokens only."),
    click.option("--top-p", type=float, metavar="P", help="Draw from the fewest tokens that weigh P together only."),
    click.option("--min-p", type=float, metavar="P", help="Never draw what is less likely than P times the likeliest."),
    click.option(
        "--seed",
        type=click.IntRange(0, MAX_SEED),
        default=0,
        show_default=True,
        help="Equal seeds draw equal tokens.",
    ),
)
