"""The check of logits that people know from NumPy and MaxText: `atol`, `rtol` and the largest KL of a token.

Whoever gives one of these says what is to be judged: the logits, all of them, by these limits and no
others. Hidden states and routing are measured and shown all the same.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from gptoss_parity.failures import Failure
from gptoss_parity.logits_measures import LogitsMeasures

__all__ = ["LogitsCheck"]

LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsCheck:
    """Limits for logits.

    Attributes:
        atol: With `rtol`: |candidate − reference| ≤ atol + rtol · |reference| for every logit, as
            `numpy.allclose` has it; the one of the two that is not given is 0.
        rtol: See `atol`.
        max_kl_div: No token's KL(reference ‖ candidate) is larger.

    Raises:
        ValueError: none is given, or one is negative or NaN.
    """

    atol: float | None = None
    rtol: float | None = None
    max_kl_div: float | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if all(value is None for value in given.values()):
            raise ValueError("a check of logits needs atol, rtol or max_kl_div")
        for name, value in given.items():
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is at least 0, not {value}")

    @property
    def words(self) -> str:
        """The limits as they are given on a command line."""
        flags = (("--atol", self.atol), ("--rtol", self.rtol), ("--max-kl-div", self.max_kl_div))
        return " ".join(f"{flag} {value:g}" for flag, value in flags if value is not None)

    def failures(self, reference: np.ndarray, candidate: np.ndarray, measures: LogitsMeasures) -> Iterator[Failure]:
        """What is past a limit, of logits [T, V]; rows that are not finite are another's to report."""
        if self.atol is not None or self.rtol is not None:
            yield from self._elements(reference, candidate)
        if self.max_kl_div is not None and measures.kl_max > self.max_kl_div:
            sentence = (
                f"KL of token {measures.kl_max_token} is {measures.kl_max:.2e}, past --max-kl-div {self.max_kl_div:g}"
            )
            yield Failure(probe=LOGITS, measure="KL", sentence=sentence, value=measures.kl_max, limit=self.max_kl_div)

    def _elements(self, reference: np.ndarray, candidate: np.ndarray) -> Iterator[Failure]:
        atol, rtol = self.atol or 0.0, self.rtol or 0.0
        past, worst, place = 0, -np.inf, (0, 0)
        for token, (expected, found) in enumerate(zip(reference, candidate, strict=True)):
            allowed = atol + rtol * np.abs(expected.astype(np.float64))
            excess = np.abs(found.astype(np.float64) - expected) - allowed
            past += int((excess > 0).sum())
            if excess.max() > worst:
                worst, place = float(excess.max()), (token, int(excess.argmax()))
        if past:
            expected, found = float(reference[place]), float(candidate[place])
            allowed = atol + rtol * abs(expected)
            sentence = (
                f"{past} of {reference.size} logits are past atol {atol:g} + rtol {rtol:g} · |reference|, most of all "
                f"token {place[0]}, id {place[1]}: {found:.6g} instead of {expected:.6g} ± {allowed:.2g}"
            )
            yield Failure(
                probe=LOGITS, measure="allclose", sentence=sentence, value=abs(found - expected), limit=allowed
            )
