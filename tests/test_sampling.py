"""Both engines mean the same by temperature, top-k, top-p, min-p and seed: they draw the same tokens."""

import jax.numpy as jnp
import numpy as np
import pytest
from gptoss_model import complete as complete_in_jax
from gptoss_model import load_model
from gptoss_model.sampling import SamplingValues, sample_tokens, sequence_keys
from gptoss_model.sampling import filter_logits as filter_in_jax
from gptoss_onnx import OnnxModel, complete, export_onnx
from gptoss_onnx.sampling import Sampler, filter_logits
from gptoss_weights import random_checkpoint
from gptoss_weights.sampling import Sampling
from gptoss_weights.testing import tiny_config

SAMPLINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.7, top_k=9),
    Sampling(temperature=1.4, top_p=0.8),
    Sampling(temperature=1.1, min_p=0.05),
    Sampling(temperature=0.9, top_k=60, top_p=0.95, min_p=0.01),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_same_tokens_are_kept_and_drawn_from_the_same_logits(sampling):
    logits = (3 * np.random.default_rng(0).standard_normal((3, 500))).astype(np.float32)
    values, keys = SamplingValues.of(sampling), sequence_keys(77, 3)
    assert values is not None
    in_jax = np.asarray(filter_in_jax(jnp.asarray(logits), values))
    here = np.stack([filter_logits(row, sampling) for row in logits])
    kept = np.isfinite(in_jax)
    assert (np.isfinite(here) == kept).all()
    np.testing.assert_allclose(here[kept], in_jax[kept], rtol=1e-6)
    sampler = Sampler(sampling, seed=77, sequences=3)
    for step in range(20):
        drawn = np.asarray(sample_tokens(jnp.asarray(logits), keys, jnp.int32(step), values))
        assert sampler.choose(logits, step).tolist() == drawn.tolist()


def test_both_engines_draw_the_same_continuations_with_their_log_probabilities(tmp_path):
    checkpoint = random_checkpoint(tiny_config(), seed=3)
    options = {
        "max_new_tokens": 12,
        "sampling": Sampling(temperature=0.8, top_k=50, top_p=0.95),
        "seed": 2**32 - 1,
        "top_logprobs": 3,
        "eos_token_ids": [5],
    }
    prompts = [[1, 2, 3], list(range(30)), [7]]
    in_jax = complete_in_jax(load_model(checkpoint, dtype=jnp.float32), prompts, **options)
    here = complete(OnnxModel.open(export_onnx(checkpoint, tmp_path / "onnx")), prompts, **options)
    for theirs, ours in zip(in_jax, here, strict=True):
        assert (ours.tokens, ours.finish_reason) == (theirs.tokens, theirs.finish_reason)
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=2e-5)
        assert [list(top) for top in ours.top_logprobs] == [list(top) for top in theirs.top_logprobs]
