"""measure_generation: what an exported model takes to open, for a prompt, and for each token after it."""

import dataclasses
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from gptoss_onnx.errors import RequestError
from gptoss_onnx.runtime import OnnxModel
from gptoss_onnx.session import Mode

__all__ = ["GenerationTimes", "measure_generation", "peak_memory_bytes"]

SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationTimes:
    """How long generation takes; medians, in seconds where not said otherwise.

    Attributes:
        batch: Sequences at a time.
        prompt_tokens: Of each.
        new_tokens: Of each.
        open_seconds: For the session, once.
        prefill_seconds: For the prompts, from ids to the logits of their last tokens.
        decode_seconds: For one more token of each sequence.
        decode_cpu_seconds: Time of all processors together for the same.
    """

    batch: int
    prompt_tokens: int
    new_tokens: int
    open_seconds: float
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
        return self.batch / self.decode_seconds


def measure_generation(
    folder: Path | str,
    *,
    prompt_tokens: int,
    new_tokens: int,
    batch: int = 1,
    repeats: int = 3,
    threads: int | None = None,
    mode: Mode = "exact",
) -> GenerationTimes:
    """Opens an export and generates greedily from random prompts, over and over; the first time does not count.

    Args:
        folder: The export.
        prompt_tokens: Length of each prompt, at least 1.
        new_tokens: To add to each, at least 2: the first belongs to the prefill.
        batch: Number of prompts.
        repeats: How often everything is timed.
        threads: As in `OnnxModel.open`.
        mode: As in `OnnxModel.open`.

    Raises:
        RequestError: a number is too small, or more than the export can take.
    """
    limits = (("prompt_tokens", prompt_tokens, 1), ("new_tokens", new_tokens, 2), ("batch", batch, 1))
    for name, number, least in (*limits, ("repeats", repeats, 1)):
        if number < least:
            raise RequestError(f"{name} is at least {least}, not {number}")
    began = time.perf_counter()
    model = OnnxModel.open(folder, threads=threads, mode=mode)
    opened = time.perf_counter() - began
    prompts = np.random.default_rng(SEED).integers(0, model.config.vocab_size, (batch, prompt_tokens))
    prefills, decodes, processor = [], [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        logits, cache = model.prefill(model.init_cache(batch, prompt_tokens + new_tokens), prompts)
        prefills.append(time.perf_counter() - began)
        steps, busy = [], []
        for _ in range(new_tokens - 1):
            began, cpu_began = time.perf_counter(), time.process_time()
            logits, cache = model.decode_step(cache, logits.argmax(axis=-1))
            steps.append(time.perf_counter() - began)
            busy.append(time.process_time() - cpu_began)
        decodes.append(statistics.median(steps))
        processor.append(statistics.median(busy))
    return GenerationTimes(
        batch=batch,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        open_seconds=opened,
        prefill_seconds=statistics.median(prefills[1:]),
        decode_seconds=statistics.median(decodes[1:]),
        decode_cpu_seconds=statistics.median(processor[1:]),
    )


def peak_memory_bytes() -> int:
    """The most memory that this process has had, resident; mapped weights that were read are part of it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
