"""Meshes of the eight CPU devices that the package's conftest asks JAX for."""

import jax
import pytest
from gptoss_weights import Checkpoint, random_checkpoint
from gptoss_weights.testing import tiny_config


@pytest.fixture(autouse=True, scope="session")
def eight_devices():
    if jax.default_backend() != "cpu":
        pytest.skip("meshes are tested on eight fake CPU devices; this session runs on an accelerator")
    assert jax.device_count() == 8


@pytest.fixture(scope="session")
def splittable() -> Checkpoint:
    """A random checkpoint that divides by 2 along every mesh axis, and by 4 along tensor; all dimensions distinct."""
    config = tiny_config(
        num_hidden_layers=2,
        num_experts=6,
        vocab_size=212,
        intermediate_size=128,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    return random_checkpoint(config, seed=5)
