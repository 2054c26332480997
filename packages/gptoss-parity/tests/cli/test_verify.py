"""`verify`: processes, exit codes, and what it leaves behind. NumPy and ONNX Runtime, for they start soon."""

import json

import pytest
from click.testing import CliRunner
from gptoss_parity import load_trace
from gptoss_parity.cli import main
from gptoss_weights.cli_errors import ExitCode
from gptoss_weights.testing import write_tiny_checkpoint


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(main, ["verify", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny", format="openai", num_hidden_layers=2)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_tiny_checkpoint(
        tmp_path_factory.mktemp("other") / "tiny", format="openai", num_hidden_layers=2, seed=1
    )


@pytest.fixture
def in_process(monkeypatch):
    """Does each job here: what is tested is not that a process starts, which takes seconds."""
    from gptoss_parity import verification
    from gptoss_parity.worker import Job, record_job
    from gptoss_weights import CheckpointError

    def run(job, source):
        try:
            record_job(Job.from_json(job.read_text()))
        except CheckpointError as error:
            raise verification.ChildFailedError(ExitCode.BAD_INPUT, str(error)) from None

    monkeypatch.setattr(verification, "_run_child", run)


@pytest.fixture
def forgotten(monkeypatch):
    """Makes a package look as if it were not installed."""
    from gptoss_parity import sources

    def forget(*names):
        monkeypatch.setattr(sources, "_is_installed", lambda module: module not in names)

    return forget


def test_sources_run_and_agree(run, folder, tmp_path):
    result = run(folder, "--sources", "numpy,onnx", "--output", tmp_path, "--block-debug", "--random-tokens", 30)
    assert result.exit_code == ExitCode.OK, result.output
    assert "PARITY HOLDS" in result.stdout
    assert "positions not reached by this prompt: 4095, 4096, 4097" in result.stdout
    assert "the reference run again is exactly the same" in result.stdout
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["passed"]
    assert document["seed"] == 0
    [comparison] = document["comparisons"]
    assert [canary["position"] for canary in comparison["canaries"] if canary["is_reached"]] == [0, 10, 11, 12, 29]
    assert any(probe["name"] == "layers.1.expert_outputs" for probe in comparison["probes"])
    assert {path.name for path in (tmp_path / "traces").iterdir()} == {
        "numpy.float32.safetensors", "onnx.float32.safetensors",
    }  # fmt: skip
    trace = load_trace(tmp_path / "traces" / "onnx.float32.safetensors")
    assert trace.metadata.command.startswith(
        f"gptoss-parity record {folder} --source onnx --dtype float32 --block-debug --tokens "
    )
    [summary] = tmp_path.glob("*_summary.md")
    assert "not reached" in summary.read_text()


def test_other_weights_of_one_source_fail_with_the_first_probe(run, folder, other, tmp_path, in_process):
    arguments = ("--sources", "numpy,onnx", "--tokens", "1,2,3", "--onnx-checkpoint", other, "--output", tmp_path)
    result = run(folder, *arguments)
    assert result.exit_code == ExitCode.PARITY_FAILED
    assert "PARITY FAILS: parity fails first at embedding" in result.stdout
    assert "warning: the traces come from different checkpoints" in result.stderr


def test_maxtext_flags_judge_the_logits(run, folder, other, tmp_path, in_process):
    flags = ("--atol", 0.1, "--rtol", 0.1, "--max-kl-div", 3e-4, "--no-noise", "--output", tmp_path)
    sources = ("--sources", "numpy,onnx", "--tokens", "1,2,3")
    result = run(folder, *sources, *flags)
    assert result.exit_code == ExitCode.OK
    assert "the logits keep --atol 0.1 --rtol 0.1 --max-kl-div 0.0003" in result.stdout
    assert run(folder, *sources, *flags, "--onnx-checkpoint", other).exit_code == ExitCode.PARITY_FAILED


def test_missing_source_that_was_named_ends_with_5_and_the_others_run(run, folder, tmp_path, forgotten, in_process):
    forgotten("transformers")
    result = run(folder, "--sources", "numpy,hf,onnx", "--tokens", "1,2,3", "--output", tmp_path)
    assert result.exit_code == ExitCode.MISSING_DEPENDENCY
    assert "pip install 'gptoss-parity[hf]'" in result.stderr
    assert "PARITY HOLDS" in result.stdout
    assert [problem["name"] for problem in json.loads((tmp_path / "report.json").read_text())["not_run"]] == ["hf"]


def test_failed_parity_weighs_more_than_a_missing_source(run, folder, other, tmp_path, forgotten, in_process):
    forgotten("transformers")
    arguments = ("--sources", "numpy,hf,onnx", "--tokens", "1,2,3", "--onnx-checkpoint", other, "--output", tmp_path)
    assert run(folder, *arguments).exit_code == ExitCode.PARITY_FAILED


def test_by_default_what_is_missing_is_named_and_not_held_against_anyone(run, folder, tmp_path, forgotten, in_process):
    forgotten("transformers", "gpt_oss", "gptoss_model")
    result = run(folder, "--tokens", "1,2,3", "--output", tmp_path)
    assert result.exit_code == ExitCode.OK, result.output
    assert "onnx float32 against numpy float32" not in result.stdout  # onnx is the only one, and numpy joins it
    assert "numpy float32 against onnx float32" in result.stdout
    for extra in ("torch", "hf", "jax"):
        assert f"note: not run: source '{extra}' lacks" in result.stderr


def test_nothing_to_compare_ends_with_5(run, folder, tmp_path, forgotten):
    forgotten("transformers", "gpt_oss")
    result = run(folder, "--sources", "hf,torch", "--tokens", "1,2,3", "--output", tmp_path)
    assert result.exit_code == ExitCode.MISSING_DEPENDENCY
    assert "no two sources to compare" in result.stderr


def test_several_prompts_are_compared_each(run, folder, tmp_path, in_process):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"tokens": [1, 2, 3]}\n{"tokens": [4, 5, 6, 7]}\n')
    result = run(folder, "--sources", "numpy,onnx", "--prompts", prompts, "--output", tmp_path, "--max-tokens", 3)
    assert result.exit_code == ExitCode.OK, result.output
    titles = [c["title"] for c in json.loads((tmp_path / "report.json").read_text())["comparisons"]]
    assert [title.rpartition(", ")[2] for title in titles] == ["prompt 1", "prompt 2"]
    assert len(load_trace(tmp_path / "traces" / "onnx.float32.2.safetensors").tokens) == 3


def test_existing_export_is_run_and_what_it_lacks_is_not_missed(run, folder, tmp_path, in_process):
    from gptoss_onnx import export_onnx
    from gptoss_weights import open_checkpoint

    export = export_onnx(open_checkpoint(folder), tmp_path / "export", probes=["layers.1.output"])
    arguments = ("--sources", "numpy,onnx", "--tokens", "1,2,3", "--onnx", export, "--output", tmp_path / "report")
    result = run(folder, *arguments)
    assert result.exit_code == ExitCode.OK, result.output
    assert "holds layers.1.output, logits only" in result.stderr
    result = run(folder, *arguments, "--max-layers", 1)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "the export is of a model with another num_hidden_layers" in result.stderr


def test_candidate_that_ends_with_an_error_is_no_success(run, folder, tmp_path, in_process):
    (tmp_path / "damaged").mkdir()
    arguments = ("--sources", "numpy,onnx", "--tokens", "1", "--onnx-checkpoint", tmp_path / "damaged")
    result = run(folder, *arguments, "--output", tmp_path / "report")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "NOTHING COMPARED: nothing was compared, for " in result.stdout
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert document["passed"] is False
    assert document["not_run"][0]["code"] == ExitCode.BAD_INPUT


def test_damaged_checkpoint_of_the_reference_is_bad_input(run, tmp_path):
    assert run(tmp_path, "--sources", "numpy,onnx", "--tokens", "1").exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sources", "numpy,tf"), "'tf' is not one of"),
        (("--sources", "onnx:bfloat16,numpy"), "computes in float32 only"),
        (("--sources", "numpy,numpy"), "stands there twice"),
        (("--sources", "numpy"), "'numpy' alone is compared with nothing"),
        (("--tokens", "1", "--random-tokens", "3"), "Give one of"),
        (("--tokens", "1", "--judge-all"), "--judge-all goes with"),
        (("--tokens", "1", "--hidden", "nan"), "at least 0"),
        (("--tokens", "1", "--max-kl-div", "nan"), "at least 0"),
    ],
)
def test_wrong_arguments_are_usage_errors(run, folder, tmp_path, arguments, words):
    result = run(folder, "--output", tmp_path, *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr


def test_process_that_is_killed_is_told_from_one_that_fails(tmp_path, monkeypatch):
    from gptoss_parity import verification

    job = tmp_path / "job.json"
    job.write_text("{}")
    with pytest.raises(verification.ChildFailedError) as caught:
        verification._run_child(job, "jax")
    assert caught.value.code == ExitCode.INTERNAL_ERROR
    monkeypatch.setattr(verification.sys, "executable", str(_killed(tmp_path)))
    with pytest.raises(
        verification.ChildFailedError, match="ended by SIGKILL, as the system does when memory"
    ) as caught:
        verification._run_child(job, "jax")
    assert caught.value.code == ExitCode.NOT_ENOUGH_SPACE


def _killed(folder):
    script = folder / "killed"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    return script
