"""What every test of the workspace may rely on: JAX on the CPU, steady examples, and the reference data."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent
REFERENCE = ROOT.parent / "shared" / "reference"

# Without this JAX probes for accelerators and warns; the sessions test_cuda and test_tpu set it themselves.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# The first call of a jitted function compiles, so a deadline per example would measure the compiler;
# a fixed choice of examples makes a red run repeatable.
settings.register_profile("workspace", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("workspace")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference checkpoints and goldens that may lie beside the checkout."""
    if not REFERENCE.is_dir():
        pytest.skip("no reference data: there is no folder shared/reference beside the checkout")
    return REFERENCE
