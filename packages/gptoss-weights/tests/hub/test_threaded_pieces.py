"""Pieces out of a thread: in order, with errors, and with an end to waiting."""

import threading

import pytest
from gptoss_weights.hub.failures import TransientError
from gptoss_weights.hub.threaded_pieces import QUEUED_PIECES, threaded_pieces


def never() -> None:
    raise AssertionError("aborted, though all pieces were taken")


def test_pieces_come_in_order():
    made = [bytes([number]) for number in range(50)]
    with threaded_pieces(lambda: made, source="s", timeout_s=5, abort=never) as pieces:
        assert list(pieces) == made


def test_what_the_thread_raises_arrives_after_the_pieces():
    def produce():
        yield b"one"
        raise OSError("cable gone")

    taken = []
    with (
        pytest.raises(TransientError, match=r"s fails \(OSError: cable gone\)"),
        threaded_pieces(produce, source="s", timeout_s=5, abort=lambda: None) as pieces,
    ):
        taken.extend(pieces)
    with threaded_pieces(lambda: [b"one"], source="s", timeout_s=5, abort=never) as pieces:
        assert list(pieces) == [b"one"]


def test_silence_ends_the_wait_and_aborts():
    aborted = threading.Event()
    with (
        pytest.raises(TransientError, match="nothing arrives any more from s"),
        threaded_pieces(
            lambda: [b""] if aborted.wait(10) else [], source="s", timeout_s=0.05, abort=aborted.set
        ) as pieces,
    ):
        list(pieces)
    assert aborted.is_set()


def test_pieces_that_nobody_takes_stop_the_thread():
    made = []
    stopped = threading.Event()

    def produce():
        try:
            while True:
                made.append(1)
                yield b"piece"
        finally:
            stopped.set()

    with threaded_pieces(produce, source="s", timeout_s=5, abort=lambda: None) as pieces:
        next(pieces)
    assert stopped.wait(10)
    assert len(made) <= QUEUED_PIECES + 3  # one taken, some waiting, one in the maker's hand
