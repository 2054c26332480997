"""A model on a mesh gives what it gives on one device."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import load_model, make_mesh
from gptoss_weights import probe_specs

F32_TOLERANCE = 2e-6  # relative L2, the same as against the official code
# Every axis alone, every pair of axes, and triples; each with packed or decoded experts, scanned layers or not.
CASES = [
    ("data=8", "mxfp4", False),
    ("fsdp=8", "mxfp4", True),
    ("expert=2,tensor=4", "mxfp4", False),
    ("data=2,fsdp=2,tensor=2", "decoded", True),
    ("data=2,expert=2,tensor=2", "decoded", False),
    ("fsdp=2,expert=2,tensor=2", "mxfp4", True),
    ("fsdp=2,expert=2,tensor=2", "decoded", False),
]


@functools.cache
def prompts():
    rng = np.random.default_rng(0)
    mask = np.arange(20) < np.array([20, 3, 17, 12, 20, 1, 9, 14])[:, None]
    return rng.integers(0, 212, mask.shape), mask


@pytest.fixture(scope="module")
def alone(splittable):
    """Every probe of a forward pass on one device."""
    tokens, mask = prompts()
    return load_model(splittable, dtype=jnp.float32)(tokens, mask=mask, probes=probe_specs(splittable.config, 1)).probes


@pytest.mark.parametrize(("rules", "experts", "scan_layers"), CASES)
def test_every_intermediate_is_that_of_one_device(splittable, alone, relative_error, rules, experts, scan_layers):
    model = load_model(splittable, dtype=jnp.float32, experts=experts, scan_layers=scan_layers, mesh=make_mesh(rules))
    tokens, mask = prompts()
    probes = model(tokens, mask=mask, probes=probe_specs(splittable.config, 1)).probes
    assert set(probes) == set(alone)
    for name, expected in alone.items():
        if np.issubdtype(expected.dtype, np.integer):
            np.testing.assert_array_equal(probes[name][mask], expected[mask], err_msg=name)
        else:
            assert relative_error(probes[name][mask], expected[mask]) < F32_TOLERANCE, name
