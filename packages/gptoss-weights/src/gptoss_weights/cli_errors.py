"""Errors as sentences and exit codes: the one wrapper that every command line of the toolkit uses.

`@click.group(cls=ErrorMappingGroup)` is all that a program needs. A `GptOssError` becomes one
sentence on standard error and its code; anything unforeseen becomes one line and code 1, with the
traceback only under `GPTOSS_DEBUG=1`.
"""

import contextlib
import enum
import errno
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Never, TextIO

import click

from gptoss_weights.errors import (
    CheckpointError,
    ConversationError,
    GptOssWarning,
    MissingDependencyError,
    NetworkError,
    NotEnoughSpaceError,
    ParityError,
)

__all__ = ["DEBUG_VARIABLE", "ErrorMappingGroup", "ExitCode", "received_signal"]

DEBUG_VARIABLE = "GPTOSS_DEBUG"
LONGEST_SENTENCE = 20_000  # characters; what a damaged file is quoted with must not bury the terminal


class ExitCode(enum.IntEnum):
    """What a command of the toolkit leaves behind; the same in all of them."""

    OK = 0
    INTERNAL_ERROR = 1
    USAGE = 2
    BAD_INPUT = 3
    PARITY_FAILED = 4
    MISSING_DEPENDENCY = 5
    NOT_ENOUGH_SPACE = 6
    NETWORK = 7
    INTERRUPTED = 130
    TERMINATED = 143


_CODES: Mapping[type[Exception], ExitCode] = {
    CheckpointError: ExitCode.BAD_INPUT,
    ConversationError: ExitCode.BAD_INPUT,
    ParityError: ExitCode.PARITY_FAILED,
    MissingDependencyError: ExitCode.MISSING_DEPENDENCY,
    NotEnoughSpaceError: ExitCode.NOT_ENOUGH_SPACE,
    NetworkError: ExitCode.NETWORK,
}
_RECEIVED: set[signal.Signals] = set()  # while a command runs: their exceptions may be lost, see `received_signal`
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG}


class _TerminatedError(BaseException):
    """SIGTERM, raised where the program stands, so that it can clean up behind itself."""


_EXCEPTIONS: Mapping[signal.Signals, type[BaseException]] = {
    signal.SIGTERM: _TerminatedError,
    signal.SIGINT: KeyboardInterrupt,
}


class _ReaderLeftError(BaseException):
    """Standard output is a pipe whose reader has had enough; click would make it exit code 1."""


def received_signal() -> signal.Signals | None:
    """SIGTERM or SIGINT, whichever has come since the command began; of both SIGTERM.

    They are exceptions besides, but where Python can raise none, in `__del__` or a callback of the garbage collector,
    these are lost. Who runs for long asks here.
    """
    return max(_RECEIVED, default=None)  # SIGTERM is 15, SIGINT 2


class ErrorMappingGroup(click.Group):
    """A group of commands whose errors are sentences and exit codes.

    Args:
        lazy_commands: Command name → "module:attribute", imported when the command is first asked for.
    """

    def __init__(self, *args: Any, lazy_commands: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy_commands = dict(lazy_commands or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, loaded or not."""
        return sorted({*super().list_commands(ctx), *self._lazy_commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now if it was not yet."""
        if cmd_name in self._lazy_commands:
            module, _, attribute = self._lazy_commands[cmd_name].partition(":")
            command = getattr(importlib.import_module(module), attribute)
            if not isinstance(command, click.Command):
                raise TypeError(f"{self._lazy_commands[cmd_name]} is no click command")
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderLeftError from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command line; ends the process unless `standalone_mode` is false."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        with _warnings_as_lines(), _signals_as_exceptions():
            code = self._exit_code(args, prog_name, complete_var, extra)
        sys.exit(code)

    def _exit_code(
        self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, extra: dict[str, Any]
    ) -> int:
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            if sys.stdout is not None:  # it was closed before Python started
                sys.stdout.flush()
            if (number := received_signal()) is not None:
                raise _EXCEPTIONS[number]  # its first exception was lost
        except click.ClickException as error:
            error.show()
            return error.exit_code if isinstance(error, click.UsageError) else ExitCode.BAD_INPUT
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            return ExitCode.INTERRUPTED
        except _TerminatedError:
            click.echo("terminated", err=True)
            return ExitCode.TERMINATED
        except (_ReaderLeftError, BrokenPipeError):
            _silence_stdout()
            return ExitCode.OK
        except Exception as error:  # noqa: BLE001 - the last wall before the user
            return _report(error)
        # With standalone_mode=False, click returns the code of ctx.exit(code) as the result.
        return result if isinstance(result, int) and not isinstance(result, bool) else ExitCode.OK


def _report(error: Exception) -> ExitCode:
    code, sentence = _sentence(error)
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    click.echo(f"error: {_printable(sentence)}", err=True)
    return code


def _sentence(error: Exception) -> tuple[ExitCode, str]:
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code, str(error)
    if isinstance(error, MemoryError) or (_is_jax_error(error) and "RESOURCE_EXHAUSTED" in str(error)):
        return ExitCode.NOT_ENOUGH_SPACE, f"not enough memory ({_one_line(error)})"
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        where = "" if error.filename is None else f"{error.filename}: "
        return ExitCode.NOT_ENOUGH_SPACE, f"{where}not enough space ({error.strerror})"
    if isinstance(error, OSError) and error.filename is not None:
        return ExitCode.BAD_INPUT, f"{error.filename}: {error.strerror}"
    hint = f"Run again with {DEBUG_VARIABLE}=1 for the traceback, and please report it."
    return ExitCode.INTERNAL_ERROR, f"internal error: {_one_line(error)}. {hint}"


def _is_jax_error(error: Exception) -> bool:
    return type(error).__name__ in {"XlaRuntimeError", "JaxRuntimeError"}


def _printable(text: str) -> str:
    """A text as one line that steers no terminal: it may quote what a hostile file holds."""
    text = " ".join(text.split("\n"))
    if len(text) > LONGEST_SENTENCE:
        text = f"{text[: LONGEST_SENTENCE // 2]} … {text[-LONGEST_SENTENCE // 2 :]}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Shows our own warnings as `warning: …` lines, every one of them."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, GptOssWarning):
            click.echo(f"warning: {_printable(str(message))}", err=True)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", GptOssWarning)
        usual = warnings.showwarning
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Lets SIGTERM unwind the stack as SIGINT does, so that half-written output is removed, and notes both.

    Only in the main thread. SIGINT stays ignored where it is, as in what a script starts in the background.
    """

    def unwind(number: int, _frame: FrameType | None) -> Never:
        _RECEIVED.add(signal.Signals(number))
        raise _EXCEPTIONS[signal.Signals(number)]

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {signal.SIGTERM: signal.signal(signal.SIGTERM, unwind)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, unwind)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _RECEIVED.clear()


def _silence_stdout() -> None:
    """Points standard output at nothing, so that flushing it at exit raises no second error."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
