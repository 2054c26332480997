import importlib.metadata
import json

from gptoss_weights.cli_errors import ExitCode


def test_the_doctor_names_runtime_providers_and_profiles(run_command):
    result = run_command("doctor")
    assert result.exit_code == ExitCode.OK, result.stderr
    assert importlib.metadata.version("onnxruntime") in result.stdout
    assert "CPUExecutionProvider" in result.stdout
    assert "portable              runs here" in result.stdout


def test_json_says_the_same(run_command, fast_runtime):
    document = json.loads(run_command("doctor", "--json").stdout)
    assert document["ok"] is True
    assert [profile["name"] for profile in document["profiles"]] == ["portable", "fast", "cuda"]
    assert document["profiles"][1]["problem"] is None
    assert {"onnx", "onnxruntime"} <= {found["name"] for found in document["dependencies"]}


def test_what_is_required_and_missing_has_the_code_of_a_missing_dependency(run_command, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    result = run_command("doctor", "--require", "cuda")
    assert result.exit_code == ExitCode.MISSING_DEPENDENCY
    assert "cuda cannot be used: " in result.stderr


def test_an_old_runtime_runs_portable_exports_only(run_command, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "1.20.1")
    assert run_command("doctor", "--require", "portable").exit_code == ExitCode.OK
    result = run_command("doctor", "--require", "fast")
    assert result.exit_code == ExitCode.MISSING_DEPENDENCY
    assert "fast cannot be used: it needs ONNX Runtime 1.29 or newer, and this is 1.20.1" in result.stderr
