"""Saving writes exactly the published layouts, all of it or nothing."""

import filecmp
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    FormatName,
    Index,
    Mxfp4Tensor,
    NotEnoughSpaceError,
    open_checkpoint,
    random_checkpoint,
    save_checkpoint,
    verify_artefact,
    write_manifest,
)
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

# The limits under which the reference's shards come out; tiny/ is one file by default.
LIMITS: Mapping[tuple[str, str], int | None] = {
    ("tiny", "hf"): None,
    ("tiny", "openai"): None,
    ("tiny-sharded", "hf"): 300_000,
    ("tiny-sharded", "openai"): 248_200,
}


@pytest.mark.parametrize("name", ["tiny", "tiny-sharded"])
@pytest.mark.parametrize("source", ["openai", "hf"])
@pytest.mark.parametrize("target", ["openai", "hf"])
def test_reference_comes_out_byte_for_byte(
    reference: Path, tmp_path: Path, name: str, source: str, target: str
) -> None:
    folders = {"hf": reference / name, "openai": reference / name / "original"}
    save_checkpoint(
        open_checkpoint(folders[source]), tmp_path / "out", format=target, max_shard_bytes=LIMITS[name, target]
    )
    expected = {path.name for path in folders[target].iterdir() if path.is_file()}
    if (source, target) == ("openai", "hf"):
        expected.remove("config.json")  # original/ does not know the token ids that stand in it
    assert expected <= {path.name for path in (tmp_path / "out").iterdir()}
    for file in expected:
        assert filecmp.cmp(tmp_path / "out" / file, folders[target] / file, shallow=False), file
    assert open_checkpoint(tmp_path / "out").config == open_checkpoint(folders[source]).config


@pytest.mark.parametrize("start", ["openai", "hf"])
def test_there_and_back_gives_the_same_files(tmp_path: Path, start: str) -> None:
    other = {"openai": "hf", "hf": "openai"}[start]
    limit = 120_000
    first = write_tiny_checkpoint(tmp_path / "first", format=start, max_shard_bytes=limit)
    (first / "tokenizer.json").write_text('{"a": 1}')
    write_manifest(first)
    save_checkpoint(open_checkpoint(first), tmp_path / "there", format=other, max_shard_bytes=limit)
    save_checkpoint(open_checkpoint(tmp_path / "there"), tmp_path / "back", format=start, max_shard_bytes=limit)
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "back").iterdir())
    assert filecmp.cmpfiles(first, tmp_path / "back", names, shallow=False) == (names, [], [])


@pytest.mark.parametrize(
    ("layout", "limit", "names"),
    [
        ("openai", None, ["model.safetensors"]),
        ("openai", 450_000, ["model--00001-of-00002.safetensors", "model--00002-of-00002.safetensors"]),
        ("hf", None, ["model-00000-of-00000.safetensors"]),
        ("hf", 450_000, ["model-00000-of-00001.safetensors", "model-00001-of-00001.safetensors"]),
    ],
)
def test_shards_are_numbered_as_published(tmp_path: Path, layout: str, limit: int | None, names: list[str]) -> None:
    folder = write_tiny_checkpoint(tmp_path / "out", format=layout, max_shard_bytes=limit)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == names
    assert (folder / "model.safetensors.index.json").exists() == (layout == "hf" or len(names) > 1)
    assert (folder / "dtypes.json").exists() == (layout == "openai")


def test_safetensors_library_reads_what_is_written(hf_folder: Path) -> None:
    expected = random_checkpoint(tiny_config(), seed=0)
    read: dict[str, np.ndarray] = {}
    for shard in hf_folder.glob("*.safetensors"):
        read |= safetensors.numpy.load_file(shard)
    name = "model.layers.2.mlp.experts.down_proj"
    packed = expected.read(name)
    assert isinstance(packed, Mxfp4Tensor)
    np.testing.assert_array_equal(read[f"{name}_blocks"], packed.blocks)
    np.testing.assert_array_equal(read[f"{name}_scales"], packed.scales)
    np.testing.assert_array_equal(read["lm_head.weight"], expected.read_array("lm_head.weight"))


def test_library_writes_the_same_file(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "out", format="openai")
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file(arrays, tmp_path / "library.safetensors")
    assert filecmp.cmp(folder / "model.safetensors", tmp_path / "library.safetensors", shallow=False)


def test_empty_folder_is_filled_and_gets_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_tiny_checkpoint(tmp_path / "out", format="hf")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("layout", ["openai", "hf", "hf-bf16", "flax"])
def test_manifest_comes_with_every_artefact(tmp_path: Path, layout: FormatName) -> None:
    path = tmp_path / ("out.msgpack" if layout == "flax" else "out")
    save_checkpoint(random_checkpoint(tiny_config(), seed=0), path, format=layout)
    report = verify_artefact(path)
    assert report.manifest_path == (tmp_path / "out.manifest.json" if layout == "flax" else path / "manifest.json")
    assert (report.problems, report.unlisted) == ([], [])


def test_manifest_of_another_bundle_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out.manifest.json").write_text("theirs")
    with pytest.raises(CheckpointError, match=r"out\.manifest\.json: the target is there already"):
        save_checkpoint(random_checkpoint(tiny_config(), seed=0), tmp_path / "out.msgpack", format="flax")
    assert [path.name for path in tmp_path.iterdir()] == ["out.manifest.json"]


@pytest.mark.parametrize("durable", [True, False])
def test_every_file_is_on_disk_before_it_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: set[int] = set()  # inodes, before the target is there

    def fsync(descriptor: int) -> None:
        if not (tmp_path / "out").exists():
            synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("os.fsync", fsync)
    save = save_checkpoint if durable else functools.partial(save_checkpoint, durable=False)  # by default it is
    save(random_checkpoint(tiny_config(), seed=0), tmp_path / "out", format="openai")
    weights = (tmp_path / "out" / "model.safetensors").stat().st_ino
    assert (weights in synced) == durable


def test_occupied_target_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"out: the target is not empty\. Choose another, or remove it first"):
        write_tiny_checkpoint(tmp_path / "out", format="hf")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]
    with pytest.raises(CheckpointError, match=r"mine\.txt: the target is there already"):
        write_tiny_checkpoint(tmp_path / "out" / "mine.txt", format="hf")


@pytest.mark.parametrize("leads_to", ["empty", "nowhere"])
def test_target_that_is_a_link_is_refused_before_anything_is_written(tmp_path: Path, leads_to: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").symlink_to(leads_to)
    with pytest.raises(CheckpointError, match=f"out: the target is a symbolic link; found it leads to {leads_to}"):
        write_tiny_checkpoint(tmp_path / "out", format="hf")
    assert {path.name for path in tmp_path.rglob("*")} == {"empty", "out"}


def test_absent_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent: the folder to write into does not exist"):
        write_tiny_checkpoint(tmp_path / "absent" / "out", format="hf")


class Failing(Checkpoint):
    """Gives tensors until it comes to one, and something else there."""

    format = "failing"
    side_files: Mapping[str, Path] = {}

    def __init__(self, name: str, result: np.ndarray | Mxfp4Tensor | BaseException) -> None:
        self.config = tiny_config()
        self._inner, self._name, self._result = random_checkpoint(self.config, seed=0), name, result

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        if name != self._name:
            return self._inner.read(name, index)
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def array_dtype(self, name: str) -> np.dtype | None:
        return self._inner.array_dtype(name) if isinstance(self._result, BaseException) else super().array_dtype(name)

    def fingerprint(self) -> str | None:
        return "failing"


def test_nothing_is_left_behind_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(
            Failing("model.norm.weight", OSError(28, "No space left on device")), tmp_path / "out", format="hf"
        )
    assert list(tmp_path.iterdir()) == []


GATE_UP = "model.layers.0.mlp.experts.gate_up_proj"


@pytest.mark.parametrize(
    ("name", "result", "words"),
    [
        (GATE_UP, np.zeros((7, 128, 96), ml_dtypes.bfloat16), f"{GATE_UP} is bfloat16, not packed as MXFP4"),
        ("model.norm.weight", np.zeros(96, np.float32), "model.norm.weight is float32; give dtype='bfloat16'"),
        ("model.norm.weight", np.zeros(95, ml_dtypes.bfloat16), "(95,), but norm.scale takes bfloat16 (96,)"),
        (
            "model.norm.weight",
            Mxfp4Tensor(np.zeros((3, 16), np.uint8), np.zeros(3, np.uint8)),
            "model.norm.weight is packed as MXFP4, but openai holds it as bfloat16",
        ),
    ],
)
def test_tensor_that_the_layout_cannot_hold_is_refused(
    tmp_path: Path, name: str, result: np.ndarray | Mxfp4Tensor, words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        save_checkpoint(Failing(name, result), tmp_path / "out", format="openai")
    assert list(tmp_path.iterdir()) == []


def test_transposed_view_is_written_in_its_own_order(tmp_path: Path) -> None:
    weight = np.asfortranarray(random_checkpoint(tiny_config(), seed=0).read_array("lm_head.weight"))
    save_checkpoint(Failing("lm_head.weight", weight), tmp_path / "out", format="hf")
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "out").read_array("lm_head.weight"), weight)


def test_full_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NotEnoughSpaceError, match=r"the disk cannot hold the checkpoint; expected .* found 1000 bytes"):
        write_tiny_checkpoint(tmp_path / "out", format="hf")
    assert list(tmp_path.iterdir()) == []


def test_target_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def appear(_: int) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "theirs.txt").write_text("theirs")

    checkpoint = random_checkpoint(tiny_config(), seed=0)
    with pytest.raises(CheckpointError, match="the target appeared while it was being written"):
        save_checkpoint(checkpoint, tmp_path / "out", format="hf", progress=appear)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs.txt"]


def test_unknown_format_and_limit_are_refused(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tiny_config(), seed=0)
    with pytest.raises(
        ValueError,
        match="no format is called 'gguf'; there are openai, hf, hf-bf16, flax, orbax-scanned, orbax-unscanned",
    ):
        save_checkpoint(checkpoint, tmp_path / "out", format="gguf")
    with pytest.raises(ValueError, match="max_shard_bytes must be positive, not 0"):
        save_checkpoint(checkpoint, tmp_path / "out", format="hf", max_shard_bytes=0)
