"""Live: every strategy, on packed and decoded experts, scanned and not, against the official code in float32."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import load_model
from gptoss_weights import Checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config

pytestmark = pytest.mark.oracle

LIMIT = 2e-6  # relative L2 of the logits, as `gptoss_parity.FLOAT32` has it
LENGTH = 70  # over six windows, and three blocks of queries
MOE = ("gathered", "tiled", "dense", "ragged", "megablox-interpret")
ATTENTION = ("reference", "blockwise", "splash-interpret")
CASES: list[dict[str, Any]] = [
    *({"moe": moe, "experts": experts} for moe in MOE for experts in ("mxfp4", "decoded")),
    *({"attention": attention} for attention in ATTENTION),
]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return random_checkpoint(tiny_config(num_hidden_layers=2), seed=11)


@pytest.fixture(scope="module")
def prompt(checkpoint, make_prompt) -> list[int]:
    return make_prompt(checkpoint.config, LENGTH)


@pytest.fixture(scope="module")
def expected(official, checkpoint, prompt) -> np.ndarray:
    return official.record(checkpoint, prompt)["logits"]


@pytest.mark.parametrize("scan_layers", [False, True], ids=["unscanned", "scanned"])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_logits_are_those_of_the_official_code(checkpoint, prompt, expected, options, scan_layers):
    model = load_model(checkpoint, dtype=jnp.float32, scan_layers=scan_layers, **options)
    logits = np.asarray(model(jnp.asarray([prompt])).logits[0], np.float64)
    assert np.linalg.norm(logits - expected) < LIMIT * np.linalg.norm(expected)
