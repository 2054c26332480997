"""`gptoss-weights inspect`: what a checkpoint holds, from its headers alone."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptoss_weights.cli.options import as_json, checkpoint_argument, config_option
from gptoss_weights.cli.printing import grouped

if TYPE_CHECKING:
    from gptoss_weights.summary import CheckpointSummary

__all__ = ["inspect"]


@click.command
@checkpoint_argument
@config_option
@click.option("--tensors", is_flag=True, help="List every tensor.")
@as_json
def inspect(checkpoint: Path | str, config: Path | None, tensors: bool, as_json: bool) -> None:
    """Says what CHECKPOINT holds; reads headers only.

    \b
    Examples:
      gptoss-weights inspect gpt-oss-20b
      gptoss-weights inspect gpt-oss-20b/original --tensors
      gptoss-weights inspect weights-without-config --config config.json --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights.opening import open_checkpoint
    from gptoss_weights.summary import summarize

    summary = summarize(open_checkpoint(checkpoint, config=config))
    if as_json:
        click.echo(json.dumps({"checkpoint": str(checkpoint), **summary.to_json()}, indent=2))
        return
    _print_overview(checkpoint, summary)
    if tensors:
        _print_tensors(summary)


def _print_overview(checkpoint: Path | str, summary: "CheckpointSummary") -> None:
    by_dtype = ", ".join(f"{dtype} {grouped(nbytes)}" for dtype, nbytes in summary.bytes_by_dtype.items())
    files = ", ".join(file.name for file in summary.files)
    if not files:
        files = f"{len({place for tensor in summary.tensors for place in tensor.places})} arrays, a folder each"
    rows = {
        "checkpoint": str(checkpoint),
        "format": summary.format,
        "parameters": f"{grouped(summary.parameters)} ({grouped(summary.active_parameters)} active per token)",
        "tensors": grouped(len(summary.tensors)),
        "bytes": f"{grouped(summary.nbytes)} ({by_dtype})",
        "weight files": files,
        "other files": ", ".join(summary.side_files) or "none",
    }
    for label, value in (rows | summary.config).items():
        click.echo(f"{label:<24}{value}")


def _print_tensors(summary: "CheckpointSummary") -> None:
    from gptoss_weights.summary import place_name

    width = max(len(tensor.name) for tensor in summary.tensors)
    click.echo()
    for tensor in summary.tensors:
        shape = str(list(tensor.shape))
        places = ", ".join(place_name(place) for place in tensor.places)
        click.echo(f"{tensor.name:<{width}}  {tensor.dtype:<8}  {shape:<18}  {grouped(tensor.nbytes):>15}  {places}")
