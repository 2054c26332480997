"""SIGTERM and SIGINT as a wish that the loop asks for between two steps, on all hosts together.

Where one process waits for data, that may take as long as it likes: there the wish ends the waiting.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
import numpy as np
from gptoss_weights.cli_errors import received_signal

__all__ = ["StopRequest", "WaitEnded", "stop_requests"]


class WaitEnded(BaseException):
    """A signal has come while the loop was waiting; no `except Exception` on the way is meant.

    Attributes:
        signal: Which.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


class StopRequest:
    """Which signal has come, if any."""

    def __init__(self) -> None:
        self._signal = 0
        self._ends_waiting = False

    def note(self, number: int) -> None:
        """Takes a signal down.

        Raises:
            WaitEnded: the loop is `waiting`.
        """
        self._signal = number
        if self._ends_waiting:
            self._ends_waiting = False
            raise WaitEnded(number)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """What a signal ends at once, if there is no other process that would wait for this one.

        Raises:
            WaitEnded: by a signal, or by one that has come before.
        """
        if jax.process_count() > 1:
            yield
            return
        self._ends_waiting = True
        try:
            if self._signal:
                raise WaitEnded(self._signal)
            yield
        finally:
            self._ends_waiting = False

    def wanted(self) -> signal.Signals | None:
        """The signal that came to this process, or to any other: all must ask at the same step."""
        number = self._signal
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            number = int(multihost_utils.process_allgather(np.int32(number)).max())
        return signal.Signals(number) if number else None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Takes down SIGTERM and SIGINT while the block runs; a second one of a kind does what it always did.

    One that came to the command before, and was lost, counts too.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, previous[signal.Signals(number)])
        request.note(number)

    for number in previous:
        signal.signal(number, note)
    if (earlier := received_signal()) is not None:
        request.note(earlier)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
