"""A mapped file lets go of its pages, and every view stays whole."""

from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import StoredArray, mapped_file
from gptoss_weights.mapped_file import MappedFile


def resident_file_bytes() -> int:
    """Bytes of mapped files that count as memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) << 10
    pytest.skip("this system does not tell how much of a process is mapped files")


def test_a_view_shows_the_bytes_at_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"\xff" + np.arange(12, dtype="<f4").tobytes())
    view = MappedFile(path).view(StoredArray(path=path, offset=9, dtype=np.dtype("<f4"), shape=(2, 5)))
    assert view.tolist() == [[2, 3, 4, 5, 6], [7, 8, 9, 10, 11]]
    assert not view.flags.writeable


def test_pages_are_let_go_of_and_older_views_stay_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_file, "RESIDENT_BYTES", 1 << 20)
    path = tmp_path / "data"
    size = 64 << 20
    path.write_bytes(bytes(range(256)) * (size // 256))
    file = MappedFile(path)
    before = resident_file_bytes()
    views = []
    for offset in range(0, size, 1 << 19):
        views.append(file.view(StoredArray(path=path, offset=offset, dtype=np.dtype("u1"), shape=(1 << 19,))))
        assert int(views[-1].sum()) == (1 << 19) // 256 * sum(range(256))
        assert resident_file_bytes() - before < 16 << 20
    assert views[0].tobytes() == bytes(range(256)) * (1 << 11)


def test_many_files_share_one_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_file, "RESIDENT_BYTES", 4 << 20)
    size = 3 << 20
    content = np.arange(size, dtype=np.uint8)
    before = resident_file_bytes()
    files, views = [], []
    for number in range(12):
        path = tmp_path / str(number)
        content.tofile(path)
        files.append(MappedFile(path))
        views.append(files[-1].view(StoredArray(path=path, offset=0, dtype=np.dtype("u1"), shape=(size,))))
        assert views[-1][-1] == content[-1]
        assert int(views[-1].sum(dtype=np.int64)) == int(content.sum(dtype=np.int64))
    assert resident_file_bytes() - before < 12 << 20
    assert all(view[100] == content[100] for view in views)
