"""Whole completions: `complete`, and `generate` for who wants the ids alone."""

from collections.abc import Sequence

from gptoss_weights.completions import Completion, NewToken
from gptoss_weights.sampling import Sampling

from gptoss_model.generation.reading import Reader
from gptoss_model.generation.request import Request, check_request
from gptoss_model.generation.run import Run
from gptoss_model.model import GptOss

__all__ = ["complete", "generate"]


def generate(
    model: GptOss,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int] = (),
    sampling: Sampling | None = None,
    seed: int = 0,
    prefill_length: int | None = None,
    max_length: int | None = None,
) -> list[list[int]]:
    """Continues prompts as one batch, greedily unless told otherwise: the new ids of `complete`."""
    completions = complete(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        eos_token_ids=eos_token_ids,
        sampling=sampling,
        seed=seed,
        prefill_length=prefill_length,
        max_length=max_length,
    )
    return [completion.tokens for completion in completions]


def complete(
    model: GptOss,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int] = (),
    sampling: Sampling | None = None,
    seed: int = 0,
    logprobs: bool = False,
    top_logprobs: int = 0,
    prompt_logprobs: bool = False,
    prefill_length: int | None = None,
    max_length: int | None = None,
) -> list[Completion]:
    """Continues prompts as one batch, in one compiled loop.

    Args:
        model: The model.
        prompts: Token ids; lengths may differ.
        max_new_tokens: The most tokens to add to each; with 0, prompts are only scored.
        eos_token_ids: A sequence ends with the first of these that it generates.
        sampling: How to draw; None for the most likely token.
        seed: 0 … 2³² − 1. A draw depends on the seed, the prompt's place in the batch and the number
            of tokens generated before it (`gptoss_model.sampling`).
        logprobs: Whether to report the log-probability of each new token.
        top_logprobs: How many of the most likely tokens to report at each new one; implies `logprobs`.
        prompt_logprobs: Whether to report those of the prompts.
        prefill_length: Feeds prompts in pieces of just this many tokens, the last one padded, so that one
            program serves all prompts. By default pieces of at most 512, padded to `bucket_length`.
        max_length: Tokens of a sequence in the cache, prompt and answer together, so that one program
            serves all requests. By default what this request needs, padded to `bucket_length`.

    Returns:
        What was generated, in the order of the prompts.

    Raises:
        ValueError: there is no prompt, one is empty or holds an id outside the vocabulary, an argument
            is out of its range, or a sequence could grow beyond `max_length`.

    Warns:
        GptOssWarning: a sequence could grow beyond the positions that the checkpoint is meant for.
    """
    request = check_request(
        model.config,
        prompts,
        max_new_tokens=max_new_tokens,
        eos_token_ids=eos_token_ids,
        sampling=sampling,
        seed=seed,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        prefill_length=prefill_length,
        max_length=max_length,
    )
    news: list[list[NewToken]] = [[] for _ in prompts]
    scores: Sequence[list[float] | None] | None = None
    if max_new_tokens or prompt_logprobs:
        run, reader = Run(model, request, is_scored=prompt_logprobs), Reader(request)
        scores = run.prompt_logprobs
        records = [run.begin()] if max_new_tokens else []
        if max_new_tokens > 1:
            records.append(run.decode(request.room))
        for record in records:
            for new in reader.read(record):
                news[new.sequence].append(new)
    return [_completion(request, *parts) for parts in zip(news, scores or [None] * len(news), strict=True)]


def _completion(request: Request, news: list[NewToken], prompt_logprobs: list[float] | None) -> Completion:
    is_reported, has_top = request.report is not None, bool(request.report)
    return Completion(
        tokens=[new.token for new in news],
        finish_reason=(news[-1].finish_reason if news else None) or "length",
        logprobs=[new.logprob for new in news if new.logprob is not None] if is_reported else None,
        top_logprobs=[new.top_logprobs for new in news if new.top_logprobs is not None] if has_top else None,
        prompt_logprobs=prompt_logprobs,
    )
