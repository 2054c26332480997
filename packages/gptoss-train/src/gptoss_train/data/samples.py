"""Samples: the tokens of one text or conversation, what is to be predicted after each, and what of it counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gptoss_weights.text.harmony import Role
from jaxtyping import Float, Int

__all__ = ["Sample", "SampleSpan", "make_sample"]


@dataclass(frozen=True)
class SampleSpan:
    """One message among a sample's tokens, for those who look at them.

    Args:
        role: Who speaks.
        channel: Its channel, if any.
        start: Its first token.
        end: Behind its last token.
    """

    role: Role
    channel: str | None
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Sample:
    """T tokens that stand in one segment.

    Args:
        origin: Where it is from, for messages.
        tokens: What the model reads.
        targets: What it is to predict after each of them; 0 where nothing follows.
        weights: How much each of these counts in the loss.
        spans: The messages of a conversation; a text has none.
    """

    origin: str
    tokens: Int[np.ndarray, "T"]
    targets: Int[np.ndarray, "T"]
    weights: Float[np.ndarray, "T"]
    spans: tuple[SampleSpan, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def trained_tokens(self) -> int:
        """How many predictions count."""
        return int(np.count_nonzero(self.weights))

    def piece(self, start: int, end: int) -> "Sample":
        """Some of the tokens; the target of the last is still what follows it in the whole."""
        spans = tuple(
            SampleSpan(span.role, span.channel, max(span.start, start) - start, min(span.end, end) - start)
            for span in self.spans
            if span.start < end and span.end > start
        )
        part = slice(start, end)
        return Sample(self.origin, self.tokens[part], self.targets[part], self.weights[part], spans)


def make_sample(
    origin: str,
    tokens: Sequence[int] | Int[np.ndarray, "T"],
    *,
    said: Sequence[int] | None = None,
    is_learnt: Sequence[bool] | None = None,
    spans: tuple[SampleSpan, ...] = (),
) -> Sample:
    """A sample from what stands at each place; the prediction of a place is made, and counts, one place before it.

    Args:
        origin: Where it is from.
        tokens: What the model reads, [T].
        said: What it is to say at the same places, [T]; by default the same.
        is_learnt: Whether what is said there is learnt, [T]; by default all of it. Nothing precedes the first.
        spans: The messages.
    """
    read = np.asarray(tokens, np.int32)
    targets, weights = np.zeros(len(read), np.int32), np.zeros(len(read), np.float32)
    targets[:-1] = read[1:] if said is None else np.asarray(said, np.int32)[1:]
    weights[:-1] = 1 if is_learnt is None else np.asarray(is_learnt, np.float32)[1:]
    return Sample(origin, read, targets, weights, spans)
