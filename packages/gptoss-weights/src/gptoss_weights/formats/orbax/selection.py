"""What an index into a canonical tensor needs of a leaf: ranges of its letters, and what is left to do.

A leaf can be read by ranges of whole letters. Along an axis that is a product (`NH`, `2F`) rows r =
outer · inner extent + inner, so the rows that an index asks for lie in a range of the outer letter;
that range is read, and the index is applied to what came back.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from gptoss_weights.checkpoint import Index
from gptoss_weights.formats.orbax.tree import HALF, Leaf

__all__ = ["Selection"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """A basic index, taken apart.

    Attributes:
        ranges: Letter → the range of it that is needed; letters that are not named are needed whole.
        halves: Which of gate (0) and up (1) is needed, where there are halves.
        split_shape: Shape of what the ranges select, by the letters of `Leaf.split`.
        merged_shape: The same by canonical axes.
        remainder: The index into an array of `merged_shape`.
    """

    ranges: Mapping[str, slice]
    halves: frozenset[int]
    split_shape: tuple[int, ...]
    merged_shape: tuple[int, ...]
    remainder: Index

    @staticmethod
    def of(index: Index, leaf: Leaf) -> "Selection":
        """Takes apart an index into a canonical tensor of this leaf.

        Raises:
            IndexError: an integer is out of range, or there are more indices than axes.
        """
        shape = leaf.specs[0].shape
        if len(index) > len(shape):
            raise IndexError(f"{len(index)} indices for the {len(shape)} axes of {leaf.specs[0].name}")
        ranges: dict[str, slice] = {}
        halves = frozenset({0, 1})
        extents = dict(leaf.sizes)
        merged_shape: list[int] = []
        remainder: list[int | slice] = []
        for axis, (outer, *inner) in enumerate(leaf.letters_of_axes()):
            entry = index[axis] if axis < len(index) else slice(None)
            rows = _rows(entry, shape[axis])
            step = leaf.sizes[inner[0]] if inner else 1
            first, last = (min(rows) // step, max(rows) // step + 1) if rows else (0, 0)
            ranges[outer] = slice(first, last)
            extents[outer] = last - first
            merged_shape.append((last - first) * step)
            remainder.append(_shifted(entry, rows, first * step))
            if inner == [HALF]:
                halves = frozenset(row % step for row in rows[:2])  # two neighbours show all that will come
        return Selection(
            ranges=ranges,
            halves=halves,
            split_shape=tuple(extents[letter] for letter in leaf.split),
            merged_shape=tuple(merged_shape),
            remainder=tuple(remainder),
        )

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The result, a view of an array of `split_shape`."""
        result: np.ndarray = values.reshape(self.merged_shape)[(*self.remainder, ...)]
        return result


def _rows(entry: int | slice, extent: int) -> range:
    """The rows that an entry asks for, none twice."""
    if isinstance(entry, slice):
        return range(extent)[entry]
    row = range(extent)[entry]
    return range(row, row + 1)


def _shifted(entry: int | slice, rows: range, offset: int) -> int | slice:
    """The same entry into an axis that begins at row `offset`."""
    if not isinstance(entry, slice):
        return rows[0] - offset
    if not rows:
        return slice(0, 0)
    stop = rows[-1] - offset + (1 if rows.step > 0 else -1)
    return slice(rows[0] - offset, None if stop < 0 else stop, rows.step)
