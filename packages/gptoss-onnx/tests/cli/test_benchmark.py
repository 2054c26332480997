import json

import pytest
from gptoss_weights.cli_errors import ExitCode

SHORT = ["--prompt-tokens", 5, "--new-tokens", 3, "--repeats", 1, "--threads", 1]


def test_a_benchmark_reports_every_time(run_command, exported):
    report = json.loads(run_command("benchmark", exported, *SHORT, "--batch", 2, "--json").stdout)
    assert (report["batch"], report["prompt_tokens"], report["new_tokens"]) == (2, 5, 3)
    assert report["prefill_tokens_per_second"] == pytest.approx(10 / report["prefill_seconds"])
    assert report["decode_tokens_per_second"] == pytest.approx(2 / report["decode_seconds"])
    assert report["peak_memory_bytes"] > 10 << 20


def test_text_names_what_was_measured(run_command, exported):
    result = run_command("benchmark", exported, *SHORT)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert "mode exact, batch 1, 5 tokens and 3 new ones" in result.stdout
    assert "decode" in result.stdout


def test_turbo_of_a_portable_export_is_a_usage_error(run_command, exported):
    result = run_command("benchmark", exported, *SHORT, "--mode", "turbo")
    assert result.exit_code == ExitCode.USAGE
    assert "mode turbo needs an export with profile fast" in result.stderr
