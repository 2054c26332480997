"""`gptoss-parity selftest`: does comparing fail when it should? Every known fault, one at a time."""

import json
import sys

import click
from gptoss_weights.cli_errors import ExitCode

from gptoss_parity.sources import SOURCES

__all__ = ["selftest_command"]


@click.command()
@click.option(
    "--reference",
    type=click.Choice(SOURCES),
    default="numpy",
    show_default=True,
    help="The implementation that says what is right; all but numpy need their extra.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_context
def selftest_command(context: click.Context, /, reference: str, as_json: bool) -> None:
    """Put every known fault into an implementation and show that comparing finds it, where it is.

    The faults are really computed: each is a forward pass in NumPy that gets one thing wrong, on a
    small random checkpoint, compared with the default limits. The sound one must pass, and the reference must
    be exactly itself. Exit code 4 if a fault is not found, or found elsewhere.

    \b
    Examples:
      gptoss-parity selftest
      gptoss-parity selftest --reference torch
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_parity.selftest import run_selftest
    from gptoss_parity.sources import LoadingSource, make_source

    source = make_source(reference)
    assert isinstance(source, LoadingSource)
    result = run_selftest(source, progress=_progress)
    if as_json:
        document = {
            "reference": result.reference,
            "passed": result.passed,
            "is_exact": result.is_exact,
            "sound": result.sound.verdict,
            "faults": [
                {
                    "fault": found.fault.name,
                    "is_caught": found.is_caught,
                    "expected": found.fault.where,
                    "found": found.found,
                    "sentence": found.sentence,
                }
                for found in result.results
            ],
        }
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        width = max(len(found.fault.name) for found in result.results)
        place = max(len(found.fault.where) for found in result.results)
        click.echo(f"{'✓' if result.is_exact else '✗'} the reference, {result.reference}, against itself: exactly 0")
        click.echo(f"{'✓' if result.sound.passed else '✗'} sound: {result.sound.verdict}")
        for found in result.results:
            mark = "✓" if found.is_caught else "✗"
            click.echo(f"{mark} {found.fault.name:<{width}}  {found.found or 'not found':<{place}}  {found.sentence}")
        click.echo(result.verdict)
    context.exit(ExitCode.OK if result.passed else ExitCode.PARITY_FAILED)


def _progress(sentence: str) -> None:
    """Says what begins, but only to a person: on a terminal, beside the results."""
    if sys.stderr.isatty():
        click.echo(click.style(f"… {sentence}", dim=True), err=True)
