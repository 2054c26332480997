import numpy as np
from gptoss_train.data.samples import SampleSpan, make_sample
from gptoss_weights.text.harmony import Role


def test_each_place_predicts_the_next_and_the_last_nothing():
    sample = make_sample("here", [5, 6, 7])
    assert sample.targets.tolist() == [6, 7, 0]
    assert sample.weights.tolist() == [1, 1, 0]
    assert (sample.tokens.dtype, sample.weights.dtype) == (np.int32, np.float32)


def test_what_is_learnt_counts_one_place_before_it_is_said():
    sample = make_sample("here", [5, 6, 7, 8], said=[5, 6, 9, 8], is_learnt=[True, False, True, False])
    assert sample.targets.tolist() == [6, 9, 8, 0]
    assert sample.weights.tolist() == [0, 1, 0, 0]
    assert sample.trained_tokens == 1


def test_a_piece_still_predicts_what_follows_it():
    whole = make_sample("here", [5, 6, 7, 8, 9])
    first, second = whole.piece(0, 3), whole.piece(3, 6)
    assert first.targets.tolist() == [6, 7, 8]
    assert first.weights.tolist() == [1, 1, 1]
    assert second.tokens.tolist() == [8, 9]
    assert second.weights.tolist() == [1, 0]


def test_a_piece_has_the_spans_that_it_overlaps():
    spans = (SampleSpan(Role.USER, None, 0, 2), SampleSpan(Role.ASSISTANT, "final", 2, 5))
    piece = make_sample("here", range(5), spans=spans).piece(1, 3)
    assert piece.spans == (SampleSpan(Role.USER, None, 0, 1), SampleSpan(Role.ASSISTANT, "final", 1, 2))


def test_no_tokens_make_a_sample_of_none():
    assert len(make_sample("here", [])) == 0
