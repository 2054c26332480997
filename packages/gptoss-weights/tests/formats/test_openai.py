"""OpenAI's layout: fused qkv with the rows of q, k and v; everything else under another name."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from gptoss_weights import Mxfp4Tensor, open_checkpoint, random_checkpoint
from gptoss_weights.formats.openai import is_openai_name, openai_dtypes, openai_tensors
from gptoss_weights.testing import tiny_config, write_tiny_checkpoint

ARRAYS = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.scale": "model.norm.weight",
    "unembedding.weight": "lm_head.weight",
    "block.1.attn.norm.scale": "model.layers.1.input_layernorm.weight",
    "block.1.attn.sinks": "model.layers.1.self_attn.sinks",
    "block.1.attn.out.weight": "model.layers.1.self_attn.o_proj.weight",
    "block.1.attn.out.bias": "model.layers.1.self_attn.o_proj.bias",
    "block.1.mlp.norm.scale": "model.layers.1.post_attention_layernorm.weight",
    "block.1.mlp.gate.weight": "model.layers.1.mlp.router.weight",
    "block.1.mlp.gate.bias": "model.layers.1.mlp.router.bias",
    "block.1.mlp.mlp1_bias": "model.layers.1.mlp.experts.gate_up_proj_bias",
    "block.1.mlp.mlp2_bias": "model.layers.1.mlp.experts.down_proj_bias",
}


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, np.ndarray]:
    """What the safetensors library finds in a random tiny checkpoint."""
    folder = write_tiny_checkpoint(tmp_path / "openai", format="openai")
    return safetensors.numpy.load_file(folder / "model.safetensors")


@pytest.mark.parametrize(("name", "canonical"), ARRAYS.items())
def test_array_stands_under_its_openai_name(raw: dict[str, np.ndarray], name: str, canonical: str) -> None:
    np.testing.assert_array_equal(raw[name], random_checkpoint(tiny_config(), seed=0).read_array(canonical))


@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_qkv_stacks_the_rows_of_q_then_k_then_v(raw: dict[str, np.ndarray], kind: str) -> None:
    made = random_checkpoint(tiny_config(), seed=0)
    q, k, v = (made.read_array(f"model.layers.1.self_attn.{part}_proj.{kind}") for part in "qkv")
    np.testing.assert_array_equal(raw[f"block.1.attn.qkv.{kind}"], np.concatenate([q, k, v]))


@pytest.mark.parametrize(("name", "canonical"), [("mlp1_weight", "gate_up_proj"), ("mlp2_weight", "down_proj")])
def test_expert_matrix_is_two_tensors(raw: dict[str, np.ndarray], name: str, canonical: str) -> None:
    packed = random_checkpoint(tiny_config(), seed=0).read(f"model.layers.1.mlp.experts.{canonical}")
    assert isinstance(packed, Mxfp4Tensor)
    np.testing.assert_array_equal(raw[f"block.1.mlp.{name}.blocks"], packed.blocks)
    np.testing.assert_array_equal(raw[f"block.1.mlp.{name}.scales"], packed.scales)


def test_every_name_is_the_layouts_own_and_every_parameter_is_in_it_once(raw: dict[str, np.ndarray]) -> None:
    tensors = openai_tensors(tiny_config())
    assert {tensor.name for tensor in tensors} == set(raw) == set(openai_dtypes(tiny_config()))
    assert all(is_openai_name(tensor.name) for tensor in tensors)
    parts = [(part.spec.name, part.half) for tensor in tensors for part in tensor.parts]
    assert len(parts) == len(set(parts)) == 3 + 4 * (17 + 2)


def test_stored_row_groups_are_those_of_the_file(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "openai", format="openai")
    checkpoint = open_checkpoint(folder)
    offsets = [checkpoint.stored(f"model.layers.2.self_attn.{part}_proj.weight") for part in "qkv"]
    rows = 2 * tiny_config().hidden_size  # bytes of a row
    assert offsets[1].offset - offsets[0].offset == tiny_config().q_size * rows  # type: ignore[union-attr]
    assert offsets[2].offset - offsets[1].offset == tiny_config().kv_size * rows  # type: ignore[union-attr]
