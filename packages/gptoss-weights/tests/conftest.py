"""Fixtures of this package's tests: tiny checkpoints on disk, and safetensors files made by hand."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from gptoss_weights.testing import write_tiny_checkpoint

type WriteSafetensors = Callable[..., Path]


@pytest.fixture
def openai_folder(tmp_path: Path) -> Path:
    """A random tiny checkpoint in OpenAI's layout, in several shards, to be damaged at will."""
    return write_tiny_checkpoint(tmp_path / "openai", format="openai", max_shard_bytes=200_000)


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    """The same weights in Hugging Face's layout, in several shards."""
    return write_tiny_checkpoint(tmp_path / "hf", format="hf", max_shard_bytes=200_000)


@pytest.fixture
def write_safetensors() -> WriteSafetensors:
    """Writes a file of a header (an object, or raw bytes) and data bytes, right or wrong."""

    def write(path: Path, header: Mapping[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
        return path

    return write


@pytest.fixture
def edit_header() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Changes the header of a safetensors file in place; the data stays."""

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        raw = json.dumps(header).encode()
        path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + length :])

    return edit


type Format = Literal["openai", "hf"]
