"""Fixtures of this package's tests: tiny checkpoints on disk, and safetensors files made by hand."""

import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from gptoss_weights import random_checkpoint, save_checkpoint, write_manifest
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

type WriteSafetensors = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def disk_is_not_waited_for() -> Iterator[None]:
    """Tests do not outlive a power failure, and waiting for the disk took most of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture
def openai_folder(tmp_path: Path) -> Path:
    """A random tiny checkpoint in OpenAI's layout, in several shards, without a manifest, to be damaged at will."""
    return without_manifest(write_tiny_checkpoint(tmp_path / "openai", format="openai", max_shard_bytes=200_000))


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    """The same weights in Hugging Face's layout, in several shards."""
    return without_manifest(write_tiny_checkpoint(tmp_path / "hf", format="hf", max_shard_bytes=200_000))


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


type MakeArtefact = Callable[[str], Path]


@pytest.fixture(scope="session")
def pristine_artefacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same weights in every format, with a tokenizer and a manifest beside them; made when first asked for."""
    root = tmp_path_factory.mktemp("artefacts")

    @functools.cache
    def make(kind: str) -> Path:
        folder = root / kind
        if kind.startswith("orbax"):
            pytest.importorskip("tensorstore", reason="needs the extra orbax")
        checkpoint = random_checkpoint(tiny_config(num_hidden_layers=2), seed=0)
        if kind == "flax":
            folder.mkdir()
        max_shard_bytes = {"openai": 200_000, "hf": 200_000, "hf-bf16": 600_000}.get(kind)
        save_checkpoint(checkpoint, path_to_open(folder), format=kind, max_shard_bytes=max_shard_bytes)  # type: ignore[arg-type]
        (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}}}')
        (folder / "LICENSE").write_text("Apache License 2.0")
        write_manifest(path_to_open(folder))
        return folder

    return make


@pytest.fixture
def artefact(tmp_path: Path, pristine_artefacts: Callable[[str], Path]) -> MakeArtefact:
    """A copy of the artefact of a kind in a folder of its own, to be damaged at will; what it is opened by."""

    def copy(kind: str) -> Path:
        return path_to_open(Path(shutil.copytree(pristine_artefacts(kind), tmp_path / kind)))

    return copy


def without_manifest(folder: Path) -> Path:
    """The folder as if it had been published: nothing but what a reader looks at says what it holds."""
    (folder / "manifest.json").unlink()
    return folder


def path_to_open(folder: Path) -> Path:
    """A Flax bundle is opened by its file, anything else by its folder."""
    return folder / "bundle.msgpack" if folder.name == "flax" else folder
