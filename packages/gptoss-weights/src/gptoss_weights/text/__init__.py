"""Text at the edge of the system: the tokenizer that a checkpoint ships. Engines take token ids.

The chat format stands beside it, in `gptoss_weights.text.harmony`.
"""

from gptoss_weights.text.text_stream import TextStream
from gptoss_weights.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["TextStream", "Tokenizer", "load_tokenizer"]
