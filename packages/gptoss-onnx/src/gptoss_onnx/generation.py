"""Generation for prompts of any lengths: feed them to a cache, then choose token after token until all have ended."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np
from gptoss_weights import GptOssConfig
from gptoss_weights.completions import Completion, FinishReason, NewToken
from gptoss_weights.sampling import Sampling

from gptoss_onnx.kv_cache import Cache
from gptoss_onnx.request import Request, check_request
from gptoss_onnx.sampling import Sampler

__all__ = ["Engine", "complete", "generate", "stream"]


class Engine(Protocol):
    """What generation needs of a model; `OnnxModel` is one."""

    config: GptOssConfig

    @property
    def longest(self) -> int | None:
        """The most tokens that a sequence can come to; None: any number."""

    def init_cache(self, batch: int = 1, max_length: int | None = None) -> Cache:
        """An empty cache."""

    def prefill(
        self,
        cache: Cache,
        tokens: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        prefill_length: int | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """Logits of each sequence's last real token, and the new cache."""

    def decode_step(
        self, cache: Cache, tokens: np.ndarray, *, is_active: np.ndarray | None = None
    ) -> tuple[np.ndarray, Cache]:
        """Logits of the token just added, and the new cache."""


def generate(
    model: Engine,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Collection[int] = (),
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
    model: Engine,
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
) -> list[Completion]:
    """Continues prompts as one batch.

    Args:
        model: An `OnnxModel`.
        prompts: Token ids, at least one each; lengths may differ.
        max_new_tokens: The most tokens to add to each.
        eos_token_ids: A sequence ends with the first of these that it generates.
        sampling: How to draw; None for the most likely token.
        seed: 0 … 2³² − 1. A draw depends on the seed, the prompt's place in the batch and the number
            of tokens generated before it, as in gptoss-model (`gptoss_onnx.sampling`).
        logprobs: Whether to report the log-probability of each new token.
        top_logprobs: How many of the most likely tokens to report at each new one; implies `logprobs`.
        prefill_length: Feeds prompts in pieces of so many tokens.
        max_length: The most tokens that a sequence may come to, prompt and answer together.

    Returns:
        What was generated, in the order of the prompts.

    Raises:
        RequestError: there is no prompt, one is empty or holds an id outside the vocabulary, an argument
            is out of its range, or a sequence could grow beyond `max_length` or what the export can take.

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
        longest=model.longest,
    )
    news: list[list[NewToken]] = [[] for _ in prompts]
    for new in _stream(model, request):
        news[new.sequence].append(new)
    return [_completion(request, of_one) for of_one in news]


def stream(
    model: Engine,
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
) -> Iterator[NewToken]:
    """The tokens of `complete`, each as soon as it is there; the arguments are the same.

    Who stops iterating stops the generation.

    Returns:
        An iterator that gives, step by step, the token of each prompt that has not ended.

    Raises:
        RequestError: as in `complete`, before anything is computed.
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
        longest=model.longest,
    )
    return _stream(model, request)


def _stream(model: Engine, request: Request) -> Iterator[NewToken]:
    if request.max_new_tokens == 0:
        return
    tokens, mask = _padded(request.prompts)
    cache = model.init_cache(len(tokens), request.max_length)
    logits, cache = model.prefill(cache, tokens, mask, prefill_length=request.prefill_length)
    sampler = Sampler(request.sampling, seed=request.seed, sequences=len(tokens))
    is_active = np.ones(len(tokens), np.bool_)
    for step in range(request.max_new_tokens):
        chosen = sampler.choose(logits, step)
        is_last = step + 1 == request.max_new_tokens
        for row in np.flatnonzero(is_active):
            token = int(chosen[row])
            ending: FinishReason | None = "length" if is_last else None
            if token in request.eos_token_ids:
                ending, is_active[row] = "stop", False
            logprob, most_likely = _report(logits[row], token, request.report)
            yield NewToken(
                sequence=int(row), token=token, finish_reason=ending, logprob=logprob, top_logprobs=most_likely
            )
        if is_last or not is_active.any():
            return
        logits, cache = model.decode_step(cache, chosen, is_active=is_active)


def _report(logits: np.ndarray, token: int, count: int | None) -> tuple[float | None, dict[int, float] | None]:
    """The log-probability of a token and of the `count` most likely ones, as far as they were asked for."""
    if count is None:
        return None, None
    x = logits.astype(np.float64)
    logprobs = x - x.max()
    logprobs -= np.log(np.exp(logprobs).sum())
    if count == 0:
        return float(logprobs[token]), None
    # Of equals the one with the smaller id comes first, and stays.
    candidates = np.flatnonzero(logprobs >= np.partition(logprobs, -count)[-count])
    best = candidates[np.argsort(-logprobs[candidates], kind="stable")][:count]
    return float(logprobs[token]), {int(other): float(logprobs[other]) for other in best}


def _completion(request: Request, news: list[NewToken]) -> Completion:
    is_reported, has_top = request.report is not None, bool(request.report)
    return Completion(
        tokens=[new.token for new in news],
        finish_reason=(news[-1].finish_reason if news else None) or "length",
        logprobs=[new.logprob for new in news if new.logprob is not None] if is_reported else None,
        top_logprobs=[new.top_logprobs for new in news if new.top_logprobs is not None] if has_top else None,
    )


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int64 [B, T], padded on the right, and their mask."""
    lengths = np.array([len(prompt) for prompt in prompts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate([np.asarray(prompt) for prompt in prompts])
    return tokens, mask
