"""Visibility against its definition, row by row, for masks with padding anywhere."""

import numpy as np
import pytest
from gptoss_onnx.graph.visibility import visible_keys
from gptoss_weights import GptOssConfig
from gptoss_weights.testing import tiny_config

WINDOW = 4


@pytest.fixture
def config() -> GptOssConfig:
    return tiny_config(sliding_window=WINDOW)


def compute(run_graph, config: GptOssConfig, mask: np.ndarray, new: int) -> list[np.ndarray]:
    rows = min(WINDOW - 1, mask.shape[1] - new)

    def build(op, token_ids, mask, cache):
        seen = visible_keys(op, config, token_ids=token_ids, mask=mask, window_cache=cache)
        return seen.query_positions, seen.full_bias, seen.window_bias, seen.kept_rows

    return run_graph(
        build,
        token_ids=np.zeros((len(mask), new), np.int64),
        mask=mask.astype(np.int64),
        cache=np.zeros((len(mask), config.num_key_value_heads, rows, config.head_dim), np.float32),
    )


MASKS = {
    "no padding": [[1] * 9, [1] * 9],
    "left": [[1] * 9, [0] * 5 + [1] * 4],
    "right": [[1] * 9, [1] * 2 + [0] * 7],
    "right, then decoded": [[1] * 9, [1, 1, 0, 0, 0, 0, 0, 1, 1]],
    "anywhere": [[1, 0, 1, 1, 0, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1, 1, 0, 1]],
    "nothing": [[1] * 9, [0] * 9],
}


@pytest.mark.parametrize("new", [1, 4, 9])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_queries_see_real_keys_at_earlier_positions_within_the_window(mask, new, config, run_graph):
    mask = np.array(mask, bool)
    total = mask.shape[1]
    positions, full, window, _ = compute(run_graph, config, mask, new)
    for row, real in enumerate(mask):
        kept = np.flatnonzero(real[: total - new])[-(WINDOW - 1) :]
        slots = min(WINDOW - 1, total - new)
        columns = np.concatenate([np.full(slots - len(kept), -1), kept, np.arange(total - new, total)])
        for query in np.flatnonzero(real[total - new :]):
            column = total - new + query
            earlier = [key for key in np.flatnonzero(real) if key <= column]
            assert positions[row, query] == len(earlier) - 1
            assert np.flatnonzero(full[row, 0, query] == 0).tolist() == earlier
            seen = columns[window[row, 0, query] == 0]
            assert seen.tolist() == earlier[-WINDOW:]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_bias_is_nothing_or_minus_infinity_and_positions_are_never_negative(mask, config, run_graph):
    positions, full, window, _ = compute(run_graph, config, np.array(mask, bool), 9)
    assert set(np.unique(full)) | set(np.unique(window)) <= {0.0, -np.inf}
    assert positions.min() >= 0


@pytest.mark.parametrize("new", [1, 2, 9])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_the_last_real_rows_are_kept_in_order_and_at_the_end(mask, new, config, run_graph):
    mask = np.array(mask, bool)
    total = mask.shape[1]
    kept = compute(run_graph, config, mask, new)[3]
    slots = min(WINDOW - 1, total - new)
    assert kept.shape == (2, config.num_key_value_heads, min(WINDOW - 1, slots + new), 1)
    for row, real in enumerate(mask):
        cached = min(slots, int(real[: total - new].sum()))
        candidates = [*range(slots - cached, slots), *(slots + np.flatnonzero(real[total - new :]))]
        expected = candidates[-(WINDOW - 1) :]
        found = kept[row, 0, :, 0].tolist()
        assert found[len(found) - len(expected) :] == expected


def test_a_window_of_one_keeps_nothing(run_graph):
    config = tiny_config(sliding_window=1)

    def build(op, token_ids, mask, cache):
        seen = visible_keys(op, config, token_ids=token_ids, mask=mask, window_cache=cache)
        return seen.window_bias, seen.kept_rows

    window, kept = run_graph(
        build,
        token_ids=np.zeros((1, 3), np.int64),
        mask=np.ones((1, 5), np.int64),
        cache=np.zeros((1, config.num_key_value_heads, 0, config.head_dim), np.float32),
    )
    assert kept.shape[2] == 0
    assert ((window[0, 0] == 0) == np.eye(3, dtype=bool)).all()
