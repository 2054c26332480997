"""Probes: the names and axes of every intermediate that an implementation can report.

A trace maps probe names to arrays for one prompt of T tokens. Models take `probes=`, a set of these
names, and return those arrays; comparing and reporting rest on nothing else.

Every source reports the core probes. The block-debug probes look inside attention and experts; they
are reported where they are asked for.
"""

import dataclasses
from collections.abc import Mapping

from gptoss_weights.config import GptOssConfig

__all__ = ["BLOCK_DEBUG_PROBES", "LAYER_PROBES", "ProbeSpec", "layer_probe", "probe_specs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """One probe: name, axes as letters (schema.py has the legend; lower-case k: chosen experts)."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    is_integer: bool = False
    layer: int | None = None


# Inside `layers.{i}.`, in the order of the forward pass.
LAYER_PROBES: Mapping[str, tuple[str, ...]] = {
    "attention_norm": ("T", "D"),
    "query": ("T", "N", "H"),  # rotated
    "key": ("T", "K", "H"),  # rotated
    "value": ("T", "K", "H"),
    "attention_output": ("T", "D"),  # behind the output projection, before the residual stream
    "attention_residual": ("T", "D"),  # the residual stream between attention and MLP
    "mlp_norm": ("T", "D"),
    "router_logits": ("T", "E"),
    "router_indices": ("T", "k"),  # best first
    "router_weights": ("T", "k"),  # softmax over the chosen
    "pre_activation": ("T", "k", "2F"),  # of each chosen expert, best first; gate in the even columns
    "activated": ("T", "k", "F"),
    "expert_outputs": ("T", "k", "D"),  # not yet weighted
    "combined_output": ("T", "D"),  # the weighted sum, before the residual stream
    "output": ("T", "D"),  # the residual stream after the layer
}
BLOCK_DEBUG_PROBES = frozenset(LAYER_PROBES) - {
    "attention_residual",
    "router_logits",
    "router_indices",
    "router_weights",
    "output",
}
_INTEGER_PROBES = {"tokens", "router_indices"}


def layer_probe(layer: int, probe: str) -> str:
    """Full name of a layer's probe.

    Raises:
        ValueError: there is no such probe.
    """
    if probe not in LAYER_PROBES:
        raise ValueError(f"no layer probe is called {probe!r}; there are {', '.join(LAYER_PROBES)}")
    return f"layers.{layer}.{probe}"


def probe_specs(config: GptOssConfig, tokens: int, *, block_debug: bool = False) -> dict[str, ProbeSpec]:
    """The probes by name for a prompt of `tokens` tokens, in the order of the forward pass.

    Args:
        config: The geometry.
        tokens: T.
        block_debug: The block-debug probes too, and not the core probes alone.
    """
    sizes = {
        "T": tokens,
        "D": config.hidden_size,
        "N": config.num_attention_heads,
        "K": config.num_key_value_heads,
        "H": config.head_dim,
        "E": config.num_experts,
        "F": config.intermediate_size,
        "2F": 2 * config.intermediate_size,
        "k": config.experts_per_token,
        "V": config.vocab_size,
    }

    def spec(name: str, axes: tuple[str, ...], layer: int | None = None) -> ProbeSpec:
        return ProbeSpec(
            name=name,
            axes=axes,
            shape=tuple(sizes[axis] for axis in axes),
            is_integer=name.rpartition(".")[2] in _INTEGER_PROBES,
            layer=layer,
        )

    specs = [spec("tokens", ("T",)), spec("embedding", ("T", "D"))]
    for layer in range(config.num_hidden_layers):
        specs += [
            spec(layer_probe(layer, probe), axes, layer)
            for probe, axes in LAYER_PROBES.items()
            if block_debug or probe not in BLOCK_DEBUG_PROBES
        ]
    specs += [spec("final_norm", ("T", "D")), spec("logits", ("T", "V"))]
    return {s.name: s for s in specs}
