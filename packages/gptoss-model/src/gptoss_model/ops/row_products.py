"""Products of single rows with matrices on a CPU: reading the matrices once is all the work.

One row leaves nothing to compute while a matrix streams by, so the time is that of memory. XLA's
own ways are slower: a bf16 product with one row first writes the whole matrix as f32, a chosen
expert is copied before it is multiplied, and packed matrices are written out decoded. What XLA does
well is a loop over elements: it fuses the choice of the expert, the decoding and the product,
works in vectors, and shares the rows among the threads. So the row is cut into a few pieces of
equal width, and the products of the pieces are added element by element, all in f32. Two barriers
bound the fusion: the row is written before it, or whatever the row comes from would be computed
again for every row of the matrix; and the last sum, across the width of a piece, follows after it,
or the fusion would be torn apart.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.mxfp4 import HALVES_FACTOR, Mxfp4Array, decode_halves, scale_factors
from gptoss_model.ops.rounding import rounded

__all__ = ["gathered_row_products", "row_product"]

MOST_PIECES = 10  # fewer write more partial sums; more gain little, and take longer to compile


def row_product(x: Float[Array, "1 in"], matrix: Float[Array, "out in"]) -> Float[Array, "1 out"]:
    """`x · matrixᵀ` in f32."""
    pieces = _pieces(x.shape[1])
    width = x.shape[1] // pieces
    x = lax.optimization_barrier(x)

    def term(piece: int) -> jax.Array:
        columns = slice(piece * width, (piece + 1) * width)
        return _wide(matrix[:, columns], x) * x[:, columns].astype(jnp.float32)

    return _sum_terms(term, pieces)[None]


def gathered_row_products(
    x: Float[Array, "A in"], matrices: Float[Array, "E out in"] | Mxfp4Array, indices: Int[Array, " A"]
) -> Float[Array, "A out"]:
    """Each row times the matrix that its index chooses, transposed, in f32.

    Args:
        x: One row an assignment.
        matrices: An array, or packed.
        indices: Which matrix each row takes; all within 0 … E − 1.
    """
    if isinstance(matrices, Mxfp4Array):
        return _packed_products(x, matrices, indices)
    pieces = _pieces(x.shape[1])
    width = x.shape[1] // pieces
    x = lax.optimization_barrier(x)

    def term(piece: int) -> jax.Array:
        columns = slice(piece * width, (piece + 1) * width)
        chosen = matrices[:, :, columns].at[indices].get(mode="promise_in_bounds")
        return _wide(chosen, x) * x[:, None, columns].astype(jnp.float32)

    return _sum_terms(term, pieces)


def _packed_products(x: jax.Array, matrices: Mxfp4Array, indices: jax.Array) -> jax.Array:
    """The two halves of a byte hold neighbours: the row is split into even and odd entries, not the bytes joined."""
    A, G = x.shape[0], matrices.scales.shape[-1]
    pairs = x.astype(jnp.float32).reshape(A, G, -1, 2) * HALVES_FACTOR
    scales = scale_factors(matrices.scales.at[indices].get(mode="promise_in_bounds"))
    # Barriers: written once, in this order; inside the loop they would be computed for every row of the matrix.
    even, odd, scales = lax.optimization_barrier((pairs[..., 0], pairs[..., 1], scales))
    pieces = _pieces(G)
    width = G // pieces

    def term(piece: int) -> jax.Array:
        groups = slice(piece * width, (piece + 1) * width)
        blocks = matrices.blocks[:, :, groups].at[indices].get(mode="promise_in_bounds")
        low, high = decode_halves(blocks)
        sums: jax.Array = low * even[:, None, groups] + high * odd[:, None, groups]
        scaled: jax.Array = sums * scales[:, :, groups, None]
        return scaled.reshape(A, -1, width * blocks.shape[-1])

    return _sum_terms(term, pieces)


def _wide(values: jax.Array, x: jax.Array) -> jax.Array:
    """The values in f32, as computing with x uses them: rounded to its dtype, if they have more bits."""
    narrow: jax.Array = rounded(values, x.dtype)
    return narrow.astype(jnp.float32)


def _sum_terms(term: Callable[[int], jax.Array], pieces: int) -> jax.Array:
    total = term(0)
    for piece in range(1, pieces):
        total += term(piece)
    partial_sums: jax.Array = lax.optimization_barrier(total)
    return partial_sums.sum(axis=-1)


def _pieces(extent: int) -> int:
    """The most pieces of equal width, within bounds."""
    return next(pieces for pieces in range(min(MOST_PIECES, extent), 0, -1) if extent % pieces == 0)
