"""What every MoE strategy must do, packed and decoded, in f32 and bf16.

Compiling is nearly all that these tests cost, so they share a few shapes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import Mxfp4Array
from gptoss_model.ops.moe import MOE_STRATEGIES, ExpertWeights, StackedMatrices, list_moe_strategies
from gptoss_weights import encode_mxfp4

E, D, F = 7, 96, 64
ALPHA, LIMIT = 1.702, 7.0
RUNNABLE = [strategy.name for strategy in list_moe_strategies() if strategy.available]
TOLERANCES = {jnp.float32: 5e-7, jnp.bfloat16: 1.5e-2}


@functools.cache
def matrices() -> tuple[Mxfp4Array, Mxfp4Array]:
    rng = np.random.default_rng(7)
    packed = [encode_mxfp4(rng.standard_normal(shape) / 8) for shape in ((E, 2 * F, D), (E, D, F))]
    gate_up, down = (Mxfp4Array(jnp.asarray(p.blocks), jnp.asarray(p.scales)) for p in packed)
    return gate_up, down


def experts(dtype, form: str) -> ExpertWeights:
    rng = np.random.default_rng(8)
    gate_up, down = matrices()
    return ExpertWeights(
        gate_up_proj=gate_up if form == "packed" else gate_up.decode(dtype),
        gate_up_proj_bias=jnp.asarray(rng.standard_normal((E, 2 * F)), dtype),
        down_proj=down if form == "packed" else down.decode(dtype),
        down_proj_bias=jnp.asarray(rng.standard_normal((E, D)), dtype),
    )


def routed(M: int, k: int, dtype):
    rng = np.random.default_rng(M)
    x = jnp.asarray(rng.standard_normal((M, D)), dtype)
    indices = jnp.asarray(np.stack([rng.choice(E, k, replace=False) for _ in range(M)]), jnp.int32)
    weights = jnp.asarray(rng.dirichlet(np.ones(k), M), dtype)
    return x, indices, weights


@functools.cache
def compiled(strategy: str):
    """Kept, so that equal shapes compile once."""
    return jax.jit(functools.partial(MOE_STRATEGIES[strategy], swiglu_alpha=ALPHA, swiglu_limit=LIMIT))


def run(strategy: str, x, indices, weights, experts):
    return compiled(strategy)(x, indices, weights, experts)


def truth(x, indices, weights, experts):
    """The formula in f64, every expert on every token."""
    x, weights = (jnp.asarray(array, jnp.float64) for array in (x, weights))
    gate_up, down, gate_up_bias, down_bias = (
        jnp.asarray(array.decode(jnp.float32) if isinstance(array, Mxfp4Array) else array, jnp.float64)
        for array in (experts.gate_up_proj, experts.down_proj, experts.gate_up_proj_bias, experts.down_proj_bias)
    )
    hidden = jnp.einsum("efd,md->mef", gate_up, x) + gate_up_bias
    gate, up = jnp.minimum(hidden[..., ::2], LIMIT), jnp.clip(hidden[..., 1::2], -LIMIT, LIMIT)
    outputs = jnp.einsum("edf,mef->med", down, gate / (1 + jnp.exp(-ALPHA * gate)) * (up + 1)) + down_bias
    shares = (weights[..., None] * (indices[..., None] == jnp.arange(E))).sum(axis=1)
    return jnp.einsum("med,me->md", outputs, shares)


def exact(*arguments) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(truth(*arguments))


@pytest.fixture(params=RUNNABLE)
def strategy(request) -> str:
    return request.param


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("M", "k"), [(1, 1), (2, 7), (300, 3)])
def test_result_is_the_weighted_sum_of_the_chosen_experts(strategy, dtype, M, k, relative_error):
    weights = experts(dtype, "packed")
    routing = routed(M, k, dtype)
    out = run(strategy, *routing, weights)
    assert out.dtype == dtype
    assert relative_error(out, exact(*routing, weights)) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("M", "k"), [(1, 1), (300, 3)])
def test_packed_experts_give_what_decoded_ones_give(strategy, dtype, M, k, relative_error):
    """Not the same bits: XLA may sum in another order where it decodes while it multiplies."""
    routing = routed(M, k, dtype)
    packed, decoded = (run(strategy, *routing, experts(dtype, form)) for form in ("packed", "decoded"))
    assert relative_error(packed, decoded) < TOLERANCES[dtype]


@pytest.mark.parametrize(("M", "k", "form"), [(1, 1, "decoded"), (300, 3, "packed")])
def test_experts_in_a_stack_of_layers_give_what_the_layer_gives_by_itself(strategy, M, k, form, relative_error):
    alone, routing = experts(jnp.float32, form), routed(M, k, jnp.float32)

    def in_a_stack(matrix):
        stack = jax.tree.map(lambda array: jnp.stack([jnp.zeros_like(array), array, jnp.zeros_like(array)]), matrix)
        return StackedMatrices(stack, jnp.int32(1))

    stacked = dataclasses.replace(
        alone, gate_up_proj=in_a_stack(alone.gate_up_proj), down_proj=in_a_stack(alone.down_proj)
    )
    assert relative_error(run(strategy, *routing, stacked), run(strategy, *routing, alone)) < TOLERANCES[jnp.float32]


@pytest.mark.parametrize("form", ["packed", "decoded"])
def test_experts_that_nobody_chose_change_nothing(strategy, form):
    weights = experts(jnp.float32, form)
    x, indices, shares = routed(300, 3, jnp.float32)
    indices = indices % 2 + jnp.array([0, 2, 4])  # the experts 0 … 5, never 6
    poisoned = ExpertWeights(
        gate_up_proj=weights.gate_up_proj,
        gate_up_proj_bias=weights.gate_up_proj_bias.at[6].set(jnp.nan),
        down_proj=weights.down_proj,
        down_proj_bias=weights.down_proj_bias.at[6].set(jnp.nan),
    )
    np.testing.assert_array_equal(
        run(strategy, x, indices, shares, poisoned), run(strategy, x, indices, shares, weights)
    )


@pytest.mark.parametrize("expert", [0, 4, E - 1])
def test_one_expert_can_take_every_token(strategy, expert, relative_error):
    weights = experts(jnp.float32, "packed")
    x, _, shares = routed(300, 3, jnp.float32)
    everyone = jnp.broadcast_to(jnp.array([-1, expert, -1], jnp.int32), (300, 3))
    out = run(strategy, x, everyone, shares, weights)
    assert relative_error(out, exact(x, everyone, shares, weights)) < TOLERANCES[jnp.float32]


@pytest.mark.parametrize("nobody", [-1, E, -E, 10 * E])
def test_assignment_to_nobody_contributes_zero(strategy, nobody, relative_error):
    weights = experts(jnp.float32, "packed")
    x, indices, shares = routed(300, 3, jnp.float32)
    is_nobody = jnp.asarray(np.random.default_rng(5).random((300, 3)) < 0.5)
    some = jnp.where(is_nobody, nobody, indices)
    out = run(strategy, x, some, shares, weights)
    assert relative_error(out, exact(x, some, shares, weights)) < TOLERANCES[jnp.float32]
    idle = np.asarray(is_nobody.all(axis=1))
    assert idle.any()
    assert not np.asarray(out)[idle].any()


@pytest.mark.parametrize(("M", "k"), [(1, 1), (300, 3)])
def test_no_assignment_at_all_yields_zeros(strategy, M, k):
    x, indices, shares = routed(M, k, jnp.float32)
    assert not np.asarray(run(strategy, x, indices - E, shares, experts(jnp.float32, "packed"))).any()


def test_parts_of_the_experts_add_up_to_the_whole(strategy, relative_error):
    """As under expert parallelism: each part subtracts where its own experts begin."""
    weights = experts(jnp.float32, "packed")
    x, indices, shares = routed(17, 3, jnp.float32)
    parts = []
    for first, last in ((0, 2), (2, E)):
        own = jax.tree.map(lambda array, first=first, last=last: array[first:last], weights)
        parts.append(run(strategy, x, indices - first, shares, own))
    assert relative_error(parts[0] + parts[1], exact(x, indices, shares, weights)) < TOLERANCES[jnp.float32]


def test_padding_yields_zeros_and_changes_nobody(strategy):
    weights = experts(jnp.float32, "packed")
    x, indices, shares = routed(300, 3, jnp.float32)
    is_real = jnp.arange(300) % 3 != 0
    out = run(strategy, x.at[~is_real].set(jnp.nan), jnp.where(is_real[:, None], indices, -1), shares, weights)
    assert not np.asarray(out)[~np.asarray(is_real)].any()
    np.testing.assert_array_equal(out[is_real], run(strategy, x, indices, shares, weights)[is_real])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["packed", "decoded"])
def test_gradients_are_those_of_the_formula(strategy, form, relative_error):
    """Of x, the router's weights, the biases, and the matrices where they are arrays."""
    weights = experts(jnp.float32, form)
    x, indices, shares = routed(41, 3, jnp.float32)
    indices = jnp.where(jnp.arange(41)[:, None] % 5 == 0, -1, indices % (E - 1))  # some are nobody's; expert 6 has none
    seed = np.random.default_rng(1).standard_normal(x.shape)

    def gradients(function, dtype):
        differentiable, packed = _split(x, shares, weights)
        differentiable = jax.tree.map(lambda array: array.astype(dtype), differentiable)

        def loss(arrays):
            x, shares, weights = _join(arrays, packed)
            return (function(x, indices, shares, weights) * jnp.asarray(seed, dtype)).sum()

        return jax.tree.leaves(jax.grad(loss)(differentiable))

    actual = gradients(compiled(strategy), jnp.float32)
    with jax.enable_x64(True):
        expected = gradients(truth, jnp.float64)
    assert len(actual) == len(expected) == (4 if form == "packed" else 6)
    for ours, theirs in zip(actual, expected, strict=True):
        assert np.asarray(theirs).any()
        assert relative_error(ours, theirs) < 1e-6


def _split(x, shares, weights):
    """What has a gradient, and the packed matrices."""
    if isinstance(weights.gate_up_proj, Mxfp4Array):
        arrays = (x, shares, weights.gate_up_proj_bias, weights.down_proj_bias)
        return arrays, (weights.gate_up_proj, weights.down_proj)
    return (x, shares, weights), None


def _join(arrays, packed):
    if packed is None:
        return arrays
    x, shares, gate_up_bias, down_bias = arrays
    return x, shares, ExpertWeights(packed[0], gate_up_bias, packed[1], down_bias)
