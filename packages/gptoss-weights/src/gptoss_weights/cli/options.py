"""Arguments and options that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gptoss_weights.cli_parameters import CHECKPOINT_PATH
from gptoss_weights.formats.names import FORMAT_NAMES

__all__ = [
    "as_json",
    "checkpoint_argument",
    "config_option",
    "dtype_option",
    "durable_option",
    "format_option",
    "max_shard_size_option",
]

_UNITS = {"": 1, "B": 1, **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)}}
_UNITS |= {f"{prefix}IB": 1024**power for power, prefix in enumerate("KMGT", 1)}


def _byte_size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """A number of bytes: 5000000000, 5GB (powers of 1000) or 5GiB (powers of 1024)."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise click.BadParameter(f"{value!r} is no size such as 5GB, 500MB or 4GiB")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise click.BadParameter(f"{value!r} is less than a byte")
    return size


checkpoint_argument = click.argument("checkpoint", type=CHECKPOINT_PATH)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A config.json in either dialect, if it does not stand in the folder.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float16", "float32"]),
    default="bfloat16",
    show_default=True,
    help="Of what is not packed: embeddings, attention, norms, and plain experts.",
)
max_shard_size_option = click.option(
    "--max-shard-size",
    callback=_byte_size,
    metavar="SIZE",
    help="Most tensor bytes in one safetensors file, such as 5GB; by default as published.",
)
durable_option = click.option(
    "--fsync/--no-fsync",
    "durable",
    default=True,
    show_default=True,
    help="Wait until the disk has everything, so that a power failure leaves nothing damaged.",
)


def format_option[Function: Callable[..., Any]](help_text: str) -> Callable[[Function], Function]:
    """The option `--to`, with that help."""
    return click.option("--to", "format_name", type=click.Choice(FORMAT_NAMES), help=help_text)
