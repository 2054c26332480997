"""`gptoss-parity demo`: the whole main job on the embedded checkpoint, in under a minute."""

import shlex
import sys
from pathlib import Path

import click
from gptoss_weights.cli_errors import ExitCode

from gptoss_parity.demo import run_demo
from gptoss_parity.report import Continuation, comparison_table

__all__ = ["demo_command"]


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("parity-report"),
    show_default=True,
    help="Folder for the report and the traces.",
)
@click.pass_context
def demo_command(context: click.Context, output: Path) -> None:
    """Prove JAX and ONNX right on the embedded checkpoint, against the official PyTorch code's goldens.

    \b
    Examples:
      gptoss-parity demo
      gptoss-parity demo --output reports/demo
    """  # noqa: D301 - the backslash is meant for click
    words = ["gptoss-parity", "demo"] + ([] if output == Path("parity-report") else ["--output", str(output)])
    report = run_demo(output, command=shlex.join(words), progress=_progress)
    click.echo(comparison_table(report.comparisons))
    if report.continuation is not None:
        click.echo(f"\n{_continuation_in_words(report.continuation)}")
    click.echo(f"\nreport: {output / 'report.html'}")
    if not report.passed:
        click.echo(click.style(f"PARITY FAILS: {report.verdict}", fg="red"))
        context.exit(ExitCode.PARITY_FAILED)
    click.echo(click.style(f"ALL HOLDS: {report.verdict}", fg="green"))


def _progress(sentence: str) -> None:
    """Says what begins, but only to a person: on a terminal, beside the results."""
    if sys.stderr.isatty():
        click.echo(click.style(f"… {sentence}", dim=True), err=True)


def _continuation_in_words(continuation: Continuation) -> str:
    lines = [f"prompt: {continuation.prompt}"]
    texts = dict(continuation.texts)
    if continuation.agrees:
        first = next(iter(texts.values()))
        return "\n".join([*lines, f"continued alike by {' and '.join(texts)}: {first!r}"])
    return "\n".join([*lines, *(f"continued by {source}: {text!r}" for source, text in texts.items())])
