"""`gptoss-parity record`: one forward pass of one implementation, as a trace file."""

import shlex
from pathlib import Path

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH
from gptoss_weights.token_ids import token_ids_callback

from gptoss_parity.cli.recording import made_source, opened_checkpoint, recorded
from gptoss_parity.cli.source_options import SourceChoice, SourceSettings, source_options
from gptoss_parity.sources import SOURCES

__all__ = ["record_command"]

_JSONL = ".jsonl"


@click.command()
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.option("--source", type=click.Choice(SOURCES), required=True, help="The implementation to run.")
@click.option("--prompt", metavar="TEXT", help="The prompt as text; needs the checkpoint's tokenizer.json.")
@click.option("--tokens", callback=token_ids_callback, metavar="IDS", help="The prompt as token ids: 1,2,3.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Cut the prompt behind so many tokens.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The trace to write; with the suffix .jsonl, MaxText's golden logits.",
)
@click.option("--config", type=click.Path(path_type=Path), help="Where the checkpoint's config.json stands instead.")
@click.option("--max-layers", type=click.IntRange(min=1), help="Run the first layers only.")
@click.option("--block-debug", is_flag=True, help="Record what happens inside attention and experts too.")
@click.option("--layerwise", is_flag=True, help="Run a layer at a time, for models that do not fit into memory.")
@click.option("--replay", type=click.Path(path_type=Path), metavar="TRACE",
              help="Take the experts that this trace chose, in place of the model's own choice.")  # fmt: skip
@source_options
def record_command(
    checkpoint: Path | str,
    source: str,
    settings: SourceSettings,
    prompt: str | None,
    tokens: list[int] | None,
    max_tokens: int | None,
    output: Path,
    config: Path | None,
    max_layers: int | None,
    block_debug: bool,
    layerwise: bool,
    replay: Path | None,
) -> None:
    """Run CHECKPOINT on a prompt and write every probe to a trace file.

    \b
    Examples:
      gptoss-parity record gpt-oss-20b --source torch --tokens 976,9029,328 --output official.safetensors
      gptoss-parity record gpt-oss-20b --source jax --prompt "Hello" --output jax.safetensors --dtype bfloat16
      gptoss-parity record gpt-oss-20b --source hf --tokens 976,9029,328 --output golden.jsonl
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_parity.golden_jsonl import write_golden_jsonl
    from gptoss_parity.layerwise import LayerwiseSource
    from gptoss_parity.prompts import given_prompts
    from gptoss_parity.trace import load_trace, save_trace

    if (prompt is None) == (tokens is None):
        raise click.UsageError("Give either --prompt or --tokens.")
    implementation, dtype = made_source(source, settings)
    opened = opened_checkpoint(checkpoint, config, source=source, settings=settings, max_layers=max_layers)
    [given] = given_prompts(opened, text=prompt, tokens=tokens, max_tokens=max_tokens)
    implementation = LayerwiseSource(implementation) if layerwise else implementation
    forced = None if replay is None else load_trace(replay)
    trace = recorded(implementation, opened, given.tokens, dtype=dtype, block_debug=block_debug, choices=forced)
    choice = SourceChoice(name=source, dtype=dtype, is_asked_for=True)
    run = settings.run(
        choice, str(checkpoint), None if config is None else str(config), max_layers=max_layers, layerwise=layerwise
    )
    more = ["--block-debug"] if block_debug else []
    more += [] if replay is None else ["--replay", str(replay)]
    row = ",".join(map(str, given.tokens))
    command = f"{run.command} {shlex.join(['--tokens', row, *more, '--output', str(output)])}"
    if output.suffix == _JSONL:
        write_golden_jsonl([(given.text or "", trace)], output)
        click.echo(f"{output}: logits of {len(trace.tokens)} tokens from {implementation.name} in {dtype}")
        return
    save_trace(trace.with_command(command), output)
    what = f"{len(trace)} probes of {len(trace.tokens)} tokens"
    click.echo(f"{output}: {what} from {implementation.name} in {dtype}")
