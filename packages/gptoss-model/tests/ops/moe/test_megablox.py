import jax
import jax.numpy as jnp
import pytest
from gptoss_model.ops.moe import ExpertWeights, megablox_moe

E, D, F = 4, 2880, 2880  # the published sizes, which are not multiples of a tile


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("tokens", [1, 300])
def test_program_for_a_tpu_holds_the_kernel_and_lowers_with_its_gradient(tokens, dtype):
    """Lowering checks the kernel's demands on shapes without a TPU."""

    def abstract(*shape: int):
        return jax.ShapeDtypeStruct(shape, dtype)

    matrices = abstract(E, 2 * F, D), abstract(E, 2 * F), abstract(E, D, F), abstract(E, D)

    def slope(x, weights, matrices, indices):
        def loss(x, weights, matrices):
            experts = ExpertWeights(*matrices)
            return megablox_moe(x, indices, weights, experts, swiglu_alpha=1.702, swiglu_limit=7.0).sum()

        return jax.grad(loss, argnums=(0, 1, 2))(x, weights, matrices)

    arguments = abstract(tokens, D), abstract(tokens, 4), matrices, jax.ShapeDtypeStruct((tokens, 4), jnp.int32)
    program = jax.export.export(jax.jit(slope), platforms=["tpu"])(*arguments).mlir_module()
    assert program.count("tpu_custom_call") == 6  # of two products each: itself, and the gradients of its two sides
