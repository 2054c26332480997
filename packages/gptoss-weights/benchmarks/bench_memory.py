"""Peak memory of every conversion, both ways, of layers of gpt-oss-20b's full size.

Each conversion runs in a process of its own; the table shows by how many MiB its peak (VmHWM, which
counts mapped files too) exceeds that of the interpreter with all imports done, for each depth. Memory
does not depend on values, so all weights are zeros: the source is a hollow file, and what is written to
safetensors and msgpack files is dropped, which leaves files of the right size, all holes. TensorStore
writes its chunks itself, so an Orbax tree needs room, 1.8 GB a layer, while its turn lasts.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from gptoss_weights import GPT_OSS_20B
from gptoss_weights.testing import write_hollow_checkpoint

LIMIT_MIB = 1536
FLAT_MIB = 64  # what a peak may differ between depths, headers and page tables included
TARGETS = {
    "openai": "original",
    "hf-bf16": "plain",
    "flax": "bundle.msgpack",
    "orbax-scanned": "scanned",
    "orbax-unscanned": "unscanned",
}

# Arguments: source, target, format. Prints a JSON object.
CONVERSION = """
import json, sys, time
from pathlib import Path
import numpy as np
import gptoss_weights.formats.orbax.writer, gptoss_weights.opening, gptoss_weights.saving, gptoss_weights.views
from gptoss_weights import convert_checkpoint, open_checkpoint
from gptoss_weights.output.files import OutputFiles
import tensorstore
KEPT_BYTES = 1 << 20  # configs, headers, the structure of a tree
def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) >> 10
plain_write = OutputFiles.write
def write(self, name, offset, content):
    if isinstance(content, np.ndarray):
        content = np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
    if len(content) < KEPT_BYTES:
        plain_write(self, name, offset, content)
def copy(self, name, offset, source):
    return None
OutputFiles.write, OutputFiles.copy = write, copy
before, begin = peak(), time.perf_counter()
source, target, format = sys.argv[1:]
convert_checkpoint(open_checkpoint(source), target, format=format, durable=False)
print(json.dumps({"mib": peak() - before, "before": before, "seconds": time.perf_counter() - begin}))
"""


@click.command
@click.option("--layers", type=click.IntRange(2), multiple=True, default=(6, 12), show_default=True)
@click.option("--format", "formats", type=click.Choice(list(TARGETS)), multiple=True, help="Only these.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work, instead of the temporary folder.")
def main(layers: tuple[int, ...], formats: tuple[str, ...], folder: Path | None) -> None:
    """Prints MiB above the interpreter for each conversion and depth; fails if one is too much, or not flat."""
    results: dict[str, dict[int, dict[str, float]]] = {}
    for depth in layers:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            source = write_hollow_checkpoint(Path(scratch) / "source", replace(GPT_OSS_20B, num_hidden_layers=depth))
            for name in formats or list(TARGETS):
                middle = Path(scratch) / TARGETS[name]
                back = Path(scratch) / "back"
                for origin, place, to, target in ("hf", source, name, middle), (name, middle, "hf", back):
                    found = convert(place, target, to)
                    results.setdefault(f"{origin} → {to}", {})[depth] = found
                    print(f"{depth:>3} layers  {origin} → {to}: {found}", file=sys.stderr, flush=True)
                    if target != middle:
                        shutil.rmtree(target)
                remove(middle)
    sys.exit(print_table(results, layers))


def convert(source: Path, target: Path, format_name: str) -> dict[str, float]:
    arguments = [sys.executable, "-c", CONVERSION, str(source), str(target), format_name]
    output = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(output)
    return found


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def print_table(results: dict[str, dict[int, dict[str, float]]], layers: tuple[int, ...]) -> int:
    """Prints the table and returns the number of rows that break a bound."""
    broken = 0
    heads = [f"{f'{depth} layers':>16}" for depth in layers]
    print(f"{'MiB above the interpreter':<32}", *heads, f"{'grows by':>9}")
    for label, found in results.items():
        peaks = [found[depth]["mib"] for depth in layers]
        growth = peaks[-1] - peaks[0]
        is_broken = max(peaks) > LIMIT_MIB or growth > FLAT_MIB
        broken += is_broken
        cells = [f"{found[depth]['mib']:>8.0f} {found[depth]['seconds']:>5.0f} s" for depth in layers]
        print(f"{label:<32}", *cells, f"{growth:>9.0f}", "  too much" if is_broken else "")
    return broken


if __name__ == "__main__":
    main()
