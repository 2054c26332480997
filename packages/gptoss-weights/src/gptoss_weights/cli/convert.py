"""`gptoss-weights convert`: from any format to any other, trimmed and rounded on the way."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptoss_weights.cli.options import (
    as_json,
    config_option,
    dtype_option,
    durable_option,
    format_option,
    max_shard_size_option,
)
from gptoss_weights.cli.printing import print_files, print_written
from gptoss_weights.cli.progress import byte_progress
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

if TYPE_CHECKING:
    from gptoss_weights.conversion import Conversion

__all__ = ["convert"]


@click.command
@click.argument("source", metavar="SRC", type=CHECKPOINT_PATH)
@click.argument("target", metavar="DST", type=CHECKPOINT_PATH)
@config_option
@format_option("The format of DST; by default that of SRC.")
@dtype_option
@click.option("--layers", type=int, metavar="N", help="Keep the first N layers only.")
@click.option("--experts", type=int, metavar="N", help="Keep the first N experts of each layer only.")
@click.option(
    "--scale",
    type=click.Choice(["mse", "max"]),
    default="mse",
    show_default=True,
    help="Where plain experts are packed: scales of least squared error, or those of the OCP standard.",
)
@max_shard_size_option
@durable_option
@click.option("--dry-run", is_flag=True, help="Say which files would be written, and how large, and stop.")
@as_json
def convert(
    source: Path | str,
    target: Path | str,
    config: Path | None,
    format_name: Any,
    dtype: str,
    layers: int | None,
    experts: int | None,
    scale: Any,
    max_shard_size: int | None,
    durable: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Writes the checkpoint SRC as DST in another format, in bounded memory.

    DST is the folder itself, new or empty; for flax the .msgpack file, whose config and tokenizer come
    beside it; for Orbax also a URL such as gs://bucket/folder.

    \b
      openai           original/: MXFP4 experts, as published
      hf               Hugging Face: MXFP4 experts, as published
      hf-bf16          Hugging Face: plain experts, as transformers saves and MaxText converts them
      flax             the staged bundle of jax2onnx: a .msgpack file and its config
      orbax-scanned    MaxText's tree, layers stacked in pairs (an even number of them)
      orbax-unscanned  MaxText's tree, layer by layer

    Packed experts stay packed, byte for byte, between openai and hf, and are decoded exactly for the
    others. Plain ones are packed for openai and hf: exactly, if they came from there; otherwise the
    error of each tensor is reported. An interrupted conversion goes on when the command is given again.

    \b
    Examples:
      gptoss-weights convert gpt-oss-20b/original gpt-oss-20b-hf --to hf
      gptoss-weights convert gpt-oss-20b bf16 --to hf-bf16 --max-shard-size 5GB
      gptoss-weights convert gpt-oss-20b model.msgpack --to flax --dry-run
      gptoss-weights convert gpt-oss-20b two-layers --layers 2
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights.conversion import convert_checkpoint, plan_conversion
    from gptoss_weights.opening import open_checkpoint

    checkpoint = open_checkpoint(source, config=config)
    options: dict[str, Any] = {
        "format": format_name or checkpoint.format,
        "dtype": dtype,
        "layers": layers,
        "experts": experts,
        "scale": scale,
        "max_shard_bytes": max_shard_size,
    }
    try:
        plan = plan_conversion(checkpoint, target, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if dry_run:
        result = plan
    else:
        with byte_progress(plan.nbytes, label="writing") as progress:
            result = convert_checkpoint(checkpoint, target, **options, durable=durable, progress=progress)
    if as_json:
        document = {"source": str(source), "target": str(target), "dry_run": dry_run, "dtype": dtype}
        click.echo(json.dumps(document | result.to_json(), indent=2))
        return
    if dry_run:
        print_files(result.files)
    else:
        print_written(target, result)
    _print_quantization(result)


def _print_quantization(result: "Conversion") -> None:
    inexact = {name: error for name, error in result.quantization.items() if error.max_abs > 0}
    exact = len(result.quantization) - len(inexact)
    if exact:
        click.echo(f"{exact} tensors packed without any error")
    if inexact:
        width = max(len(name) for name in inexact)
        click.echo(f"{len(inexact)} tensors packed with an error:")
        for name, error in inexact.items():
            click.echo(f"  {name:<{width}}  relative L2 {error.relative_l2:.5f}  largest {error.max_abs:.3g}")
