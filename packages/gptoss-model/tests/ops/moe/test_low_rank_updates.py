"""Low-rank updates of experts: packed or not, they give what the merged matrices would, with their gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import Mxfp4Array
from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.moe import MOE_STRATEGIES, ExpertWeights, list_moe_strategies
from gptoss_weights import encode_mxfp4

E, D, F, R, M, K = 5, 96, 64, 3, 21, 2
ROUNDING = 2e-6
RUNNABLE = [strategy.name for strategy in list_moe_strategies() if strategy.available]


@pytest.fixture(scope="module")
def experts() -> ExpertWeights:
    rng = np.random.default_rng(0)
    packed = [encode_mxfp4(rng.standard_normal(shape) / 8) for shape in ((E, 2 * F, D), (E, D, F))]
    gate_up, down = (Mxfp4Array(jnp.asarray(p.blocks), jnp.asarray(p.scales)) for p in packed)

    def factors(out: int, width: int) -> LowRank:
        a, b = (rng.standard_normal(shape) / 4 for shape in ((E, R, width), (E, out, R)))
        return LowRank(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), 1.5)

    biases = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((E, 2 * F), (E, D)))
    gate_up_bias, down_bias = biases
    return ExpertWeights(gate_up, gate_up_bias, down, down_bias, factors(2 * F, D), factors(D, F))


def merged(experts: ExpertWeights) -> ExpertWeights:
    def merge(matrix: Mxfp4Array, update: LowRank) -> jax.Array:
        product = jnp.einsum("eor,eri->eoi", update.b, update.a, precision="highest")
        return matrix.decode(jnp.float32) + update.scale * product

    return ExpertWeights(
        merge(experts.gate_up_proj, experts.gate_up_update),
        experts.gate_up_proj_bias,
        merge(experts.down_proj, experts.down_update),
        experts.down_proj_bias,
    )


@pytest.mark.numbers
@pytest.mark.parametrize("strategy", RUNNABLE)
def test_update_of_packed_experts_is_that_of_merged_ones_gradients_included(experts, strategy, relative_error):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((M, D)), jnp.float32)
    indices = jnp.asarray(np.stack([rng.choice(E, K, replace=False) for _ in range(M)]), jnp.int32)
    indices = indices.at[3].set(-1)  # padding
    weights = jnp.asarray(rng.dirichlet(np.ones(K), M), jnp.float32)
    seed = jnp.asarray(rng.standard_normal((M, D)), jnp.float32)

    def run(merges: bool, name: str):
        @jax.jit
        def slope(x, updates):
            def loss(x, updates):
                used = dataclasses.replace(experts, gate_up_update=updates[0], down_update=updates[1])
                used = merged(used) if merges else used
                out = MOE_STRATEGIES[name](x, indices, weights, used, swiglu_alpha=1.702, swiglu_limit=7.0)
                return (out * seed).sum(), out

            return jax.grad(loss, argnums=(0, 1), has_aux=True)(x, updates)

        return jax.tree.leaves(slope(x, (experts.gate_up_update, experts.down_update)))

    for actual, expected in zip(run(False, strategy), run(True, "dense"), strict=True):
        assert np.asarray(expected).any()
        assert relative_error(actual, expected) < ROUNDING
