"""Options that several commands share, and errors of options as errors of usage."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

__all__ = ["as_json", "as_usage_error", "model_argument", "session_options", "tokenizer_folder"]

model_argument = click.argument("model", type=click.Path(path_type=Path))
as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")


def session_options[Function: Callable[..., Any]](command: Function) -> Function:
    """The options `--mode` and `--threads`."""
    mode = click.option(
        "--mode",
        type=click.Choice(["exact", "turbo"]),
        default="exact",
        show_default=True,
        help="exact computes in float32; turbo, for exports of profile fast, rounds activations and is faster.",
    )
    threads = click.option("--threads", type=click.IntRange(min=1), help="Threads to use; by default one a core.")
    return mode(threads(command))


@contextlib.contextmanager
def as_usage_error() -> Iterator[None]:
    """Makes a usage error of options, or of a request, that the model or the checkpoint cannot meet."""
    from gptoss_onnx.errors import OptionError, RequestError

    try:
        yield
    except (OptionError, RequestError) as error:
        raise click.UsageError(str(error)) from None


def tokenizer_folder(model: Path) -> Path:
    """The folder of the tokenizer: the exported one, or, beside a published `original/`, the one above it."""
    is_above = model.absolute().name == "original" and not (model / "tokenizer.json").is_file()
    return model.absolute().parent if is_above else model
