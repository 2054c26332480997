"""Reading records: from the arrays of the compiled loop to the tokens that count, sequence by sequence."""

from collections.abc import Iterator

import jax
import numpy as np
from gptoss_weights.completions import FinishReason, NewToken

from gptoss_model.generation.decoding import Choice
from gptoss_model.generation.request import Request
from gptoss_model.sharding.hosts import host_array

__all__ = ["Reader"]


class Reader:
    """Knows which sequences of a request have ended, and leaves out what the record holds behind their ends."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._steps = 0
        self._going = list(range(len(request.prompts)))

    @property
    def is_done(self) -> bool:
        """Whether every sequence has ended, or has all its tokens."""
        return not self._going

    def read(self, record: Choice) -> Iterator[NewToken]:
        """The tokens of a record [B, steps], which follows the one before, step by step; waits for it."""
        host = jax.tree.map(host_array, record)
        for column in range(host.tokens.shape[1]):
            self._steps += 1
            for row in tuple(self._going):
                new = self._new_token(host, row, column)
                if new.finish_reason is not None:
                    self._going.remove(row)
                yield new

    def _new_token(self, record: Choice, row: int, column: int) -> NewToken:
        token = int(record.tokens[row, column])
        reason: FinishReason | None = "length" if self._steps == self._request.max_new_tokens else None
        return NewToken(
            sequence=row,
            token=token,
            finish_reason="stop" if token in self._request.eos_token_ids else reason,
            logprob=None if record.logprobs is None else float(record.logprobs[row, column]),
            top_logprobs=_top(record.top_tokens, record.top_logprobs, row, column),
        )


def _top(
    tokens: jax.Array | np.ndarray | None, logprobs: jax.Array | np.ndarray | None, row: int, column: int
) -> dict[int, float] | None:
    if tokens is None or logprobs is None:
        return None
    return dict(zip(tokens[row, column].tolist(), logprobs[row, column].tolist(), strict=True))
