import dataclasses

from gptoss_parity import LogitsCheck, compare
from gptoss_parity.noise import measure_noise
from gptoss_parity.report import NotRun, Report, report_markdown


def test_verdict_comes_first_and_tables_are_whole(sound):
    lines = report_markdown(sound).splitlines()
    assert lines[0] == "# Two & two"
    assert lines[2].startswith("**✓ Parity holds**: ")
    for line in lines:
        assert not line.startswith("|") or line.endswith("|")
    assert "go" in lines


def test_failures_and_hostile_names_are_told(broken):
    text = report_markdown(broken)
    assert "✗ Parity fails" in text
    assert "- ✗ `embedding`: missing in the candidate" in text
    assert "<script>" not in text


def test_all_that_was_found_stands_there(trace):
    noise = measure_noise(trace, trace, "run again")
    comparison = dataclasses.replace(compare(trace, trace, check=LogitsCheck(atol=1.0)), noise=(noise,), prompt=2)
    missing = NotRun(name="hf", code=5, sentence="source 'hf' lacks 'torch'", is_asked_for=False)
    text = report_markdown(Report(title="t", comparisons=[comparison], not_run=(missing,), seed=7))
    assert "prompt 2" in text
    assert "- the reference run again is exactly the same" in text
    assert "- not run: source 'hf' lacks 'torch'" in text
    assert "Random prompt, seed 7." in text
    assert "| 4096 | 4096, beyond the first context | not reached |" in text
