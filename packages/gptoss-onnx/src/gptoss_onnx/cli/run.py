"""`gptoss-onnx run`: continue a prompt in ONNX Runtime alone."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights.completion_printing import logprobs_document, logprobs_table, print_stream
from gptoss_weights.prompting import Continuation, prompt_options, require_one_prompt, resolve_prompt
from gptoss_weights.sampling_options import sampling_options

from gptoss_onnx.cli.options import as_json, as_usage_error, model_argument, session_options, tokenizer_folder

if TYPE_CHECKING:
    from gptoss_weights.completions import Completion
    from gptoss_weights.sampling import Sampling

    from gptoss_onnx.session import Mode

__all__ = ["run_command"]


@click.command("run")
@model_argument
@prompt_options
@click.option("--max-new-tokens", type=click.IntRange(min=0), default=64, show_default=True, help="The most to add.")
@click.option("--ignore-eos", is_flag=True, help="Go on after the checkpoint's end-of-sequence ids.")
@sampling_options
@click.option("--stream", "is_streamed", is_flag=True, help="Print the text as it comes.")
@click.option("--logprobs", is_flag=True, help="Report the log-probability of each new token.")
@click.option(
    "--top-logprobs", type=click.IntRange(min=0), default=0, metavar="N", help="Report the N most likely tokens too."
)
@click.option("--prefill-length", type=click.IntRange(min=1), help="Feed the prompt in pieces of so many tokens.")
@click.option("--max-length", type=click.IntRange(min=1), help="The most tokens that prompt and answer may come to.")
@session_options
@as_json
def run_command(
    model: Path,
    prompt: str | None,
    tokens: list[int] | None,
    max_new_tokens: int,
    ignore_eos: bool,
    sampling: "Sampling | None",
    seed: int,
    is_streamed: bool,
    logprobs: bool,
    top_logprobs: int,
    prefill_length: int | None,
    max_length: int | None,
    mode: "Mode",
    threads: int | None,
    as_json: bool,
) -> None:
    """Continues a prompt with the exported MODEL, greedily unless a temperature is given.

    MODEL is a folder that `gptoss-onnx export` made. The new text goes to standard output (the new
    ids, if there is no tokenizer), timings go to standard error. The prompt is continued as it is;
    `chat` writes it in the chat format. Equal seeds draw the tokens that `gptoss-model generate` draws.

    \b
    Examples:
      gptoss-onnx run gpt-oss-20b-onnx --prompt "The capital of France is"
      gptoss-onnx run gpt-oss-20b-onnx --tokens 976,9029,328 --max-new-tokens 8 --json
      gptoss-onnx run gpt-oss-20b-fast --mode turbo --prompt "Once upon" --temperature 0.8 --top-p 0.95 --stream
    """  # noqa: D301 - the backslash is meant for click
    require_one_prompt(prompt, tokens)
    if is_streamed and (as_json or logprobs or top_logprobs):
        raise click.UsageError("--stream prints the text as it comes; --json and --logprobs report at the end.")
    from gptoss_onnx.generation import complete, stream
    from gptoss_onnx.request import check_request
    from gptoss_onnx.runtime import OnnxModel

    began = time.perf_counter()
    with as_usage_error():
        opened = OnnxModel.open(model, threads=threads, mode=mode)
    start = resolve_prompt(prompt, tokens, source=tokenizer_folder(model), vocab_size=opened.config.vocab_size)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "eos_token_ids": () if ignore_eos else opened.metadata.eos_token_ids,
        "sampling": sampling,
        "seed": seed,
        "top_logprobs": top_logprobs,
        "prefill_length": prefill_length,
        "max_length": max_length,
    }
    with as_usage_error():
        check_request(opened.config, [start.tokens], **options, longest=opened.longest, is_warned=False)
    loaded = time.perf_counter()
    completion: Completion | None = None
    if is_streamed:
        news = print_stream(stream(opened, [start.tokens], **options), start.tokenizer)
        ids, reason = [new.token for new in news], news[-1].finish_reason if news else None
    else:
        [completion] = complete(opened, [start.tokens], logprobs=logprobs, **options)
        ids, reason = completion.tokens, completion.finish_reason
    result = Continuation(
        prompt=start,
        tokens=ids,
        finish_reason=reason or "length",
        load_seconds=loaded - began,
        generate_seconds=time.perf_counter() - loaded,
    )
    if completion is None:
        result.show_timings()
    elif as_json:
        click.echo(json.dumps(result.to_json() | logprobs_document(completion), ensure_ascii=False))
    else:
        result.show(as_json=False)
        for line in logprobs_table(completion, start.tokenizer):
            click.echo(line)
