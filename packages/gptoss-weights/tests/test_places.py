from pathlib import Path

import pytest
from gptoss_weights import CheckpointError, open_checkpoint
from gptoss_weights.places import as_place, is_url, require_existing
from gptoss_weights.testing import write_tiny_checkpoint


@pytest.mark.parametrize("url", ["gs://bucket/run/0/items", "s3://bucket/x", "file:///tmp/x", "memory://x"])
def test_urls_are_told_from_paths(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize("path", ["/tmp/x", "run:0/items", "C:/x", "a/b://c", "", Path("gs:/bucket")])
def test_paths_are_told_from_urls(path: Path | str) -> None:
    assert not is_url(path)
    assert as_place(path) == Path(path)


@pytest.mark.parametrize("url", ["file:///a%20b/c", "file://localhost/a%20b/c", "FILE:///a%20b/c/"])
def test_file_urls_are_paths(url: str) -> None:
    assert as_place(url) == Path("/a b/c")


@pytest.mark.parametrize("url", ["gs://bucket/x", "file://server/share", "file://"])
def test_other_urls_stay_as_they_are(url: str) -> None:
    assert as_place(url) == url


def test_folder_of_safetensors_opens_by_its_file_url(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "with space", format="openai", num_hidden_layers=1)
    assert open_checkpoint(folder.as_uri()).format == "openai"


def test_name_of_a_repository_gets_the_command_that_fetches_it() -> None:
    with pytest.raises(CheckpointError, match=r"\. If it .*: gptoss-weights download openai/gpt-oss-20b$"):
        require_existing(Path("openai/gpt-oss-20b"))


def test_misspelled_folder_gets_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no such folder or file$"):
        require_existing(tmp_path / "absent")
