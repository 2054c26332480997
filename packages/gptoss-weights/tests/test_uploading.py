"""Trees are written to URLs whole, with their manifest; what was interrupted goes on; nothing else is touched."""

from collections.abc import Callable
from pathlib import Path

import pytest
from gptoss_weights import (
    Checkpoint,
    CheckpointError,
    GptOssConfig,
    open_checkpoint,
    save_checkpoint,
    verify_artefact,
)
from gptoss_weights.formats.orbax.location import Location
from gptoss_weights.testing import write_tiny_checkpoint

pytest.importorskip("tensorstore", reason="the extra orbax is not installed")
STATE = ".upload.json"
FORMAT = "orbax-scanned"


class Interrupted(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.fixture
def source(tmp_path: Path) -> Checkpoint:
    folder = write_tiny_checkpoint(tmp_path / "source", format="hf", num_hidden_layers=2)
    (folder / "tokenizer.json").write_text("{}")
    return open_checkpoint(folder)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A place that lives as long as this process."""
    return f"memory://{tmp_path.name}/run"


def contents(url: str) -> dict[str, bytes | None]:
    folder = Location.at(url)
    keys = folder.keys()
    return {key: folder.read(key) for key in keys}


def interrupt_after(arrays: int) -> Callable[[int], None]:
    count = 0

    def progress(_: int) -> None:
        nonlocal count
        count += 1
        if count == arrays:
            raise Interrupted

    return progress


def test_url_takes_what_a_folder_takes(source: Checkpoint, url: str, tmp_path: Path) -> None:
    save_checkpoint(source, url, format=FORMAT)
    save_checkpoint(source, tmp_path / "out", format=FORMAT)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert contents(url) == {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in files}
    assert {"tokenizer.json", "manifest.json", "config.json", "commit_success.txt"} <= set(contents(url))


def test_file_url_is_the_folder(source: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(source, (tmp_path / "out").as_uri(), format=FORMAT)
    assert verify_artefact(tmp_path / "out").problems == []
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("arrays", [1, 5, 14])
def test_interrupted_upload_is_no_checkpoint_and_goes_on_where_it_was(
    source: Checkpoint, url: str, tmp_path: Path, arrays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        save_checkpoint(source, url, format=FORMAT, progress=interrupt_after(arrays))
    with pytest.raises(CheckpointError, match="_METADATA is missing"):
        open_checkpoint(url)
    written: list[str] = []
    plain = Location.write
    monkeypatch.setattr(
        Location, "write", lambda self, name, content: (written.append(name), plain(self, name, content))[1]
    )
    progress: list[int] = []
    save_checkpoint(source, url, format=FORMAT, progress=progress.append)
    assert written.count(STATE) == len(progress) - 4 - arrays  # one for each array that was left, and 4 small files
    save_checkpoint(source, f"{url}-at-once", format=FORMAT)
    assert contents(url) == contents(f"{url}-at-once")


def test_upload_killed_before_its_manifest_gets_one(
    source: Checkpoint, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("gptoss_weights.uploading._manifest_text", interrupt)
        with pytest.raises(Interrupted):
            save_checkpoint(source, url, format=FORMAT)
    assert "manifest.json" not in contents(url)
    save_checkpoint(source, url, format=FORMAT)
    assert "manifest.json" in contents(url)
    assert STATE not in contents(url)


def test_upload_of_something_else_is_left_alone(source: Checkpoint, url: str) -> None:
    with pytest.raises(Interrupted):
        save_checkpoint(source, url, format=FORMAT, progress=interrupt_after(3))
    before = contents(url)
    with pytest.raises(CheckpointError, match="an upload of something else was interrupted here"):
        save_checkpoint(source, url, format="orbax-unscanned")
    assert contents(url) == before


def test_place_that_is_not_empty_is_refused(source: Checkpoint, url: str) -> None:
    Location.at(url).write("letter.txt", b"Dear")
    with pytest.raises(CheckpointError, match="the target is not empty"):
        save_checkpoint(source, url, format=FORMAT)
    assert contents(url) == {"letter.txt": b"Dear"}


def test_other_formats_go_to_folders_only(source: Checkpoint, url: str) -> None:
    with pytest.raises(CheckpointError, match="only Orbax trees can be written to a URL"):
        save_checkpoint(source, url, format="hf")


def test_tree_is_read_from_around_it_too(source: Checkpoint, url: str, tmp_path: Path) -> None:
    save_checkpoint(source, f"{url}/0/items", format=FORMAT)
    (tmp_path / "config.json").write_bytes(Location.at(f"{url}/0/items").read("config.json") or b"")
    found = open_checkpoint(url, config=tmp_path / "config.json")
    assert isinstance(found.config, GptOssConfig)
    assert found.format == FORMAT


def test_tree_behind_a_url_is_held_against_its_manifest(source: Checkpoint, url: str, tmp_path: Path) -> None:
    save_checkpoint(source, url, format=FORMAT)
    report = verify_artefact(url)
    assert (report.problems, report.manifest_path) == ([], f"{url}/manifest.json")
    other = open_checkpoint(write_tiny_checkpoint(tmp_path / "other", format="hf", num_hidden_layers=2, seed=1))
    save_checkpoint(other, f"{url}-other", format=FORMAT)
    key = "params.params.decoder.decoder_norm.scale/zarr.json"
    chunk = next(name for name in contents(url) if name.startswith(key.removesuffix("zarr.json") + "c"))
    Location.at(url).write(chunk, Location.at(f"{url}-other").read(chunk) or b"")  # a chunk that is sound by itself
    [problem] = verify_artefact(url).problems
    assert problem == f"{url}: model.norm.weight: its values have changed"
