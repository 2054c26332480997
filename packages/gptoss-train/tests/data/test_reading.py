import dataclasses

import numpy as np
import pytest
from gptoss_train.data import DataConfig
from gptoss_train.data.reading import RecordReader
from gptoss_train.data.records import Document, Fields, TokenSequence
from gptoss_weights import CheckpointError

CONVERSATION = Fields("f:1", {"question": "Who?", "answer": "Me, and " * 20})


@pytest.fixture(scope="module")
def reader(tokenizer):
    def make(length=400, vocabulary_size=tokenizer.vocab_size, **options):
        config = dataclasses.replace(DataConfig(source="jsonl", files=("f",)), **options)
        return RecordReader(config, vocabulary_size=vocabulary_size, tokenizer=tokenizer, sequence_length=length)

    return make


def test_a_text_ends_with_its_token(reader, tokenizer):
    (sample,) = reader()(Fields("f:1", {"text": "A licence."})).samples
    assert sample.tokens.tolist() == [*tokenizer.encode("A licence."), tokenizer.token_id("<|endoftext|>")]
    assert sample.trained_tokens == len(sample) - 1


def test_no_text_becomes_a_special_token(reader, tokenizer):
    (sample,) = reader(end_of_text=False)(Fields("f:1", {"text": "<|endoftext|>"})).samples
    assert tokenizer.token_id("<|endoftext|>") not in sample.tokens


def test_a_piece_inside_of_a_document_has_no_end(reader, tokenizer):
    (inside,) = reader()(Document("f", "A licence.", is_end=False)).samples
    assert inside.tokens.tolist() == tokenizer.encode("A licence.")


def test_the_columns_decide_what_a_record_is(reader):
    assert reader()(CONVERSATION).samples[0].spans
    assert not reader()(Fields("f:1", {"text": "a"})).samples[0].spans
    both = Fields("f:1", CONVERSATION.values | {"text": "a"})
    assert not reader(format="text")(both).samples[0].spans
    assert reader()(both).samples[0].spans


def test_a_long_text_is_split_and_nothing_is_lost(reader):
    whole = reader()(Fields("f:1", {"text": "A longer licence text. " * 6})).samples[0]
    pieces = reader(length=10)(Fields("f:1", {"text": "A longer licence text. " * 6})).samples
    assert len(pieces) > 2
    for name in ("tokens", "targets", "weights"):
        assert np.array_equal(np.concatenate([getattr(piece, name) for piece in pieces]), getattr(whole, name))


def test_a_last_piece_of_one_token_would_teach_nothing(reader):
    def pieces(count):
        tokens = np.arange(count, dtype=np.int32)
        return reader(length=10)(TokenSequence("s", tokens))

    assert [len(piece) for piece in pieces(21).samples] == [10, 10]
    assert pieces(21).samples[-1].weights.tolist() == [1] * 10  # what the left-out token says is learnt
    assert pieces(21).without_loss == 0
    assert [len(piece) for piece in pieces(22).samples] == [10, 10, 2]


def test_a_long_conversation_is_cut_and_counted(reader):
    whole = reader()(CONVERSATION).samples[0]
    read = reader(length=len(whole) - 5)(CONVERSATION)
    assert (read.cut, read.dropped) == (1, 0)
    assert read.samples[0].tokens.tolist() == whole.tokens[:-5].tolist()


def test_a_long_sample_is_dropped_and_counted_if_asked(reader):
    read = reader(length=20, overlong="drop")(CONVERSATION)
    assert (read.samples, read.dropped) == ((), 1)


def test_a_sample_that_just_fits_is_left_alone(reader):
    whole = reader()(CONVERSATION).samples[0]
    read = reader(length=len(whole), overlong="drop")(CONVERSATION)
    assert len(read.samples[0]) == len(whole)


def test_a_conversation_is_not_split(reader):
    with pytest.raises(CheckpointError, match=r"f:1: a conversation of \d+ tokens cannot be split"):
        reader(length=20, overlong="split")(CONVERSATION)


def test_samples_that_teach_nothing_are_counted_and_kept_or_dropped(reader):
    kept, dropped = (reader(length=20, without_loss=choice)(CONVERSATION) for choice in ("keep", "drop"))
    assert (len(kept.samples), kept.without_loss) == (1, 1)
    assert (len(dropped.samples), dropped.without_loss) == (0, 1)


def test_a_token_that_the_model_has_not_is_named(reader):
    with pytest.raises(
        CheckpointError, match="f:1: the tokenizer gives a token that the model has not; expected ids below 300"
    ):
        reader(vocabulary_size=300)(Fields("f:1", {"text": "A licence."}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"txt": "a"},
            "f:1: the record has no text and no conversation; expected 'text', or 'messages'.*; found 'txt'",
        ),
        ({}, "found no column"),
        ({"text": 5}, "f:1: column 'text' is no text; expected a string; found int"),
        ({"text": "\ud800"}, "f:1: the text is no Unicode"),
    ],
)
def test_a_malformed_record_is_named(reader, values, words):
    with pytest.raises(CheckpointError, match=words):
        reader()(Fields("f:1", values))


def test_text_needs_a_tokenizer():
    with pytest.raises(ValueError, match="source 'jsonl' needs a tokenizer"):
        RecordReader(DataConfig(source="jsonl", files=("f",)), vocabulary_size=9, tokenizer=None, sequence_length=9)
