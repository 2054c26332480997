"""Generating: fill a cache with prompts, then choose token after token, in compiled programs.

`generate` and `complete` decode in one loop on the device, `stream` step by step; `prefill` and
`decode_step` are for who writes a loop of their own.
"""

from gptoss_weights.completions import Completion, FinishReason, NewToken

from gptoss_model.generation.completing import complete, generate
from gptoss_model.generation.lengths import bucket_length
from gptoss_model.generation.logits import prompt_logits
from gptoss_model.generation.prefilling import decode_step, prefill
from gptoss_model.generation.streaming import stream

__all__ = [
    "Completion",
    "FinishReason",
    "NewToken",
    "bucket_length",
    "complete",
    "decode_step",
    "generate",
    "prefill",
    "prompt_logits",
    "stream",
]
