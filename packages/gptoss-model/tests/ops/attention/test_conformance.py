"""What every attention strategy must do, for rows in any order, in f32 and bf16.

Compiling is nearly all that these tests cost, so they share a few shapes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops.attention import ATTENTION_KERNELS, ATTENTION_STRATEGIES, StackedRows, list_attention_strategies

B, N, K, H = 2, 6, 3, 4
TOLERANCES = {jnp.float32: 5e-7, jnp.bfloat16: 1.5e-2}
GRADIENT_TOLERANCE = 1e-6
RUNNABLE = [strategy.name for strategy in list_attention_strategies() if strategy.available]
T, S = 150, 210  # several blocks of each strategy, and a part of one


def _rows(*rows):
    return np.stack(rows).astype(np.int32)


def _ring(length: int, slots: int) -> np.ndarray:
    """What stands in a ring after `length` tokens."""
    slot = np.arange(slots)
    return length - 1 - (length - 1 - slot) % slots


T_RANGE, S_RANGE = np.arange(T), np.arange(S)
LAYOUTS = {
    "no-cache": (_rows(T_RANGE, T_RANGE), None),
    "padding-on-either-side": (
        _rows(np.where(T_RANGE < 9, -1, T_RANGE - 9), np.where(T_RANGE > 99, -1, T_RANGE)),
        None,
    ),
    "padding-between": (_rows(np.where(T_RANGE % 3, np.cumsum(T_RANGE % 3 > 0) - 1, -1), T_RANGE), None),
    "chunk-of-a-long-buffer": (
        _rows(T_RANGE + 20, np.where(T_RANGE > 40, -1, T_RANGE)),
        _rows(np.where(S_RANGE < 170, S_RANGE, -1), np.where(S_RANGE < 41, S_RANGE, -1)),
    ),
    "ring-and-new-tokens": (
        _rows(T_RANGE + 1000, T_RANGE + 777),
        _rows(np.append(_ring(1000, 60), T_RANGE + 1000), np.append(_ring(777, 60), T_RANGE + 777)),
    ),
    "any-order": (
        _rows(np.random.default_rng(0).permutation(T), T_RANGE),
        _rows(
            np.random.default_rng(1).permutation(S), np.where(S_RANGE % 4, np.random.default_rng(2).permutation(S), -1)
        ),
    ),
}


def inputs(keys: int, dtype):
    rng = np.random.default_rng(keys)
    shapes = (B, T, N, H), (B, keys, K, H), (B, keys, K, H), (N,)
    return tuple(jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)


@functools.cache
def compiled(strategy: str, window: int | None):
    """Kept, so that equal shapes compile once."""
    function = functools.partial(ATTENTION_STRATEGIES[strategy], window=window)

    def run(arrays, query_positions, key_positions):
        return function(*arrays, query_positions=query_positions, key_positions=key_positions)

    def slope(arrays, query_positions, key_positions, seed):
        return jax.grad(lambda arrays: (run(arrays, query_positions, key_positions) * seed).sum())(arrays)

    return jax.jit(run), jax.jit(slope)


def truth(arrays, query_positions, key_positions, window, segments=None):
    """The formula in f64."""
    q, k, v, sinks = (jnp.asarray(array, jnp.float64) for array in arrays)
    k, v = (jnp.repeat(array, N // K, axis=2) for array in (k, v))
    at, key_at = query_positions[:, None, :, None], key_positions[:, None, None, :]
    visible = (key_at >= 0) & (key_at <= at) & (key_at > at - (window or 10**6))
    if segments is not None:
        visible &= segments[:, None, :, None] == segments[:, None, None, :]
    weights = jnp.where(visible, jnp.exp(jnp.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(H)), 0)
    total = weights.sum(axis=-1, keepdims=True) + jnp.exp(sinks)[:, None, None]
    return jnp.einsum("bnts,bsnh->btnh", weights / total, v)


@pytest.fixture(params=RUNNABLE)
def strategy(request) -> str:
    return request.param


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


def places(layout: str) -> tuple[np.ndarray, np.ndarray]:
    queries, keys = LAYOUTS[layout]
    return queries, queries if keys is None else keys


def seeds() -> np.ndarray:
    """What the outputs are weighed with, where gradients are asked about."""
    return np.random.default_rng(1).standard_normal((B, T, N, H))


@functools.cache
def exact(layout: str, window: int | None, dtype) -> np.ndarray:
    """The same for every strategy."""
    positions = places(layout)
    with jax.enable_x64(True):
        return np.asarray(truth(inputs(positions[1].shape[1], dtype), *positions, window))


@functools.cache
def exact_slopes(layout: str, window: int | None) -> list[np.ndarray]:
    positions = places(layout)
    arrays = inputs(positions[1].shape[1], jnp.float32)
    with jax.enable_x64(True):
        wide = tuple(jnp.asarray(array, jnp.float64) for array in arrays)
        slopes = jax.grad(lambda arrays: (truth(arrays, *positions, window) * seeds()).sum())(wide)
        return [np.asarray(slope) for slope in slopes]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("window", [None, 11])
def test_formula_holds_wherever_rows_stand(strategy, layout, window, dtype, relative_error):
    positions = places(layout)
    run, _ = compiled(strategy, window)
    out = run(inputs(positions[1].shape[1], dtype), *positions)
    assert out.dtype == dtype
    assert relative_error(out, exact(layout, window, dtype)) < TOLERANCES[dtype]
    assert not np.asarray(out)[positions[0] < 0].any(), "the sink takes all that a row without a token has to give"


@pytest.mark.parametrize("window", [None, 11])
def test_gradients_are_those_of_the_formula_sinks_included(strategy, layout, window, relative_error):
    positions = places(layout)
    _, slope = compiled(strategy, window)
    actual = slope(inputs(positions[1].shape[1], jnp.float32), *positions, jnp.asarray(seeds(), jnp.float32))
    for ours, theirs in zip(actual, exact_slopes(layout, window), strict=True):
        assert theirs.any()
        assert relative_error(ours, theirs) < GRADIENT_TOLERANCE


@functools.cache
def compiled_for_any_window(strategy: str):
    """Values and gradients; kept, so that equal shapes compile once."""

    @jax.jit
    def found(window, arrays, query_positions, key_positions, seed):
        def run(arrays):
            return ATTENTION_STRATEGIES[strategy](
                *arrays, query_positions=query_positions, key_positions=key_positions, window=window
            )

        return run(arrays), jax.grad(lambda arrays: (run(arrays) * seed).sum())(arrays)

    return found


@pytest.mark.parametrize("strategy", [name for name in RUNNABLE if name not in ATTENTION_KERNELS])
@pytest.mark.parametrize("window", [11, 2**30])
def test_window_that_is_known_only_when_it_runs_is_the_same_window(strategy, layout, window, relative_error):
    positions = places(layout)
    arrays = inputs(positions[1].shape[1], jnp.float32)
    seed = jnp.asarray(seeds(), jnp.float32)
    run, slope = compiled(strategy, None if window > T else window)
    expected = run(arrays, *positions), slope(arrays, *positions, seed)
    actual = compiled_for_any_window(strategy)(jnp.int32(window), arrays, *positions, seed)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert relative_error(ours, theirs) < GRADIENT_TOLERANCE


PACKED = {
    # A long document and two short ones, padding behind; and one that fills the row.
    "one-behind-the-other": (
        _rows(np.where(T_RANGE < 97, T_RANGE, np.where(T_RANGE < 101, T_RANGE - 97, T_RANGE - 101)), T_RANGE),
        _rows(np.where(T_RANGE < 97, 1, np.where(T_RANGE < 101, 2, 3)), np.full(T, 1)),
    ),
    "interleaved": (_rows(T_RANGE // 2, T_RANGE), _rows(1 + T_RANGE % 2, np.full(T, 4))),
}
PACKED["one-behind-the-other"][0][0, 140:] = -1


@functools.cache
def compiled_with_segments(strategy: str, window: int | None, *, is_traced: bool):
    """Gradients and values; kept, so that equal shapes compile once."""

    @jax.jit
    def run(arrays, positions, segments, seed, traced):
        def loss(arrays):
            places = {"query_positions": positions, "key_positions": positions, "segments": segments}
            out = ATTENTION_STRATEGIES[strategy](*arrays, **places, window=traced if is_traced else window)
            return (out * seed).sum(), out

        return jax.grad(loss, has_aux=True)(arrays)

    return run


@functools.cache
def exact_with_segments(layout: str, window: int | None):
    """Gradients and values, the same for every strategy."""
    positions, segments = PACKED[layout]
    with jax.enable_x64(True):
        wide = tuple(jnp.asarray(array, jnp.float64) for array in inputs(T, jnp.float32))

        def loss(arrays):
            out = truth(arrays, positions, positions, window, segments)
            return (out * seeds()).sum(), out

        return jax.tree.map(np.asarray, jax.grad(loss, has_aux=True)(wide))


@pytest.mark.parametrize(("window", "is_traced"), [(None, False), (11, False), (11, True), (2**30, True)])
@pytest.mark.parametrize("layout", PACKED)
def test_documents_of_a_packed_row_do_not_see_each_other(strategy, layout, window, is_traced, relative_error):
    """Values and gradients, of the formula with every other document masked."""
    if is_traced and strategy in ATTENTION_KERNELS:
        pytest.skip("a kernel must know the window when it is compiled")
    run = compiled_with_segments(strategy, None if is_traced else window, is_traced=is_traced)
    arrays, seed = inputs(T, jnp.float32), jnp.asarray(seeds(), jnp.float32)
    gradients, out = run(arrays, *map(jnp.asarray, PACKED[layout]), seed, jnp.int32(window or 0))
    expected, exact = exact_with_segments(layout, window)
    assert relative_error(out, exact) < TOLERANCES[jnp.float32]
    for ours, theirs in zip(gradients, expected, strict=True):
        assert relative_error(ours, theirs) < GRADIENT_TOLERANCE


@pytest.mark.parametrize("window", [None, 11])
def test_sink_takes_its_share_and_gives_no_value(strategy, window):
    """With equal scores a query that sees n keys gives them n / (n + exp(sink)) together."""
    q, k, v, _ = inputs(T, jnp.float32)
    positions = LAYOUTS["no-cache"][0]
    run, _ = compiled(strategy, window)
    sinks = jnp.array([-100.0, 0.0, np.log(3), 5.0, 50.0, 1000.0])
    out = run((0 * q, k, jnp.ones_like(v), sinks), positions, positions)
    seen = np.minimum(np.arange(T) + 1, window or T)[:, None]
    with np.errstate(over="ignore"):
        expected = seen / (seen + np.exp(np.asarray(sinks, np.float64)))
    np.testing.assert_allclose(out, np.broadcast_to(expected[None, :, :, None], out.shape), rtol=1e-5, atol=1e-9)
    assert not np.asarray(out)[:, :, -1].any()


def test_query_that_sees_nothing_yields_zeros_and_no_gradient(strategy):
    arrays = inputs(T, jnp.float32)
    nothing = np.full((B, T), -1, np.int32)
    run, slope = compiled(strategy, None)
    assert not np.asarray(run(arrays, nothing, nothing)).any()
    for gradient in slope(arrays, nothing, nothing, jnp.ones((B, T, N, H))):
        assert not np.asarray(gradient).any()


@pytest.mark.parametrize("window", [None, 11])
def test_rows_in_a_stack_are_those_of_their_layer(strategy, window):
    """As a cache gives them inside a compiled loop over layers; values and gradients."""
    positions = LAYOUTS["chunk-of-a-long-buffer"]
    q, k, v, sinks = inputs(S, jnp.float32)
    stacks = tuple(jnp.stack([0 * rows, 7 * rows, rows]) for rows in (k, v))
    _, slope = compiled(strategy, window)

    def of_stacks(q, stacks, sinks):
        rows = (StackedRows(stack, jnp.int32(2)) for stack in stacks)
        function = ATTENTION_STRATEGIES[strategy]
        at = {
            name: jnp.asarray(value)
            for name, value in zip(("query_positions", "key_positions"), positions, strict=True)
        }
        return function(q, *rows, sinks, **at, window=window).sum()

    expected = slope((q, k, v, sinks), *positions, jnp.ones((B, T, N, H)))
    d_q, d_stacks, d_sinks = jax.jit(jax.grad(of_stacks, argnums=(0, 1, 2)))(q, stacks, sinks)
    for stack in d_stacks:
        assert not np.asarray(stack[:2]).any()
    for ours, theirs in zip((d_q, d_stacks[0][2], d_stacks[1][2], d_sinks), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
