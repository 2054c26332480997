"""MXFP4 decode beside its peers: the official code, transformers, a copy and a fill of the same memory.

The blocks are experts of gpt-oss-20b's `gate_up_proj`, [E, 5760, 90, 16]. All contestants take turns,
several rounds; the table shows medians. CPU seconds are those of the process, threads included, and
GB/s count output. Before that, ours is held bit-equal to the official code on every byte under every
scale. Peers that are not installed are named and left out.

A new array costs what the system takes for its pages, which on a virtual machine that hands free
memory back can be several times the decoding; "fill, new array" shows it. Ours takes the pages that an
earlier result has left, so after the first round it costs no more than with `out=`.
"""

import importlib
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import click
import ml_dtypes
import numpy as np
from gptoss_weights import GPT_OSS_20B, Mxfp4Tensor, decode_mxfp4, random_checkpoint

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
GATE_UP = "model.layers.0.mlp.experts.gate_up_proj"

type Decode = Callable[[Mxfp4Tensor], np.ndarray]


def official(packed: Mxfp4Tensor) -> np.ndarray:
    torch = importlib.import_module("torch")
    checkpoint = importlib.import_module("gpt_oss.torch.weights").Checkpoint
    tensors = {"blocks": torch.from_numpy(packed.blocks), "scales": torch.from_numpy(packed.scales)}
    fake = SimpleNamespace(tensor_name_to_file=tensors, _get_tensor=tensors.__getitem__)
    decoded = checkpoint._get_mxfp4_tensor(fake, "blocks", "scales", dtype=torch.bfloat16)
    return decoded.view(torch.uint16).numpy().view(BFLOAT16)


def transformers(packed: Mxfp4Tensor) -> np.ndarray:
    torch = importlib.import_module("torch")
    convert = importlib.import_module("transformers.integrations.mxfp4").convert_moe_packed_tensors
    decoded = convert(torch.from_numpy(packed.blocks), torch.from_numpy(packed.scales), dtype=torch.bfloat16)
    return decoded.view(torch.uint16).numpy().view(BFLOAT16)


PEERS: dict[str, Decode] = {"official": official, "transformers": transformers}


@click.command
@click.option("--experts", type=click.IntRange(1, 32), default=4, show_default=True, help="32 is a whole layer.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(experts: int, rounds: int) -> None:
    """Compares decoders of MXFP4 by CPU time."""
    packed = random_checkpoint(GPT_OSS_20B, seed=0).read(GATE_UP, (slice(0, experts),))
    assert isinstance(packed, Mxfp4Tensor)
    packed = Mxfp4Tensor(packed.blocks.copy(), packed.scales.copy())  # torch warns of what it may not write
    peers = {name: decode for name, decode in PEERS.items() if is_there(name, decode)}
    if "official" in peers:
        hold_bit_equal(peers["official"])
    nbytes = int(np.prod(packed.shape)) * BFLOAT16.itemsize
    out, copied = np.zeros(packed.shape, BFLOAT16), np.zeros(packed.shape, BFLOAT16)
    wide = np.zeros(packed.shape, np.float32)
    blocks, scales = packed.blocks, packed.scales
    contestants: dict[str, tuple[int, Callable[[], object]]] = {
        "fill": (nbytes, lambda: out.view(np.uint16).fill(1)),
        "fill, new array": (nbytes, lambda: np.empty(packed.shape, np.uint16).fill(1)),
        "copy": (nbytes, lambda: np.copyto(copied.view(np.uint16), out.view(np.uint16))),
        "ours": (nbytes, lambda: decode_mxfp4(blocks, scales)),
        "ours, out=": (nbytes, lambda: decode_mxfp4(blocks, scales, out=out)),
        "ours, out=, 1 thread": (nbytes, lambda: decode_mxfp4(blocks, scales, out=out, threads=1)),
        "ours, float32, out=": (2 * nbytes, lambda: decode_mxfp4(blocks, scales, out=wide, dtype=np.float32)),
    } | {name: (nbytes, lambda decode=decode: decode(packed)) for name, decode in peers.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (_, act) in contestants.items():
            times[name].append(measure(act))
    print_table({name: (nbytes, times[name]) for name, (nbytes, _) in contestants.items()}, list(peers))


def is_there(name: str, decode: Decode) -> bool:
    try:
        decode(Mxfp4Tensor(np.zeros((1, 1, 1, 16), np.uint8), np.zeros((1, 1, 1), np.uint8)))
    except ImportError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return False
    return True


def hold_bit_equal(decode: Decode) -> None:
    blocks = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (1, 256, 1, 1))
    scales = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 16, axis=2)
    theirs, ours = decode(Mxfp4Tensor(blocks, scales)), decode_mxfp4(blocks, scales)
    np.testing.assert_array_equal(ours.view(np.uint16), theirs.view(np.uint16))
    print("bit-equal to the official code on every byte under every scale")


def measure(act: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of all threads, wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return time.process_time() - cpu, time.perf_counter() - wall


def print_table(results: dict[str, tuple[int, list[tuple[float, float]]]], peers: list[str]) -> None:
    cpu = {name: statistics.median(pair[0] for pair in pairs) for name, (_, pairs) in results.items()}
    rates = {name: nbytes / cpu[name] / 1e9 for name, (nbytes, _) in results.items()}
    print(f"{'':<22}{'CPU s':>9}{'GB/s·CPU':>10}{'GB/s wall':>11}{'of copy':>9}", *(f"{'× ' + p:>15}" for p in peers))
    for name, (nbytes, pairs) in results.items():
        wall = nbytes / statistics.median(pair[1] for pair in pairs) / 1e9
        row = f"{name:<22}{cpu[name]:>9.3f}{rates[name]:>10.2f}{wall:>11.2f}{rates[name] / rates['copy']:>9.3f}"
        print(row, *(f"{rates[name] / rates[peer]:>15.1f}" for peer in peers))


if __name__ == "__main__":
    main()
