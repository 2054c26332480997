"""`metrics.jsonl` survives what befalls files: lines that are none are left out, and no others."""

import json

import pytest
from gptoss_train.metrics import MetricsFile, read_metrics
from gptoss_weights import GptOssWarning


def line(step: int) -> bytes:
    return json.dumps({"step": step, "loss": 1.5}).encode() + b"\n"


def steps(path) -> list[int]:
    return [one["step"] for one in read_metrics(path)]


@pytest.mark.parametrize("broken", [b'{"step": 2, "lo\n', b"\xff\xfe\n", b"[2]\n", b'{"step": "2"}\n', b"\n"])
def test_line_that_cannot_be_read_is_left_out_alone_and_counted(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(1) + broken + line(3) + broken + line(4) + line(5))
    assert steps(path) == [1, 3, 4, 5]
    with pytest.warns(GptOssWarning, match=r"metrics\.jsonl: 2 lines cannot be read"):
        file = MetricsFile(path, after_step=4)
    file.write({"step": 5})
    file.close()
    assert steps(path) == [1, 3, 4, 5]


def test_last_line_that_was_cut_off_is_no_cause_to_warn(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line(1) + line(2)[:-5])
    MetricsFile(path, after_step=1).close()
    assert path.read_bytes() == line(1)


def test_where_there_is_no_file_there_are_no_lines(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
