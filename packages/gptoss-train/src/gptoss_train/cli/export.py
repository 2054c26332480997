"""`gptoss-train export`: what a run has trained, as a checkpoint in any format."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint, FormatName

__all__ = ["export_command", "save_and_report"]

FORMATS = ("openai", "hf", "hf-bf16", "flax", "orbax-scanned", "orbax-unscanned")


@click.command("export")
@click.argument("run", type=CHECKPOINT_PATH)
@click.argument("output", type=CHECKPOINT_PATH)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    default="hf",
    show_default=True,
    help="The layout; openai and hf pack the experts as MXFP4, and flax is a file that ends with .msgpack.",
)
@click.option(
    "--base", type=CHECKPOINT_PATH, help="Where the checkpoint is that the run started from, if it has moved."
)
@click.option(
    "--scale",
    type=click.Choice(["mse", "max"]),
    default="mse",
    show_default=True,
    help="How MXFP4 scales are chosen; training with quantization_aware rounds by mse.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def export_command(
    run: Path | str, output: Path | str, format_name: "FormatName", base: Path | str | None, scale: str, as_json: bool
) -> None:
    """Write what a run has trained as a checkpoint that others load.

    RUN is the folder, or gs:// URL, of a run; its newest checkpoint is taken, with the tokenizer of the one that it
    started from. The error of packing the experts is printed. What LoRA has made is merged in.

    \b
    Examples:
      gptoss-train export runs/tuned tuned-hf
      gptoss-train export runs/tuned tuned-openai --format openai --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_train.going_home import open_run

    finished = open_run(str(run), base=base)
    save_and_report(finished.checkpoint(), output, format_name, scale=scale, step=finished.step, as_json=as_json)


def save_and_report(
    checkpoint: "Checkpoint", output: Path | str, format_name: "FormatName", *, scale: str, step: int, as_json: bool
) -> None:
    """Saves a checkpoint, its experts packed where the format packs them, and prints what that cost."""
    import json

    from gptoss_weights import quantized, save_checkpoint

    from gptoss_train.going_home import quantization_summary, warn_of_numbers_that_are_none

    packs = format_name in ("openai", "hf")
    # What is packed already stays as it is, byte by byte.
    source = quantized(checkpoint, scale=scale) if packs else checkpoint  # type: ignore[arg-type]
    try:
        save_checkpoint(source, output, format=format_name, dtype="bfloat16")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    warn_of_numbers_that_are_none(getattr(checkpoint, "nonfinite", ()))
    errors = getattr(source, "errors", {}) if packs else {}
    total = quantization_summary(errors)
    if as_json:
        document = {
            "output": str(output),
            "format": format_name,
            "step": step,
            "quantized_tensors": len(errors),
            "relative_l2": None if total is None else total.relative_l2,
            "max_abs": None if total is None else total.max_abs,
            "tensors": {name: error.relative_l2 for name, error in errors.items()},
        }
        click.echo(json.dumps(document, indent=1))
        return
    click.echo(f"wrote {output} ({format_name}), the run after step {step}")
    if total is not None:
        worst = max(errors, key=lambda name: errors[name].relative_l2)
        click.echo(
            f"packed {len(errors)} expert tensors as MXFP4: relative error {total.relative_l2:.2e}, "
            f"at most {total.max_abs:.3g}; the worst is {worst} with {errors[worst].relative_l2:.2e}"
        )
