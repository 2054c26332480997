import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import Mxfp4Array
from gptoss_model.ops.low_rank import LowRank
from gptoss_model.ops.moe import ExpertWeights, StackedMatrices, dense_moe, in_place, tiled, tiled_moe
from gptoss_model.ops.moe.in_place import MOST_ROWS_OF_AN_EXPERT, rows_in_place
from gptoss_model.ops.moe.tiled import LARGEST_TILE_ROWS, SMALLEST_TILE_ROWS, tile_rows
from gptoss_weights import encode_mxfp4

E, D, F = 7, 96, 64
SWIGLU = {"swiglu_alpha": 1.702, "swiglu_limit": 7.0}


def test_tile_grows_with_the_square_root_of_the_mean_run():
    assert tile_rows(128 * 4, 32) == 16
    assert tile_rows(512 * 4, 32) == 32
    assert tile_rows(4096 * 4, 32) == 128


def test_tile_stays_within_its_bounds():
    assert tile_rows(1, 128) == SMALLEST_TILE_ROWS
    assert tile_rows(10**6, 32) == LARGEST_TILE_ROWS


def experts(form: str) -> ExpertWeights:
    rng = np.random.default_rng(4)

    def matrices(*shape: int):
        values = encode_mxfp4(rng.standard_normal(shape) / 4)
        packed = Mxfp4Array(jnp.asarray(values.blocks), jnp.asarray(values.scales))
        if form == "packed":
            return packed
        decoded = packed.decode(jnp.float32)
        if form == "decoded":
            return decoded
        return StackedMatrices(jnp.stack([jnp.full_like(decoded, jnp.nan), decoded]), jnp.int32(1))

    gate_up, down = matrices(E, 2 * F, D), matrices(E, D, F)
    biases = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((E, 2 * F), (E, D)))
    return ExpertWeights(gate_up, next(biases), down, next(biases))


def routed(tokens: int, k: int):
    """Unevenly: expert 5 gets nobody, and some assignments are to nobody."""
    rng = np.random.default_rng(tokens)
    x = jnp.asarray(rng.standard_normal((tokens, D)), jnp.float32)
    indices = jnp.asarray(rng.choice([-1, 0, 1, 2, 3, 4, 6], (tokens, k), p=[0.1, 0.5, 0.05, 0.1, 0.1, 0.1, 0.05]))
    return x, indices, jnp.asarray(rng.dirichlet(np.ones(k), tokens), jnp.float32)


def gradients(strategy, x, indices, weights, experts):
    def loss(x, weights, experts):
        return (strategy(x, indices, weights, experts, **SWIGLU) * target).sum()

    target = jnp.asarray(np.random.default_rng(0).standard_normal(x.shape), jnp.float32)
    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), allow_int=True))(x, weights, experts)


@pytest.mark.parametrize("form", ["decoded", "packed", "stacked"])
@pytest.mark.parametrize(("tokens", "k"), [(3, 2), (150, 3)])
def test_gradients_are_those_that_jax_derives_of_every_expert_on_every_token(form, tokens, k, relative_error):
    x, indices, weights = routed(tokens, k)
    found = gradients(tiled_moe, x, indices, weights, experts(form))
    plain = experts("decoded" if form == "stacked" else form)
    expected = gradients(dense_moe, x, indices, weights, plain)
    if form == "stacked":  # the other layer of the stack has none
        for name in ("gate_up_proj", "down_proj"):
            layers = getattr(found[2], name).stack
            assert not layers[0].any()
            object.__setattr__(found[2], name, layers[1])
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        if one.dtype != jax.dtypes.float0:
            assert relative_error(one, other) < 2e-6


def test_backward_pass_keeps_no_gradient_of_all_experts_for_each_tile():
    def loss(leaves):
        return tiled_moe(x, indices, weights, jax.tree.unflatten(structure, leaves), **SWIGLU).sum()

    x, indices, weights = routed(2000, 3)
    leaves, structure = jax.tree.flatten(experts("decoded"))
    compiled = jax.jit(jax.grad(loss)).lower(leaves).compile()
    rows = 2000 * 3 * D * 4
    assert compiled.memory_analysis().temp_size_in_bytes < sum(leaf.nbytes for leaf in leaves) + 4 * rows


def test_of_arrays_with_a_row_for_each_assignment_the_backward_pass_keeps_the_experts_outputs_alone():
    x, indices, weights = routed(150, 3)

    def mixture(x, weights, experts):
        return tiled_moe(x, indices, weights, experts, **SWIGLU)

    _, pull_back = jax.vjp(mixture, x, weights, experts("decoded"))
    kept = [leaf.shape for leaf in jax.tree.leaves(pull_back) if leaf.shape[-1:] == (D,) and leaf.size >= 150 * 3 * D]
    assert sorted(kept) == sorted([(E, 2 * F, D), (150, 3, D)])


def in_a_stack(experts: ExpertWeights) -> ExpertWeights:
    """The same as the only layer of a stack, where nothing is read in place."""
    gate_up, down = (StackedMatrices(array[None], jnp.int32(0)) for array in (experts.gate_up_proj, experts.down_proj))
    return dataclasses.replace(experts, gate_up_proj=gate_up, down_proj=down)


@pytest.fixture
def on_a_cpu(monkeypatch):
    """Whatever runs the tests: elsewhere no rows go at once."""
    monkeypatch.setattr(in_place, "current_platform", lambda: "cpu")


@pytest.mark.usefixtures("on_a_cpu")
def test_short_prompts_have_rows_in_place_where_the_matrices_can_be_read_as_they_are():
    decoded = experts("decoded")
    assert rows_in_place(E * 5, decoded, jnp.float32) == 16
    assert rows_in_place(E * MOST_ROWS_OF_AN_EXPERT // 2, decoded, jnp.float32) == MOST_ROWS_OF_AN_EXPERT
    assert rows_in_place(E * MOST_ROWS_OF_AN_EXPERT // 2 + 1, decoded, jnp.float32) == 0
    assert rows_in_place(E * 5, decoded, jnp.bfloat16) == 0, "they would be converted, all of them"
    assert rows_in_place(E * 5, experts("packed"), jnp.float32) == 0
    assert rows_in_place(E * 5, experts("stacked"), jnp.float32) == 0


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4, 6], [2, 5]], ids=["most-experts", "few-experts"])
def test_runs_longer_than_the_rows_in_place_are_finished_in_tiles(chosen, relative_error):
    """Expert 2 has more rows than go at once, and several tiles of them; some assignments are to nobody."""
    rng = np.random.default_rng(1)
    tokens, k = 70, 2
    x = jnp.asarray(rng.standard_normal((tokens, D)), jnp.float32)
    indices = np.stack([rng.choice([c for c in chosen if c != 2], tokens), np.full(tokens, 2)], axis=1)
    indices[::9, 0] = -1
    decoded = experts("decoded")
    assert 0 < rows_in_place(tokens * k, decoded, x.dtype) < tokens - SMALLEST_TILE_ROWS
    weights = jnp.asarray(rng.dirichlet(np.ones(k), tokens), jnp.float32)
    expected = dense_moe(x, jnp.asarray(indices), weights, decoded, **SWIGLU)
    assert relative_error(tiled_moe(x, jnp.asarray(indices), weights, decoded, **SWIGLU), expected) < 1e-6
    # The same with matrices that cannot be read in place.
    stacked = in_a_stack(decoded)
    assert relative_error(tiled_moe(x, jnp.asarray(indices), weights, stacked, **SWIGLU), expected) < 1e-6


@pytest.mark.usefixtures("on_a_cpu")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_in_place_have_their_updates_and_their_rounding(dtype, relative_error):
    """Beside the same in a stack, where it goes expert by expert."""
    rng = np.random.default_rng(2)

    def factors(*shape: int):
        return jnp.asarray(rng.standard_normal(shape) / 4, jnp.float32)

    decoded = jax.tree.map(lambda leaf: leaf.astype(dtype), experts("decoded"))
    updated = dataclasses.replace(
        decoded,
        gate_up_update=LowRank(factors(E, 3, D), factors(E, 2 * F, 3), 0.5),
        down_update=LowRank(factors(E, 3, F), factors(E, D, 3), 0.5),
    )
    x, indices, weights = routed(60, 3)
    x, weights = x.astype(dtype), weights.astype(dtype)
    stacked = in_a_stack(updated)
    assert rows_in_place(60 * 3, updated, dtype) > 0 == rows_in_place(60 * 3, stacked, dtype)
    found, expected = (tiled_moe(x, indices, weights, form, **SWIGLU) for form in (updated, stacked))
    assert relative_error(found, expected) < (1e-6 if dtype == jnp.float32 else 4e-3)


@pytest.mark.usefixtures("on_a_cpu")
def test_rows_go_at_once_only_if_most_experts_have_some(monkeypatch):
    """Found out by what goes at once being spoiled."""
    monkeypatch.setattr(
        tiled, "apply_in_place", lambda x, tokens, runs, experts, *, rows, apply: jnp.full((E, rows, D), jnp.nan)
    )
    x, indices, weights = routed(40, 3)
    decoded = experts("decoded")
    assert jnp.isnan(tiled_moe(x, indices, weights, decoded, **SWIGLU)).any()
    few = jnp.where(indices < 2, indices, -1)
    assert jnp.isfinite(tiled_moe(x, few, weights, decoded, **SWIGLU)).all()


@pytest.mark.usefixtures("on_a_cpu")
def test_whoever_has_no_rows_leaves_no_trace(relative_error):
    """Matrices of experts that nobody chose may hold anything."""
    x, indices, weights = routed(40, 3)
    decoded = experts("decoded")
    spoiled = dataclasses.replace(decoded, gate_up_proj=decoded.gate_up_proj.at[5].set(jnp.nan))
    found = tiled_moe(x, indices, weights, spoiled, **SWIGLU)
    assert relative_error(found, dense_moe(x, indices, weights, decoded, **SWIGLU)) < 1e-6
