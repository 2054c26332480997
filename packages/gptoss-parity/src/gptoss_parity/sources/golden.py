"""A trace file as a source: what was recorded earlier stands in for running it again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gptoss_weights import Checkpoint, CheckpointError

from gptoss_parity.sources.base import DTYPES, Dtype, check_tokens
from gptoss_parity.trace import Trace, load_trace

__all__ = ["GoldenSource"]


@dataclasses.dataclass(frozen=True)
class GoldenSource:
    """Answers with the trace at `path`, if it was recorded from what is asked for."""

    path: Path

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "golden"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return DTYPES

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """The stored trace, unchanged, its own metadata included; see `Source.record`.

        Raises:
            CheckpointError: it was recorded from other tokens, in another dtype or from other weights.
        """
        trace = load_trace(self.path)
        prompt = check_tokens(checkpoint, tokens)
        if trace.tokens.tolist() != prompt.tolist():
            raise CheckpointError("the golden was recorded from other tokens", where=self.path)
        wanted = {"dtype": dtype, "checkpoint_digest": checkpoint.digest()}
        for attribute, expected in wanted.items():
            found = getattr(trace.metadata, attribute)
            if found != expected:
                raise CheckpointError(
                    f"the golden has another {attribute.replace('_', ' ')}",
                    where=self.path,
                    expected=expected,
                    found=found,
                )
        return trace
