"""Export, prefill and decoding beside onnxruntime-genai, on one synthetic checkpoint.

The medium model: hidden 1024, ffn 512, 8 layers, 32 experts of which 4 are chosen, vocabulary 32768,
64 query heads and 8 key/value heads of 64, window 128; 546 M parameters, 160 M active a token.

Each export, and each opening, has a process of its own, whose memory is told. Rates are measured with all
contestants open in one process, turn by turn, a few tokens each: what else the machine does hits all
alike. It is done twice, opened in either order, since who opens later is faster. CPU milliseconds a
token say more than wall time where others use the machine too. The error is the relative L2 of the
prompt's last logits from those of our portable export, which the tests hold against the official code.

Of onnxruntime-genai there run our folder as it is, and what its own builder makes. For that, run this in an
environment that has them: `pip install onnxruntime-genai transformers torch accelerate`. What is not
installed is named and left out; what the builder has made already (minutes) is taken with `--built`:

    python bench_onnx.py --built int8=medium-int8 --built int4=medium-int4 --threads 1
"""

import importlib.util
import json
import resource
import shutil
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
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
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
    "fast, float32": ["ours", "--profile", "fast", "--experts", "float32"],
    "fast, dense int8": ["ours", "--profile", "fast", "--dense", "int8"],
    "fast, dense int4": ["ours", "--profile", "fast", "--dense", "int4"],
    "builder fp32": ["builder", "fp32"],
    "builder int8": ["builder", "int8"],
    "builder int4": ["builder", "int4"],
}
CONTESTANTS: dict[str, tuple[str, str]] = {  # export, engine
    "portable": ("portable", "exact"),
    "fast, exact": ("fast", "exact"),
    "fast, turbo": ("fast", "turbo"),
    "fast, float32, exact": ("fast, float32", "exact"),
    "fast, dense int8, turbo": ("fast, dense int8", "turbo"),
    "fast, dense int4, turbo": ("fast, dense int4", "turbo"),
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


EXPECTED = "portable"  # whose logits the errors are relative to
TURN = 8  # tokens that a contestant decodes before the next one's turn


def engine(name: str) -> Callable[..., Run]:
    return genai if name == "genai" else ours


def prompt_of(folder: str, length: int) -> np.ndarray:
    document = json.loads((Path(folder) / "genai_config.json").read_text())
    return np.random.default_rng(0).integers(2, document["model"]["vocab_size"], length)


def open_alone(name: str, folder: str, threads: int, prompt_tokens: int) -> Report:
    """One contestant, in this process: how long it takes to open, and the memory for a prompt and a turn."""
    began = time.perf_counter()
    feed, decode = engine(name)(folder, name, threads, prompt_tokens + TURN + 1)
    opened = time.perf_counter() - began
    feed(prompt_of(folder, prompt_tokens))
    for _ in range(TURN):
        decode()
    return {"open": opened, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def race(contestants: list[tuple[str, str, str]], threads: int, prompt_tokens: int, rounds: int) -> dict[str, Report]:
    """All contestants (name, engine, folder) in this process, turn by turn; medians of wall and CPU seconds."""
    room = prompt_tokens + TURN * (rounds + 1) + 1
    runs = {name: engine(kind)(folder, kind, threads, room) for name, kind, folder in contestants}
    prompts = {name: prompt_of(folder, prompt_tokens) for name, _, folder in contestants}
    turns: dict[tuple[str, str], list[tuple[float, float]]] = {}
    logits: dict[str, np.ndarray] = {}

    def timed(name: str, what: str, act: Callable[[], None]) -> None:
        began, cpu = time.perf_counter(), time.process_time()
        act()
        turns.setdefault((name, what), []).append((time.perf_counter() - began, time.process_time() - cpu))

    for _ in range(3):
        for name, (feed, _) in runs.items():
            timed(name, "prefill", lambda feed=feed, name=name: logits.__setitem__(name, feed(prompts[name])))
    for _ in range(rounds + 1):
        for name, (_, decode) in runs.items():
            timed(name, "decode", lambda decode=decode: [decode() for _ in range(TURN)])
    expected = logits[EXPECTED]
    return {
        name: {
            what: [statistics.median(column) for column in zip(*turns[name, what][1:], strict=True)]
            for what in ("prefill", "decode")
        }
        | {"error": float(np.linalg.norm(logits[name] - expected) / np.linalg.norm(expected))}
        for name in runs
    }


def make_medium(place: Path) -> Path:
    """The medium checkpoint, with the tokenizer and the ids that genai's builder asks for."""
    folder = place / "medium"
    save_checkpoint(random_checkpoint(tiny_config(**MEDIUM), seed=0), folder, format="hf")
    shutil.copyfile(DEMO_CHECKPOINT_PATH / "tokenizer.json", folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    document = json.loads((folder / "config.json").read_text())
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 1)
    (folder / "config.json").write_text(json.dumps(document | ids))
    return folder


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
@click.option("--built", multiple=True, metavar="PRECISION=FOLDER", help="What genai's builder has made already.")
@click.option("--threads", multiple=True, type=int, default=[1, 2], show_default=True, help="Numbers of threads.")
@click.option("--prompt-tokens", type=int, default=128, show_default=True)
@click.option("--rounds", type=int, default=6, show_default=True, help=f"Turns of {TURN} tokens for each contestant.")
@click.option("--exports-only", is_flag=True, help="Measure the exports alone.")
def main(
    checkpoint: Path | None,
    only: tuple[str, ...],
    built: tuple[str, ...],
    threads: tuple[int, ...],
    prompt_tokens: int,
    rounds: int,
    exports_only: bool,
) -> None:
    """Compares exports, prefill and decoding at batch 1."""
    wanted = {"portable": CONTESTANTS["portable"]} | {name: CONTESTANTS[name] for name in only or CONTESTANTS}
    folders = {f"builder {precision}": Path(folder) for precision, _, folder in (one.partition("=") for one in built)}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        source = checkpoint or make_medium(place)
        open_checkpoint(source)
        for name in dict.fromkeys(of for of, _ in wanted.values()):
            if name in folders:
                continue
            report = export(EXPORTS[name], source, place / name)
            if report is not None:
                folders[name] = place / name
                written = sum(path.stat().st_size for path in folders[name].rglob("*") if path.is_file())
                print(
                    f"export {name:<20}{report['wall']:>8.1f} s{report['cpu']:>8.1f} CPU s"
                    f"{report['rss'] / MIB:>8.0f} MiB RSS{written / 1e6:>10.0f} MB written"
                )
        if exports_only:
            return
        has_genai = importlib.util.find_spec("onnxruntime_genai") is not None
        if not has_genai:
            print("genai is left out: onnxruntime-genai is not installed", file=sys.stderr)
        contestants = [
            (name, kind, str(folders[of]))
            for name, (of, kind) in wanted.items()
            if of in folders and (has_genai or kind != "genai")
        ]
        print(f"\n{'':<26}threads  open s  decode tok/s  CPU ms/tok  prefill tok/s  CPU ms/tok  RSS MiB    error")
        for count in threads:
            rates = race_both_ways(contestants, count, prompt_tokens, rounds)
            for name, kind, folder in contestants:
                alone = in_own_process("open_alone", kind, folder, count, prompt_tokens)
                (decode, decode_cpu), (prefill, prefill_cpu) = rates[name]["decode"], rates[name]["prefill"]
                print(
                    f"{name:<26}{count:>7}{alone['open']:>8.2f}{TURN / decode:>14.1f}{decode_cpu * 1e3 / TURN:>12.1f}"
                    f"{prompt_tokens / prefill:>15.0f}{prefill_cpu * 1e3 / prompt_tokens:>12.2f}"
                    f"{alone['rss'] / MIB:>9.0f}{rates[name]['error']:>9.1e}"
                )


def race_both_ways(contestants: list[tuple[str, str, str]], *settings: int) -> dict[str, Report]:
    """Means of two races: a process gives those that open first slower memory, by as much as a tenth."""
    there, back = (in_own_process("race", order, *settings) for order in (contestants, contestants[::-1]))
    return {
        name: one
        | {
            what: [(a + b) / 2 for a, b in zip(one[what], back[name][what], strict=True)]
            for what in ("prefill", "decode")
        }
        for name, one in there.items()
    }


def in_own_process(function: str, *arguments: Any) -> Any:
    command = [sys.executable, __file__, json.dumps([function, *arguments])]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        function, *arguments = json.loads(sys.argv[1])
        print(json.dumps({"race": race, "open_alone": open_alone}[function](*arguments)))
    else:
        main()
