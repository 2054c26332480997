"""The layers as a compiled loop over pairs, or over all in one stack, against the same layers one after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from gptoss_model import GptOss, abstract_model, canonical_names, decode_step, init_cache, load_model, prefill
from gptoss_model.ops.attention import list_attention_strategies
from gptoss_weights import probe_specs, random_checkpoint
from gptoss_weights.testing import tiny_config

TOLERANCE = 2e-6  # relative L2 in f32, as against the official code; on one machine they are mostly the same bits
CONFIG = tiny_config(num_hidden_layers=4)
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 20))  # the window is 11
MASK = np.arange(20) < np.array([[20], [13]])


@functools.cache
def model(scan_layers: bool, experts: str = "decoded", dtype=jnp.float32) -> GptOss:
    checkpoint = random_checkpoint(CONFIG, seed=3)
    return load_model(checkpoint, dtype=dtype, experts=experts, scan_layers=scan_layers)


@pytest.mark.numbers
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_every_probe_of_a_scanned_model_is_that_of_the_unscanned_one(experts, relative_error):
    names = probe_specs(CONFIG, 1)
    scanned, unscanned = (model(scan, experts)(TOKENS, mask=MASK, probes=names).probes for scan in (True, False))
    assert set(scanned) == set(unscanned) == set(names)
    for name, expected in unscanned.items():
        assert relative_error(scanned[name][MASK], expected[MASK]) < TOLERANCE, name


def test_a_probe_of_one_layer_comes_without_those_of_others():
    wanted = ["layers.2.router_indices", "layers.3.output"]
    assert set(model(True)(TOKENS, mask=MASK, probes=wanted).probes) == set(wanted)


@functools.cache
def logits_by_the_cache(scan_layers: bool, experts: str) -> jax.Array:
    """Of two pieces of the prompts, and of two tokens after them."""
    used = model(scan_layers, experts)
    cache = used.init_cache(2, 24)
    steps = []
    for part in (slice(0, 10), slice(10, 20)):
        step, cache = prefill(used, cache, TOKENS[:, part], MASK[:, part])
        steps.append(step)
    for token in (7, 9):
        step, cache = decode_step(used, cache, np.array([token, token + 1]))
        steps.append(step)
    assert cache.lengths.tolist() == [22, 15]
    return jnp.stack(steps)


@pytest.mark.slow
@pytest.mark.parametrize("experts", ["mxfp4", "decoded"])
def test_scanned_layers_read_and_write_their_own_part_of_the_cache(experts, relative_error):
    """Packed experts and decoded ones give the same, so one unscanned model is enough."""
    assert relative_error(logits_by_the_cache(True, experts), logits_by_the_cache(False, "mxfp4")) < TOLERANCE


def test_the_stacks_of_the_cache_are_written_in_place():
    cache = model(True).init_cache(2, 24)
    buffers = (*cache.keys, *cache.values)
    places = {buffer.unsafe_buffer_pointer() for buffer in buffers}
    _, cache = prefill(model(True), cache, TOKENS[:, :10], MASK[:, :10])
    assert all(buffer.is_deleted() for buffer in buffers)
    assert {buffer.unsafe_buffer_pointer() for buffer in (*cache.keys, *cache.values)} == places


def test_a_cache_of_the_other_form_is_refused():
    with pytest.raises(ValueError, match=r"the model has scan_layers=True, the cache False; make .* init_cache"):
        prefill(model(True), init_cache(CONFIG, 1, 24, jnp.float32), TOKENS[:1])


@functools.cache
def stack(experts: str = "decoded", attention: str = "auto", layers: int = 4) -> GptOss:
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=layers), seed=3)
    return load_model(
        checkpoint, dtype=jnp.float32, experts=experts, attention=attention, scan_layers=True, one_stack=True
    )


def require_strategy(attention: str) -> None:
    unusable = {one.name: one.reason for one in list_attention_strategies() if not one.available}
    if attention in unusable:
        pytest.skip(unusable[attention])


@pytest.mark.parametrize(
    ("experts", "attention"),
    [("mxfp4", "auto"), ("decoded", "auto"), ("decoded", "reference"), ("decoded", "splash-interpret")],
)
def test_every_probe_of_one_stack_is_that_of_the_unscanned_model(experts, attention, relative_error):
    """The window is known only when a layer runs; kernels, which must know it before, are compiled for both."""
    require_strategy(attention)
    names = probe_specs(CONFIG, 1)
    stacked = stack(experts, attention)(TOKENS, mask=MASK, probes=names).probes
    unscanned = model(False, experts)(TOKENS, mask=MASK, probes=names).probes
    assert set(stacked) == set(unscanned) == set(names)
    for name, expected in unscanned.items():
        assert relative_error(stacked[name][MASK], expected[MASK]) < TOLERANCE, name


@pytest.mark.numbers
def test_one_stack_takes_an_odd_number_of_layers_and_has_no_cache(relative_error):
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=3), seed=3)
    expected = load_model(checkpoint, dtype=jnp.float32, experts="decoded")
    odd = stack(layers=3)
    assert relative_error(odd(TOKENS, mask=MASK).logits[MASK], expected(TOKENS, mask=MASK).logits[MASK]) < TOLERANCE
    assert set(canonical_names(odd)) == set(canonical_names(expected))
    with pytest.raises(ValueError, match="one_stack has no cache"):
        odd.init_cache(1, 24)
    with pytest.raises(ValueError, match="one_stack has no cache"):
        prefill(odd, init_cache(tiny_config(num_hidden_layers=3), 1, 24, jnp.float32, scan_layers=True), TOKENS[:1])


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["auto", "reference", "splash-interpret"])
def test_gradients_of_one_stack_are_those_of_the_unscanned_model(attention, relative_error):
    require_strategy(attention)
    found = jax.jit(jax.grad(functools.partial(loss, remat=None)))(stack(attention=attention))
    actual = {name: np.asarray(view.value) for name, view in canonical_names(found).items()}
    expected = gradients(False)
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert relative_error(actual[name], value) < 1e-5, name


def loss(model: GptOss, remat) -> jax.Array:
    output = model.forward(jnp.asarray(TOKENS), jnp.asarray(MASK), remat=remat)
    return jnp.where(MASK[..., None], jnp.square(output.logits), 0).mean()


@functools.cache
def gradients(scan_layers: bool, remat=None):
    found = jax.jit(jax.grad(functools.partial(loss, remat=remat)))(model(scan_layers))
    return {name: np.asarray(view.value) for name, view in canonical_names(found).items()}


@pytest.mark.slow
@pytest.mark.parametrize("remat", [None, jax.checkpoint_policies.nothing_saveable], ids=["kept", "computed again"])
def test_gradients_of_a_scanned_model_are_those_of_the_unscanned_one(remat, relative_error):
    expected, actual = gradients(False), gradients(True, remat)
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert value.any(), name
        assert relative_error(actual[name], value) < 1e-5, name


@pytest.mark.parametrize("scan_layers", [False, True])
def test_what_is_computed_again_is_not_kept(scan_layers):
    def residuals(remat) -> int:
        tokens, mask = jnp.asarray(TOKENS), jnp.asarray(MASK)
        graph, state = nnx.split(abstract_model(CONFIG, dtype=jnp.float32, experts="decoded", scan_layers=scan_layers))

        def run(state):
            return nnx.merge(graph, state).forward(tokens, mask, remat=remat).logits

        _, pull = jax.eval_shape(functools.partial(jax.vjp, run), state)
        kept, parameters = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in (pull, state))
        return kept - parameters

    assert residuals(jax.checkpoint_policies.nothing_saveable) < residuals(None) / 2


@pytest.mark.numbers
@pytest.mark.parametrize("step", ["forward", "extend"])
def test_the_program_of_a_scanned_model_does_not_grow_with_depth(step):
    def operations(layers: int, *, scan_layers: bool) -> int:
        config = tiny_config(num_hidden_layers=layers)
        abstract = abstract_model(config, scan_layers=scan_layers)
        tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
        if step == "forward":
            program = jax.make_jaxpr(lambda model, tokens: model(tokens).logits)(abstract, tokens)
        else:
            program = jax.make_jaxpr(prefill)(abstract, abstract.init_cache(1, 32), tokens)
        return str(program).count(" = ")

    assert operations(4, scan_layers=True) == operations(8, scan_layers=True)
    assert operations(4, scan_layers=False) > operations(2, scan_layers=False)
