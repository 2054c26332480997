"""The sampler against the definition in `gptoss_weights.sampling`; tests/ holds it against gptoss-model's."""

import warnings

import numpy as np
import pytest
from gptoss_onnx.sampling import Sampler, filter_logits
from gptoss_weights.sampling import Sampling, sampling_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

SAMPLINGS = [
    {"temperature": 1.0},
    {"temperature": 0.6, "top_k": 5},
    {"temperature": 1.7, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.9, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
    {"temperature": 1.0, "top_k": 10_000, "top_p": 1.0, "min_p": 0.0},
]


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x.astype(np.float64) - x.max())
    return weights / weights.sum()


@pytest.mark.parametrize("options", SAMPLINGS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_the_kept_tokens_and_their_probabilities_are_the_definitions(options, seed):
    logits = (3 * np.random.default_rng(seed).standard_normal(200)).astype(np.float32)
    sampling = Sampling(**options)
    expected = sampling_probabilities(logits, sampling)
    found = softmax(filter_logits(logits, sampling))
    assert ((found > 0) == (expected > 0)).all()
    assert np.abs(found - expected).max() < 1e-6


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.integers(-4, 4), min_size=1, max_size=12),
    top_k=st.none() | st.integers(1, 14),
    top_p=st.none() | st.sampled_from([0.25, 0.5, 0.7, 1.0]),
    min_p=st.none() | st.sampled_from([0.0, 0.3, 1.0]),
)
def test_equally_likely_tokens_stay_or_go_together(logits, top_k, top_p, min_p):
    x = np.array(logits, np.float32)
    kept = np.isfinite(filter_logits(x, Sampling(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)))
    assert kept[x == x.max()].all()
    for value in set(logits):
        assert len(set(kept[x == value])) == 1


@pytest.mark.parametrize("options", [{"top_p": 1e-39}, {"min_p": 1e-46}])
def test_limits_below_what_f32_holds_keep_what_the_definition_keeps(options):
    x = np.random.default_rng(0).normal(size=101).astype(np.float32)
    sampling = Sampling(temperature=1.0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = np.isfinite(filter_logits(x, sampling))
    assert kept.tolist() == (sampling_probabilities(x, sampling) > 0).tolist()


def test_a_tiny_temperature_overflows_nothing():
    filtered = filter_logits(np.array([1.0, 900.0, -1e30], np.float32), Sampling(temperature=1e-37))
    assert filtered.tolist() == [-np.inf, 0.0, -np.inf]


def test_draws_have_the_probabilities_of_the_definition():
    logits = np.array([0.0, 1.0, 2.0, -1.0, 1.5], np.float32)
    sampling = Sampling(temperature=0.8, top_k=4)
    sampler = Sampler(sampling, seed=9, sequences=1)
    counts = np.bincount([sampler.choose(logits[None], step)[0] for step in range(4000)], minlength=5)
    assert np.abs(counts / 4000 - sampling_probabilities(logits, sampling)).max() < 0.03


def test_a_draw_depends_on_seed_place_and_step_and_not_on_the_neighbours():
    logits = np.zeros((3, 1000), np.float32)
    sampling = Sampling(temperature=1.0)
    three = Sampler(sampling, seed=1, sequences=3)
    alone = Sampler(sampling, seed=1, sequences=1)
    assert three.choose(logits, 4)[0] == alone.choose(logits[:1], 4)[0]
    drawn = [
        *three.choose(logits, 4),
        *three.choose(logits, 5),
        *Sampler(sampling, seed=2, sequences=3).choose(logits, 4),
    ]
    assert len(set(drawn)) == 9


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=0)])
def test_without_temperature_the_most_likely_token_is_taken_of_equals_the_first(sampling):
    assert Sampler(sampling, seed=0, sequences=2).choose(np.array([[1, 3, 3], [2, 0, 1]]), 0).tolist() == [1, 0]
