"""Hugging Face's layouts: canonical names, and experts either packed or plain.

Packed experts, as published, are `…_blocks` and `…_scales`. Plain ones have no suffix and stand
**transposed**: `gate_up_proj [E, D, 2F]` and `down_proj [E, F, D]`, as transformers multiplies them.
Tensors come in the order of their sorted `original/` names, as in the published repositories.
"""

from collections.abc import Iterator

from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.openai import openai_tensors
from gptoss_weights.formats.raw_tensors import RawTensor, raw_tensor, split_mxfp4
from gptoss_weights.schema import TensorSpec

__all__ = ["huggingface_plain_tensors", "huggingface_tensors", "is_huggingface_name"]


def is_huggingface_name(raw_name: str) -> bool:
    """Whether a raw tensor name is one of this layout's."""
    return raw_name.startswith(("model.", "lm_head."))


def huggingface_tensors(config: GptOssConfig) -> list[RawTensor]:
    """Every tensor of the layout with packed experts, in the order in which the published shards are filled."""
    tensors: list[RawTensor] = []
    for spec in _published_order(config):
        if spec.is_expert_matrix:
            tensors += split_mxfp4(f"{spec.name}_blocks", f"{spec.name}_scales", spec)
        else:
            tensors.append(raw_tensor(spec.name, [spec]))
    return tensors


def huggingface_plain_tensors(config: GptOssConfig) -> list[RawTensor]:
    """Every tensor of the layout with plain experts, in the same order."""
    return [raw_tensor(spec.name, [spec], is_transposed=spec.is_expert_matrix) for spec in _published_order(config)]


def _published_order(config: GptOssConfig) -> Iterator[TensorSpec]:
    for original in sorted(openai_tensors(config), key=lambda tensor: tensor.name):
        for part in original.parts:
            if part.half != "scales":  # the other half of the tensor whose blocks came before
                yield part.spec
