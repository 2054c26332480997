"""Conversions of full-size layers: seconds and peak memory of each, beside `cp` of the same bytes.

Each conversion runs in a process of its own, so that its peak is its own; rounds of `cp` and of ours
alternate, each after a `sync`. Give another depth (`--layers`) to see that memory stays flat.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
from gptoss_weights import GPT_OSS_20B, random_checkpoint, save_checkpoint

# Argument: source, target, format, layers. Prints its peak in MiB, and what it was before anything was opened.
CONVERSION = """
import sys
from pathlib import Path
import gptoss_weights.saving
from gptoss_weights import convert_checkpoint, open_checkpoint
def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) >> 10
before = peak()
source, target, format, layers = sys.argv[1:]
convert_checkpoint(open_checkpoint(source), target, format=format, layers=int(layers))
print(peak(), before)
"""


@click.command
@click.option("--layers", type=click.IntRange(2), default=2, show_default=True, help="Layers of gpt-oss-20b's size.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work, instead of the temporary folder.")
def main(layers: int, rounds: int, folder: Path | None) -> None:
    """Times every direction; needs some 7 GB of disk for each two layers."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = Path(scratch) / "source"
        save_checkpoint(random_checkpoint(replace(GPT_OSS_20B, num_hidden_layers=layers), seed=0), source)
        gigabytes = sum(path.stat().st_size for path in source.iterdir()) / 1e9
        print(f"{layers} layers, {gigabytes:.2f} GB packed")
        copies, relayouts = [], []
        for _ in range(rounds):
            copies.append(copy(source, Path(scratch) / "copy"))
            relayouts.append(convert(source, Path(scratch) / "hf", "hf", layers)[0])
        print(f"{'cp':<30}{statistics.median(copies):7.1f} s")
        ratio = statistics.median(copies) / statistics.median(relayouts)
        print(f"{'openai → hf':<30}{statistics.median(relayouts):7.1f} s  {ratio:.2f} × cp's throughput")
        report("openai → openai, half of it", source, Path(scratch) / "half", "openai", layers // 2)
        for name, target in (("hf-bf16", "plain"), ("flax", "bundle.msgpack"), ("orbax-scanned", "tree")):
            place = Path(scratch) / target
            report(f"openai → {name}", source, place, name, layers, keep=True)
            report(f"{name} → openai", place, Path(scratch) / "back", "openai", layers)
            remove(place)


def copy(source: Path, target: Path) -> float:
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    seconds = time.perf_counter() - start
    remove(target)
    return seconds


def convert(source: Path, target: Path, format_name: str, layers: int, *, keep: bool = False) -> tuple[float, str]:
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    arguments = [sys.executable, "-c", CONVERSION, str(source), str(target), format_name, str(layers)]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    if not keep:
        remove(target)
    return seconds, output


def report(label: str, source: Path, target: Path, format_name: str, layers: int, *, keep: bool = False) -> None:
    seconds, output = convert(source, target, format_name, layers, keep=keep)
    peak, before = map(int, output.split())
    print(f"{label:<30}{seconds:7.1f} s  {peak - before:5} MiB above the interpreter's {before}", flush=True)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
