"""YaRN's numbers at the published size, and against an independent f64 statement of the formula."""

import math
from typing import Any

import numpy as np
import pytest
from gptoss_weights import GPT_OSS_20B, inverse_frequencies, rope_concentration, yarn_ramp

PUBLISHED: dict[str, Any] = {"head_dim": 64, "rope_theta": 150000.0, "initial_context_length": 4096}


def test_published_ramp_is_not_rounded() -> None:
    low, high = yarn_ramp(**PUBLISHED, beta=32.0, alpha=1.0)
    assert low == pytest.approx(8.0928, abs=5e-5)
    assert high == pytest.approx(17.3980, abs=5e-5)


def test_published_concentration() -> None:
    assert rope_concentration(32.0) == pytest.approx(1.3465735903, abs=1e-10)
    assert rope_concentration(1.0) == rope_concentration(0.5) == 1.0


def test_inverse_frequencies_follow_the_formula() -> None:
    computed = inverse_frequencies(**PUBLISHED, scaling_factor=32.0, beta=32.0, alpha=1.0)
    assert computed.dtype == np.float32
    low, high = yarn_ramp(**PUBLISHED, beta=32.0, alpha=1.0)
    for j, value in enumerate(computed):
        frequency = PUBLISHED["rope_theta"] ** (2 * j / 64)
        ramp = min(max((j - low) / (high - low), 0.0), 1.0)
        exact = ramp / (32.0 * frequency) + (1 - ramp) / frequency
        assert float(value) == pytest.approx(exact, rel=2e-6)


def test_without_scaling_rope_is_plain() -> None:
    computed = inverse_frequencies(**PUBLISHED, scaling_factor=1.0, beta=32.0, alpha=1.0)
    exact = [150000.0 ** (-2 * j / GPT_OSS_20B.head_dim) for j in range(32)]
    np.testing.assert_allclose(computed, exact, rtol=1e-6)
    assert math.isclose(float(computed[0]), 1.0)
