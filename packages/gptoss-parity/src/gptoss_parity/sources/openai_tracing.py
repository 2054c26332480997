"""One forward pass of the official model with everything it computes on the way.

Module outputs come from forward hooks. What has no module of its own is seen where the official
code calls a function for it: `sdpa` is handed queries, keys and values, `swiglu` the experts'
pre-activations, `torch.topk` the router logits, and `torch.einsum` the expert outputs. For the length
of a pass these four names of `gpt_oss.torch.model` are wrapped; the wrapped functions compute what
they always do, but for `topk`, which can be made to take other experts than the largest.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gpt_oss.torch.model as official_model
import numpy as np
import torch
from gptoss_weights import layer_probe

from gptoss_parity.sources.torch_tensors import to_numpy

__all__ = ["forward_with_probes"]

MOST_GATHERED_BYTES = 1 << 30  # of expert matrices: the official code copies k of them for every token
_WEIGHTED_SUM = "bec,be->bc"  # the einsum of `MLPBlock.forward` whose first operand are expert outputs


def forward_with_probes(
    model: official_model.Transformer,
    tokens: np.ndarray,
    device: torch.device,
    *,
    forced: Sequence[np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Every probe of T tokens, block-debug ones included, by name; `forced` is one choice of experts a layer."""
    tracer = _Tracer(None if forced is None else [torch.as_tensor(layer, device=device) for layer in forced])
    with torch.inference_mode(), tracer.watching(model):
        model(torch.as_tensor(tokens, device=device))
    return {name: to_numpy(torch.cat(pieces)) for name, pieces in tracer.captured.items()}


class _Tracer:
    """Collects pieces of probes; those of a layer's MLP come in as many pieces as its tokens are run in."""

    def __init__(self, forced: Sequence[torch.Tensor] | None) -> None:
        self.captured: dict[str, list[torch.Tensor]] = {}
        self.layer = 0
        self.forced = forced

    @contextlib.contextmanager
    def watching(self, model: official_model.Transformer) -> Iterator[None]:
        """Hooks and wraps, and takes all of it back."""
        with contextlib.ExitStack() as stack:
            for hook in self._hooks(model):
                stack.callback(hook.remove)
            for block in model.block:
                stack.enter_context(_in_pieces(block.mlp))
            functions = {"sdpa": self._sdpa, "swiglu": self._swiglu, "torch": _Torch(self)}
            for name, function in functions.items():
                stack.callback(setattr, official_model, name, getattr(official_model, name))
                setattr(official_model, name, function)
            yield

    def keep(self, name: str, value: torch.Tensor, *, in_layer: bool = True) -> None:
        """One more piece of a probe."""
        full_name = layer_probe(self.layer, name) if in_layer else name
        self.captured.setdefault(full_name, []).append(value.detach().clone())

    def chosen(self, logits: torch.Tensor, k: int, **options: Any) -> Any:
        """`torch.topk` of router logits, or the experts that are forced and their logits."""
        self.keep("router_logits", logits)
        best = torch.topk(logits, k=k, **options)
        if self.forced is not None:
            start = sum(len(piece) for piece in self.captured.get(layer_probe(self.layer, "router_indices"), ()))
            indices = self.forced[self.layer][start : start + len(logits)]
            best = torch.return_types.topk((logits.gather(-1, indices), indices))
        self.keep("router_indices", best.indices)
        # As the official MLP does with what it gets here; the same function on the same numbers.
        self.keep("router_weights", torch.nn.functional.softmax(best.values, dim=1))
        return best

    def _hooks(self, model: official_model.Transformer) -> Iterator[Any]:
        def after(module: torch.nn.Module, name: str, *, in_layer: bool = True) -> Any:
            return module.register_forward_hook(lambda _m, _i, output: self.keep(name, output, in_layer=in_layer))

        def enter(layer: int) -> Callable[..., None]:
            def note(_module: torch.nn.Module, _inputs: object) -> None:
                self.layer = layer

            return note

        yield after(model.embedding, "embedding", in_layer=False)
        for layer, block in enumerate(model.block):
            yield block.register_forward_pre_hook(enter(layer))
            yield after(block.attn.norm, "attention_norm")
            yield after(block.attn.out, "attention_output")
            yield after(block.attn, "attention_residual")
            yield after(block.mlp.norm, "mlp_norm")
            yield after(block, "output")
        yield after(model.norm, "final_norm", in_layer=False)
        yield after(model.unembedding, "logits", in_layer=False)

    def _sdpa(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> torch.Tensor:
        self.keep("query", q.flatten(1, 2))  # [T, K, N/K, H]: query head n uses kv head n // (N/K)
        self.keep("key", k)
        self.keep("value", v)
        return _SDPA(q, k, v, *rest)

    def _swiglu(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        self.keep("pre_activation", x)
        activated = _SWIGLU(x, **options)
        self.keep("activated", activated)
        return activated


class _Torch:
    """The module torch, seen from the official code: `topk` and `einsum` tell the tracer what they see."""

    def __init__(self, tracer: _Tracer) -> None:
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def topk(self, logits: torch.Tensor, k: int, **options: Any) -> Any:
        return self._tracer.chosen(logits, k, **options)

    def einsum(self, equation: str, *operands: torch.Tensor) -> torch.Tensor:
        result = torch.einsum(equation, *operands)
        if equation == _WEIGHTED_SUM:
            self._tracer.keep("expert_outputs", operands[0])
            self._tracer.keep("combined_output", result)
        return result


_SDPA, _SWIGLU = official_model.sdpa, official_model.swiglu


@contextlib.contextmanager
def _in_pieces(mlp: official_model.MLPBlock) -> Iterator[None]:
    """Runs the MLP over so few tokens at a time that the expert matrices it gathers for them stay bounded."""
    token_bytes = mlp.mlp1_weight[0].nbytes * mlp.experts_per_token
    most = max(1, MOST_GATHERED_BYTES // token_bytes)
    whole = mlp.forward
    mlp.forward = lambda x: whole(x) if len(x) <= most else torch.cat([whole(piece) for piece in x.split(most)])
    try:
        yield
    finally:
        del mlp.forward  # the class's own again
