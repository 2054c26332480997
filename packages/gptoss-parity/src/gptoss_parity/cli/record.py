"""`gptoss-parity record`: one forward pass of one implementation, as a trace file."""

import shlex
from pathlib import Path

import click
from gptoss_weights.cli_parameters import CHECKPOINT_PATH
from gptoss_weights.token_ids import require_known_tokens, token_ids_callback

from gptoss_parity.sources import DTYPES, SOURCES, Dtype, make_source
from gptoss_parity.trace import save_trace

__all__ = ["record_command"]


@click.command()
@click.argument("checkpoint", type=CHECKPOINT_PATH)
@click.option("--source", type=click.Choice(SOURCES), required=True, help="The implementation to run.")
@click.option(
    "--tokens", callback=token_ids_callback, metavar="IDS", required=True, help="The prompt as token ids: 1,2,3."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The trace to write.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="What to compute in.")
@click.option("--config", type=click.Path(path_type=Path), help="Where the checkpoint's config.json stands instead.")
def record_command(
    checkpoint: Path | str, source: str, tokens: list[int], output: Path, dtype: Dtype, config: Path | None
) -> None:
    """Run CHECKPOINT on a prompt and write every probe to a trace file.

    \b
    Examples:
      gptoss-parity record gpt-oss-20b --source torch --tokens 976,9029,328 --output official.safetensors
      gptoss-parity record gpt-oss-20b --source jax --tokens 976,9029,328 --output jax.safetensors --dtype bfloat16
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights import open_checkpoint

    implementation = make_source(source)
    if dtype not in implementation.dtypes:
        supported = ", ".join(implementation.dtypes)
        raise click.BadParameter(f"the source {source!r} computes in {supported} only", param_hint="'--dtype'")
    opened = open_checkpoint(checkpoint, config=config)
    require_known_tokens(tokens, opened.config.vocab_size)
    trace = implementation.record(opened, tokens, dtype=dtype)
    row = ",".join(map(str, tokens))
    words = ["gptoss-parity", "record", str(checkpoint), "--source", source, "--tokens", row, "--dtype", dtype]
    words += [] if config is None else ["--config", str(config)]
    save_trace(trace.with_command(shlex.join([*words, "--output", str(output)])), output)
    click.echo(f"{output}: {len(trace)} probes of {len(trace.tokens)} tokens from {implementation.name} in {dtype}")
