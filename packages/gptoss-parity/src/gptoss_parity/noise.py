"""Noise: how far a reference is from itself, run once more or in float32; what a candidate should be held against."""

import dataclasses

import numpy as np

from gptoss_parity.logits_measures import relative_entropies
from gptoss_parity.rows import row_errors
from gptoss_parity.trace import Trace

__all__ = ["Noise", "measure_noise"]

LOGITS = "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """The reference against another run of itself.

    Attributes:
        what: The other run: `run again`, or `in float32`.
        is_exact: Whether every number of every probe is the same.
        max_abs: Largest difference of a logit.
        relative_l2: Of the logits.
        kl_max: The largest KL of a token.
        flips: How many tokens of all layers went through other experts.
    """

    what: str
    is_exact: bool
    max_abs: float
    relative_l2: float
    kl_max: float
    flips: int


def measure_noise(reference: Trace, other: Trace, what: str) -> Noise:
    """Compares two runs of one implementation; KL is from `other`, which is the finer one if any is."""
    expected, found = other[LOGITS], reference[LOGITS]
    rows = row_errors(expected, found)
    choices = [name for name in reference if name.endswith("router_indices") and name in other]
    is_other = [np.sort(reference[name], axis=-1) != np.sort(other[name], axis=-1) for name in choices]
    return Noise(
        what=what,
        is_exact=all(name in other and np.array_equal(reference[name], other[name]) for name in reference),
        max_abs=rows.largest(),
        relative_l2=rows.relative_l2(),
        kl_max=float(relative_entropies(expected, found).max()),
        flips=int(sum(differs.any(axis=-1).sum() for differs in is_other)),
    )
