"""`gptoss-parity golden`: make what an implementation computed small enough for git, look at it, check against it."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH
from gptoss_weights.token_ids import token_ids_callback

from gptoss_parity.cli.limits import limit_options, logits_check
from gptoss_parity.cli.recording import made_source, opened_checkpoint, recorded
from gptoss_parity.cli.source_options import SourceSettings, source_options
from gptoss_parity.sources import SOURCES

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint

    from gptoss_parity.compare import Comparison
    from gptoss_parity.sources import Dtype, LoadingSource
    from gptoss_parity.trace import Trace

__all__ = ["golden_command"]

_JSONL = ".jsonl"
_KIB = 1024


@click.group()
def golden_command() -> None:
    """Make, inspect and check goldens: what one implementation computed, small enough for git.

    \b
    Examples:
      gptoss-parity golden make gpt-oss-20b --source torch --tokens 976,9029,328 --output small.golden.safetensors
      gptoss-parity golden inspect small.golden.safetensors
      gptoss-parity golden check small.golden.safetensors gpt-oss-20b --source jax
    """  # noqa: D301 - the backslash is meant for click


@golden_command.command("make")
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.option("--source", type=click.Choice(SOURCES), required=True, help="The implementation to run.")
@click.option("--prompt", metavar="TEXT", help="The prompt as text; needs the checkpoint's tokenizer.json.")
@click.option("--tokens", callback=token_ids_callback, metavar="IDS", help="The prompt as token ids: 1,2,3.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="The golden to write; with the suffix .jsonl, MaxText's golden logits.")  # fmt: skip
@click.option("--rows", type=click.IntRange(min=1), default=16, show_default=True,
              help="Positions to keep; the canaries are kept in any case.")  # fmt: skip
@click.option("--columns", type=click.IntRange(min=1), default=64, show_default=True, help="Columns of each probe.")
@click.option("--top-k", type=click.IntRange(min=1), default=32, show_default=True, help="Likeliest next tokens.")
@click.option("--block-debug", is_flag=True, help="Keep what happens inside attention and experts too.")
@click.option("--max-layers", type=click.IntRange(min=1), help="Run the first layers only.")
@click.option("--config", type=click.Path(path_type=Path), help="Where the checkpoint's config.json stands instead.")
@source_options
def make_command(
    checkpoint: Path | str,
    source: str,
    settings: SourceSettings,
    prompt: str | None,
    tokens: list[int] | None,
    output: Path,
    rows: int,
    columns: int,
    top_k: int,
    block_debug: bool,
    max_layers: int | None,
    config: Path | None,
) -> None:
    """Run CHECKPOINT on a prompt and keep what shows every fault.

    \b
    Examples:
      gptoss-parity golden make gpt-oss-20b --source torch --prompt "Hello" --output hello.golden.safetensors
      gptoss-parity golden make gpt-oss-20b --source hf --tokens 1,2,3 --output golden.jsonl
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_parity.golden import make_golden, save_golden
    from gptoss_parity.golden_jsonl import write_golden_jsonl
    from gptoss_parity.prompts import given_prompts

    if (prompt is None) == (tokens is None):
        raise click.UsageError("Give either --prompt or --tokens.")
    implementation, dtype = made_source(source, settings)
    opened = opened_checkpoint(checkpoint, config, source=source, settings=settings, max_layers=max_layers)
    [given] = given_prompts(opened, text=prompt, tokens=tokens)
    trace = recorded(implementation, opened, given.tokens, dtype=dtype, block_debug=block_debug)
    if output.suffix == _JSONL:
        write_golden_jsonl([(given.text or "", trace)], output)
    else:
        command = shlex.join(["gptoss-parity", *sys.argv[1:]])
        golden = make_golden(trace.with_command(command), rows=rows, columns=columns, token_ids=top_k)
        save_golden(golden, output)
    click.echo(f"{output}: {_size(output)}, {len(trace.tokens)} tokens from {trace.metadata.source} in {dtype}")


@golden_command.command("inspect")
@click.argument("golden", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def inspect_command(golden: Path, as_json: bool) -> None:
    """Say what GOLDEN holds and where it comes from; whole traces and MaxText's JSONL too.

    \b
    Examples:
      gptoss-parity golden inspect hello.golden.safetensors
      gptoss-parity golden inspect golden.jsonl --json
    """  # noqa: D301 - the backslash is meant for click
    facts = _facts(golden)
    if as_json:
        click.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    for name, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name}: {'–' if shown is None or shown == '' else shown}")


@golden_command.command("check")
@click.argument("golden", type=click.Path(path_type=Path))
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.option("--source", type=click.Choice(SOURCES), required=True, help="The implementation to check.")
@click.option("--max-layers", type=click.IntRange(min=1), help="Run the first layers only.")
@click.option("--config", type=click.Path(path_type=Path), help="Where the checkpoint's config.json stands instead.")
@source_options
@limit_options
def check_command(
    golden: Path,
    checkpoint: Path | str,
    source: str,
    settings: SourceSettings,
    max_layers: int | None,
    config: Path | None,
    **limits: Any,
) -> None:
    """Run CHECKPOINT on the prompt of GOLDEN and compare; exit code 4 unless parity holds.

    GOLDEN may be a whole trace, or MaxText's golden JSONL, too.

    \b
    Examples:
      gptoss-parity golden check hello.golden.safetensors gpt-oss-20b --source jax
      gptoss-parity golden check golden.jsonl gpt-oss-20b --source jax --atol 0.1 --rtol 0.1 --max-kl-div 3e-4
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_parity.report import comparison_table

    made = made_source(source, settings)
    opened = opened_checkpoint(checkpoint, config, source=source, settings=settings, max_layers=max_layers)
    comparisons = list(_checked(golden, opened, made, limits))
    click.echo(comparison_table(comparisons))
    for warning in dict.fromkeys(warning for comparison in comparisons for warning in comparison.warnings):
        click.echo(f"warning: {warning}", err=True)
    for comparison in comparisons:
        comparison.raise_if_failed()
    click.echo("\n".join(comparison.verdict for comparison in comparisons))


def _checked(
    path: Path, checkpoint: "Checkpoint", made: "tuple[LoadingSource, Dtype]", limits: dict[str, Any]
) -> "list[Comparison]":
    from gptoss_parity.compare import compare
    from gptoss_parity.golden import is_golden, load_golden
    from gptoss_parity.golden_check import check_golden
    from gptoss_parity.golden_jsonl import read_golden_jsonl
    from gptoss_parity.tolerances import tolerances_between
    from gptoss_parity.trace import load_trace

    check, judge_all, given = logits_check(limits)
    source, dtype = made

    def run(reference: "Trace", *, block_debug: bool) -> "Trace":
        return recorded(source, checkpoint, reference.tokens.tolist(), dtype=dtype, block_debug=block_debug)

    if path.suffix != _JSONL and is_golden(path):
        golden = load_golden(path)
        trace = run(golden.routing, block_debug=any(_is_inner(name) for name in golden.sampled))
        tolerances = tolerances_between(golden.metadata, trace.metadata).replace(**given)
        return [check_golden(golden, trace, tolerances, check=check, judge_all=judge_all)]
    references = read_golden_jsonl(path) if path.suffix == _JSONL else [load_trace(path)]
    comparisons = []
    for reference in references:
        trace = run(reference, block_debug=any(_is_inner(name) for name in reference))
        tolerances = tolerances_between(reference.metadata, trace.metadata).replace(**given)
        comparisons.append(compare(reference, trace, tolerances, check=check, judge_all=judge_all))
    return comparisons


def _is_inner(name: str) -> bool:
    from gptoss_weights import BLOCK_DEBUG_PROBES

    return name.rpartition(".")[2] in BLOCK_DEBUG_PROBES


def _facts(path: Path) -> dict[str, Any]:
    from gptoss_parity.golden import is_golden, load_golden
    from gptoss_parity.golden_jsonl import read_golden_jsonl
    from gptoss_parity.trace import load_trace

    kept: dict[str, Any]
    if path.suffix == _JSONL:
        traces = read_golden_jsonl(path)
        trace, kind = traces[0], f"golden JSONL of {len(traces)} prompts"
        kept = {"logits": f"{[list(each['logits'].shape) for each in traces]}"}
    elif is_golden(path):
        golden = load_golden(path)
        trace, kind = golden.routing, "golden"
        kept = {
            "positions": " ".join(map(str, golden.rows.tolist())),
            "columns": golden.columns,
            "next tokens": golden.token_ids.shape[1],
            "probes": len(trace) + len(golden.sampled),
        }
    else:
        trace, kind = load_trace(path), "whole trace"
        kept = {"probes": len(trace)}
    metadata = trace.metadata
    return {
        "file": str(path),
        "kind": kind,
        "size": _size(path),
        "source": metadata.source,
        "dtype": metadata.dtype,
        "checkpoint": metadata.checkpoint_digest,
        "tokens": len(trace.tokens),
        "layers": len(trace.layers) or None,
        "kept": kept,
        "options": dict(metadata.options),
        "versions": dict(metadata.versions),
        "command": metadata.command,
    }


def _size(path: Path) -> str:
    return f"{path.stat().st_size / _KIB:.1f} KiB"
