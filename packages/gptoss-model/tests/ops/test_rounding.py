import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import add_rounded, rounded

THIRD = np.float32(1 / 3)


def test_compiler_cannot_skip_the_rounding():
    back_and_forth = jax.jit(lambda x: rounded(x, jnp.bfloat16).astype(jnp.float32) * 3)
    assert float(back_and_forth(THIRD)) == float(np.float32(jnp.bfloat16(THIRD)) * 3)


def test_f32_passes_unchanged():
    assert float(rounded(jnp.float32(THIRD), jnp.float32)) == THIRD


def test_ties_go_to_even():
    values = jnp.array([1 + 2.0**-8, 1 + 3 * 2.0**-8], jnp.float32)
    assert rounded(values, jnp.bfloat16).astype(jnp.float32).tolist() == [1.0, 1 + 2 * 2.0**-7]


def test_every_kind_of_number_is_rounded_as_on_the_host(rng):
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    edges = [0, 1, 0x7FFF, 0x8000, 0x8001, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF]
    values = np.concatenate([bits, edges, np.array(edges, np.uint32) | 0x80000000]).astype(np.uint32).view(np.float32)
    actual = np.asarray(jax.jit(lambda x: rounded(x, jnp.bfloat16))(values))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(values))
    is_number = ~np.isnan(values)
    np.testing.assert_array_equal(actual.view(np.uint16)[is_number], expected.view(np.uint16)[is_number])


def test_gradient_passes_through_rounded_itself():
    slope, pull_back = jax.vjp(lambda x: rounded(x, jnp.bfloat16), jnp.float32(THIRD))
    assert slope.dtype == jnp.bfloat16
    assert float(pull_back(jnp.bfloat16(3))[0]) == 3.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sum_has_the_dtype_of_its_first_term(dtype):
    total = add_rounded(jnp.ones((2, 3), dtype), jnp.array([1.0, 2.0**-12, -1.0], jnp.float32))
    assert total.dtype == dtype
    assert total[0].astype(jnp.float32).tolist() == [2.0, 1 + 2.0**-12 if dtype == jnp.float32 else 1.0, 0.0]
