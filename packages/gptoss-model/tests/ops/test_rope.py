import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import apply_rope, rope_cos_sin
from gptoss_weights import inverse_frequencies

FREQUENCIES = inverse_frequencies(
    head_dim=64, rope_theta=150000, initial_context_length=4096, scaling_factor=32.0, beta=32, alpha=1
)


def cos_sin(positions, *, concentration=1.0, dtype=jnp.float32):
    return rope_cos_sin(
        jnp.asarray(positions, jnp.int32)[None], jnp.asarray(FREQUENCIES), concentration=concentration, dtype=dtype
    )


def test_angles_are_products_of_f32_up_to_the_last_position():
    positions = np.arange(0, 131072, 13)
    angles = (positions.astype(np.float32)[:, None] * FREQUENCIES).astype(np.float64)
    cos, sin = cos_sin(positions)
    assert np.abs(np.asarray(cos[0]) - np.cos(angles)).max() < 1e-7
    assert np.abs(np.asarray(sin[0]) - np.sin(angles)).max() < 1e-7
    exact = np.cos(positions[:, None] * FREQUENCIES.astype(np.float64))
    assert np.abs(np.asarray(cos[0]) - exact).max() > 1e-4, "exact angles are something else, and not the official ones"


def test_concentration_is_applied_before_rounding():
    cos, _ = cos_sin([0], concentration=1.3465735903, dtype=jnp.bfloat16)
    assert cos.dtype == jnp.bfloat16
    assert float(cos[0, 0, 0]) == float(jnp.bfloat16(1.3465735903))


def test_rotation_pairs_the_halves_not_the_neighbours(rng):
    x = rng.standard_normal((1, 5, 3, 64)).astype(np.float32)
    cos, sin = cos_sin(range(5))
    turned = (x[..., :32] + 1j * x[..., 32:]) * (np.asarray(cos) + 1j * np.asarray(sin))[:, :, None]
    actual = apply_rope(jnp.asarray(x), cos, sin)
    np.testing.assert_allclose(actual, np.concatenate([turned.real, turned.imag], -1), rtol=1e-5, atol=1e-6)


def test_gradient_is_turned_back(rng):
    x, gradient = rng.standard_normal((2, 1, 5, 3, 64)).astype(np.float32)
    cos, sin = cos_sin(range(7, 12), concentration=1.25)
    _, pull = jax.vjp(lambda x: apply_rope(x, cos, sin), jnp.asarray(x))
    angles = np.asarray(cos)[:, :, None] - 1j * np.asarray(sin)[:, :, None]
    turned = (gradient[..., :32] + 1j * gradient[..., 32:]) * angles
    np.testing.assert_allclose(
        pull(jnp.asarray(gradient))[0], np.concatenate([turned.real, turned.imag], -1), atol=1e-5
    )
    narrow = jnp.asarray(x, jnp.bfloat16)
    turned, pull = jax.vjp(lambda x: apply_rope(x, cos, sin), narrow)
    assert {turned.dtype, pull(narrow)[0].dtype} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("shift", [1, 977])
def test_products_of_rotated_vectors_depend_on_their_distance_alone(shift, rng):
    q, k = (jnp.asarray(rng.standard_normal((1, 1, 1, 64)), jnp.float32) for _ in range(2))

    def product(query_position, key_position):
        return float(jnp.sum(apply_rope(q, *cos_sin([query_position])) * apply_rope(k, *cos_sin([key_position]))))

    assert product(30, 11) == pytest.approx(product(30 + shift, 11 + shift), abs=2e-3)
    assert product(30, 11) != pytest.approx(product(30 + shift, 11), abs=2e-2)
