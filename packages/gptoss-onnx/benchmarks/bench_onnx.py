"""Export, prefill and decoding beside onnxruntime-genai, on one synthetic checkpoint, each in a process of its own.

The medium model: hidden 1024, ffn 512, 8 layers, 32 experts of which 4 are chosen, vocabulary 32768,
64 query heads and 8 key/value heads of 64, window 128; 546 M parameters, 160 M active a token. Rates
are tokens a second of wall time; on a machine that others use too, CPU milliseconds a token say
more. The error is the relative L2 of the prompt's last logits from those of our portable export, which
the tests hold against the official code. Of onnxruntime-genai there run our folder as it is, and what its own
builder makes (for which PyTorch and transformers must be installed); what is not installed is
named and left out.
"""

import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from gptoss_onnx import OnnxModel
from gptoss_weights import open_checkpoint, random_checkpoint, save_checkpoint
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
MIB = 1 << 20
BUILDER = "onnxruntime_genai.models.builder"

type Run = tuple[Callable[[np.ndarray], np.ndarray], Callable[[], object]]  # feed a prompt; decode one token
type Report = dict[str, Any]

# Name → how it is exported (arguments of our command, or the builder's precision), and how it is run.
EXPORTS: dict[str, list[str]] = {
    "portable": ["ours"],
    "fast": ["ours", "--profile", "fast"],
    "fast, dense int8": ["ours", "--profile", "fast", "--dense", "int8"],
    "builder fp32": ["builder", "fp32"],
    "builder int8": ["builder", "int8"],
    "builder int4": ["builder", "int4"],
}
CONTESTANTS: dict[str, tuple[str, str]] = {  # export, engine
    "portable": ("portable", "exact"),
    "fast, exact": ("fast", "exact"),
    "fast, turbo": ("fast", "turbo"),
    "fast, dense int8, turbo": ("fast, dense int8", "turbo"),
    "genai, our fast folder": ("fast", "genai"),
    "genai, builder fp32": ("builder fp32", "genai"),
    "genai, builder int8": ("builder int8", "genai"),
    "genai, builder int4": ("builder int4", "genai"),
}


def ours(folder: str, mode: Any, threads: int, room: int) -> Run:
    model = OnnxModel.open(folder, threads=threads, mode=mode)
    state: dict[str, Any] = {}

    def feed(prompt: np.ndarray) -> np.ndarray:
        logits, state["cache"] = model.prefill(model.init_cache(1, room), prompt[None])
        state["token"] = logits.argmax(-1)
        return logits[0]

    def decode() -> None:
        logits, state["cache"] = model.decode_step(state["cache"], state["token"])
        state["token"] = logits.argmax(-1)

    return feed, decode


def genai(folder: str, _: str, threads: int, room: int) -> Run:
    library = importlib.import_module("onnxruntime_genai")
    config = library.Config(folder)
    options = {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}
    config.overlay(json.dumps(options))
    model = library.Model(config)
    state: dict[str, Any] = {}

    def feed(prompt: np.ndarray) -> np.ndarray:
        parameters = library.GeneratorParams(model)
        parameters.set_search_options(max_length=room, min_length=room, do_sample=False)
        state["generator"] = library.Generator(model, parameters)
        state["generator"].append_tokens(prompt.astype(np.int32))
        logits = np.asarray(state["generator"].get_logits())
        return logits.reshape(-1, logits.shape[-1])[-1].astype(np.float32)

    return feed, lambda: state["generator"].generate_next_token()


def measure(engine: str, folder: str, threads: int, prompt_tokens: int, new_tokens: int, rounds: int) -> Report:
    """One contestant, in this process; the logits go to a file."""
    began = time.perf_counter()
    feed, decode = (genai if engine == "genai" else ours)(folder, engine, threads, prompt_tokens + new_tokens + 1)
    opened = time.perf_counter() - began
    vocabulary = json.loads((Path(folder) / "config.json").read_text())["vocab_size"] if engine != "genai" else None
    vocabulary = vocabulary or json.loads((Path(folder) / "genai_config.json").read_text())["model"]["vocab_size"]
    prompt = np.random.default_rng(0).integers(2, vocabulary, prompt_tokens)
    turns: dict[str, list[tuple[float, float]]] = {"prefill": [], "decode": []}
    for _ in range(rounds + 1):
        began, cpu = time.perf_counter(), time.process_time()
        logits = feed(prompt)
        turns["prefill"].append((time.perf_counter() - began, time.process_time() - cpu))
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(new_tokens):
            decode()
        turns["decode"].append(((time.perf_counter() - began) / new_tokens, (time.process_time() - cpu) / new_tokens))
    np.save(Path(folder) / f"logits-{engine}.npy", logits)
    medians = {
        what: [statistics.median(column) for column in zip(*all_[1:], strict=True)] for what, all_ in turns.items()
    }
    return {"open": opened, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, **medians}


def export(how: list[str], checkpoint: Path, folder: Path) -> Report | None:
    """One export in a process of its own; None where it is not installed or fails, which is then said."""
    kind, *options = how
    if kind == "ours":
        command = ["-c", "from gptoss_onnx.cli import main; main()", "export", str(checkpoint), str(folder), *options]
    elif any(importlib.util.find_spec(name) is None for name in ("onnxruntime_genai", "torch", "transformers")):
        print(f"{folder.name} is left out: onnxruntime-genai's builder needs PyTorch and transformers", file=sys.stderr)
        return None
    else:
        command = ["-m", BUILDER, "-i", str(checkpoint), "-o", str(folder), "-p", *options, "-e", "cpu", "-c", "cache"]
    script = (
        "import json, resource, subprocess, sys, time; began = time.perf_counter(); "
        "done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(json.dumps([done.returncode, "
        "time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], stdout=subprocess.PIPE, text=True, check=True)
    code, wall, cpu, rss = json.loads(done.stdout)
    if code:
        print(f"{folder.name} is left out: its export ended with code {code}", file=sys.stderr)
        return None
    return {"wall": wall, "cpu": cpu, "rss": rss}


@click.command
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Another checkpoint than the medium model.")
@click.option("--only", multiple=True, type=click.Choice(list(CONTESTANTS)), help="Leave the others out.")
@click.option("--threads", multiple=True, type=int, default=[1, 2], show_default=True, help="Numbers of threads.")
@click.option("--prompt-tokens", type=int, default=128, show_default=True)
@click.option("--new-tokens", type=int, default=24, show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
def main(
    checkpoint: Path | None,
    only: tuple[str, ...],
    threads: tuple[int, ...],
    prompt_tokens: int,
    new_tokens: int,
    rounds: int,
) -> None:
    """Compares exports, prefill and decoding at batch 1."""
    wanted = {name: CONTESTANTS[name] for name in only or CONTESTANTS}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        source = checkpoint or place / "medium"
        if checkpoint is None:
            save_checkpoint(random_checkpoint(tiny_config(**MEDIUM), seed=0), source, format="hf")
        open_checkpoint(source)
        made: dict[str, Report] = {}
        for name in dict.fromkeys(["portable", *(of for of, _ in wanted.values())]):
            report = export(EXPORTS[name], source, place / name)
            if report is not None:
                made[name] = report
                written = sum(path.stat().st_size for path in (place / name).rglob("*") if path.is_file())
                print(
                    f"export {name:<20}{report['wall']:>8.1f} s{report['cpu']:>8.1f} CPU s"
                    f"{report['rss'] / MIB:>8.0f} MiB RSS{written / 1e6:>10.0f} MB written"
                )
        print(f"\n{'':<26}threads  open s  decode tok/s  CPU ms/tok  prefill tok/s  RSS MiB    error")
        for count in threads:
            run_all(wanted, made, place, count, (prompt_tokens, new_tokens, rounds))


def run_all(
    wanted: dict[str, tuple[str, str]], made: dict[str, Report], place: Path, threads: int, sizes: tuple[int, int, int]
) -> None:
    """All contestants with so many threads, one after the other; the portable export first, for the error."""
    reference = None
    for name, (of, engine) in {"portable": CONTESTANTS["portable"], **wanted}.items():
        if of not in made:
            continue
        if engine == "genai" and importlib.util.find_spec("onnxruntime_genai") is None:
            print(f"{name} is left out: onnxruntime-genai is not installed", file=sys.stderr)
            continue
        arguments = json.dumps([engine, str(place / of), threads, *sizes])
        done = subprocess.run([sys.executable, __file__, arguments], stdout=subprocess.PIPE, text=True, check=True)
        report = json.loads(done.stdout)
        logits = np.load(place / of / f"logits-{engine}.npy")
        reference = logits if reference is None else reference
        error = np.linalg.norm(logits - reference) / np.linalg.norm(reference)
        (decode, decode_cpu), (prefill, _) = report["decode"], report["prefill"]
        print(
            f"{name:<26}{threads:>7}{report['open']:>8.2f}{1 / decode:>14.1f}{decode_cpu * 1e3:>12.1f}"
            f"{sizes[0] / prefill:>15.0f}{report['rss'] / MIB:>9.0f}{error:>9.1e}"
        )


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main()
