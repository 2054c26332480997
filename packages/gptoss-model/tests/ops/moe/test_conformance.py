"""What every MoE strategy must do, packed and decoded, in f32 and bf16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import Mxfp4Array
from gptoss_model.ops.moe import MOE_STRATEGIES, ExpertWeights
from gptoss_weights import encode_mxfp4

E, D, F = 7, 96, 64
ALPHA, LIMIT = 1.702, 7.0
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


def by_loops(x, indices, weights, experts) -> np.ndarray:
    """The formula, one token and expert at a time, in f64."""
    x, weights = np.asarray(x, np.float64), np.asarray(weights, np.float64)
    gate_up, down = (np.asarray(m.decode(jnp.float32), np.float64) for m in matrices())
    out = np.zeros_like(x)
    for m in range(len(x)):
        for e, weight in zip(np.asarray(indices)[m], weights[m], strict=True):
            if not 0 <= e < E:
                continue
            hidden = gate_up[e] @ x[m] + np.asarray(experts.gate_up_proj_bias, np.float64)[e]
            gate, up = np.minimum(hidden[::2], LIMIT), np.clip(hidden[1::2], -LIMIT, LIMIT)
            activated = gate / (1 + np.exp(-ALPHA * gate)) * (up + 1)
            out[m] += weight * (down[e] @ activated + np.asarray(experts.down_proj_bias, np.float64)[e])
    return out


@pytest.fixture(params=MOE_STRATEGIES)
def strategy(request) -> str:
    return request.param


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("form", ["packed", "decoded"])
@pytest.mark.parametrize(("M", "k"), [(1, 1), (1, 3), (2, 7), (5, 2), (61, 3)])
def test_result_is_the_weighted_sum_of_the_chosen_experts(strategy, form, dtype, M, k, relative_error):
    weights = experts(dtype, form)
    routing = routed(M, k, dtype)
    out = run(strategy, *routing, weights)
    assert out.dtype == dtype
    assert relative_error(out, by_loops(*routing, weights)) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("M", [1, 9])
def test_packed_experts_give_the_bits_of_decoded_ones(strategy, dtype, M):
    routing = routed(M, 3, dtype)
    packed, decoded = (run(strategy, *routing, experts(dtype, form)) for form in ("packed", "decoded"))
    np.testing.assert_array_equal(np.asarray(packed, np.float32), np.asarray(decoded, np.float32))


@pytest.mark.parametrize("form", ["packed", "decoded"])
def test_experts_that_nobody_chose_are_not_touched(strategy, form):
    weights = experts(jnp.float32, form)
    x, indices, shares = routed(11, 3, jnp.float32)
    indices = indices % 3 + jnp.array([0, 3, 3])  # the experts 0 … 5, never 6
    poisoned = ExpertWeights(
        gate_up_proj=weights.gate_up_proj,
        gate_up_proj_bias=weights.gate_up_proj_bias.at[6].set(jnp.nan),
        down_proj=weights.down_proj,
        down_proj_bias=weights.down_proj_bias.at[6].set(jnp.nan),
    )
    np.testing.assert_array_equal(
        run(strategy, x, indices, shares, poisoned), run(strategy, x, indices, shares, weights)
    )


def test_one_expert_can_take_every_token(strategy, relative_error):
    weights = experts(jnp.float32, "packed")
    x, _, shares = routed(23, 1, jnp.float32)
    everyone = jnp.full((23, 1), 4, jnp.int32)
    assert relative_error(run(strategy, x, everyone, shares, weights), by_loops(x, everyone, shares, weights)) < 5e-7


@pytest.mark.parametrize("form", ["packed", "decoded"])
@pytest.mark.parametrize("nobody", [-1, E, -E, 10 * E])
def test_assignment_to_nobody_contributes_zero(strategy, form, nobody, relative_error):
    weights = experts(jnp.float32, form)
    x, indices, shares = routed(13, 3, jnp.float32)
    is_nobody = jnp.asarray(np.random.default_rng(5).random((13, 3)) < 0.5)
    assert is_nobody.all(axis=1).any()
    some = jnp.where(is_nobody, nobody, indices)
    out = run(strategy, x, some, shares, weights)
    assert relative_error(out, by_loops(x, some, shares, weights)) < TOLERANCES[jnp.float32]
    assert not np.asarray(out)[np.asarray(is_nobody.all(axis=1))].any()


@pytest.mark.parametrize("M", [1, 29])
def test_no_assignment_at_all_yields_zeros(strategy, M):
    x, indices, shares = routed(M, 3, jnp.float32)
    assert not np.asarray(run(strategy, x, indices - E, shares, experts(jnp.float32, "decoded"))).any()


def test_parts_of_the_experts_add_up_to_the_whole(strategy, relative_error):
    """As under expert parallelism: each part subtracts where its own experts begin."""
    weights = experts(jnp.float32, "packed")
    x, indices, shares = routed(17, 3, jnp.float32)
    parts = []
    for first, last in ((0, 2), (2, E)):
        own = jax.tree.map(lambda array, first=first, last=last: array[first:last], weights)
        parts.append(run(strategy, x, indices - first, shares, own))
    assert relative_error(parts[0] + parts[1], by_loops(x, indices, shares, weights)) < TOLERANCES[jnp.float32]


def test_padding_yields_zeros_and_changes_nobody(strategy):
    weights = experts(jnp.float32, "packed")
    x, indices, shares = routed(13, 3, jnp.float32)
    is_real = jnp.arange(13) % 3 != 0
    out = run(strategy, x.at[~is_real].set(jnp.nan), jnp.where(is_real[:, None], indices, -1), shares, weights)
    assert not np.asarray(out)[~np.asarray(is_real)].any()
    np.testing.assert_array_equal(out[is_real], run(strategy, x, indices, shares, weights)[is_real])


def test_gradients_agree_with_finite_differences(strategy):
    weights = experts(jnp.float32, "decoded")
    x, indices, shares = routed(5, 2, jnp.float32)

    def loss(x, shares, weights):
        return (run(strategy, x, indices, shares, weights) ** 2).mean()

    gradients = jax.grad(loss, argnums=(0, 1, 2))(x, shares, weights)
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), (x, shares, weights))
    step = 1e-3
    ahead, behind = (
        loss(*jax.tree.map(lambda a, d, s=sign: a + s * step * d, (x, shares, weights), direction)) for sign in (1, -1)
    )
    slope = sum(float((g * d).sum()) for g, d in zip(*map(jax.tree.leaves, (gradients, direction)), strict=True))
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-2)
