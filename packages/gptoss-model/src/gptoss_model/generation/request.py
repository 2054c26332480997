"""A request: what to generate, checked before anything is computed, and the lengths it is compiled for."""

import dataclasses
import operator
import warnings
from collections.abc import Sequence

import numpy as np
from gptoss_weights import GptOssConfig, GptOssWarning
from gptoss_weights.sampling import Sampling

from gptoss_model.generation.lengths import bucket_length
from gptoss_model.sampling import check_seed

__all__ = ["Request", "check_prompt", "check_request"]

LARGEST_LENGTH = 2**31 - 1  # positions are int32


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
        cache_length: Tokens that a sequence of the cache can have.
        room: Steps that the compiled loop has room for.
    """

    prompts: list[list[int]]
    max_new_tokens: int
    eos_token_ids: frozenset[int]
    sampling: Sampling | None
    seed: int
    report: int | None
    prefill_length: int | None
    cache_length: int
    room: int


def check_request(
    config: GptOssConfig,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    sampling: Sampling | None,
    seed: int,
    logprobs: bool,
    top_logprobs: int,
    prefill_length: int | None,
    max_length: int | None,
) -> Request:
    """The request, if it is possible; the arguments are those of `complete`.

    Raises:
        ValueError: it is not.

    Warns:
        GptOssWarning: a sequence could grow beyond the positions that the checkpoint is meant for.
    """
    ids = [check_prompt(prompt, place, config.vocab_size) for place, prompt in enumerate(prompts)]
    if not ids:
        raise ValueError("generation needs at least one prompt, and at least one token in each")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is at least 0, not {max_new_tokens}")
    if not 0 <= top_logprobs <= config.vocab_size:
        raise ValueError(f"top_logprobs is at least 0 and at most {config.vocab_size}, not {top_logprobs}")
    for name, length in (("prefill_length", prefill_length), ("max_length", max_length)):
        if length is not None and not 1 <= length <= LARGEST_LENGTH:
            raise ValueError(f"{name} is at least 1 and at most {LARGEST_LENGTH}, not {length}")
    longest = max(len(prompt) for prompt in ids)
    needed, most = longest + max_new_tokens, max_length or LARGEST_LENGTH
    if needed > most:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones make {needed}, more than max_length {most}"
        )
    if needed > config.max_position_embeddings:
        warnings.warn(
            f"prompt and answer can reach {needed} tokens, but the checkpoint is meant for at most "
            f"{config.max_position_embeddings}; beyond them answers get worse",
            GptOssWarning,
        )
    return Request(
        prompts=ids,
        max_new_tokens=max_new_tokens,
        # One that the vocabulary lacks is never generated, and may be no int32.
        eos_token_ids=frozenset(token for token in eos_token_ids if 0 <= token < config.vocab_size),
        sampling=sampling,
        seed=check_seed(seed),
        report=top_logprobs if logprobs or top_logprobs else None,
        prefill_length=prefill_length,
        cache_length=max_length or bucket_length(needed),
        room=max_length or bucket_length(max(max_new_tokens, 1)),
    )


def check_prompt(prompt: Sequence[int], place: int, vocab_size: int) -> list[int]:
    """The ids of a prompt, which is the one at `place` of a batch.

    Raises:
        ValueError: it is empty, or holds an id outside the vocabulary.
        TypeError: it holds something other than whole numbers.
    """
    if not len(prompt):
        raise ValueError(f"generation needs at least one token in each prompt, but prompt {place} is empty")
    ids = [operator.index(token) for token in np.asarray(prompt).tolist()]
    for position, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise ValueError(f"token id {token} at [{place}, {position}] is not in 0 … {vocab_size - 1}")
    return ids
