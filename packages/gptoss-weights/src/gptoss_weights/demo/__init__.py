"""The embedded demo: a small GPT-OSS checkpoint, a prompt, and what the official code computes for it.

The checkpoint has the published `original/` layout with MXFP4 experts, a sliding window of 16 tokens
and active YaRN; `gptoss_weights.demo.build` is the recipe that made it. The goldens are traces
(names and axes in `gptoss_weights.probes`) recorded from OpenAI's PyTorch code, never from ours.
"""

from pathlib import Path
from typing import Literal

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.opening import open_checkpoint

__all__ = ["DEMO_CHECKPOINT_PATH", "DEMO_PROMPT", "demo_checkpoint", "demo_golden_path"]

DEMO_CHECKPOINT_PATH = Path(__file__).parent / "checkpoint"

# Preamble of the Constitution of the United States (1787), public domain; several windows long.
DEMO_PROMPT = (
    "We the People of the United States, in Order to form a more perfect Union, establish Justice, "
    "insure domestic Tranquility, provide for the common defence"
)


def demo_checkpoint() -> Checkpoint:
    """Opens the embedded checkpoint."""
    return open_checkpoint(DEMO_CHECKPOINT_PATH)


def demo_golden_path(dtype: Literal["float32", "bfloat16"] = "float32") -> Path:
    """The trace of `DEMO_PROMPT` that the official PyTorch code gives in this dtype."""
    return Path(__file__).parent / f"golden.{dtype}.safetensors"
