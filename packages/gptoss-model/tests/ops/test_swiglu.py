import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model.ops import swiglu


def one(gate: float, up: float) -> float:
    return float(swiglu(jnp.array([[gate, up]], jnp.float32), alpha=1.702, limit=7.0)[0, 0])


def test_gate_stands_in_even_entries_and_up_in_odd_ones(rng):
    x = rng.standard_normal((4, 10))
    gate, up = x[:, ::2], x[:, 1::2]
    expected = gate / (1 + np.exp(-1.702 * gate)) * (up + 1)
    actual = swiglu(jnp.asarray(x, jnp.float32), alpha=1.702, limit=7.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_gate_is_clamped_from_above_only():
    assert one(100.0, 0.5) == one(7.0, 0.5)
    assert one(-8.0, 0.5) != one(-7.0, 0.5)


def test_up_is_clamped_on_both_sides():
    assert one(1.0, 100.0) == one(1.0, 7.0)
    assert one(1.0, -100.0) == one(1.0, -7.0)
    assert one(1.0, 7.0) == pytest.approx(8 / (1 + np.exp(-1.702)), rel=1e-6)
