import io
import sys

import pytest
from gptoss_model.cli.status import CLEAR_LINE, status, until_first


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """Puts a terminal in the place of standard error; to be called in the test, where pytest has put its own."""

    def replace() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def test_a_line_is_shown_on_a_terminal_and_taken_away(on_terminal):
    stream = on_terminal()
    with status("loading"):
        assert stream.getvalue() == "loading …"
    assert stream.getvalue() == f"loading …{CLEAR_LINE}"


def test_elsewhere_nothing_is_shown(capsys):
    with status("loading"):
        pass
    assert capsys.readouterr() == ("", "")


def test_the_line_stays_until_the_first_item_is_there(on_terminal):
    stream = on_terminal()
    items = until_first("reading", iter([1, 2, 3]))
    assert next(items) == 1
    assert stream.getvalue() == f"reading …{CLEAR_LINE}"
    assert list(items) == [2, 3]
    assert list(until_first("reading", iter([]))) == []


def test_closing_closes_what_it_reads():
    closed = []

    def count():
        try:
            yield from range(10)
        finally:
            closed.append(True)

    items = until_first("reading", count())
    next(items)
    items.close()
    assert closed == [True]
