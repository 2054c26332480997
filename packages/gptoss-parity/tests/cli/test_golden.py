"""`golden make`, `inspect` and `check`, and `selftest`, on the command line."""

import json

import pytest
from click.testing import CliRunner
from gptoss_parity.cli import main
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH, demo_golden_path
from gptoss_weights.testing import write_tiny_checkpoint

TOKENS = ",".join(str(token * 7 % 200) for token in range(30))


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny", format="openai")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("other") / "tiny", format="openai", seed=1)


@pytest.fixture(scope="module", params=["golden.safetensors", "golden.jsonl"])
def golden(request, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / request.param
    arguments = ["golden", "make", str(folder), "--source", "numpy", "--tokens", TOKENS, "--output", str(path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["gptoss-parity", *arguments])  # click's runner does not
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == ExitCode.OK, result.output
    return path


def test_golden_checks_against_its_own_checkpoint_and_no_other(run, golden, folder, other):
    result = run("golden", "check", golden, folder, "--source", "numpy")
    assert result.exit_code == ExitCode.OK, result.output
    assert "parity holds" in result.stdout
    assert run("golden", "check", golden, other, "--source", "numpy").exit_code == ExitCode.PARITY_FAILED


def test_inspecting_says_where_it_comes_from(run, golden):
    facts = json.loads(run("golden", "inspect", golden, "--json").stdout)
    assert facts["tokens"] == 30
    if golden.suffix == ".jsonl":
        assert facts["kind"] == "golden JSONL of 1 prompts"
    else:
        assert facts["source"] == "numpy"
        assert facts["command"].startswith("gptoss-parity golden make ")
        assert set(facts["versions"]) == {"gptoss-parity", "gptoss-weights", "numpy"}
        assert "0 " in facts["kept"]["positions"]


def test_golden_takes_other_limits(run, golden, other):
    flags = ("--atol", 1e6, "--max-kl-div", 1e6)
    assert run("golden", "check", golden, other, "--source", "numpy", *flags).exit_code == ExitCode.OK


def test_whole_trace_serves_as_a_golden(run):
    result = run("golden", "check", demo_golden_path("float32"), DEMO_CHECKPOINT_PATH, "--source", "numpy")
    assert result.exit_code == ExitCode.OK, result.output
    assert "whole trace" in run("golden", "inspect", demo_golden_path("float32")).stdout


def test_checkpoint_of_other_geometry_is_refused(run, golden, folder):
    result = run("golden", "check", golden, folder, "--source", "numpy", "--max-layers", 3)
    is_jsonl = golden.suffix == ".jsonl"
    assert result.exit_code == (ExitCode.PARITY_FAILED if is_jsonl else ExitCode.BAD_INPUT)


def test_damaged_golden_is_bad_input(run, tmp_path, folder):
    (tmp_path / "g.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    result = run("golden", "check", tmp_path / "g.safetensors", folder, "--source", "numpy")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "Git-LFS pointer" in result.stderr


def test_selftest_names_every_fault_and_its_place(run):
    result = run("selftest")
    assert result.exit_code == ExitCode.OK
    assert "✓ one bit of one expert flipped" in result.stdout
    assert "✗" not in result.stdout
    document = json.loads(run("selftest", "--json").stdout)
    assert document["passed"]
    assert all(fault["is_caught"] and fault["found"] == fault["expected"] for fault in document["faults"])


def test_selftest_that_misses_a_fault_ends_with_4(run, monkeypatch):
    from gptoss_parity.plain_model import PlainModel
    from gptoss_parity.selftest import Fault, running

    blind = [Fault(name="nothing", where="logits", model=PlainModel)]
    monkeypatch.setattr(running.run_selftest, "__kwdefaults__", running.run_selftest.__kwdefaults__ | {"faults": blind})
    assert run("selftest").exit_code == ExitCode.PARITY_FAILED


def test_recorded_jsonl_compares_with_a_trace(run, tmp_path, folder):
    for name in ("a.jsonl", "b.safetensors"):
        arguments = ("--source", "numpy", "--tokens", TOKENS, "--output", tmp_path / name)
        assert run("record", folder, *arguments).exit_code == ExitCode.OK
    flags = ("--atol", 0.1, "--rtol", 0.1, "--max-kl-div", 3e-4)
    result = run("compare", tmp_path / "a.jsonl", tmp_path / "b.safetensors", *flags)
    assert result.exit_code == ExitCode.OK, result.output
    assert "the logits keep --atol 0.1 --rtol 0.1 --max-kl-div 0.0003" in result.stdout
    result = run("compare", tmp_path / "a.jsonl", tmp_path / "b.safetensors")
    assert result.exit_code == ExitCode.OK, result.output


def test_recording_can_replay_and_run_a_layer_at_a_time(run, tmp_path, folder):
    common = ("record", folder, "--source", "numpy", "--tokens", TOKENS, "--block-debug")
    assert run(*common, "--output", tmp_path / "a").exit_code == ExitCode.OK
    assert run(*common, "--layerwise", "--replay", tmp_path / "a", "--output", tmp_path / "b").exit_code == ExitCode.OK
    assert run("compare", tmp_path / "a", tmp_path / "b", "--hidden", 0, "--inner", 0).exit_code == ExitCode.OK
