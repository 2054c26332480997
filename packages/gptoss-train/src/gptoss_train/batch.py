"""What a training step learns from: rows of tokens, whole documents or several packed side by side."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

__all__ = ["Batch"]

Array = np.ndarray | jax.Array  # no `type` statement: jaxtyping reads what it stands for when this is imported


class Batch(NamedTuple):
    """A batch of B rows of T tokens; a pytree, so that it can be sharded, donated and scanned over.

    Attributes:
        tokens: What the model reads.
        targets: What it should predict after each of them: the next token of the same segment.
        weights: How much each target counts in the loss; 0 where nothing is to be learnt (padding,
            a prompt, the last token of a segment).
        segments: Which document of its row a token belongs to, from 1; 0 is padding. A token attends
            to its own segment only.
        positions: The place of a token in its segment, from 0; what RoPE turns by.
    """

    tokens: Int[Array, "B T"]
    targets: Int[Array, "B T"]
    weights: Float[Array, "B T"]
    segments: Int[Array, "B T"]
    positions: Int[Array, "B T"]
