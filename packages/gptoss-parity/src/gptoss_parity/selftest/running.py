"""Running the self-test: a sound implementation passes and equals itself; every faulty one is found out."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from gptoss_parity.compare import Comparison, compare
from gptoss_parity.selftest.faults import FAULTS, Fault, selftest_checkpoint
from gptoss_parity.sources.base import LoadingSource
from gptoss_parity.sources.plain import PlainSource

__all__ = ["PROMPT_LENGTH", "FaultResult", "SelfTest", "run_selftest"]

PROMPT_LENGTH = 40  # five windows
SEED = 0  # of the prompt and of the weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaultResult:
    """What comparing said of one fault; `found` is the probe that it named first, None if it let it pass."""

    fault: Fault
    found: str | None
    sentence: str

    @property
    def is_caught(self) -> bool:
        """Whether comparing failed and named the right probe."""
        return self.found == self.fault.where


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What came of it all.

    Attributes:
        reference: Name of the implementation that says what is right.
        sound: The sound implementation against the reference.
        is_exact: Whether the reference run twice gives every number again.
        results: Each fault's.
    """

    reference: str
    sound: Comparison
    is_exact: bool
    results: tuple[FaultResult, ...]

    @property
    def passed(self) -> bool:
        """Whether what is right passes and what is wrong is found, where it is."""
        return self.sound.passed and self.is_exact and all(result.is_caught for result in self.results)

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if not self.is_exact:
            return f"the reference {self.reference} is not equal to itself"
        if not self.sound.passed:
            return f"the sound implementation does not pass: {self.sound.verdict}"
        missed = [result for result in self.results if not result.is_caught]
        if missed:
            first = missed[0]
            named = "nothing" if first.found is None else first.found
            return (
                f"{len(missed)} of {len(self.results)} faults are not found where they are, first "
                f"{first.fault.name!r}: {named} in place of {first.fault.where}"
            )
        return f"all {len(self.results)} faults are found where they are, and what is right is exactly itself"


def run_selftest(
    source: LoadingSource | None = None,
    *,
    faults: Sequence[Fault] = FAULTS,
    progress: Callable[[str], None] = lambda _: None,
) -> SelfTest:
    """Injects every fault into the plain implementation and compares each with a reference, with default limits.

    Args:
        source: What says what is right; None: the plain implementation, without a fault.
        faults: Which faults.
        progress: Is told what begins.
    """
    reference_source = PlainSource() if source is None else source
    checkpoint = selftest_checkpoint()
    tokens = np.random.default_rng(SEED).integers(0, checkpoint.config.vocab_size, PROMPT_LENGTH).tolist()
    progress(f"the reference, {reference_source.name}, twice")
    runner = reference_source.load(checkpoint)
    reference, again = (runner.run(tokens, block_debug=True) for _ in range(2))
    is_exact = all(np.array_equal(reference[name], again[name]) for name in reference)
    sound = compare(reference, PlainSource().record(checkpoint, tokens, block_debug=True))
    results = []
    for fault in faults:
        progress(fault.name)
        source = PlainSource(model=fault.model, name=fault.name)
        comparison = compare(reference, source.record(checkpoint, tokens, block_debug=True))
        first = comparison.first_failure
        results.append(
            FaultResult(
                fault=fault,
                found=None if first is None else first.probe,
                sentence="nothing was found" if first is None else first.sentence,
            )
        )
    return SelfTest(reference=reference_source.name, sound=sound, is_exact=is_exact, results=tuple(results))
