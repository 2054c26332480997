"""transformers loads what is written as `hf` and `hf-bf16`, and computes from both what it did from the original."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gptoss_weights import GptOssConfig, convert_checkpoint, open_checkpoint, save_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

pytestmark = pytest.mark.oracle

PROMPT_LENGTH = 29  # past the window of 11


@pytest.fixture
def logits(
    load_in_transformers: Callable[[Path], Any], torch_logits: Callable[[Any, list[int]], np.ndarray]
) -> Callable[[Path, list[int]], np.ndarray]:
    """Logits [T, V] of a folder as transformers loads it."""

    def compute(folder: Path, tokens: list[int]) -> np.ndarray:
        found = torch_logits(load_in_transformers(folder), tokens)
        gc.collect()
        return found

    return compute


def official_logits(folder: Path, tokens: list[int]) -> np.ndarray:
    """Logits [T, V] of a folder as the official code loads it, in bfloat16."""
    import torch
    from gpt_oss.torch.model import Transformer

    model = Transformer.from_checkpoint(str(folder), device="cpu")
    with torch.inference_mode():
        result: np.ndarray = model(torch.as_tensor(tokens)).float().numpy()
    return result


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "original", format="openai", seed=4)


@pytest.mark.parametrize("max_shard_bytes", [None, 200_000])
@pytest.mark.parametrize("target", ["hf", "hf-bf16"])
def test_logits_are_those_of_the_official_code(
    logits: Callable[[Path, list[int]], np.ndarray],
    official: Any,
    original: Path,
    make_prompt: Callable[[GptOssConfig, int], list[int]],
    target: Any,
    max_shard_bytes: int | None,
    tmp_path: Path,
) -> None:
    checkpoint = open_checkpoint(original)
    tokens = make_prompt(checkpoint.config, PROMPT_LENGTH)
    save_checkpoint(checkpoint, tmp_path / "converted", format=target, max_shard_bytes=max_shard_bytes)
    expected = official.record(checkpoint, tokens).arrays["logits"]
    found = logits(tmp_path / "converted", tokens)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-5


def test_both_layouts_give_the_same_logits_bit_by_bit(
    logits: Callable[[Path, list[int]], np.ndarray],
    original: Path,
    make_prompt: Callable[[GptOssConfig, int], list[int]],
    tmp_path: Path,
) -> None:
    checkpoint = open_checkpoint(original)
    tokens = make_prompt(checkpoint.config, PROMPT_LENGTH)
    results = []
    for target in ("hf", "hf-bf16"):
        save_checkpoint(checkpoint, tmp_path / target, format=target)
        results.append(logits(tmp_path / target, tokens))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("way", ["hf-bf16", "flax", "orbax-scanned", "orbax-unscanned"])
def test_what_came_through_plain_experts_computes_the_same(
    logits: Callable[[Path, list[int]], np.ndarray],
    original: Path,
    make_prompt: Callable[[GptOssConfig, int], list[int]],
    way: Any,
    tmp_path: Path,
) -> None:
    if way.startswith("orbax"):
        pytest.importorskip("tensorstore", reason="the extra [orbax] is not installed")
    source = open_checkpoint(original)
    tokens = make_prompt(source.config, PROMPT_LENGTH)
    between = tmp_path / ("between.msgpack" if way == "flax" else "between")
    convert_checkpoint(source, between, format=way)
    for target in ("hf", "hf-bf16", "openai"):
        convert_checkpoint(open_checkpoint(between), tmp_path / target, format=target)
    save_checkpoint(source, tmp_path / "direct", format="hf")
    expected = logits(tmp_path / "direct", tokens)
    for target in ("hf", "hf-bf16"):
        np.testing.assert_array_equal(logits(tmp_path / target, tokens), expected)
    np.testing.assert_array_equal(*(official_logits(folder, tokens) for folder in (original, tmp_path / "openai")))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
def test_what_transformers_saves_opens_with_the_same_values(
    transformers: Any, original: Path, dtype: Any, tmp_path: Path
) -> None:
    import torch

    checkpoint = open_checkpoint(original)
    save_checkpoint(checkpoint, tmp_path / "plain", format="hf-bf16")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=getattr(torch, dtype))
    model.save_pretrained(tmp_path / "theirs", max_shard_size="300KB")
    assert "quantization_config" not in json.loads((tmp_path / "theirs" / "config.json").read_text())
    theirs = open_checkpoint(tmp_path / "theirs")
    assert theirs.format == "hf-bf16"
    assert theirs.config == checkpoint.config
    plain = open_checkpoint(tmp_path / "plain")
    for name in plain:
        found, written = theirs.read_array(name), plain.read_array(name)
        assert found.dtype in (dtype, "float32")  # transformers keeps norms in float32 beside float16
        np.testing.assert_array_equal(
            found.astype(np.float32), written.astype(found.dtype).astype(np.float32), err_msg=name
        )
