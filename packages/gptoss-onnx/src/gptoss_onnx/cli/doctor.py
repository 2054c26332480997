"""`gptoss-onnx doctor`: versions, providers, and which exports can run here, or why not."""

import json
from typing import TYPE_CHECKING

import click
from gptoss_weights.cli_installation import print_features, print_installation

from gptoss_onnx.cli.options import as_json

if TYPE_CHECKING:
    from gptoss_onnx.doctor import Diagnosis

__all__ = ["doctor_command"]

_GB = 1e9


@click.command("doctor")
@click.option(
    "--require",
    multiple=True,
    type=click.Choice(["portable", "fast", "cuda", "text"]),
    help="Fail if this profile or optional feature cannot be used here; may be given several times.",
)
@as_json
def doctor_command(require: tuple[str, ...], as_json: bool) -> None:
    """Says what is installed, which ONNX Runtime that is, and which exports it can run, or why not.

    Exit code 0, or 5 if something that is always needed, or what is named by --require, is missing.

    \b
    Examples:
      gptoss-onnx doctor
      gptoss-onnx doctor --require fast --require text
      gptoss-onnx doctor --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import MissingDependencyError

    from gptoss_onnx.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        click.echo(json.dumps(diagnosis.to_json(), indent=2))
    else:
        _print(diagnosis)
    reasons = {profile.name: profile.problem for profile in diagnosis.profiles}
    reasons |= {feature.name: feature.problem for feature in diagnosis.features}
    missing = [f"{name} cannot be used: {reason}" for name in dict.fromkeys(require) if (reason := reasons.get(name))]
    if diagnosis.problems or missing:
        raise MissingDependencyError("; ".join([*diagnosis.problems, *missing]))


def _print(diagnosis: "Diagnosis") -> None:
    print_installation("gptoss-onnx", diagnosis)
    click.echo("\nproviders of ONNX Runtime")
    for provider in diagnosis.providers:
        click.echo(f"  {provider}")
    click.echo("\nprofiles of exports")
    for profile in diagnosis.profiles:
        click.echo(f"  {profile.name:<22}{f'not here: {profile.problem}' if profile.problem else 'runs here'}")
    print_features(diagnosis.features)
    if diagnosis.free_memory_bytes is not None:
        click.echo(f"\nfree memory: {diagnosis.free_memory_bytes / _GB:.1f} GB")
