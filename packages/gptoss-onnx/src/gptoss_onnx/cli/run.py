"""`gptoss-onnx run`: continue a prompt greedily in ONNX Runtime alone."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.token_ids import require_known_tokens, token_ids_callback

if TYPE_CHECKING:
    from gptoss_weights.text import Tokenizer

__all__ = ["run_command"]


@click.command("run")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="TEXT", help="Text to continue; needs the tokenizer.json of the checkpoint.")
@click.option("--tokens", callback=token_ids_callback, metavar="IDS", help="Token ids to continue, such as 1,2,3.")
@click.option("--max-new-tokens", type=click.IntRange(min=0), default=64, show_default=True, help="The most to add.")
@click.option("--ignore-eos", is_flag=True, help="Go on after the checkpoint's end-of-sequence ids.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to use; by default one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def run_command(
    model: Path,
    prompt: str | None,
    tokens: list[int] | None,
    max_new_tokens: int,
    ignore_eos: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Continues a prompt greedily with the exported MODEL.

    MODEL is a folder that `gptoss-onnx export` made. The new text goes to standard output (the new
    ids, if there is no tokenizer), timings go to standard error.

    \b
    Examples:
      gptoss-onnx run gpt-oss-20b-onnx --prompt "The capital of France is"
      gptoss-onnx run gpt-oss-20b-onnx --tokens 976,9029,328 --max-new-tokens 8 --json
    """  # noqa: D301 - the backslash is meant for click
    if (prompt is None) == (tokens is None):
        raise click.UsageError("Give either --prompt or --tokens.")
    from gptoss_onnx.runtime import OnnxModel

    started = time.perf_counter()
    opened = OnnxModel.open(model, threads=threads)
    loaded = time.perf_counter()
    require_known_tokens(tokens or [], opened.config.vocab_size)
    tokenizer = _tokenizer(model, is_needed=prompt is not None)
    prompt_tokens = tokenizer.encode(prompt) if tokenizer is not None and prompt is not None else tokens or []
    eos = () if ignore_eos else opened.metadata.eos_token_ids
    began = time.perf_counter()
    [new] = opened.generate([prompt_tokens], max_new_tokens=max_new_tokens, eos_token_ids=eos)
    seconds = time.perf_counter() - began
    timings = {
        "load_seconds": loaded - started,
        "generate_seconds": seconds,
        "tokens_per_second": len(new) / seconds,
    }
    text = None if tokenizer is None else tokenizer.decode(new)
    if as_json:
        report = {"prompt_tokens": prompt_tokens, "tokens": new, "text": text, "timings": timings}
        click.echo(json.dumps(report, ensure_ascii=False))
        return
    click.echo(text if text is not None else ",".join(map(str, new)))
    click.echo(f"{len(new)} tokens in {seconds:.2f} s; loaded in {timings['load_seconds']:.2f} s", err=True)


def _tokenizer(folder: Path, *, is_needed: bool) -> "Tokenizer | None":
    """The tokenizer of an exported folder; beside `original/`, as published, it stands one folder higher.

    Raises:
        CheckpointError: the prompt is text, and there is none.
        MissingDependencyError: the prompt is text, and the extra is not installed.
    """
    from gptoss_weights import CheckpointError, MissingDependencyError
    from gptoss_weights.text import load_tokenizer

    is_above = folder.name == "original" and not (folder / "tokenizer.json").is_file()
    try:
        return load_tokenizer(folder.parent if is_above else folder)
    except (CheckpointError, MissingDependencyError):
        if is_needed:
            raise
        return None
