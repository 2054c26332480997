"""Importing, inspecting a full-size checkpoint, and reading all of one beside a bare SHA-256.

The checkpoints are hollow: their headers are real, their data a hole in the file. Import is timed in
a fresh interpreter, with the files of the package in the system's cache.
"""

import hashlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from click.testing import CliRunner
from gptoss_weights import GPT_OSS_20B, GPT_OSS_120B, open_checkpoint, verify_checkpoint
from gptoss_weights.cli import main as gptoss_weights
from gptoss_weights.testing import write_hollow_checkpoint

IMPORTS = ("gptoss_weights", "gptoss_weights.cli", "numpy")


@click.command
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(rounds: int) -> None:
    """Times what should feel instant, and what must read everything."""
    for module in IMPORTS:
        empty = median(lambda: run_python("pass"), rounds)
        print(f"import {module:<30}{median(lambda m=module: run_python(f'import {m}'), rounds) - empty:8.3f} s")
    with tempfile.TemporaryDirectory() as scratch:
        for name, config in {"gpt-oss-20b": GPT_OSS_20B, "gpt-oss-120b": GPT_OSS_120B}.items():
            folder = write_hollow_checkpoint(Path(scratch) / name, config)
            print(f"inspect {name:<29}{median(lambda f=folder: inspect(f), rounds):8.3f} s")
        small = replace(GPT_OSS_20B, num_hidden_layers=2, vocab_size=20_000)
        folder = write_hollow_checkpoint(Path(scratch) / "small", small)
        read_all(folder, rounds)


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def inspect(folder: Path) -> None:
    result = CliRunner().invoke(gptoss_weights, ["inspect", str(folder), "--tensors"])
    assert result.exit_code == 0, result.output


def read_all(folder: Path, rounds: int) -> None:
    file = folder / "model.safetensors"
    gigabytes = file.stat().st_size / 1e9
    checkpoint = open_checkpoint(folder)
    acts: dict[str, Callable[[], object]] = {
        "SHA-256 of the file": lambda: sha256(file),
        "Checkpoint.digest": checkpoint.digest,
        "verify_checkpoint": lambda: verify_checkpoint(checkpoint),
    }
    times: dict[str, list[float]] = {name: [] for name in acts}
    sha256(file)  # the system caches it
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        for name, act in acts.items():
            start = time.process_time()
            act()
            times[name].append(time.process_time() - start)
    for name, seconds in times.items():
        print(f"{name:<37}{gigabytes / statistics.median(seconds):8.2f} GB/s of CPU time")
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"peak memory grew by {growth / 1024:.0f} MiB over a file of {gigabytes * 1e9 / 2**20:.0f} MiB")


def sha256(file: Path) -> None:
    with file.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")


def median(act: Callable[[], object], rounds: int) -> float:
    act()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
