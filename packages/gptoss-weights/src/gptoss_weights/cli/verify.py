"""`gptoss-weights verify`: whether a checkpoint is whole and its values sane."""

import contextlib
import json
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import click

from gptoss_weights.cli.options import as_json, checkpoint_argument, config_option

__all__ = ["verify"]

_SHOWN_FINDINGS = 20


@click.command
@checkpoint_argument
@config_option
@as_json
def verify(checkpoint: Path | str, config: Path | None, as_json: bool) -> None:
    """Checks that CHECKPOINT is whole and sane.

    Holds names, shapes and dtypes against the config, then reads all weights: values must be finite,
    and no MXFP4 scale may overflow. Exit code 0 if it is sound, 3 if not.

    \b
    Examples:
      gptoss-weights verify gpt-oss-20b
      gptoss-weights verify gpt-oss-20b/original --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights.errors import CheckpointError
    from gptoss_weights.opening import open_checkpoint
    from gptoss_weights.verification import find_corruption

    try:
        opened = open_checkpoint(checkpoint, config=config)
    except CheckpointError as error:
        if as_json:
            _print_json(checkpoint, 0, [str(error)])
        raise
    with _progress(list(opened)) as names:
        findings = [str(finding) for finding in find_corruption(opened, names)]
    if as_json:
        _print_json(checkpoint, len(opened), findings)
    if findings:
        shown = findings[:_SHOWN_FINDINGS]
        if len(findings) > len(shown):
            shown.append(f"and {len(findings) - len(shown)} more")
        raise CheckpointError("; ".join(shown), fix="Fetch the weights again; see --json for all findings.")
    if not as_json:
        click.echo(f"{checkpoint}: sound ({opened.format}, {len(opened)} tensors)")


def _print_json(checkpoint: Path | str, tensors: int, problems: list[str]) -> None:
    click.echo(
        json.dumps(
            {"checkpoint": str(checkpoint), "ok": not problems, "tensors_read": tensors, "problems": problems}, indent=2
        )
    )


def _progress(names: list[str]) -> AbstractContextManager[Iterable[str]]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext(names)
    return click.progressbar(names, label="reading", file=sys.stderr)
