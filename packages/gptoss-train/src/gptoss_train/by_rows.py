"""Changes of arrays that treat each number by itself, made to go through every array as one row of numbers.

XLA compiles a loop for each shape, and one with as many levels as the shape has axes. Rows need one for each size, and
it is a simple one.
"""

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["by_rows"]


def by_rows[*Before, After](change: Callable[[Any, *Before], After]) -> Callable[[Any, *Before], After]:
    """A change that is given all arrays as rows.

    Not for arrays that are split over devices, which would have to be brought together.

    Args:
        change: (gradients, what is changed …) → the same, changed.
    """

    def changed(gradients: Any, *before: *Before) -> After:
        rows = jax.tree.map(lambda array: array.reshape(-1) if array.ndim else array, (gradients, *before))
        # Barriers: XLA would take the shapes in again.
        after = jax.lax.optimization_barrier(change(*jax.lax.optimization_barrier(rows)))
        shaped: After = jax.tree.map(lambda row, array: row.reshape(array.shape), after, before)
        return shaped

    return changed
