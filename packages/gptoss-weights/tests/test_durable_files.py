"""Files appear whole or not at all, with ordinary permissions, and are synced in the order that makes it so."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from gptoss_weights.durable_files import folder_beside, name_beside, replaced_file, sync, sync_tree, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def restrictive_umask() -> object:
    previous = os.umask(0o027)
    yield
    os.umask(previous)


def test_content_replaces_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old and longer")
    write_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_half_of_a_file_is_never_seen(tmp_path: Path) -> None:
    with replaced_file(tmp_path / "file") as stream:
        stream.write(b"half")
        stream.flush()
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"half"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_failed_block_leaves_what_was_there(tmp_path: Path, interruption: type[BaseException]) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def write_half() -> None:
        with replaced_file(tmp_path / "file") as stream:
            stream.write(b"half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_failed_sync_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("no space")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_content_is_synced_before_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("sync the folder" if is_folder else "sync the file")

    plain = Path.replace
    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda self, target: (steps.append("rename"), plain(self, target))[1])
    write_durably(tmp_path / "file", b"new")
    assert steps == ["sync the file", "rename", "sync the folder"]


@pytest.mark.usefixtures("restrictive_umask")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder_beside(tmp_path / "folder").stat().st_mode) == 0o750


def test_names_beside_are_hidden_and_never_the_same(tmp_path: Path) -> None:
    one, other = name_beside(tmp_path / "file"), name_beside(tmp_path / "file")
    assert one != other
    assert one.parent == tmp_path
    assert one.name.startswith(".file.")


def test_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "missing" / "file", b"")


@pytest.mark.parametrize(("act", "expected"), [(sync, {"."}), (sync_tree, {".", "a", "a/b", "a/b/f", "g"})])
def test_whole_trees_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None], expected: set[str]
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for file in ("a/b/f", "g"):
        (tmp_path / file).touch()
    known = {path.stat().st_ino: path.relative_to(tmp_path).as_posix() for path in [tmp_path, *tmp_path.rglob("*")]}
    synced: set[str] = set()
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.add(known[os.fstat(descriptor).st_ino]))
    act(tmp_path)
    assert synced == expected
