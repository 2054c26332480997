"""The whole main job, once; what it prints is tested with the command."""

import json

import pytest
from gptoss_parity import load_trace
from gptoss_parity.demo import run_demo
from gptoss_weights.demo import demo_checkpoint


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "parity-report"


@pytest.fixture(scope="module")
def report(output):
    return run_demo(output, command="gptoss-parity demo")


def test_everything_holds(report):
    assert report.passed, report.verdict
    titles = [comparison.title for comparison in report.comparisons]
    assert titles == [
        "jax float32 against openai-torch float32",
        "onnx float32 against openai-torch float32",
        "jax bfloat16 against openai-torch bfloat16",
    ]
    assert report.continuation.agrees


def test_prompt_is_longer_than_the_window(report):
    assert len(report.comparisons[0].tokens) > demo_checkpoint().config.sliding_window


def test_output_holds_report_and_traces(report, output):
    assert {path.name for path in output.iterdir() if not path.name.endswith("_summary.md")} == {
        "report.html",
        "report.json",
        "jax.bfloat16.safetensors",
        "jax.float32.safetensors",
        "onnx.float32.safetensors",
        "openai-torch.bfloat16.safetensors",
        "openai-torch.float32.safetensors",
    }
    assert json.loads((output / "report.json").read_text())["passed"] is True
    assert load_trace(output / "jax.float32.safetensors").metadata.command == "gptoss-parity demo"


def test_reference_is_the_official_code(report):
    for comparison in report.comparisons:
        assert comparison.reference.metadata.source == "openai-torch"
        assert "gpt-oss" in comparison.reference.metadata.versions
