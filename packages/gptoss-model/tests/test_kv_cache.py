import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.kv_cache import full_positions, init_cache, ring_positions, token_positions
from gptoss_weights.testing import tiny_config


@pytest.mark.parametrize("slots", [1, 4, 7])
def test_ring_slot_holds_the_last_position_written_to_it(slots):
    for length in range(3 * slots + 2):
        held = [-1] * slots
        for position in range(length):
            held[position % slots] = position
        assert ring_positions(jnp.array([length], jnp.int32), slots)[0].tolist() == held


def test_full_slots_hold_their_own_position_up_to_the_length():
    assert full_positions(jnp.array([0, 2, 3], jnp.int32), 3).tolist() == [[-1, -1, -1], [0, 1, -1], [0, 1, 2]]


def test_positions_count_real_tokens_wherever_padding_stands():
    mask = jnp.array([[False, False, True, True], [True, True, False, False], [True, False, True, False]])
    assert token_positions(mask).tolist() == [[-1, -1, 0, 1], [0, 1, -1, -1], [0, -1, 1, -1]]
    after = token_positions(mask, jnp.array([5, 0, 2], jnp.int32))
    assert after.tolist() == [[-1, -1, 5, 6], [0, 1, -1, -1], [2, -1, 3, -1]]


def test_sliding_layers_have_a_ring_of_the_window_and_others_every_slot():
    config = tiny_config(sliding_window=11)
    cache = init_cache(config, 3, 50, jnp.bfloat16)
    K, H = config.num_key_value_heads, config.head_dim
    assert [k.shape for k in cache.keys] == [(3, 11, K, H), (3, 50, K, H)] * 2
    assert {v.dtype for v in cache.values} == {jnp.dtype(jnp.bfloat16)}
    assert cache.lengths.tolist() == [0, 0, 0]


def test_ring_is_never_longer_than_the_cache():
    assert init_cache(tiny_config(sliding_window=11), 1, 5, jnp.float32).keys[0].shape[1] == 5


@pytest.mark.parametrize(("batch", "max_length"), [(0, 5), (1, 0)])
def test_empty_sizes_are_refused(batch, max_length):
    with pytest.raises(ValueError, match="at least 1"):
        init_cache(tiny_config(), batch, max_length, jnp.float32)


@pytest.mark.parametrize("layer", [0, 1])
def test_new_tokens_see_what_was_there_and_themselves_by_position(layer):
    """Keys are written as their own position, so what is seen can be read off them."""
    cache = init_cache(tiny_config(sliding_window=4), 2, 20, jnp.float32)
    shape = cache.keys[layer].shape[2:]
    mask = jnp.array([[True] * 7, [False, True, True, False, True, False, False]])
    for _ in range(2):
        positions = token_positions(mask, cache.lengths)
        own = jnp.broadcast_to(positions[:, :, None, None].astype(jnp.float32), (*positions.shape, *shape))
        seen, after = cache.part(layer).extend(own, -own, positions)
        real = np.asarray(seen.positions) >= 0
        np.testing.assert_array_equal(np.asarray(seen.keys)[real][:, 0, 0], np.asarray(seen.positions)[real])
        np.testing.assert_array_equal(np.asarray(seen.values)[real][:, 0, 0], -np.asarray(seen.positions)[real])
        for row in range(2):
            first, last = np.asarray(positions)[row][np.asarray(mask)[row]][[0, -1]].tolist()
            needed = range(max(0, first - 3) if layer == 0 else 0, last + 1)
            assert set(needed) <= set(np.asarray(seen.positions)[row].tolist())
            at = np.asarray(seen.positions)[row]
            assert len(set(at[at >= 0])) == (at >= 0).sum(), "no position stands there twice"
        cache = cache.with_part(layer, after).advance(mask)
