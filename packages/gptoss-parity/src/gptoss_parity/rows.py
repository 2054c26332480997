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

    `squared_error`, `squared_norm` (of the reference), `candidate_squared_norm`, `product` (of both),
    `max_abs` and `max_relative` (difference over the reference's element, infinite where that is 0 and
    the candidate's is not) are float64 [T]; `max_abs_at` and `max_relative_at` are the places of the
    two in their row. A row that is not finite on either side carries NaN, and `is_finite` says so.
    """

    squared_error: np.ndarray
    squared_norm: np.ndarray
    candidate_squared_norm: np.ndarray
    product: np.ndarray
    max_abs: np.ndarray
    max_abs_at: np.ndarray
    max_relative: np.ndarray
    max_relative_at: np.ndarray
    is_finite: np.ndarray

    def relative_l2(self, selected: np.ndarray | slice = slice(None)) -> float:
        """‖candidate − reference‖ / ‖reference‖ over the selected tokens; 0 if none, NaN if not finite."""
        return _ratio(float(self.squared_error[selected].sum()), float(self.squared_norm[selected].sum()))

    def cosine(self) -> float:
        """Cosine of the angle between both sides' values over all tokens; 1 where both are 0."""
        norms = float(self.squared_norm.sum()) * float(self.candidate_squared_norm.sum())
        if norms == 0:
            return 1.0 if float(self.squared_error.sum()) == 0 else 0.0
        return float(self.product.sum()) / math.sqrt(norms)

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
    names = ("squared_error", "squared_norm", "candidate_squared_norm", "product", "max_abs", "max_relative")
    values = {name: np.empty(tokens) for name in names}
    places = {name: np.empty(tokens, np.int64) for name in ("max_abs_at", "max_relative_at")}
    step = max(1, _BLOCK_ELEMENTS // width)
    for start in range(0, tokens, step):
        block = slice(start, start + step)
        expected, found = reference[block].astype(np.float64), candidate[block].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = np.abs(found - expected)
            relative = np.where(difference == 0, 0.0, difference / np.abs(expected))
            values["product"][block] = np.einsum("tn,tn->t", expected, found)
        for name, array in (("squared_error", difference), ("squared_norm", expected)):
            values[name][block] = np.einsum("tn,tn->t", array, array)
        values["candidate_squared_norm"][block] = np.einsum("tn,tn->t", found, found)
        for name, array in (("max_abs", difference), ("max_relative", relative)):
            places[f"{name}_at"][block] = array.argmax(axis=-1)
            values[name][block] = array.max(axis=-1)
    is_finite = np.isfinite(values["squared_error"]) & np.isfinite(values["squared_norm"])
    for array in values.values():
        array[~is_finite] = np.nan
    return RowErrors(is_finite=is_finite, **values, **places)


def _ratio(squared_error: float, squared_norm: float) -> float:
    if squared_error == 0:
        return 0.0
    return math.sqrt(squared_error / squared_norm) if squared_norm else math.inf
