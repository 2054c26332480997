"""Flax bundles and Orbax trees that are cut, lack a part, lie, or were made to exhaust memory."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from gptoss_weights.formats.flax_msgpack.heads import array_head, ext_head, map_head, packed_str

type Broken = Callable[[str], Path]
type Refused = Callable[..., None]

# ------------------------------------------------------------------------------- msgpack

WRONG_LENGTH = "the file is truncated, or a length in it is wrong"
BOMBS: dict[str, tuple[bytes, str]] = {
    "map of 4 billion entries": (
        b"\xdf" + struct.pack(">I", 2**32 - 1),
        f"byte 5: {WRONG_LENGTH}; expected at least 8589934590 bytes for map of length "
        "4294967295; found 0 bytes up to its end. Download or copy it again.",
    ),
    "key of 4 GiB": (
        map_head(1) + b"\xdb" + struct.pack(">I", 2**32 - 1) + b"a",
        f"byte 6: {WRONG_LENGTH}; expected at least 4294967295 bytes for str of length",
    ),
    "key of a kilobyte": (
        map_head(1) + packed_str("a" * 1000) + b"\xc0",
        "a key is no short string; expected str of at most 128 bytes; found str of 1000 bytes",
    ),
    "array of 4 GiB": (
        map_head(1) + packed_str("a") + b"\xc9" + struct.pack(">I", 2**32 - 1) + b"\x01",
        f"byte 9: {WRONG_LENGTH}; expected at least 4294967295 bytes for ext of length",
    ),
    "maps within maps": (
        (map_head(1) + packed_str("a")) * 1000,
        "a/a/a/a/a/a/a/a/a/a: the tree is nested too deeply; expected at most 10 maps within each other",
    ),
    "lists within lists": (
        map_head(1) + packed_str("a") + array_head(1) * 10_000 + b"\xc0",
        "a: this is no array; expected a map or an ext value that holds an array; found array",
    ),
    "shape of a million sizes": (
        map_head(1) + packed_str("a") + ext_head(1, 1_000_010) + array_head(3) + array_head(10**6) + b"\0" * 1_000_004,
        "a: the shape is no list of at most 32 sizes; found array of 1000000",
    ),
    "value of a type of its own": (
        map_head(1) + packed_str("a") + ext_head(42, 1) + b"\0",
        "a: this is no array; expected ext type 1; found 42, unknown to flax",
    ),
    "200 000 tiny entries": (
        map_head(200_000) + b"".join(packed_str(str(number)) + b"\0" for number in range(200_000)),
        "the tree is larger than that of any GPT-OSS; expected at most 131072 values",
    ),
    "duplicate key": (map_head(2) + (packed_str("a") + b"\0") * 2, "a: the key stands there twice"),
    "byte that begins nothing": (b"\xc1", "byte 0: the byte 0xc1 begins no msgpack value"),
    "no map": (b"\x93\1\2\3", "this is no Flax tree: it does not begin with a map; expected a map; found array"),
    "nothing in it": (
        map_head(0),
        "the tree has not as many layers as the config says; expected 2 (block_0, …); found 0",
    ),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git-LFS pointer, not the weights."),
    "HTML page": (b"<html>", "the file is an HTML page, not the weights. Download it again; a login may be needed."),
    "pickle": (b"\x80\x04\x95" + b"\0" * 60, "the file is a pickle, which is never opened. Give a file that flax."),
    "empty file": (b"", "the file is empty. Download it again."),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bundle_that_is_none_is_refused(name: str, broken: Broken, assert_refused: Refused) -> None:
    content, words = BOMBS[name]
    file = broken("flax") / "bundle.msgpack"
    file.write_bytes(content)
    assert_refused(file, [f"error: {file}: {words}"])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9999999])
def test_cut_bundle_is_refused(share: float, broken: Broken, assert_refused: Refused) -> None:
    file = broken("flax") / "bundle.msgpack"
    whole = file.read_bytes()
    file.write_bytes(whole[: max(1, int(share * len(whole)))])
    assert_refused(file, [f"error: {file}: byte ", ": the file is truncated, or a length in it is wrong; expected "])


def test_bytes_behind_the_tree_are_refused(broken: Broken, assert_refused: Refused) -> None:
    file = broken("flax") / "bundle.msgpack"
    file.write_bytes(file.read_bytes() + b"\0")
    assert_refused(file, [f"error: {file}: bytes follow the tree; found 1 bytes more"])


def test_bundle_without_its_config_asks_for_it(broken: Broken, assert_refused: Refused) -> None:
    folder = broken("flax")
    (folder / "bundle.config.json").unlink()
    words = (
        "the bundle has no config beside it; expected bundle.config.json or bundle.msgpack.config.json. "
        "Give its place with --config."
    )
    assert_refused(folder / "bundle.msgpack", [f"error: {folder / 'bundle.msgpack'}: {words}"])


# --------------------------------------------------------------------------------- Orbax

TREES = ["orbax-scanned", "orbax-unscanned"]


def leaf_folder(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.name.endswith("decoder_norm.scale"))


def chunk(folder: Path) -> Path:
    return next(path for path in leaf_folder(folder).rglob("*") if path.is_file() and path.name != "zarr.json")


def describe_chunks(folder: Path, size: int) -> None:
    path = leaf_folder(folder) / "zarr.json"
    document = json.loads(path.read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"] = [size]
    path.write_text(json.dumps(document))


# Name → what happens, and the words; all of it is known before a chunk is read.
CUT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no _METADATA": (
        lambda folder: (folder / "_METADATA").unlink(),
        "the Orbax checkpoint is damaged, or there is none: _METADATA is missing. Give the folder that holds it",
    ),
    "empty _METADATA": (
        lambda folder: (folder / "_METADATA").write_bytes(b""),
        "_METADATA: the Orbax metadata is not valid JSON (Expecting value",
    ),
    "cut _METADATA": (
        lambda folder: (folder / "_METADATA").write_bytes((folder / "_METADATA").read_bytes()[:-100]),
        "_METADATA: the Orbax metadata is not valid JSON (",
    ),
    "_METADATA of nothing": (
        lambda folder: (folder / "_METADATA").write_text('{"tree_metadata": {}}'),
        "the Orbax tree holds no parameters of MaxText; expected leaves under params/params/; found no leaves",
    ),
    "_METADATA of something else": (
        lambda folder: (folder / "_METADATA").write_text("{}"),
        "_METADATA: the Orbax metadata lists no leaves (tree_metadata)",
    ),
    "nested _METADATA": (
        lambda folder: (folder / "_METADATA").write_text('{"tree_metadata":' * 100_000),
        "_METADATA: the Orbax metadata is nested too deeply; expected at most 100 levels",
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "an Orbax tree carries no config, and none lies beside it; expected config.json. Give its place with --config.",
    ),
    "no array": (
        lambda folder: shutil.rmtree(leaf_folder(folder)),
        "params/params/decoder/decoder_norm/scale: the array cannot be opened (NOT_FOUND: ",
    ),
    "no description of an array": (
        lambda folder: (leaf_folder(folder) / "zarr.json").unlink(),
        "params/params/decoder/decoder_norm/scale: the array cannot be opened (NOT_FOUND: ",
    ),
    "empty description": (
        lambda folder: (leaf_folder(folder) / "zarr.json").write_bytes(b""),
        "params/params/decoder/decoder_norm/scale: the array cannot be opened (",
    ),
    "cut description": (
        lambda folder: (leaf_folder(folder) / "zarr.json").write_bytes(
            (leaf_folder(folder) / "zarr.json").read_bytes()[:-20]
        ),
        "params/params/decoder/decoder_norm/scale: the array cannot be opened (",
    ),
    "chunks of terabytes": (
        lambda folder: describe_chunks(folder, 1 << 40),
        "decoder_norm/scale has chunks larger than itself, [1099511627776] of [",
    ),
    "lost chunk": (
        lambda folder: chunk(folder).unlink(),
        "params/params/decoder/decoder_norm/scale has lost 1 of its 1 chunks. Copy or download the checkpoint again.",
    ),
    "an unfinished save": (
        lambda folder: (folder / "0.orbax-checkpoint-tmp-1").mkdir() or (folder / "_METADATA").unlink(),
        "the Orbax checkpoint was never finished: an interrupted save left its temporary folder. Give an earlier step",
    ),
}


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("name", CUT)
def test_cut_tree_is_refused(name: str, kind: str, broken: Broken, assert_refused: Refused) -> None:
    folder = broken(kind)
    change, words = CUT[name]
    change(folder)
    assert_refused(folder, [words, str(folder)])


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("content", [b"", b"\0" * 4, b"(\xb5/\xfd garbage"], ids=["empty", "zeros", "garbage"])
def test_cut_chunk_is_refused_when_it_is_read(
    kind: str, content: bytes, broken: Broken, assert_refused: Refused
) -> None:
    folder = broken(kind)
    chunk(folder).write_bytes(content)
    words = ["params/params/decoder/decoder_norm/scale: the leaf is damaged (", "Copy or download it again."]
    assert_refused(folder, words, knows_when_read=True)


def test_every_file_of_a_tree_is_missed(broken: Broken, sound: Broken, run: Callable[..., object]) -> None:
    """Whatever file is lost or cut in half, `verify` says so: without a manifest, which is not there."""
    folder = broken("orbax-unscanned")
    harmless = {"_CHECKPOINT_METADATA", "commit_success.txt"}  # of Orbax alone: who restores it, and that it is whole
    top = [path for path in folder.iterdir() if path.is_file() and path.name not in harmless]
    inside = [path for path in folder.rglob("*/**/*") if path.is_file()][::15]
    assert len(top) == 2
    assert len(inside) > 4
    for path in top + inside:
        whole = path.read_bytes()
        for content in (None, whole[: len(whole) // 2]):
            path.unlink() if content is None else path.write_bytes(content)
            result = run("verify", folder)
            assert result.exit_code == 3, (path, content is None)  # type: ignore[attr-defined]
            assert "Traceback" not in result.stderr  # type: ignore[attr-defined]
            path.write_bytes(whole)
    assert run("verify", folder).exit_code == 0  # type: ignore[attr-defined]
