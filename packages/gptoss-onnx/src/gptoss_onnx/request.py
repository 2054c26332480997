"""A request: what to generate, checked before anything is computed."""

import dataclasses
import operator
import warnings
from collections.abc import Collection, Sequence

import numpy as np
from gptoss_weights import GptOssConfig, GptOssWarning
from gptoss_weights.sampling import Sampling

from gptoss_onnx.errors import RequestError
from gptoss_onnx.sampling import MAX_SEED

__all__ = ["Request", "check_request"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `complete` and `stream`, known to be possible.

    Attributes:
        prompts: Ids of the vocabulary, at least one in each.
        max_new_tokens: The most tokens to add to each.
        eos_token_ids: What ends a sequence.
        sampling: How to draw, or None.
        seed: In the range of seeds.
        report: None for tokens alone, else how many of the most likely to report beside the chosen.
        prefill_length: Tokens of a piece of the prompts, if that is fixed.
        max_length: Tokens that a sequence can have in the cache.
    """

    prompts: list[list[int]]
    max_new_tokens: int
    eos_token_ids: frozenset[int]
    sampling: Sampling | None
    seed: int
    report: int | None
    prefill_length: int | None
    max_length: int


def check_request(
    config: GptOssConfig,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Collection[int] = (),
    sampling: Sampling | None = None,
    seed: int = 0,
    logprobs: bool = False,
    top_logprobs: int = 0,
    prefill_length: int | None = None,
    max_length: int | None = None,
    longest: int | None = None,
    is_warned: bool = True,
) -> Request:
    """The request, if it is possible; the arguments are those of `complete`, `Engine.longest`, and whether to warn.

    Raises:
        RequestError: it is not.

    Warns:
        GptOssWarning: a sequence could grow beyond the positions that the checkpoint is meant for.
    """
    ids = [_check_prompt(prompt, place, config.vocab_size) for place, prompt in enumerate(prompts)]
    if not ids:
        raise RequestError("there is no prompt to continue")
    if max_new_tokens < 0:
        raise RequestError(f"max_new_tokens is at least 0, not {max_new_tokens}")
    if not 0 <= top_logprobs <= config.vocab_size:
        raise RequestError(f"top_logprobs is at least 0 and at most {config.vocab_size}, not {top_logprobs}")
    if not 0 <= seed <= MAX_SEED:
        raise RequestError(f"a seed is a whole number from 0 to {MAX_SEED}, not {seed}")
    for name, length in (("prefill_length", prefill_length), ("max_length", max_length)):
        if length is not None and length < 1:
            raise RequestError(f"{name} is at least 1, not {length}")
    prompt_length = max(len(prompt) for prompt in ids)
    needed = prompt_length + max_new_tokens
    if max_length is not None and needed > max_length:
        raise RequestError(
            f"a prompt of {prompt_length} tokens and {max_new_tokens} new ones make {needed}, "
            f"more than max_length {max_length}"
        )
    if longest is not None and needed > longest:
        raise RequestError(
            f"a prompt of {prompt_length} tokens and {max_new_tokens} new ones make {needed}, "
            "more than this export can take",
            expected=f"at most {longest}, prompt and answer together",
            fix="Ask for fewer, or export with profile portable and no --sequence-length, which has no last position.",
        )
    if is_warned and needed > config.max_position_embeddings:
        warnings.warn(
            f"prompt and answer can reach {needed} tokens, but the checkpoint is meant for at most "
            f"{config.max_position_embeddings}; beyond them answers get worse",
            GptOssWarning,
        )
    return Request(
        prompts=ids,
        max_new_tokens=max_new_tokens,
        eos_token_ids=frozenset(eos_token_ids),  # one that the vocabulary lacks is never generated
        sampling=sampling,
        seed=seed,
        report=top_logprobs if logprobs or top_logprobs else None,
        prefill_length=prefill_length,
        max_length=max_length or needed,
    )


def _check_prompt(prompt: Sequence[int], place: int, vocab_size: int) -> list[int]:
    if not len(prompt):
        raise RequestError("a prompt needs at least one token", where=f"prompt {place}")
    ids = [operator.index(token) for token in np.asarray(prompt).tolist()]
    for position, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise RequestError(
                "the token is not in the vocabulary",
                where=f"tokens[{place}, {position}]",
                expected=f"0 … {vocab_size - 1}",
                found=token,
            )
    return ids
