"""Manifests say what stands on disk: the same bytes every time, the same checksums in every layout."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from gptoss_weights import Checkpoint, CheckpointError, Mxfp4Tensor, open_checkpoint, read_manifest, write_manifest
from gptoss_weights.config_dialects.numbers import NUMBERS
from gptoss_weights.manifest import find_artefact

type MakeArtefact = Callable[[str], Path]
KINDS = ["openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"]


@pytest.mark.parametrize("kind", KINDS)
def test_checksums_are_those_of_whole_files_and_tensors(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)
    place = find_artefact(path)
    found = read_manifest(place.manifest)
    for file, entry in found.files.items():
        content = place.path(file).read_bytes()
        assert entry.nbytes == len(content)
        ends = [*entry.parts, entry.nbytes]
        assert entry.parts == {
            start: blake3(content[start:stop]).hexdigest() for start, stop in itertools.pairwise(ends)
        }
        assert (len(entry.parts) > 1) == file.endswith(".safetensors")
    checkpoint = open_checkpoint(path)
    assert list(found.tensors) == list(checkpoint)
    for name, tensor in found.tensors.items():
        read = checkpoint.read(name)
        packed = isinstance(read, Mxfp4Tensor)
        halves = {"blocks": read.blocks, "scales": read.scales} if packed else {"values": read}  # type: ignore[union-attr]
        expected = {half: blake3(np.ascontiguousarray(array).tobytes()).hexdigest() for half, array in halves.items()}
        assert tensor.checksums == expected
        assert tensor.shape == read.shape
        assert tensor.dtype == ("MXFP4" if packed else "bfloat16")
        assert tensor.files
        assert all(any(tensor.stands_in(file) for file in found.files) for _ in tensor.files)
    assert found.config == {name: getattr(checkpoint.config, name) for name in NUMBERS}
    assert found.format == checkpoint.format == kind


@pytest.mark.parametrize("kind", KINDS)
def test_all_files_but_the_manifest_are_listed(artefact: MakeArtefact, kind: str) -> None:
    place = find_artefact(artefact(kind))
    there = {path.relative_to(place.root).as_posix() for path in place.root.rglob("*") if path.is_file()}
    assert set(read_manifest(place.manifest).files) == there - {place.manifest.name}


@pytest.mark.parametrize("kind", KINDS)
def test_manifest_is_the_same_anywhere_and_every_time(artefact: MakeArtefact, kind: str, tmp_path: Path) -> None:
    path = artefact(kind)
    manifest = find_artefact(path).manifest
    text = manifest.read_text()
    assert write_manifest(path) == manifest
    assert manifest.read_text() == text
    folder = manifest.parent
    moved = Path(shutil.copytree(folder, tmp_path / ".staging.partial"))
    (moved / manifest.name).unlink()
    written = write_manifest(moved / path.name if path != folder else moved)
    assert written.name == manifest.name
    assert written.read_text() == text
    assert str(tmp_path) not in text


def test_small_pieces_give_the_same_manifest(artefact: MakeArtefact, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        path = artefact(kind)
        text = find_artefact(path).manifest.read_text()
        with monkeypatch.context() as patch:
            patch.setattr("gptoss_weights.file_hashing._BUFFER_BYTES", 1009)
            patch.setitem(Checkpoint.row_slices.__kwdefaults__, "max_bytes", 1000)
            patch.setitem(Checkpoint.pieces.__kwdefaults__, "max_bytes", 1000)
            assert write_manifest(path).read_text() == text


def test_same_weights_have_the_same_checksums_in_every_layout(artefact: MakeArtefact) -> None:
    openai, hf = (read_manifest(artefact(kind) / "manifest.json") for kind in ("openai", "hf"))
    assert {name: entry.checksums for name, entry in openai.tensors.items()} == {
        name: entry.checksums for name, entry in hf.tensors.items()
    }
    flax, scanned, unscanned = (read_manifest(find_artefact(artefact(kind)).manifest) for kind in KINDS[3:])
    assert [entry.checksums for entry in flax.tensors.values()] == [
        entry.checksums for entry in scanned.tensors.values()
    ]
    assert [entry.checksums for entry in flax.tensors.values()] == [
        entry.checksums for entry in unscanned.tensors.values()
    ]


def test_config_elsewhere_and_manifest_elsewhere(artefact: MakeArtefact, tmp_path: Path) -> None:
    path = artefact("openai")
    (path / "manifest.json").unlink()
    config = (path / "config.json").rename(tmp_path / "config.json")
    written = write_manifest(path, config=config, manifest=tmp_path / "kept.json")
    assert written == tmp_path / "kept.json"
    assert "config.json" not in read_manifest(written).files
    assert not (path / "manifest.json").exists()


def test_damaged_checkpoint_gets_no_manifest(artefact: MakeArtefact) -> None:
    path = artefact("hf")
    (path / "manifest.json").unlink()
    min(path.glob("*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match="the file is missing"):
        write_manifest(path)
    assert not (path / "manifest.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_failing_read_ends_the_hashing_thread_too(artefact: MakeArtefact, kind: str) -> None:
    path = artefact(kind)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(path, on_bytes=stop)


def test_progress_counts_all_bytes(artefact: MakeArtefact) -> None:
    for kind in KINDS:
        path = artefact(kind)
        counted: list[int] = []
        write_manifest(path, on_bytes=counted.append)
        manifest = read_manifest(find_artefact(path).manifest)
        assert sum(counted) == sum(entry.nbytes for entry in manifest.files.values())
