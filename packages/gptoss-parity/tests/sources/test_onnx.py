"""The ONNX source against the goldens of the official code."""

import importlib.metadata
import tempfile
from pathlib import Path

import pytest
from gptoss_onnx.session import LEAST_RUNTIME
from gptoss_parity import compare, make_source

RUNTIME = tuple(int(part) for part in importlib.metadata.version("onnxruntime").split(".")[:2])
needs_fast = pytest.mark.skipif(LEAST_RUNTIME["fast"] > RUNTIME, reason="profile fast needs a newer ONNX Runtime")


def test_onnx_agrees_with_the_official_code_and_cleans_up(demo, golden, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    comparison = compare(golden, make_source("onnx", threads=1).record(demo, golden.tokens))
    assert comparison.passed, comparison.verdict
    assert not comparison.warnings
    assert list(Path(tmp_path).iterdir()) == []


def test_metadata_say_what_ran(demo, golden):
    metadata = make_source("onnx", threads=1).record(demo, golden.tokens[:3]).metadata
    assert (metadata.source, metadata.dtype, metadata.options) == ("onnx", "float32", {"threads": "1"})
    assert {"onnxruntime", "gptoss-onnx"} <= set(metadata.versions)


def test_bfloat16_is_refused(demo):
    with pytest.raises(ValueError, match="the source 'onnx' computes in float32, not in bfloat16"):
        make_source("onnx").record(demo, [1], dtype="bfloat16")


@pytest.mark.numbers
def test_continuation_equals_that_of_jax(demo, golden):
    continuations = [make_source(name).generate(demo, golden.tokens, max_new_tokens=4) for name in ("onnx", "jax")]
    assert continuations[0] == continuations[1]
    assert len(continuations[0]) == 4


@needs_fast
def test_other_operators_agree_with_the_official_code_too(demo, golden):
    trace = make_source("onnx", profile="fast").record(demo, golden.tokens)
    comparison = compare(golden, trace)
    assert comparison.passed, comparison.verdict
    assert trace.metadata.options["profile"] == "fast"


@needs_fast
def test_rounded_activations_are_told_from_exact_ones(demo, golden):
    trace = make_source("onnx", profile="fast", mode="turbo").record(demo, golden.tokens)
    assert not compare(golden, trace).passed
    assert trace.metadata.options["mode"] == "turbo"


def test_mode_that_the_profile_does_not_have_is_refused(demo):
    with pytest.raises(ValueError, match="mode turbo is of exports with profile fast, not portable"):
        make_source("onnx", mode="turbo").record(demo, [1])
