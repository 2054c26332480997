"""`gptoss-parity verify`: every implementation that is installed against one reference, on one checkpoint."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.cli_parameters import CHECKPOINT_PATH
from gptoss_weights.token_ids import token_ids_callback

from gptoss_parity.cli.limits import limit_options, logits_check
from gptoss_parity.cli.source_options import SourceChoice, SourceSettings, source_options, sources_callback

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint

    from gptoss_parity.prompts import Prompt
    from gptoss_parity.report import Report

__all__ = ["verify_command"]

_DEFAULT_SOURCES = "torch,hf,jax,onnx"
_FALLBACK = "numpy"
_SHORTEST_DEFAULT = 2  # tokens beyond the window, so that one token has lost sight of the first
_LONGEST_DEFAULT = 160


@click.command()
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.option(
    "--sources",
    callback=sources_callback,
    metavar="NAME[:DTYPE],…",
    help="What to run, the reference first: torch, hf, jax, onnx, numpy, each with a dtype if wanted, as "
    f"torch,jax,jax:bfloat16. By default {_DEFAULT_SOURCES}, as far as they are installed.",
)
@click.option("--prompt", metavar="TEXT", help="A text; needs the checkpoint's tokenizer.json.")
@click.option("--tokens", callback=token_ids_callback, metavar="IDS", help="Token ids, as 1,2,3.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='One prompt a line: text, or JSON with "tokens", "prompt" or Harmony "messages".',
)
@click.option("--random-tokens", type=click.IntRange(min=1), metavar="N", help="N random tokens of the vocabulary.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random tokens.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Cut each prompt behind so many tokens.")
@click.option("--max-layers", type=click.IntRange(min=1), help="Run the first layers only.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("parity-report"),
              show_default=True, help="Folder for the report and the traces.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help="Where the checkpoint's config.json stands instead.")
@click.option("--block-debug", is_flag=True, help="Compare what happens inside attention and experts too.")
@click.option("--layerwise", is_flag=True, help="Run a layer at a time, for models that do not fit into memory.")
@click.option("--replay/--no-replay", default=True, show_default=True,
              help="Where experts differ, run once more with the same ones and split the divergence.")  # fmt: skip
@click.option("--noise/--no-noise", default=True, show_default=True, help="Run the reference twice.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON report instead of the table.")
@source_options
@limit_options
@click.pass_context
def verify_command(
    context: click.Context,
    /,
    checkpoint: Path | str,
    sources: list[SourceChoice] | None,
    settings: SourceSettings,
    prompt: str | None,
    tokens: list[int] | None,
    prompts: Path | None,
    random_tokens: int | None,
    seed: int,
    max_tokens: int | None,
    max_layers: int | None,
    output: Path,
    config: Path | None,
    block_debug: bool,
    layerwise: bool,
    replay: bool,
    noise: bool,
    as_json: bool,
    **limits: Any,
) -> None:
    """Run CHECKPOINT through every implementation that is installed and compare each with the first.

    Each runs in a process of its own. What is not installed is named with the command that installs
    it. Without a prompt, random tokens are taken, a few more than the sliding window.

    Exit codes: 0 parity holds, 4 it does not, 5 a source that was named is not installed.

    \b
    Examples:
      gptoss-parity verify gpt-oss-20b --prompt "The capital of France is"
      gptoss-parity verify gpt-oss-20b --sources torch,hf,jax,onnx --max-layers 2 --random-tokens 32
      gptoss-parity verify gpt-oss-20b --sources torch,jax:bfloat16 --torch-device cuda:0
      gptoss-parity verify gpt-oss-20b --sources jax,onnx --onnx gpt-oss-20b-onnx --block-debug
      gptoss-parity verify gpt-oss-20b --layerwise --atol 0.1 --rtol 0.1 --max-kl-div 3e-4
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import open_checkpoint

    from gptoss_parity.report import write_report
    from gptoss_parity.verification import ChildFailedError, Verification, verify

    check, judge_all, given = logits_check(limits)
    opened = open_checkpoint(checkpoint, config=config)
    rows, drawn = _prompts(opened, prompt, tokens, prompts, random_tokens, max_tokens, seed)
    choices = sources or _available_by_default()
    if len(choices) < 2:
        raise click.BadParameter(
            f"{choices[0].name!r} alone is compared with nothing; name two", param_hint="'--sources'"
        )
    runs = [
        settings.run(
            choice, str(checkpoint), None if config is None else str(config), max_layers=max_layers, layerwise=layerwise
        )
        for choice in choices
    ]
    candidates = ", ".join(run.source for run in runs[1:])
    try:
        report = verify(
            Verification(
                title=f"{Path(str(checkpoint)).name}: {' against '.join((candidates, runs[0].source))}",
                runs=runs,
                prompts=rows,
                output=output,
                block_debug=block_debug,
                max_layers=max_layers,
                layerwise=layerwise,
                replay=replay,
                noise=noise,
                limits=given,
                check=check,
                judge_all=judge_all,
                command=shlex.join(["gptoss-parity", *sys.argv[1:]]),
                seed=seed if drawn else None,
            ),
            progress=_progress,
        )
    except ChildFailedError as failure:
        click.echo(f"error: {failure.sentence}", err=True)
        context.exit(failure.code)
    written = write_report(report, output)
    _say(report, written.html, as_json=as_json)
    context.exit(_exit_code(report))


def _prompts(
    checkpoint: "Checkpoint",
    text: str | None,
    tokens: list[int] | None,
    path: Path | None,
    random_tokens: int | None,
    max_tokens: int | None,
    seed: int,
) -> "tuple[list[Prompt], bool]":
    """The prompts, and whether they were drawn at random."""
    import numpy as np

    from gptoss_parity.prompts import Prompt, given_prompts

    if sum(given is not None for given in (text, tokens, path, random_tokens)) > 1:
        raise click.UsageError("Give one of --prompt, --tokens, --prompts and --random-tokens.")
    if text == "":
        raise click.BadParameter("the prompt is empty", param_hint="'--prompt'")
    if text is not None or tokens is not None or path is not None:
        return given_prompts(checkpoint, text=text, tokens=tokens, path=path, max_tokens=max_tokens), False
    config = checkpoint.config
    count = random_tokens or min(config.sliding_window + _SHORTEST_DEFAULT, _LONGEST_DEFAULT)
    drawn = np.random.default_rng(seed).integers(0, config.vocab_size, count).tolist()
    return [Prompt(drawn[:max_tokens])], True


def _available_by_default() -> list[SourceChoice]:
    """The default sources; NumPy joins where fewer than two of them are installed."""
    from gptoss_parity.sources import missing_packages

    names = _DEFAULT_SOURCES.split(",")
    installed = [name for name in names if not missing_packages(name)]
    if len(installed) < 2:
        names = [*installed, _FALLBACK, *(name for name in names if name not in installed)]
    return [SourceChoice(name=name, dtype=None, is_asked_for=False) for name in names]


def _progress(sentence: str) -> None:
    """Says what begins, but only to a person: on a terminal, beside the results."""
    if sys.stderr.isatty():
        click.echo(click.style(f"… {sentence}", dim=True), err=True)


def _say(report: "Report", page: Path, *, as_json: bool) -> None:
    from gptoss_parity.report import comparison_table, report_json
    from gptoss_parity.report.terminal import findings

    if as_json:
        click.echo(report_json(report), nl=False)
    else:
        if report.comparisons:
            click.echo(comparison_table(report.comparisons))
        click.echo(findings(report))
        click.echo(f"\nreport: {page}")
    for warning in dict.fromkeys(warning for comparison in report.comparisons for warning in comparison.warnings):
        click.echo(f"warning: {warning}", err=True)
    for problem in report.not_run:
        kind = "error" if problem.is_asked_for else "note"
        click.echo(f"{kind}: not run: {problem.sentence}", err=True)
    if not as_json:
        headline = click.style(report.headline.upper(), fg="green" if report.passed else "red")
        click.echo(f"{headline}: {report.verdict}")


def _exit_code(report: "Report") -> int:
    """Failed parity before anything else, then what a source that was asked for ended with."""
    if report.comparisons and not report.passed:
        return ExitCode.PARITY_FAILED
    return next((problem.code for problem in report.not_run if problem.is_asked_for), ExitCode.OK)
