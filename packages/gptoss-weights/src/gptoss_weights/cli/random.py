"""`gptoss-weights random`: a synthetic checkpoint of any geometry, in any format."""

import json
from pathlib import Path
from typing import Any

import click

from gptoss_weights.cli.options import (
    as_json,
    dtype_option,
    durable_option,
    format_option,
    max_shard_size_option,
)
from gptoss_weights.cli.printing import print_files, print_written
from gptoss_weights.cli.progress import byte_progress
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

__all__ = ["random"]


@click.command
@click.argument("target", metavar="OUT", type=CHECKPOINT_PATH)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The geometry: a config.json in either dialect.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal weights.")
@format_option("The format of OUT; openai by default.")
@dtype_option
@max_shard_size_option
@durable_option
@click.option("--dry-run", is_flag=True, help="Say which files would be written, and how large, and stop.")
@as_json
def random(
    target: Path | str,
    config: Path,
    seed: int,
    format_name: Any,
    dtype: str,
    max_shard_size: int | None,
    durable: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Writes a checkpoint of random weights as OUT: for tests, benchmarks, and planning of capacity.

    The weights are the same for the same seed in every format and on every machine, and give
    activations of ordinary size. They are made as they are written: full size needs disk, not memory.

    \b
    Examples:
      gptoss-weights random tiny --config config.json --seed 1
      gptoss-weights random big --config gpt-oss-120b/config.json --to hf --dry-run
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights.config import GptOssConfig
    from gptoss_weights.conversion import convert_checkpoint, plan_conversion
    from gptoss_weights.random_weights import random_checkpoint

    checkpoint = random_checkpoint(GptOssConfig.read(config), seed=seed)
    options: dict[str, Any] = {
        "format": format_name or "openai",
        "dtype": dtype,
        "max_shard_bytes": max_shard_size,
    }
    try:
        result = plan_conversion(checkpoint, target, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not dry_run:
        with byte_progress(result.nbytes, label="writing") as progress:
            result = convert_checkpoint(checkpoint, target, **options, durable=durable, progress=progress)
    if as_json:
        document = {"target": str(target), "seed": seed, "dry_run": dry_run, "dtype": dtype}
        click.echo(json.dumps(document | result.to_json(), indent=2))
    elif dry_run:
        print_files(result.files)
    else:
        print_written(target, result)
