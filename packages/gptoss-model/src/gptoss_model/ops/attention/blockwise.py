"""The `blockwise` strategy: online softmax over blocks of keys, for long prompts and long caches.

Queries and keys are cut into blocks. Lowest and highest position of each say which blocks of keys a
block of queries can see at all, whatever stands where: padding, a ring, a chunk of a prompt, a long
buffer that is mostly empty, other documents of a packed row. Only those are visited, so a sliding
layer costs O(T·W), and a decoding step costs what the cache holds, not what it has room for. Inside a
visited block the positions decide row by row, as in the reference.

Running maximum and sum start with the sink (maximum = sink, sum = 1, no value), so it is exact in
value. The backward pass keeps the output and the log of the sum, visits the same blocks again and
makes the probabilities anew: with δ = Σ out·∂out a score's gradient is p·(∂p − δ), and the sink,
whose value is zero, gets −p·δ.

Memory: the scores of one pair of blocks, B·N·block·block numbers; backwards also ∂k and ∂v in f32.

Source: Dao et al., FlashAttention (arXiv:2205.14135), algorithms 1 and 4.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gptoss_model.ops.attention.scores import visible_scores
from gptoss_model.ops.attention.stacked import StackedRows, slice_rows
from gptoss_model.ops.cotangents import without_integers
from gptoss_model.ops.products import einsum_in_f32
from gptoss_model.ops.rounding import rounded
from gptoss_model.ops.strategy import current_platform

__all__ = ["Blocks", "blockwise_attention", "cut_into_blocks"]

# Rows of a block of queries and of keys. Measured on two cores (64 heads × 64, window 128): a pair's
# scores should stay in the cache. Not measured on accelerators, where each turn of the loop has its price.
BLOCK_ROWS = {"cpu": (32, 128), "gpu": (256, 512), "tpu": (256, 512)}
SMALLEST_KEY_BLOCK = 64
# Rows of a block of queries, and fewest and most of one of keys, where the window is known only when it runs, as in
# training. Measured on two cores (8 heads × 64): a step took 0.89 to 0.95 of the time that it takes with the blocks
# above, then with 32 queries in short rows; with 64, 256 tokens take 0.97 of that (AVX-512).
TRACED_ROWS = {"cpu": (64, (64, 128)), "gpu": (256, (512, 512)), "tpu": (256, (512, 512))}
FEWEST_BLOCKS_OF_KEYS = 32  # within those bounds, for each turn of the loop has its price
# For a few queries, whose scores are small. The last block is read whole, however little of it is filled:
# on two cores, 128 tokens in a cache of 1536, blocks of 2048 took a third more time for a token.
LARGEST_KEY_BLOCK = {"cpu": 256, "gpu": 2048, "tpu": 2048}
NOWHERE = 2**31 - 1  # lowest position of a block without tokens: in everybody's future


def blockwise_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B S K H"] | StackedRows,
    v: Float[Array, "B S K H"] | StackedRows,
    sinks: Float[Array, " N"],
    *,
    query_positions: Int[Array, "B T"],
    key_positions: Int[Array, "B S"],
    window: int | Int[Array, ""] | None,
    segments: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T N H"]:
    """Softmax over the visible keys and the sink; see `gptoss_model.ops.attention.AttentionStrategy`."""
    keys, key_row = _taken_apart(k)
    values, value_row = _taken_apart(v)
    static, traced = (None, window) if isinstance(window, jax.Array) else (window, None)
    inputs = Inputs(q, keys, values, sinks, query_positions, key_positions, segments, key_row, value_row, traced)
    return _attend(inputs, static)


type Saved = tuple["Inputs", jax.Array, jax.Array]  # and output and log-sums


class Inputs(NamedTuple):
    """The arguments. Keys and values may be stacks [L, B, S, K, H] each, and then have rows in them."""

    q: jax.Array  # [B, T, N, H]
    keys: jax.Array  # [B, S, K, H]
    values: jax.Array  # [B, S, K, H]
    sinks: jax.Array  # [N]
    query_positions: jax.Array  # int32 [B, T]
    key_positions: jax.Array  # int32 [B, S]
    segments: jax.Array | None  # int32 [B, T], where S = T
    key_row: jax.Array | None
    value_row: jax.Array | None
    window: jax.Array | None  # where it is known only when it runs

    def block(self, number: jax.Array, rows: int) -> "KeyBlock":
        """One block of keys.

        The last block starts earlier rather than sticking out (padding would copy the whole buffer);
        the keys that it shares with the one before count there.
        """
        start = jnp.minimum(number * rows, self.keys.shape[-3] - rows)
        keys = slice_rows(self.keys, self.key_row, start, rows)
        values = slice_rows(self.values, self.value_row, start, rows)
        at = lax.dynamic_slice_in_dim(self.key_positions, start, rows, axis=1)
        positions = jnp.where(start + jnp.arange(rows) >= number * rows, at, -1)
        segments = None if self.segments is None else lax.dynamic_slice_in_dim(self.segments, start, rows, axis=1)
        return KeyBlock(keys, values, positions, segments, start)


class KeyBlock(NamedTuple):
    """Keys and values [B, rows, K, H] of one block, their positions and segments, and where it starts."""

    keys: jax.Array
    values: jax.Array
    positions: jax.Array
    segments: jax.Array | None
    start: jax.Array


class QueryBlock(NamedTuple):
    """Queries [B, K, N // K, rows, H] of one block, their positions and segments."""

    queries: jax.Array
    positions: jax.Array
    segments: jax.Array | None

    @staticmethod
    def of(inputs: Inputs, number: jax.Array, rows: int) -> "QueryBlock":
        """One block; `inputs` whose queries are padded."""
        segments = None if inputs.segments is None else _block_of(inputs.segments, number, rows)
        return QueryBlock(
            _heads_of_block(inputs.q, number, rows, inputs.keys.shape[-2]),
            _block_of(inputs.query_positions, number, rows),
            segments,
        )

    def scores(self, block: KeyBlock, window: int | jax.Array | None) -> jax.Array:
        """Of one block: its scores with a block of keys, −∞ where a key is not seen."""
        return visible_scores(
            _products(self.queries, block.keys),
            self.positions,
            block.positions,
            head_dim=self.queries.shape[-1],
            dtype=self.queries.dtype,
            window=window,
            query_segments=self.segments,
            key_segments=block.segments,
        )


class Blocks(NamedTuple):
    """How the rows are cut, and which pairs of blocks have something to see.

    Attributes:
        queries: Rows of a block of queries.
        keys: Rows of a block of keys.
        visited: For each block of queries all blocks of keys, those to visit first, int32 [query blocks, key blocks].
        counts: How many those are, int32 [query blocks].
    """

    queries: int
    keys: int
    visited: jax.Array
    counts: jax.Array

    @property
    def numbers(self) -> jax.Array:
        """Of the blocks of queries."""
        return jnp.arange(len(self.counts), dtype=jnp.int32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _attend(inputs: Inputs, window: int | None) -> jax.Array:
    return _forward(inputs, window)[0]


def _forward(inputs: Inputs, window: int | jax.Array | None) -> tuple[jax.Array, Saved]:
    """The output, and what the backward pass needs."""
    q, sinks = inputs.q, inputs.sinks
    B, T, N, H = q.shape
    K = inputs.keys.shape[-2]
    window = window if inputs.window is None else inputs.window
    blocks = cut_into_blocks(inputs.query_positions, inputs.key_positions, window, inputs.segments)
    sink = sinks.astype(jnp.float32).reshape(K, N // K, 1)

    padded = _padded(inputs, blocks.queries)

    def attend(block: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        number, visited, count = block
        queries = QueryBlock.of(padded, number, blocks.queries)

        def visit(turn: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            highest, total, mixed = state
            seen = inputs.block(visited[turn], blocks.keys)
            logits = queries.scores(seen, window)
            if current_platform() == "cpu":  # written once, or scaling and mask are computed for each use: a third more
                logits = lax.optimization_barrier(logits)
            raised = jnp.maximum(highest, logits.max(axis=-1))
            exponentials = jnp.exp(logits - raised[..., None])
            shrink = jnp.exp(highest - raised)
            product = einsum_in_f32("BKGTS,BSKH->BKGTH", rounded(exponentials, q.dtype), seen.values)
            return raised, total * shrink + exponentials.sum(axis=-1), mixed * shrink[..., None] + product

        rows = (B, K, N // K, blocks.queries)
        start = jnp.broadcast_to(sink, rows), jnp.ones(rows, jnp.float32), jnp.zeros((*rows, H), jnp.float32)
        highest, total, mixed = lax.fori_loop(0, count, visit, start)
        return rounded(mixed / total[..., None], q.dtype), highest + jnp.log(total)

    out, log_sums = lax.map(attend, (blocks.numbers, blocks.visited, blocks.counts))
    out = _join_queries(out, T)
    return out, (inputs, out, log_sums)


def _backward(window: int | jax.Array | None, saved: Saved, gradient: jax.Array) -> tuple[Inputs]:
    inputs, out, log_sums = saved
    q, sinks = inputs.q, inputs.sinks
    N, H = q.shape[2:]
    K = inputs.keys.shape[-2]
    window = window if inputs.window is None else inputs.window
    blocks = cut_into_blocks(inputs.query_positions, inputs.key_positions, window, inputs.segments)
    delta = (out.astype(jnp.float32) * gradient.astype(jnp.float32)).sum(axis=-1, keepdims=True)
    padded = _padded(inputs, blocks.queries)
    gradient, delta = _padded_rows(gradient, blocks.queries), _padded_rows(delta, blocks.queries)

    def attend(
        sums: tuple[jax.Array, jax.Array], block: tuple[Any, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        number, log_sum, visited, count = block
        queries = QueryBlock.of(padded, number, blocks.queries)
        gradients, deltas = (_heads_of_block(array, number, blocks.queries, K) for array in (gradient, delta))

        def visit(turn: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            d_q, d_k, d_v = state
            seen = inputs.block(visited[turn], blocks.keys)
            scores = queries.scores(seen, window)
            probabilities = jnp.exp(scores - log_sum[..., None])
            d_probabilities = einsum_in_f32("BKGTH,BSKH->BKGTS", gradients, seen.values)
            d_scores = probabilities * (d_probabilities - deltas) * H**-0.5
            d_q += einsum_in_f32("BKGTS,BSKH->BKGTH", rounded(d_scores, q.dtype), seen.keys)
            more_k = einsum_in_f32("BKGTS,BKGTH->BKSH", rounded(d_scores, q.dtype), queries.queries)
            more_v = einsum_in_f32("BKGTS,BKGTH->BKSH", rounded(probabilities, q.dtype), gradients)
            d_k, d_v = _add_at(d_k, seen.start, more_k), _add_at(d_v, seen.start, more_v)
            return d_q, d_k, d_v

        d_q, *sums_after = lax.fori_loop(0, count, visit, (jnp.zeros(gradients.shape, jnp.float32), *sums))
        return (sums_after[0], sums_after[1]), d_q

    B, S = inputs.keys.shape[-4:-2]
    nothing = jnp.zeros((B, K, S, H), jnp.float32), jnp.zeros((B, K, S, H), jnp.float32)
    (d_k, d_v), d_q = lax.scan(attend, nothing, (blocks.numbers, log_sums, blocks.visited, blocks.counts))
    deltas = delta.reshape(B, -1, blocks.queries, K, N // K).transpose(1, 0, 3, 4, 2)  # as the log-sums stand
    d_sinks = -(jnp.exp(sinks.astype(jnp.float32).reshape(K, N // K, 1) - log_sums) * deltas).sum(axis=(0, 1, 4))
    gradients = inputs._replace(
        q=_join_queries(d_q, q.shape[1]).astype(q.dtype),
        keys=_in_place(inputs.keys, inputs.key_row, d_k.swapaxes(1, 2)),
        values=_in_place(inputs.values, inputs.value_row, d_v.swapaxes(1, 2)),
        sinks=d_sinks.reshape(N).astype(sinks.dtype),
    )
    return (without_integers(gradients),)


_attend.defvjp(_forward, _backward)


def cut_into_blocks(
    query_positions: jax.Array,
    key_positions: jax.Array,
    window: int | jax.Array | None,
    segments: jax.Array | None = None,
) -> Blocks:
    """The blocks of queries at positions [B, T] and keys at [B, S], and what each of the former must visit.

    A window that is known only when it runs skips as many blocks, but their size does not depend on it.
    """
    T, S = query_positions.shape[1], key_positions.shape[1]
    platform = current_platform()
    most_rows, most_columns = BLOCK_ROWS[platform]
    if window is None:
        columns = min(most_columns * most_rows // min(most_rows, T), LARGEST_KEY_BLOCK[platform])
    elif isinstance(window, int):
        columns = min(max(_power_of_two(window - 1), SMALLEST_KEY_BLOCK), most_columns)
    else:
        most_rows, (least_columns, most_columns) = TRACED_ROWS[platform]
        columns = min(max(_power_of_two(S // FEWEST_BLOCKS_OF_KEYS), least_columns), most_columns)
    rows, columns = min(most_rows, T), min(columns, S)
    lowest_query, highest_query = _bounds(query_positions, segments, rows)
    lowest_key, highest_key = _bounds(key_positions, segments, columns)
    is_hidden = (lowest_key[..., None, :] > highest_query[..., None]).any(axis=0)
    if window is not None:
        is_hidden |= highest_key[0, :, None] <= lowest_query[0, :, :, None] - window
    if segments is not None:
        is_hidden |= highest_key[1, :, None] < lowest_query[1, :, :, None]
    is_hidden = is_hidden.all(axis=0)
    visited = jnp.argsort(is_hidden, axis=1, stable=True).astype(jnp.int32)
    return Blocks(rows, columns, visited, is_hidden.shape[1] - is_hidden.sum(axis=1, dtype=jnp.int32))


def _power_of_two(number: int) -> int:
    """The largest one that is not above a number, or 1."""
    return 1 << max(number.bit_length() - 1, 0)


def _bounds(positions: jax.Array, segments: jax.Array | None, rows: int) -> tuple[jax.Array, jax.Array]:
    """Lowest and highest position of each block out of [B, T], and segment if there are any: each [1 or 2, B, blocks].

    Those of a block without tokens are `NOWHERE` and −1.
    """
    both = [positions] if segments is None else [positions, segments]
    padded = jnp.stack([_padded_rows(array, rows, -1) for array in both])
    cut = padded.reshape(*padded.shape[:2], -1, rows)
    return jnp.where(cut >= 0, cut, NOWHERE).min(axis=-1), cut.max(axis=-1)


def _padded(inputs: Inputs, rows: int) -> Inputs:
    """Filled up with queries that are no tokens to whole blocks; blocks are then read where they stand."""
    segments = None if inputs.segments is None else _padded_rows(inputs.segments, rows, -1)
    positions = _padded_rows(inputs.query_positions, rows, -1)
    return inputs._replace(q=_padded_rows(inputs.q, rows), query_positions=positions, segments=segments)


def _padded_rows(x: jax.Array, rows: int, value: int = 0) -> jax.Array:
    return jnp.pad(x, [(0, -x.shape[1] % rows if axis == 1 else 0) for axis in range(x.ndim)], constant_values=value)


def _block_of(x: jax.Array, number: jax.Array, rows: int) -> jax.Array:
    """[B, T, …] to [B, rows, …]."""
    return lax.dynamic_slice_in_dim(x, number * rows, rows, axis=1, allow_negative_indices=False)


def _heads_of_block(x: jax.Array, number: jax.Array, rows: int, K: int) -> jax.Array:
    """[B, T, N, H] to [B, K, N // K, rows, H]: heads before rows, as products of matrices want them."""
    B, _, N, H = x.shape
    return _block_of(x, number, rows).reshape(B, rows, K, N // K, H).transpose(0, 2, 3, 1, 4)


def _products(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """[B, K, G, T, H] and [B, S, K, H] to [B, K, G, T, S]: the fewer rows second, for those XLA transposes on a CPU."""
    if math.prod(queries.shape[2:4]) < keys.shape[1]:
        return einsum_in_f32("BSKH,BKGTH->BKSGT", keys, queries).transpose(0, 1, 3, 4, 2)
    return einsum_in_f32("BKGTH,BSKH->BKGTS", queries, keys)


def _join_queries(out: jax.Array, T: int) -> jax.Array:
    """[blocks, B, K, N // K, rows, H] to [B, T, N, H]."""
    blocks, B, K, G, rows, H = out.shape
    return out.transpose(1, 0, 4, 2, 3, 5).reshape(B, blocks * rows, K * G, H)[:, :T]


def _taken_apart(rows: jax.Array | StackedRows) -> tuple[jax.Array, jax.Array | None]:
    return (rows.stack, rows.row) if isinstance(rows, StackedRows) else (rows, None)


def _in_place(rows: jax.Array, row: jax.Array | None, gradient: jax.Array) -> jax.Array:
    gradient = gradient.astype(rows.dtype)
    return gradient if row is None else jnp.zeros_like(rows).at[row].set(gradient)


def _add_at(total: jax.Array, start: jax.Array, part: jax.Array) -> jax.Array:
    before = lax.dynamic_slice_in_dim(total, start, part.shape[2], axis=2)
    return lax.dynamic_update_slice_in_dim(total, before + part, start, axis=2)
