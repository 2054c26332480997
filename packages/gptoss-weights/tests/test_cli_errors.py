"""Every error is a sentence and an exit code; a traceback shows only when it is asked for."""

import errno
import gc
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner
from gptoss_weights import (
    CheckpointError,
    GptOssWarning,
    MissingDependencyError,
    NetworkError,
    NotEnoughSpaceError,
    ParityError,
)
from gptoss_weights.cli_errors import ErrorMappingGroup, ExitCode, received_signal


def program(act: Callable[[], object]) -> click.Group:
    """A program of one command that does something."""

    @click.group(cls=ErrorMappingGroup)
    def group() -> None:
        """A program."""

    @group.command()
    def run() -> None:
        """Runs."""
        act()

    return group


def raiser(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


class XlaRuntimeError(RuntimeError):
    """As jaxlib calls its own."""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CheckpointError("it is broken", where="f"), ExitCode.BAD_INPUT, "error: f: it is broken\n"),
        (ParityError("they differ"), ExitCode.PARITY_FAILED, "error: they differ\n"),
        (MissingDependencyError("no jax"), ExitCode.MISSING_DEPENDENCY, "error: no jax\n"),
        (NotEnoughSpaceError("too small"), ExitCode.NOT_ENOUGH_SPACE, "error: too small\n"),
        (NetworkError("offline"), ExitCode.NETWORK, "error: offline\n"),
        (MemoryError(), ExitCode.NOT_ENOUGH_SPACE, "error: not enough memory (MemoryError)\n"),
        (XlaRuntimeError("RESOURCE_EXHAUSTED: out"), ExitCode.NOT_ENOUGH_SPACE, "error: not enough memory (Xla"),
        (XlaRuntimeError("INVALID_ARGUMENT"), ExitCode.INTERNAL_ERROR, "error: internal error: XlaRuntimeError: INV"),
        (OSError(errno.ENOSPC, "Full"), ExitCode.NOT_ENOUGH_SPACE, "error: not enough space (Full)\n"),
        (OSError(errno.ENOSPC, "Full", "f"), ExitCode.NOT_ENOUGH_SPACE, "error: f: not enough space (Full)\n"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), ExitCode.BAD_INPUT, "error: f: Permission denied\n"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted\n"),
        (click.UsageError("what?"), ExitCode.USAGE, "Error: what?\n"),
        (click.FileError("f", "gone"), ExitCode.BAD_INPUT, "Error: Could not open file"),
        (
            ValueError("a\nbug"),
            ExitCode.INTERNAL_ERROR,
            "error: internal error: ValueError: a bug. Run again with",
        ),
    ],
)
def test_error_becomes_sentence_and_code(error: BaseException, code: ExitCode, words: str) -> None:
    result = CliRunner().invoke(program(raiser(error)), ["run"])
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_traceback_shows_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTOSS_DEBUG", "1")
    result = CliRunner().invoke(program(raiser(ValueError("a bug"))), ["run"])
    assert result.exit_code == ExitCode.INTERNAL_ERROR
    assert "Traceback" in result.stderr
    assert "in act" in result.stderr


def test_success_is_zero_and_an_explicit_code_is_kept() -> None:
    assert CliRunner().invoke(program(lambda: None), ["run"]).exit_code == 0
    assert CliRunner().invoke(program(lambda: click.get_current_context().exit(4)), ["run"]).exit_code == 4


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["run", "--bogus"], ["run", "surplus"]])
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    assert CliRunner().invoke(program(lambda: None), arguments).exit_code == ExitCode.USAGE


def test_our_warnings_are_lines_and_each_is_shown() -> None:
    def act() -> None:
        for _ in range(2):
            warnings.warn("odd key", GptOssWarning)

    result = CliRunner().invoke(program(act), ["run"])
    assert result.exit_code == 0
    assert result.stderr == "warning: odd key\n" * 2


def test_warning_filters_are_as_before(recwarn: pytest.WarningsRecorder) -> None:
    shower, filters = warnings.showwarning, list(warnings.filters)
    CliRunner().invoke(program(lambda: None), ["run"])
    assert warnings.showwarning is shower
    assert warnings.filters == filters


def test_termination_unwinds_the_stack_and_the_handler_is_restored() -> None:
    unwound = []

    def act() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            unwound.append(True)

    before = signal.getsignal(signal.SIGTERM)
    result = CliRunner().invoke(program(act), ["run"])
    assert result.exit_code == ExitCode.TERMINATED
    assert result.stderr == "terminated\n"
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python says what it has lost
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)]
)
def test_signal_that_comes_where_no_exception_can_is_not_lost(number: signal.Signals, code: ExitCode) -> None:
    """In a callback of the garbage collector, of which JAX has one."""
    seen = []

    def stop(phase: str, _info: object) -> None:
        gc.callbacks.remove(stop)
        os.kill(os.getpid(), number)
        time.sleep(0.01)

    def act() -> None:
        gc.callbacks.append(stop)
        gc.collect()
        seen.append(received_signal())

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where tests run in the background
    try:
        result = CliRunner().invoke(program(act), ["run"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [number], "the command went on, and could have asked"
    assert result.exit_code == code
    assert received_signal() is None, "the next command is another"


def test_interruption_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = CliRunner().invoke(program(lambda: os.kill(os.getpid(), signal.SIGINT)), ["run"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == ExitCode.OK


def test_command_is_imported_only_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lazily_imported")
    module.hello = click.Command("hello", callback=lambda: click.echo("hello"))  # type: ignore[attr-defined]

    @click.group(cls=ErrorMappingGroup, lazy_commands={"hello": "lazily_imported:hello"})
    def group() -> None:
        """A program."""

    @group.command()
    def other() -> None:
        """Needs nothing."""

    assert CliRunner().invoke(group, ["other"]).exit_code == 0
    assert CliRunner().invoke(group, ["hello"]).exit_code == ExitCode.INTERNAL_ERROR  # not there yet
    monkeypatch.setitem(sys.modules, "lazily_imported", module)
    assert CliRunner().invoke(group, ["hello"]).stdout == "hello\n"
    assert "hello" in CliRunner().invoke(group, ["--help"]).stdout


def test_lazy_command_that_is_none_is_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lazily_imported")
    module.hello = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lazily_imported", module)
    group = ErrorMappingGroup(lazy_commands={"hello": "lazily_imported:hello"})
    result = CliRunner().invoke(group, ["hello"])
    assert "lazily_imported:hello is no click command" in result.stderr


def test_closed_standard_output_is_no_error(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import click\n"
        "from gptoss_weights.cli_errors import ErrorMappingGroup\n"
        "@click.group(cls=ErrorMappingGroup)\n"
        "def group(): pass\n"
        "@group.command()\n"
        "def run(): click.echo('said to nobody')\n"
        "group()\n"
    )
    closed = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(script))} run >&-"
    result = subprocess.run(["sh", "-c", closed], stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (ExitCode.OK, "")


def test_reader_that_has_had_enough_is_no_error(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import click\n"
        "from gptoss_weights.cli_errors import ErrorMappingGroup\n"
        "@click.group(cls=ErrorMappingGroup)\n"
        "def group(): pass\n"
        "@group.command()\n"
        "def run():\n"
        "    for number in range(100_000): click.echo(number)\n"
        "group()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == ExitCode.OK
