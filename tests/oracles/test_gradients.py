"""Live: the gradient of every parameter against PyTorch's autograd through the official code, in float32.

The loss is the mean cross-entropy of random targets, behind more tokens than the window.
"""

from collections.abc import Mapping

import numpy as np
import pytest
from gptoss_weights import Checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config

pytestmark = pytest.mark.oracle

LIMIT = 1e-4  # relative L2 of each parameter's gradient
LENGTH = 70  # over six windows, and three blocks of queries


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return random_checkpoint(tiny_config(), seed=6)


@pytest.fixture(scope="module")
def batch(checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets."""
    tokens, targets = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, (2, LENGTH))
    return tokens, targets


@pytest.fixture(scope="module")
def official_gradients(checkpoint, batch) -> Mapping[str, np.ndarray]:
    """By canonical name."""
    import torch
    from gptoss_parity.sources.openai_torch import load_official_model, official_parameter_names

    tokens, targets = map(torch.from_numpy, batch)
    model = load_official_model(checkpoint, dtype="float32")
    torch.nn.functional.cross_entropy(model(tokens), targets).backward()
    gradients = {}
    for official, parameter in model.named_parameters():
        names = official_parameter_names(official)
        rows = np.cumsum([checkpoint.specs[name].shape[0] for name in names])[:-1]
        gradients |= dict(zip(names, np.split(parameter.grad.numpy(), rows), strict=True))
    assert set(gradients) == set(checkpoint.specs)
    return gradients


@pytest.mark.parametrize(
    "options",
    [
        {"scan_layers": False},
        {"moe": "gathered"},
        {"moe": "tiled"},
        {"moe": "dense"},
        {"moe": "ragged"},
        {"moe": "megablox-interpret"},
        {"attention": "reference"},
        {"attention": "blockwise"},
        {"attention": "splash-interpret"},
    ],
    ids=str,
)
def test_gradient_of_every_parameter_is_that_of_the_official_code(checkpoint, batch, official_gradients, options):
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from gptoss_model import canonical_names, load_model

    tokens, targets = map(jnp.asarray, batch)
    # Scanned layers, for they compile faster.
    model = load_model(checkpoint, dtype=jnp.float32, experts="decoded", **{"scan_layers": True} | options)

    def loss(model):
        logprobs = jax.nn.log_softmax(model(tokens[None]).logits[0])
        return -jnp.take_along_axis(logprobs, targets[:, None], axis=1).mean()

    gradients = canonical_names(nnx.grad(loss)(model))
    assert set(gradients) == set(official_gradients)
    for name, expected in official_gradients.items():
        assert np.linalg.norm(expected) > 0, f"{name} must matter"
        error = np.linalg.norm(np.asarray(gradients[name].value) - expected) / np.linalg.norm(expected)
        assert error < LIMIT, f"{name}: {error:.1e}"
