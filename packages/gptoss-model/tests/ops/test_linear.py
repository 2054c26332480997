import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import Mxfp4Array, linear
from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.stacked import StackedMatrices


def test_rows_times_transposed_weight_plus_bias_over_any_leading_axes(rng):
    x, weight, bias = rng.standard_normal((2, 3, 7)), rng.standard_normal((5, 7)), rng.standard_normal(5)
    expected = x @ weight.T + bias
    actual = linear(jnp.asarray(x, jnp.float32), jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_bf16_is_rounded_once_after_the_bias():
    # 1 + 2^-9 rounds to 1 in bf16; with the bias 2^-9 added before, the sum 1 + 2^-8 rounds up to 1 + 2^-7 (even).
    x = jnp.array([[1.0, 1.0]], jnp.bfloat16)
    weight = jnp.array([[1.0, 2.0**-9 * 1.5]], jnp.bfloat16)
    bias = jnp.array([2.0**-9 * 1.5], jnp.bfloat16)
    assert float(linear(x, weight, bias)[0, 0]) == 1 + 2.0**-7
    assert float(linear(x, weight)[0, 0] + bias[0]) == 1.0


def test_bf16_sums_in_f32():
    x = jnp.ones((1, 4096), jnp.bfloat16)
    assert float(linear(x, jnp.ones((1, 4096), jnp.bfloat16))[0, 0]) == 4096.0


def test_a_lone_bf16_row_gives_what_it_gives_among_others(rng):
    x = jnp.asarray(rng.standard_normal((3, 64)), jnp.bfloat16)
    weight = jnp.asarray(rng.standard_normal((10, 64)), jnp.bfloat16)
    np.testing.assert_array_equal(
        np.asarray(linear(x[:1], weight), np.float32), np.asarray(linear(x, weight)[:1], np.float32)
    )


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_matrix_in_a_stack_of_layers_gives_what_the_matrix_gives_by_itself(rows, dtype, rng, relative_error):
    """The very bits, but for a lone row, whose products are added up in another order."""
    x, weights = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((rows, 64), (3, 48, 64)))
    in_a_stack = jax.jit(lambda x, weights, row: linear(x, StackedMatrices(weights, row)))
    for row in range(3):
        stacked, alone = in_a_stack(x, weights, row), jax.jit(linear)(x, weights[row])
        assert relative_error(stacked, alone) <= (5e-7 if rows == 1 else 0)


@pytest.mark.parametrize("rows", [1, 3])
def test_weight_in_another_order_of_columns_gives_the_same_products(rng, rows, relative_error):
    blocks = jnp.asarray(rng.integers(0, 256, (5, 2, 16), np.uint8))
    packed = Mxfp4Array(blocks, jnp.full((5, 2), 126, jnp.uint8))
    x = jnp.asarray(rng.standard_normal((rows, 64)), jnp.float32)
    update = LowRank(*(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((2, 64), (5, 2))), scale=0.5)
    split = linear(x, packed.decode_split(jnp.float32), update=update)
    assert relative_error(split, linear(x, packed.decode(jnp.float32), update=update)) < 5e-7
