"""The main claims: exact against the official code's goldens, and the same however the tokens come."""

import numpy as np
import pytest
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_weights import Checkpoint, GptOssWarning, Mxfp4Tensor, open_checkpoint, probe_specs, random_checkpoint
from gptoss_weights.demo import demo_checkpoint, demo_golden_path
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

TOLERANCE = 2e-6  # relative L2, f32 against f32: the project's limit against the official code
LENGTHS = (1, 44, 7, 23)  # of a padded batch
LARGE_ENOUGH_TO_ROUND = tiny_config(head_dim=32, hidden_size=160, intermediate_size=96)


def test_every_probe_of_the_demo_is_the_official_codes(tmp_path, read_safetensors, expect_probes):
    checkpoint = demo_checkpoint()
    golden = read_safetensors(demo_golden_path("float32"))
    folder = export_onnx(checkpoint, tmp_path / "onnx", probes=probe_specs(checkpoint.config, 1, block_debug=True))
    expect_probes(OnnxModel.open(folder).trace(golden["tokens"]), golden, tolerance=TOLERANCE)


@pytest.mark.parametrize("layout", [".", "original"])
@pytest.mark.parametrize("name", ["tiny", "tiny-sharded"])
def test_every_hidden_state_is_the_reference_goldens(name, layout, reference, tmp_path, read_safetensors, relative_l2):
    checkpoint = open_checkpoint(reference / name / layout)
    golden = read_safetensors(reference / f"{name}.golden.safetensors")
    folder = export_onnx(checkpoint, tmp_path / "onnx", probes=probe_specs(checkpoint.config, 1, block_debug=True))
    found = OnnxModel.open(folder).trace(golden["tokens"])
    expected = {"embedding": golden["openai.f32.hidden"][0], "final_norm": golden["openai.f32.final_norm"]}
    expected["logits"] = golden["openai.f32.logits"]
    for layer in range(checkpoint.config.num_hidden_layers):
        expected[f"layers.{layer}.output"] = golden["openai.f32.hidden"][layer + 1]
        expected[f"layers.{layer}.attention_residual"] = golden["openai.f32.attn_hidden"][layer]
        is_clear = golden["spec.f64.router_margin"][layer] >= 1e-5
        chosen = found[f"layers.{layer}.router_indices"] == golden["openai.f32.router_idx"][layer]
        assert chosen[is_clear].all()
    assert {name: d for name, array in expected.items() if (d := relative_l2(found[name], array)) > TOLERANCE} == {}


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"experts_per_token": 1},
        {"experts_per_token": 7},
        {"num_hidden_layers": 1},
        {"sliding_window": 1},
        {"sliding_window": 2},
        {"sliding_window": 500},
        {"num_attention_heads": 5},
        {"num_key_value_heads": 1},
        {"rope_scaling_factor": 1.0},
        {"swiglu_limit": 0.3},
    ],
    ids=str,
)
def test_every_probe_of_any_geometry_is_the_specifications(geometry, tmp_path, specification, expect_probes):
    checkpoint = random_checkpoint(tiny_config(**geometry), seed=3)
    folder = export_onnx(checkpoint, tmp_path / "onnx", probes=probe_specs(checkpoint.config, 1, block_debug=True))
    model = OnnxModel.open(folder, threads=1)
    for length in (1, 40):
        tokens = np.random.default_rng(length).integers(0, checkpoint.config.vocab_size, length)
        expect_probes(model.trace(tokens), specification(checkpoint).probes(tokens), tolerance=TOLERANCE)


def test_every_probe_of_every_kind_of_export_is_the_specifications(kind, specification, expect_probes):
    for length in (1, 40):
        tokens = np.random.default_rng(length).integers(0, kind.checkpoint.config.vocab_size, length)
        expect_probes(kind.model.trace(tokens), specification(kind.checkpoint).probes(tokens), tolerance=TOLERANCE)


def test_turbo_is_exact_where_rounding_gains_nothing(fast_runtime, tmp_path, tokens):
    folder = export_onnx(random_checkpoint(tiny_config(head_dim=32), seed=1), tmp_path / "onnx", profile="fast")
    exact, turbo = (OnnxModel.open(folder, threads=1, mode=mode).forward([tokens]) for mode in ("exact", "turbo"))
    assert (turbo == exact).all()


def test_turbo_rounds_activations_and_stays_near(fast_runtime, tmp_path, relative_l2):
    same = []
    for seed in range(3):
        checkpoint = random_checkpoint(LARGE_ENOUGH_TO_ROUND, seed=seed)
        folder = export_onnx(checkpoint, tmp_path / str(seed), profile="fast")
        tokens = np.random.default_rng(seed).integers(0, checkpoint.config.vocab_size, (1, 200))
        exact, turbo = (OnnxModel.open(folder, threads=1, mode=mode).forward(tokens) for mode in ("exact", "turbo"))
        assert 1e-4 < relative_l2(turbo, exact) <= 0.1
        same.append((turbo.argmax(-1) == exact.argmax(-1)).mean())
    assert np.mean(same) >= 0.95


def test_query_key_and_value_are_told_apart_where_one_matrix_makes_them(fast_runtime, tmp_path, tokens, relative_l2):
    checkpoint = random_checkpoint(tiny_config(head_dim=32), seed=1)
    probes = [f"layers.0.{part}" for part in ("query", "key", "value")]
    expected = OnnxModel.open(export_onnx(checkpoint, tmp_path / "exact", probes=probes)).trace(tokens)
    folder = export_onnx(checkpoint, tmp_path / "rounded", profile="fast", dense="int8", probes=probes)
    found = OnnxModel.open(folder, threads=1, mode="turbo").trace(tokens)
    for probe in probes:
        assert found[probe].shape == expected[probe].shape
        assert 1e-4 < relative_l2(found[probe], expected[probe]) <= 0.03


def test_rounding_the_dense_matrices_costs_more_the_fewer_bits(fast_runtime, tmp_path, relative_l2):
    checkpoint = random_checkpoint(LARGE_ENOUGH_TO_ROUND, seed=1)
    tokens = np.random.default_rng(1).integers(0, checkpoint.config.vocab_size, (1, 200))
    expected = OnnxModel.open(export_onnx(checkpoint, tmp_path / "exact")).forward(tokens)
    errors = []
    for dense in ("float32", "int8", "int4"):
        folder = export_onnx(checkpoint, tmp_path / dense, profile="fast", dense=dense)
        errors.append(relative_l2(OnnxModel.open(folder, threads=1, mode="turbo").forward(tokens), expected))
    assert 1e-4 < errors[0] < errors[1] <= 0.15
    assert 2 * errors[1] < errors[2] <= 0.5


def test_tokens_past_the_positions_that_the_config_is_meant_for_are_computed_as_everywhere_else(
    tmp_path, specification, relative_l2
):
    checkpoint = random_checkpoint(tiny_config(initial_context_length=16, rope_scaling_factor=1.0), seed=3)
    model = OnnxModel.open(export_onnx(checkpoint, tmp_path / "onnx"), threads=1)
    assert model.config.max_position_embeddings == 16
    tokens = np.arange(40)
    expected = specification(checkpoint).probes(tokens)["logits"]
    assert relative_l2(model.forward([tokens])[0], expected) <= TOLERANCE
    with pytest.warns(GptOssWarning, match="can reach 43 tokens, but the checkpoint is meant for at most 16"):
        continued = model.generate([tokens[:15], tokens], max_new_tokens=3)
    assert continued[1][0] == expected[-1].argmax()


def test_a_single_expert_needs_no_router(tmp_path, specification, relative_l2):
    checkpoint = random_checkpoint(tiny_config(num_experts=1, experts_per_token=1), seed=3)
    model = OnnxModel.open(export_onnx(checkpoint, tmp_path / "onnx"))
    tokens = np.arange(40)
    assert relative_l2(model.forward([tokens])[0], specification(checkpoint).probes(tokens)["logits"]) <= TOLERANCE


class DecodedExperts(Checkpoint):
    """A checkpoint whose experts are bf16 matrices, as those of fine-tuned models often are."""

    format = "decoded"

    def __init__(self, packed: Checkpoint) -> None:
        self.config, self.side_files, self._packed = packed.config, packed.side_files, packed

    def read(self, name, index=()):
        tensor = self._packed.read(name, index)
        return tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor


def test_experts_that_are_not_packed_give_the_same(tmp_path, tokens, relative_l2):
    packed = random_checkpoint(tiny_config(), seed=1)
    logits = [
        OnnxModel.open(export_onnx(source, tmp_path / source.format)).forward(tokens[None])
        for source in (packed, DecodedExperts(packed))
    ]
    assert relative_l2(logits[1], logits[0]) <= TOLERANCE


def test_both_layouts_give_the_same_bits(tmp_path, tokens):
    traces = []
    for layout, shard_bytes in (("openai", None), ("hf", 50_000)):
        folder = write_tiny_checkpoint(tmp_path / layout, format=layout, seed=1, max_shard_bytes=shard_bytes)
        checkpoint = open_checkpoint(folder)
        export_onnx(checkpoint, folder, probes=probe_specs(checkpoint.config, 1, block_debug=True))
        traces.append(OnnxModel.open(folder).trace(tokens))
    assert traces[0].keys() == traces[1].keys()
    assert all((traces[0][name] == traces[1][name]).all() for name in traces[0])


def test_token_by_token_is_the_full_forward_pass(any_model, tokens, relative_l2):
    cache, steps = any_model.init_cache(1), []
    for token in tokens:
        logits, cache = any_model.decode_step(cache, [token])
        steps.append(logits[0])
    assert relative_l2(np.stack(steps), any_model.forward(tokens[None])[0]) <= TOLERANCE


@pytest.mark.parametrize("lengths", [(7, 1, 13, 3, 20), (43, 1), (1, 43), (22, 22)], ids=str)
def test_chunks_onto_a_cache_are_the_full_forward_pass(lengths, any_model, tokens, relative_l2):
    full, cache, start = any_model.forward(tokens[None])[0], any_model.init_cache(1), 0
    assert sum(lengths) == len(tokens)
    for length in lengths:
        logits, cache = any_model.prefill(cache, tokens[None, start : start + length])
        start += length
        assert relative_l2(logits[0], full[start - 1]) <= TOLERANCE


def test_long_inputs_are_cut_into_chunks_without_a_trace_of_it(model, tokens, monkeypatch, expect_probes):
    whole = model.trace(tokens)
    monkeypatch.setattr("gptoss_onnx.runtime.CHUNK_TOKENS", 5)
    expect_probes(model.trace(tokens), whole, tolerance=TOLERANCE)
    logits, cache = model.prefill(model.init_cache(1), tokens[None])
    assert cache.lengths.tolist() == [len(tokens)]
    expect_probes({"logits": logits[0]}, {"logits": whole["logits"][-1]}, tolerance=TOLERANCE)


def padded(side: str, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The batch of the first LENGTHS[i] tokens each, and its mask."""
    width, generator = len(tokens), np.random.default_rng(0)
    mask = np.zeros((len(LENGTHS), width), bool)
    batch = np.full(mask.shape, -1)
    for row, length in enumerate(LENGTHS):
        places = {
            "left": np.arange(width - length, width),
            "right": np.arange(length),
            "anywhere": np.sort(generator.choice(width, length, replace=False)),
        }[side]
        mask[row, places] = True
        batch[row, places] = tokens[:length]
    return batch, mask


@pytest.mark.parametrize("side", ["left", "right", "anywhere"])
def test_a_padded_batch_computes_each_sequence_as_alone(side, any_model, tokens, relative_l2):
    batch, mask = padded(side, tokens)
    logits = any_model.forward(batch, mask)
    full = any_model.forward(tokens[None])[0]
    assert np.isfinite(logits).all()
    for row, length in enumerate(LENGTHS):
        assert relative_l2(logits[row, mask[row]], full[:length]) <= TOLERANCE


@pytest.mark.parametrize("chunk", [512, 6])
@pytest.mark.parametrize("side", ["left", "right", "anywhere"])
def test_decoding_goes_on_from_a_padded_prefill(side, chunk, any_model, tokens, relative_l2, monkeypatch):
    monkeypatch.setattr("gptoss_onnx.runtime.CHUNK_TOKENS", chunk)
    batch, mask = padded(side, tokens)
    steps = np.random.default_rng(1).integers(0, any_model.config.vocab_size, 2 * any_model.config.sliding_window)
    logits, cache = any_model.prefill(any_model.init_cache(len(LENGTHS)), batch, mask)
    found = [logits]
    for token in steps:
        logits, cache = any_model.decode_step(cache, np.full(len(LENGTHS), token))
        found.append(logits)
    for row, length in enumerate(LENGTHS):
        full = any_model.forward([[*tokens[:length], *steps]])[0, length - 1 :]
        assert relative_l2(np.stack(found)[:, row], full) <= TOLERANCE


def test_a_sequence_that_rests_is_not_disturbed(any_model, tokens, relative_l2):
    _, cache = any_model.prefill(any_model.init_cache(2), np.stack([tokens, tokens])[:, :20])
    for step in range(5):
        _, cache = any_model.decode_step(cache, tokens[[20 + step, 0]], is_active=[True, False])
    assert cache.lengths.tolist() == [25, 20]
    logits, _ = any_model.decode_step(cache, tokens[[25, 20]])
    full = any_model.forward(tokens[None])[0]
    assert relative_l2(logits, full[[25, 20]]) <= TOLERANCE


def test_a_sequence_that_is_alone_may_rest(any_model, tokens, relative_l2):
    _, cache = any_model.prefill(any_model.init_cache(1), tokens[None, :20])
    _, cache = any_model.decode_step(cache, tokens[:1], is_active=[False])
    assert cache.lengths.tolist() == [20]
    logits, _ = any_model.decode_step(cache, tokens[20:21])
    assert relative_l2(logits, any_model.forward(tokens[None, :21])[0, 20:]) <= TOLERANCE


def test_a_step_returns_logits_that_the_next_one_leaves_alone(any_model, tokens):
    _, cache = any_model.prefill(any_model.init_cache(1), tokens[None, :20])
    first, cache = any_model.decode_step(cache, tokens[20:21])
    copy = first.copy()
    any_model.decode_step(cache, tokens[21:22])
    assert (first == copy).all()


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "head_dim"), [("portable", 18), ("fast", 16)])
def test_past_the_original_context_prefill_and_decode_agree_with_the_specification(
    request, profile, head_dim, tmp_path, specification, relative_l2
):
    if profile == "fast":
        request.getfixturevalue("fast_runtime")
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 64, "head_dim": head_dim}
    config = tiny_config(num_hidden_layers=2, **sizes)
    checkpoint = random_checkpoint(config, seed=4)
    model = OnnxModel.open(export_onnx(checkpoint, tmp_path / "onnx", profile=profile))
    tokens = np.random.default_rng(4).integers(0, config.vocab_size, 4200)
    assert len(tokens) > config.initial_context_length
    expected = specification(checkpoint).probes(tokens)["logits"]
    assert relative_l2(model.forward(tokens[None])[0], expected) <= TOLERANCE
    _, cache = model.prefill(model.init_cache(1), tokens[None, :-8])
    steps = []
    for token in tokens[-8:]:
        logits, cache = model.decode_step(cache, [token])
        steps.append(logits[0])
    assert relative_l2(np.stack(steps), expected[-8:]) <= TOLERANCE


def test_a_trace_has_the_probes_of_the_export_and_no_others(checkpoint, tokens, tmp_path):
    folder = export_onnx(checkpoint, tmp_path / "onnx", probes=["layers.1.output", "logits"])
    assert list(OnnxModel.open(folder).trace(tokens)) == ["tokens", "layers.1.output", "logits"]
