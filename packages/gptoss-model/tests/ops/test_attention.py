import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import attention, visible_keys
from jax.test_util import check_grads

B, T, S, N, K, H = 2, 6, 9, 6, 3, 4


def positions(*rows):
    return jnp.array(rows, jnp.int32)


def inputs(rng, dtype=jnp.float32, S=S):
    shapes = (B, T, N, H), (B, S, K, H), (B, S, K, H), (N,)
    return tuple(jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)


def by_loops(q, k, v, sinks, query_positions, key_positions, window):
    """The formula, one query and head at a time, in f64."""
    q, k, v, sinks = (np.asarray(x, np.float64) for x in (q, k, v, sinks))
    out = np.zeros_like(q)
    for b in range(q.shape[0]):
        for t in range(q.shape[1]):
            p = int(query_positions[b, t])
            oldest = max(0, p - window + 1) if window else 0
            seen = [s for s, at in enumerate(np.asarray(key_positions[b])) if oldest <= at <= p]
            for n in range(q.shape[2]):
                head = n // (q.shape[2] // k.shape[2])
                weights = np.exp([q[b, t, n] @ k[b, s, head] / np.sqrt(q.shape[3]) for s in seen])
                total = weights.sum() + np.exp(sinks[n])
                for s, weight in zip(seen, weights, strict=True):
                    out[b, t, n] += weight / total * v[b, s, head]
    return out


QUERIES = positions([3, 4, 5, 6, 7, 8], [-1, -1, 0, 1, 2, 3])
KEYS = positions([0, 1, 2, 3, 4, 5, 6, 7, 8], [-1, 3, 2, 1, 0, -1, -1, -1, -1])


@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_formula_holds_for_keys_in_any_order_with_padding(window, rng):
    q, k, v, sinks = inputs(rng)
    actual = attention(q, k, v, sinks, query_positions=QUERIES, key_positions=KEYS, window=window)
    expected = by_loops(q, k, v, sinks, QUERIES, KEYS, window)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_bf16_stays_near_the_formula(rng):
    q, k, v, sinks = inputs(rng, jnp.bfloat16)
    actual = attention(q, k, v, sinks, query_positions=QUERIES, key_positions=KEYS, window=None)
    assert actual.dtype == jnp.bfloat16
    expected = by_loops(q, k, v, sinks, QUERIES, KEYS, None)
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, atol=2e-2)


def test_query_at_window_edge_ignores_the_key_one_window_back_and_sees_the_next():
    window = 4
    visible = visible_keys(positions([10]), positions(range(12)), window=window)[0, 0].tolist()
    assert visible == [key in (7, 8, 9, 10) for key in range(12)]


def test_padding_is_seen_by_nobody_and_sees_nothing():
    visible = visible_keys(positions([-1, 0, 1]), positions([-1, 0, 1]), window=None)[0]
    assert visible.tolist() == [[False, False, False], [False, True, False], [False, True, True]]


def test_query_that_sees_nothing_yields_zeros_not_nan(rng):
    q, k, v, sinks = inputs(rng)
    nothing = jnp.full((B, T), -1, jnp.int32)
    out = attention(q, k, v, sinks, query_positions=nothing, key_positions=KEYS, window=None)
    assert not np.asarray(out).any()


def test_sink_takes_its_share_and_gives_no_value():
    one = jnp.ones((1, 1, 1, 4))
    at = positions([0])

    def weigh(sink: float) -> float:
        sinks = jnp.array([sink])
        return float(attention(one, 0 * one, one, sinks, query_positions=at, key_positions=at, window=None)[0, 0, 0, 0])

    assert weigh(0.0) == pytest.approx(1 / 2)
    assert weigh(float(np.log(3))) == pytest.approx(1 / 4)
    assert weigh(-100.0) == pytest.approx(1.0)
    assert weigh(1000.0) == 0.0


@pytest.mark.parametrize("window", [None, 2])
def test_gradients_reach_everything_sinks_included(window, rng):
    q, k, v, sinks = inputs(rng)

    def run(*arrays):
        q, k, v, sinks = map(jnp.asarray, arrays)  # check_grads perturbs with numpy
        return attention(q, k, v, sinks, query_positions=QUERIES, key_positions=KEYS, window=window)

    check_grads(run, (q, k, v, sinks), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)
    gradient = jax.grad(lambda sinks: run(q, k, v, sinks).sum())(sinks)
    assert np.abs(np.asarray(gradient)).min() > 0
