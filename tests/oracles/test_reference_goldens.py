"""The reference goldens, where they are present: recorded by others, from the official code and transformers."""

import pytest
from gptoss_parity import compare
from gptoss_weights import open_checkpoint

pytestmark = pytest.mark.oracle

FOLDERS = ["tiny", "tiny/original", "tiny-sharded", "tiny-sharded/original"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    ("source", "run", "dtype"),
    [
        ("official", "openai.f32", "float32"),
        ("official", "openai.bf16", "bfloat16"),
        ("jax", "openai.f32", "float32"),
        ("jax", "openai.bf16", "bfloat16"),
        ("jax", "hf.f32", "float32"),
        ("onnx", "openai.f32", "float32"),
    ],
)
def test_source_agrees_with_the_reference(request, reference, reference_trace, folder, source, run, dtype):
    checkpoint = open_checkpoint(reference / folder)
    golden = reference_trace(folder.partition("/")[0], run, dtype, checkpoint.config)
    trace = request.getfixturevalue(source).record(checkpoint, golden.tokens, dtype=dtype)
    comparison = compare(golden, trace)
    assert comparison.passed, comparison.verdict


@pytest.mark.parametrize("name", ["tiny", "tiny-sharded"])
@pytest.mark.parametrize("run", ["openai.f32", "hf.f32", "openai.bf16", "hf.bf16"])
def test_references_pass_each_other_with_default_limits(reference, reference_trace, name, run):
    config = open_checkpoint(reference / name).config
    truth = reference_trace(name, "spec.f64", "float32", config)
    dtype = "bfloat16" if run.endswith("bf16") else "float32"
    comparison = compare(truth, reference_trace(name, run, dtype, config))
    assert comparison.passed, comparison.verdict
