"""`gptoss-onnx export`: a checkpoint becomes a folder with `model.onnx` in it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

if TYPE_CHECKING:
    from gptoss_weights import GptOssConfig

    from gptoss_onnx.export import ExportPlan

__all__ = ["export_command"]

_HIDDEN_STATES = ("embedding", "attention_residual", "output", "final_norm")
_EMITS = ("hidden-states", "block-debug")


def _emit_callback(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """`hidden-states,block-debug` as a tuple of known words."""
    words = tuple(word.strip() for word in value.split(",") if word.strip())
    for word in words:
        if word not in _EMITS:
            raise click.BadParameter(f"{word!r} is not one of {', '.join(_EMITS)}")
    return words


@click.command("export")
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A config.json in either dialect, if it does not stand in the folder.",
)
@click.option(
    "--emit",
    callback=_emit_callback,
    default="",
    metavar="hidden-states,block-debug",
    help="Make intermediates outputs too, one kind or both: hidden-states is the residual stream (embedding, after "
    "each attention and layer, final norm), block-debug every probe inside every layer.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def export_command(
    checkpoint: Path | str, output: Path, config: Path | None, emit: tuple[str, ...], dry_run: bool
) -> None:
    """Exports CHECKPOINT as ONNX into the folder OUTPUT.

    The weights stay in the checkpoint's own files, experts packed as MXFP4. With OUTPUT the
    checkpoint's folder, or one above it, nothing but model.onnx is written; elsewhere the weight files are copied.

    \b
    Examples:
      gptoss-onnx export gpt-oss-20b gpt-oss-20b-onnx
      gptoss-onnx export gpt-oss-20b gpt-oss-20b
      gptoss-onnx export gpt-oss-20b/original traced --emit hidden-states --dry-run
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import open_checkpoint

    from gptoss_onnx.export import plan_export, write_export

    opened = open_checkpoint(checkpoint, config=config)
    plan = plan_export(opened, output, probes=_emitted_probes(opened.config, emit))
    if dry_run:
        click.echo(_summary(plan, verb="would write"))
        return
    write_export(plan, opened, progress=_tell if sys.stderr.isatty() else None)
    click.echo(_summary(plan, verb="wrote"))


def _emitted_probes(config: "GptOssConfig", emit: tuple[str, ...]) -> list[str]:
    from gptoss_onnx.graph import graph_probes

    return [
        name
        for name in graph_probes(config)
        if ("block-debug" in emit and name.startswith("layers."))
        or ("hidden-states" in emit and name.rpartition(".")[2] in _HIDDEN_STATES)
    ]


def _summary(plan: "ExportPlan", *, verb: str) -> str:
    written = ["model.onnx", *(path.as_posix() for path in plan.files.locations if path not in plan.files.in_place)]
    lines = [f"{verb} {plan.output / name}" for name in written]
    lines += [f"in place {plan.output / path}" for path in plan.files.in_place]
    weights = f"{plan.files.bytes_to_write:,} bytes of weights copied".replace(",", " ")
    return "\n".join([*lines, f"{plan.node_count} nodes, {weights}"])


def _tell(done: str) -> None:
    click.echo(done, err=True)
