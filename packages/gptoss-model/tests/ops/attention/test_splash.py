import jax
import jax.numpy as jnp
import pytest
from gptoss_model.ops.attention import splash_attention
from gptoss_model.ops.attention.splash import is_one_run


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([0, 1, 2, 3], True),
        ([-1, -1, 0, 1], True),
        ([5, 6, -1, -1], True),
        ([-1, -1, -1, -1], True),
        ([0, -1, 1, 2], False),
        ([1, 0, 2, 3], False),
    ],
)
def test_kernel_takes_rows_whose_distances_are_those_of_their_positions(positions, expected):
    assert bool(is_one_run(jnp.array([positions], jnp.int32))) is expected


@pytest.mark.parametrize(
    ("positions", "segments", "expected"),
    [
        ([0, 1, 0, 1, -1], [1, 1, 2, 2, 0], True),
        ([-1, 0, 1, 0, 1], [0, 1, 1, 2, 2], True),
        ([0, 1, 0, 2, 3], [1, 1, 2, 2, 2], False),  # a gap
        ([0, 0, 1, 1, 2], [1, 2, 1, 2, 1], False),  # interleaved
        ([0, 1, 0, 1, 2], [2, 2, 1, 1, 1], False),  # falling numbers: they might come back
        ([0, 1, 2, -1, -1], [0, 0, 0, 0, 0], False),  # the number of padding
    ],
)
def test_kernel_takes_packed_documents_that_stand_one_behind_the_other(positions, segments, expected):
    assert bool(is_one_run(jnp.array([positions], jnp.int32), jnp.array([segments], jnp.int32))) is expected


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("window", [None, 128])
def test_program_for_a_tpu_holds_the_kernel_and_lowers_with_its_gradient(window, dtype):
    """At the published head size; lowering checks the kernel's demands on shapes without a TPU."""
    shapes = (1, 300, 64, 64), (1, 300, 8, 64), (1, 300, 8, 64), (64,)
    arrays = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
    positions = jnp.arange(300, dtype=jnp.int32)[None]

    def slope(arrays):
        def loss(arrays):
            return splash_attention(*arrays, query_positions=positions, key_positions=positions, window=window).sum()

        return jax.grad(loss)(arrays)

    program = jax.export.export(jax.jit(slope), platforms=["tpu"])(arrays).mlir_module()
    assert program.count("tpu_custom_call") == 3  # forward, and the gradients of queries and of keys and values
