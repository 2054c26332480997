"""Assignments sorted by expert, for strategies that read an expert once for all its tokens."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from gptoss_model.ops.moe.experts import has_expert

__all__ = ["SortedAssignments", "sort_by_expert"]


class SortedAssignments(NamedTuple):
    """The M·k assignments, those of one expert together.

    Attributes:
        chosen: The expert of each assignment, int32 [M·k]; E for nobody, who so comes behind the last expert.
        order: Which assignment stands where, int32 [M·k]; those of one expert in the order of the tokens.
        runs: How many each expert has, int32 [E].
    """

    chosen: Int[Array, " A"]
    order: Int[Array, " A"]
    runs: Int[Array, " E"]


def sort_by_expert(indices: Int[Array, "M k"], count: int) -> SortedAssignments:
    """Sorts assignments to `count` experts, or to nobody."""
    chosen = jnp.where(has_expert(indices, count), indices, count).reshape(-1)
    runs = jnp.zeros(count + 1, jnp.int32).at[chosen].add(1, mode="promise_in_bounds", wrap_negative_indices=False)
    runs = runs[:count]
    return SortedAssignments(chosen, jnp.argsort(chosen, stable=True), runs)
