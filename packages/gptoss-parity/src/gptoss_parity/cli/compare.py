"""`gptoss-parity compare`: one trace against another; exit code 4 unless parity holds."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from gptoss_parity.cli.limits import limit_options, logits_check
from gptoss_parity.compare import compare
from gptoss_parity.report import Report, comparison_table, report_json, write_report
from gptoss_parity.report.terminal import findings
from gptoss_parity.tolerances import tolerances_between
from gptoss_parity.trace_files import load_traces

__all__ = ["compare_command"]


@click.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--report", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON report instead of the table.")
@limit_options
def compare_command(reference: Path, candidate: Path, folder: Path | None, as_json: bool, **limits: Any) -> None:
    """Compare the trace CANDIDATE with the trace REFERENCE.

    Either may be MaxText's golden JSONL, which holds logits only; where both hold several prompts, all are
    compared. The limits left out depend on the traces' dtype and stand, with their reasons, in the report.

    \b
    Examples:
      gptoss-parity compare official.safetensors jax.safetensors
      gptoss-parity compare official.safetensors jax.safetensors --report report/ --hidden 1e-5
      gptoss-parity compare golden.jsonl jax.safetensors --atol 0.1 --rtol 0.1 --max-kl-div 3e-4
    """  # noqa: D301 - the backslash is meant for click
    check, judge_all, given = logits_check(limits)
    comparisons = []
    for expected, found in load_traces(reference, candidate):
        tolerances = tolerances_between(expected.metadata, found.metadata).replace(**given)
        comparisons.append(compare(expected, found, tolerances, check=check, judge_all=judge_all))
    report = Report(
        title=f"{candidate.name} against {reference.name}",
        comparisons=comparisons,
        command=shlex.join(["gptoss-parity", *sys.argv[1:]]),
    )
    if as_json:
        click.echo(report_json(report), nl=False)
    else:
        click.echo(comparison_table(comparisons))
        click.echo(findings(report))
    for warning in dict.fromkeys(warning for comparison in comparisons for warning in comparison.warnings):
        click.echo(f"warning: {warning}", err=True)
    if folder is not None:
        written = write_report(report, folder)
        click.echo(f"report: {written.html}", err=as_json)
    for comparison in comparisons:
        comparison.raise_if_failed()
    if not as_json:
        click.echo(report.verdict)
