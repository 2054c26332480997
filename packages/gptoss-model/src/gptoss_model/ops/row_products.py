"""Products of single rows with matrices on a CPU: reading the matrices once is all the work.

One row leaves nothing to compute while a matrix streams by, so the time is that of memory. XLA's
own products are slower: one of bf16 with one row first writes the whole matrix as f32, a chosen
expert is copied before it is multiplied, and packed matrices are written out decoded.

A matrix that is there as it is needs no more than a sum of products: XLA converts, multiplies and
adds in one pass. One that is chosen, or packed, would be written out for that sum. There XLA does
well at a loop over elements: it fuses the choice of the expert, the decoding and the product, works
in vectors, and shares the rows among the threads. So the row is cut into a few pieces of equal
width, and the products of the pieces are added element by element, all in f32.

Barriers bound the fusions. The row is written before, or whatever it comes from would be computed
again for every row of the matrix. A matrix that passes the barrier beside the row belongs to this
step: inside a decoding loop XLA would otherwise convert it once, before the loop, to twice its bytes,
hold that copy of the whole model, and read it in every step. The sum across the width of a piece
follows after a barrier, or the fusion would be torn apart.
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
    x, matrix = lax.optimization_barrier((x, matrix))
    products: jax.Array = _wide(matrix, x) * x.astype(jnp.float32)
    return products.sum(axis=-1)[None]


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
