"""What `record` and `golden` run: the source as its own options say, on its own checkpoint."""

import json

import pytest
from click.testing import CliRunner
from gptoss_parity import load_trace
from gptoss_parity.cli import main
from gptoss_weights import open_checkpoint
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.testing import write_tiny_checkpoint


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny", format="openai", num_hidden_layers=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_tiny_checkpoint(
        tmp_path_factory.mktemp("other") / "tiny", format="openai", num_hidden_layers=1, seed=1
    )


def test_source_is_recorded_in_its_own_dtype(run, folder, tmp_path):
    arguments = ("--source", "jax", "--jax-dtype", "bfloat16", "--tokens", "1,2,3", "--output", tmp_path / "t")
    result = run("record", folder, *arguments)
    assert result.exit_code == ExitCode.OK, result.output
    assert "from jax in bfloat16" in result.stdout
    metadata = load_trace(tmp_path / "t").metadata
    assert metadata.dtype == "bfloat16"
    assert "--dtype bfloat16" in metadata.command


def test_source_is_recorded_from_its_own_checkpoint(run, folder, other, tmp_path):
    arguments = ("--source", "onnx", "--onnx-checkpoint", other, "--tokens", "1,2,3", "--output", tmp_path / "t")
    assert run("record", folder, *arguments).exit_code == ExitCode.OK
    metadata = load_trace(tmp_path / "t").metadata
    assert metadata.checkpoint_digest == open_checkpoint(other).digest()
    assert f"record {other} " in metadata.command


def test_golden_is_made_and_checked_with_the_source_s_own_checkpoint(run, folder, other, tmp_path):
    golden = tmp_path / "g.safetensors"
    made = run(
        "golden", "make", folder, "--source", "onnx", "--onnx-checkpoint", other, "--tokens", 1, "--output", golden
    )
    assert made.exit_code == ExitCode.OK, made.output
    facts = json.loads(run("golden", "inspect", golden, "--json").stdout)
    assert facts["checkpoint"] == open_checkpoint(other).digest()
    check = ("golden", "check", golden, folder, "--source", "onnx")
    assert run(*check).exit_code == ExitCode.PARITY_FAILED
    assert run(*check, "--onnx-checkpoint", other).exit_code == ExitCode.OK


@pytest.mark.parametrize("command", ["record", "golden"])
@pytest.mark.parametrize(
    "options",
    [("--jax-mesh", "tensor=2"), ("--torch-dtype", "bfloat16"), ("--torch-device", "cpu"), ("--onnx-threads", 1)],
    ids=lambda options: options[0],
)
def test_option_of_a_source_that_does_not_run_is_a_usage_error(run, folder, tmp_path, command, options):
    words = ("record",) if command == "record" else ("golden", "make")
    arguments = ("--source", "numpy", "--tokens", 1, "--output", tmp_path / "t", *options)
    result = run(*words, folder, *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert f"{options[0]} is for the source" in result.stderr
    assert not (tmp_path / "t").exists()


def test_device_of_torch_is_transformers_too(run, folder, tmp_path):
    result = run("verify", folder, "--sources", "numpy,hf", "--torch-device", "nowhere", "--output", tmp_path)
    assert "--torch-device is for" not in result.stderr


def test_option_of_a_source_that_is_not_verified_is_a_usage_error(run, folder, tmp_path):
    result = run("verify", folder, "--sources", "numpy,onnx", "--jax-moe", "dense", "--output", tmp_path)
    assert result.exit_code == ExitCode.USAGE
    assert "--jax-moe is for the source 'jax', which does not run here" in result.stderr


def test_dtype_that_a_golden_s_source_has_not_is_a_usage_error(run, folder, tmp_path):
    arguments = ("--source", "numpy", "--dtype", "bfloat16", "--tokens", 1, "--output", tmp_path / "g")
    result = run("golden", "make", folder, *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert "computes in float32 only" in result.stderr


def test_options_of_an_export_made_now_do_not_go_with_one_that_exists(run, folder, tmp_path):
    foreign = tmp_path / "model.onnx"
    foreign.write_bytes(b"never opened")
    for place, option in ((tmp_path, ("--onnx-profile", "fast")), (foreign, ("--onnx-mode", "turbo"))):
        arguments = ("--source", "onnx", "--onnx", place, *option, "--tokens", 1, "--output", tmp_path / "t")
        result = run("record", folder, *arguments)
        assert result.exit_code == ExitCode.USAGE
        assert f"{option[0]} is of" in result.stderr
