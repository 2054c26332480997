"""The flags that people know from NumPy and MaxText, and what they decide."""

import numpy as np
import pytest
from gptoss_parity import LogitsCheck, compare


def nudge(amount, token=3, place=7):
    def change(arrays):
        arrays["logits"][token, place] += amount

    return change


def test_check_agrees_with_numpy_allclose(trace, edited):
    candidate = edited(nudge(0.35))
    for atol, rtol in ((0.1, 0.1), (0.4, 0.0), (0.34, 0.0), (0.0, 5.0)):
        passes = np.allclose(candidate["logits"], trace["logits"], atol=atol, rtol=rtol)
        assert compare(trace, candidate, check=LogitsCheck(atol=atol, rtol=rtol)).passed is passes


def test_past_element_is_named_with_token_and_id(trace, edited):
    failure = compare(trace, edited(nudge(2.5)), check=LogitsCheck(atol=0.1, rtol=0.1)).first_failure
    assert failure.probe == "logits"
    assert "1 of " in failure.sentence
    assert "token 3, id 7" in failure.sentence


def test_largest_kl_decides(trace, edited):
    candidate = edited(nudge(0.5))
    kl = compare(trace, candidate).probes[-1].logits.kl_max
    assert compare(trace, candidate, check=LogitsCheck(max_kl_div=kl * 1.01)).passed
    failure = compare(trace, candidate, check=LogitsCheck(max_kl_div=kl * 0.99)).first_failure
    assert failure.sentence.startswith("KL of token 3 is")


def test_check_alone_decides_and_says_what_it_does_not_judge(trace, edited):
    def spoil(arrays):
        arrays["layers.1.output"] *= 1.5

    comparison = compare(trace, edited(spoil), check=LogitsCheck(atol=0.1, rtol=0.1, max_kl_div=3e-4))
    assert comparison.passed
    assert "first layers.1.output" in "".join(comparison.warnings)
    assert comparison.unjudged[0].probe == "layers.1.output"
    assert (
        compare(trace, edited(spoil), check=LogitsCheck(atol=0.1), judge_all=True).first_failure.probe
        == "layers.1.output"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_limit_excuses_what_is_not_finite(trace, edited, value):
    comparison = compare(trace, edited(nudge(value)), check=LogitsCheck(atol=1e9, max_kl_div=1e9))
    assert comparison.first_failure.measure == "finite"


def test_missing_logits_fail(trace, edited):
    lacking = edited(lambda arrays: arrays.pop("logits"))
    assert not compare(trace, lacking, check=LogitsCheck(atol=1.0)).passed


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "needs atol, rtol or max_kl_div"),
        ({"atol": -1.0}, "atol is at least 0, not -1.0"),
        ({"max_kl_div": float("nan")}, "max_kl_div is at least 0, not nan"),
    ],
)
def test_limits_that_are_none_are_refused(limits, words):
    with pytest.raises(ValueError, match=words):
        LogitsCheck(**limits)
