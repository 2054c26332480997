"""Transposes large matrices by tiles, whose rows and columns both stay in the processor's cache."""

import numpy as np

__all__ = ["transpose_into"]

_TILE_ROWS = 256


def transpose_into(target: np.ndarray, source: np.ndarray) -> None:
    """Fills target [C, R] with source [R, C] transposed, cast where the dtypes differ."""
    for start in range(0, len(source), _TILE_ROWS):
        target[:, start : start + _TILE_ROWS] = source[start : start + _TILE_ROWS].T
