"""Which files belong to an artefact, and where its manifest stands, damaged or not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from gptoss_weights import CheckpointError
from gptoss_weights.manifest import find_artefact

type MakeArtefact = Callable[[str], Path]


def test_manifest_of_a_folder_stands_in_it(artefact: MakeArtefact) -> None:
    for kind in ("openai", "hf"):
        path = artefact(kind)
        assert find_artefact(path).manifest == path / "manifest.json"


def test_manifest_of_a_bundle_stands_beside_it(artefact: MakeArtefact) -> None:
    path = artefact("flax")
    assert find_artefact(path).manifest == path.parent / "bundle.manifest.json"
    assert find_artefact(path.parent) == find_artefact(path)
    path.unlink()
    assert find_artefact(path.parent) == find_artefact(path)


def test_two_bundles_in_a_folder_are_two_artefacts(artefact: MakeArtefact) -> None:
    path = artefact("flax")
    other = path.with_name("other.msgpack")
    other.write_bytes(path.read_bytes())
    other.with_name("other.config.json").write_bytes(path.with_name("bundle.config.json").read_bytes())
    assert find_artefact(other).files() == ["LICENSE", "other.config.json", "other.msgpack", "tokenizer.json"]
    assert find_artefact(path).files() == ["LICENSE", "bundle.config.json", "bundle.msgpack", "tokenizer.json"]


def test_manifest_of_an_orbax_tree_stands_in_the_item(artefact: MakeArtefact, tmp_path: Path) -> None:
    item = tmp_path / "run" / "0" / "items"
    item.parent.mkdir(parents=True)
    artefact("orbax-scanned").rename(item)
    for path in (item, item.parent, item.parent.parent):
        assert find_artefact(path).manifest == item / "manifest.json"
    (item / "_METADATA").unlink()
    assert find_artefact(item.parent).manifest == item / "manifest.json"


def test_files_that_nobody_reads_do_not_belong(artefact: MakeArtefact) -> None:
    for kind in ("hf", "flax", "orbax-scanned"):
        place = find_artefact(artefact(kind))
        before = place.files()
        (place.root / "README.md").write_text("hello")
        (place.root / "notes.txt").write_text("hello")
        assert find_artefact(place.root).files() == before


def test_original_does_not_list_what_stands_above_it(artefact: MakeArtefact) -> None:
    repository = artefact("hf")
    original = artefact("openai").rename(repository / "original")
    (original / "tokenizer.json").unlink()
    assert "tokenizer.json" not in find_artefact(original).files()
    assert not any(file.startswith("original") for file in find_artefact(repository).files())


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        find_artefact(tmp_path / "nowhere")
