"""`gptoss-model benchmark`: what the first token waits for, and tokens per second."""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptoss_model.cli.options import ModelSource, as_json, model_options
from gptoss_model.cli.status import status

if TYPE_CHECKING:
    from gptoss_weights import Checkpoint

__all__ = ["benchmark_command"]

_GIB = 1 << 30


@click.command("benchmark")
@model_options
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of each prompt.")
@click.option("--new-tokens", type=click.IntRange(min=2), default=32, show_default=True, help="To add to each.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences at a time.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Runs to take medians of.")
@as_json
def benchmark_command(
    source: ModelSource, prompt_tokens: int, new_tokens: int, batch: int, repeats: int, as_json: bool
) -> None:
    """Measure how fast the model in CHECKPOINT starts and generates on this machine.

    CHECKPOINT may also be a config.json: then the weights are random ones of that geometry. Prompts are
    random and greedily continued. Compiling is told apart from computing; where compiled programs
    are kept from an earlier run, it is reading them (--no-compilation-cache compiles anew).

    \b
    Examples:
      gptoss-model benchmark gpt-oss-20b
      gptoss-model benchmark gpt-oss-20b --prompt-tokens 1024 --batch 4 --scan-layers --json
      gptoss-model benchmark my-model/config.json --dtype float32 --no-compilation-cache
    """  # noqa: D301 - the backslash is meant for click
    started = time.perf_counter()
    opened = _opened(source)
    began = time.perf_counter()
    from gptoss_model.benchmark import measure_generation, peak_memory_bytes

    imported = time.perf_counter()
    model = source.load(opened)
    import jax

    jax.block_until_ready(jax.tree.leaves(model))
    loaded = time.perf_counter()
    with status("measuring"):
        times = measure_generation(
            model, prompt_tokens=prompt_tokens, new_tokens=new_tokens, batch=batch, repeats=repeats
        )
    startup = {
        "open_seconds": began - started,
        "import_seconds": imported - began,
        "load_seconds": loaded - imported,
    }
    first = sum(startup.values()) + times.compile_prefill_seconds + times.prefill_seconds
    report: dict[str, Any] = {
        **startup,
        **dataclasses.asdict(times),
        "first_token_seconds": first,
        "prefill_tokens_per_second": times.prefill_tokens_per_second,
        "decode_tokens_per_second": times.decode_tokens_per_second,
        "peak_memory_bytes": peak_memory_bytes(),
        "device": jax.devices()[0].device_kind,
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    shape = f"batch {batch}, {prompt_tokens} tokens and {new_tokens} new ones"
    rows = [
        ("open the checkpoint", f"{startup['open_seconds']:.2f} s"),
        ("import JAX and the model", f"{startup['import_seconds']:.2f} s"),
        ("load", f"{startup['load_seconds']:.2f} s"),
        ("compile the prefill", f"{times.compile_prefill_seconds:.2f} s"),
        ("first token after all that", f"{first:.2f} s"),
        ("compile the decoding loop", f"{times.compile_decode_seconds:.2f} s"),
        ("prefill", f"{times.prefill_tokens_per_second:.1f} tokens/s ({times.prefill_seconds:.3f} s)"),
        ("decode", f"{times.decode_tokens_per_second:.1f} tokens/s ({times.decode_seconds:.3f} s)"),
        ("processors while decoding", f"{times.decode_cpu_seconds / times.decode_seconds:.1f} busy"),
        ("peak memory", f"{report['peak_memory_bytes'] / _GIB:.2f} GiB"),
    ]
    click.echo(f"{report['device']}: {shape}")
    for label, value in rows:
        click.echo(f"  {label:<28}{value}")


def _opened(source: ModelSource) -> "Checkpoint":
    """The checkpoint, or random weights for a lone config."""
    place = source.checkpoint
    if not isinstance(place, Path) or place.suffix != ".json":
        return source.open()
    from gptoss_weights import GptOssConfig, random_checkpoint

    return random_checkpoint(GptOssConfig.read(place), seed=0)
