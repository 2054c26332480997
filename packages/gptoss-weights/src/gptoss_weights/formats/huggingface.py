"""Hugging Face's layout with MXFP4 experts: canonical names, `_blocks` and `_scales` beside them.

Shards `model-0000i-of-0000n.safetensors` are numbered from 0 and the last number is count − 1;
tensors come in the order of their sorted `original/` names, as in the published repositories.
"""

from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.openai import openai_tensors
from gptoss_weights.formats.raw_tensors import RawTensor, raw_tensor, split_mxfp4

__all__ = ["huggingface_tensors", "is_huggingface_name"]


def is_huggingface_name(raw_name: str) -> bool:
    """Whether a raw tensor name is one of this layout's."""
    return raw_name.startswith(("model.", "lm_head."))


def huggingface_tensors(config: GptOssConfig) -> list[RawTensor]:
    """Every tensor of the layout, in the order in which the published shards are filled."""
    tensors: list[RawTensor] = []
    for original in sorted(openai_tensors(config), key=lambda tensor: tensor.name):
        for part in original.parts:
            name = part.spec.name
            if part.half == "blocks":
                tensors += split_mxfp4(f"{name}_blocks", f"{name}_scales", part.spec)
            elif part.half == "array":
                tensors.append(raw_tensor(name, [part.spec]))
    return tensors
