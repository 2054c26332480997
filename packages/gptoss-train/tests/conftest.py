"""What the tests of training share: one tiny checkpoint, its runs, and batches with packed rows.

Compiling is nearly all that they cost, so they share two shapes of batches and few configs.
"""

import jax

jax.config.update("jax_num_cpu_devices", 8)  # for the tests of meshes; before JAX looks at its devices

import dataclasses  # noqa: E402
import gc  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from gptoss_train.batch import Batch  # noqa: E402
from gptoss_train.config import CheckpointConfig, LossConfig, OptimizerConfig, TrainConfig  # noqa: E402
from gptoss_train.setup import Run, set_up  # noqa: E402
from gptoss_weights.testing import write_tiny_checkpoint  # noqa: E402

ROWS, LENGTH, VOCABULARY = 4, 24, 212


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """What a command has frozen is frozen for its process; here Hypothesis would not find who refers to its numbers."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory) -> Path:
    """Two layers, window 11, all dimensions distinct, and divisible by 2 along every axis of a mesh."""
    return write_tiny_checkpoint(
        tmp_path_factory.mktemp("checkpoint") / "tiny",
        format="hf",
        seed=3,
        num_hidden_layers=2,
        num_experts=6,
        experts_per_token=3,
        vocab_size=VOCABULARY,
        intermediate_size=128,
        num_attention_heads=8,
        num_key_value_heads=4,
    )


@pytest.fixture(scope="session")
def make_config(checkpoint_folder, tmp_path_factory) -> Callable[..., TrainConfig]:
    """A config over the checkpoint; each has a folder of its own."""

    def make(**changes: Any) -> TrainConfig:
        defaults: dict[str, Any] = {
            "model": str(checkpoint_folder),
            "output": str(tmp_path_factory.mktemp("runs")),
            "steps": 6,
            "batch_size": ROWS,
            "sequence_length": LENGTH,
            "loss": LossConfig(vocabulary_chunk=50, load_balance_weight=0.02, z_weight=0.003),
            "optimizer": OptimizerConfig(learning_rate=3e-3, weight_decay=0.1, warmup_steps=2, eps=1e-5),
            "checkpoint": CheckpointConfig(mode="sync", every=2),
        }
        return TrainConfig(**(defaults | changes))

    return make


@pytest.fixture(scope="session")
def full_run(make_config) -> Run:
    """Every parameter is trained. Its state must be copied: a step takes its memory."""
    return set_up(make_config(), "finetune")


@pytest.fixture(scope="session")
def lora_run(make_config) -> Run:
    """LoRA everywhere, routers and sinks too."""
    lora = dataclasses.replace(make_config().lora, rank=3, alpha=6.0, router=True, sinks=True)
    return set_up(make_config(lora=lora), "lora")


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Rows [B, T]: two documents and padding, one document, and so on; the same for the same seed."""

    def make(seed: int = 0, rows: int = ROWS) -> Batch:
        rng = np.random.default_rng(seed)
        batch = Batch(*(np.zeros((rows, LENGTH), kind) for kind in ("i4", "i4", "f4", "i4", "i4")))
        for row in range(rows):
            lengths = ([13, 7], [LENGTH], [5, 11, 8], [15])[row % 4]
            start = 0
            for segment, length in enumerate(lengths, 1):
                document = rng.integers(0, VOCABULARY, length + 1)
                here = row, slice(start, start + length)
                batch.tokens[here], batch.targets[here] = document[:-1], document[1:]
                batch.weights[here] = rng.random(length) > 0.3
                batch.segments[here], batch.positions[here] = segment, np.arange(length)
                start += length
        return batch

    return make


class CountedBatches:
    """Batches by number, with grain's protocol: what a dataset's iterator is to the loop."""

    def __init__(self, make: Callable[..., Batch], *, most: int | None = None) -> None:
        self._make, self._most, self.position, self.start = make, most, 0, 0

    def __next__(self) -> Batch:
        if self.position == self._most:
            raise StopIteration
        self.position += 1
        return self._make(self.position)

    def get_state(self) -> dict[str, Any]:
        return {"position": self.position}

    def get_state_after(self, batches: int) -> dict[str, Any]:
        return {"position": self.start + batches}

    def set_state(self, state: dict[str, Any]) -> None:
        self.position = self.start = state["position"]


@pytest.fixture(scope="session")
def make_batches(make_batch) -> Callable[..., CountedBatches]:
    return lambda make=make_batch, **options: CountedBatches(make, **options)


@pytest.fixture(scope="session")
def relative_error():
    """Relative L2 distance, in f64."""

    def measure(actual: Any, expected: Any) -> float:
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert actual.shape == expected.shape
        return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))

    return measure
