import numpy as np
import pytest
from gptoss_parity import FLOAT32, Reach
from gptoss_parity.expert_order import align_by_expert
from gptoss_parity.measures import measure_probe
from gptoss_parity.probe_names import parse_probe_name

CLEAN = np.zeros(4, np.int8)
LOGITS, OUTPUT, ROUTER = map(parse_probe_name, ("logits", "layers.1.output", "layers.1.router_logits"))


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)


def test_largest_difference_is_placed(values):
    candidate = values.copy()
    candidate[2, 5] += 0.5
    measures = measure_probe(LOGITS, values, candidate, CLEAN, FLOAT32, depth=1)
    assert measures.max_abs == pytest.approx(0.5)
    assert measures.max_abs_index == (2, 5)
    assert measures.worst_clean.token == 2
    assert measures.by_token[[0, 1, 3]].tolist() == [0, 0, 0]


def test_argmax_and_top_k_are_measured_for_logits_only(values):
    candidate = values.copy()
    candidate[1] = -candidate[1]
    measures = measure_probe(LOGITS, values, candidate, CLEAN, FLOAT32, depth=1)
    assert measures.argmax_agreement == 0.75
    assert measures.logits.rank_agreement < 1
    assert measure_probe(OUTPUT, values, candidate, CLEAN, FLOAT32, depth=1).argmax_agreement is None


def test_limits_apply_to_the_tokens_that_no_flip_reaches(values):
    reach = np.array([Reach.CLEAN, Reach.CLEAN, Reach.REACHED, Reach.FLIPPED], np.int8)
    candidate = values.copy()
    candidate[2] *= 1.1
    candidate[3] *= -1
    measures = measure_probe(OUTPUT, values, candidate, reach, FLOAT32, depth=1)
    assert measures.passed
    assert measures.clean_relative_l2 == 0
    assert measures.reached_relative_l2 == pytest.approx(0.1, rel=1e-4)
    assert measures.flipped_relative_l2 == pytest.approx(2)
    candidate[2] *= 2
    (failure,) = measure_probe(OUTPUT, values, candidate, reach, FLOAT32, depth=1).failures
    assert "tokens that see a flip" in failure.sentence


def test_one_bad_token_in_a_long_prompt_is_caught():
    values = np.ones((4096, 8), np.float32)
    candidate = values.copy()
    candidate[1000, 0] += 2e-4
    measures = measure_probe(OUTPUT, values, candidate, np.zeros(4096, np.int8), FLOAT32, depth=1)
    assert measures.relative_l2 < FLOAT32.hidden.value
    (failure,) = measures.failures
    assert failure.measure == "relative L2 of token 1000"


def test_router_logits_that_all_but_cancel_are_held_to_the_margin():
    reference = np.full((4, 8), 1e-7, np.float32)
    assert measure_probe(ROUTER, reference, reference + np.float32(1e-6), CLEAN, FLOAT32, depth=1).passed
    assert not measure_probe(ROUTER, reference, reference + np.float32(1e-4), CLEAN, FLOAT32, depth=1).passed


def test_limits_grow_with_the_square_root_of_the_depth(values):
    candidate = values * np.float32(1 + 3e-6)
    assert not measure_probe(OUTPUT, values, candidate, CLEAN, FLOAT32, depth=8).passed
    assert measure_probe(OUTPUT, values, candidate, CLEAN, FLOAT32, depth=36).passed
    assert not measure_probe(OUTPUT, values, candidate, CLEAN, FLOAT32.replace(hidden=2e-6), depth=36).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_value_fails_on_either_side_and_on_both(values, value):
    broken = values.copy()
    broken[1, 3] = value
    for pair, words in (
        ((values, broken), f"token 1 in the candidate ({value} at place 3)"),
        ((broken, values), f"token 1 in the reference ({value} at place 3)"),
        ((broken, broken), "in the reference"),
    ):
        measures = measure_probe(OUTPUT, *pair, CLEAN, FLOAT32, depth=1)
        assert not measures.passed
        assert words in measures.failures[0].sentence


def test_router_weights_are_aligned_by_expert():
    weights = np.array([[0.6, 0.4]])
    first = align_by_expert(weights, np.array([[3, 1]]))
    second = align_by_expert(weights[:, ::-1], np.array([[1, 3]]))
    np.testing.assert_array_equal(first, second)
