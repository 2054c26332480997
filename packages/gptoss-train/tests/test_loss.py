import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_train.loss import cross_entropy, router_losses

M, D, V = 19, 8, 212


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    hidden, matrix = rng.standard_normal((M, D)), rng.standard_normal((V, D)) * 2
    targets, seed = rng.integers(0, V, M), rng.standard_normal(M)
    targets[0], targets[1] = 0, V - 1
    return hidden, matrix, targets, seed


@pytest.fixture(scope="module")
def exact(arrays):
    """Losses and gradients in f64, of all logits at once."""
    hidden, matrix, targets, seed = arrays
    logits = hidden @ matrix.T
    log_sums = np.log(np.exp(logits).sum(axis=1))
    losses = log_sums - logits[np.arange(M), targets]
    slope = np.exp(logits - log_sums[:, None])
    slope[np.arange(M), targets] -= 1
    slope *= seed[:, None]
    return losses, slope @ matrix, slope.T @ hidden


@pytest.mark.parametrize(("chunk", "parts"), [(1000, 1), (106, 1), (50, 1), (7, 1), (50, 2), (24, 4)])
def test_chunks_change_neither_losses_nor_gradients(arrays, exact, relative_error, chunk, parts):
    hidden, matrix, targets, seed = (jnp.asarray(a, jnp.int32 if a.dtype == np.int64 else jnp.float32) for a in arrays)

    @jax.jit
    def run(hidden, matrix):
        def loss(hidden, matrix):
            losses = cross_entropy(hidden, matrix, targets, chunk=chunk, parts=parts)
            return (losses * seed).sum(), losses

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(hidden, matrix)

    (d_hidden, d_matrix), losses = run(hidden, matrix)
    for actual, expected in zip((losses, d_hidden, d_matrix), exact, strict=True):
        assert relative_error(actual, expected) < 1e-6


def test_logits_are_never_there_as_a_whole(arrays):
    hidden, matrix, targets, _ = arrays

    def loss(hidden, matrix):
        return cross_entropy(hidden, matrix, jnp.asarray(targets, jnp.int32), chunk=50).sum()

    like = jnp.asarray(hidden, jnp.float32), jnp.asarray(matrix, jnp.float32)
    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*like).compile().as_text()
    assert f"{M},1,50]" in program or f"{M},50]" in program, "a chunk is there"
    for shape in (f"[{M},{V}]", f"[{V},{M}]", f"[{M},1,{V}]"):
        assert shape not in program


def _router(logits, is_real, k):
    """Token by token, in f64."""
    L, _, _, E = logits.shape
    balance, z, loads = 0.0, 0.0, np.zeros((L, E))
    for layer in range(L):
        rows = logits[layer][is_real].astype(np.float64)
        probability = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        for row in rows:
            loads[layer, np.argsort(-row)[:k]] += 1 / len(rows)
        balance += E * (loads[layer] * probability.mean(axis=0)).sum() / L
        z += np.square(np.log(np.exp(rows).sum(axis=1))).mean() / L
    return balance, z, loads / k


def test_routers_losses_count_real_tokens_alone_wherever_padding_stands(relative_error):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((3, 2, 10, 7)).astype(np.float32)
    is_real = rng.random((2, 10)) > 0.4
    logits[:, ~is_real] = 50.0  # would show
    found = router_losses(jnp.asarray(logits), jnp.asarray(is_real), experts_per_token=3)
    balance, z, loads = _router(logits, is_real, 3)
    assert float(found.load_balance) == pytest.approx(balance, rel=1e-5)
    assert float(found.z) == pytest.approx(z, rel=1e-5)
    np.testing.assert_allclose(found.expert_load, loads, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.expert_load).sum(axis=-1), 1, rtol=1e-5)


def test_balanced_routers_have_the_least_loss():
    even = jnp.zeros((1, 1, 6, 6)) + 1e-3 * (jnp.arange(6)[:, None] == jnp.arange(6))
    lopsided = jnp.zeros((1, 1, 6, 6)).at[..., 2].set(3.0)
    real = jnp.ones((1, 6), bool)
    losses = [float(router_losses(logits, real, experts_per_token=1).load_balance) for logits in (even, lopsided)]
    assert losses[0] == pytest.approx(1, abs=1e-3)
    assert losses[1] > 2


def test_rows_of_padding_alone_lose_nothing_and_are_no_nan():
    found = router_losses(jnp.ones((2, 1, 4, 5)), jnp.zeros((1, 4), bool), experts_per_token=2)
    assert float(found.load_balance) == 0 == float(found.z)
