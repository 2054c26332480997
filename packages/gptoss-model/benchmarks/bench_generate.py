"""Prefill and decoding beside transformers, on one synthetic checkpoint, all taking turns in one process.

The medium model: hidden 1024, ffn 512, 8 layers, 32 experts of which 4 are chosen, vocabulary 32768,
64 query heads and 8 key/value heads of 64, window 128; 546 M parameters, 160 M active a token. Rates
are tokens a second of wall time; on a machine that others use too, CPU milliseconds a token say
more. The floor of a decoded token is what it must read, its chosen experts, attention, router,
unembedding and cache, over the memory bandwidth measured in the same run. Peers that are not
installed are named and left out.
"""

import functools
import importlib
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import gptoss_model
import jax
import jax.numpy as jnp
import numpy as np
from gptoss_weights import GptOssConfig, open_checkpoint, random_checkpoint, save_checkpoint
from gptoss_weights.testing import tiny_config

MEDIUM = {
    "num_hidden_layers": 8,
    "num_experts": 32,
    "experts_per_token": 4,
    "vocab_size": 32768,
    "hidden_size": 1024,
    "intermediate_size": 512,
    "head_dim": 64,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "sliding_window": 128,
}
SHORT_PROMPT, LONG_PROMPT = 128, 1024  # tokens
PACKED_BITS = 4.25  # of a value in MXFP4: four, and a scale byte for 32
PROBE_BYTES = 400_000_000  # read to measure the bandwidth; far more than any cache

type Generate = Callable[[list[int], int], object]


class Clock:
    """CPU and wall seconds of one contestant's turns, by what was measured."""

    def __init__(self) -> None:
        self.turns: dict[str, list[tuple[float, float]]] = {}

    def measure(self, what: str, act: Callable[[], object]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        act()
        self.turns.setdefault(what, []).append((time.process_time() - cpu, time.perf_counter() - wall))

    def cpu(self, what: str) -> float:
        return statistics.median(turn[0] for turn in self.turns[what])

    def wall(self, what: str) -> float:
        return statistics.median(turn[1] for turn in self.turns[what])


def ours(folder: Path, dtype: str, experts: str, *, scan_layers: bool = True) -> Generate:
    model = gptoss_model.load_model(open_checkpoint(folder), dtype=dtype, experts=experts, scan_layers=scan_layers)

    def generate(prompt: list[int], count: int) -> object:
        return gptoss_model.generate(model, [prompt], max_new_tokens=count, max_length=LONG_PROMPT + 512)

    return generate


def transformers(folder: Path, dtype: str, experts: str) -> Generate:
    torch, library = importlib.import_module("torch"), importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    model = library.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        experts_implementation=experts,
        quantization_config=library.Mxfp4Config(dequantize=True),
    ).eval()

    def generate(prompt: list[int], count: int) -> object:
        with torch.no_grad():
            output = model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
            for _ in range(count - 1):
                newest = output.logits[:, -1:].argmax(-1)
                output = model(newest, past_key_values=output.past_key_values, use_cache=True)
        return output.logits.argmax(-1)

    return generate


CONTESTANTS: dict[str, Callable[[Path, str], Generate]] = {
    "ours, decoded": lambda folder, dtype: ours(folder, dtype, "decoded"),
    "ours, decoded, unscanned": lambda folder, dtype: ours(folder, dtype, "decoded", scan_layers=False),
    "ours, packed": lambda folder, dtype: ours(folder, dtype, "mxfp4"),
    "transformers eager": lambda folder, dtype: transformers(folder, dtype, "eager"),
    "transformers grouped_mm": lambda folder, dtype: transformers(folder, dtype, "grouped_mm"),
}


@click.command
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Another checkpoint than the medium model.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(CONTESTANTS)), help="Leave the others out.")
@click.option("--new-tokens", type=click.IntRange(1), default=24, show_default=True, help="Decoded in each turn.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(checkpoint: Path | None, dtype: str, only: tuple[str, ...], new_tokens: int, rounds: int) -> None:
    """Compares prefill and decoding at batch 1."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint or write_medium(Path(scratch) / "medium")
        config = open_checkpoint(folder).config
        rng = np.random.default_rng(0)
        short, long = (rng.integers(0, config.vocab_size, length).tolist() for length in (SHORT_PROMPT, LONG_PROMPT))
        generators: dict[str, Generate] = {}
        for name in only or CONTESTANTS:
            try:
                start = time.perf_counter()
                generators[name] = CONTESTANTS[name](folder, dtype)
                loaded = time.perf_counter()
                for prompt, count in ((short, 1), (short, 1 + new_tokens), (long, 1)):
                    generators[name](prompt, count)
                print(f"{name}: loaded in {loaded - start:.1f} s, first turns {time.perf_counter() - loaded:.1f} s")
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        clocks = {name: Clock() for name in generators}
        bandwidths = []
        for _ in range(rounds):
            bandwidths.append(measure_bandwidth())
            for name, generate in generators.items():
                for what, prompt, count in (("short", short, 1), ("new", short, 1 + new_tokens), ("long", long, 1)):
                    clocks[name].measure(what, functools.partial(generate, prompt, count))
        print_table(config, dtype, clocks, new_tokens, max(bandwidths))


def write_medium(folder: Path) -> Path:
    save_checkpoint(random_checkpoint(tiny_config(**MEDIUM), seed=0), folder, format="hf")
    return folder


def measure_bandwidth() -> float:
    """Bytes a second that can be read by one thread or by as many as there are CPUs, whichever is more."""
    data = np.ones(PROBE_BYTES // 4, np.int32)
    best = 0.0
    for count in {1, os.cpu_count() or 1}:
        threads = [threading.Thread(target=part.max) for part in np.array_split(data, count)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = max(best, data.nbytes / (time.perf_counter() - start))
    return best


def bytes_of_token(config: GptOssConfig, dtype: str, *, is_packed: bool, position: int) -> float:
    """What decoding the token at a position must read."""
    itemsize = jnp.dtype(dtype).itemsize
    D, F, H = config.hidden_size, config.intermediate_size, config.head_dim
    q, kv = config.num_attention_heads * H, config.num_key_value_heads * H
    experts = config.experts_per_token * 3 * F * D * (PACKED_BITS / 8 if is_packed else itemsize)
    dense = (2 * q + 2 * kv + config.num_experts) * D * itemsize
    seen = sum(
        min(position, config.sliding_window) if config.is_sliding(layer) else position
        for layer in range(config.num_hidden_layers)
    )
    return config.num_hidden_layers * (experts + dense) + config.vocab_size * D * itemsize + 2 * seen * kv * itemsize


def print_table(config: GptOssConfig, dtype: str, clocks: dict[str, Clock], new_tokens: int, bandwidth: float) -> None:
    print(f"\n{dtype}, {jax.devices()[0].platform}, {os.cpu_count()} CPUs, memory read at {bandwidth / 1e9:.1f} GB/s")
    print(f"{'':<26}{'decode':>24}{'floor':>8}{'reached':>9}{'prefill 128':>24}{'prefill 1024':>24}")
    print(
        f"{'':<26}"
        + f"{'tok/s':>12}{'CPU ms/tok':>12}"
        + f"{'tok/s':>8}{'':>9}"
        + f"{'tok/s':>12}{'CPU ms/tok':>12}" * 2
    )
    for name, clock in clocks.items():
        wall = (clock.wall("new") - clock.wall("short")) / new_tokens
        cpu = (clock.cpu("new") - clock.cpu("short")) / new_tokens
        needed = bytes_of_token(config, dtype, is_packed="packed" in name, position=SHORT_PROMPT)
        floor = bandwidth / needed
        row = f"{name:<26}{1 / wall:>12.1f}{cpu * 1e3:>12.1f}{floor:>8.0f}{1 / wall / floor:>9.0%}"
        for what, length in (("short", SHORT_PROMPT), ("long", LONG_PROMPT)):
            row += f"{length / clock.wall(what):>12.0f}{clock.cpu(what) / length * 1e3:>12.2f}"
        print(row)


if __name__ == "__main__":
    main()
