"""Ranges of files are hashed as what they hold, in their order, whatever the buffer and the threads."""

from pathlib import Path

import pytest
from blake3 import blake3
from gptoss_weights import CheckpointError
from gptoss_weights.file_hashing import FileRange, hash_range, hash_ranges

CONTENT = bytes(range(256)) * 11
OF_NOTHING = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"  # in BLAKE3's published test vectors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("buffer_bytes", [1, 100, 1 << 20])
def test_checksums_are_those_of_the_ranges(file: Path, buffer_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptoss_weights.file_hashing._BUFFER_BYTES", buffer_bytes)
    places = [(0, 0), (0, 1), (7, 1000), (1000, len(CONTENT)), (3, 3), (len(CONTENT), len(CONTENT))]
    counted: list[int] = []
    found = list(hash_ranges([FileRange(file, *place) for place in places], on_bytes=counted.append))
    assert found == [blake3(CONTENT[start:stop]).hexdigest() for start, stop in places]
    assert found[0] == OF_NOTHING
    assert sum(counted) == sum(stop - start for start, stop in places)


def test_file_that_ends_too_early_is_said(file: Path) -> None:
    with pytest.raises(CheckpointError, match="the file has become shorter while it was read"):
        hash_range(FileRange(file, 0, len(CONTENT) + 1))


def test_whoever_stops_taking_checksums_stops_the_hashing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptoss_weights.file_hashing._BUFFER_BYTES", 1)
    counted: list[int] = []
    sums = hash_ranges([FileRange(file, 0, 1), *[FileRange(file, 0, len(CONTENT))] * 200], on_bytes=counted.append)
    next(sums)
    sums.close()
    assert sum(counted) < 200 * len(CONTENT)


def test_failing_progress_is_heard(file: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(hash_ranges([FileRange(file, 0, 10)], on_bytes=stop))
