"""A training step of ours against transformers with torch's AdamW, and against MaxText where there is one.

Every contender trains the same geometry on rows of the same shape, in f32 and with AdamW, in a process of
its own: CPU seconds, and wall seconds, are those of one step, the peak of memory that of the whole process, and
"first" what passes from its command to the end of its first step, compiling included. Ours (one process a
strategy of experts) and transformers take turns, step by step, so that a busy machine is as busy for all;
MaxText cannot be asked for a step, and runs after them, its log being its clock.
"""

import itertools
import json
import os
import re
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
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
MAXTEXT_STEP = re.compile(r"completed step: (\d+)")
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
]


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets [B, T]."""
    drawn = np.random.default_rng(SEED).integers(0, SIZES["vocab_size"], (ROWS, LENGTH + 1))
    return drawn[:, :-1], drawn[:, 1:]


def our_step(moe: str, remat: str) -> Callable[[], float]:
    """One step of gptoss-train; gives the loss."""
    from gptoss_train.batch import Batch
    from gptoss_train.config import GeometryConfig, ModelConfig, OptimizerConfig, TrainConfig
    from gptoss_train.placing import place_batch
    from gptoss_train.setup import set_up

    run = set_up(
        TrainConfig(
            model="gpt-oss-20b",
            geometry=GeometryConfig(**SIZES),
            batch_size=ROWS,
            sequence_length=LENGTH,
            run=ModelConfig(moe=moe, remat=remat),  # type: ignore[arg-type]
            optimizer=OptimizerConfig(learning_rate=RATE, schedule="constant", clip_norm=1.0),
        ),
        "pretrain",
    )
    tokens, targets = rows()
    positions = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape)
    kinds = np.int32, np.int32, np.float32, np.int32, np.int32
    arrays = tokens, targets, np.ones_like(tokens), np.ones_like(tokens), positions
    batch = Batch(*(array.astype(kind) for array, kind in zip(arrays, kinds, strict=True)))
    state = run.state

    def step() -> float:
        nonlocal state
        state, report = run.step(state, run.frozen, place_batch(batch, run))
        return float(report.loss)

    return step


def transformers_step() -> Callable[[], float]:
    """One step of transformers' model with torch's AdamW."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(SEED)
    names = {"num_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok"}
    sizes: dict[str, Any] = {names.get(name, name): size for name, size in SIZES.items()}
    model = GptOssForCausalLM(GptOssConfig(**sizes, attn_implementation="eager")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    tokens, targets = map(torch.from_numpy, rows())

    def step() -> float:
        optimizer.zero_grad()
        logits = model(tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def serve(name: str, remat: str) -> None:
    """Makes a step for each line that is read, and prints what it took."""
    step = transformers_step() if name == "transformers" else our_step(name.removeprefix("ours "), remat)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(took | {"loss": loss, "all_cpu": time.process_time(), "peak": peak_bytes()}), flush=True)


def peak_bytes(process: int | str = "self") -> int:
    """The most memory that a process has held."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def cpu_seconds(process: int) -> float:
    """What a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


class Contender:
    """A process that makes a step when it is asked."""

    def __init__(self, name: str, remat: str) -> None:
        self.name, self.steps = name, list[dict[str, float]]()
        started = time.perf_counter()
        environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        command = [sys.executable, __file__, "--contender", name, "--remat", remat]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        first = self._ask()
        self.first_wall, self.first_cpu = time.perf_counter() - started, first["all_cpu"]

    def step(self) -> None:
        """One more."""
        self.steps.append(self._ask())

    def close(self) -> None:
        """No more."""
        self._process.communicate()

    def _ask(self) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.name} ended with code {self._process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer


def run_maxtext(python: str, steps: int) -> dict[str, Any]:
    """MaxText's own command with the same sizes; its log lines are the clock."""
    sizes = {
        "base_num_decoder_layers": SIZES["num_hidden_layers"],
        "num_experts": SIZES["num_experts"],
        "num_experts_per_tok": SIZES["experts_per_token"],
        "vocab_size": SIZES["vocab_size"],
        "base_emb_dim": SIZES["hidden_size"],
        "base_mlp_dim": SIZES["intermediate_size"],
        "base_moe_mlp_dim": SIZES["intermediate_size"],
        "head_dim": SIZES["head_dim"],
        "base_num_query_heads": SIZES["num_attention_heads"],
        "base_num_kv_heads": SIZES["num_key_value_heads"],
        "sliding_window_size": SIZES["sliding_window"],
        "per_device_batch_size": ROWS,
        "max_target_length": LENGTH,
        "steps": steps + 2,
        "learning_rate": RATE,
    }
    find = "import importlib.util as u; print(u.find_spec('maxtext').submodule_search_locations[0])"
    package = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "maxtext.trainers.pre_train.train", f"{package}/configs/base.yml", *MAXTEXT_FLAGS]
        command += [f"{name}={size}" for name, size in sizes.items()]
        command += [f"base_output_directory={folder}", "run_name=bench"]
        started, marks = time.perf_counter(), list[tuple[float, float]]()
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        peak, tail = 0, list[str]()
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-20:], line]
            if MAXTEXT_STEP.search(line):
                marks.append((time.perf_counter() - started, cpu_seconds(process.pid)))
                peak = max(peak, peak_bytes(process.pid))
        if process.wait() or len(marks) < 3:  # one that compiles, and two that differ
            raise click.ClickException("MaxText failed:\n" + "".join(tail))
    later = list(itertools.pairwise(marks[1:]))
    return {
        "contender": "maxtext",
        "cpu_s": statistics.median(b[1] - a[1] for a, b in later),
        "wall_s": statistics.median(b[0] - a[0] for a, b in later),
        "peak_bytes": peak,
        "first_wall_s": marks[0][0],
        "first_cpu_s": marks[0][1],
    }


@click.command
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="That are measured.")
@click.option(
    "--moe", multiple=True, default=("auto", "ragged", "dense"), show_default=True, help="Strategies of ours."
)
@click.option("--remat", default="none", show_default=True, help="What ours keeps for the backward pass.")
@click.option("--maxtext", metavar="PYTHON", help="A Python that has MaxText.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of a table.")
@click.option("--contender", hidden=True)
def main(
    steps: int, moe: tuple[str, ...], remat: str, maxtext: str | None, as_json: bool, contender: str | None
) -> None:
    """Compares steps, memory, and the way to the first step."""
    if contender is not None:
        serve(contender, remat)
        return
    contenders = [Contender(name, remat) for name in (*(f"ours {one}" for one in moe), "transformers")]
    for _ in range(steps):
        for one in contenders:
            one.step()
    for one in contenders:
        one.close()
    found = [
        {
            "contender": one.name,
            "cpu_s": statistics.median(step["cpu"] for step in one.steps),
            "wall_s": statistics.median(step["wall"] for step in one.steps),
            "peak_bytes": int(one.steps[-1]["peak"]),
            "first_wall_s": one.first_wall,
            "first_cpu_s": one.first_cpu,
        }
        for one in contenders
    ]
    if maxtext is not None:
        found.append(run_maxtext(maxtext, steps))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"{'':14} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9} {'first: CPU s':>13} {'wall s':>8}")
    for row in found:
        click.echo(
            f"{row['contender']:14} {row['cpu_s']:8.3f} {row['wall_s']:8.3f} {row['peak_bytes'] / 2**20:9.0f} "
            f"{row['first_cpu_s']:13.1f} {row['first_wall_s']:8.1f}"
        )


if __name__ == "__main__":
    main()
