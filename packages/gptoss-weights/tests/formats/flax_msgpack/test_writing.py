"""Writing bundles: the planned bytes, those of flax, and the same values back from either layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    GptOssConfig,
    Index,
    Mxfp4Tensor,
    encode_mxfp4,
    open_checkpoint,
    random_checkpoint,
    save_checkpoint,
)
from gptoss_weights.formats.flax_msgpack import (
    encoding,
    flax_bytes,
    flax_config_path,
    open_flax,
    plan_flax_file_sizes,
    write_flax,
    writing,
)
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
CHUNK_LIMITS = [2**30, 5000, 203]


class Requantized(Checkpoint):
    """Another checkpoint with its experts encoded as MXFP4."""

    format = "requantized"
    side_files: Mapping[str, Path] = MappingProxyType({})

    def __init__(self, source: Checkpoint) -> None:
        self.config = source.config
        self._source = source

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        array = self._source.read_array(name, index)
        return encode_mxfp4(array) if self.specs[name].is_expert_matrix else array


def values(checkpoint: Checkpoint, name: str) -> np.ndarray:
    tensor = checkpoint.read(name)
    return tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor


@pytest.mark.parametrize("limit", CHUNK_LIMITS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_bundle_has_the_bytes_that_were_planned_and_that_flax_would_write(
    dtype: Literal["bfloat16", "float32"], limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serialization = pytest.importorskip("flax.serialization", reason="the oracle, flax, is not installed")
    monkeypatch.setattr(encoding, "MAX_CHUNK_BYTES", limit)
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", limit)
    path = tmp_path / "tiny.msgpack"
    checkpoint = random_checkpoint(tiny_config(), seed=5)
    write_flax(checkpoint, path, dtype=dtype)
    content = path.read_bytes()
    tree = serialization.msgpack_restore(content)
    assert tree["block_3"]["attn"]["qkv"]["kernel"].dtype == dtype
    assert serialization.msgpack_serialize(tree) == content
    assert serialization.to_bytes(tree) == content


@pytest.mark.parametrize("limit", CHUNK_LIMITS)
def test_the_plan_tells_every_file_and_its_size(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MAX_CHUNK_BYTES", limit)
    path = tmp_path / "tiny.msgpack"
    checkpoint = random_checkpoint(tiny_config(), seed=5)
    write_flax(checkpoint, path, dtype="float32")
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes == plan_flax_file_sizes(checkpoint.config, path, dtype="float32")
    assert set(sizes) == {"tiny.msgpack", "tiny.config.json"}


@pytest.mark.parametrize(("stem", "dtype", "limit"), [("whole", "bfloat16", 2**30), ("cut", "float32", 1000)])
def test_a_bundle_of_flax_comes_back_in_its_own_bytes_but_for_the_order_of_keys(
    stem: str, dtype: Literal["bfloat16", "float32"], limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "MAX_CHUNK_BYTES", limit)
    original = DATA / f"{stem}.msgpack"
    again = b"".join(flax_bytes(open_flax(original, config=None), dtype=dtype))
    assert len(again) == original.stat().st_size
    assert sorted(again) == sorted(original.read_bytes())
    (tmp_path / "again.msgpack").write_bytes(again)
    reopened = open_flax(tmp_path / "again.msgpack", config=DATA / "whole.config.json")
    assert reopened.digest() == open_flax(original, config=None).digest()


@pytest.mark.parametrize("format", ["openai", "hf"])
def test_either_layout_comes_back_through_flax_with_the_same_values(
    format: Literal["openai", "hf"], tmp_path: Path
) -> None:
    source = open_checkpoint(write_tiny_checkpoint(tmp_path / "source", format=format, seed=9))
    write_flax(source, tmp_path / "bundle.msgpack")
    save_checkpoint(Requantized(open_flax(tmp_path / "bundle.msgpack", config=None)), tmp_path / "back", format=format)
    back = open_checkpoint(tmp_path / "back")
    assert back.config == source.config
    for name, spec in source.specs.items():
        assert values(back, name).tobytes() == values(source, name).tobytes(), name
        if not spec.is_expert_matrix:
            assert back.read_array(name).tobytes() == source.read_array(name).tobytes(), name


GEOMETRIES = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(1, 3),
        "num_experts": st.integers(1, 5),
        "experts_per_token": st.just(1),
        "vocab_size": st.integers(1, 70),
        "hidden_size": st.sampled_from([32, 64, 96]),
        "intermediate_size": st.sampled_from([32, 64]),
        "head_dim": st.sampled_from([2, 4, 6]),
        "num_key_value_heads": st.integers(1, 3),
        "num_attention_heads": st.sampled_from([6, 12]),
        "rope_scaling_factor": st.just(1.0),
    }
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(GEOMETRIES, st.sampled_from([2**30, 1000, 333]), st.integers(1, 3000), st.sampled_from(["bfloat16", "float32"]))
def test_any_geometry_comes_back_with_the_same_values_whatever_the_slices(
    numbers: dict[str, Any],
    limit: int,
    slice_bytes: int,
    dtype: Literal["bfloat16", "float32"],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    source = random_checkpoint(tiny_config(**numbers), seed=1)
    path = tmp_path_factory.mktemp("bundle") / "random.msgpack"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "MAX_CHUNK_BYTES", limit)
        patch.setattr(writing, "_SLICE_BYTES", slice_bytes)
        patch.setattr(writing, "_STRIPE_BYTES", 3 * slice_bytes)
        write_flax(source, path, dtype=dtype)
    opened = open_flax(path, config=None)
    assert opened.config == source.config
    for name in source:
        assert np.array_equal(opened.read_array(name), values(source, name).astype(dtype)), name


def test_the_size_of_slices_does_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=1), seed=2)
    content = b"".join(flax_bytes(checkpoint))
    monkeypatch.setattr(writing, "_SLICE_BYTES", 700)
    monkeypatch.setattr(writing, "_STRIPE_BYTES", 5000)
    chunks = [bytes(chunk) for chunk in flax_bytes(checkpoint)]
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) == 96 * 128 * 2, "an expert of gate_up_proj, which is never split"


def test_experts_may_be_arrays_as_well_as_packed() -> None:
    class Decoded(Requantized):
        def read(self, name: str, index: Index = ()) -> np.ndarray:
            tensor = self._source.read(name, index)
            return tensor.decode(np.float32) if isinstance(tensor, Mxfp4Tensor) else tensor.astype(np.float32)

    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=1), seed=2)
    for dtype in ("bfloat16", "float32"):
        decoded = b"".join(flax_bytes(Decoded(checkpoint), dtype=dtype))
        assert decoded == b"".join(flax_bytes(checkpoint, dtype=dtype))


def test_the_config_is_written_in_the_flat_dialect_and_read_back_as_it_was(tmp_path: Path) -> None:
    config = GptOssConfig.from_json(tiny_config().to_huggingface())
    write_flax(random_checkpoint(config, seed=0), tmp_path / "a.b.msgpack")
    document = json.loads((tmp_path / "a.b.config.json").read_text())
    assert document == tiny_config().to_openai()
    assert open_flax(tmp_path / "a.b.msgpack", config=None).config.to_openai() == document


def test_an_unknown_dtype_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    dtype: Any = "float16"
    with pytest.raises(ValueError, match="a Flax bundle is written in bfloat16 or float32, not 'float16'"):
        write_flax(checkpoint, tmp_path / "tiny.msgpack", dtype=dtype)
    with pytest.raises(ValueError, match="not 'float16'"):
        plan_flax_file_sizes(checkpoint.config, tmp_path / "tiny.msgpack", dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tiny_config(num_hidden_layers=1), seed=0)
    path = tmp_path / "tiny.msgpack"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_flax(checkpoint, path)
    assert path.read_bytes() == b"precious"


def test_a_packed_checkpoint_cannot_be_read_with_the_wrong_config(tmp_path: Path) -> None:
    path = tmp_path / "tiny.msgpack"
    write_flax(random_checkpoint(tiny_config(), seed=0), path)
    flax_config_path(path).write_text(json.dumps(tiny_config(hidden_size=128).to_openai()))
    with pytest.raises(CheckpointError, match="has the wrong shape"):
        open_flax(path, config=None)
