"""Enforces the shapes in the signatures of the ops; the small helpers of all tests of this package."""

import jaxtyping

# Before anything imports them, so that every call in these tests is checked against its signature.
# Not `ops.mxfp4` and `kv_cache`: their dataclasses also hold shapes or partitions in place of arrays.
CHECKED = ["attention", "linear", "moe", "rms_norm", "rope", "routing", "swiglu"]
jaxtyping.install_import_hook([f"gptoss_model.ops.{name}" for name in CHECKED], "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)  # for the tests of meshes; before JAX looks at its devices

from gptoss_weights import Checkpoint, random_checkpoint  # noqa: E402
from gptoss_weights.testing import tiny_config  # noqa: E402


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    """A random checkpoint of the tiny geometry: a sliding layer and a full one, window 11, all dimensions distinct."""
    return random_checkpoint(tiny_config(num_hidden_layers=2), seed=3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def relative_error():
    """Relative L2 distance, in f64."""

    def measure(actual: jax.Array | np.ndarray, expected: jax.Array | np.ndarray) -> float:
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert actual.shape == expected.shape
        return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))

    return measure
