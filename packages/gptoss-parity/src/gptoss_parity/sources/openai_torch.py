"""The official PyTorch code as a source: `gpt_oss.torch`, its own modules and its own MXFP4 decode.

Weights come through our lazy checkpoint, so that both layouts work; what the official loader does
with the stored bytes stays its own. Only the reading of a stored tensor is replaced, by one that
finds it under its canonical name. In bfloat16 the model runs as published: matrices, biases and
sinks bf16, norm scales f32. In float32 everything is upcast after loading, which is exact.

This is the only module of the toolkit that imports torch.
"""

import dataclasses
import re
from collections.abc import Sequence

import gpt_oss.torch.model as official_model
import gpt_oss.torch.weights as official_weights
import numpy as np
import torch
from gptoss_weights import Checkpoint, GptOssConfig, Mxfp4Tensor, layer_probe

from gptoss_parity.sources.base import DTYPES, Dtype, check_tokens, metadata_of
from gptoss_parity.trace import Trace

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
class OpenAITorchSource:
    """Records what `gpt_oss.torch.model.Transformer` computes on a torch device."""

    device: str = "cpu"

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "openai-torch"

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""
        return DTYPES

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """One official forward pass over T tokens with every probe; see `Source.record`."""
        prompt = check_tokens(checkpoint, tokens)
        metadata = metadata_of(
            checkpoint,
            source=self.name,
            dtype=dtype,
            distributions=("gpt-oss", "gptoss-parity", "gptoss-weights", "torch"),
            options={"device": self.device},
        )
        model = load_official_model(checkpoint, dtype=dtype, device=self.device)
        return Trace(prompt, _forward_with_probes(model, prompt, torch.device(self.device)), metadata)


def load_official_model(checkpoint: Checkpoint, *, dtype: Dtype, device: str = "cpu") -> official_model.Transformer:
    """The official Transformer with a checkpoint's weights, one tensor in flight at a time.

    Source: openai/gpt-oss torch/model.py, `Transformer.from_checkpoint`.
    """
    model = official_model.Transformer(_official_config(checkpoint.config), device=torch.device(device))
    model.eval()
    weights = _CanonicalCheckpoint(checkpoint, torch.device(device))
    for name, parameter in model.named_parameters():
        parameter.data.copy_(weights.get(name))
    return model.float() if dtype == "float32" else model


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
        if isinstance(self._checkpoint.read(canonical), Mxfp4Tensor):
            return self._get_mxfp4_tensor(f"{name}.blocks", f"{name}.scales", dtype=torch.bfloat16)
        return self._get_tensor(name)

    def _get_tensor(self, name: str) -> torch.Tensor:
        stem, _, half = name.rpartition(".")
        if half in ("blocks", "scales"):
            (canonical,) = official_parameter_names(stem)
            packed = self._checkpoint.read(canonical)
            if not isinstance(packed, Mxfp4Tensor):
                raise TypeError(f"{canonical} is not packed")
            return _to_torch(packed.blocks if half == "blocks" else packed.scales, self.device_str)
        rows = [
            _to_torch(self._checkpoint.read_array(part), self.device_str) for part in official_parameter_names(name)
        ]
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


def _to_torch(array: np.ndarray, device: str) -> torch.Tensor:
    """A writable copy on the device; bfloat16 travels as its bits, which numpy and torch name differently."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(np.array(array)).to(device)


def _official_config(config: GptOssConfig) -> official_model.ModelConfig:
    return official_model.ModelConfig(**config.numbers())


def _forward_with_probes(
    model: official_model.Transformer, tokens: np.ndarray, device: torch.device
) -> dict[str, np.ndarray]:
    """One forward pass with a hook on each module whose output is a probe."""
    captured: dict[str, torch.Tensor] = {}

    def capture(name: str, module: torch.nn.Module) -> torch.utils.hooks.RemovableHandle:
        def keep(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
            captured[name] = output.detach().clone()

        return module.register_forward_hook(keep)

    handles = [capture("embedding", model.embedding)]
    for layer, block in enumerate(model.block):
        handles.append(capture(layer_probe(layer, "attention_residual"), block.attn))
        handles.append(capture(layer_probe(layer, "router_logits"), block.mlp.gate))
        handles.append(capture(layer_probe(layer, "output"), block))
    handles += [capture("final_norm", model.norm), capture("logits", model.unembedding)]
    try:
        with torch.inference_mode():
            model(torch.as_tensor(tokens, device=device))
            for layer, block in enumerate(model.block):
                logits = captured[layer_probe(layer, "router_logits")]
                weights, indices = _route(logits, block.mlp.experts_per_token)
                captured[layer_probe(layer, "router_weights")] = weights
                captured[layer_probe(layer, "router_indices")] = indices
    finally:
        for handle in handles:
            handle.remove()
    return {name: _to_numpy(tensor) for name, tensor in captured.items()}


def _route(logits: torch.Tensor, experts_per_token: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the official MLP does with its gate's output, which no hook can see.

    Source: openai/gpt-oss torch/model.py, `MLPBlock.forward`.
    """
    experts = torch.topk(logits, k=experts_per_token, dim=-1, sorted=True)
    return torch.nn.functional.softmax(experts.values, dim=1), experts.indices


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array
