"""Hugging Face's transformers as a source, on PyTorch: `GptOssForCausalLM`.

A folder in Hugging Face's layout is loaded by `from_pretrained`, so that transformers' own reading is
under test too: MXFP4 dequantised on the CPU, or bf16 experts as they stand. Any other checkpoint, and
any view of one, is put into the same model parameter by parameter; only the reading is ours then, and
the trace says which of the two it was. Attention is the eager implementation, the one with sinks that
every device has.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers.models.gpt_oss.modeling_gpt_oss as modeling
from gptoss_weights import Checkpoint, Mxfp4Tensor, layer_probe
from gptoss_weights.stored_checkpoint import StoredCheckpoint
from transformers import GptOssConfig, GptOssForCausalLM, Mxfp4Config
from transformers.utils import logging

from gptoss_parity.sources.base import Dtype, require_dtype
from gptoss_parity.sources.torch_tensors import TorchRunner, TorchSource, Undrawn, checked_device, to_numpy, to_torch

__all__ = ["TransformersSource"]

_FOLDER_FORMATS = ("hf", "hf-bf16")
_EXPERT_MATRIX = re.compile(r".*\.mlp\.experts\.(gate_up_proj|down_proj)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformersSource(TorchSource):
    """Records what `GptOssForCausalLM` computes on a torch device."""

    @property
    def name(self) -> str:
        """What traces and reports call it."""
        return "transformers"

    def load(self, checkpoint: Checkpoint, *, dtype: Dtype = "float32") -> "_TransformersRunner":
        """The model.

        Raises:
            MissingDependencyError: this machine has no such device.
        """
        require_dtype(self, dtype)
        device = checked_device(self.device)
        folder = _folder(checkpoint)
        with _quiet():
            model = _own_reading(folder, dtype) if folder is not None else _our_reading(checkpoint, dtype)
        options = {"weights read by": "transformers" if folder is not None else "gptoss-weights"}
        return _TransformersRunner(checkpoint, dtype, self, ("transformers",), options, model.to(device).eval())


@dataclasses.dataclass(frozen=True)
class _TransformersRunner(TorchRunner):
    model: Any  # GptOssForCausalLM

    def forward(
        self, prompt: np.ndarray, forced: Sequence[np.ndarray] | None, *, block_debug: bool
    ) -> Mapping[str, np.ndarray]:
        tracer = _Tracer(self.model, forced)
        ids = torch.as_tensor(prompt, device=self.source.device)[None]
        with torch.inference_mode(), tracer.watching():
            self.model(ids, use_cache=False)
            if block_debug:
                tracer.look_into_experts()
        return {name: to_numpy(value) for name, value in tracer.captured.items()}


class _Tracer:
    """Sees a forward pass through hooks, and queries and keys where eager attention is handed them."""

    def __init__(self, model: Any, forced: Sequence[np.ndarray] | None) -> None:
        self.captured: dict[str, torch.Tensor] = {}
        self._decoder, self._head = model.model, model.lm_head
        device = next(model.parameters()).device
        self._forced = None if forced is None else [torch.as_tensor(layer, device=device) for layer in forced]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks and wraps, and takes all of it back."""
        eager = modeling.eager_attention_forward
        with contextlib.ExitStack() as stack:
            for hook in self._hooks():
                stack.callback(hook.remove)

            def attention(
                module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any, **more: Any
            ) -> Any:
                for probe, value in (("query", q), ("key", k), ("value", v)):
                    self.captured[layer_probe(module.layer_idx, probe)] = value[0].transpose(0, 1)
                return eager(module, q, k, v, *rest, **more)

            stack.callback(setattr, modeling, "eager_attention_forward", eager)
            modeling.eager_attention_forward = attention
            yield

    def look_into_experts(self) -> None:
        """The probes inside the experts, from the modules themselves.

        They add up their experts as they go. Asked for one of a token's experts at a time, with weight
        one, they return its output; what is activated they hand to `_apply_gate`.
        """
        # Not the fused implementations: only the eager one goes through `_apply_gate`.
        forward = getattr(modeling.GptOssExperts.forward, "__wrapped__", modeling.GptOssExperts.forward)
        for layer, block in enumerate(self._decoder.layers):
            x = self.captured[layer_probe(layer, "mlp_norm")]
            indices = self.captured[layer_probe(layer, "router_indices")]
            hidden, activated, outputs = [], [], []
            for place in range(indices.shape[1]):
                one = indices[:, place : place + 1]
                with _seen_gates(block.mlp.experts) as gates:
                    outputs.append(forward(block.mlp.experts, x, one, torch.ones_like(one, dtype=x.dtype)))
                # One call for each expert that anybody chose, ascending, with its tokens in their order.
                order = torch.argsort(one[:, 0], stable=True)
                back = torch.argsort(order)
                hidden.append(torch.cat([gate for gate, _ in gates])[back])
                activated.append(torch.cat([result for _, result in gates])[back])
            for probe, pieces in (("pre_activation", hidden), ("activated", activated), ("expert_outputs", outputs)):
                self.captured[layer_probe(layer, probe)] = torch.stack(pieces, dim=1)

    def _hooks(self) -> Iterator[Any]:
        yield self._keep(self._decoder.embed_tokens, "embedding")
        for layer, block in enumerate(self._decoder.layers):
            yield self._keep(block.input_layernorm, layer_probe(layer, "attention_norm"))
            yield self._keep(block.self_attn, layer_probe(layer, "attention_output"))
            yield block.post_attention_layernorm.register_forward_pre_hook(self._keep_input(layer))
            yield self._keep(block.post_attention_layernorm, layer_probe(layer, "mlp_norm"))
            yield block.mlp.router.register_forward_hook(self._keep_routing(layer))
            yield self._keep(block.mlp, layer_probe(layer, "combined_output"))
            yield self._keep(block, layer_probe(layer, "output"))
        yield self._keep(self._decoder.norm, "final_norm")
        yield self._keep(self._head, "logits")

    def _keep(self, module: torch.nn.Module, name: str) -> Any:
        def keep(_module: torch.nn.Module, _inputs: object, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            self.captured[name] = value.reshape(-1, value.shape[-1]).clone()

        return module.register_forward_hook(keep)

    def _keep_input(self, layer: int) -> Callable[..., None]:
        def keep(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self.captured[layer_probe(layer, "attention_residual")] = inputs[0][0].clone()

        return keep

    def _keep_routing(self, layer: int) -> Callable[..., Any]:
        def keep(_module: torch.nn.Module, _inputs: object, output: tuple[torch.Tensor, ...]) -> Any:
            logits, weights, indices = output
            if self._forced is not None:
                indices = self._forced[layer]
                weights = torch.nn.functional.softmax(logits.gather(-1, indices), dim=1, dtype=logits.dtype)
            for probe, value in (("logits", logits), ("weights", weights), ("indices", indices)):
                self.captured[layer_probe(layer, f"router_{probe}")] = value.clone()
            return logits, weights, indices

        return keep


@contextlib.contextmanager
def _seen_gates(experts: Any) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Every call of `_apply_gate`: what it was given and what it returned."""
    gates: list[tuple[torch.Tensor, torch.Tensor]] = []
    apply_gate = experts._apply_gate

    def seen(gate_up: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = apply_gate(gate_up)
        gates.append((gate_up.clone(), result.clone()))
        return result

    experts._apply_gate = seen
    try:
        yield gates
    finally:
        del experts._apply_gate


def _folder(checkpoint: Checkpoint) -> Path | None:
    """The folder that the checkpoint is, as it stands, in a layout of Hugging Face's; None for all else."""
    if type(checkpoint) is not StoredCheckpoint or checkpoint.format not in _FOLDER_FORMATS:
        return None
    folders = {Path(place).parent for name in checkpoint for place in checkpoint.places(name)}
    folder = folders.pop()
    return folder if not folders and (folder / "config.json").is_file() else None


def _own_reading(folder: Path, dtype: Dtype) -> Any:
    options: dict[str, Any] = {}
    config = GptOssConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None) is not None:
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    return GptOssForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager", local_files_only=True, **options
    )


def _our_reading(checkpoint: Checkpoint, dtype: Dtype) -> Any:
    """The model with the checkpoint's values, one expert in flight at a time."""
    document = checkpoint.config.to_huggingface()
    document.pop("quantization_config", None)
    document["pad_token_id"] = None  # nothing is padded, and a view of a checkpoint may have fewer tokens than its id
    config = GptOssConfig.from_dict(document)
    config._attn_implementation = "eager"
    config.dtype = getattr(torch, dtype)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with Undrawn():
            model = GptOssForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    parameters: Mapping[str, torch.Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        for name in checkpoint:
            for first, piece in checkpoint.pieces(name):
                values = piece.decode(np.float32) if isinstance(piece, Mxfp4Tensor) else piece.astype(np.float32)
                if _EXPERT_MATRIX.fullmatch(name):
                    values = values.swapaxes(-1, -2)
                parameters[name][first : first + len(values)] = to_torch(values, "cpu")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars and advice about kernels to themselves."""
    level, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shows_bars:
            logging.enable_progress_bar()
