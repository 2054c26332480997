"""The embedded demo: a small trained GPT-OSS checkpoint, a prompt, and what the official code computes for it.

The checkpoint has the published `original/` layout with MXFP4 experts, a sliding window of 16 tokens
and active YaRN. It writes in the manner of the King James Version and answers in the Harmony format;
gptoss-train's recipes `demo` and `demo-sft` made it, beginning with `gptoss_weights.demo.start`. The
goldens are traces (names and axes in `gptoss_weights.probes`) recorded from OpenAI's PyTorch code,
never from ours.
"""

from pathlib import Path
from typing import Literal

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.opening import open_checkpoint

__all__ = ["DEMO_CHECKPOINT_PATH", "DEMO_PROMPT", "demo_checkpoint", "demo_golden_path"]

DEMO_CHECKPOINT_PATH = Path(__file__).parent / "checkpoint"

# Genesis 1:1-3 in the King James Version (1611), public domain; several windows long.
DEMO_PROMPT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness "
    "was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God said,"
)


def demo_checkpoint() -> Checkpoint:
    """Opens the embedded checkpoint."""
    return open_checkpoint(DEMO_CHECKPOINT_PATH)


def demo_golden_path(dtype: Literal["float32", "bfloat16"] = "float32") -> Path:
    """The trace of `DEMO_PROMPT` that the official PyTorch code gives in this dtype."""
    return Path(__file__).parent / f"golden.{dtype}.safetensors"
