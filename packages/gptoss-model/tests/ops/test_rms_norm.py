import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import rms_norm


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2.0**-8)])
def test_rows_have_unit_mean_square_times_the_scale(dtype, tolerance, rng):
    x = jnp.asarray(3 * rng.standard_normal((2, 5, 48)), dtype)
    scale = rng.standard_normal(48).astype(np.float32)
    wide = np.asarray(x, np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * scale
    actual = rms_norm(x, jnp.asarray(scale), eps=1e-5)
    assert actual.dtype == dtype
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=tolerance, atol=1e-6)


def test_scale_is_not_rounded_to_the_dtype_of_the_activations():
    x = jnp.full((1, 4), 2.0, jnp.bfloat16)
    scale = jnp.full(4, 1 + 2.0**-8 + 2.0**-12, jnp.float32)  # in bf16 this is 1
    assert float(rms_norm(x, scale, eps=0.0)[0, 0]) == 1 + 2.0**-7


def test_eps_keeps_a_zero_row_at_zero():
    assert not rms_norm(jnp.zeros((1, 4), jnp.float32), jnp.ones(4), eps=1e-5).any()


def test_backward_pass_keeps_its_arguments_alone():
    x, scale = jnp.ones((3, 5, 96)), jnp.ones(96)
    _, pull_back = jax.vjp(lambda x, scale: rms_norm(x, scale, eps=1e-5), x, scale)
    assert sum(leaf.size for leaf in jax.tree.leaves(pull_back)) == x.size + scale.size
