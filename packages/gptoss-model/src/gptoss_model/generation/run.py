"""A request on its way: its prompts are in the cache, and steps follow."""

import jax
import jax.numpy as jnp

from gptoss_model.generation.decoding import Choice, Progress, Rules, begin, decode
from gptoss_model.generation.flat_model import FlatModel
from gptoss_model.generation.prefilling import prefill_prompts
from gptoss_model.generation.request import Request
from gptoss_model.model import GptOss
from gptoss_model.sampling import SamplingValues, sequence_keys

__all__ = ["Run"]


class Run:
    """Feeds the prompts to a cache at once; `begin` and `decode` then give tokens, and wait for nothing.

    Args:
        model: The model.
        request: What to generate.
        is_scored: Whether to give `prompt_logprobs`.
    """

    def __init__(self, model: GptOss, request: Request, *, is_scored: bool = False) -> None:
        self._request = request
        self._model = FlatModel.of(model)
        prefilled = prefill_prompts(
            self._model,
            model.init_cache(len(request.prompts), request.cache_length),
            request.prompts,
            length=request.prefill_length,
            is_scored=is_scored,
        )
        self.prompt_logprobs = prefilled.logprobs
        self._cache = prefilled.cache
        self._logits = prefilled.logits
        self._rules = Rules(
            keys=sequence_keys(request.seed, len(request.prompts)),
            sampling=SamplingValues.of(request.sampling),
            eos=jnp.asarray(sorted(request.eos_token_ids), jnp.int32),
        )
        self._limit = jnp.int32(request.max_new_tokens)
        self._progress: Progress

    def begin(self) -> Choice:
        """The first tokens, [B, 1]."""
        record: Choice
        record, self._progress = begin(self._logits, self._rules, report=self._request.report)
        return record

    def decode(self, room: int) -> Choice:
        """The tokens of the next steps, [B, room], until all sequences have ended or have all their tokens."""
        record: Choice
        record, self._progress, self._cache = decode(
            self._model,
            self._cache,
            self._progress,
            self._rules,
            self._limit,
            room=room,
            report=self._request.report,
        )
        return record

    def wait(self) -> None:
        """Waits for all steps that have begun."""
        jax.block_until_ready(self._cache.lengths)
