"""Any chain of conversions comes back: byte for byte where MXFP4 is kept, value for value through plain experts."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gptoss_weights import (
    FORMAT_NAMES,
    Checkpoint,
    CheckpointError,
    Mxfp4Tensor,
    StoredMxfp4,
    convert_checkpoint,
    open_checkpoint,
    plan_conversion,
    random_checkpoint,
    save_checkpoint,
    trimmed,
)
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorstore", reason="the extra orbax is not installed")

PACKED = ("openai", "hf")
GEOMETRIES = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.sampled_from([2, 4]),  # orbax-scanned wants pairs
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


def path_of(folder: Path, name: str, format_name: str) -> Path:
    return folder / (f"{name}.msgpack" if format_name == "flax" else name)


def convert(source: Path, target: Path, format_name: Any, **options: Any) -> Path:
    convert_checkpoint(open_checkpoint(source), target, format=format_name, **options)
    return target


def values(checkpoint: Checkpoint, name: str) -> np.ndarray:
    tensor = checkpoint.read(name)
    return tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor


def assert_same_values(one: Checkpoint, other: Checkpoint) -> None:
    assert one.config == other.config
    for name in one:
        assert values(one, name).tobytes() == values(other, name).tobytes(), name


def weight_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".safetensors"}


@settings(max_examples=25)
@given(
    numbers=GEOMETRIES,
    start=st.sampled_from(PACKED),
    chain=st.lists(st.sampled_from(FORMAT_NAMES), min_size=1, max_size=4),
    max_shard_bytes=st.none() | st.integers(1, 100_000),
)
def test_any_chain_of_conversions_comes_back(
    numbers: dict[str, int], start: Any, chain: list[Any], max_shard_bytes: int | None
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        first = folder / "first"
        source = random_checkpoint(tiny_config(**numbers), seed=1)
        save_checkpoint(source, first, format=start, max_shard_bytes=max_shard_bytes)
        place = first
        for step, format_name in enumerate(chain):
            place = convert(place, path_of(folder, str(step), format_name), format_name)
        back = convert(place, folder / "back", start, max_shard_bytes=max_shard_bytes)
        assert_same_values(open_checkpoint(back), source)
        if set(chain) <= set(PACKED):
            assert weight_files(back) == weight_files(first)
            again = convert(convert(back, folder / "x", "hf-bf16"), folder / "again", start)
            assert_same_values(open_checkpoint(again), source)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("through", ["hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"])
def test_from_any_format_to_any_other_gives_the_same_bytes_as_at_once(through: Any, tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", format="openai", num_hidden_layers=2)
    direct = convert(source, tmp_path / "direct", "hf-bf16")
    detour = convert(convert(source, path_of(tmp_path, "way", through), through), tmp_path / "detour", "hf-bf16")
    assert weight_files(detour) == weight_files(direct)


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_files_are_as_large_as_was_planned(format_name: Any, tmp_path: Path) -> None:
    source = open_checkpoint(write_tiny_checkpoint(tmp_path / "source", format="hf"))
    target = path_of(tmp_path, "out", format_name)
    plan = plan_conversion(source, target, format=format_name)
    assert not target.exists()
    done = convert_checkpoint(source, target, format=format_name)
    assert plan == done
    found = target.parent if format_name == "flax" else target
    sizes = {
        name: sum(path.stat().st_size for path in [found / name, *(found / name).rglob("*")] if path.is_file())
        for name in plan.files
    }
    if format_name.startswith("orbax"):  # of each array its chunks were planned, beside them lies its zarr.json
        sizes |= {
            name: size - (found / name / "zarr.json").stat().st_size
            for name, size in sizes.items()
            if (found / name).is_dir()
        }
    assert sizes == plan.files
    assert open_checkpoint(target).format == format_name


@pytest.mark.parametrize("format_name", FORMAT_NAMES)
def test_what_travels_along_arrives(format_name: Any, tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", format="hf")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE"):
        (source / name).write_text(name)
    (tmp_path / "new").mkdir()
    convert(source, path_of(tmp_path / "new", "out", format_name), format_name)
    back = convert(path_of(tmp_path / "new", "out", format_name), tmp_path / "back", "hf")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE"):
        assert (back / name).read_text() == name


def test_a_bundle_beside_another_checkpoints_tokenizer_is_refused(tmp_path: Path) -> None:
    """It would be read with that one."""
    source = write_tiny_checkpoint(tmp_path / "source", format="hf")
    (source / "tokenizer.json").write_text("theirs")
    (tmp_path / "tokenizer.json").write_text("mine")
    with pytest.raises(CheckpointError, match=r"another checkpoint's tokenizer\.json stands beside the target"):
        convert(source, tmp_path / "out.msgpack", "flax")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "tokenizer.json"}
    (tmp_path / "tokenizer.json").write_text("theirs")
    convert(source, tmp_path / "out.msgpack", "flax")


def test_an_overflowing_scale_is_refused_where_it_would_be_decoded(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", format="openai")
    stored = open_checkpoint(source).stored("model.layers.1.mlp.experts.down_proj")
    assert isinstance(stored, StoredMxfp4)
    with stored.scales.path.open("r+b") as file:
        file.seek(stored.scales.offset + 3)
        file.write(b"\xff")
    (source / "manifest.json").unlink()  # which would tell first
    for format_name in ("hf-bf16", "flax", "orbax-unscanned"):
        with pytest.raises(CheckpointError, match=r"down_proj: decoded values are not finite; .*found 255"):
            convert(source, path_of(tmp_path, "out", format_name), format_name)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("format_name", ["openai", "hf", "hf-bf16"])
def test_trimmed_on_the_way_is_trimmed_before(format_name: Any, tmp_path: Path) -> None:
    source = open_checkpoint(write_tiny_checkpoint(tmp_path / "source", format="openai"))
    convert_checkpoint(source, tmp_path / "out", format=format_name, layers=3, experts=4)
    assert_same_values(open_checkpoint(tmp_path / "out"), trimmed(source, layers=3, experts=4))


def test_hf_bf16_config_comes_back_as_it_was(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "source", format="hf")
    back = convert(convert(source, tmp_path / "plain", "hf-bf16"), tmp_path / "back", "hf")
    assert (back / "config.json").read_text() == (source / "config.json").read_text()
    assert "quantization_config" not in (tmp_path / "plain" / "config.json").read_text()


@pytest.mark.parametrize(
    ("format_name", "options", "words"),
    [
        ("openai", {"dtype": "float32"}, "openai holds plain arrays in bfloat16, not float32"),
        ("flax", {"dtype": "float16"}, "a Flax bundle is written in bfloat16 or float32, not 'float16'"),
        ("orbax-scanned", {"dtype": "float16"}, "orbax-scanned holds arrays in bfloat16 or float32, not float16"),
        ("flax", {"max_shard_bytes": 5}, "a Flax bundle is one file; it has no shards to limit"),
        ("orbax-unscanned", {"max_shard_bytes": 5}, "it has no shards to limit"),
        ("hf", {"max_shard_bytes": 0}, "max_shard_bytes must be positive, not 0"),
        ("hf", {"dtype": "int8"}, "checkpoints are written in bfloat16, float16, float32, not int8"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(
    format_name: Any, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    with pytest.raises(ValueError, match=words):
        convert_checkpoint(checkpoint, path_of(tmp_path, "out", format_name), format=format_name, **options)
    assert list(tmp_path.iterdir()) == []


def test_bundle_without_its_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out: the target of flax is a file that ends with \.msgpack"):
        save_checkpoint(random_checkpoint(tiny_config(), seed=0), tmp_path / "out", format="flax")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_dtypes_are_written_where_the_format_has_them(dtype: Any, tmp_path: Path) -> None:
    source = random_checkpoint(tiny_config(), seed=0)
    convert_checkpoint(source, tmp_path / "out", format="hf-bf16", dtype=dtype)
    opened = open_checkpoint(tmp_path / "out")
    assert {opened.array_dtype(name) for name in opened} == {np.dtype(dtype)}
    back = convert(tmp_path / "out", tmp_path / "back", "openai")
    if dtype == "float32":
        assert_same_values(open_checkpoint(back), source)
