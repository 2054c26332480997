"""The official PyTorch code as a source: `gpt_oss.torch`, its own modules and its own MXFP4 decode.

Weights come through our lazy checkpoint, so that both layouts work; what the official loader does
with the stored bytes stays its own. Only the reading of a stored tensor is replaced, by one that
finds it under its canonical name. In bfloat16 the model runs as published: matrices, biases and
sinks bf16, norm scales f32. In float32 the parameters are float32, to which bf16 is upcast exactly.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import gpt_oss.torch.model as official_model
import gpt_oss.torch.weights as official_weights
import numpy as np
import torch
from gptoss_weights import Checkpoint, GptOssConfig, Mxfp4Tensor

from gptoss_parity.sources.base import Dtype, require_dtype
from gptoss_parity.sources.openai_tracing import forward_with_probes
from gptoss_parity.sources.torch_tensors import TorchRunner, TorchSource, Undrawn, checked_device, to_torch

__all__ = ["OpenAITorchSource", "load_official_model", "official_parameter_names"]

# The official parameter's name → canonical names, stacked along the rows (q, k and v are one matrix).
_MODEL_PARAMETERS = {
    "embedding.weight": ("model.embed_tokens.weight",),
    "norm.scale": ("model.norm.weight",),
    "unembedding.weight": ("lm_head.weight",),
}
_LAYER_PARAMETERS = {
    "attn.norm.scale": ("input_layernorm.weight",),
    "attn.qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "attn.qkv.bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    "attn.sinks": ("self_attn.sinks",),
    "attn.out.weight": ("self_attn.o_proj.weight",),
    "attn.out.bias": ("self_attn.o_proj.bias",),
    "mlp.norm.scale": ("post_attention_layernorm.weight",),
    "mlp.gate.weight": ("mlp.router.weight",),
    "mlp.gate.bias": ("mlp.router.bias",),
    "mlp.mlp1_weight": ("mlp.experts.gate_up_proj",),
    "mlp.mlp1_bias": ("mlp.experts.gate_up_proj_bias",),
    "mlp.mlp2_weight": ("mlp.experts.down_proj",),
    "mlp.mlp2_bias": ("mlp.experts.down_proj_bias",),
}
_BLOCK_NAME = re.compile(r"block\.(\d+)\.(.+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenAITorchSource(TorchSource):
    """Records what `gpt_oss.torch.model.Transformer` computes on a torch device."""

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "openai-torch"

    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> "_OfficialRunner":
        """The official model.

        Raises:
            MissingDependencyError: this machine has no such device.
        """
        require_dtype(self, dtype)
        model = load_official_model(checkpoint, dtype=dtype, device=self.device)
        return _OfficialRunner(checkpoint, dtype, self, ("gpt-oss",), {}, model)


@dataclasses.dataclass(frozen=True)
class _OfficialRunner(TorchRunner):
    model: official_model.Transformer

    def forward(
        self,
        prompt: np.ndarray,
        forced: Sequence[np.ndarray] | None,
        *,
        block_debug: bool,  # noqa: ARG002 - all are seen as they pass
    ) -> Mapping[str, np.ndarray]:
        return forward_with_probes(self.model, prompt, torch.device(self.source.device), forced=forced)


def load_official_model(checkpoint: Checkpoint, *, dtype: Dtype, device: str = "cpu") -> official_model.Transformer:
    """The official Transformer with a checkpoint's weights, one tensor in flight at a time.

    Source: openai/gpt-oss torch/model.py, `Transformer.from_checkpoint`.
    """
    place = checked_device(device)
    with Undrawn():
        model = official_model.Transformer(_official_config(checkpoint.config), device=place).eval()
    if dtype == "float32":
        model = model.float()  # before anything is loaded, so that float32 weights are not rounded on the way
    weights = _CanonicalCheckpoint(checkpoint, place)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(weights.get(name))
    return model


class _CanonicalCheckpoint(official_weights.Checkpoint):  # type: ignore[misc]  # gpt-oss ships no types
    """The official checkpoint reader, over our lazy mapping instead of a folder."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self._checkpoint = checkpoint
        self.device_str = str(device)
        # The official code asserts that a name it is about to read stands in here.
        self.tensor_name_to_file = _EveryName()

    def get(self, name: str) -> torch.Tensor:
        """A parameter by its official name; packed experts go through the official decode.

        The official `get` knows the layers 0 … 35 only; this asks the checkpoint instead.
        """
        (canonical, *_) = official_parameter_names(name)
        if self._checkpoint.array_dtype(canonical) is None:  # packed
            return self._get_mxfp4_tensor(f"{name}.blocks", f"{name}.scales", dtype=torch.bfloat16)
        return self._get_tensor(name)

    def _get_tensor(self, name: str) -> torch.Tensor:
        stem, _, half = name.rpartition(".")
        if half in ("blocks", "scales"):
            (canonical,) = official_parameter_names(stem)
            packed = self._checkpoint.read(canonical)
            if not isinstance(packed, Mxfp4Tensor):
                raise TypeError(f"{canonical} is not packed")
            return to_torch(packed.blocks if half == "blocks" else packed.scales, self.device_str)
        rows = [to_torch(self._checkpoint.read_array(part), self.device_str) for part in official_parameter_names(name)]
        return torch.cat(rows)


class _EveryName(dict[str, str]):
    """Says that it holds every name: whether a tensor exists is the checkpoint's to know."""

    def __contains__(self, name: object) -> bool:
        return True


def official_parameter_names(name: str) -> tuple[str, ...]:
    """The canonical names of what an official parameter holds, stacked along its rows: q, k and v are one matrix."""
    match = _BLOCK_NAME.fullmatch(name)
    if match is None:
        return _MODEL_PARAMETERS[name]
    return tuple(f"model.layers.{match[1]}.{suffix}" for suffix in _LAYER_PARAMETERS[match[2]])


def _official_config(config: GptOssConfig) -> official_model.ModelConfig:
    return official_model.ModelConfig(**config.numbers())
