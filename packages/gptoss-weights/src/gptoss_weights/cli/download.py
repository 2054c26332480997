"""`gptoss-weights download`: one layout of a published checkpoint, resumed and verified."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptoss_weights.cli.options import as_json

if TYPE_CHECKING:
    from gptoss_weights.hub import DownloadPlan, Progress

__all__ = ["download"]

_BAR_STEPS = 1000


def _repository(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise click.BadParameter(str(error)) from None
    return name


@click.command
@click.argument("repo", callback=_repository)
@click.option(
    "--layout",
    type=click.Choice(["original", "hf", "all"]),
    default="original",
    show_default=True,
    help="OpenAI's layout, Hugging Face's with MXFP4 experts, or every file of the repository.",
)
@click.option("--revision", metavar="NAME", help="A branch, tag or commit instead of the main branch.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to put the files, at their paths in the repository; by default a folder of its name, here.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest silence of the server before another try; 10 by default.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Most further tries in a row that bring nothing.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and stop.")
@as_json
def download(
    repo: str,
    layout: Any,
    revision: str | None,
    output: Path | None,
    timeout: float | None,
    retries: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Downloads one layout of REPO from the Hugging Face Hub.

    Brings the weights of that layout, and config, tokenizer, template and licence. Run it again to go
    on after an interruption, or to verify what is there: every file is held against the hash that the
    Hub states. Private and gated repositories need a token: HF_TOKEN, or `hf auth login`.

    Exit code 6 if the disk is too small; 7 if the Hub cannot be reached, refuses, or sends other
    bytes than it lists.

    \b
    Examples:
      gptoss-weights download openai/gpt-oss-20b --dry-run
      gptoss-weights download openai/gpt-oss-20b
      gptoss-weights download openai/gpt-oss-120b --layout hf --output models/gpt-oss-120b
    """
    from gptoss_weights.hub import download_checkpoint

    try:
        with _progress_bar() as on_progress:
            plan = download_checkpoint(
                repo,
                layout=layout,
                revision=revision,
                output=output,
                dry_run=dry_run,
                timeout_s=timeout,
                retries=retries,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        click.echo("what has arrived is kept; run the same command again to go on from there", err=True)
        raise
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **plan.to_json()}, indent=2))
    elif dry_run:
        _print_table(plan)
    else:
        click.echo(
            f"{plan.output}: {len(plan.files)} files, {_size(plan.total_bytes)}, verified "
            f"({_size(plan.missing_bytes)} fetched); the checkpoint is {plan.checkpoint}"
        )


def _print_table(plan: "DownloadPlan") -> None:
    click.echo(f"{plan.repo} at {plan.commit}, layout {plan.layout}, into {plan.output}\n")
    rows = [(file.path, file.nbytes, file.nbytes - file.present_bytes) for file in plan.files]
    rows.append(("together", plan.total_bytes, plan.missing_bytes))
    width = max(len(path) for path, _, _ in rows)
    click.echo(f"{'file':<{width}}  {'size':>10}  {'to fetch':>10}")
    for path, nbytes, missing in rows:
        click.echo(f"{path:<{width}}  {_size(nbytes):>10}  {_size(missing):>10}")
    click.echo(f"\nleft out: {_size(plan.left_out_bytes)} in {plan.left_out} files of other layouts")


def _size(nbytes: int) -> str:
    """Bytes in decimal units, as disks and the Hub count them."""
    if nbytes < 1000:
        return f"{nbytes} B"
    size, unit = nbytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.2f} {unit}"


def _text(path: str | None) -> str:
    return path or ""


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[["Progress"], None]]:
    """A bar of bytes on standard error, where that is a terminal; it appears with the first byte."""
    with contextlib.ExitStack() as stack:
        bar: Any = None
        shown = 0

        def show(progress: "Progress") -> None:
            nonlocal bar, shown
            if bar is None:
                total = progress.total_bytes
                bar = stack.enter_context(
                    click.progressbar(length=total, label="downloading", item_show_func=_text, file=sys.stderr)
                )
            arrived = progress.arrived_bytes - shown
            if abs(arrived) * _BAR_STEPS >= progress.total_bytes or progress.arrived_bytes == progress.total_bytes:
                bar.update(arrived, progress.path)
                shown = progress.arrived_bytes

        yield show if sys.stderr.isatty() else lambda _: None
