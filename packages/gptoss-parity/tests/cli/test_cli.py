"""The command line: what it prints, writes and leaves behind."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from gptoss_parity import load_trace, save_trace
from gptoss_parity.cli import main
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_golden_path


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def files(trace, edited, tmp_path):
    def noise(arrays):
        arrays["logits"] *= 1.01

    save_trace(trace, tmp_path / "a.safetensors")
    save_trace(edited(noise), tmp_path / "b.safetensors")
    return tmp_path / "a.safetensors", tmp_path / "b.safetensors"


def test_help_lists_the_commands(run):
    result = run("--help")
    assert result.exit_code == ExitCode.OK
    assert all(command in result.stdout for command in ("compare", "demo", "record"))


def test_trace_compared_with_itself_holds(run, files):
    result = run("compare", files[0], files[0])
    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines()[-1].startswith("parity holds at all 19 probes")


def test_difference_past_tolerance_fails_with_a_sentence(run, files):
    result = run("compare", *files)
    assert result.exit_code == ExitCode.PARITY_FAILED
    assert result.stderr.startswith("error: parity fails first at logits")
    assert "Traceback" not in result.output


def test_json_goes_to_stdout_alone_even_on_failure(run, files, tmp_path):
    result = run("compare", *files, "--json", "--report", tmp_path / "report")
    assert result.exit_code == ExitCode.PARITY_FAILED
    document = json.loads(result.stdout)
    assert document["passed"] is False
    assert document["comparisons"][0]["failures"][0]["probe"] == "logits"
    assert (tmp_path / "report" / "report.html").is_file()
    assert json.loads((tmp_path / "report" / "report.json").read_text())["passed"] is False


def test_limits_are_options(run, files):
    assert run("compare", *files, "--hidden", "0.1", "--token", "0.1").exit_code == ExitCode.OK
    assert run("compare", files[0], files[0], "--hidden", "0").exit_code == ExitCode.OK
    for impossible in ("-1", "nan", "x"):
        assert run("compare", *files, "--hidden", impossible).exit_code == ExitCode.USAGE


def test_different_tokens_are_bad_input(run, files, trace, tmp_path):
    other = type(trace)(trace.tokens[::-1], trace.arrays, trace.metadata)
    save_trace(other, tmp_path / "c.safetensors")
    result = run("compare", files[0], tmp_path / "c.safetensors")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "different tokens" in result.stderr


def test_missing_and_broken_files_are_bad_input(run, files, tmp_path):
    (tmp_path / "broken").write_text("<html>")
    for name in ("absent", "broken"):
        result = run("compare", files[0], tmp_path / name)
        assert result.exit_code == ExitCode.BAD_INPUT
        assert name in result.stderr


def test_different_digests_warn_and_pass(run, edited, tmp_path):
    for name in ("a", "b"):
        save_trace(edited(checkpoint_digest=name * 64), tmp_path / name)
    result = run("compare", tmp_path / "a", tmp_path / "b")
    assert result.exit_code == ExitCode.OK
    assert "warning: the traces come from different checkpoints" in result.stderr


@pytest.mark.parametrize("source", ["jax", "onnx"])
def test_recorded_trace_agrees_with_the_golden(run, tmp_path, source):
    golden = demo_golden_path("float32")
    row = ",".join(map(str, load_trace(golden).tokens))
    output = tmp_path / "trace.safetensors"
    result = run("record", DEMO_CHECKPOINT_PATH, "--source", source, "--tokens", row, "--output", output)
    assert result.exit_code == ExitCode.OK, result.output
    command = load_trace(output).metadata.command
    assert command.startswith("gptoss-parity record ")
    assert f"--source {source} --dtype float32 --tokens {row} --output {output}" in command
    assert run("compare", golden, output).exit_code == ExitCode.OK


@pytest.mark.parametrize(
    "tokens", ["", ",", "1,,2", "1,x", "1,-2", "1.5", "²", "9" * 5000], ids=lambda tokens: tokens[:5]
)
def test_tokens_that_are_none_are_a_usage_error(run, tmp_path, tokens):
    result = run("record", DEMO_CHECKPOINT_PATH, "--source", "jax", "--tokens", tokens, "--output", tmp_path / "t")
    assert result.exit_code == ExitCode.USAGE
    assert "1,2,3" in result.stderr


def test_token_outside_the_vocabulary_is_a_usage_error(run, tmp_path):
    result = run("record", DEMO_CHECKPOINT_PATH, "--source", "jax", "--tokens", "1,99999", "--output", tmp_path / "t")
    assert result.exit_code == ExitCode.USAGE
    assert "token id 99999 at place 1 is not in the vocabulary" in result.stderr
    assert not (tmp_path / "t").exists()


def test_dtype_that_a_source_has_not_is_a_usage_error(run, tmp_path):
    arguments = ["--source", "onnx", "--tokens", "1", "--dtype", "bfloat16", "--output", tmp_path / "t"]
    result = run("record", DEMO_CHECKPOINT_PATH, *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert "computes in float32 only" in result.stderr


def test_missing_checkpoint_is_bad_input(run, tmp_path):
    result = run("record", tmp_path / "absent", "--source", "jax", "--tokens", "1", "--output", tmp_path / "t")
    assert result.exit_code == ExitCode.BAD_INPUT


def test_missing_source_says_how_to_install_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.delitem(__import__("sys").modules, "gptoss_parity.sources.openai_torch", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "gpt_oss", None)
    result = run("record", DEMO_CHECKPOINT_PATH, "--source", "torch", "--tokens", "1", "--output", tmp_path / "t")
    assert result.exit_code == ExitCode.MISSING_DEPENDENCY
    assert "pip install 'gptoss-parity[torch]'" in result.stderr


class TestDemo:
    """The command around `run_demo`, which has tests of its own."""

    @pytest.fixture
    def reports(self, trace, edited, monkeypatch):
        from gptoss_parity import compare, demo
        from gptoss_parity.cli import demo as command
        from gptoss_parity.report import Continuation, Report

        def stand_in(output, **_):
            candidate = edited(lambda arrays: arrays["logits"].__imul__(np.float32(self.scale)))
            new = {"jax": [1, 2], "onnx": [1, 2]}
            continuation = Continuation(prompt="We", tokens=new, texts=dict.fromkeys(new, " the"))
            return Report(title="t", comparisons=[compare(trace, candidate)], continuation=continuation)

        monkeypatch.setattr(demo, "run_demo", stand_in)
        monkeypatch.setattr(command, "run_demo", stand_in)

    def test_last_line_says_that_all_holds(self, reports, run):
        self.scale = 1
        result = run("demo")
        assert result.exit_code == ExitCode.OK
        assert result.stdout.splitlines()[-1].startswith("ALL HOLDS: parity holds")
        assert "continued alike by jax and onnx: ' the'" in result.stdout
        assert result.stderr == ""

    def test_last_line_and_exit_code_say_that_parity_fails(self, reports, run):
        self.scale = 1.5
        result = run("demo")
        assert result.exit_code == ExitCode.PARITY_FAILED
        assert result.stdout.splitlines()[-1].startswith("PARITY FAILS: parity fails first at logits")
