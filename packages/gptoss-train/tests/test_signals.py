import os
import signal

import jax
import pytest
from gptoss_train.signals import WaitEnded, stop_requests


def test_a_signal_is_taken_down_and_ends_waiting_alone():
    with stop_requests() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.wanted() == signal.SIGTERM
        with pytest.raises(WaitEnded) as ended, request.waiting():
            pytest.fail("it had come before")
    assert ended.value.signal == signal.SIGTERM
    with stop_requests() as request, pytest.raises(WaitEnded), request.waiting():
        os.kill(os.getpid(), signal.SIGTERM)


def test_several_processes_stop_between_two_steps_only(monkeypatch):
    """One that stopped while it waits would leave the others waiting for it."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with stop_requests() as request, request.waiting():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_signal_does_what_it_always_did():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests():
        assert signal.getsignal(signal.SIGTERM) != before
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == before
