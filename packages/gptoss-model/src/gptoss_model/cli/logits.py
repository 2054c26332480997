"""`gptoss-model logits`: what the model expects after a prompt, as a table, a document or a file."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from gptoss_weights.completion_printing import token_line
from gptoss_weights.prompting import prompt_options, require_one_prompt, resolve_prompt

from gptoss_model.cli.options import ModelSource, as_json, model_options
from gptoss_model.cli.status import status

if TYPE_CHECKING:
    import numpy as np

__all__ = ["logits_command"]

FILE_KINDS = (".npy", ".safetensors")


@click.command("logits")
@model_options
@prompt_options
@click.option(
    "--positions",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="After the last token of the prompt, or after each.",
)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many tokens to show.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the logits, float32 [positions, vocabulary], to a .npy or .safetensors file instead.",
)
@click.option(
    "--prefill-length", type=click.IntRange(min=1), metavar="N", help="Feed the prompt in pieces of N tokens."
)
@as_json
def logits_command(
    source: ModelSource,
    prompt: str | None,
    tokens: list[int] | None,
    positions: str,
    top: int,
    output: Path | None,
    prefill_length: int | None,
    as_json: bool,
) -> None:
    """Print what the model in CHECKPOINT expects after a prompt: the likeliest tokens, logit and log-probability.

    \b
    Examples:
      gptoss-model logits gpt-oss-20b --prompt "The capital of France is"
      gptoss-model logits gpt-oss-20b --tokens 976,9029,328 --positions all --top 3 --json
      gptoss-model logits gpt-oss-20b --tokens 976,9029,328 --positions all --output logits.npy --dtype float32
    """  # noqa: D301 - the backslash is meant for click
    require_one_prompt(prompt, tokens)
    if output is not None and output.suffix not in FILE_KINDS:
        raise click.BadParameter(f"{output} is neither a .npy nor a .safetensors file", param_hint="'--output'")
    opened = source.open()
    start = resolve_prompt(prompt, tokens, source=opened, vocab_size=opened.config.vocab_size)

    from gptoss_model.generation import prompt_logits

    model = source.load(opened)
    first = 0 if positions == "all" else len(start.tokens) - 1
    wanted = range(first, len(start.tokens))
    slabs = prompt_logits(model, start.tokens, first=first, prefill_length=prefill_length)
    expected = []
    with status("reading the prompt"):
        if output is not None:
            _write(output, slabs, start.tokens, (len(wanted), opened.config.vocab_size))
        else:
            expected = [_expected(row, min(top, len(row))) for slab in slabs for row in slab]
    if output is not None:
        report: dict[str, Any] = {"output": str(output), "shape": [len(wanted), opened.config.vocab_size]}
        shown = f"{output}: logits after {len(wanted)} of {len(start.tokens)} tokens"
        click.echo(json.dumps(report | {"prompt_tokens": start.tokens}) if as_json else shown)
        return
    if as_json:
        places = [{"position": place, "top": best} for place, best in zip(wanted, expected, strict=True)]
        click.echo(json.dumps({"prompt_tokens": start.tokens, "positions": places}))
        return
    for place, best in zip(wanted, expected, strict=True):
        before = "" if start.tokenizer is None else f" {start.tokenizer.decode([start.tokens[place]])!r}"
        click.echo(f"after token {place}, {start.tokens[place]}{before}")
        for entry in best:
            click.echo(f"  {entry['logit']:>9.4f}{token_line(entry['token'], entry['logprob'], start.tokenizer)}")


def _expected(row: "np.ndarray", count: int) -> list[dict[str, Any]]:
    """The likeliest tokens, of equals those with smaller ids first."""
    import numpy as np

    exact = row.astype(np.float64)
    largest = exact.max()
    normalizer = largest + np.log(np.exp(exact - largest).sum())
    best = np.argsort(-exact, kind="stable")[:count].tolist()
    return [{"token": token, "logit": float(row[token]), "logprob": float(exact[token] - normalizer)} for token in best]


def _write(path: Path, slabs: "Iterable[np.ndarray]", tokens: list[int], shape: tuple[int, int]) -> None:
    """Writes some rows after the others, so that memory never holds them all."""
    import numpy as np
    from gptoss_weights.durable_files import replaced_file

    with replaced_file(path) as stream:
        if path.suffix == ".npy":
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(stream, header)
        else:
            stream.write(_safetensors_header(shape, len(tokens)))
        for slab in slabs:
            stream.write(slab.astype("<f4").tobytes())
        if path.suffix != ".npy":
            stream.write(np.asarray(tokens, "<i4").tobytes())


def _safetensors_header(shape: tuple[int, int], tokens: int) -> bytes:
    """The head of a file of `logits` and, behind them, the prompt's `tokens`, int32."""
    size = shape[0] * shape[1] * 4
    entries = {
        "logits": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]},
        "tokens": {"dtype": "I32", "shape": [tokens], "data_offsets": [size, size + 4 * tokens]},
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # huggingface/safetensors aligns the data
    return len(text).to_bytes(8, "little") + text
