"""Rows of keys or values that stand in a stack of all layers, and are read from it some at a time.

Inside a compiled loop over layers the cache is one stack for many layers. Slicing a layer out of it
would copy the layer's whole buffer in every step, 134 MB at the published geometry and length; a
strategy that visits blocks of rows slices those alone.
"""

import dataclasses

import jax
from jax import lax
from jaxtyping import Array, Float, Int

__all__ = ["StackedRows", "slice_rows", "unstacked_rows"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StackedRows:
    """One layer's rows [B, S, K, H] in a stack.

    Attributes:
        stack: Those of all layers, [L, B, S, K, H].
        row: Which entry.
    """

    stack: Float[Array, "L B S K H"]
    row: Int[Array, ""]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the layer's rows."""
        return self.stack.shape[1:]


def slice_rows(
    rows: Float[Array, "*L B S K H"], row: Int[Array, ""] | None, start: Int[Array, ""], count: int
) -> Float[Array, "B count K H"]:
    """Some rows, beginning with `start`, of an array or of the given entry of a stack; nothing else is read."""
    if row is None:
        return lax.dynamic_slice_in_dim(rows, start, count, axis=1)
    B, _, K, H = rows.shape[1:]
    return lax.dynamic_slice(rows, (row, 0, start, 0, 0), (1, B, count, K, H))[0]


def unstacked_rows(rows: jax.Array | StackedRows) -> Float[Array, "B S K H"]:
    """All rows as an array, for strategies that want them at once."""
    return rows.stack[rows.row] if isinstance(rows, StackedRows) else rows
