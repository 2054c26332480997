"""Temperature, top-k, top-p and min-p leave what the warpers of transformers leave, applied in its order."""

from typing import Any

import jax
import numpy as np
import pytest
from gptoss_model.sampling import SamplingValues, filter_logits
from gptoss_weights.sampling import Sampling, sampling_probabilities

pytestmark = pytest.mark.oracle

VOCABULARY = 997
ROWS = 6
CASES = [
    {"temperature": 0.25},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 5000},
    {"top_p": 0.05},
    {"top_p": 0.7},
    {"top_p": 0.99},
    {"min_p": 0.02},
    {"min_p": 0.5},
    {"temperature": 0.6, "top_p": 0.95},
    {"temperature": 1.4, "top_k": 50, "top_p": 0.8},
    {"temperature": 1.4, "top_k": 50, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 0.9, "top_p": 0.9, "min_p": 0.3},
]


def warped(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Logits after what `generate(do_sample=True, …)` of transformers would apply, in its own order."""
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
    import torch

    options = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or 0,  # 0 switches it off; None would mean its default of 50
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "min_p": sampling.min_p,
    }
    config = transformers.GenerationConfig(do_sample=True, **options)
    warpers = transformers.GenerationMixin()._get_logits_processor(config, prefix_allowed_tokens_fn=None)
    result: np.ndarray = warpers(None, torch.tensor(logits)).numpy()
    return result


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_the_same_tokens_stay_with_the_same_probabilities(options: dict[str, Any], spread: float) -> None:
    logits = np.random.default_rng(3).normal(size=(ROWS, VOCABULARY)).astype(np.float32) * np.float32(spread)
    sampling = Sampling(**({"temperature": 1.0} | options))
    expected = warped(logits, sampling)
    ours = np.asarray(filter_logits(logits, SamplingValues.of(sampling)))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected))
    probabilities = sampling_probabilities(logits, sampling)
    np.testing.assert_array_equal(probabilities > 0, np.isfinite(expected))
    for found in (ours, expected):
        np.testing.assert_allclose(jax.nn.softmax(found), probabilities, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("options", [{"top_k": 7}, {"min_p": 0.3}], ids=str)
def test_ties_stay_or_go_together(options: dict[str, Any]) -> None:
    logits = np.random.default_rng(4).integers(0, 5, (ROWS, VOCABULARY)).astype(np.float32)
    sampling = Sampling(temperature=1.0, **options)
    np.testing.assert_array_equal(sampling_probabilities(logits, sampling) > 0, np.isfinite(warped(logits, sampling)))
