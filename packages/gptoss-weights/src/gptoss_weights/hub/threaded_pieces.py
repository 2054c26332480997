"""Pieces that a library makes in a thread of its own, so that its silence ends a wait and Ctrl-C is heard."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from gptoss_weights.hub.failures import TransientError

__all__ = ["threaded_pieces"]

QUEUED_PIECES = 2
_POLL_S = 0.1  # how soon a thread whose pieces nobody takes any more notices


@contextlib.contextmanager
def threaded_pieces(
    produce: Callable[[], Iterable[bytes]], *, source: str, timeout_s: float, abort: Callable[[], object]
) -> Iterator[Iterator[bytes]]:
    """Runs `produce` in a thread and hands on its pieces.

    Args:
        produce: Makes the pieces; whatever it raises becomes a `TransientError` where they are taken.
        source: What they come from, for the words of errors.
        timeout_s: How long to wait for the next piece.
        abort: Called if not all pieces were taken, to wake a thread that waits for more.
    """
    pieces: queue.Queue[bytes | Exception | None] = queue.Queue(QUEUED_PIECES)
    is_over = threading.Event()

    def put(piece: bytes | Exception | None) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                pieces.put(piece, timeout=_POLL_S)
                return

    def run() -> None:
        try:
            for piece in produce():
                put(piece)
                if is_over.is_set():
                    return
            put(None)
        except Exception as error:  # noqa: BLE001 - the library raises what it likes; it is handed on
            put(error)

    def take() -> Iterator[bytes]:
        while True:
            try:
                piece = pieces.get(timeout=timeout_s)
            except queue.Empty:
                raise TransientError(f"nothing arrives any more from {source}") from None
            if isinstance(piece, Exception):
                raise TransientError(f"{source} fails ({type(piece).__name__}: {piece})") from piece
            if piece is None:
                is_over.set()
                return
            yield piece

    threading.Thread(target=run, name=source, daemon=True).start()
    try:
        yield take()
    finally:
        if not is_over.is_set():
            is_over.set()
            abort()
