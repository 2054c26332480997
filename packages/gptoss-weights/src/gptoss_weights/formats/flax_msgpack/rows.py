"""Rows of a leaf, whether it stands in one piece or flax cut it into many.

A chunk ends at a number of elements and not at a row, so that a row, or an expert, may lie in two.
"""

import bisect
import itertools
import math
from collections.abc import Iterator

import numpy as np

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.formats.flax_msgpack.index import IndexedArray
from gptoss_weights.mapped_file import MappedFile
from gptoss_weights.tiled_copy import copy_by_tiles

__all__ = ["LeafRows"]

_COPIED_BYTES = 32 << 20  # of a cut leaf at a time, so that the map's pages can be let go of in between


class LeafRows:
    """The rows of a leaf: what it has along its first axis."""

    def __init__(self, file: MappedFile, array: IndexedArray) -> None:
        self._file = file
        self._pieces = array.pieces
        self._dtype = array.dtype
        self._row_shape = array.shape[1:]
        self._row_size = math.prod(self._row_shape)
        sizes = [math.prod(piece.shape) for piece in array.pieces]
        self._starts = list(itertools.accumulate(sizes, initial=0))  # of the pieces, in elements; then the end

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start … stop − 1: a view if no cut is among them, otherwise a copy."""
        view = self._view(start, stop)
        if view is not None:
            return view
        rows = np.empty((stop - start, *self._row_shape), self._dtype)
        for position, run in self._runs(start, stop):
            rows[position : position + len(run)] = run
        rows.setflags(write=False)
        return rows

    def read_transposed(self, start: int, stop: int, columns: slice) -> np.ndarray:
        """Some columns of the rows start … stop − 1 of a matrix, one after the other."""
        view = self._view(start, stop)
        if view is not None:
            return view[:, columns].T
        transposed = np.empty((columns.stop - columns.start, stop - start), self._dtype)
        for position, run in self._runs(start, stop):
            copy_by_tiles(transposed[:, position : position + len(run)], run[:, columns].T)
        transposed.setflags(write=False)
        return transposed

    def _view(self, start: int, stop: int) -> np.ndarray | None:
        """The rows where they stand, or None if a cut is among them."""
        begin, end = start * self._row_size, stop * self._row_size
        number = self._piece_at(begin)
        if end > self._starts[number + 1]:
            return None
        return self._elements(number, begin, end).reshape(stop - start, *self._row_shape)

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """The rows in runs, each with its position among them; a row that is cut is a run by itself."""
        longest = max(1, _COPIED_BYTES // (self._row_size * self._dtype.itemsize))
        row = start
        while row < stop:
            begin = row * self._row_size
            uncut = (self._starts[self._piece_at(begin) + 1] - begin) // self._row_size
            count = min(uncut, stop - row, longest)
            run = self._view(row, row + count) if count else self._cut_row(begin)
            assert run is not None
            yield row - start, run
            row += len(run)

    def _cut_row(self, begin: int) -> np.ndarray:
        end = begin + self._row_size
        parts = []
        while begin < end:
            number = self._piece_at(begin)
            stop = min(end, self._starts[number + 1])
            parts.append(self._elements(number, begin, stop))
            begin = stop
        return np.concatenate(parts).reshape(1, *self._row_shape)

    def _piece_at(self, element: int) -> int:
        return bisect.bisect_right(self._starts, element, hi=len(self._pieces)) - 1

    def _elements(self, number: int, begin: int, end: int) -> np.ndarray:
        """The elements begin … end − 1 of the leaf, all of which stand in one piece."""
        piece = self._pieces[number]
        offset = piece.offset + (begin - self._starts[number]) * piece.dtype.itemsize
        return self._file.view(StoredArray(path=piece.path, offset=offset, dtype=piece.dtype, shape=(end - begin,)))
