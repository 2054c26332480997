"""`gptoss-model generate`: continue a prompt."""

import json
import time
from typing import TYPE_CHECKING

import click
from gptoss_weights.completion_printing import logprobs_document, logprobs_table, print_stream
from gptoss_weights.prompting import Continuation, prompt_options, require_one_prompt, resolve_prompt
from gptoss_weights.sampling_options import sampling_options

from gptoss_model.cli.generation_options import GenerationOptions, refuse_impossible
from gptoss_model.cli.options import ModelSource, as_json, max_length_option, model_options, prefill_length_option
from gptoss_model.cli.status import status, until_first

if TYPE_CHECKING:
    from gptoss_weights.sampling import Sampling

    from gptoss_model.generation import Completion

__all__ = ["generate_command"]

TIMED = "compilation included"


@click.command("generate")
@model_options
@prompt_options
@click.option("--max-new-tokens", type=click.IntRange(min=0), default=64, show_default=True, help="The most to add.")
@click.option("--ignore-eos", is_flag=True, help="Go on after the checkpoint's end-of-sequence ids.")
@sampling_options
@click.option("--stream", "is_streamed", is_flag=True, help="Print the text as it comes.")
@click.option("--logprobs", is_flag=True, help="Report the log-probability of each new token.")
@click.option(
    "--top-logprobs", type=click.IntRange(min=0), default=0, metavar="N", help="Report the N most likely tokens too."
)
@prefill_length_option
@max_length_option
@as_json
def generate_command(
    source: ModelSource,
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
    as_json: bool,
) -> None:
    """Continue a prompt with the model in CHECKPOINT, greedily unless a temperature is given.

    CHECKPOINT is whatever gptoss-weights opens: a folder in a published layout, a Flax bundle, an Orbax
    tree or its URL. The new text goes to standard output (the new ids, if there is no tokenizer),
    timings go to standard error. The prompt is continued as it is; `chat` writes it in the chat format.

    \b
    Examples:
      gptoss-model generate gpt-oss-20b --prompt "The capital of France is"
      gptoss-model generate gpt-oss-20b --tokens 976,9029,328 --max-new-tokens 8 --json
      gptoss-model generate gpt-oss-20b --prompt "Once upon" --temperature 0.8 --top-p 0.95 --seed 1 --stream
    """  # noqa: D301 - the backslash is meant for click
    require_one_prompt(prompt, tokens)
    is_reported = logprobs or top_logprobs > 0
    if is_streamed and (as_json or is_reported):
        raise click.UsageError("--stream prints the text as it comes; --json and --logprobs report at the end.")
    from gptoss_weights.stop_tokens import eos_token_ids

    opened = source.open()
    start = resolve_prompt(prompt, tokens, source=opened, vocab_size=opened.config.vocab_size)

    from gptoss_model.generation import complete, stream

    request = GenerationOptions(
        max_new_tokens=max_new_tokens,
        eos_token_ids=() if ignore_eos else eos_token_ids(opened),
        sampling=sampling,
        seed=seed,
        prefill_length=prefill_length,
        max_length=max_length,
        top_logprobs=top_logprobs,
    )
    refuse_impossible(opened.config, [start.tokens], request)
    began = time.perf_counter()
    model = source.load(opened)
    loaded = time.perf_counter()
    completion: Completion | None = None
    if is_streamed:
        coming = until_first("reading the prompt", stream(model, [start.tokens], **request))
        news = print_stream(coming, start.tokenizer)
        ids, reason = [new.token for new in news], news[-1].finish_reason if news else None
    else:
        with status("generating"):
            [completion] = complete(model, [start.tokens], logprobs=logprobs, **request)
        ids, reason = completion.tokens, completion.finish_reason
    result = Continuation(
        prompt=start,
        tokens=ids,
        finish_reason=reason or "length",
        load_seconds=loaded - began,
        generate_seconds=time.perf_counter() - loaded,
    )
    if completion is None:
        result.show_timings(remark=TIMED)
    elif as_json:
        click.echo(json.dumps(result.to_json() | logprobs_document(completion), ensure_ascii=False))
    else:
        result.show(as_json=False, remark=TIMED)
        for line in logprobs_table(completion, start.tokenizer):
            click.echo(line)
