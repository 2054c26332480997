"""The arguments of `complete` and `stream` as a command has them, refused before minutes of loading."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import click
from gptoss_weights import GptOssWarning

if TYPE_CHECKING:
    from gptoss_weights import GptOssConfig
    from gptoss_weights.sampling import Sampling

__all__ = ["GenerationOptions", "refuse_impossible"]


class GenerationOptions(TypedDict):
    """Keywords of `gptoss_model.complete` and `gptoss_model.stream`."""

    max_new_tokens: int
    eos_token_ids: Sequence[int]
    sampling: "Sampling | None"
    seed: int
    prefill_length: int | None
    max_length: int | None
    top_logprobs: int


def refuse_impossible(config: "GptOssConfig", prompts: Sequence[Sequence[int]], options: GenerationOptions) -> None:
    """Makes a usage error of what generation would refuse.

    Raises:
        click.UsageError: an option does not fit the prompt, the model or another option.
    """
    from gptoss_model.generation.request import check_request

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GptOssWarning)  # it will be heard when the request is made
            check_request(config, prompts, logprobs=False, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
