"""The `tiled` strategy: assignments sorted by expert, in tiles of rows that share one expert.

The M·k assignments (token, expert) are sorted by expert, and each expert's run is padded to whole
tiles of R rows. A scan goes over the tiles: gather the R tokens, decode the expert once, two matrix
products, write R rows. How many tiles there are depends on the routing, so the scan has room for
the worst case, M·k // R + min(E, M·k), and skips the rest; experts that nobody chose have no tile.

Memory: one decoded expert, R rows inside the scan, and the padded outputs, at most M·k + E·R rows.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.moe.experts import ExpertWeights, apply_expert, combine_experts
from gptoss_model.ops.moe.sorting import sort_by_expert

__all__ = ["tile_rows", "tiled_moe"]

SMALLEST_TILE_ROWS = 8  # below, a product costs as much as reading its matrix anyway
LARGEST_TILE_ROWS = 256  # above, the matrices are amortised
MATRICES_IN_ROWS = 80  # copying or decoding an expert's matrices costs as much as multiplying so many rows, on CPUs


def tile_rows(assignments: int, experts: int) -> int:
    """Rows of a tile: a power of two that lets most experts do with one, as long as that does not waste too many rows.

    A tile costs its matrices and its rows, and every expert fills its last tile by half on average:
    sqrt(2 · mean run · w) rows cost least, where w rows cost as much as the matrices. Short runs
    need no more than the power of two above the mean; half of the experts get more than the mean.
    """
    mean_run = -(-assignments // experts)
    enough = mean_run.bit_length()
    cheapest = round(math.log2(2 * mean_run * MATRICES_IN_ROWS) / 2)
    return min(max(1 << min(enough, cheapest), SMALLEST_TILE_ROWS), LARGEST_TILE_ROWS)


def tiled_moe(
    x: Float[Array, "M D"],
    indices: Int[Array, "M k"],
    weights: Float[Array, "M k"],
    experts: ExpertWeights,
    *,
    swiglu_alpha: float,
    swiglu_limit: float,
) -> Float[Array, "M D"]:
    """The weighted sum of each token's experts; see `gptoss_model.ops.moe.MoeStrategy`."""
    M, k = indices.shape
    A, E = M * k, experts.count
    R = tile_rows(A, E)
    chosen, order, runs = sort_by_expert(indices, E)  # the expert that is nobody gets no tile
    run_starts = jnp.cumsum(runs) - runs
    tile_ends = jnp.cumsum(-(-runs // R))
    tile_starts = tile_ends - -(-runs // R)

    def compute(tile: jax.Array) -> jax.Array:
        expert = jnp.searchsorted(tile_ends, tile, side="right")
        first = run_starts[expert] + (tile - tile_starts[expert]) * R
        # Rows past the run belong to the next expert (or to nobody): computed, and never looked at.
        assignments = order[jnp.minimum(first + jnp.arange(R), A - 1)]
        return apply_expert(x[assignments // k], experts, expert, swiglu_alpha=swiglu_alpha, swiglu_limit=swiglu_limit)

    def skip(_tile: jax.Array) -> jax.Array:
        return jnp.zeros((R, x.shape[1]), x.dtype)

    def step(carry: None, tile: jax.Array) -> tuple[None, jax.Array]:
        return carry, lax.cond(tile < tile_ends[-1], compute, skip, tile)

    _, tiles = lax.scan(step, None, jnp.arange(A // R + min(E, A)))
    # Where the output of each assignment stands: its rank inside its expert's run, after that run's first tile.
    ranks = jnp.zeros(A, jnp.int32).at[order].set(jnp.arange(A, dtype=jnp.int32))
    expert_of = jnp.minimum(chosen, E - 1)
    rows = tile_starts[expert_of] * R + ranks - run_starts[expert_of]
    outputs = jnp.where((chosen < E)[:, None], tiles.reshape(-1, x.shape[1])[rows], 0)
    return combine_experts(outputs.reshape(M, k, -1), weights)
