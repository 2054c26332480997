"""`gptoss-model plan`: the memory that each device of a mesh needs, before anything is loaded."""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH

if TYPE_CHECKING:
    from gptoss_weights import GptOssConfig

__all__ = ["plan_command"]

GIB = 1 << 30


@click.command("plan")
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.option("--mesh", default="data=1", show_default=True, metavar="RULES", help="Such as data=2,tensor=4.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences at a time.")
@click.option(
    "--length",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Tokens of a sequence, prompt and answer together.",
)
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float32"]),
    default="bfloat16",
    show_default=True,
    help="Dtype of activations, cache and arrays.",
)
@click.option(
    "--experts",
    type=click.Choice(["mxfp4", "decoded"]),
    default="mxfp4",
    show_default=True,
    help="Form of the expert matrices in memory.",
)
@click.option(
    "--device-memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="What one device has; exit code 6 if that is not enough.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def plan_command(
    checkpoint: Path | str,
    mesh: str,
    batch: int,
    length: int,
    dtype: str,
    experts: Literal["mxfp4", "decoded"],
    device_memory: float | None,
    as_json: bool,
) -> None:
    """Print the bytes that each device of a mesh needs to generate.

    CHECKPOINT is any checkpoint, a config.json alone, or the name of a published model, gpt-oss-20b or
    gpt-oss-120b; neither weights nor devices are touched. What a step computes comes on top: leave a
    tenth of the memory for it.

    \b
    Examples:
      gptoss-model plan gpt-oss-20b --mesh tensor=8 --batch 32 --length 131072 --device-memory 16
      gptoss-model plan my-model/config.json --mesh data=2,expert=4 --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import GptOssWarning, NotEnoughSpaceError

    from gptoss_model.sharding.memory import memory_per_device
    from gptoss_model.sharding.rules import MeshRules

    config = _geometry(checkpoint)
    try:
        rules = MeshRules.parse(mesh)
        memory = memory_per_device(config, rules, batch=batch, length=length, dtype=dtype, experts=experts)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--mesh") from None
    if length > config.max_position_embeddings:
        warnings.warn(
            f"--length {length} is more than the {config.max_position_embeddings} positions that the checkpoint is "
            "meant for",
            GptOssWarning,
        )
    parts = {
        "expert matrices": memory.experts,
        "other parameters": memory.other_parameters,
        "KV cache": memory.kv_cache,
        "gathered by fsdp": memory.gathered,
        "total": memory.total,
    }
    if as_json:
        numbers = {f"{name.lower().replace(' ', '_')}_bytes": count for name, count in parts.items()}
        click.echo(json.dumps({"mesh": str(rules), "devices": rules.device_count, "per_device": numbers}))
    else:
        devices = "one device" if rules.device_count == 1 else f"each of {rules.device_count} devices"
        click.echo(f"{devices}, mesh {rules}:")
        for name, count in parts.items():
            click.echo(f"  {name:<16}  {count:>15,}  {count / GIB:8.2f} GiB")
    if device_memory is not None and memory.total > device_memory * GIB:
        raise NotEnoughSpaceError(
            f"a device needs {memory.total / GIB:.3g} GiB and has {device_memory:g}",
            fix="Split over more devices, or take a smaller batch or length.",
        )


def _geometry(place: Path | str) -> "GptOssConfig":
    """The config of a checkpoint, of a file, or of a published model that does not lie here."""
    from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, GptOssConfig, open_checkpoint

    if isinstance(place, Path):
        published = {"gpt-oss-20b": GPT_OSS_20B, "gpt-oss-120b": GPT_OSS_120B}
        if str(place) in published and not place.exists():
            return published[str(place)]
        if place.suffix == ".json":
            return GptOssConfig.read(place)
    return open_checkpoint(place).config
