"""Which key a query may see: decided by positions alone, never by where a row stands.

So padding on either side, ring buffers and chunks need no further code. A negative position marks a
row that is no token: as a key nobody sees it, as a query it sees nothing and yields zeros (the sink
takes all its weight). Where several documents are packed into one row, each counts its own positions
from 0, and their segments keep them apart.
"""

from jaxtyping import Array, Bool, Int

__all__ = ["visible_keys"]


def visible_keys(
    query_positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    *,
    window: int | Int[Array, ""] | None,
    query_segments: Int[Array, "B T"] | None = None,
    key_segments: Int[Array, "B S"] | None = None,
) -> Bool[Array, "B T S"]:
    """Whether a query sees a key: a real one, not in its future, and among the last `window` positions.

    With window W the query at position p sees p − W + 1 … p, W keys with its own. With segments it sees
    only keys of its own.

    Source: openai/gpt-oss torch/model.py, `sdpa`.
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    visible = (key >= 0) & (key <= query)
    if window is not None:
        visible &= key > query - window
    if query_segments is not None and key_segments is not None:
        visible &= query_segments[:, :, None] == key_segments[:, None, :]
    return visible
