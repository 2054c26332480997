"""`gptoss-onnx inspect`: what an exported folder holds, without running it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptoss_onnx.cli.options import as_json, model_argument

if TYPE_CHECKING:
    from gptoss_onnx.description import Description

__all__ = ["inspect_command"]


@click.command("inspect")
@model_argument
@click.option("--operators", is_flag=True, help="Count the operators of the graph.")
@as_json
def inspect_command(model: Path, operators: bool, as_json: bool) -> None:
    """Says what the exported MODEL holds; reads the graph and looks at its weight files, and runs nothing.

    Exit code 0, or 3 if a weight file is missing or not the one of the export.

    \b
    Examples:
      gptoss-onnx inspect gpt-oss-20b-onnx
      gptoss-onnx inspect gpt-oss-20b-onnx --operators
      gptoss-onnx inspect gpt-oss-20b-onnx --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import CheckpointError

    from gptoss_onnx.description import describe_export

    description = describe_export(model)
    if as_json:
        click.echo(json.dumps({"model": str(model), **description.to_json()}, indent=2))
    else:
        _print(model, description, operators=operators)
    if description.problems:
        raise CheckpointError("; ".join(description.problems), where=model)


def _print(model: Path, description: "Description", *, operators: bool) -> None:
    metadata = description.metadata
    recipe, config = metadata.recipe, metadata.config
    rows = {
        "model": str(model),
        "profile": recipe.profile,
        "experts": recipe.experts,
        "dense matrices": recipe.dense,
        "attention": recipe.attention,
        "modes": ", ".join(description.modes) or "none: this is a part of a model",
        "layers": str(config.num_hidden_layers),
        "source": f"{metadata.source_format}, {metadata.source_digest}",
        "stops at": ", ".join(map(str, metadata.eos_token_ids)) or "no id",
        "made with": ", ".join(f"{name} {version}" for name, version in metadata.versions.items()),
        "graph": f"{_grouped(description.model_bytes)} bytes, {sum(description.operators.values())} operators",
    }
    if recipe.component is not None:
        rows["part"] = f"{recipe.component} of layer {recipe.layer}"
    if recipe.static is not None:
        rows["static shape"] = f"batch {recipe.static.batch}, {recipe.static.length} tokens"
    if metadata.linked_folder is not None:
        rows["linked to"] = str(metadata.linked_folder)
    for label, value in rows.items():
        click.echo(f"{label:<24}{value}")
    for name, nbytes in description.weight_bytes.items():
        click.echo(f"{'weights':<24}{name}, {_grouped(nbytes)} bytes")
    for label, values in (("input", description.inputs), ("output", description.outputs)):
        for name, axes in values.items():
            click.echo(f"{label:<24}{name} [{', '.join(map(str, axes))}]")
    if operators:
        for name, count in description.operators.items():
            click.echo(f"{name:<44}{count:>8}")


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")
