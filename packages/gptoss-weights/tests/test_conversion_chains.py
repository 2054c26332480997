"""Chains of conversions from checkpoints that no training gives: any bits, any shards, any names of them."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gptoss_weights import (
    FORMAT_NAMES,
    Checkpoint,
    Mxfp4Tensor,
    convert_checkpoint,
    open_checkpoint,
    random_checkpoint,
    save_checkpoint,
)
from gptoss_weights.mxfp4 import LARGEST_EXACT_SCALE
from gptoss_weights.testing import tiny_config
from gptoss_weights.views.base import View
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorstore", reason="the extra orbax is not installed")

PACKED = ("openai", "hf")
SIDE_FILES = {"tokenizer.json": "{}", "chat_template.jinja": "{{ messages }}", "LICENSE": "Apache"}
INDEX = "model.safetensors.index.json"
GEOMETRIES = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.sampled_from([2, 4]),  # orbax-scanned wants pairs
        "num_experts": st.integers(1, 4),
        "experts_per_token": st.just(1),
        "vocab_size": st.integers(1, 40),
        "hidden_size": st.sampled_from([32, 64]),
        "intermediate_size": st.sampled_from([32, 96]),
        "head_dim": st.sampled_from([2, 6]),
        "num_key_value_heads": st.integers(1, 3),
        "num_attention_heads": st.sampled_from([6, 12]),
        "rope_scaling_factor": st.just(1.0),
    }
)


class AnyBits(View):
    """Experts of any codes under any exact scale, zeros of both signs and subnormals with them; any finite arrays."""

    def stored(self, name: str) -> None:
        return None

    def fingerprint(self) -> None:
        return None

    def read(self, name: str, index: Any = ()) -> np.ndarray | Mxfp4Tensor:
        whole = self.source.read(name)
        rng = np.random.default_rng(len(name))
        if isinstance(whole, Mxfp4Tensor):
            blocks = rng.integers(0, 256, whole.blocks.shape, np.uint8)
            scales = rng.integers(0, LARGEST_EXACT_SCALE + 1, whole.scales.shape, np.uint8)
            scales.reshape(-1)[0], blocks.reshape(-1)[:16] = 0, 0x88  # negative zeros under the smallest scale
            packed = Mxfp4Tensor(blocks, scales)
            return packed[index] if index else packed
        bits = rng.integers(0, 0x7F80, whole.shape, np.uint16) | (rng.integers(0, 2, whole.shape, np.uint16) << 15)
        return bits.view(ml_dtypes.bfloat16)[(*index, ...)]


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder for one example; hypothesis runs many in one test."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def place_of(folder: Path, step: int, format_name: str) -> Path:
    """A folder of its own for each step, so that the side files of two bundles do not meet."""
    place = folder / str(step)
    if format_name != "flax":
        return place
    place.mkdir()
    return place / "bundle.msgpack"


def rename_shards(folder: Path, naming: str) -> None:
    """Numbers the shards from the other end of the custom, from 0 or from 1, or takes the index away."""
    if naming == "no index":
        (folder / INDEX).unlink(missing_ok=True)
    if naming != "from one":
        return
    shards = sorted(folder.glob("*.safetensors"))
    names = {old.name: f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number, old in enumerate(shards, 1)}
    for old in reversed(shards):
        old.rename(folder / f"moved-{names[old.name]}")
    for moved in folder.glob("moved-*"):
        moved.rename(folder / moved.name.removeprefix("moved-"))
    if (folder / INDEX).exists():
        document = json.loads((folder / INDEX).read_text())
        document["weight_map"] = {tensor: names[name] for tensor, name in document["weight_map"].items()}
        (folder / INDEX).write_text(json.dumps(document))


def raw_bytes(checkpoint: Checkpoint, name: str) -> bytes:
    tensor = checkpoint.read(name)
    return tensor.blocks.tobytes() + tensor.scales.tobytes() if isinstance(tensor, Mxfp4Tensor) else tensor.tobytes()


def value_bytes(checkpoint: Checkpoint, name: str) -> bytes:
    tensor = checkpoint.read(name)
    return (tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor).tobytes()


@settings(max_examples=10)
@given(
    numbers=GEOMETRIES,
    start=st.sampled_from(PACKED),
    chain=st.lists(st.tuples(st.sampled_from(PACKED), st.none() | st.integers(1, 60_000)), min_size=1, max_size=4),
    naming=st.sampled_from(["as published", "from one", "no index"]),
    max_shard_bytes=st.none() | st.integers(1, 60_000),
)
def test_every_tensor_comes_back_byte_for_byte_where_mxfp4_is_kept(
    numbers: dict[str, int], start: Any, chain: list[Any], naming: str, max_shard_bytes: int | None
) -> None:
    with workplace() as folder:
        source = AnyBits(random_checkpoint(tiny_config(**numbers), seed=1))
        place = folder / "first"
        save_checkpoint(source, place, format=start, max_shard_bytes=max_shard_bytes)
        for name, text in SIDE_FILES.items():
            (place / name).write_text(text)
        rename_shards(place, naming)
        for step, (format_name, limit) in enumerate([*chain, (start, max_shard_bytes)]):
            target = folder / str(step)
            convert_checkpoint(open_checkpoint(place), target, format=format_name, max_shard_bytes=limit, durable=False)
            place = target
        back = open_checkpoint(place)
        assert back.config == source.config
        assert [name for name in source if raw_bytes(back, name) != raw_bytes(source, name)] == []
        assert {name: path.read_text() for name, path in back.side_files.items()} == SIDE_FILES


@settings(max_examples=10)
@given(
    numbers=GEOMETRIES,
    start=st.sampled_from(FORMAT_NAMES),
    chain=st.lists(st.sampled_from(FORMAT_NAMES), min_size=1, max_size=3),
)
def test_every_value_comes_back_from_any_format_through_any_others(
    numbers: dict[str, int], start: Any, chain: list[Any]
) -> None:
    with workplace() as folder:
        source = AnyBits(random_checkpoint(tiny_config(**numbers), seed=1))
        place = place_of(folder, 0, start)
        save_checkpoint(source, place, format=start)
        for name, text in SIDE_FILES.items():
            (place.parent if start == "flax" else place).joinpath(name).write_text(text)
        for step, format_name in enumerate([*chain, start], 1):
            target = place_of(folder, step, format_name)
            convert_checkpoint(open_checkpoint(place), target, format=format_name, durable=False)
            place = target
        back = open_checkpoint(place)
        assert back.config == source.config
        assert [name for name in source if value_bytes(back, name) != value_bytes(source, name)] == []
        assert {name: path.read_text() for name, path in back.side_files.items()} == SIDE_FILES
