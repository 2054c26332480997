"""`gptoss-model doctor`: versions, devices, and which strategies they can run, or why not."""

import json
from typing import TYPE_CHECKING

import click
from gptoss_weights.cli_installation import print_features, print_installation

from gptoss_model.cli.compilation_cache import CACHE_VARIABLE, cache_folder
from gptoss_model.cli.options import as_json

if TYPE_CHECKING:
    from gptoss_model.doctor import Diagnosis

__all__ = ["doctor_command"]

_GB = 1e9


@click.command("doctor")
@click.option(
    "--require",
    multiple=True,
    metavar="NAME",
    help="Fail if this strategy or optional feature cannot be used here; may be given several times.",
)
@as_json
def doctor_command(require: tuple[str, ...], as_json: bool) -> None:
    """Say what is installed, which devices JAX has, and which strategies can run on them, or why not.

    Exit code 0, or 5 if something that is always needed, or what is named by --require, is missing.

    \b
    Examples:
      gptoss-model doctor
      gptoss-model doctor --require megablox --require text
      gptoss-model doctor --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import MissingDependencyError

    from gptoss_model.doctor import diagnose

    diagnosis = diagnose(compilation_cache=cache_folder())
    reasons = {found.name: None if found.available else found.reason for found in diagnosis.strategies}
    reasons |= {feature.name: feature.problem for feature in diagnosis.features}
    unknown = [name for name in require if name not in reasons and not diagnosis.device_problem]
    if unknown:
        raise click.BadParameter(
            f"nothing is called {', '.join(unknown)}; there are {', '.join(reasons)}", param_hint="'--require'"
        )
    if as_json:
        click.echo(json.dumps(diagnosis.to_json(), indent=2))
    else:
        _print(diagnosis)
    missing = [f"{name} cannot be used: {reason}" for name in dict.fromkeys(require) if (reason := reasons.get(name))]
    if diagnosis.problems or missing:
        raise MissingDependencyError("; ".join([*diagnosis.problems, *missing]))


def _print(diagnosis: "Diagnosis") -> None:
    print_installation("gptoss-model", diagnosis)
    click.echo("\ndevices")
    for device in diagnosis.devices:
        memory = "" if device.memory_bytes is None else f", {device.memory_bytes / _GB:.1f} GB"
        click.echo(f"  {device.platform:<22}{device.name}{memory}")
    if diagnosis.device_problem:
        click.echo(f"  {diagnosis.device_problem}")
    for kind, title in (
        ("moe", "strategies for the experts (--moe)"),
        ("attention", "strategies for attention (--attention)"),
    ):
        click.echo(f"\n{title}")
        for found in diagnosis.strategies:
            if found.kind == kind:
                click.echo(f"  {found.name:<22}{'' if found.available else 'not here: '}{found.reason}")
    click.echo("\nwhat auto chooses")
    for step, choice in diagnosis.choices.items():
        click.echo(f"  {step:<32}{choice}")
    print_features(diagnosis.features)
    if diagnosis.compilation_cache is None:
        click.echo(f"\ncompiled programs are not kept ({CACHE_VARIABLE} is empty)")
    else:
        size = diagnosis.compilation_cache_bytes / _GB
        click.echo(f"\ncompiled programs are kept in {diagnosis.compilation_cache}: {size:.2f} GB; it may be deleted")
    if diagnosis.free_memory_bytes is not None:
        click.echo(f"free memory: {diagnosis.free_memory_bytes / _GB:.1f} GB; plan says what a model needs")
