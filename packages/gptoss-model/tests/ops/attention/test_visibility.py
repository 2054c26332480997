import jax.numpy as jnp
from gptoss_model.ops.attention import visible_keys


def positions(*rows):
    return jnp.array(rows, jnp.int32)


def test_query_at_window_edge_ignores_the_key_one_window_back_and_sees_the_next():
    window = 4
    visible = visible_keys(positions([10]), positions(range(12)), window=window)[0, 0].tolist()
    assert visible == [key in (7, 8, 9, 10) for key in range(12)]


def test_padding_is_seen_by_nobody_and_sees_nothing():
    visible = visible_keys(positions([-1, 0, 1]), positions([-1, 0, 1]), window=None)[0]
    assert visible.tolist() == [[False, False, False], [False, True, False], [False, True, True]]
