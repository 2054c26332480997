"""`gptoss-onnx benchmark`: time to open, time of a prompt, and tokens per second."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptoss_onnx.cli.options import as_json, as_usage_error, model_argument, session_options

if TYPE_CHECKING:
    from gptoss_onnx.session import Mode

__all__ = ["benchmark_command"]

_GIB = 1 << 30


@click.command("benchmark")
@model_argument
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Of each prompt.")
@click.option("--new-tokens", type=click.IntRange(min=2), default=32, show_default=True, help="To add to each.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences at a time.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Runs to take medians of.")
@session_options
@as_json
def benchmark_command(
    model: Path,
    prompt_tokens: int,
    new_tokens: int,
    batch: int,
    repeats: int,
    mode: "Mode",
    threads: int | None,
    as_json: bool,
) -> None:
    """Measures how fast the exported MODEL opens, reads prompts and generates on this machine.

    Prompts are random and greedily continued; the first run is not counted.

    \b
    Examples:
      gptoss-onnx benchmark gpt-oss-20b-onnx
      gptoss-onnx benchmark gpt-oss-20b-fast --mode turbo --threads 1 --prompt-tokens 1024 --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_onnx.benchmark import measure_generation, peak_memory_bytes

    with as_usage_error():
        times = measure_generation(
            model,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            batch=batch,
            repeats=repeats,
            threads=threads,
            mode=mode,
        )
    report: dict[str, Any] = {
        **dataclasses.asdict(times),
        "prefill_tokens_per_second": times.prefill_tokens_per_second,
        "decode_tokens_per_second": times.decode_tokens_per_second,
        "peak_memory_bytes": peak_memory_bytes(),
        "mode": mode,
        "threads": threads,
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    rows = [
        ("open", f"{times.open_seconds:.2f} s"),
        ("prefill", f"{times.prefill_tokens_per_second:.1f} tokens/s ({times.prefill_seconds:.3f} s)"),
        ("decode", f"{times.decode_tokens_per_second:.1f} tokens/s ({times.decode_seconds * 1000:.2f} ms a step)"),
        ("processors while decoding", f"{times.decode_cpu_seconds / times.decode_seconds:.1f} busy"),
        ("peak memory", f"{report['peak_memory_bytes'] / _GIB:.2f} GiB, what is mapped of the weights included"),
    ]
    click.echo(f"mode {mode}, batch {batch}, {prompt_tokens} tokens and {new_tokens} new ones")
    for label, value in rows:
        click.echo(f"  {label:<28}{value}")
