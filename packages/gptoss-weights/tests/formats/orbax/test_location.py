"""Orbax checkpoints are found where they lie, and unfinished ones are called so."""

import shutil
import sys
from pathlib import Path

import pytest
from gptoss_weights import CheckpointError, MissingDependencyError, NotEnoughSpaceError
from gptoss_weights.errors import NetworkError
from gptoss_weights.formats.orbax import is_orbax, open_orbax
from gptoss_weights.formats.orbax.backend import explained
from gptoss_weights.formats.orbax.location import Location, find_item


@pytest.mark.parametrize("inside", [".", "0", "0/items"])
def test_item_step_and_root_are_recognised(maxtext: Path, inside: str) -> None:
    assert is_orbax(maxtext / inside)
    assert find_item(maxtext / inside).name == "items"


@pytest.mark.parametrize("name", ["default", "state"])
def test_items_of_orbax_itself_are_recognised(maxtext: Path, name: str) -> None:
    (maxtext / "0" / "items").rename(maxtext / "0" / name)
    assert is_orbax(maxtext)
    assert find_item(maxtext).name == name


def test_folder_of_ours_is_recognised(written: Path) -> None:
    assert is_orbax(written)
    assert find_item(str(written)).path == written


def test_other_folders_and_files_are_not(tmp_path: Path, openai_folder: Path) -> None:
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "photo.jpg").write_bytes(b"")
    assert not is_orbax(tmp_path)
    assert not is_orbax(openai_folder)
    assert not is_orbax(openai_folder / "config.json")
    assert not is_orbax(tmp_path / "absent")


@pytest.mark.parametrize("mark", ["_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"])
def test_damaged_checkpoint_is_still_recognised(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).write_bytes(b"")
    assert is_orbax(tmp_path)


@pytest.mark.parametrize("name", ["7.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp-1700000000"])
def test_leftover_of_an_interrupted_save_is_called_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "items.orbax-checkpoint-tmp").mkdir(parents=True)
    for given in (tmp_path, tmp_path / name):
        assert is_orbax(given)
        with pytest.raises(CheckpointError, match=r"was never finished.*Give an earlier step"):
            open_orbax(given, config=None)


def test_finished_step_beside_a_leftover_opens(maxtext: Path) -> None:
    (maxtext / "1.orbax-checkpoint-tmp").mkdir()
    assert open_orbax(maxtext, config=None)


def test_several_steps_must_be_told_apart(maxtext: Path) -> None:
    shutil.copytree(maxtext / "0", maxtext / "10")
    with pytest.raises(CheckpointError, match=r"holds 2 Orbax steps; found 0, 10\. Give one of them"):
        open_orbax(maxtext, config=None)


def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        open_orbax(tmp_path / "absent", config=None)


@pytest.mark.parametrize("url", ["gs://bucket/run/0/items", "s3://bucket/x", "file:///tmp/x", "memory://x"])
def test_every_url_counts_as_a_tree(url: str) -> None:
    assert is_orbax(url)


def test_bucket_of_google_becomes_a_store_without_touching_the_network() -> None:
    place = Location.at("gs://bucket/run/0/items/")
    assert place.kvstore() == {"driver": "gcs", "bucket": "bucket", "path": "run/0/items/"}
    assert (place / "x").kvstore()["path"] == "run/0/items/x/"
    assert place.parent.kvstore()["path"] == "run/0/"
    assert (place.name, str(place.parent)) == ("items", "gs://bucket/run/0")


def test_url_that_nothing_opens_is_told() -> None:
    with pytest.raises(CheckpointError, match="foo://bar: this URL cannot be opened"):
        open_orbax("foo://bar", config=None)


def test_missing_library_says_what_to_install(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    assert is_orbax(written)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gptoss-weights\[orbax\]'"):
        open_orbax(written, config=None)


@pytest.mark.parametrize(
    ("words", "where", "kind"),
    [
        ("RESOURCE_EXHAUSTED: write: No space left on device", "/x", NotEnoughSpaceError),
        ("UNAVAILABLE: connection refused", "gs://b/x", NetworkError),
        ("PERMISSION_DENIED: anonymous", "gs://b/x", NetworkError),
        ("PERMISSION_DENIED: open", "/x", CheckpointError),
        ("DATA_LOSS: digest", "gs://b/x", CheckpointError),
    ],
)
def test_failures_are_of_the_kind_that_their_exit_code_says(words: str, where: str, kind: type[Exception]) -> None:
    with pytest.raises(kind), explained("it failed", where=where):
        raise ValueError(words)
