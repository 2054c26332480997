"""The way through all packages: a checkpoint on disk, two engines, one continuation."""

import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from gptoss_model import generate, load_model
from gptoss_onnx import OnnxModel, export_onnx
from gptoss_weights import open_checkpoint
from gptoss_weights.testing import write_tiny_checkpoint

NEW_TOKENS = 8


def run(*command: str) -> str:
    script = Path(sys.executable).with_name(command[0])
    return subprocess.run([str(script), *command[1:]], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("layout", ["openai", "hf"])
def test_jax_and_onnx_continue_a_random_checkpoint_alike(layout, tmp_path: Path):
    checkpoint = open_checkpoint(write_tiny_checkpoint(tmp_path / "checkpoint", format=layout, seed=3))
    config = checkpoint.config
    past_the_window = [(7 * position + 1) % config.vocab_size for position in range(2 * config.sliding_window + 3)]
    within_the_window = past_the_window[: config.sliding_window - 1]
    onnx_model = OnnxModel.open(export_onnx(checkpoint, tmp_path / "onnx"))
    jax_model = load_model(checkpoint, dtype=jnp.float32)
    for prompt in (past_the_window, within_the_window):
        from_jax = generate(jax_model, [prompt], max_new_tokens=NEW_TOKENS)
        assert [len(tokens) for tokens in from_jax] == [NEW_TOKENS]
        assert onnx_model.generate([prompt], max_new_tokens=NEW_TOKENS) == from_jax


def test_both_commands_write_the_same_json(tmp_path: Path):
    checkpoint = str(write_tiny_checkpoint(tmp_path / "checkpoint", format="openai", seed=4))
    run("gptoss-onnx", "export", checkpoint, str(tmp_path / "onnx"))
    options = ["--tokens", "1,2,3,4,5", "--max-new-tokens", "4", "--ignore-eos", "--json"]
    from_jax = json.loads(run("gptoss-model", "generate", checkpoint, "--dtype", "float32", *options))
    from_onnx = json.loads(run("gptoss-onnx", "run", str(tmp_path / "onnx"), *options))
    assert from_jax.keys() == from_onnx.keys()
    for key in ("prompt_tokens", "tokens", "text"):
        assert from_jax[key] == from_onnx[key]
    assert from_jax["prompt_tokens"] == [1, 2, 3, 4, 5]
    assert len(from_jax["tokens"]) == 4
