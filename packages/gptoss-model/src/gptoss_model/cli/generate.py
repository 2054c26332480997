"""`gptoss-model generate`: continue a prompt greedily."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from gptoss_weights.token_ids import require_known_tokens, token_ids_callback

from gptoss_model.strategy_names import ATTENTION_NAMES, MOE_NAMES

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint
    from gptoss_weights.text import Tokenizer

    from gptoss_model.loading import ExpertForm

__all__ = ["generate_command"]


@click.command("generate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--prompt", metavar="TEXT", help="Text to continue; needs the checkpoint's tokenizer.json.")
@click.option("--tokens", callback=token_ids_callback, metavar="IDS", help="Token ids to continue, such as 1,2,3.")
@click.option("--max-new-tokens", type=click.IntRange(min=0), default=64, show_default=True, help="The most to add.")
@click.option("--ignore-eos", is_flag=True, help="Go on after the checkpoint's end-of-sequence ids.")
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16", "float32"]),
    default="bfloat16",
    show_default=True,
    help="Dtype of the activations.",
)
@click.option(
    "--experts",
    type=click.Choice(["stored", "mxfp4", "decoded"]),
    default="stored",
    show_default=True,
    help="Form of the expert matrices in memory.",
)
@click.option(
    "--moe",
    type=click.Choice(MOE_NAMES),
    default="auto",
    show_default=True,
    help="How the experts are run.",
)
@click.option(
    "--attention",
    type=click.Choice(ATTENTION_NAMES),
    default="auto",
    show_default=True,
    help="How attention is computed.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A config.json in either dialect, if it does not stand in the folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
def generate_command(
    checkpoint: Path,
    prompt: str | None,
    tokens: list[int] | None,
    max_new_tokens: int,
    ignore_eos: bool,
    dtype: str,
    experts: "ExpertForm",
    moe: str,
    attention: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Continue a prompt greedily with the model in CHECKPOINT.

    CHECKPOINT is a folder in one of the published layouts. The new text goes to standard output
    (the new ids, if there is no tokenizer), timings go to standard error.

    \b
    Examples:
      gptoss-model generate gpt-oss-20b --prompt "The capital of France is"
      gptoss-model generate gpt-oss-20b --tokens 976,9029,328 --max-new-tokens 8 --json
    """  # noqa: D301 - the backslash is meant for click
    if (prompt is None) == (tokens is None):
        raise click.UsageError("Give either --prompt or --tokens.")
    from gptoss_weights import open_checkpoint
    from gptoss_weights.stop_tokens import eos_token_ids

    opened = open_checkpoint(checkpoint, config=config)
    prompt_tokens, tokenizer = _prompt(opened, prompt, tokens)
    eos = () if ignore_eos else eos_token_ids(opened)

    from gptoss_model.generation import generate
    from gptoss_model.loading import load_model

    started = time.perf_counter()
    model = load_model(opened, dtype=dtype, experts=experts, moe=moe, attention=attention)
    loaded = time.perf_counter()
    [new] = generate(model, [prompt_tokens], max_new_tokens=max_new_tokens, eos_token_ids=eos)
    finished = time.perf_counter()
    timings = {
        "load_seconds": loaded - started,
        "generate_seconds": finished - loaded,  # compilation included
        "tokens_per_second": len(new) / (finished - loaded),
    }
    text = None if tokenizer is None else tokenizer.decode(new)
    if as_json:
        report = {"prompt_tokens": prompt_tokens, "tokens": new, "text": text, "timings": timings}
        click.echo(json.dumps(report, ensure_ascii=False))
        return
    click.echo(text if text is not None else ",".join(map(str, new)))
    click.echo(
        f"{len(new)} tokens in {timings['generate_seconds']:.2f} s, compilation included; "
        f"loaded in {timings['load_seconds']:.2f} s",
        file=sys.stderr,
    )


def _prompt(
    checkpoint: "Checkpoint", text: str | None, tokens: list[int] | None
) -> tuple[list[int], "Tokenizer | None"]:
    """The ids to continue, and the tokenizer; ids can do without one."""
    from gptoss_weights import CheckpointError, MissingDependencyError
    from gptoss_weights.text import load_tokenizer

    vocab_size = checkpoint.config.vocab_size
    if text is not None:
        tokenizer = load_tokenizer(checkpoint)
        ids = tokenizer.encode(text)
        if not ids:
            raise click.BadParameter("the prompt has no tokens", param_hint="--prompt")
        if max(ids) >= vocab_size:
            raise CheckpointError(
                "the tokenizer does not belong to these weights",
                where=checkpoint.side_files["tokenizer.json"],
                expected=f"ids below the vocabulary size {vocab_size}",
                found=max(ids),
            )
        return ids, tokenizer
    ids = tokens or []
    require_known_tokens(ids, vocab_size)
    if "tokenizer.json" not in checkpoint.side_files:
        return ids, None
    try:
        return ids, load_tokenizer(checkpoint)
    except MissingDependencyError:
        return ids, None
