"""What generation gives, whatever runs the model: a whole completion, or one token after the other."""

import dataclasses
from typing import Literal

__all__ = ["Completion", "FinishReason", "NewToken"]

type FinishReason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
    """The continuation of one prompt.

    Log-probabilities are natural logarithms under the model itself: before temperature and filters.

    Attributes:
        tokens: The new ids, the one that ended it included.
        finish_reason: `stop` if the last one is an end-of-sequence id, else `length`.
        logprobs: Of each new token, if asked for.
        top_logprobs: At each new token the most likely ids, best first, and theirs, if asked for.
        prompt_logprobs: Of each token of the prompt but the first, if the engine has them and was asked for them.
    """

    tokens: list[int]
    finish_reason: FinishReason
    logprobs: list[float] | None = None
    top_logprobs: list[dict[int, float]] | None = None
    prompt_logprobs: list[float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewToken:
    """One token as it comes.

    Attributes:
        sequence: Which prompt it continues.
        token: Its id.
        finish_reason: None if more will come for this prompt.
        logprob: As in `Completion`.
        top_logprobs: As in `Completion`.
    """

    sequence: int
    token: int
    finish_reason: FinishReason | None
    logprob: float | None = None
    top_logprobs: dict[int, float] | None = None
