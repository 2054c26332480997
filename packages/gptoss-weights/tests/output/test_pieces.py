import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from gptoss_weights.output.files import OutputFiles
from gptoss_weights.output.pieces import MOST_UNHASHED, Checksum, Piece, write_pieces


def test_pieces_are_recorded_in_order_once_their_checksums_are_there(tmp_path: Path) -> None:
    written: list[str] = []
    recorded: list[tuple[str, str | None]] = []
    coming: dict[str, Future[str]] = {}

    def piece(key: str, checksum: Checksum) -> Piece:
        def write(_: OutputFiles) -> Checksum:
            written.append(key)
            if written == ["a", "b", "c"]:
                coming["a"].set_result("of a")
            return checksum

        return Piece(key, ord(key), write)

    coming["a"] = Future()
    pieces = [piece("a", coming["a"]), piece("b", None), piece("c", "of c"), piece("d", None)]
    with OutputFiles(tmp_path) as files:
        steps = write_pieces(pieces, files, done={"d"}, record=lambda *pair: recorded.append(pair))
        assert next(steps) == ord("a")
        assert written == ["a", "b", "c"]
        assert recorded == [("a", "of a")]
        assert list(steps) == [ord("b"), ord("c"), ord("d")]
    assert recorded == [("a", "of a"), ("b", None), ("c", "of c")]
    assert written == ["a", "b", "c"]


def test_only_so_many_pieces_wait_for_their_checksums(tmp_path: Path) -> None:
    written: list[str] = []
    recorded: list[str] = []
    ahead: list[int] = []

    def piece(key: str) -> Piece:
        def write(_: OutputFiles) -> Checksum:
            written.append(key)
            ahead.append(len(written) - len(recorded))
            return pool.submit(lambda: time.sleep(0.005) or "sum")

        return Piece(key, 1, write)

    pieces = [piece(str(number)) for number in range(4 * MOST_UNHASHED)]
    with ThreadPoolExecutor(1) as pool, OutputFiles(tmp_path) as files:
        assert sum(write_pieces(pieces, files, done=(), record=lambda key, _: recorded.append(key))) == len(pieces)
    assert recorded == written
    assert 1 < max(ahead) <= MOST_UNHASHED + 1


def test_failure_of_a_checksum_is_raised_and_nothing_recorded(tmp_path: Path) -> None:
    failed: Future[str] = Future()
    failed.set_exception(ValueError("shorter"))
    recorded: list[str] = []
    with OutputFiles(tmp_path) as files, pytest.raises(ValueError, match="shorter"):
        list(
            write_pieces([Piece("a", 1, lambda _: failed)], files, done=(), record=lambda key, _: recorded.append(key))
        )
    assert recorded == []
