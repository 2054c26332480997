"""`gptoss-onnx export`: a checkpoint becomes a folder with `model.onnx` in it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH, OUTPUT_PATH

from gptoss_onnx.cli.options import as_usage_error

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint, GptOssConfig

    from gptoss_onnx.export import ExportPlan
    from gptoss_onnx.recipe import ComponentName, DenseForm, ExpertForm, Profile

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
@click.argument("output", type=OUTPUT_PATH)
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
@click.option(
    "--profile",
    type=click.Choice(["portable", "fast", "cuda"]),
    default="portable",
    show_default=True,
    help="portable: ONNX's own operators, for every ONNX Runtime from 1.20 on. fast: ONNX Runtime's operators for "
    "its CPU, from 1.29 on. cuda: the same for its CUDA provider; checked for its structure, never run.",
)
@click.option(
    "--experts",
    type=click.Choice(["mxfp4", "int8", "float32"]),
    help="Form of the expert matrices, all of them exact; by default mxfp4 as stored, with --profile fast int8.",
)
@click.option(
    "--dense",
    type=click.Choice(["stored", "float32", "int8", "int4"]),
    help="Form of the other matrices; by default as stored, with --profile fast float32. int8 and int4 round "
    "them, but for the router's.",
)
@click.option("--layers", type=click.IntRange(min=1), metavar="N", help="Keep the first N layers only.")
@click.option(
    "--copy-weights/--link-weights",
    "is_copied",
    default=True,
    help="Copy weight files into OUTPUT (the default), or leave them where they are: then only gptoss-onnx itself "
    "finds them, and only there.",
)
@click.option(
    "--sequence-length",
    type=click.IntRange(min=1),
    metavar="S",
    help="Export one static shape for sequences of up to S tokens, without a cache, for runtimes that need it.",
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="B", help="Sequences in that shape; by default 1.")
@click.option(
    "--component",
    type=click.Choice(["attention", "mlp", "rms_norm", "block"]),
    help="Export one part of a layer alone.",
)
@click.option("--layer", type=click.IntRange(min=0), metavar="I", help="The layer of --component; by default 0.")
@click.option(
    "--validate/--no-validate",
    "is_validated",
    default=False,
    help="Afterwards run a few tokens through the export and through the mathematics in NumPy, and compare.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def export_command(
    checkpoint: Path | str,
    output: Path,
    config: Path | None,
    emit: tuple[str, ...],
    profile: "Profile",
    experts: "ExpertForm | None",
    dense: "DenseForm | None",
    layers: int | None,
    is_copied: bool,
    sequence_length: int | None,
    batch_size: int | None,
    component: "ComponentName | None",
    layer: int | None,
    is_validated: bool,
    dry_run: bool,
) -> None:
    """Exports CHECKPOINT as ONNX into the folder OUTPUT.

    CHECKPOINT is whatever gptoss-weights opens. The weights stay in the checkpoint's own files, experts
    packed as MXFP4. With OUTPUT the checkpoint's folder, or one above it, nothing but model.onnx is
    written; elsewhere the weight files are copied. What is in another form, as with --profile fast, is
    computed into OUTPUT/weights.safetensors.

    \b
    Examples:
      gptoss-onnx export gpt-oss-20b gpt-oss-20b-onnx
      gptoss-onnx export gpt-oss-20b gpt-oss-20b
      gptoss-onnx export gpt-oss-20b gpt-oss-20b-fast --profile fast --validate
      gptoss-onnx export gpt-oss-20b two-layers --layers 2 --emit hidden-states,block-debug
      gptoss-onnx export gpt-oss-20b one-block --component block --layer 3 --dry-run
      gptoss-onnx export gpt-oss-20b fixed --sequence-length 256 --batch-size 4
    """  # noqa: D301 - the backslash is meant for click
    if batch_size is not None and sequence_length is None:
        raise click.UsageError("--batch-size belongs to --sequence-length.")
    if layer is not None and component is None:
        raise click.UsageError("--layer belongs to --component; --layers keeps the first layers of the whole model.")
    if component is not None and (emit or is_validated):
        raise click.UsageError("--component has one output; --emit and --validate are for the whole model.")
    from gptoss_weights import open_checkpoint

    from gptoss_onnx.export import plan_export, write_export
    from gptoss_onnx.recipe import StaticShape

    opened = _trimmed(open_checkpoint(checkpoint, config=config), layers)
    static = None if sequence_length is None else StaticShape(batch=batch_size or 1, length=sequence_length)
    with as_usage_error():
        plan = plan_export(
            opened,
            output,
            probes=_emitted_probes(opened.config, emit),
            profile=profile,
            experts=experts,
            dense=dense,
            static=static,
            component=component,
            layer=layer or 0,
            link_weights=not is_copied,
        )
    for remark in plan.recipe.remarks:
        click.echo(f"note: {remark}", err=True)
    if dry_run:
        click.echo(_summary(plan, verb="would write"))
        return
    write_export(plan, opened, progress=_tell if sys.stderr.isatty() else None)
    click.echo(_summary(plan, verb="wrote"))
    if is_validated:
        from gptoss_onnx.validation import validate_export

        found = validate_export(opened, output)
        click.echo(f"validated: relative L2 of logits {found.prefill:.1e} in prefill, {found.decode:.1e} in decoding")


def _trimmed(checkpoint: "Checkpoint", layers: int | None) -> "Checkpoint":
    """The first layers."""
    from gptoss_weights import trimmed

    try:
        return trimmed(checkpoint, layers=layers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--layers'") from None


def _emitted_probes(config: "GptOssConfig", emit: tuple[str, ...]) -> list[str]:
    from gptoss_onnx.graph import graph_probes

    return [
        name
        for name in graph_probes(config)
        if ("block-debug" in emit and name.startswith("layers."))
        or ("hidden-states" in emit and name.rpartition(".")[2] in _HIDDEN_STATES)
    ]


def _summary(plan: "ExportPlan", *, verb: str) -> str:
    files = plan.files
    written = ["model.onnx", *(path.as_posix() for path in files.locations if path not in files.in_place)]
    lines = [f"{verb} {plan.output / name}" for name in written]
    if files.linked_folder is None:
        lines += [f"in place {plan.output / path}" for path in files.in_place]
    else:
        lines += [f"linked to {files.linked_folder / path}" for path in files.in_place]
    counts = [
        f"{plan.node_count} nodes",
        f"{_grouped(files.bytes_to_write - files.computed_bytes)} bytes of weights copied",
        *([f"{_grouped(files.computed_bytes)} computed"] if files.computed_bytes else []),
    ]
    return "\n".join([*lines, ", ".join(counts)])


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _tell(done: str) -> None:
    click.echo(done, err=True)
