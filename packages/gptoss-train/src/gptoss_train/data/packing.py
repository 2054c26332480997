"""Packing: which samples share a row, so that few tokens of it are padding.

A window of samples is packed at a time, the longest first, each into a row that has room for it: the fullest
such row (best fit) or the earliest (first fit), or else a new one. First fit in this order needs at most 11/9 of
the fewest rows possible, and 6/9 of a row more (Dósa 2007). Nothing is carried from one window to the next, so
a position in the data is a window and a row in it.
"""

import bisect
from collections.abc import Sequence
from typing import Literal

__all__ = ["pack_rows"]


def pack_rows(
    lengths: Sequence[int], capacity: int, *, strategy: Literal["best_fit", "first_fit", "none"]
) -> list[list[int]]:
    """Assigns samples to rows.

    Args:
        lengths: Tokens of each sample.
        capacity: Tokens that a row holds.
        strategy: How a row is chosen; "none" gives each sample one of its own.

    Returns:
        The samples of each row, by their place in `lengths` and in this order; rows by their first sample.

    Raises:
        ValueError: a sample is longer than a row.
    """
    if any(length > capacity for length in lengths):
        raise ValueError(f"a sample of {max(lengths)} tokens does not fit in a row of {capacity}")
    if strategy == "none":
        return [[place] for place in range(len(lengths))]
    longest_first = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    place_in = _best_fit if strategy == "best_fit" else _first_fit
    return sorted(sorted(row) for row in place_in(longest_first, lengths, capacity))


def _best_fit(order: Sequence[int], lengths: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for place in order:
        found = bisect.bisect_left(room, (lengths[place], 0))
        if found < len(room):
            left, row = room.pop(found)
        else:
            left, row = capacity, len(rows)
            rows.append([])
        rows[row].append(place)
        bisect.insort(room, (left - lengths[place], row))
    return rows


def _first_fit(order: Sequence[int], lengths: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    room: list[int] = []
    for place in order:
        row = next((row for row, left in enumerate(room) if left >= lengths[place]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(place)
        room[row] -= lengths[place]
    return rows
