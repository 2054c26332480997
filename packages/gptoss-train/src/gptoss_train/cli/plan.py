"""`gptoss-train plan`: what a run needs, before anything is loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gptoss_train.config import TrainConfig
    from gptoss_train.setup import Method

__all__ = ["plan_command"]

GIB = 1 << 30


@click.command("plan")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--method",
    type=click.Choice(["pretrain", "finetune", "sft", "lora"]),
    default=None,
    show_default="finetune; pretrain where the config has a geometry of its own",
    help="The command that would run.",
)
@click.option(
    "--device-memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="What one device has; exit code 6 if that is not enough.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def plan_command(
    config: Path, overrides: tuple[str, ...], method: "Method | None", device_memory: float | None, as_json: bool
) -> None:
    """Print the memory of each device, the size of a checkpoint, and tokens and FLOPs of a step.

    From shapes alone: no weights are read, and no devices needed. What is kept of activations is an estimate. What
    the command would refuse is refused; published weights need not be here yet. Of each axis of a mesh it says by
    what it divides each part; with --json, what a device would hold without it.

    \b
    Examples:
      gptoss-train plan 20b --method lora --device-memory 40
      gptoss-train plan 120b run.mesh=fsdp=8,expert=8,data=2 batch_size=128 --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import NotEnoughSpaceError

    from gptoss_train.config import load_config
    from gptoss_train.planning import plan_run

    wanted = load_config(config, overrides)
    plan = plan_run(wanted, method or _usual_method(wanted))
    click.echo(json.dumps(plan.to_json(), indent=1) if as_json else plan.to_text())
    if device_memory is not None and plan.device_bytes > device_memory * GIB:
        raise NotEnoughSpaceError(
            f"a device needs {plan.device_bytes / GIB:.3g} GiB and has {device_memory:g}",
            fix="Split over more devices, raise gradient_accumulation, or set run.remat=full.",
        )


def _usual_method(config: "TrainConfig") -> "Method":
    """Of a geometry that no checkpoint has, new weights; else finetune, which needs as much."""
    return "pretrain" if config.changed_geometry() or Path(config.model).suffix == ".json" else "finetune"
