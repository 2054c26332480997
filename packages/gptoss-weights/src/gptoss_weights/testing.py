"""Tiny geometries, random checkpoints and hollow ones for everyone's tests.

All dimensions of the tiny geometry differ, so that a transposed matrix or a swapped axis cannot
pass unseen; windows are shorter than a short prompt; YaRN is active.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from gptoss_weights.config import GptOssConfig
from gptoss_weights.mxfp4 import MXFP4_BLOCK_SIZE
from gptoss_weights.random_weights import random_checkpoint
from gptoss_weights.saving import save_checkpoint
from gptoss_weights.schema import tensor_specs

__all__ = ["tiny_config", "write_hollow_checkpoint", "write_tiny_checkpoint"]


def tiny_config(**overrides: Any) -> GptOssConfig:
    """A valid config of a few ten thousand parameters; `overrides` replace any number of it.

    Raises:
        CheckpointError: the overrides make it impossible.
        TypeError: an override is no field of `GptOssConfig`.
    """
    numbers: dict[str, Any] = {
        "num_hidden_layers": 4,
        "num_experts": 7,
        "experts_per_token": 3,
        "vocab_size": 211,
        "hidden_size": 96,
        "intermediate_size": 64,
        "swiglu_limit": 7.0,
        "head_dim": 18,
        "num_attention_heads": 10,
        "num_key_value_heads": 5,
        "sliding_window": 11,
        "initial_context_length": 4096,
        "rope_theta": 150000,
        "rope_scaling_factor": 32.0,
        "rope_ntk_alpha": 1,
        "rope_ntk_beta": 32,
    }
    return GptOssConfig(**(numbers | overrides))


def write_tiny_checkpoint(
    folder: Path | str,
    *,
    format: Literal["openai", "hf"],  # noqa: A002 - as the attribute of Checkpoint
    seed: int = 0,
    max_shard_bytes: int | None = None,
    **overrides: Any,
) -> Path:
    """Writes a random checkpoint of `tiny_config(**overrides)` into a new folder and returns its path.

    The same seed gives the same weights in both formats.
    """
    checkpoint = random_checkpoint(tiny_config(**overrides), seed=seed)
    save_checkpoint(checkpoint, folder, format=format, max_shard_bytes=max_shard_bytes)
    return Path(folder)


def write_hollow_checkpoint(folder: Path | str, config: GptOssConfig) -> Path:
    """Writes a checkpoint of any geometry that takes a few KiB of disk, and returns its path.

    It is a folder in Hugging Face's layout of one file, whose header is real and whose data are a
    hole: every tensor reads as zeros.
    """
    folder = Path(folder)
    header: dict[str, Any] = {}
    end = 0
    for name, dtype, shape in _stored_tensors(config):
        start, end = end, end + math.prod(shape) * (1 if dtype == "U8" else 2)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_huggingface()))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + end)
    return folder


def _stored_tensors(config: GptOssConfig) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of every tensor as Hugging Face's layout stores it."""
    for name, spec in tensor_specs(config).items():
        if spec.is_expert_matrix:
            groups = (*spec.shape[:-1], spec.shape[-1] // MXFP4_BLOCK_SIZE)
            yield f"{name}_blocks", "U8", (*groups, MXFP4_BLOCK_SIZE // 2)
            yield f"{name}_scales", "U8", groups
        else:
            yield name, "BF16", spec.shape
