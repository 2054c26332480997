"""`gptoss-train merge`: what LoRA has made, in a checkpoint or as an adapter in PEFT's format."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

from gptoss_train.cli.export import FORMATS

if TYPE_CHECKING:
    from gptoss_weights import FormatName

__all__ = ["merge_command"]

ADAPTER = "peft"


@click.command("merge")
@click.argument("run", type=CHECKPOINT_PATH)
@click.argument("output", type=CHECKPOINT_PATH)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([*FORMATS, ADAPTER]),
    default="hf",
    show_default=True,
    help="The layout of the merged checkpoint; peft writes the adapter alone.",
)
@click.option(
    "--base", type=CHECKPOINT_PATH, help="Where the checkpoint is that the run started from, if it has moved."
)
@click.option(
    "--scale",
    type=click.Choice(["mse", "max"]),
    default="mse",
    show_default=True,
    help="How MXFP4 scales of the merged experts are chosen.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def merge_command(
    run: Path | str, output: Path | str, format_name: str, base: Path | str | None, scale: str, as_json: bool
) -> None:
    """Merge what a run of `lora` has made into the checkpoint that it started from, or save it as an adapter.

    Matrices without an update keep their bytes. hf and openai pack merged experts as MXFP4 again, and the error
    of that is printed; hf-bf16 loses nothing but bits of bfloat16.

    \b
    Examples:
      gptoss-train merge runs/adapted merged-hf
      gptoss-train merge runs/adapted adapter --format peft
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_train.adapters import merged
    from gptoss_train.cli.export import save_and_report
    from gptoss_train.going_home import open_run

    finished = open_run(str(run), base=base)
    adapter = finished.adapter()
    if format_name == ADAPTER:
        import json

        from gptoss_train.peft_format import save_peft_adapter

        save_peft_adapter(adapter, Path(output), config=finished.base.config, base_model=str(finished.config.model))
        document = {"output": str(output), "format": ADAPTER, "step": finished.step, "updates": len(adapter.updates)}
        click.echo(json.dumps(document) if as_json else f"wrote {output}, the adapter after step {finished.step}")
        return
    chosen: FormatName = format_name  # type: ignore[assignment]
    save_and_report(merged(finished.base, adapter), output, chosen, scale=scale, step=finished.step, as_json=as_json)
