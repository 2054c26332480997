"""A training step of ours against MaxText's, and against transformers with torch's AdamW.

Every contender trains the same geometry on rows of the same shape, in f32 and with AdamW. Ours (one process a
strategy of experts) and MaxText are their own commands on synthetic data, nothing saved; transformers, which has no
command, is a loop of its model and optimizer. They take turns, step by step, so that a busy machine is as busy for
all: who is not at work is stopped. CPU seconds, and wall seconds, are those from one step's line to the next, the
peak of memory that of the whole process, and "first" what passes from the command to the end of its first step,
imports and compiling included, without what compilers have kept of earlier runs.

With --scaling it prints instead how a step of ours, and compiling it, grow with tokens and with layers.
"""

import itertools
import json
import os
import re
import signal
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

SIZES = {
    "num_hidden_layers": 4,
    "num_experts": 8,
    "experts_per_token": 2,
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 256,
    "head_dim": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "sliding_window": 128,
}
ROWS, LENGTH, SEED, RATE = 4, 256, 0, 1e-4
LEAD = 2  # steps before those that are measured: one that compiles, and one that is the first of its kind
POLL_S = 0.005
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
COLD = {"JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_PLATFORMS": "cpu"}
MAXTEXT_FLAGS = [
    "model_name=gpt-oss-20b",
    "override_model_config=True",
    "dtype=float32",
    "weight_dtype=float32",
    "attention=dot_product",
    "sparse_matmul=False",  # the dense strategy, its fastest on CPUs
    "megablox=False",
    "remat_policy=minimal",
    "dataset_type=synthetic",
    "enable_checkpointing=False",
    "hardware=cpu",
    "skip_jax_distributed_system=True",
    "log_config=False",
]
MAXTEXT_SIZES = {
    "base_num_decoder_layers": "num_hidden_layers",
    "num_experts": "num_experts",
    "num_experts_per_tok": "experts_per_token",
    "vocab_size": "vocab_size",
    "base_emb_dim": "hidden_size",
    "base_mlp_dim": "intermediate_size",
    "base_moe_mlp_dim": "intermediate_size",
    "head_dim": "head_dim",
    "base_num_query_heads": "num_attention_heads",
    "base_num_kv_heads": "num_key_value_heads",
    "sliding_window_size": "sliding_window",
}


class Contender:
    """A process that makes one step when it is asked, and stands still otherwise.

    Args:
        name: What it is called.
        command: What starts it.
        marks: Pattern of what it writes after each step.
        output: Where its standard output goes.
        log: The file that it writes its marks to; None is its standard output.
    """

    def __init__(self, name: str, command: list[str], marks: str, output: Path, log: Path | None = None) -> None:
        self.name, self.steps = name, list[dict[str, float]]()
        self._marks, self._output, self._log = re.compile(marks), output, log or output
        self._made, self._wall, self._cpu = 0, time.perf_counter(), 0.0
        with output.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | COLD)
        self.first = self._wait()

    def step(self) -> None:
        """One more."""
        self._wall = time.perf_counter()
        self._process.send_signal(signal.SIGCONT)
        self.steps.append(self._wait())

    def close(self) -> None:
        """No more."""
        self._process.kill()
        self._process.wait()

    def result(self) -> dict[str, Any]:
        """Medians."""
        measured = self.steps[LEAD - 1 :]
        return {
            "contender": self.name,
            "cpu_s": statistics.median(step["cpu"] for step in measured),
            "wall_s": statistics.median(step["wall"] for step in measured),
            "peak_bytes": int(measured[-1]["peak"]),
            "first_cpu_s": self.first["cpu"],
            "first_wall_s": self.first["wall"],
        }

    def _wait(self) -> dict[str, float]:
        """Until there is another mark; then the process is stopped."""
        while self._count() <= self._made:
            if self._process.poll() is not None:
                tail = self._output.read_text(errors="replace")[-2000:]
                raise click.ClickException(f"{self.name} ended with code {self._process.returncode}:\n{tail}")
            time.sleep(POLL_S)
        self._process.send_signal(signal.SIGSTOP)
        self._made += 1
        wall, cpu = time.perf_counter() - self._wall, cpu_seconds(self._process.pid)
        took = {"wall": wall, "cpu": cpu - self._cpu, "peak": float(peak_bytes(self._process.pid))}
        self._cpu = cpu
        return took

    def _count(self) -> int:
        return len(self._marks.findall(self._log.read_text(errors="replace"))) if self._log.exists() else 0


def ours(moe: str, remat: str, steps: int, folder: Path) -> Contender:
    """`gptoss-train pretrain` on walks that fill the rows."""
    name = f"ours-{moe}"
    config: dict[str, Any] = {
        "model": "gpt-oss-20b",
        "geometry": SIZES,
        "output": str(folder),
        "run_name": name,
        "steps": steps,
        "batch_size": ROWS,
        "sequence_length": LENGTH,
        "data": {"source": "synthetic", "synthetic": {"shortest": LENGTH, "longest": LENGTH}},
        "run": {"moe": moe, "remat": remat},
        "optimizer": {"learning_rate": RATE, "schedule": "constant", "clip_norm": 1.0},
        "checkpoint": {"mode": "off"},
    }
    place = folder / f"{name}.yaml"
    place.write_text(json.dumps(config))  # JSON is YAML
    command = [str(Path(sys.executable).with_name("gptoss-train")), "pretrain", str(place)]
    return Contender(f"ours {moe}", command, r'"step": \d+', folder / f"{name}.log", folder / name / "metrics.jsonl")


def maxtext(python: str, steps: int, folder: Path) -> Contender:
    """MaxText's own command; its log's lines are the clock."""
    find = "import importlib.util as u; print(u.find_spec('maxtext').submodule_search_locations[0])"
    package = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    command = [python, "-m", "maxtext.trainers.pre_train.train", f"{package}/configs/base.yml", *MAXTEXT_FLAGS]
    command += [f"{theirs}={SIZES[own]}" for theirs, own in MAXTEXT_SIZES.items()]
    command += [f"per_device_batch_size={ROWS}", f"max_target_length={LENGTH}", f"learning_rate={RATE}"]
    command += [f"steps={steps}", f"base_output_directory={folder / 'maxtext'}", "run_name=bench"]
    return Contender("maxtext", command, r"completed step: \d+", folder / "maxtext.log")


def transformers(steps: int, folder: Path) -> Contender:
    """This file, as the loop below."""
    command = [sys.executable, __file__, "--loop", str(steps)]
    return Contender("transformers", command, r"loss \S+", folder / "transformers.log")


def train_transformers(steps: int) -> None:
    """Steps of transformers' model with torch's AdamW, a line each."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(SEED)
    names = {"num_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok"}
    sizes: dict[str, Any] = {names.get(name, name): size for name, size in SIZES.items()}
    model = GptOssForCausalLM(GptOssConfig(**sizes, attn_implementation="eager")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    drawn = np.random.default_rng(SEED).integers(0, SIZES["vocab_size"], (ROWS, LENGTH + 1))
    tokens, targets = torch.from_numpy(drawn[:, :-1]), torch.from_numpy(drawn[:, 1:])
    for _ in range(steps):
        optimizer.zero_grad()
        logits = model(tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"loss {float(loss.detach())}", flush=True)


def peak_bytes(process: int) -> int:
    """The most memory that a process has held."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def cpu_seconds(process: int) -> float:
    """What a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def scaling(remat: str, steps: int) -> list[dict[str, Any]]:
    """CPU seconds of a step, and of compiling it, for several lengths, rows and depths; the steps take turns."""
    cases = [(4, 4, 256), (8, 4, 256), (16, 4, 256), (4, 8, 256), (4, 16, 256), (4, 4, 512), (4, 4, 1024)]
    runs = [(case, *_compiled(*case, remat)) for case in cases]
    for _, _, step, took in runs:
        step()  # the first of its kind
        took.clear()
    for _, (_, _, step, _) in itertools.product(range(steps), runs):
        step()
    return [
        {
            "layers": layers,
            "rows": rows,
            "length": length,
            "tokens": rows * length,
            "compile_cpu_s": compiling,
            "cpu_s": statistics.median(took),
            "cpu_us_per_token_layer": statistics.median(took) / (rows * length * layers) * 1e6,
        }
        for (layers, rows, length), compiling, _, took in runs
    ]


def _compiled(layers: int, rows: int, length: int, remat: str) -> tuple[float, Callable[[], None], list[float]]:
    import jax
    from gptoss_train.batch import Batch
    from gptoss_train.config import GeometryConfig, ModelConfig, TrainConfig
    from gptoss_train.placing import place_batch
    from gptoss_train.setup import set_up

    config = TrainConfig(
        model="gpt-oss-20b",
        geometry=GeometryConfig(**(SIZES | {"num_hidden_layers": layers})),
        batch_size=rows,
        sequence_length=length,
        run=ModelConfig(remat=remat),  # type: ignore[arg-type]
    )
    run = set_up(config, "pretrain")
    drawn = np.random.default_rng(SEED).integers(0, SIZES["vocab_size"], (rows, length + 1)).astype(np.int32)
    ones = np.ones((rows, length), np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ones.shape)
    batch = place_batch(Batch(drawn[:, :-1], drawn[:, 1:], ones.astype(np.float32), ones, positions), run)
    lowered = run.step.trace(run.state, run.frozen, batch).lower()  # type: ignore[attr-defined]
    started = time.process_time()
    compiled = lowered.compile()
    compiling, took, state = time.process_time() - started, list[float](), run.state

    def step() -> None:
        nonlocal state
        begun = time.process_time()
        state, report = compiled(state, run.frozen, batch)
        jax.block_until_ready(report)
        took.append(time.process_time() - begun)

    return compiling, step, took


def show(found: list[dict[str, Any]]) -> None:
    """As a table."""
    click.echo(f"{'':14} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9} {'first: CPU s':>13} {'wall s':>8}")
    for row in found:
        click.echo(
            f"{row['contender']:14} {row['cpu_s']:8.3f} {row['wall_s']:8.3f} {row['peak_bytes'] / 2**20:9.0f} "
            f"{row['first_cpu_s']:13.1f} {row['first_wall_s']:8.1f}"
        )
    for first, other in itertools.product(found, found):
        if first["contender"].startswith("ours") and not other["contender"].startswith("ours"):
            keys = {"step": "cpu_s", "memory": "peak_bytes", "to the first step": "first_cpu_s"}
            ratios = ", ".join(f"{word} {first[key] / other[key]:.2f}" for word, key in keys.items())
            click.echo(f"{first['contender']} / {other['contender']}: {ratios}")


def show_scaling(found: list[dict[str, Any]]) -> None:
    """As a table."""
    click.echo(f"{'layers':>6} {'rows':>5} {'length':>7} {'compile CPU s':>14} {'CPU s':>8} {'µs / token·layer':>17}")
    for row in found:
        click.echo(
            f"{row['layers']:6} {row['rows']:5} {row['length']:7} {row['compile_cpu_s']:14.1f} {row['cpu_s']:8.3f} "
            f"{row['cpu_us_per_token_layer']:17.1f}"
        )


@click.command
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="That are measured.")
@click.option("--moe", multiple=True, default=("auto",), show_default=True, help="Strategies of ours.")
@click.option("--remat", default="none", show_default=True, help="What ours keeps for the backward pass.")
@click.option("--maxtext", "maxtext_python", metavar="PYTHON", help="A Python that has MaxText.")
@click.option("--transformers/--no-transformers", "has_transformers", default=True, show_default=True)
@click.option("--scaling", "is_scaling", is_flag=True, help="How ours grows with tokens and layers.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of a table.")
@click.option("--loop", type=int, hidden=True)
def main(
    steps: int,
    moe: tuple[str, ...],
    remat: str,
    maxtext_python: str | None,
    has_transformers: bool,
    is_scaling: bool,
    as_json: bool,
    loop: int | None,
) -> None:
    """Compares steps, memory, and the way to the first step."""
    if loop is not None:
        train_transformers(loop)
        return
    if is_scaling:
        found = scaling(remat, steps)
        click.echo(json.dumps(found, indent=1)) if as_json else show_scaling(found)
        return
    made = steps + LEAD + 1  # one more than is waited for: a command that is done ends
    with tempfile.TemporaryDirectory() as folder:
        contenders = list[Contender]()
        try:
            contenders += [ours(one, remat, made, Path(folder)) for one in moe]
            contenders += [transformers(made, Path(folder))] if has_transformers else []
            contenders += [] if maxtext_python is None else [maxtext(maxtext_python, made, Path(folder))]
            for _, one in itertools.product(range(steps + LEAD - 1), contenders):
                one.step()
        finally:
            for one in contenders:
                one.close()
        found = [one.result() for one in contenders]
    click.echo(json.dumps(found, indent=1)) if as_json else show(found)


if __name__ == "__main__":
    main()
