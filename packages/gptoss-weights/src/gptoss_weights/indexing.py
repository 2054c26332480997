"""Basic indices (integers and slices) taken apart, for checkpoints that read or make only some rows."""

from gptoss_weights.checkpoint import Index

__all__ = ["first_axis"]


def first_axis(index: Index, rows: int) -> tuple[int, int, Index]:
    """The rows of the first axis that an index needs, and the index into those.

    Args:
        index: Any basic index.
        rows: Extent of the first axis.

    Returns:
        start, stop, rest: `array[index]` is `array[start:stop][rest]`.

    Raises:
        IndexError: an integer is out of range.
    """
    if not index:
        return 0, rows, ()
    first, *rest = index
    if not isinstance(first, slice):
        row = range(rows)[first]  # negative rows count from the end; IndexError past it
        return row, row + 1, (0, *rest)
    start, stop, step = first.indices(rows)
    if step != 1:
        return 0, rows, index
    return start, max(start, stop), (slice(None), *rest)
