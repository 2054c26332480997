"""Measuring generation: what the first token waits for, and tokens per second after that.

Every program is run once before it is timed, so that compiling is told apart from computing: the
first run of a program minus its median later one is what compiling it took. Decoding is the whole
compiled loop, divided by its steps.
"""

import dataclasses
import functools
import resource
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from gptoss_model.generation.request import Request, check_request
from gptoss_model.generation.run import Run
from gptoss_model.model import GptOss

__all__ = ["GenerationTimes", "measure_generation", "peak_memory_bytes"]

SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationTimes:
    """How long generation takes; medians, in seconds where not said otherwise.

    Attributes:
        batch: Sequences at a time.
        prompt_tokens: Of each.
        new_tokens: Of each.
        compile_prefill_seconds: For the prompt's programs; with a warm compilation cache, for reading them.
        compile_decode_seconds: For the loop.
        prefill_seconds: For the prompts, from ids to the first new tokens.
        decode_seconds: For the tokens after the first.
        decode_cpu_seconds: Time of all processors together for the same.
    """

    batch: int
    prompt_tokens: int
    new_tokens: int
    compile_prefill_seconds: float
    compile_decode_seconds: float
    prefill_seconds: float
    decode_seconds: float
    decode_cpu_seconds: float

    @property
    def prefill_tokens_per_second(self) -> float:
        """Of all sequences together."""
        return self.batch * self.prompt_tokens / self.prefill_seconds

    @property
    def decode_tokens_per_second(self) -> float:
        """Of all sequences together."""
        return self.batch * (self.new_tokens - 1) / self.decode_seconds


def measure_generation(
    model: GptOss, *, prompt_tokens: int, new_tokens: int, batch: int = 1, repeats: int = 3
) -> GenerationTimes:
    """Generates from random prompts, over and over.

    Args:
        model: The model.
        prompt_tokens: Length of each prompt, at least 1.
        new_tokens: To add to each, at least 2: the first belongs to the prefill.
        batch: Number of prompts.
        repeats: How often each program is timed.

    Raises:
        ValueError: a number is too small.
    """
    for name, number, least in (("new_tokens", new_tokens, 2), ("batch", batch, 1), ("repeats", repeats, 1)):
        if number < least:
            raise ValueError(f"{name} is at least {least}, not {number}")
    rng = np.random.default_rng(SEED)
    request = check_request(
        model.config,
        rng.integers(0, model.config.vocab_size, (batch, prompt_tokens)).tolist(),
        max_new_tokens=new_tokens,
        eos_token_ids=(),
        sampling=None,
        seed=SEED,
        logprobs=False,
        top_logprobs=0,
        prefill_length=None,
        max_length=None,
    )
    prefills, decodes, processor = [], [], []
    for _ in range(repeats + 1):
        run, seconds, _ = _timed(functools.partial(_prefilled, model, request))
        prefills.append(seconds)
        _, seconds, cpu_seconds = _timed(functools.partial(run.decode, request.room))
        decodes.append(seconds)
        processor.append(cpu_seconds)
    prefill, decode_ = statistics.median(prefills[1:]), statistics.median(decodes[1:])
    return GenerationTimes(
        batch=batch,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        compile_prefill_seconds=max(prefills[0] - prefill, 0.0),
        compile_decode_seconds=max(decodes[0] - decode_, 0.0),
        prefill_seconds=prefill,
        decode_seconds=decode_,
        decode_cpu_seconds=statistics.median(processor[1:]),
    )


def peak_memory_bytes() -> int:
    """The most memory that this process has had, resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _prefilled(model: GptOss, request: Request) -> Run:
    run = Run(model, request)
    jax.block_until_ready(run.begin())
    return run


def _timed[T](call: Callable[[], T]) -> tuple[T, float, float]:
    started, cpu_started = time.perf_counter(), time.process_time()
    result = call()
    if not isinstance(result, Run):
        jax.block_until_ready(result)
    return result, time.perf_counter() - started, time.process_time() - cpu_started
