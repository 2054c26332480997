"""Visibility: which keys every query sees, from the attention mask alone, computed once for all layers.

Keys are judged by position and validity, never by row. A token's position is the number of real
tokens before it, so a batch may be padded on the left, on the right, or in between (a right-padded
prompt that decoding continues), and one mask says it all.

A full layer's cache holds every row so far, padding included, as the mask's columns do. A sliding
layer's cache holds the last W − 1 *real* rows of each sequence, in order and at its end. From
that the positions of its R rows follow from counting: with n real tokens so far, row r has position
n − R + r, and rows with a negative one hold nothing.
"""

import dataclasses

import numpy as np
from gptoss_weights import GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import INT64_MAX, GraphBuilder

__all__ = ["Visibility", "visible_keys"]

_INT64_MIN = np.iinfo(np.int64).min


@dataclasses.dataclass(frozen=True)
class Visibility:
    """What attention needs to know about positions.

    Attributes:
        query_positions: int64 [B, T]; of padding, that of the real token before it, at least 0.
        full_bias: f32 [B, 1, T, total], 0 where a query sees a key of a full layer, else −inf.
        window_bias: f32 [B, 1, T, R + T], the same for a sliding layer's cache and new rows.
        kept_rows: int64 [B, K, kept, 1], the rows that a sliding layer keeps for the next step; None without a cache.
    """

    query_positions: ir.Value
    full_bias: ir.Value
    window_bias: ir.Value
    kept_rows: ir.Value | None


def visible_keys(
    op: GraphBuilder, config: GptOssConfig, *, token_ids: ir.Value, mask: ir.Value, window_cache: ir.Value | None
) -> Visibility:
    """Computes the visibility of one step.

    Args:
        op: Where the nodes go.
        config: Gives the window and the number of key heads.
        token_ids: int64 [B, T], the new tokens.
        mask: int64 [B, total], 1 where a token is real; its last T columns are the new ones.
        window_cache: f32 [B, K, R, H], the cache of any sliding layer; None without a cache, for a whole sequence.
    """
    with op.scope("visibility"):
        is_real = op.Cast(mask, to=ir.DataType.BOOL, name="is_real")
        positions = op.Sub(op.CumSum(mask, op.scalar(1, np.int64)), op.scalar(1, np.int64), name="positions")
        new_length = op.size(token_ids, 1)
        past_length = op.Sub(op.size(mask, 1), new_length, name="past_length")
        query_positions = op.slice(positions, past_length, INT64_MAX, axis=1)
        query = op.Unsqueeze(query_positions, op.ints(2))

        full_sees = op.And(
            op.Unsqueeze(is_real, op.ints(1)), op.LessOrEqual(op.Unsqueeze(positions, op.ints(1)), query)
        )

        key_positions, key_is_real = query_positions, is_real
        if window_cache is not None:
            key_positions, key_is_real = _with_cached(
                op, window_cache, mask, past_length, query_positions=query_positions, is_real=is_real
            )
        keys = op.Unsqueeze(key_positions, op.ints(1))
        window_start = op.Sub(query, op.scalar(config.sliding_window, np.int64))
        window_sees = op.And(
            op.Unsqueeze(key_is_real, op.ints(1)),
            op.And(op.LessOrEqual(keys, query), op.Greater(keys, window_start)),
        )
        return Visibility(
            query_positions=op.Max(query_positions, op.scalar(0, np.int64), name="query_positions"),
            full_bias=_bias(op, full_sees, name="full_bias"),
            window_bias=_bias(op, window_sees, name="window_bias"),
            kept_rows=None if window_cache is None else _last_real_rows(op, config, key_is_real),
        )


def _with_cached(
    op: GraphBuilder,
    window_cache: ir.Value,
    mask: ir.Value,
    past_length: ir.Value,
    *,
    query_positions: ir.Value,
    is_real: ir.Value,
) -> tuple[ir.Value, ir.Value]:
    """Positions of a sliding layer's rows, cached ones first, int64 [B, R + T], and which of them are real."""
    rows = op.size(window_cache, 2)
    cached = op.Range(op.scalar(0, np.int64), _scalar(op, rows), op.scalar(1, np.int64))
    past_count = op.ReduceSum(op.slice(mask, 0, past_length, axis=1), op.ints(1), keepdims=1)
    cached_positions = op.Add(op.Sub(past_count, rows), cached, name="cached_positions")
    new_is_real = op.slice(is_real, past_length, INT64_MAX, axis=1)
    return (
        op.Concat(cached_positions, query_positions, axis=1),
        op.Concat(op.GreaterOrEqual(cached_positions, op.scalar(0, np.int64)), new_is_real, axis=1),
    )


def _last_real_rows(op: GraphBuilder, config: GptOssConfig, is_real: ir.Value) -> ir.Value:
    """Indices of the last W − 1 real rows in order, after as many empty ones as it takes.

    Ranking rows by their index, and empty ones below all others, makes it one TopK.
    """
    rows = op.size(is_real, 1)
    index = op.Range(op.scalar(0, np.int64), _scalar(op, rows), op.scalar(1, np.int64))
    rank = op.Where(is_real, index, op.Sub(index, rows))
    kept = op.Min(rows, op.ints(config.sliding_window - 1))
    _, newest_first = op.many("TopK", 2, rank, kept, axis=1)
    in_order = op.slice(newest_first, -1, _INT64_MIN, axis=1, step=-1)
    per_head = op.Concat(op.size(is_real, 0), op.ints(config.num_key_value_heads), kept, op.ints(1), axis=0)
    return op.Expand(op.Unsqueeze(in_order, op.ints(1, 3)), per_head, name="kept_rows")


def _bias(op: GraphBuilder, sees: ir.Value, *, name: str) -> ir.Value:
    """Bool [B, T, S] → f32 [B, 1, T, S]."""
    return op.Unsqueeze(op.Where(sees, op.scalar(0.0), op.scalar(-np.inf)), op.ints(1), name=name)


def _scalar(op: GraphBuilder, vector: ir.Value) -> ir.Value:
    """int64 [1] → int64 []."""
    return op.Squeeze(vector, op.ints(0))
