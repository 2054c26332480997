import os
import stat

import pytest
from gptoss_parity.atomic_files import replace_file, write_bytes


def test_content_replaces_the_old_file(tmp_path):
    (tmp_path / "f").write_bytes(b"old and longer")
    write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


def test_missing_folders_are_made(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "f", b"x")
    assert (tmp_path / "a" / "b" / "f").read_bytes() == b"x"


def test_interrupted_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _write_half(tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def _write_half(path):
    with replace_file(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt


def test_mode_follows_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        write_bytes(tmp_path / "f", b"")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
