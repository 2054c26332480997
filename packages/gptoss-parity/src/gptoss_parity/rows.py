"""Per-token statistics of two arrays, from which every measure over any set of tokens follows.

One pass over blocks of rows in float64; beyond its result of a few numbers a token it needs one
block, so that logits of a long prompt at full vocabulary are no burden.
"""

import dataclasses
import math

import numpy as np

__all__ = ["RowErrors", "row_errors"]

_BLOCK_ELEMENTS = 1 << 20  # 8 MiB of float64


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowErrors:
    """For each token, how far the candidate's row is from the reference's.

    `squared_error`, `squared_norm` (of the reference) and `max_abs` are float64 [T]; `max_abs_at` is
    the place of the largest difference in its row. A row that is not finite on either side carries
    NaN, and `is_finite` says so.
    """

    squared_error: np.ndarray
    squared_norm: np.ndarray
    max_abs: np.ndarray
    max_abs_at: np.ndarray
    is_finite: np.ndarray

    def relative_l2(self, selected: np.ndarray | slice = slice(None)) -> float:
        """‖candidate − reference‖ / ‖reference‖ over the selected tokens; 0 if none, NaN if not finite."""
        return _ratio(float(self.squared_error[selected].sum()), float(self.squared_norm[selected].sum()))

    def worst_token(self, selected: np.ndarray) -> tuple[int, float] | None:
        """The selected token with the largest relative L2 of its own row, and that; None if none is selected."""
        tokens = np.flatnonzero(selected)
        if not tokens.size:
            return None
        ratios = self.by_token()[tokens]
        worst = int(np.argmax(ratios))  # argmax returns the first NaN if there is one
        return int(tokens[worst]), float(ratios[worst])

    def by_token(self) -> np.ndarray:
        """Relative L2 of each token's own row, float64 [T]."""
        rows = zip(self.squared_error.tolist(), self.squared_norm.tolist(), strict=True)
        return np.array([_ratio(error, norm) for error, norm in rows])

    def largest(self, selected: np.ndarray | slice = slice(None)) -> float:
        """The largest absolute difference over the selected tokens; 0 if none."""
        return float(self.max_abs[selected].max(initial=0.0))


def row_errors(reference: np.ndarray, candidate: np.ndarray) -> RowErrors:
    """Compares two arrays [T, n] of one shape, row by row."""
    tokens, width = reference.shape
    squared_error, squared_norm, max_abs = (np.empty(tokens) for _ in range(3))
    max_abs_at = np.empty(tokens, np.int64)
    step = max(1, _BLOCK_ELEMENTS // width)
    for start in range(0, tokens, step):
        block = slice(start, start + step)
        expected = reference[block].astype(np.float64)
        with np.errstate(invalid="ignore"):
            difference = np.abs(candidate[block] - expected)
        squared_error[block] = np.einsum("tn,tn->t", difference, difference)
        squared_norm[block] = np.einsum("tn,tn->t", expected, expected)
        max_abs_at[block] = difference.argmax(axis=-1)
        max_abs[block] = difference.max(axis=-1)
    is_finite = np.isfinite(squared_error) & np.isfinite(squared_norm)
    for values in (squared_error, squared_norm, max_abs):
        values[~is_finite] = np.nan
    return RowErrors(
        squared_error=squared_error,
        squared_norm=squared_norm,
        max_abs=max_abs,
        max_abs_at=max_abs_at,
        is_finite=is_finite,
    )


def _ratio(squared_error: float, squared_norm: float) -> float:
    if squared_error == 0:
        return 0.0
    return math.sqrt(squared_error / squared_norm) if squared_norm else math.inf
