import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import ops
from gptoss_model.ops import Mxfp4Array
from gptoss_model.ops.row_products import gathered_row_products, row_product
from gptoss_weights import encode_mxfp4

E, OUT = 5, 24
DTYPES = [jnp.float32, jnp.bfloat16]
converts_in_passing = pytest.mark.skipif(
    jax.__version_info__ < (0, 12), reason="XLA of older releases converts the matrix first"
)


def row_and_matrices(rng, dtype, width, rows=1):
    x = jnp.asarray(rng.standard_normal((rows, width)), dtype)
    return x, jnp.asarray(rng.standard_normal((E, OUT, width)), dtype)


def exact(x, matrices, indices):
    return np.einsum("ai,aoi->ao", np.asarray(x, np.float64), np.asarray(matrices, np.float64)[np.asarray(indices)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 31, 96, 2880])
def test_one_row_is_multiplied_in_f32_whatever_its_width_divides_into(rng, dtype, width, relative_error):
    x, matrices = row_and_matrices(rng, dtype, width)
    product = jax.jit(row_product)(x, matrices[0])
    assert product.dtype == jnp.float32
    # Older releases sum the 2880 one after the other where vectors are short: 1.1e-6. Rounded to bf16 it were 2e-3.
    limit = 5e-7 if jax.__version_info__ >= (0, 12) else 2e-6
    assert relative_error(product, exact(x, matrices, [0])) < limit


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_row_takes_the_matrix_of_its_index(rng, dtype, relative_error):
    x, matrices = row_and_matrices(rng, dtype, 96, rows=4)
    indices = jnp.array([4, 0, 2, 0])
    product = jax.jit(gathered_row_products)(x, matrices, indices)
    assert relative_error(product, exact(x, matrices, indices)) < 5e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 3, 16, 23, 90])
def test_packed_matrices_are_decoded_inside_the_product(rng, dtype, groups, relative_error):
    on_host = encode_mxfp4(rng.standard_normal((E, OUT, 32 * groups)))
    packed = Mxfp4Array(jnp.asarray(on_host.blocks), jnp.asarray(on_host.scales))
    x = jnp.asarray(rng.standard_normal((3, 32 * groups)), dtype)
    indices = jnp.array([1, 1, 3])
    product = jax.jit(gathered_row_products)(x, packed, indices)
    assert relative_error(product, exact(x, packed.decode(jnp.float32), indices)) < 5e-7


@pytest.mark.parametrize("scale", [2, 100, 127, 240, 250])
def test_every_code_under_small_and_large_scales_is_exact(scale):
    blocks = np.arange(256, dtype=np.uint8).reshape(1, 256, 1, 1).repeat(16, axis=3)
    packed = Mxfp4Array(jnp.asarray(blocks), jnp.full((1, 256, 1), scale, jnp.uint8))
    values = np.asarray(packed.decode(jnp.float32))[0]
    for entry in (0, 1):  # the halves of the first byte
        x = jnp.zeros((1, 32)).at[0, entry].set(1)
        product = jax.jit(gathered_row_products)(x, packed, jnp.array([0]))[0]
        np.testing.assert_array_equal(product, values[:, entry])


def test_wider_matrices_are_rounded_to_the_row_first(rng):
    x, matrices = row_and_matrices(rng, jnp.bfloat16, 96)
    wide = jnp.asarray(rng.standard_normal(matrices.shape), jnp.float32)
    narrow = wide.astype(jnp.bfloat16)
    index = jnp.array([2])
    np.testing.assert_array_equal(jax.jit(row_product)(x, wide[2]), jax.jit(row_product)(x, narrow[2]))
    np.testing.assert_array_equal(
        jax.jit(gathered_row_products)(x, wide, index), jax.jit(gathered_row_products)(x, narrow, index)
    )


@converts_in_passing
def test_the_matrix_is_neither_copied_nor_converted(rng):
    """The claim of the module: beside the result, a fraction of the matrix is written."""
    x, matrix = jnp.zeros((1, 2880), jnp.bfloat16), jnp.zeros((4096, 2880), jnp.bfloat16)
    analysis = jax.jit(row_product).lower(x, matrix).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < matrix.nbytes / 4
    packed = Mxfp4Array.zeros((2, 4096, 2880))
    compiled = jax.jit(gathered_row_products).lower(x, packed, jnp.array([1])).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < packed.shape[1] * packed.shape[2]


@converts_in_passing
def test_a_loop_keeps_no_converted_copy_of_a_matrix():
    """XLA takes out of a loop what does not change in it, were it the conversion of the whole model to f32."""
    x, matrix = jnp.ones((1, 96), jnp.bfloat16), jnp.zeros((4096, 96), jnp.bfloat16)

    def decode(row, matrix):
        def step(row):
            return row_product(row, matrix)[:, :96].astype(jnp.bfloat16)

        return jax.lax.while_loop(lambda row: row.sum() > 0, step, row)

    analysis = jax.jit(decode).lower(x, matrix).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < matrix.nbytes / 4


def test_gradients_reach_the_row_and_the_matrices(rng, relative_error):
    x, matrices = row_and_matrices(rng, jnp.float32, 96, rows=3)
    indices, weights = jnp.array([1, 4, 1]), jnp.asarray(rng.standard_normal((3, OUT)), jnp.float32)

    def loss(x, matrices):
        return (gathered_row_products(x, matrices, indices) * weights).sum()

    by_row, by_matrix = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, matrices)
    assert relative_error(by_row, np.einsum("ao,aoi->ai", weights, np.asarray(matrices)[np.asarray(indices)])) < 5e-7
    expected = np.zeros(matrices.shape)
    np.add.at(expected, np.asarray(indices), np.einsum("ao,ai->aoi", weights, x))
    assert relative_error(by_matrix, expected) < 5e-7


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="XLA of older releases fuses in other ways")
def test_what_the_row_comes_from_is_not_computed_for_every_row_of_the_matrix():
    """A fusion over the rows of the matrix takes the finished row, not what a norm makes it from."""
    stream, scale = jnp.ones((1, 2880), jnp.bfloat16), jnp.ones(2880)
    matrix, packed = jnp.zeros((4096, 2880), jnp.bfloat16), Mxfp4Array.zeros((1, 4096, 2880))
    index = jnp.array([0])

    def after_norm(product, stream, scale, *matrices):
        return product(ops.rms_norm(ops.add_rounded(stream, stream), scale, eps=1e-5), *matrices)

    for product, *matrices in (
        (row_product, matrix),
        (gathered_row_products, matrix[None], index),
        (gathered_row_products, packed, index),
    ):
        compiled = jax.jit(after_norm, static_argnums=0).lower(product, stream, scale, *matrices).compile()
        heads = [line.strip().partition(" fusion(") for line in compiled.as_text().splitlines()]
        over_rows = [operands for name, _, operands in heads if re.search(r"\b4096\b", name) and operands]
        assert over_rows
        assert not any("%scale" in operands for operands in over_rows)
