"""What a report is about: comparisons, perhaps a continuation, and one verdict over all of it."""

import dataclasses
from collections.abc import Mapping, Sequence

from gptoss_parity.compare import Comparison

__all__ = ["Continuation", "NotRun", "Report"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotRun:
    """A source that was to run and did not.

    Attributes:
        name: The source.
        code: What its process ended with, or 5 where an extra is missing.
        sentence: Why, and what to do about it.
        is_asked_for: Whether the user named it, so that the command cannot call this success.
    """

    name: str
    code: int
    sentence: str
    is_asked_for: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continuation:
    """How several sources greedily continued one prompt; they must agree token for token.

    `tokens` are the new ids of each source, `texts` the same as text.
    """

    prompt: str
    tokens: Mapping[str, Sequence[int]]
    texts: Mapping[str, str]

    @property
    def agrees(self) -> bool:
        """Whether all sources say the same."""
        first, *others = (list(ids) for ids in self.tokens.values())
        return all(ids == first for ids in others)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """One or more comparisons under one verdict.

    Attributes:
        title: What was compared, for the head of the page.
        comparisons: At least one, unless every candidate stands in `not_run`.
        continuation: What the sources generated, if they did.
        command: The command line that makes this report again.
        not_run: Sources that were to run and did not.
        seed: What random prompts were drawn with, if they were.
        prompts: The prompts' texts, None for one that came as ids.
    """

    title: str
    comparisons: Sequence[Comparison]
    continuation: Continuation | None = None
    command: str | None = None
    not_run: tuple[NotRun, ...] = ()
    seed: int | None = None
    prompts: tuple[str | None, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there is a comparison, every one passed, and every continuation agrees."""
        if not self.comparisons:
            return False
        return all(c.passed for c in self.comparisons) and (self.continuation is None or self.continuation.agrees)

    @property
    def headline(self) -> str:
        """The outcome in two words."""
        if not self.comparisons:
            return "Nothing compared"
        return "Parity holds" if self.passed else "Parity fails"

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.comparisons:
            return "nothing was compared, for " + "; ".join(problem.sentence for problem in self.not_run)
        failed = [comparison for comparison in self.comparisons if not comparison.passed]
        if failed:
            return failed[0].verdict
        if self.continuation is not None and not self.continuation.agrees:
            return f"the continuations of {' and '.join(self.continuation.tokens)} differ"
        if len(self.comparisons) == 1:
            return self.comparisons[0].verdict
        same_words = "" if self.continuation is None else ", and all continue the prompt alike"
        return f"parity holds in all {len(self.comparisons)} comparisons{same_words}"
