import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import canonical_names, load_model
from gptoss_model.ops import rms_norm
from gptoss_weights import Checkpoint, open_checkpoint, probe_specs, random_checkpoint, trimmed
from gptoss_weights.demo import demo_checkpoint, demo_golden_path
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint
from safetensors.flax import load_file

F32_TOLERANCE = 2e-6  # relative L2; the references agree among themselves to 5e-7
BF16_RATIO = 1.5  # distance to the truth, over that of the official bf16 run
MARGIN = 1e-5  # router logits nearer than this may swap in f32
HIDDEN = ("embedding", "attention_residual", "output", "final_norm", "logits", "router_logits")


@functools.cache
def golden(path):
    return {name: np.asarray(array) for name, array in load_file(path).items()}


def trace(checkpoint: Checkpoint, tokens, **options) -> dict[str, np.ndarray]:
    """Every probe of one prompt."""
    output = load_model(checkpoint, **options)(np.asarray(tokens)[None], probes=probe_specs(checkpoint.config, 1))
    return {name: np.asarray(array[0]) for name, array in output.probes.items()}


def reference_trace(arrays: dict[str, np.ndarray], run: str, layers: int) -> dict[str, np.ndarray]:
    """A run of a reference golden under the probes' names."""
    named = {"embedding": arrays[f"{run}.hidden"][0], "final_norm": arrays[f"{run}.final_norm"]}
    named["logits"] = arrays[f"{run}.logits"]
    for layer in range(layers):
        named[f"layers.{layer}.output"] = arrays[f"{run}.hidden"][layer + 1]
        named[f"layers.{layer}.attention_residual"] = arrays[f"{run}.attn_hidden"][layer]
        named[f"layers.{layer}.router_logits"] = arrays[f"{run}.router_logits"][layer]
        named[f"layers.{layer}.router_indices"] = arrays[f"{run}.router_idx"][layer]
    return named


def check_f32(actual, expected, relative_error):
    for name, value in expected.items():
        if name.endswith(HIDDEN):
            assert relative_error(actual[name], value) < F32_TOLERANCE, name
        if name.endswith("router_indices"):
            logits = np.sort(expected[name.replace("indices", "logits")].astype(np.float64), axis=-1)[:, ::-1]
            k = value.shape[-1]
            is_clear = (logits[:, :k] - logits[:, 1 : k + 1]).min(axis=-1) >= MARGIN
            assert is_clear.mean() > 0.9, "nearly every token must be decided"
            np.testing.assert_array_equal(actual[name][is_clear], value[is_clear], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "experts", "moe"),  # every pair of two of them
    [
        ("tiny", "mxfp4", "gathered"),
        ("tiny", "decoded", "tiled"),
        ("tiny-sharded", "mxfp4", "tiled"),
        ("tiny-sharded", "decoded", "gathered"),
    ],
)
def test_f32_is_the_official_f32_on_every_hidden_state(reference, folder, experts, moe, relative_error):
    checkpoint, arrays = open_checkpoint(reference / folder), golden(reference / f"{folder}.golden.safetensors")
    expected = reference_trace(arrays, "openai.f32", checkpoint.config.num_hidden_layers)
    actual = trace(checkpoint, arrays["tokens"], dtype=jnp.float32, experts=experts, moe=moe)
    check_f32(actual, expected, relative_error)


@pytest.mark.numbers
@pytest.mark.parametrize(("folder", "experts"), [("tiny", "mxfp4"), ("tiny-sharded", "decoded")])
def test_f32_of_scanned_layers_is_the_official_f32(reference, folder, experts, relative_error):
    """Of the first two layers: the reference has three, which are no pairs."""
    checkpoint, arrays = open_checkpoint(reference / folder), golden(reference / f"{folder}.golden.safetensors")
    expected = reference_trace(arrays, "openai.f32", 2)
    del expected["final_norm"], expected["logits"]  # of all three layers
    options = {"dtype": jnp.float32, "experts": experts, "scan_layers": True}
    check_f32(trace(trimmed(checkpoint, layers=2), arrays["tokens"], **options), expected, relative_error)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["tiny", "tiny-sharded"])
def test_bf16_is_as_near_to_the_truth_as_the_official_bf16(reference, folder, relative_error):
    checkpoint, arrays = open_checkpoint(reference / folder), golden(reference / f"{folder}.golden.safetensors")
    layers = checkpoint.config.num_hidden_layers
    truth, official = (reference_trace(arrays, run, layers) for run in ("spec.f64", "openai.bf16"))
    actual = trace(checkpoint, arrays["tokens"], dtype=jnp.bfloat16)
    for name in truth:
        if name.endswith(HIDDEN) and name != "embedding":
            ours, theirs = (relative_error(run[name], truth[name]) for run in (actual, official))
            assert ours < BF16_RATIO * theirs, name


@pytest.mark.parametrize("scan_layers", [False, True])
def test_demo_in_f32_is_the_official_f32(scan_layers, relative_error):
    expected = golden(demo_golden_path("float32"))
    actual = trace(demo_checkpoint(), expected["tokens"], dtype=jnp.float32, scan_layers=scan_layers)
    assert set(actual) == set(expected)
    check_f32(actual, expected, relative_error)


@pytest.mark.numbers
@pytest.mark.parametrize("scan_layers", [False, True])
def test_demo_in_bf16_is_as_near_to_f32_as_the_official_bf16(scan_layers, relative_error):
    truth, official = golden(demo_golden_path("float32")), golden(demo_golden_path("bfloat16"))
    actual = trace(demo_checkpoint(), official["tokens"], dtype=jnp.bfloat16, scan_layers=scan_layers)
    ours, theirs = (relative_error(run["logits"], truth["logits"]) for run in (actual, official))
    assert ours < BF16_RATIO * theirs


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_both_layouts_give_the_same_bits(tmp_path, dtype):
    """In every array of the model, from which alone it computes."""
    models = []
    for layout in ("openai", "hf"):
        folder = write_tiny_checkpoint(
            tmp_path / layout, format=layout, seed=4, max_shard_bytes=100_000, num_hidden_layers=2
        )
        models.append(load_model(open_checkpoint(folder), dtype=dtype))
    assert jax.tree.structure(models[0]) == jax.tree.structure(models[1])
    assert len(jax.tree.leaves(models[0])) >= len(canonical_names(models[0]))
    for ours, theirs in zip(*map(jax.tree.leaves, models), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


@pytest.mark.numbers
def test_packed_and_decoded_experts_give_the_same_but_for_the_order_of_sums(tiny, relative_error):
    packed, decoded = (
        trace(tiny, range(30), dtype=jnp.float32, experts=form, moe="tiled") for form in ("mxfp4", "decoded")
    )
    check_f32(packed, decoded, relative_error)


@pytest.mark.numbers
def test_bf16_parameters_of_a_bf16_checkpoint_lose_nothing_in_f32(tiny, relative_error):
    narrow, wide = (trace(tiny, range(30), dtype=jnp.float32, param_dtype=stored) for stored in (jnp.bfloat16, None))
    for name, value in wide.items():
        assert narrow[name].dtype == value.dtype, name
        assert relative_error(narrow[name], value) < F32_TOLERANCE, name


@pytest.mark.numbers
def test_f32_parameters_are_rounded_where_bf16_uses_them(tiny):
    """Values that bf16 does not hold, in all but the scales of the norms: used as if they had been loaded in bf16."""
    model, rounded = (load_model(tiny, dtype=jnp.bfloat16, experts="decoded", param_dtype=jnp.float32) for _ in "ab")
    for name, view in canonical_names(model).items():
        if "norm" not in name:
            view.variable[...] = view.variable[...] * 1.001
            canonical_names(rounded)[name].variable[...] = view.variable[...].astype(jnp.bfloat16)
    tokens, names = np.arange(30)[None], probe_specs(tiny.config, 1)
    actual, expected = (each(tokens, probes=names).probes for each in (model, rounded))
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        np.testing.assert_array_equal(np.asarray(actual[name], np.float32), np.asarray(value, np.float32), err_msg=name)


def test_gradients_have_the_dtype_of_the_parameters(tiny):
    model = load_model(tiny, dtype=jnp.bfloat16, experts="decoded", param_dtype=jnp.float32)
    shapes = jax.eval_shape(jax.grad(lambda model: model(np.arange(5)[None]).logits.astype(jnp.float32).sum()), model)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}


@pytest.mark.numbers
def test_bf16_logits_do_not_depend_on_the_probes_that_are_returned(tiny):
    model, tokens = load_model(tiny, dtype=jnp.bfloat16), np.arange(40)[None]
    bare, probed = model(tokens), model(tokens, probes=probe_specs(tiny.config, 1, block_debug=True))
    np.testing.assert_array_equal(np.asarray(bare.logits, np.float32), np.asarray(probed.logits, np.float32))


@pytest.mark.numbers
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_real_token_and_is_never_nan(tiny, side, relative_error):
    model = load_model(tiny, dtype=jnp.float32)
    rng = np.random.default_rng(0)
    lengths, T = (30, 7, 19), 30
    mask = np.stack([np.arange(T) >= T - n if side == "left" else np.arange(T) < n for n in lengths])
    tokens = np.where(mask, rng.integers(0, 211, mask.shape), -5)
    output = model(tokens, mask=mask, probes=["final_norm"])
    assert np.isfinite(output.logits).all()
    for row in range(len(lengths)):
        alone = model(tokens[row][mask[row]][None]).logits[0]
        assert relative_error(output.logits[row][mask[row]], alone) < F32_TOLERANCE
    other = np.where(mask, tokens, 17)
    np.testing.assert_array_equal(model(other, mask=mask).logits[mask], output.logits[mask])


@pytest.mark.numbers
@pytest.mark.parametrize(
    "overrides",
    [
        {"num_hidden_layers": 1, "rope_scaling_factor": 1.0},
        {"sliding_window": 1, "experts_per_token": 7},
        {"experts_per_token": 1, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 20},
    ],
    ids=str,
)
def test_odd_geometries_run_with_every_shape_as_stated(overrides):
    checkpoint = random_checkpoint(tiny_config(**{"num_hidden_layers": 2} | overrides), seed=0)
    model = load_model(checkpoint, dtype=jnp.float32)
    for B, T in ((1, 1), (2, 13)):
        specs = probe_specs(checkpoint.config, T, block_debug=True)
        output = model(np.ones((B, T), int), probes=specs)
        shapes = {name: array.shape for name, array in output.probes.items()}
        assert shapes == {name: (B, *spec.shape) for name, spec in specs.items()}
        assert np.isfinite(output.logits).all()


def test_equal_calls_compile_once(tiny, monkeypatch):
    traces = []
    monkeypatch.setattr("gptoss_model.ops.rms_norm", lambda *a, **k: traces.append(1) or rms_norm(*a, **k))
    model = load_model(random_checkpoint(tiny_config(vocab_size=61, num_hidden_layers=1), seed=0))
    tokens = np.ones((2, 5), int)
    model(tokens, probes=["logits", "embedding"])
    once = len(traces)
    for _ in range(3):
        model(tokens + 1, probes={"embedding", "logits"}, mask=np.eye(2, 5) == 1)
    load_model(random_checkpoint(tiny_config(vocab_size=61, num_hidden_layers=1), seed=1))(
        tokens, probes=["embedding", "logits"]
    )
    assert len(traces) == once > 0
    model(tokens)
    assert len(traces) == 2 * once, "another set of probes is another program"


def test_logits_are_those_of_the_caller_s_own_jit(tiny, relative_error):
    model = load_model(tiny, dtype=jnp.float32)
    tokens = jnp.arange(12)[None]
    inside = jax.jit(lambda model, tokens: model(tokens).logits)(model, tokens)
    assert relative_error(inside, model(tokens).logits) < F32_TOLERANCE


def test_unknown_probe_and_wrong_ids_are_refused(tiny):
    model = load_model(tiny)
    with pytest.raises(ValueError, match="has no probe 'logit'; did you mean 'logits'"):
        model(np.ones((1, 3), int), probes=["logit"])
    with pytest.raises(ValueError, match="token id 211 at"):
        model(np.array([[1, 211]]))
