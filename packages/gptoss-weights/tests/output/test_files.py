"""Bytes land where they are sent, whether the kernel copies them or not."""

import errno
import os
from concurrent.futures import Future
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3
from gptoss_weights import CheckpointError, StoredArray
from gptoss_weights.output.files import OutputFiles

U8 = np.dtype(np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 40)
    return path


def declining(*_: object) -> int:
    raise OSError(errno.EXDEV, "another file system")


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_copy_brings_any_range_to_any_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_copies: bool
) -> None:
    monkeypatch.setattr("gptoss_weights.output.files._COPIED_BYTES", 1000)
    monkeypatch.setattr("gptoss_weights.output.files._BUFFER_BYTES", 300)
    if not kernel_copies:
        monkeypatch.setattr(os, "copy_file_range", declining, raising=False)
    with OutputFiles(tmp_path / "out") as files:
        files.set_size("a/b", 5010)
        files.copy("a/b", 7, StoredArray(path=source, offset=13, dtype=U8, shape=(5000,)))
    content = (tmp_path / "out" / "a" / "b").read_bytes()
    assert content == bytes(7) + source.read_bytes()[13:5013] + bytes(3)


def test_other_failures_of_the_copy_are_not_hidden(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    with OutputFiles(tmp_path) as files, pytest.raises(OSError, match=r"No space left on device: '.*/out'"):
        files.copy("out", 0, StoredArray(path=source, offset=0, dtype=U8, shape=(10,)))


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_source_that_became_shorter_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_copies: bool
) -> None:
    if not kernel_copies:
        monkeypatch.setattr(os, "copy_file_range", declining, raising=False)
    stored = StoredArray(path=source, offset=10_000, dtype=U8, shape=(1000,))
    with OutputFiles(tmp_path) as files, pytest.raises(CheckpointError, match="source: the file has become shorter"):
        files.copy("out", 0, stored)


def test_arrays_are_written_in_c_order_whatever_they_are_views_of(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(3, 4)
    with OutputFiles(tmp_path) as files:
        files.write("out", 2, array.T)
        files.write("out", 0, b"ab")
        files.write("out", 26, memoryview(b"z"))
    assert (tmp_path / "out").read_bytes() == b"ab" + array.T.tobytes() + b"z"


def test_every_file_is_closed(source: Path, tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("this system does not list open files")
    before = len(list(descriptors.iterdir()))
    with OutputFiles(tmp_path) as files:
        coming = files.copy("out", 0, StoredArray(path=source, offset=0, dtype=U8, shape=(10,)))
        assert isinstance(coming, Future)
        coming.result()  # the thread that hashes has the source open as well, until then
        assert len(list(descriptors.iterdir())) == before + 2
    assert len(list(descriptors.iterdir())) == before


def test_checksum_of_a_copy_comes_later_unless_it_is_known(source: Path, tmp_path: Path) -> None:
    stored = StoredArray(path=source, offset=3, dtype=U8, shape=(10,))
    with OutputFiles(tmp_path) as files:
        coming = files.copy("out", 0, stored)
        assert isinstance(coming, Future)
        assert coming.result() == blake3(source.read_bytes()[3:13]).hexdigest()
    with OutputFiles(tmp_path, known_checksum=lambda _: "noted") as files:
        assert files.copy("out", 0, stored) == "noted"


def test_disk_begins_before_the_end_and_its_failure_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("gptoss_weights.output.files._SYNCED_BYTES", 8)
    monkeypatch.setattr(os, "fdatasync", broken)
    stored = StoredArray(path=source, offset=0, dtype=U8, shape=(10,))
    with OutputFiles(tmp_path) as files:
        files.copy("out", 0, stored)  # somebody else waits for the disk, or nobody
    with pytest.raises(OSError, match="Input/output error"), OutputFiles(tmp_path, starts_sync=True) as files:
        files.copy("out", 0, stored)
