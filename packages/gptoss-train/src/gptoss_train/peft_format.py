"""PEFT's format of adapters: `adapter_config.json` and `adapter_model.safetensors`, for transformers' GPT-OSS.

The update of a linear layer is `….q_proj.lora_A.weight` [r, in] and `….lora_B.weight` [out, r]. That of a
parameter with experts (`target_parameters`) has the factors of all experts in one matrix each: `lora_A`
[E·r, in], expert after expert, and `lora_B` [out, r·E], in which the expert varies fastest. Two parameters of
one module are wrapped one in the other: the names of the inner one, `gate_up_proj`, have a `base_layer.` more.

Source: huggingface/peft 0.21 `tuners/lora/layer.py`, `ParamWrapper`, and `utils/save_and_load.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from gptoss_weights import CheckpointError, GptOssConfig
from gptoss_weights.durable_files import folder_beside, sync_tree
from safetensors.numpy import save_file

from gptoss_train.adapters import Adapter, Update

__all__ = ["peft_tensors", "save_peft_adapter"]

PREFIX = "base_model.model."
EXPERTS = ".mlp.experts."
EXPERT_PARAMETERS = ("gate_up_proj", "down_proj")  # from the inner wrapper to the outer


def save_peft_adapter(adapter: Adapter, folder: Path, *, config: GptOssConfig, base_model: str) -> None:
    """Writes an adapter that `peft.PeftModel.from_pretrained` loads over transformers' model.

    Args:
        adapter: The adapter.
        folder: A new folder.
        config: The geometry of the model.
        base_model: The checkpoint that it updates, by name or path.

    Raises:
        CheckpointError: the folder is there already, or the adapter holds what PEFT cannot.
    """
    if folder.exists():
        raise CheckpointError("there is something already", where=folder, fix="Name a new folder.")
    tensors = peft_tensors(adapter, config)
    draft = folder_beside(folder)
    save_file(tensors, draft / "adapter_model.safetensors", metadata={"format": "pt"})
    (draft / "adapter_config.json").write_text(json.dumps(_config(adapter, base_model), indent=2) + "\n")
    sync_tree(draft)
    draft.rename(folder)


def peft_tensors(adapter: Adapter, config: GptOssConfig) -> dict[str, np.ndarray]:
    """The tensors of an adapter by PEFT's names.

    Raises:
        CheckpointError: sinks were trained, which PEFT has no place for.
    """
    sinks = [name for name in adapter.replaced if name.endswith(".sinks")]
    if sinks:
        raise CheckpointError(
            "PEFT's format has no place for trained sinks",
            where=sinks[0],
            fix="Merge into a checkpoint (--format hf), or train with lora.sinks=false.",
        )
    wrapped = [parameter for parameter in EXPERT_PARAMETERS if f"model.layers.0{EXPERTS}{parameter}" in adapter.updates]
    tensors = {}
    for name, update in adapter.updates.items():
        if EXPERTS in name:
            module, parameter = name.rsplit(".", 1)
            depth = len(wrapped) - 1 - wrapped.index(parameter)
            stem = f"{PREFIX}{module}." + "base_layer." * depth
            a, b = _expert_factors(update, config.num_experts)
        else:
            stem, a, b = f"{PREFIX}{name.removesuffix('.weight')}.", update.a, update.b
        tensors[f"{stem}lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{stem}lora_B.weight"] = np.ascontiguousarray(b)
    for name, value in adapter.replaced.items():
        tensors[PREFIX + name] = np.ascontiguousarray(value)
    return tensors


def _expert_factors(update: Update, experts: int) -> tuple[np.ndarray, np.ndarray]:
    assert len(update.a) == experts
    return update.a.reshape(-1, update.a.shape[-1]), update.b.transpose(1, 2, 0).reshape(update.b.shape[1], -1)


def _config(adapter: Adapter, base_model: str) -> dict[str, Any]:
    last = {name.removesuffix(".weight").rsplit(".", 1)[1] for name in adapter.updates}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(last - set(EXPERT_PARAMETERS)),
        "target_parameters": [f"mlp.experts.{name}" for name in EXPERT_PARAMETERS if name in last],
        "modules_to_save": ["router"] if adapter.replaced else None,
    }
