"""`gptoss-train doctor`: versions, devices, and which optional features are there, or why not."""

import json

import click
from gptoss_weights.cli_installation import print_features, print_installation

__all__ = ["doctor_command"]

GB = 1e9


@click.command("doctor")
@click.option(
    "--require",
    multiple=True,
    metavar="NAME",
    help="Fail if this optional feature cannot be used here; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def doctor_command(require: tuple[str, ...], as_json: bool) -> None:
    """Say what is installed, which devices JAX has, and which optional features can be used, or why not.

    `gptoss-model doctor` lists the strategies. Exit code 0, or 5 if something that is always needed, or what is
    named by --require, is missing.

    \b
    Examples:
      gptoss-train doctor
      gptoss-train doctor --require tensorboard --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import MissingDependencyError

    from gptoss_train.doctor import diagnose

    diagnosis = diagnose()
    reasons = {feature.name: feature.problem for feature in diagnosis.features}
    unknown = [name for name in require if name not in reasons]
    if unknown:
        raise click.BadParameter(
            f"nothing is called {', '.join(unknown)}; there are {', '.join(reasons)}", param_hint="'--require'"
        )
    if as_json:
        click.echo(json.dumps(diagnosis.to_json(), indent=2))
    else:
        print_installation("gptoss-train", diagnosis)
        click.echo("\ndevices")
        for name in diagnosis.devices:
            click.echo(f"  {name}")
        if diagnosis.device_problem:
            click.echo(f"  {diagnosis.device_problem}")
        print_features(diagnosis.features)
        if diagnosis.free_memory_bytes is not None:
            free = f"{diagnosis.free_memory_bytes / GB:.1f} GB"
            click.echo(f"\nfree memory: {free}; `gptoss-train plan` says what a run needs")
    missing = [f"{name} cannot be used: {reason}" for name in dict.fromkeys(require) if (reason := reasons[name])]
    if diagnosis.problems or missing:
        raise MissingDependencyError("; ".join([*diagnosis.problems, *missing]))
