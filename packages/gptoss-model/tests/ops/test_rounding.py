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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sum_has_the_dtype_of_its_first_term(dtype):
    total = add_rounded(jnp.ones((2, 3), dtype), jnp.array([1.0, 2.0**-12, -1.0], jnp.float32))
    assert total.dtype == dtype
    assert total[0].astype(jnp.float32).tolist() == [2.0, 1 + 2.0**-12 if dtype == jnp.float32 else 1.0, 0.0]
