"""Conversions of full-size layers: seconds and peak memory of each, beside `cp` of the same bytes.

Each conversion runs in a process of its own, so that its peak is its own. Relayouts alternate with
`cp`, each after a `sync` and with the source in the system's cache, in like pairs: `--no-fsync` beside
`cp`, and what waits for the disk beside `cp` and `sync -f`. The source's manifest spares a relayout
the hashing, so it is timed without one as well. Memory by depth is `bench_memory`'s.
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

# Arguments: source, target, format, layers, "durable" or not. Prints its peak in MiB, and what it was at first.
CONVERSION = """
import sys
from pathlib import Path
import gptoss_weights.saving
from gptoss_weights import convert_checkpoint, open_checkpoint
def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) >> 10
before = peak()
source, target, format, layers, durable = sys.argv[1:]
convert_checkpoint(open_checkpoint(source), target, format=format, layers=int(layers), durable=durable == "durable")
print(peak(), before)
"""


@click.command
@click.option("--layers", type=click.IntRange(2), default=2, show_default=True, help="Layers of gpt-oss-20b's size.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--relayouts-only", is_flag=True, help="Only what moves bytes.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work, instead of the temporary folder.")
def main(layers: int, rounds: int, relayouts_only: bool, folder: Path | None) -> None:
    """Times every direction; needs some 7 GB of disk for each two layers."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = Path(scratch) / "source"
        save_checkpoint(random_checkpoint(replace(GPT_OSS_20B, num_hidden_layers=layers), seed=0), source)
        gigabytes = sum(path.stat().st_size for path in source.iterdir()) / 1e9
        print(f"{layers} layers, {gigabytes:.2f} GB packed")
        relayouts(source, Path(scratch), layers, rounds)
        if relayouts_only:
            return
        report("openai → openai, half of it", source, Path(scratch) / "half", "openai", layers // 2)
        for name, target in (("hf-bf16", "plain"), ("flax", "bundle.msgpack"), ("orbax-scanned", "tree")):
            place = Path(scratch) / target
            report(f"openai → {name}", source, place, name, layers, keep=True)
            report(f"{name} → openai", place, Path(scratch) / "back", "openai", layers)
            remove(place)


def relayouts(source: Path, scratch: Path, layers: int, rounds: int) -> None:
    """Prints seconds of `cp` and of relayouts, and the ratio of their throughputs."""
    manifest, aside = source / "manifest.json", scratch / "manifest.json"
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for wait in (False, True):
            label = "cp, sync -f" if wait else "cp"
            times.setdefault(label, []).append(copy(source, scratch / "copy", wait=wait))
            for has_manifest in (True, False):
                if not has_manifest:
                    manifest.rename(aside)
                ours = f"openai → hf{'' if wait else ', --no-fsync'}{'' if has_manifest else ', hashed'}"
                times.setdefault(ours, []).append(convert(source, scratch / "hf", "hf", layers, durable=wait)[0])
                if not has_manifest:
                    aside.rename(manifest)
    for label, seconds in times.items():
        like = "cp" if label == "cp" or "--no-fsync" in label else "cp, sync -f"
        ratio = statistics.median(times[like]) / statistics.median(seconds)
        print(f"{label:<34}{statistics.median(seconds):7.1f} s  {ratio:.2f} × the throughput of {like}", flush=True)


def copy(source: Path, target: Path, *, wait: bool) -> float:
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    if wait:
        subprocess.run(["sync", "-f", str(target)], check=True)
    seconds = time.perf_counter() - start
    remove(target)
    return seconds


def convert(
    source: Path, target: Path, format_name: str, layers: int, *, keep: bool = False, durable: bool = True
) -> tuple[float, str]:
    subprocess.run(["sync"], check=True)
    start = time.perf_counter()
    mode = "durable" if durable else "not"
    arguments = [sys.executable, "-c", CONVERSION, str(source), str(target), format_name, str(layers), mode]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    if not keep:
        remove(target)
    return seconds, output


def report(label: str, source: Path, target: Path, format_name: str, layers: int, *, keep: bool = False) -> None:
    seconds, output = convert(source, target, format_name, layers, keep=keep)
    peak, before = map(int, output.split())
    print(f"{label:<34}{seconds:7.1f} s  {peak - before:5} MiB above the interpreter's {before}", flush=True)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    main()
