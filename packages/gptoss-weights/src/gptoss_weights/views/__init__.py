"""Views: lazy checkpoints around a checkpoint. They compose, and cost nothing until something is read.

    save_checkpoint(trimmed(open_checkpoint("gpt-oss-20b"), layers=2), "two-layers", format="hf")

What a view leaves as it is stays where it is: `stored` then names the same bytes of the same file, so
writing it copies bytes and decodes nothing.
"""

from gptoss_weights.views.casting import cast
from gptoss_weights.views.dequantizing import dequantized
from gptoss_weights.views.quantizing import QuantizationError, QuantizedCheckpoint, quantized
from gptoss_weights.views.trimming import trimmed

__all__ = ["QuantizationError", "QuantizedCheckpoint", "cast", "dequantized", "quantized", "trimmed"]
