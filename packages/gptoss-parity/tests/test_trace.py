import json
import warnings

import ml_dtypes
import numpy as np
import pytest
from gptoss_parity import Trace, TraceMetadata, load_trace, save_trace
from gptoss_weights import CheckpointError, GptOssConfig, GptOssWarning, probe_specs
from safetensors.numpy import load_file, save_file

METADATA = TraceMetadata(source="test", dtype="float32")


def test_file_has_exactly_the_names_and_shapes_of_the_probes(trace, config, tmp_path):
    save_trace(trace, tmp_path / "trace.safetensors")
    found = {name: array.shape for name, array in load_file(tmp_path / "trace.safetensors").items()}
    assert found == {name: spec.shape for name, spec in probe_specs(config, len(trace.tokens)).items()}


def test_saved_trace_loads_with_the_same_arrays_and_metadata(trace, tmp_path):
    described = Trace(
        trace.tokens,
        trace.arrays,
        TraceMetadata(
            source="jax",
            dtype="bfloat16",
            checkpoint_digest="ab" * 32,
            config=trace.metadata.config,
            versions={"jax": "1", "numpy": "2"},
            options={"moe": "auto"},
            command="gptoss-parity record x --tokens '1,2'",
        ),
    )
    save_trace(described, tmp_path / "trace.safetensors")
    loaded = load_trace(tmp_path / "trace.safetensors")
    assert loaded.metadata == described.metadata
    assert loaded.tokens.tolist() == trace.tokens.tolist()
    assert list(loaded) == list(trace)
    for name in trace:
        np.testing.assert_array_equal(loaded[name], trace[name], strict=True)


def test_trace_holds_the_numbers_of_the_config_and_nothing_that_it_only_carries(trace, config, tmp_path):
    with pytest.warns(GptOssWarning, match="made_by"):
        carrying = GptOssConfig.from_json(config.to_openai() | {"made_by": "someone"})
    save_trace(
        Trace(trace.tokens, trace.arrays, TraceMetadata(source="t", dtype="float32", config=carrying)), tmp_path / "t"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_trace(tmp_path / "t").metadata.config == config


def test_equal_traces_are_equal_files(trace, tmp_path):
    reordered = Trace(trace.tokens, dict(reversed(trace.arrays.items())), trace.metadata)
    for name, content in (("a", trace), ("b", reordered)):
        save_trace(content, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saving_a_transposed_view_writes_its_values(tmp_path):
    logits = np.arange(12, dtype=np.float32).reshape(4, 3).T
    save_trace(Trace(np.arange(3), {"logits": logits}, METADATA), tmp_path / "t.safetensors")
    np.testing.assert_array_equal(load_trace(tmp_path / "t.safetensors")["logits"], logits)


def test_failed_save_leaves_the_old_file_and_no_other(trace, tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(np, "ascontiguousarray", lambda array: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_trace(trace, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_bfloat16_is_upcast_exactly():
    values = np.array([[1.0, 3.140625, -0.0, 1e-40]], ml_dtypes.bfloat16)
    stored = Trace(np.array([1]), {"logits": values}, METADATA)["logits"]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored.astype(ml_dtypes.bfloat16).view(np.uint16), values.view(np.uint16))


def test_bfloat16_file_of_another_program_loads(tmp_path):
    values = np.array([[1.0, -2.5]], ml_dtypes.bfloat16)
    header = {
        "tokens": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        "logits": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [8, 12]},
    }
    encoded = json.dumps(header).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + np.array([7]).tobytes() + values.tobytes())
    assert load_trace(path)["logits"].tolist() == [[1.0, -2.5]]


def test_file_without_metadata_is_a_float32_trace_of_unknown_origin(tmp_path):
    save_file({"tokens": np.array([1, 2], np.int32), "logits": np.zeros((2, 3), np.float32)}, tmp_path / "t")
    metadata = load_trace(tmp_path / "t").metadata
    assert (metadata.source, metadata.dtype, metadata.checkpoint_digest) == ("unknown", "float32", None)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"logits": np.zeros((2, 3), np.float32)}, "axis T contradicts tokens; expected 3; found 2"),
        (
            {"embedding": np.zeros((3, 4), np.float32), "final_norm": np.zeros((3, 5), np.float32)},
            "axis D contradicts embedding; expected 4; found 5",
        ),
        ({"logits": np.zeros((3, 3, 1), np.float32)}, r"wrong number of axes; expected 2 axes \[T,V\]"),
        ({"layers.0.router_indices": np.zeros((3, 2), np.float32)}, "wrong kind of number; expected integers"),
        ({"logits": np.zeros((3, 2), np.int32)}, "wrong kind of number; expected floating-point numbers"),
        ({"layers.0.made_up": np.zeros((3, 2), np.float32)}, "layers.0.made_up: no probe has this name"),
        ({"layers.00.output": np.zeros((3, 2), np.float32)}, "no probe has this name"),
    ],
)
def test_contradictory_file_is_refused(arrays, words, tmp_path):
    save_file({"tokens": np.arange(3), **arrays}, tmp_path / "t.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_trace(tmp_path / "t.safetensors")


def test_shape_that_contradicts_the_config_is_refused(config):
    with pytest.raises(CheckpointError, match="logits: axis V contradicts the config"):
        Trace(
            np.arange(2),
            {"logits": np.zeros((2, config.vocab_size + 1), np.float32)},
            TraceMetadata(source="test", dtype="float32", config=config),
        )


@pytest.mark.parametrize("content", [b"", b"<!doctype html><html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_file_that_is_no_safetensors_file_is_refused(content, tmp_path):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_trace(tmp_path / "t")


def test_truncated_file_is_refused(trace, tmp_path):
    save_trace(trace, tmp_path / "t")
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_trace(tmp_path / "t")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: there is no such trace file"):
        load_trace(tmp_path / "absent.safetensors")


def test_file_without_tokens_is_refused(tmp_path):
    save_file({"logits": np.zeros((2, 3), np.float32)}, tmp_path / "t")
    with pytest.raises(CheckpointError, match="does not say which tokens"):
        load_trace(tmp_path / "t")


@pytest.mark.parametrize("tokens", [np.zeros((2, 2), int), np.zeros(0, int), np.zeros(3)])
def test_tokens_must_be_one_row_of_integers(tokens):
    with pytest.raises(CheckpointError, match="not one row of at least one integer"):
        Trace(tokens, {}, METADATA)


def test_metadata_that_is_no_json_is_refused(tmp_path):
    save_file({"tokens": np.arange(3)}, tmp_path / "t", metadata={"versions": "{"})
    with pytest.raises(CheckpointError, match="metadata 'versions' is not valid JSON"):
        load_trace(tmp_path / "t")
