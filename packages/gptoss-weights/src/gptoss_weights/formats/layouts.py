"""What tells the layouts of safetensors files apart: names, shards, configs, small files."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.huggingface import (
    huggingface_plain_tensors,
    huggingface_tensors,
    is_huggingface_name,
)
from gptoss_weights.formats.openai import is_openai_name, openai_dtypes, openai_tensors
from gptoss_weights.formats.raw_tensors import ARRAY_DTYPES, BFLOAT16, RawTensor

__all__ = [
    "HUGGINGFACE",
    "HUGGINGFACE_PLAIN",
    "OPENAI",
    "Layout",
    "SmallFiles",
    "announces_packed_experts",
    "index_text",
]


class SmallFiles(Protocol):
    """Geometry, and dtype of the plain arrays → the config and whatever else the layout writes: name → text."""

    def __call__(self, config: GptOssConfig, dtype: np.dtype = BFLOAT16) -> dict[str, str]:
        """The files' texts by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of safetensors files.

    Attributes:
        name: What `Checkpoint.format` and `save_checkpoint(format=…)` say.
        owns: Whether a raw tensor name is one of this layout's.
        tensors: Every raw tensor of a geometry, in the order in which shards are filled.
        shard_names: Number of shards → their file names.
        default_shard_bytes: Tensor bytes of all files → the most that one file takes by default.
        has_index: Number of shards → whether an index stands beside them.
        small_files: The config and whatever else the layout writes.
        is_packed: Whether its experts are MXFP4.
        array_dtypes: Which dtypes its arrays may have; the first is the published one.
    """

    name: str
    owns: Callable[[str], bool]
    tensors: Callable[[GptOssConfig], list[RawTensor]]
    shard_names: Callable[[int], list[str]]
    default_shard_bytes: Callable[[int], int]
    has_index: Callable[[int], bool]
    small_files: SmallFiles
    is_packed: bool = True
    array_dtypes: tuple[np.dtype, ...] = (BFLOAT16,)

    def tensors_in(self, config: GptOssConfig, dtype: np.dtype) -> list[RawTensor]:
        """`tensors` with the plain arrays in another dtype."""
        return [dataclasses.replace(tensor, array_dtype=dtype) for tensor in self.tensors(config)]


# How transformers learns that the experts are packed; from the published config.json.
HF_QUANTIZATION: Mapping[str, Any] = {
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
    "quant_method": "mxfp4",
}
HF_SHARD_BYTES = 4_800_000_000  # reproduces the published shards of gpt-oss-20b
HF_PLAIN_SHARD_BYTES = 5_000_000_000  # huggingface_hub, MAX_SHARD_SIZE
HF_DTYPE_KEYS = ("dtype", "torch_dtype")  # transformers ≥ 4.56, and before
OPENAI_SHARD_BYTES = 10 * 2**30
OPENAI_SINGLE_FILE_BYTES = 16 * 2**30  # gpt-oss-20b is published as one file of 13.8 GB


def _huggingface_shards(count: int) -> list[str]:
    return [f"model-{number:05d}-of-{count - 1:05d}.safetensors" for number in range(count)]


def _huggingface_plain_shards(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _openai_shards(count: int) -> list[str]:
    if count == 1:
        return ["model.safetensors"]
    return [f"model--{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _openai_shard_bytes(total: int) -> int:
    return OPENAI_SINGLE_FILE_BYTES if total <= OPENAI_SINGLE_FILE_BYTES else OPENAI_SHARD_BYTES


def _huggingface_files(config: GptOssConfig, dtype: np.dtype = BFLOAT16) -> dict[str, str]:
    document = _huggingface_document(config, dtype)
    if not announces_packed_experts(document):
        document = dict(sorted({**document, "quantization_config": HF_QUANTIZATION}.items()))
    return {"config.json": json.dumps(document, indent=2) + "\n"}


def announces_packed_experts(document: Mapping[str, Any]) -> bool:
    """Whether a config of Hugging Face says what transformers has to know of MXFP4 experts."""
    found = document.get("quantization_config")
    return isinstance(found, dict) and found.get("quant_method") == HF_QUANTIZATION["quant_method"]


def _huggingface_plain_files(config: GptOssConfig, dtype: np.dtype = BFLOAT16) -> dict[str, str]:
    document = _huggingface_document(config, dtype)
    document.pop("quantization_config", None)  # transformers would look for packed experts
    return {"config.json": json.dumps(document, indent=2) + "\n"}


def _huggingface_document(config: GptOssConfig, dtype: np.dtype) -> dict[str, Any]:
    document = config.to_huggingface()
    return document | {key: dtype.name for key in HF_DTYPE_KEYS if key in document}


def _openai_files(config: GptOssConfig, dtype: np.dtype = BFLOAT16) -> dict[str, str]:
    if dtype != BFLOAT16:
        raise ValueError(f"OpenAI's layout knows plain arrays in bfloat16 only, not {dtype.name}")
    return {"config.json": json.dumps(config.to_openai()), "dtypes.json": json.dumps(openai_dtypes(config))}


def index_text(shards: Mapping[str, list[RawTensor]], order: list[RawTensor]) -> str:
    """The content of `model.safetensors.index.json`, tensors in the given order."""
    place = {tensor.name: name for name, tensors in shards.items() for tensor in tensors}
    total = sum(tensor.nbytes for tensor in order)
    return json.dumps(
        {"metadata": {"total_size": total}, "weight_map": {tensor.name: place[tensor.name] for tensor in order}}
    )


HUGGINGFACE = Layout(
    name="hf",
    owns=is_huggingface_name,
    tensors=huggingface_tensors,
    shard_names=_huggingface_shards,
    default_shard_bytes=lambda _: HF_SHARD_BYTES,
    has_index=lambda _: True,
    small_files=_huggingface_files,
    array_dtypes=ARRAY_DTYPES,
)
HUGGINGFACE_PLAIN = Layout(
    name="hf-bf16",
    owns=is_huggingface_name,
    tensors=huggingface_plain_tensors,
    shard_names=_huggingface_plain_shards,
    default_shard_bytes=lambda _: HF_PLAIN_SHARD_BYTES,
    has_index=lambda count: count > 1,
    small_files=_huggingface_plain_files,
    is_packed=False,
    array_dtypes=ARRAY_DTYPES,
)
OPENAI = Layout(
    name="openai",
    owns=is_openai_name,
    tensors=openai_tensors,
    shard_names=_openai_shards,
    default_shard_bytes=_openai_shard_bytes,
    has_index=lambda count: count > 1,
    small_files=_openai_files,
)
