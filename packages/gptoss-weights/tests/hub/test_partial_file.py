"""Partial files: what has arrived, under a name that no other content shares."""

import hashlib
from pathlib import Path

import pytest
from gptoss_weights.hub.content_hash import ContentHash
from gptoss_weights.hub.partial_file import PartialFile, drop_superseded, has_content, partial_path

WHOLE = bytes(range(256)) * 20
CONTENT = ContentHash("sha256", hashlib.sha256(WHOLE).hexdigest())
OTHER = ContentHash("sha256", "0" * 64)


def opened(path: Path) -> PartialFile:
    return PartialFile(path, len(WHOLE), CONTENT)


def test_hash_covers_what_an_earlier_run_has_left(tmp_path):
    with opened(tmp_path / "p") as partial:
        partial.append(WHOLE[:1000])
    with opened(tmp_path / "p") as partial:
        assert partial.arrived == 1000
        partial.append(WHOLE[1000:])
        assert partial.hexdigest() == CONTENT.hexdigest


def test_bytes_are_on_disk_before_the_file_is_closed(tmp_path):
    with opened(tmp_path / "p") as partial:
        partial.append(WHOLE[:10])
        assert (tmp_path / "p").read_bytes() == WHOLE[:10]


def test_restart_forgets_bytes_and_hash(tmp_path):
    with opened(tmp_path / "p") as partial:
        partial.append(b"wrong")
        partial.restart()
        partial.append(WHOLE)
        assert partial.hexdigest() == CONTENT.hexdigest
    assert (tmp_path / "p").read_bytes() == WHOLE


def test_more_bytes_than_the_whole_are_thrown_away(tmp_path):
    (tmp_path / "p").write_bytes(WHOLE + b"?")
    with opened(tmp_path / "p") as partial:
        assert partial.arrived == 0


def test_empty_partial_file_does_not_stay(tmp_path):
    with opened(tmp_path / "p"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_publishing_moves_it_over_what_stood_there(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    with opened(tmp_path / "p") as partial:
        partial.append(WHOLE)
        partial.publish(tmp_path / "folder" / "file")
    assert (tmp_path / "folder" / "file").read_bytes() == WHOLE
    assert not (tmp_path / "p").exists()


def test_name_tells_paths_and_contents_apart():
    names = {
        partial_path(Path("s"), path, content) for path in ("a/b", "a", "a%2Fb", "a.b") for content in (CONTENT, OTHER)
    }
    assert len(names) == 8
    assert {name.parent for name in names} == {Path("s")}


def test_only_other_contents_of_the_same_path_are_superseded(tmp_path):
    kept = [partial_path(tmp_path, "a", CONTENT), partial_path(tmp_path, "a.b", OTHER), tmp_path / "lock"]
    for path in [*kept, partial_path(tmp_path, "a", OTHER)]:
        path.touch()
    drop_superseded(tmp_path, "a", CONTENT)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("there", [WHOLE[:-1], WHOLE[:-1] + b"?", WHOLE + b"?", b""])
def test_content_is_held_against_size_and_hash(tmp_path, there):
    (tmp_path / "file").write_bytes(there)
    assert not has_content(tmp_path / "file", len(WHOLE), CONTENT)
    (tmp_path / "file").write_bytes(WHOLE)
    assert has_content(tmp_path / "file", len(WHOLE), CONTENT)
    assert not has_content(tmp_path / "absent", len(WHOLE), CONTENT)
