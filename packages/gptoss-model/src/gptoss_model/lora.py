"""LoRA: low-rank updates beside the matrices of a model, which stay as they are, packed ones too.

    add_lora(model, rank=16, alpha=32, targets=("q_proj", "v_proj", "gate_up_proj", "down_proj"), seed=0)

Each target gets two factors, a [r, in] and b [out, r], experts one pair each; b starts at zero, so
that the model computes what it did before. They are `LoraParam`s: select them to train, save or
merge nothing else. On a mesh they are split as their matrix is, but not along fsdp: they are small.

Source: Hu et al., LoRA (arXiv:2106.09685); a starts as in PEFT's `reset_lora_parameters`.
"""

import math
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from gptoss_model.decoder import LayerPairs, LayerStack
from gptoss_model.layers import DecoderLayer, LoraFactors
from gptoss_model.model import GptOss
from gptoss_model.parameters import LoraParam, PackedParam, unpack_value

__all__ = ["EXPERT_TARGETS", "LINEAR_TARGETS", "add_lora"]

LINEAR_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
EXPERT_TARGETS = ("gate_up_proj", "down_proj")


def add_lora(
    model: GptOss, *, rank: int, alpha: float, targets: Collection[str], seed: int, dtype: DTypeLike = jnp.float32
) -> None:
    """Gives every layer of a model low-rank updates, in place.

    Args:
        model: Loaded or abstract, scanned or not, on a mesh or not.
        rank: Rows of a and columns of b.
        alpha: The update is alpha / rank · b · a.
        targets: Names out of `LINEAR_TARGETS` and `EXPERT_TARGETS`.
        seed: Of the values of a.
        dtype: Of the factors.

    Raises:
        ValueError: the rank is not positive, there is no target, or one is unknown or has an update already.
    """
    unknown = [target for target in targets if target not in LINEAR_TARGETS + EXPERT_TARGETS]
    if unknown or not targets:
        known = ", ".join(LINEAR_TARGETS + EXPERT_TARGETS)
        raise ValueError(f"LoRA has one or more targets out of {known}; found {', '.join(unknown) or 'none'}")
    if rank < 1:
        raise ValueError(f"the rank of LoRA is a positive number, not {rank}")
    key = jax.random.key(seed)
    for number, layer in enumerate(_layers(model)):
        for target in (*LINEAR_TARGETS, *EXPERT_TARGETS):
            key, own = jax.random.split(key)
            if target not in targets:
                continue
            holder, attribute, matrix = _place(layer, target)
            if getattr(holder, attribute) is not None:
                raise ValueError(f"{target} of layer stack or layer {number} has an update already")
            setattr(holder, attribute, _factors(model, matrix, rank, alpha / rank, own, dtype))


def _layers(model: GptOss) -> Iterator[DecoderLayer]:
    layers: Any = model.model.layers
    match layers:
        case LayerStack():
            yield layers.every
        case LayerPairs():
            yield from (layers.even, layers.odd)
        case _:
            yield from layers


def _place(layer: DecoderLayer, target: str) -> tuple[Any, str, nnx.Param[jax.Array] | PackedParam]:
    """Which module keeps the update, under what name, and the matrix."""
    if target in LINEAR_TARGETS:
        linear = getattr(layer.self_attn, target)
        return linear, "lora", linear.weight
    experts = layer.mlp.experts
    return experts, target.replace("_proj", "_lora"), getattr(experts, target)


def _factors(
    model: GptOss,
    matrix: nnx.Param[jax.Array] | PackedParam,
    rank: int,
    scale: float,
    key: jax.Array,
    dtype: DTypeLike,
) -> LoraFactors:
    *leading, out, width = unpack_value(matrix).shape
    bound = 1 / math.sqrt(width)
    a = jax.random.uniform(key, (*leading, rank, width), jnp.float32, -bound, bound).astype(dtype)
    b = jnp.zeros((*leading, out, rank), dtype)
    if model.placement is None:
        return LoraFactors(LoraParam(a), LoraParam(b), scale=scale)
    partition: tuple[Any, ...] = tuple(matrix.get_metadata("partition"))
    *stacked, of_out, of_width = (_without_fsdp(axes) for axes in partition)
    parts = PartitionSpec(*stacked, None, of_width), PartitionSpec(*stacked, of_out, None)
    placed = [LoraParam(_put(model, value, part), partition=part) for value, part in zip((a, b), parts, strict=True)]
    return LoraFactors(placed[0], placed[1], scale=scale)


def _without_fsdp(axes: Any) -> Any:
    named = (axes,) if isinstance(axes, str) else axes or ()
    kept = tuple(axis for axis in named if axis != "fsdp")
    return kept if len(kept) > 1 else kept[0] if kept else None


def _put(model: GptOss, value: jax.Array, partition: PartitionSpec) -> jax.Array:
    assert model.placement is not None
    if isinstance(value, jax.core.Tracer):
        return value
    placed: jax.Array = jax.device_put(value, NamedSharding(model.placement.mesh, partition))
    return placed
