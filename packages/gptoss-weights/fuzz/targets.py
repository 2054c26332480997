"""What the fuzzer drives: each reader of foreign bytes as a function of bytes, with sound inputs to begin from.

The promise is the same for all: the reader returns a value or raises a `CheckpointError` (of token
ids, which are a user's typing, a `ValueError`), within a second, and in memory that stays flat.
"""

import contextlib
import dataclasses
import functools
import json
import tempfile
import unittest.mock
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptoss_weights import (
    CheckpointError,
    GptOssConfig,
    GptOssWarning,
    NetworkError,
    random_checkpoint,
    save_checkpoint,
)
from gptoss_weights.formats.flax_msgpack.encoding import ARRAY_EXT_TYPE, CHUNKED_MARK
from gptoss_weights.formats.flax_msgpack.heads import (
    array_head,
    bin_head,
    ext_head,
    map_head,
    packed_bool,
    packed_str,
    packed_uint,
)
from gptoss_weights.formats.flax_msgpack.index import index_arrays
from gptoss_weights.formats.folder import read_folder
from gptoss_weights.formats.orbax.location import Location
from gptoss_weights.formats.orbax.metadata import read_tree, tree_metadata_text
from gptoss_weights.formats.safetensors_files import read_header
from gptoss_weights.hub.listing import list_files
from gptoss_weights.manifest.document import _checksum, read_manifest
from gptoss_weights.stop_tokens import eos_token_ids
from gptoss_weights.testing import tiny_config
from gptoss_weights.token_ids import parse_token_ids
from huggingface_hub import HfApi, HfFileMetadata
from huggingface_hub.hf_api import ModelInfo

__all__ = ["REFUSALS", "TARGETS", "Target", "workplace"]

REFUSALS = (CheckpointError,)
LFS = {"sha256": "1" * 64, "size": 1, "pointerSize": 1}
INDEX = "model.safetensors.index.json"
SMALL = {"num_hidden_layers": 1, "num_experts": 2, "experts_per_token": 1, "vocab_size": 3, "hidden_size": 32}


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: Bytes, and a folder to work in → whatever; raises `refusals` only.
        seeds: Sound inputs.
        refusals: How it may say no.
        is_json: Whether inputs are JSON documents.
    """

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = REFUSALS
    is_json: bool = True


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder for the files of one target, in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", GptOssWarning)
        yield Path(folder)


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------- readers


def _header(content: bytes, folder: Path) -> object:
    return read_header(_written(folder, "model.safetensors", content))


def _header_text(content: bytes, folder: Path) -> object:
    """The JSON alone, its length and the data behind it as it says, so that mutation reaches the entries."""
    end = 0
    with contextlib.suppress(Exception):
        end = max(entry["data_offsets"][1] for entry in json.loads(content).values())
    data = bytes(end if isinstance(end, int) and 0 <= end < 1 << 16 else 0)
    return _header(len(content).to_bytes(8, "little") + content + data, folder)


def _index(content: bytes, folder: Path) -> object:
    shard = folder / "a.safetensors"
    if not shard.exists():
        shard.write_bytes(_safetensors({"x": [1]}))
    _written(folder, INDEX, content)
    return read_folder(folder)


def _config(content: bytes, folder: Path) -> object:
    config = GptOssConfig.read(_written(folder, "config.json", content))
    return config.to_openai(), config.to_huggingface(), config.metadata


def _flax(content: bytes, folder: Path) -> object:
    return index_arrays(_written(folder, "model.msgpack", content))


def _orbax(content: bytes, folder: Path) -> object:
    _written(folder, "_METADATA", content)
    return read_tree(Location.at(folder))


def _manifest(content: bytes, folder: Path) -> object:
    """A document with a checksum that fits it, so that mutation reaches what is behind."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(content)
        if isinstance(document, dict):
            document.pop("manifest_blake3", None)
            content = json.dumps({**document, "manifest_blake3": _checksum(document)}).encode()
    return read_manifest(_written(folder, "manifest.json", content))


def _generation(content: bytes, folder: Path) -> object:
    checkpoint = _checkpoint()
    checkpoint.side_files = {"generation_config.json": _written(folder, "generation_config.json", content)}
    return eos_token_ids(checkpoint)


def _listing(content: bytes, folder: Path) -> object:
    """What the Hub says of a repository; turning its JSON into a `ModelInfo` is the Hub client's part."""
    try:
        info = ModelInfo(**json.loads(content))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return None
    with unittest.mock.patch.object(HfApi, "model_info", return_value=info):
        return list_files(_Connection(), "original")  # type: ignore[arg-type]


def _token_ids(content: bytes, folder: Path) -> object:
    return parse_token_ids(content.decode(errors="replace"))


@dataclasses.dataclass(frozen=True)
class _Connection:
    repo: str = "org/name"
    endpoint: str = "http://localhost"
    revision: str | None = None
    timeout_s: float = 1.0
    headers: tuple[tuple[str, str], ...] = ()  # of which dict() makes a mapping

    def ask(self, question: Callable[[], Any]) -> Any:
        """As the real one, with the answer of the Hub put in place of the network."""
        try:
            return question()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NetworkError("what answers does not speak the Hub's protocol") from error

    def metadata(self, path: str) -> Any:
        return HfFileMetadata(None, None, path, None, None)

    def url(self, path: str) -> str:
        return path


# --------------------------------------------------------------------------------------- seeds


def _safetensors(shapes: dict[str, list[int]]) -> bytes:
    header, end = {}, 0
    for name, shape in shapes.items():
        size = functools.reduce(lambda a, b: a * b, shape, 1)
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


@functools.cache
def _checkpoint() -> Any:
    return random_checkpoint(tiny_config(**SMALL), seed=0)


@functools.cache
def _files(kind: str) -> dict[str, bytes]:
    """The files of a checkpoint of a few KiB."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / ("x.msgpack" if kind == "flax" else "x")
        save_checkpoint(_checkpoint(), target, format=kind)  # type: ignore[arg-type]
        return {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _configs() -> list[bytes]:
    config = tiny_config(**SMALL)
    huggingface = config.to_huggingface()
    new = dict(huggingface)
    new["rope_parameters"] = {**new.pop("rope_scaling"), "rope_theta": new.pop("rope_theta")}
    return [json.dumps(document).encode() for document in (config.to_openai(), huggingface, new)]


def _flax_trees() -> list[bytes]:
    triple = array_head(3) + array_head(1) + packed_uint(2) + packed_str("uint8") + bin_head(2) + b"ab"
    array = ext_head(ARRAY_EXT_TYPE, len(triple)) + triple
    numbered = map_head(2) + packed_str("0") + array + packed_str("1") + array
    shape = map_head(2) + packed_str("0") + packed_uint(4) + packed_str("1") + packed_uint(1)
    chunked = map_head(3) + packed_str(CHUNKED_MARK) + packed_bool(True) + packed_str("shape") + shape
    chunked += packed_str("chunks") + numbered
    return [map_head(0), map_head(2) + packed_str("a") + chunked + packed_str("b") + array, _files("flax")["x.msgpack"]]


TARGETS: dict[str, Target] = {
    "header": Target(_header, lambda: [_safetensors({}), _safetensors({"a": [2, 3], "b": []})], is_json=False),
    "header-text": Target(_header_text, lambda: [_safetensors({"a": [2, 3], "b": []})[8:-7]]),
    "index": Target(
        _index, lambda: [b'{"metadata": {"total_size": 1}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}']
    ),
    "config": Target(_config, _configs),
    "flax": Target(_flax, _flax_trees, is_json=False),
    "orbax": Target(_orbax, lambda: [tree_metadata_text([("params", "a"), ("params", "b", "0")]).encode()]),
    "manifest": Target(_manifest, lambda: [_files("openai")["manifest.json"]]),
    "generation": Target(_generation, lambda: [b'{"eos_token_id": [1, 2]}', b'{"eos_token_id": 1}']),
    "listing": Target(
        _listing,
        lambda: [
            json.dumps(
                {
                    "id": "org/name",
                    "sha": "0" * 40,
                    "siblings": [
                        {
                            "rfilename": "original/model.safetensors",
                            "size": 1,
                            "lfs": {"sha256": "1" * 64, "size": 1, "pointerSize": 1},
                        },
                        {"rfilename": "config.json", "size": 2, "blobId": "2" * 40},
                    ],
                }
            ).encode()
        ],
        (CheckpointError, NetworkError),
    ),
    "token-ids": Target(_token_ids, lambda: [b"1,2,3"], (ValueError,), is_json=False),
}
