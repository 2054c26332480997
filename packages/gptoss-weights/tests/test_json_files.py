"""JSON read strictly: what of it is bounded before anything is built."""

import pytest
from gptoss_weights import CheckpointError
from gptoss_weights.json_files import MAX_NESTING, parse_json_object


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_deepest_that_is_taken() -> None:
    document = parse_json_object(nested(MAX_NESTING), what="the file", where="here")
    for _ in range(MAX_NESTING):
        document = document["a"]
    assert document == 1


@pytest.mark.parametrize("raw", [nested(MAX_NESTING + 1), b'{"a":' * 5000, b'{"a":' + b"[" * 100_000])
def test_deeper_is_refused_whether_it_ends_or_not(raw: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"^here: the file is nested too deeply; expected at most 100 levels$"):
        parse_json_object(raw, what="the file", where="here")


def test_brackets_in_texts_do_not_count() -> None:
    text = '\\"' + "[{" * 500
    assert parse_json_object(b'{"a": "' + text.encode() + b'", "b": [{}]}', what="the file", where="here") == {
        "a": '"' + "[{" * 500,
        "b": [{}],
    }
