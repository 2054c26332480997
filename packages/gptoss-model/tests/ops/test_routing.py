import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import route_tokens


def test_best_expert_comes_first_and_weights_are_a_softmax_over_the_chosen_alone(rng):
    logits = rng.standard_normal((2, 6, 9)).astype(np.float32)
    indices, weights = route_tokens(jnp.asarray(logits), experts_per_token=4)
    np.testing.assert_array_equal(indices, np.argsort(-logits, axis=-1)[..., :4])
    chosen = np.exp(np.take_along_axis(logits, np.asarray(indices), -1).astype(np.float64))
    np.testing.assert_allclose(weights, chosen / chosen.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_equal_logits_choose_the_lower_indices(dtype):
    indices, weights = route_tokens(jnp.zeros((1, 6), dtype), experts_per_token=3)
    assert indices.tolist() == [[0, 1, 2]]
    assert weights.dtype == dtype


def test_all_experts_can_be_chosen():
    indices, weights = route_tokens(jnp.array([[1.0, 3.0, 2.0]]), experts_per_token=3)
    assert indices.tolist() == [[1, 2, 0]]
    assert float(weights.sum()) == pytest.approx(1.0)
