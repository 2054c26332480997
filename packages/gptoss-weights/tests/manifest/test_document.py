"""The file itself: the same bytes again, nothing accepted that was edited, no path out of the folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from gptoss_weights import CheckpointError, Manifest, read_manifest
from gptoss_weights.manifest import FileEntry, TensorEntry

HEX = "0123456789abcdef" * 4


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "writer": {"gptoss-weights": "0.1.0"},
        "format": "hf",
        "config": {"num_hidden_layers": 2, "swiglu_limit": 7.0},
        "files": {
            "b.safetensors": FileEntry(nbytes=30, parts={0: HEX, 8: HEX[::-1], 29: HEX}),
            "a/0": FileEntry(nbytes=0, parts={0: HEX[::-1]}),
        },
        "tensors": {
            "model.norm.weight": TensorEntry(dtype="bfloat16", shape=(96,), checksums={"values": HEX}, files=("a/",)),
            "experts": TensorEntry(
                dtype="MXFP4", shape=(2, 3, 32), checksums={"blocks": HEX, "scales": HEX}, files=("b.safetensors",)
            ),
        },
    }
    return Manifest(**(values | changes))


def edited(path: Path, change: Callable[[dict[str, Any]], object], *, with_checksum: bool = False) -> Path:
    document = json.loads(path.read_text())
    change(document)
    if with_checksum:
        document.pop("manifest_blake3")
        compact = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        document["manifest_blake3"] = blake3(compact).hexdigest()
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    manifest().write(path)
    return path


def error_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_manifest(path)
    return str(error.value)


def test_what_was_written_is_read(written: Path) -> None:
    assert read_manifest(written) == manifest()
    assert read_manifest(written).to_text() == written.read_text()


def test_order_of_files_does_not_matter() -> None:
    files = manifest().files
    assert manifest(files=dict(reversed(files.items()))).to_text() == manifest().to_text()


def test_writing_leaves_nothing_else_behind(written: Path) -> None:
    manifest(format="openai").write(written)
    assert [path.name for path in written.parent.iterdir()] == ["manifest.json"]
    assert read_manifest(written).format == "openai"


def test_failed_writing_leaves_the_earlier_one(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        manifest(format="openai").write(written)
    assert [path.name for path in written.parent.iterdir()] == ["manifest.json"]
    assert read_manifest(written).format == "hf"


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(format="openai"),
        lambda document: document["files"].pop("a/0"),
        lambda document: document["tensors"]["experts"]["blake3"].update(blocks=HEX[::-1]),
        lambda document: document.pop("manifest_blake3"),
        lambda document: document.pop("manifest_version"),
        lambda document: document.update(manifest_version="1"),
    ],
)
def test_edited_manifest_is_refused(written: Path, change: Callable[[dict[str, Any]], object]) -> None:
    words = error_of(edited(written, change))
    assert words.startswith(f"{written}: the manifest itself is damaged, was edited, or is none of ours")
    assert "--write-manifest" in words


def test_reformatted_manifest_is_the_same(written: Path) -> None:
    assert read_manifest(edited(written, lambda _: None)) == manifest()


def test_later_version_asks_for_a_later_package(written: Path) -> None:
    words = error_of(edited(written, lambda document: document.update(manifest_version=3)))
    assert (
        words == f"{written}: the manifest is of a later version; expected 2; found 3. Install a later gptoss-weights."
    )


def test_earlier_version_asks_for_another_manifest(written: Path) -> None:
    words = error_of(edited(written, lambda document: document.update(manifest_version=1)))
    assert words == (
        f"{written}: the manifest is of an earlier version, whose checksums are not read any more; expected 2; "
        "found 1. If you trust the checkpoint, remove it and write another with --write-manifest."
    )


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_path_out_of_the_folder_is_refused(written: Path, path: str) -> None:
    entry = {"bytes": 1, "blake3": HEX}
    words = error_of(edited(written, lambda document: document["files"].update({path: entry}), with_checksum=True))
    assert "lies outside the folder" in words


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["files"]["a/0"].update(blake3="abc"),
        lambda document: document["files"]["a/0"].pop("bytes"),
        lambda document: document["files"]["a/0"].update(blake3={}),
        lambda document: document["files"]["b.safetensors"].update(blake3={"1": HEX}),
        lambda document: document["files"]["b.safetensors"].update(blake3={"0": HEX, "31": HEX}),
        lambda document: document["files"]["b.safetensors"].update(blake3={"0": HEX, "9": HEX, "8": HEX}),
        lambda document: document["files"]["b.safetensors"].update(blake3={"0": HEX, "-1": HEX}),
        lambda document: document.update(tensors=[]),
        lambda document: document["tensors"]["experts"].update(shape=["x"]),
    ],
)
def test_malformed_manifest_is_refused(written: Path, change: Callable[[dict[str, Any]], object]) -> None:
    assert "the manifest is not as this version writes it" in error_of(edited(written, change, with_checksum=True))


def test_missing_manifest_is_said(tmp_path: Path) -> None:
    assert error_of(tmp_path / "manifest.json") == f"{tmp_path / 'manifest.json'}: the manifest is not there"


def test_file_of_one_part_has_the_checksum_of_the_whole(written: Path) -> None:
    files = json.loads(written.read_text())["files"]
    assert files["a/0"] == {"bytes": 0, "blake3": HEX[::-1]}
    assert files["b.safetensors"] == {"bytes": 30, "blake3": {"0": HEX, "8": HEX[::-1], "29": HEX}}


def test_parts_are_ranges_of_the_file_where_it_is(tmp_path: Path) -> None:
    entry = manifest().files["b.safetensors"]
    assert entry.ranges(tmp_path) == [(tmp_path, 0, 8), (tmp_path, 8, 29), (tmp_path, 29, 30)]


@pytest.mark.parametrize(("start", "stop", "expected"), [(0, 8, HEX), (8, 29, HEX[::-1]), (29, 30, HEX)])
def test_checksum_of_a_part(start: int, stop: int, expected: str) -> None:
    assert manifest().files["b.safetensors"].checksum_of(start, stop) == expected


@pytest.mark.parametrize(("start", "stop"), [(0, 29), (8, 28), (9, 29), (30, 30), (40, 50)])
def test_what_is_no_part_has_no_checksum(start: int, stop: int) -> None:
    assert manifest().files["b.safetensors"].checksum_of(start, stop) is None


def test_tensor_stands_in_its_file_or_folder() -> None:
    tensors = manifest().tensors
    assert tensors["experts"].stands_in("b.safetensors")
    assert not tensors["experts"].stands_in("b.safetensors/0")
    assert tensors["model.norm.weight"].stands_in("a/0")
    assert not tensors["model.norm.weight"].stands_in("ab/0")
