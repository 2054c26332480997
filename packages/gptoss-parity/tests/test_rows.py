import numpy as np
import pytest
from gptoss_parity import rows as rows_module
from gptoss_parity.rows import row_errors


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_measures_equal_their_definitions_whatever_the_block(block, monkeypatch):
    monkeypatch.setattr(rows_module, "_BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(9, 5)).astype(np.float32)
    candidate = reference + rng.normal(scale=1e-3, size=(9, 5)).astype(np.float32)
    difference = candidate.astype(np.float64) - reference
    found = row_errors(reference, candidate)
    selected = np.arange(9) % 2 == 0
    expected = np.linalg.norm(difference[selected]) / np.linalg.norm(reference[selected].astype(np.float64))
    assert found.relative_l2(selected) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(found.max_abs, np.abs(difference).max(axis=-1))
    np.testing.assert_array_equal(found.max_abs_at, np.abs(difference).argmax(axis=-1))


def test_an_array_against_itself_is_exactly_zero():
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = row_errors(values, values)
    assert found.relative_l2() == 0
    assert found.largest() == 0


def test_all_zeros_against_all_zeros_is_zero_and_against_more_infinite():
    zeros = np.zeros((2, 3), np.float32)
    assert row_errors(zeros, zeros).relative_l2() == 0
    assert row_errors(zeros, zeros + 1).relative_l2() == np.inf


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_not_finite_row_is_marked_even_if_both_sides_have_it(value, side):
    pair = [np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)]
    pair[side][1, 0] = value
    assert row_errors(*pair).is_finite.tolist() == [True, False, True]
    assert row_errors(pair[side], pair[side]).is_finite.tolist() == [True, False, True]
    assert np.isnan(row_errors(*pair).relative_l2())


def test_worst_token_is_sought_among_the_selected():
    reference = np.ones((3, 2), np.float32)
    candidate = reference + np.array([[1e-3], [5.0], [1e-2]], np.float32)
    token, error = row_errors(reference, candidate).worst_token(np.array([True, False, True]))
    assert (token, error) == (2, pytest.approx(1e-2, rel=1e-5))
    assert row_errors(reference, candidate).worst_token(np.zeros(3, bool)) is None
