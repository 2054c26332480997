"""The first rows of every expert's run, all at once, by products with the matrices where they stand.

A loop over experts copies each one out of [E, out, in] before it multiplies. On a CPU, for the few rows that an
expert has of a short prompt, copying takes longer than multiplying. A product with an axis of experts reads the array
itself. It is for all of them and for a fixed number of rows, so it pays where most experts have some, and what an
expert has beyond those rows is left to the loop.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import Expert, ExpertWeights
from gptoss_model.ops.strategy import current_platform

__all__ = ["apply_in_place", "rows_in_place"]

MOST_ROWS_OF_AN_EXPERT = 64  # beyond, the loop's copies cost little beside its products
ROWS_TO_SPARE = 2  # times the mean run: of evenly drawn experts hardly one has more


def rows_in_place(assignments: int, experts: ExpertWeights, dtype: DTypeLike) -> int:
    """How many rows of each expert to compute at once, or 0: where the matrices cannot be read where they stand."""
    matrices = experts.gate_up_proj, experts.down_proj
    are_ready = all(isinstance(array, jax.Array) and array.dtype == dtype for array in matrices)
    rows = ROWS_TO_SPARE * -(-assignments // experts.count)
    rows = -(-rows // 8) * 8
    return rows if are_ready and current_platform() == "cpu" and rows <= MOST_ROWS_OF_AN_EXPERT else 0


def apply_in_place(
    x: Float[Array, "M D"],
    tokens: Int[Array, " A"],
    runs: Int[Array, " E"],
    experts: ExpertWeights,
    *,
    rows: int,
    apply: Callable[[jax.Array, Expert], jax.Array],
) -> Float[Array, "E rows D"]:
    """What each expert makes of the first rows of its run; where that ends sooner, of others' rows as well.

    Args:
        x: The tokens.
        tokens: Which one each sorted assignment is of.
        runs: How many of them each expert has.
        experts: Arrays in the dtype of x.
        rows: How many.
        apply: One expert on rows [rows, D].
    """
    gate_up, down = experts.gate_up_proj, experts.down_proj
    assert isinstance(gate_up, jax.Array)
    assert isinstance(down, jax.Array)
    places = (jnp.cumsum(runs) - runs)[:, None] + jnp.arange(rows)
    all_experts = Expert(
        gate_up,
        experts.gate_up_proj_bias,
        down,
        experts.down_proj_bias,
        experts.gate_up_update,
        experts.down_update,
    )
    outputs: jax.Array = jax.vmap(apply)(x[tokens.at[places].get(mode="clip")], all_experts)
    return outputs
