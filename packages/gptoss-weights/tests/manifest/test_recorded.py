"""Conversions take checksums over from the source's manifest, so damage since then is found in the copy too."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from gptoss_weights import StoredArray, convert_checkpoint, open_checkpoint, read_manifest, verify_artefact
from gptoss_weights.manifest import RecordedChecksums, find_artefact

type MakeArtefact = Callable[[str], Path]
SINKS = "model.layers.1.self_attn.sinks"


def stored_sinks(path: Path) -> StoredArray:
    stored = open_checkpoint(path).stored(SINKS)
    assert isinstance(stored, StoredArray)
    return stored


def flip_lowest_bit(stored: StoredArray) -> None:
    content = bytearray(stored.path.read_bytes())
    content[stored.offset] ^= 1
    stored.path.write_bytes(content)


@pytest.mark.parametrize("kind", ["openai", "hf", "hf-bf16"])
def test_checksum_of_a_tensor_that_stands_as_it_is_is_known(artefact: MakeArtefact, kind: str) -> None:
    stored = stored_sinks(artefact(kind))
    content = stored.path.read_bytes()[stored.offset :][: stored.nbytes]
    assert RecordedChecksums()(stored) == blake3(content).hexdigest()


def test_part_of_a_tensor_has_none(artefact: MakeArtefact) -> None:
    stored = stored_sinks(artefact("hf"))
    assert RecordedChecksums()(stored.rows(0, 1)) is None


@pytest.mark.parametrize("change", ["no manifest", "damaged manifest", "another size"])
def test_manifest_that_says_nothing_of_these_bytes_is_not_asked(artefact: MakeArtefact, change: str) -> None:
    path = artefact("hf")
    stored, manifest = stored_sinks(path), path / "manifest.json"
    match change:
        case "no manifest":
            manifest.unlink()
        case "damaged manifest":
            manifest.write_text(manifest.read_text().replace('"bytes": ', '"bytes": 1'))
        case _:
            stored.path.write_bytes(stored.path.read_bytes() + b"\0")
    assert RecordedChecksums()(stored) is None


@pytest.mark.parametrize(("kind", "to"), [("openai", "hf"), ("hf", "openai"), ("hf", "hf-bf16")])
def test_bit_that_flipped_in_the_source_is_found_in_its_copy(
    artefact: MakeArtefact, kind: str, to: str, tmp_path: Path
) -> None:
    path = artefact(kind)
    flip_lowest_bit(stored_sinks(path))
    convert_checkpoint(open_checkpoint(path), tmp_path / "copy", format=to)
    [problem] = verify_artefact(tmp_path / "copy").problems
    assert f"in it {SINKS}: its values have changed" in problem


def test_without_a_manifest_the_copy_is_held_to_the_source_as_it_is(artefact: MakeArtefact, tmp_path: Path) -> None:
    path = artefact("openai")
    expected = read_manifest(path / "manifest.json")
    (path / "manifest.json").unlink()
    convert_checkpoint(open_checkpoint(path), tmp_path / "copy", format="hf")
    assert verify_artefact(tmp_path / "copy").problems == []
    found = read_manifest(find_artefact(tmp_path / "copy").manifest)
    assert {name: entry.checksums for name, entry in found.tensors.items()} == {
        name: entry.checksums for name, entry in expected.tensors.items()
    }
