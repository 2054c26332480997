"""Streaming: one step of the compiled loop at a time, while the host looks at the step before."""

from collections.abc import Iterator, Sequence

from gptoss_weights.completions import NewToken
from gptoss_weights.sampling import Sampling

from gptoss_model.generation.reading import Reader
from gptoss_model.generation.request import Request, check_request
from gptoss_model.generation.run import Run
from gptoss_model.model import GptOss

__all__ = ["stream"]


def stream(
    model: GptOss,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int] = (),
    sampling: Sampling | None = None,
    seed: int = 0,
    logprobs: bool = False,
    top_logprobs: int = 0,
    prefill_length: int | None = None,
    max_length: int | None = None,
) -> Iterator[NewToken]:
    """The tokens of `complete`, each as soon as it is there.

    Who stops iterating (or closes the iterator) stops the generation, at most one step later.

    Args:
        model: The model.
        prompts: Token ids; lengths may differ.
        max_new_tokens: The most tokens to add to each.
        eos_token_ids: A sequence ends with the first of these that it generates.
        sampling: How to draw; None for the most likely token.
        seed: As in `complete`; equal seeds give equal tokens there and here.
        logprobs: Whether to report the log-probability of each token.
        top_logprobs: How many of the most likely tokens to report with each; implies `logprobs`.
        prefill_length: As in `complete`.
        max_length: As in `complete`.

    Returns:
        An iterator that gives, step by step, the token of each prompt that has not ended.

    Raises:
        ValueError: as in `complete`, before anything is computed.
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
    return _stream(model, request)


def _stream(model: GptOss, request: Request) -> Iterator[NewToken]:
    if not request.max_new_tokens:
        return
    run, reader = Run(model, request), Reader(request)
    coming = run.begin()
    try:
        for step in range(request.max_new_tokens):
            # The next step begins before this one is looked at; if all sequences end here, it computes nothing.
            following = run.decode(1) if step + 1 < request.max_new_tokens else coming
            yield from reader.read(coming)
            if reader.is_done:
                return
            coming = following
    finally:
        run.wait()  # so that nothing goes on computing for nobody
