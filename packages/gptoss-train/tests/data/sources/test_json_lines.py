import pytest
from gptoss_train.data.sources.json_lines import JsonLinesSource
from gptoss_weights import CheckpointError


def test_records_of_several_files_stand_behind_one_another(write_jsonl):
    files = [write_jsonl([{"a": 1}, {"a": 2}], "x"), write_jsonl([], "y"), write_jsonl([{"a": "é"}], "z")]
    source = JsonLinesSource(files)
    assert [source[index].values["a"] for index in range(len(source))] == [1, 2, "é"]
    assert source[2].origin == f"{files[2]}:1"


def test_blank_lines_are_no_records_but_count_as_lines(write_jsonl):
    source = JsonLinesSource([write_jsonl(["", '{"a": 1}', "  \t", '{"a": 2}'])])
    assert len(source) == 2
    assert source[1].origin.endswith(":4")


def test_a_byte_order_mark_and_a_missing_last_line_end_do_no_harm(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}')
    source = JsonLinesSource([path])
    assert [source[index].values["a"] for index in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": 1', r"records.jsonl:2: the line is no JSON \(.*\); expected one JSON object a line; found '{\"a\": 1'"),
        ("[1, 2]", r"records.jsonl:2: the line is no JSON object; expected one JSON object a line; found '\[1, 2\]'"),
        ("[" * 100_000, r"records.jsonl:2: the line is no JSON \(.*\); .* found '\[{60}…'"),
    ],
)
def test_a_malformed_line_is_named_with_file_and_number(write_jsonl, line, words):
    source = JsonLinesSource([write_jsonl(['{"a": 1}', line])])
    with pytest.raises(CheckpointError, match=words):
        source[1]


def test_bytes_that_are_no_utf8_are_named(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(CheckpointError, match=r"x:1: the line is no UTF-8 \(at its byte 7\)"):
        JsonLinesSource([path])[0]


def test_files_without_a_record_are_refused(write_jsonl):
    with pytest.raises(CheckpointError, match="there is no record"):
        JsonLinesSource([write_jsonl(["", " "])])
