import numpy as np
import pytest
from gptoss_parity.logits_measures import measure_logits, relative_entropies


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)


def measured(reference, candidate, *, margin=0.0, per_rms=0.0):
    return measure_logits(reference, candidate, tie_margin=margin, tie_margin_per_rms=per_rms)


def test_equal_logits_diverge_by_exactly_nothing(logits):
    measures = measured(logits, logits)
    assert (measures.kl == 0).all()
    shares = (measures.top_k_overlap, measures.jaccard, measures.rank_agreement, measures.argmax_agreement)
    assert shares == (1, 1, 1, 1)


def test_kl_is_that_of_the_distributions(logits):
    candidate = logits + np.random.default_rng(1).normal(size=logits.shape).astype(np.float32)
    p, q = (
        np.exp(a.astype(np.float64)) / np.exp(a.astype(np.float64)).sum(-1, keepdims=True) for a in (logits, candidate)
    )
    np.testing.assert_allclose(relative_entropies(logits, candidate), (p * np.log(p / q)).sum(-1), rtol=1e-10)


def test_kl_does_not_see_a_shift_of_all_logits(logits):
    np.testing.assert_allclose(relative_entropies(logits, logits + np.float32(3)), 0, atol=1e-12)


def test_kl_of_huge_logits_is_finite():
    huge = np.array([[1e30, 0, -1e30]], np.float32)
    assert relative_entropies(huge, huge)[0] == 0


def test_largest_kl_names_its_token(logits):
    candidate = logits.copy()
    candidate[4] = candidate[4][::-1]
    measures = measured(logits, candidate)
    assert measures.kl_max_token == 4
    assert measures.kl_mean == pytest.approx(measures.kl_max / 6)
    assert measures.kl_p95 < measures.kl_max


def test_overlap_jaccard_and_rank_count_places_of_the_ten_likeliest():
    reference = -np.arange(40, dtype=np.float32)[None]  # 0 … 9 are the likeliest
    candidate = reference.copy()
    candidate[0, 10] = 5  # takes the first place, and 9 falls out
    measures = measured(reference, candidate)
    assert measures.top_k_overlap == 0.9
    assert measures.jaccard == pytest.approx(9 / 11)
    assert measures.rank_agreement == 0
    assert measures.argmax_agreement == 0


def test_argmax_of_a_near_tie_is_not_counted_against_the_candidate():
    reference = np.array([[1.0, 1.001, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], np.float32)
    candidate = np.array([[1.001, 1.0, 0.0], [3.0, 1.0, 0.0], [2.0, 0.0, 1.0]], np.float32)
    measures = measured(reference, candidate, margin=0.01)
    assert measures.argmax_agreement == pytest.approx(1 / 3)
    assert measures.near_ties == 1
    assert measures.argmax_agreement_outside_ties == 0.5
    assert measures.differing == (2,)


def test_row_that_is_not_finite_has_no_kl(logits):
    candidate = logits.copy()
    candidate[2, 3] = np.nan
    measures = measured(logits, candidate)
    assert np.isnan(measures.kl[2])
    assert np.isnan(measures.kl_max)
    assert measures.kl_max_token == 2
