import pytest
from gptoss_train.data.packing import pack_rows
from hypothesis import given
from hypothesis import strategies as st

CAPACITY = 20
lengths = st.lists(st.integers(1, CAPACITY), max_size=60)
strategies = st.sampled_from(["best_fit", "first_fit", "none"])


@given(lengths, strategies)
def test_every_sample_stands_in_one_row_and_none_overflows(lengths, strategy):
    rows = pack_rows(lengths, CAPACITY, strategy=strategy)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert all(row and sum(lengths[place] for place in row) <= CAPACITY for row in rows)


@given(lengths, st.sampled_from(["best_fit", "first_fit"]))
def test_no_row_has_room_for_all_of_another(lengths, strategy):
    rows = pack_rows(lengths, CAPACITY, strategy=strategy)
    sums = sorted(sum(lengths[place] for place in row) for row in rows)
    assert len(sums) < 2 or sums[0] + sums[1] > CAPACITY


@given(lengths)
def test_rows_and_their_samples_are_in_the_order_of_the_samples(lengths):
    rows = pack_rows(lengths, CAPACITY, strategy="best_fit")
    assert rows == sorted(sorted(row) for row in rows)


def test_best_fit_takes_the_fullest_row_and_first_fit_the_earliest():
    lengths = [12, 10, 9, 1]  # the rows 12 and 10 + 9 both have room for the last
    assert pack_rows(lengths, CAPACITY, strategy="best_fit") == [[0], [1, 2, 3]]
    assert pack_rows(lengths, CAPACITY, strategy="first_fit") == [[0, 3], [1, 2]]


def test_none_gives_each_sample_its_own_row():
    assert pack_rows([1, 2, 3], CAPACITY, strategy="none") == [[0], [1], [2]]


def test_a_sample_that_no_row_holds_is_refused():
    with pytest.raises(ValueError, match="a sample of 21 tokens does not fit in a row of 20"):
        pack_rows([3, 21], CAPACITY, strategy="best_fit")
