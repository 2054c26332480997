"""`gptoss-parity compare`: one trace against another; exit code 4 unless parity holds."""

import shlex
import sys
from pathlib import Path

import click

from gptoss_parity.compare import compare
from gptoss_parity.report import Report, comparison_table, report_json, write_report
from gptoss_parity.tolerances import tolerances_for
from gptoss_parity.trace import load_trace

__all__ = ["compare_command"]

_LIMIT = click.FloatRange(min=0)


@click.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--report", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON report instead of the table.")
@click.option("--hidden", type=_LIMIT, help="Limit: relative L2 of each hidden state and the logits.")
@click.option("--token", type=_LIMIT, help="Limit: the same of the worst single token.")
@click.option("--router", type=_LIMIT, help="Limit: relative L2 of router logits and weights.")
@click.option("--reached", type=_LIMIT, help="Limit: relative L2 of the tokens that see a flipped one.")
@click.option("--margin", type=_LIMIT, help="Largest gap between router logits that counts as a near-tie.")
@click.option("--margin-per-rms", type=_LIMIT, help="… plus this many times the RMS of the token's router logits.")
def compare_command(
    reference: Path, candidate: Path, folder: Path | None, as_json: bool, **limits: float | None
) -> None:
    """Compare the trace CANDIDATE with the trace REFERENCE.

    The limits left out depend on the traces' dtype and stand, with their reasons, in the report.

    \b
    Examples:
      gptoss-parity compare official.safetensors jax.safetensors
      gptoss-parity compare official.safetensors jax.safetensors --report report/ --hidden 1e-5
    """  # noqa: D301 - the backslash is meant for click
    expected, found = load_trace(reference), load_trace(candidate)
    try:
        tolerances = tolerances_for(expected.metadata.dtype, found.metadata.dtype).replace(**limits)
    except ValueError as error:  # NaN, which click's range lets through
        raise click.UsageError(str(error)) from None
    comparison = compare(expected, found, tolerances)
    report = Report(
        title=f"{candidate.name} against {reference.name}",
        comparisons=[comparison],
        command=shlex.join(["gptoss-parity", *sys.argv[1:]]),
    )
    if as_json:
        click.echo(report_json(report), nl=False)
    else:
        click.echo(comparison_table([comparison]))
    for warning in comparison.warnings:
        click.echo(f"warning: {warning}", err=True)
    if folder is not None:
        page, _ = write_report(report, folder)
        click.echo(f"report: {page}", err=as_json)
    comparison.raise_if_failed()
    if not as_json:
        click.echo(comparison.verdict)
