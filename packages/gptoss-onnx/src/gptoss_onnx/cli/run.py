"""`gptoss-onnx run`: continue a prompt greedily in ONNX Runtime alone."""

import time
from pathlib import Path

import click
from gptoss_weights.prompting import Continuation, prompt_options, require_one_prompt, resolve_prompt

__all__ = ["run_command"]


@click.command("run")
@click.argument("model", type=click.Path(path_type=Path))
@prompt_options
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
    require_one_prompt(prompt, tokens)
    from gptoss_onnx.runtime import OnnxModel

    started = time.perf_counter()
    opened = OnnxModel.open(model, threads=threads)
    loaded = time.perf_counter()
    start = resolve_prompt(prompt, tokens, source=_tokenizer_folder(model), vocab_size=opened.config.vocab_size)
    eos = () if ignore_eos else opened.metadata.eos_token_ids
    began = time.perf_counter()
    [new] = opened.generate([start.tokens], max_new_tokens=max_new_tokens, eos_token_ids=eos)
    seconds = time.perf_counter() - began
    result = Continuation(
        prompt=start,
        tokens=new,
        finish_reason="stop" if new and new[-1] in eos else "length",
        load_seconds=loaded - started,
        generate_seconds=seconds,
    )
    result.show(as_json=as_json)


def _tokenizer_folder(model: Path) -> Path:
    """The folder of the tokenizer: the exported one, or, beside a published `original/`, the one above it."""
    is_above = model.name == "original" and not (model / "tokenizer.json").is_file()
    return model.parent if is_above else model
