"""Runs GPT-OSS in JAX: Flax NNX modules over pure functions."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptoss_model.generation import (
        Completion,
        FinishReason,
        NewToken,
        bucket_length,
        complete,
        decode_step,
        generate,
        prefill,
        prompt_logits,
        stream,
    )
    from gptoss_model.kv_cache import KVCache, init_cache
    from gptoss_model.live_checkpoint import model_checkpoint
    from gptoss_model.loading import ExpertForm, abstract_model, load_model
    from gptoss_model.lora import EXPERT_TARGETS, LINEAR_TARGETS, add_lora
    from gptoss_model.model import ForwardOutput, GptOss
    from gptoss_model.parameters import (
        LoraParam,
        PackedParam,
        ParameterSource,
        ParameterSpec,
        ParameterView,
        canonical_names,
    )
    from gptoss_model.sampling import Sampling
    from gptoss_model.sharding.memory import DeviceMemory, memory_per_device
    from gptoss_model.sharding.mesh import make_mesh
    from gptoss_model.sharding.placement import Placement
    from gptoss_model.sharding.rules import MeshRules

__all__ = [
    "EXPERT_TARGETS",
    "LINEAR_TARGETS",
    "Completion",
    "DeviceMemory",
    "ExpertForm",
    "FinishReason",
    "ForwardOutput",
    "GptOss",
    "KVCache",
    "LoraParam",
    "MeshRules",
    "NewToken",
    "PackedParam",
    "ParameterSource",
    "ParameterSpec",
    "ParameterView",
    "Placement",
    "Sampling",
    "abstract_model",
    "add_lora",
    "bucket_length",
    "canonical_names",
    "complete",
    "decode_step",
    "generate",
    "init_cache",
    "load_model",
    "make_mesh",
    "memory_per_device",
    "model_checkpoint",
    "prefill",
    "prompt_logits",
    "stream",
]

# Imported when first asked for: the command line lives in this package too, and answers `--help`
# and wrong arguments without waiting seconds for JAX.
_MODULES = {
    "generation": (
        "Completion",
        "FinishReason",
        "NewToken",
        "bucket_length",
        "complete",
        "decode_step",
        "generate",
        "prefill",
        "prompt_logits",
        "stream",
    ),
    "kv_cache": ("KVCache", "init_cache"),
    "loading": ("ExpertForm", "abstract_model", "load_model"),
    "lora": ("EXPERT_TARGETS", "LINEAR_TARGETS", "add_lora"),
    "model": ("ForwardOutput", "GptOss"),
    "live_checkpoint": ("model_checkpoint",),
    "parameters": ("LoraParam", "PackedParam", "ParameterSource", "ParameterSpec", "ParameterView", "canonical_names"),
    "sampling": ("Sampling",),
    "sharding.memory": ("DeviceMemory", "memory_per_device"),
    "sharding.mesh": ("make_mesh",),
    "sharding.placement": ("Placement",),
    "sharding.rules": ("MeshRules",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"gptoss_model.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
