"""What blocks are visited, and what memory it takes."""

import functools

import jax
import jax.numpy as jnp
import pytest
from gptoss_model.ops.attention import blockwise_attention, reference_attention
from gptoss_model.ops.attention.blockwise import cut_into_blocks

N, K, H = 4, 2, 16
READ_ONLY = {"xla_backend_optimization_level": 0}  # programs that never run: the same text and memory, sooner compiled


def temporary_bytes(strategy, T: int, S: int, window: int | None, *, gradient: bool = False) -> int:
    """What XLA sets aside beyond arguments and results."""
    shapes = (1, T, N, H), (1, S, K, H), (1, S, K, H), (N,)
    arrays = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    positions = (jax.ShapeDtypeStruct((1, length), jnp.int32) for length in (T, S))

    def run(arrays, query_positions, key_positions):
        return strategy(*arrays, query_positions=query_positions, key_positions=key_positions, window=window)

    def slope(arrays, *positions):
        return jax.grad(lambda arrays: run(arrays, *positions).sum())(arrays)

    lowered = jax.jit(slope if gradient else run).lower(arrays, *positions)
    return lowered.compile(compiler_options=READ_ONLY).memory_analysis().temp_size_in_bytes


def visits(query_positions, key_positions, window):
    return cut_into_blocks(jnp.asarray(query_positions)[None], jnp.asarray(key_positions)[None], window)


def test_sliding_layer_visits_as_many_blocks_however_long_the_prompt():
    most = [int(visits(range(T), range(T), 128).counts.max()) for T in (1024, 16384)]
    assert most[0] == most[1] <= 4


def test_full_layer_visits_what_is_not_in_the_future():
    blocks = visits(range(1024), range(1024), None)
    last_seen = (jnp.arange(len(blocks.counts)) + 1) * blocks.queries - 1
    assert blocks.counts.tolist() == (last_seen // blocks.keys + 1).tolist()


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (256, 1), (257, 2), (131072, 512)])
def test_decoding_step_visits_what_the_buffer_holds_not_what_it_has_room_for(length, expected):
    slots = jnp.arange(131072)
    blocks = visits([length - 1], jnp.where(slots < length, slots, -1), None)
    assert blocks.counts.tolist() == [expected]


def test_visited_blocks_come_first():
    blocks = visits([700] * 3, [*range(600, 664), *range(64), *range(664, 701)], 64)
    assert blocks.keys == 64
    assert sorted(blocks.visited[0, : int(blocks.counts[0])].tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("length", "queries", "keys", "most"), [(24, 24, 24, 1), (300, 64, 64, 3), (600, 64, 64, 3), (4096, 64, 128, 2)]
)
def test_blocks_of_a_window_that_is_known_only_when_it_runs_grow_with_the_sequence(length, queries, keys, most):
    blocks = visits(range(length), range(length), jnp.int32(128))
    assert (blocks.queries, blocks.keys) == (queries, keys)
    assert int(blocks.counts.max()) == most


@pytest.mark.numbers
@pytest.mark.parametrize("window", [128, 2**30])
def test_many_blocks_of_such_a_window_give_the_formula_and_its_gradient(window, relative_error):
    T = 300
    keys = jax.random.split(jax.random.key(window % 7), 4)
    arrays = [jax.random.normal(key, (2, T, heads, H)) for key, heads in zip(keys, (N, K, K), strict=False)]
    arrays.append(jax.random.normal(keys[3], (N,)))
    positions = jnp.broadcast_to(jnp.arange(T), (2, T))

    def weighed(strategy, window, arrays):
        out = strategy(*arrays, query_positions=positions, key_positions=positions, window=window)
        return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    slope = jax.grad(weighed, argnums=2, has_aux=True)
    found = jax.jit(functools.partial(slope, blockwise_attention))(jnp.int32(window), arrays)
    expected = jax.jit(functools.partial(slope, reference_attention, window))(arrays)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("window", [None, 64])
def test_memory_of_a_longer_prompt_grows_with_its_rows_not_with_its_scores(window):
    short, long = (temporary_bytes(blockwise_attention, T, T, window) for T in (2048, 8192))
    assert long < 4.5 * short
    assert long < temporary_bytes(reference_attention, 8192, 8192, window) / 50


def test_memory_of_the_gradient_grows_with_rows_too():
    short, long = (temporary_bytes(blockwise_attention, T, T, None, gradient=True) for T in (2048, 8192))
    assert long < 4.5 * short


def test_chunk_against_a_buffer_of_131072_takes_the_scores_of_one_pair_of_blocks():
    assert temporary_bytes(blockwise_attention, 512, 131072, None) < 16 * 2**20
    assert 512 * 131072 * N * 4 == 2**30, "all scores of the chunk would take this"


def test_forward_mode_is_refused_by_jax_not_answered_wrongly():
    run = functools.partial(blockwise_attention, query_positions=jnp.zeros((1, 1), jnp.int32), window=None)
    ones = jnp.ones((1, 1, 1, 2))

    def of_queries(q):
        return run(q, ones, ones, jnp.ones(1), key_positions=jnp.zeros((1, 1), jnp.int32))

    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(of_queries, (ones,), (ones,))
