"""Live: steps of gptoss-train against PyTorch: the official code, its autograd, and torch's AdamW, in float32.

The optimizer's eps is 1e-5: with 1e-8 a first step has the size of the learning rate whatever the gradient,
and compares signs of noise.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gptoss_weights import Checkpoint, open_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.oracle

LOSS_LIMIT = 1e-6  # relative
UPDATE_LIMIT = 1e-5  # relative L2 of each updated tensor
LENGTHS = (40, 33)  # tokens of each document, over two windows
RATE, DECAY, EPS, BETAS, CLIP = 1e-2, 0.1, 1e-5, (0.9, 0.95), 1.0
STEPS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", format="hf", seed=6)


@pytest.fixture(scope="module")
def checkpoint(folder) -> Checkpoint:
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def documents(checkpoint) -> list[np.ndarray]:
    """Each with one token more than is read."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, checkpoint.config.vocab_size, length + 1) for length in LENGTHS]


@pytest.fixture(scope="module")
def official(checkpoint, documents) -> tuple[list[float], Mapping[str, np.ndarray]]:
    """Losses of the steps, and the parameters after them by canonical name."""
    import torch
    from gptoss_parity.sources.openai_torch import load_official_model, official_parameter_names

    model = load_official_model(checkpoint, dtype="float32")
    named = dict(model.named_parameters())
    undecayed = [p for name, p in named.items() if name.endswith(("scale", "bias", "sinks"))]
    decayed = [p for name, p in named.items() if not name.endswith(("scale", "bias", "sinks"))]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": undecayed, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = 0
        for document in documents:
            tokens = torch.from_numpy(document)
            loss = loss + torch.nn.functional.cross_entropy(model(tokens[:-1]), tokens[1:], reduction="sum")
        loss = loss / sum(LENGTHS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    parameters = {}
    for name, parameter in named.items():
        names = official_parameter_names(name)
        rows = np.cumsum([checkpoint.specs[one].shape[0] for one in names])[:-1]
        parameters |= dict(zip(names, np.split(parameter.detach().numpy(), rows), strict=True))
    assert set(parameters) == set(checkpoint.specs)
    return losses, parameters


def packed(documents, *, rows: int):
    """The documents one behind the other in one row, or one a row; [1, rows, T]."""
    from gptoss_train.batch import Batch

    length = sum(LENGTHS) + 5 if rows == 1 else max(LENGTHS) + 3  # and padding
    batch = Batch(*(np.zeros((1, rows, length), kind) for kind in ("i4", "i4", "f4", "i4", "i4")))
    start = 0
    for number, document in enumerate(documents):
        row, start = (0, start) if rows == 1 else (number, 0)
        here = (0, row, slice(start, start + len(document) - 1))
        batch.tokens[here], batch.targets[here] = document[:-1], document[1:]
        batch.weights[here], batch.segments[here] = 1, number + 1
        batch.positions[here] = np.arange(len(document) - 1)
        start += len(document) - 1
    return batch


@pytest.mark.parametrize(
    ("rows", "options"),
    [(2, {}), (1, {"remat": "full"}), (1, {"moe": "dense", "attention": "blockwise", "scan_layers": False})],
    ids=["one-a-row", "packed", "packed-dense-unscanned"],
)
def test_steps_are_those_of_pytorch(folder, documents, official, rows, options):
    from gptoss_model import canonical_names
    from gptoss_train.config import LossConfig, ModelConfig, OptimizerConfig, TrainConfig
    from gptoss_train.setup import set_up

    config = TrainConfig(
        model=str(folder),
        steps=STEPS,
        run=ModelConfig(**options),
        loss=LossConfig(vocabulary_chunk=50),  # several, and a part of one
        optimizer=OptimizerConfig(
            learning_rate=RATE,
            schedule="constant",
            weight_decay=DECAY,
            eps=EPS,
            b1=BETAS[0],
            b2=BETAS[1],
            clip_norm=CLIP,
        ),
    )
    run = set_up(config, "finetune")
    state, batch = run.state, packed(documents, rows=rows)
    losses, parameters = official
    for expected in losses:
        state, report = run.step(state, run.frozen, batch)
        assert float(report.loss) == pytest.approx(expected, rel=LOSS_LIMIT)
        assert int(report.targets) == sum(LENGTHS)
    for name, view in canonical_names(run.model(state.parameters)).items():
        error = np.linalg.norm(np.asarray(view.value) - parameters[name]) / np.linalg.norm(parameters[name])
        assert error < UPDATE_LIMIT, f"{name}: {error:.1e}"
