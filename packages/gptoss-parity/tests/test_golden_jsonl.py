"""MaxText's golden logits, read and written."""

import json

import numpy as np
import pytest
from gptoss_parity import compare
from gptoss_parity.golden_jsonl import read_golden_jsonl, write_golden_jsonl
from gptoss_weights import CheckpointError


def test_written_logits_read_back_bit_by_bit(trace, tmp_path):
    write_golden_jsonl([("the prompt", trace)] * 2, tmp_path / "golden.jsonl")
    first, second = read_golden_jsonl(tmp_path / "golden.jsonl")
    np.testing.assert_array_equal(first["logits"], trace["logits"])
    assert first.tokens.tolist() == second.tokens.tolist() == trace.tokens.tolist()
    assert first.metadata.options == {"prompt": "the prompt"}


def test_line_has_the_keys_of_maxtext(trace, tmp_path):
    write_golden_jsonl([("x", trace)], tmp_path / "golden.jsonl")
    [line] = (tmp_path / "golden.jsonl").read_text().splitlines()
    assert list(json.loads(line)) == ["prompt", "tokens", "logits"]


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 3.4e38, 0.1, 16777216.0])
def test_every_float32_keeps_its_bits(trace, edited, tmp_path, value):
    def put(arrays):
        arrays["logits"][0, 0] = value

    write_golden_jsonl([("", edited(put))], tmp_path / "golden.jsonl")
    [read] = read_golden_jsonl(tmp_path / "golden.jsonl")
    assert read["logits"][0, 0].tobytes() == np.float32(value).tobytes()


def test_golden_compares_by_its_logits_alone(trace, edited, tmp_path):
    write_golden_jsonl([("", trace)], tmp_path / "golden.jsonl")
    [golden] = read_golden_jsonl(tmp_path / "golden.jsonl")
    comparison = compare(golden, trace)
    assert comparison.passed
    assert comparison.verdict.startswith("parity holds at the one probe, logits")
    assert "holds logits only; nothing else could be compared" in "".join(comparison.warnings)
    assert not compare(golden, edited(lambda arrays: arrays["logits"].__imul__(1.01))).passed


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected keys prompt, tokens, logits"),
        ('{"tokens": [1]}', "found tokens"),
        ('{"tokens": ["a"], "logits": [[1.0]]}', "not a list of token ids"),
        ('{"tokens": [], "logits": []}', "not a list of token ids"),
        ('{"tokens": [1, 2], "logits": [[1.0, 2.0], [3.0]]}', "expected 2 lists of numbers, all of one length"),
        ('{"tokens": [1, 2], "logits": [[1.0]]}', r"not \[T, V\]; expected 2 lists"),
        ('{"tokens": [1, 2], "logits": [[1.0], [1.0, 2.0]]}', r"not \[T, V\]"),
        ('{"tokens": [1], "logits": [[NaN]]}', "not finite"),
    ],
)
def test_bad_line_is_named(tmp_path, line, words):
    path = tmp_path / "golden.jsonl"
    path.write_text('{"prompt": "", "tokens": [1], "logits": [[1.0]]}\n' + line)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_golden_jsonl(path)
    assert f"{path}:2" in str(caught.value)


@pytest.mark.parametrize(("content", "words"), [(None, "no such golden"), (b"\n", "no line"), (b"\xff\xfe", "UTF-8")])
def test_file_that_is_none_is_refused(tmp_path, content, words):
    path = tmp_path / "golden.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_golden_jsonl(path)


def test_logits_that_json_cannot_say_are_not_written(edited, tmp_path):
    def spoil(arrays):
        arrays["logits"][1, 1] = np.inf

    with pytest.raises(CheckpointError, match=r"logits\[1\]"):
        write_golden_jsonl([("", edited(spoil))], tmp_path / "golden.jsonl")
    assert list(tmp_path.iterdir()) == []
