"""Routing replay: how much of a divergence is other experts, and how much is computed differently.

One side is run once more, made to take the experts that the other side chose. What then still differs
between the two was computed differently; what has gone was the choice of experts.
"""

import dataclasses
from typing import Literal

import numpy as np

from gptoss_parity.logits_measures import relative_entropies
from gptoss_parity.rows import row_errors
from gptoss_parity.trace import Trace

__all__ = ["DivergenceSplit", "split_divergence"]

LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivergenceSplit:
    """The divergence of the logits, before and after both sides took the same experts.

    Attributes:
        forced: The side that was made to take the other's experts.
        total: KL(reference ‖ candidate) of each token, float64 [T].
        computed: The same where the experts are the same: what was computed differently.
        total_relative_l2: Relative L2 of the logits.
        computed_relative_l2: The same where the experts are the same.
        is_affected: bool [T]: tokens that other experts have reached, directly or through attention.
    """

    forced: Literal["candidate", "reference"]
    total: np.ndarray
    computed: np.ndarray
    total_relative_l2: float
    computed_relative_l2: float
    is_affected: np.ndarray

    @property
    def removed_share(self) -> float:
        """Share of all tokens' KL that goes with the other experts; 0 where there is none."""
        return _share(self.total, self.computed)

    @property
    def is_caused(self) -> np.ndarray:
        """Where other experts are the cause, bool [T].

        They have reached the token, and its KL is larger than computing differently makes that of any token.
        """
        caused: np.ndarray = self.is_affected & (self.total > self.computed.max())
        return caused

    @property
    def removed_share_where_caused(self) -> float | None:
        """Share of the KL that goes with the other experts, over the tokens where they are the cause; None without."""
        caused = self.is_caused
        return _share(self.total[caused], self.computed[caused]) if caused.any() else None

    @property
    def chosen_kl(self) -> float:
        """Mean KL that is due to other experts."""
        return float((self.total - self.computed).mean())

    @property
    def computed_kl(self) -> float:
        """Mean KL that is due to computing differently."""
        return float(self.computed.mean())


def split_divergence(
    reference: Trace,
    candidate: Trace,
    replayed: Trace,
    *,
    forced: Literal["candidate", "reference"],
    is_affected: np.ndarray,
) -> DivergenceSplit:
    """Splits what lies between two traces' logits.

    Args:
        reference: What is right.
        candidate: What is judged.
        replayed: The side `forced`, run with the other's experts.
        forced: Which side that is.
        is_affected: The tokens whose logits other experts have reached, bool [T].
    """
    expected, found = reference[LOGITS], candidate[LOGITS]
    pair = (replayed[LOGITS], found) if forced == "reference" else (expected, replayed[LOGITS])
    return DivergenceSplit(
        forced=forced,
        total=relative_entropies(expected, found),
        computed=relative_entropies(*pair),
        total_relative_l2=row_errors(expected, found).relative_l2(),
        computed_relative_l2=row_errors(*pair).relative_l2(),
        is_affected=is_affected,
    )


def _share(total: np.ndarray, computed: np.ndarray) -> float:
    whole = float(total.sum())
    return 1.0 - float(computed.sum()) / whole if whole > 0 else 0.0
