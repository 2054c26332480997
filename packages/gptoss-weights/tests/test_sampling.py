import numpy as np
import pytest
from gptoss_weights.sampling import Sampling, sampling_probabilities

LOGITS = np.log([0.4, 0.05, 0.3, 0.15, 0.1])


def kept(**filters) -> list[int]:
    return np.flatnonzero(sampling_probabilities(LOGITS, Sampling(**({"temperature": 1} | filters)))).tolist()


def test_temperature_alone_draws_from_the_tempered_softmax():
    probabilities = sampling_probabilities(LOGITS, Sampling(temperature=0.5))
    np.testing.assert_allclose(probabilities, np.exp(LOGITS) ** 2 / (np.exp(LOGITS) ** 2).sum())


def test_temperature_0_takes_the_most_likely_and_of_equals_the_smallest_id():
    assert sampling_probabilities(LOGITS, Sampling(temperature=0, top_k=3)).tolist() == [1, 0, 0, 0, 0]
    assert sampling_probabilities(np.array([1, 2, 2]), Sampling(temperature=0)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("k", "ids"), [(1, [0]), (3, [0, 2, 3]), (5, [0, 1, 2, 3, 4]), (99, [0, 1, 2, 3, 4])])
def test_top_k_keeps_the_k_most_likely(k, ids):
    assert kept(top_k=k) == ids


@pytest.mark.parametrize(
    ("p", "ids"),
    [(0.01, [0]), (0.39, [0]), (0.41, [0, 2]), (0.71, [0, 2, 3]), (0.96, [0, 1, 2, 3, 4]), (1, [*range(5)])],
)
def test_top_p_keeps_the_smallest_set_that_weighs_p(p, ids):
    assert kept(top_p=p) == ids


@pytest.mark.parametrize(("p", "ids"), [(0, [*range(5)]), (0.24, [0, 2, 3, 4]), (0.5, [0, 2]), (1, [0])])
def test_min_p_is_relative_to_the_most_likely(p, ids):
    assert kept(min_p=p) == ids


def test_top_p_weighs_what_top_k_has_left():
    assert kept(top_p=0.5) == [0, 2]
    assert kept(top_k=2, top_p=0.5) == [0], "0.4 of the 0.7 that are left is more than a half"


def test_filters_see_the_tempered_distribution():
    assert kept(temperature=0.2, top_p=0.8) == [0]
    assert kept(temperature=5, min_p=0.5) == [0, 1, 2, 3, 4]


def test_equals_stay_or_go_together():
    ties = np.log([0.4, 0.2, 0.2, 0.2])
    for filters in ({"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.5}):
        assert (sampling_probabilities(ties, Sampling(temperature=1, **filters)) > 0).all(), filters


def test_a_batch_is_its_rows():
    batch = np.stack([LOGITS, LOGITS[::-1]])
    sampling = Sampling(temperature=0.7, top_k=4, top_p=0.8, min_p=0.1)
    rows = [sampling_probabilities(row, sampling) for row in batch]
    np.testing.assert_array_equal(sampling_probabilities(batch, sampling), rows)
    np.testing.assert_allclose(np.sum(rows, axis=-1), 1)


def test_numbers_out_of_range_are_refused_all_at_once():
    with pytest.raises(
        ValueError, match=r"temperature is 0 or .* not -1; top_k .* not 0; top_p .* not 0; min_p .* not 2"
    ):
        Sampling(temperature=-1, top_k=0, top_p=0, min_p=2)


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), 1e-40, 1e39])
def test_temperatures_that_float32_cannot_hold_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature is 0 or a positive number of float32"):
        Sampling(temperature=temperature)


@pytest.mark.parametrize("filters", [{"top_k": 1.5}, {"top_k": True}, {"top_p": float("nan")}, {"min_p": float("nan")}])
def test_numbers_that_mean_nothing_are_refused(filters):
    with pytest.raises(ValueError, match=next(iter(filters))):
        Sampling(temperature=1, **filters)
