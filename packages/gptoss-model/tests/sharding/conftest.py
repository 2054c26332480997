"""Meshes of the eight CPU devices that the package's conftest asks JAX for."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def eight_devices():
    if jax.default_backend() != "cpu":
        pytest.skip("meshes are tested on eight fake CPU devices; this session runs on an accelerator")
    assert jax.device_count() == 8
